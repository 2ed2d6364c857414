//! Quarantines, locks, history and differences.

use super::{count, duration, time};
use crate::terminal::{Terminal, clean, table};
use windlass_app::history::{Applied, Changed};
use windlass_app::locks::{Liveness, LockView};
use windlass_app::recover::Snapshot;
use windlass_model::Micros;
use windlass_model::effect::Action;
use windlass_model::id::InstanceId;
use windlass_model::journal::{Entry, Quarantine, import_block};
use windlass_model::run::{RunRecord, StepState};

pub fn quarantines(terminal: Terminal, list: &[Quarantine]) -> String {
    if list.is_empty() {
        return "Nothing is quarantined.\n".into();
    }
    let rows = list.iter().map(|q| vec![q.instance.to_string(), time(q.since), q.run.to_string(), q.reason.clone()]);
    table(terminal, &["instance", "since", "run", "why"], rows.collect())
}

pub fn recovery(
    terminal: Terminal,
    instance: &InstanceId,
    quarantine: Option<&Quarantine>,
    snapshots: &[Snapshot],
) -> String {
    let mut out = String::new();
    match quarantine {
        None => out.push_str(&format!("{} is not quarantined.\n", terminal.bold(instance.as_str()))),
        Some(quarantine) => {
            let head = format!("{} has been quarantined since {}", instance.as_str(), time(quarantine.since));
            out.push_str(&format!("{}\n{}\n", terminal.bold(&head), clean(&quarantine.reason)));
            steps(terminal, quarantine, &mut out);
        }
    }
    let kept: Vec<&Snapshot> = snapshots.iter().filter(|snapshot| snapshot.note.is_none()).collect();
    if let Some(latest) = kept.last() {
        out.push_str(&format!(
            "\n{} from before an apply are kept; the last is of {}:\n  windlass recover {instance} --snapshot latest > before.tfstate\n",
            count(kept.len(), "state"),
            latest.run
        ));
    }
    out
}

/// What to do, in order.
fn steps(terminal: Terminal, quarantine: &Quarantine, out: &mut String) {
    let instance = &quarantine.instance;
    let mut number = 0;
    let mut step = |text: &str| {
        number += 1;
        format!("\n{} {text}\n", terminal.bold(&format!("{number}.")))
    };
    if quarantine.errored_state.is_some() {
        out.push_str(&step("terraform could not write its state; the file it left knows what was made. Push it:"));
        out.push_str(&format!("     windlass recover {instance} --push\n"));
    }
    if let Some(lock) = &quarantine.lock {
        out.push_str(&step(&format!(
            "The state is locked by {} since {} ({}). If it is this apply and nobody else, break the lock:",
            clean(&lock.who),
            clean(&lock.created),
            clean(&lock.operation)
        )));
        out.push_str(&format!("     windlass recover {instance} --force-unlock {}\n", clean(&lock.id)));
    }
    let list = |entries: &[Entry], out: &mut String| {
        for entry in entries {
            let id = entry.id_value.as_deref().map(|id| format!("  (id {})", clean(id))).unwrap_or_default();
            out.push_str(&format!("     {} {}{id}\n", entry.action, clean(&entry.address)));
        }
    };
    let blocks = |entries: &[Entry], out: &mut String| {
        for entry in entries.iter().filter(|e| e.action == "create") {
            out.push('\n');
            import_block(entry).lines().for_each(|line| out.push_str(&format!("     {line}\n")));
        }
    };
    if !quarantine.aftermath.in_flight.is_empty() {
        out.push_str(&step("These were under way, and no end was seen. Look at the provider whether they happened:"));
        list(&quarantine.aftermath.in_flight, out);
        if quarantine.aftermath.in_flight.iter().any(|e| e.action == "create") {
            out.push_str(
                "   For what exists and is not in the state, put this beside its configuration, commit and review:\n",
            );
            blocks(&quarantine.aftermath.in_flight, out);
        }
    }
    if !quarantine.aftermath.lost.is_empty() {
        out.push_str(&step(
            "These were created and are in no state. Put this beside their configuration, commit and review:",
        ));
        blocks(&quarantine.aftermath.lost, out);
    }
    out.push_str(&step("When it is settled, lift the quarantine and say why:"));
    out.push_str(&format!("     windlass recover {instance} --release --why '…'\n"));
    out.push_str(&format!("   The log of the apply: windlass logs {}/{}\n", quarantine.run, quarantine.step));
}

pub fn released(quarantine: &Quarantine, run: &RunRecord) -> String {
    let next = if run.state.is_final() {
        "windlass review shows what is left to do".to_owned()
    } else {
        format!(
            "windlass resume {} --settle {}=repeat plans what is left and applies it, if it is part of what was approved; =failed gives it up",
            quarantine.run, quarantine.step
        )
    };
    format!("{} is not quarantined any more.\nNext: {next}\n", quarantine.instance)
}

pub fn locks(terminal: Terminal, list: &[LockView], now: Micros) -> String {
    if list.is_empty() {
        return "Nobody holds or waits for a lock.\n".into();
    }
    let rows = list.iter().map(|lock| {
        let state = if lock.held { "held" } else { "waits" };
        let liveness = match lock.liveness {
            Liveness::Alive => "process lives",
            Liveness::Dead => "process is dead",
            Liveness::Elsewhere => "on another machine",
            Liveness::Silent => "on another machine, silent",
            Liveness::Waiting => "",
        };
        vec![
            lock.name.clone(),
            state.to_owned(),
            clean(&lock.owner),
            lock.purpose.clone(),
            duration(now - lock.since),
            liveness.to_owned(),
            lock.run.to_string(),
        ]
    });
    table(terminal, &["lock", "", "owner", "purpose", "for", "liveness", "run"], rows.collect())
}

pub fn history(terminal: Terminal, name: &str, list: &[Applied]) -> String {
    if list.is_empty() {
        return format!("Nothing was applied to {name} yet.\n");
    }
    let rows = list.iter().map(|applied| {
        let outcome = match applied.outcome {
            StepState::Succeeded => terminal.green("applied"),
            StepState::Failed => terminal.red("failed"),
            StepState::Unknown => terminal.yellow("unknown"),
            StepState::Cancelled => terminal.yellow("cancelled"),
            _ => "under way".to_owned(),
        };
        vec![
            time(applied.started_at),
            applied.instance.to_string(),
            outcome,
            applied.effect.summary().to_string(),
            applied.head.commit.get(..12).unwrap_or(&applied.head.commit).to_owned(),
            applied.ended_at.map(|end| duration(end - applied.started_at)).unwrap_or_default(),
            if applied.approvals.is_empty() { clean(&applied.actor) } else { clean(&applied.approvals.join(", ")) },
            applied.run.to_string(),
        ]
    });
    table(terminal, &["when", "instance", "", "effect", "commit", "took", "by", "run"], rows.collect())
}

pub fn diff(terminal: Terminal, list: &[Changed]) -> String {
    if list.is_empty() {
        return "The two have the same effect.\n".into();
    }
    let action = |action: Option<Action>| {
        action.map_or_else(
            || "-".to_owned(),
            |a| {
                serde_json::to_value(a)
                    .map_or_else(|_| String::new(), |v| v.as_str().unwrap_or_default().replace('_', " "))
            },
        )
    };
    let rows = list.iter().map(|changed| {
        vec![
            changed.instance.to_string(),
            clean(&changed.address),
            action(changed.before),
            action(changed.after),
            clean(&changed.attributes.join(", ")),
        ]
    });
    table(terminal, &["instance", "resource", "before", "after", "attributes that differ"], rows.collect())
}
