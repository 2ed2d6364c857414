//! Adopted resources, and what no state has.

use super::review::render_effect;
use super::{count, diagnostic, short};
use crate::terminal::{Terminal, clean, table};
use windlass_app::adopt::{Adoption, Unmanaged};

pub fn adoption(terminal: Terminal, adoption: &Adoption) -> String {
    let what = count(adoption.resources.len(), "resource");
    let branch = terminal.bold(&clean(&adoption.branch));
    let mut out = format!("{what} for {}, on the branch {branch} ({}):\n", adoption.instance, short(&adoption.commit));
    for resource in &adoption.resources {
        let how = if resource.configured { "" } else { ", configuration generated" };
        let (address, id) = (clean(&resource.address), clean(&resource.id));
        out.push_str(&format!("  {} {address} (id {id}{how})\n", terminal.cyan("↓")));
    }
    for file in &adoption.files {
        out.push_str(&format!("  {}\n", terminal.dim(&format!("in {}", clean(file)))));
    }
    if !adoption.left_out.is_empty() {
        let names = adoption.left_out.iter().map(|name| clean(name)).collect::<Vec<_>>().join(", ");
        out.push_str(&format!("terraform generated what it does not accept; it was left out: {names}\n"));
    }
    for unread in &adoption.unread {
        let warning = format!("The state of {} could not be read: the ids may be managed there.", unread.instance);
        out.push_str(&format!("{}\n", terminal.yellow(&warning)));
    }
    out.push('\n');
    if adoption.clean {
        out.push_str(&format!("{}\n", terminal.green("Applying it takes them into the state and changes nothing.")));
        out.push_str(&format!(
            "Next: git switch {}, read the generated configuration, then windlass review\n",
            clean(&adoption.branch)
        ));
        return out;
    }
    if let Some(effect) = &adoption.effect {
        out.push_str(&format!("{}\n", terminal.red_bold("Not clean: applying it would do more than take them in.")));
        out.push_str(&render_effect(terminal, effect));
    } else {
        out.push_str(&format!("{}\n", terminal.red_bold("Not clean: it cannot be planned yet.")));
    }
    out.push_str(&diagnostic::render_all(terminal, &adoption.diagnostics));
    out.push_str(&format!(
        "Next: git switch {}, mend the configuration, commit, then windlass review\n",
        clean(&adoption.branch)
    ));
    out
}

pub fn unmanaged(terminal: Terminal, answer: &Unmanaged) -> String {
    let (listed, states) = (count(answer.listed, "resource"), count(answer.states - answer.unread.len(), "state"));
    if answer.unmanaged.is_empty() {
        return format!("{listed} listed; {states} have all of them.\n");
    }
    let rows = answer
        .unmanaged
        .iter()
        .map(|entry| vec![clean(&entry.kind), clean(&entry.id), entry.name.as_deref().map(clean).unwrap_or_default()]);
    let mut out = table(terminal, &["type", "id", "name"], rows.collect());
    out.push_str(&format!("{} of {listed} listed are in none of {states}.\n", answer.unmanaged.len()));
    out.push_str("Next: give them to a stack: windlass adopt STACK --listing FILE\n");
    out
}
