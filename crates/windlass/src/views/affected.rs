//! Which instances a change affects, and why.

use crate::terminal::{Terminal, clean};
use windlass_model::review::{Affected, AffectedKind, Reason};

pub fn render(terminal: Terminal, base: &str, affected: &[Affected]) -> String {
    if affected.is_empty() {
        return format!("Nothing differs from {base} that a stack reads.\n");
    }
    let mut out = format!("{} affected against {base}\n\n", super::count(affected.len(), "instance"));
    for item in affected {
        out.push_str(&format!("{} {}\n", terminal.bold(item.instance.as_str()), terminal.dim(&kind(&item.kind))));
        out.push_str(&reasons(terminal, &item.reasons, 4));
    }
    out
}

pub fn kind(kind: &AffectedKind) -> String {
    match kind {
        AffectedKind::Changed => "changed".into(),
        AffectedKind::New => "new".into(),
        AffectedKind::Deleted => "deleted".into(),
        AffectedKind::Renamed { from } => format!("renamed from {from}"),
        AffectedKind::Dependant => "dependant".into(),
    }
}

/// At most `most` reasons, one a line, then how many were left out.
pub fn reasons(terminal: Terminal, reasons: &[Reason], most: usize) -> String {
    let mut out = String::new();
    for reason in reasons.iter().take(most) {
        out.push_str(&format!("  {} {}", terminal.dim(&reason.change), clean(&reason.cause)));
        for link in reason.chain.iter().rev() {
            out.push_str(&format!(" {} {}", terminal.dim("←"), clean(link)));
        }
        out.push('\n');
    }
    if reasons.len() > most {
        out.push_str(&format!(
            "  {}\n",
            terminal.dim(&format!("and {} more; see them with --json", reasons.len() - most))
        ));
    }
    out
}
