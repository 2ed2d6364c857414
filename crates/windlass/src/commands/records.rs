//! `recover`, `locks`, `unlock`, `history`, `diff`: what was recorded, and what it left.

use crate::arguments::Command;
use crate::{Answer, Context, print, print_json, views};
use std::io::Write;
use windlass_app::error::{AppError, AppResult, ErrorKind, internal};
use windlass_app::service::Service;
use windlass_app::{history, locks, recover, runs};
use windlass_model::diagnostic::Diagnostic;
use windlass_model::id::InstanceId;

pub async fn run(cx: &Context, service: &Service, command: Command) -> Answer {
    match command {
        Command::Recover { stack: None, .. } => {
            let list = recover::quarantine_list(service).await?;
            if cx.json {
                print_json(&list);
            } else {
                print(&views::records::quarantines(cx.out, &list));
            }
            Ok(list.is_empty())
        }
        Command::Recover { stack: Some(name), push, force_unlock, release, why, snapshot } => {
            let instance = instance(service, &name).await?;
            if let Some(id) = force_unlock {
                recover::force_unlock(service, &instance, &id).await?;
                print(&format!("The lock is broken.\nNext: windlass recover {instance}\n"));
                return Ok(true);
            }
            match (snapshot, push, release) {
                (Some(run), ..) => print_snapshot(service, &instance, &run).await,
                (None, true, _) => {
                    recover::push(service, &instance).await?;
                    print(&format!("Pushed.\nNext: windlass recover {instance}\n"));
                    Ok(true)
                }
                (None, false, true) => {
                    let lifted = recover::release(service, &instance, why.as_deref().unwrap_or_default()).await?;
                    print(&views::records::released(&lifted, &service.store.run_get(&lifted.run).await?));
                    Ok(true)
                }
                (None, false, false) => show_recovery(cx, service, &instance).await,
            }
        }
        Command::Locks => {
            let list = locks::lock_list(service).await?;
            if cx.json {
                print_json(&list);
            } else {
                print(&views::records::locks(cx.out, &list, service.store.now().await?));
            }
            Ok(true)
        }
        Command::Unlock { instance, why } => {
            let lock = locks::unlock(service, &instance, &why).await?;
            if cx.json {
                print_json(&lock);
            } else {
                print(&format!(
                    "{} was taken away from run {} ({}).\nNext: windlass resume {} settles what became of it.\n",
                    lock.name, lock.run, lock.step, lock.run
                ));
            }
            Ok(true)
        }
        Command::History { stack, limit } => {
            let list = history::history(service, &stack, limit as usize).await?;
            if cx.json {
                print_json(&list);
            } else {
                print(&views::records::history(cx.out, &stack, &list));
            }
            Ok(true)
        }
        Command::Diff { before, after } => {
            let (before, after) = (runs::run_find(service, &before).await?, runs::run_find(service, &after).await?);
            if before.plan.kind == windlass_model::operation::plan::KIND {
                return super::operations::compare(cx, service, &before, &after).await;
            }
            let list = history::diff(service, &before, &after).await?;
            if cx.json {
                print_json(&list);
            } else {
                print(&views::records::diff(cx.out, &list));
            }
            Ok(list.is_empty())
        }
        _ => Err(internal("a command without an implementation")),
    }
}

async fn show_recovery(cx: &Context, service: &Service, instance: &InstanceId) -> Answer {
    let quarantine = recover::quarantine_get(service, instance).await?;
    let snapshots = recover::snapshots(service, instance).await?;
    if cx.json {
        print_json(&serde_json::json!({ "instance": instance, "quarantine": quarantine, "snapshots": snapshots }));
    } else {
        print(&views::records::recovery(cx.out, instance, quarantine.as_ref(), &snapshots));
    }
    Ok(quarantine.is_none())
}

async fn print_snapshot(service: &Service, instance: &InstanceId, run: &str) -> Answer {
    let kept = recover::snapshots(service, instance).await?;
    let found = match run {
        "latest" => kept.last(),
        run => kept.iter().find(|s| s.run.as_str().starts_with(run)),
    };
    let Some(found) = found else {
        let diagnostic = Diagnostic::error("WL655", format!("no state of {instance} from before {run} is kept"))
            .help(format!("`windlass recover {instance}` lists what is kept"));
        return Err(AppError::new(ErrorKind::NotFound, diagnostic));
    };
    let content = recover::snapshot_read(service, instance, found).await?;
    // A reader that went away is no failure.
    let _ = std::io::stdout().write_all(&content);
    Ok(true)
}

/// The instance that is meant: one that is quarantined, or one of this repository.
async fn instance(service: &Service, name: &str) -> AppResult<InstanceId> {
    let name = name.trim_start_matches("./").trim_end_matches('/');
    let quarantined = recover::quarantine_list(service).await?;
    let matching: Vec<&InstanceId> = quarantined
        .iter()
        .map(|q| &q.instance)
        .filter(|id| id.as_str() == name || id.stack().as_str() == name)
        .collect();
    if let [only] = matching.as_slice() {
        return Ok((*only).clone());
    }
    let project = service.checkout.project()?;
    let id = InstanceId::new(name);
    if project.repository.instance(&id).is_some() {
        return Ok(id);
    }
    let stack = project.stack(name)?;
    match stack.instances.as_slice() {
        [only] => Ok(only.id.clone()),
        several => {
            let names = several.iter().map(|i| i.id.as_str()).collect::<Vec<_>>().join(", ");
            let diagnostic = Diagnostic::error("WL903", format!("{name} has several instances: {names}"));
            Err(AppError::new(ErrorKind::Usage, diagnostic.help("name one of them")))
        }
    }
}
