//! What other policies would have decided, what may be waived, and what was.

use super::{count, time};
use crate::terminal::{Terminal, clean, table};
use windlass_app::replay::{Change, Replay};
use windlass_app::waivers::{Candidate, Count, WaiverList};
use windlass_model::id::RunId;
use windlass_model::review::{Review, Verdict};
use windlass_model::waiver::Waiver;

pub fn replay(terminal: Terminal, replay: &Replay) -> String {
    let mut out = String::new();
    for review in &replay.differing {
        out.push_str(&format!("{} {}\n", terminal.bold(review.review.as_str()), terminal.dim(&clean(&review.head))));
        for difference in &review.differences {
            let word = difference.outcome.as_str();
            let word = match difference.outcome {
                Change::NewlyBroken | Change::NewlyDenied => terminal.red_bold(word),
                Change::AsksForMore | Change::NewlyWarned => terminal.yellow(word),
                _ => terminal.green(word),
            };
            let place = difference.instance.as_ref().map_or_else(|| "the change".to_owned(), |i| clean(i.as_str()));
            out.push_str(&format!(
                "  {word} {place}: {} {}\n",
                clean(&difference.message),
                terminal.dim(&clean(&difference.source))
            ));
        }
    }
    let mut summary = replay.summary();
    if let Some(first) = summary.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    out.push_str(&format!("{summary}.\n"));
    out
}

pub fn candidates(terminal: Terminal, review: &RunId, list: &[Candidate]) -> String {
    if list.is_empty() {
        return format!("Nothing denies review {review}.\n");
    }
    let mut out = String::new();
    for candidate in list {
        let place = candidate.instance.as_ref().map_or_else(|| "the change".to_owned(), |i| clean(i.as_str()));
        let finding = &candidate.finding;
        out.push_str(&format!("{} {place}: {}\n", terminal.bold(&candidate.id), clean(&finding.message)));
        let parts =
            [Some(clean(&finding.source)), finding.rule.as_deref().map(clean), finding.address.as_deref().map(clean)];
        out.push_str(&format!("  {}\n", terminal.dim(&parts.into_iter().flatten().collect::<Vec<_>>().join(", "))));
        let may = match &candidate.why_not {
            None => terminal.green("you may waive it"),
            Some(why) => terminal.yellow(&format!("you may not waive it: {}", clean(why))),
        };
        out.push_str(&format!("  {may}\n"));
    }
    if list.iter().any(|candidate| candidate.why_not.is_none()) {
        out.push_str(&format!("Next: windlass waive ID --review {review} --reason TEXT --expires 7d\n"));
    }
    out
}

pub fn waived(terminal: Terminal, waiver: &Waiver, review: &Review) -> String {
    let mut out = format!(
        "Waived until {} by {}: {}\n",
        time(waiver.until),
        clean(&waiver.actor.to_string()),
        clean(&waiver.message)
    );
    let id = &review.run;
    out.push_str(&match review.verdict {
        Verdict::Ready => format!("{}\nNext: windlass apply {id}\n", terminal.green("Ready to apply.")),
        Verdict::NeedsApproval => format!("{}\nNext: windlass approve {id}\n", terminal.yellow("Needs approval.")),
        Verdict::Nothing => "Nothing to apply.\n".to_owned(),
        Verdict::Denied | Verdict::Failed => {
            format!("{}\nNext: windlass review --show {id}\n", terminal.red_bold("Still denied."))
        }
    });
    out
}

pub fn waivers(terminal: Terminal, list: &WaiverList) -> String {
    if list.waivers.is_empty() {
        return "Nothing was ever waived.\n".to_owned();
    }
    let mut out = String::new();
    for listed in &list.waivers {
        let waiver = &listed.waiver;
        let until = if listed.expired {
            terminal.dim(&format!("expired {}", time(waiver.until)))
        } else {
            terminal.yellow(&format!("until {}", time(waiver.until)))
        };
        let place = waiver.instance.as_ref().map_or_else(|| "the change".to_owned(), |i| clean(i.as_str()));
        out.push_str(&format!("{} {until} {place}: {}\n", terminal.bold(&listed.id), clean(&waiver.message)));
        out.push_str(&format!(
            "  {}\n",
            terminal.dim(&format!(
                "by {} on review {}: {}",
                clean(&waiver.actor.to_string()),
                waiver.review,
                clean(&waiver.reason)
            ))
        ));
    }
    out.push('\n');
    let rows = |counts: &std::collections::BTreeMap<String, Count>| -> Vec<Vec<String>> {
        let row = |(name, count): (&String, &Count)| {
            vec![clean(name), count.given.to_string(), count.expired.to_string(), count.reviews.to_string()]
        };
        counts.iter().map(row).collect()
    };
    out.push_str(&table(terminal, &["rule", "given", "expired", "reviews"], rows(&list.per_rule)));
    out.push('\n');
    out.push_str(&table(terminal, &["person", "given", "expired", "reviews"], rows(&list.per_person)));
    let holding = list.waivers.iter().filter(|listed| !listed.expired).count();
    out.push_str(&format!("\n{} of {} still hold.\n", holding, count(list.waivers.len(), "waiver")));
    out
}
