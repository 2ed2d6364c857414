//! `review`, `approve`, `apply`, `runs`, `logs`, `cancel`, `resume`: everything that has a record.

use super::operations;
use super::schedules::{self, Schedules};
use crate::arguments::Command;
use crate::views::progress::{View as Progress, Watch, is_over};
use crate::views::review::View;
use crate::{Answer, Context, print, print_json, views};
use std::io::{BufRead, IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use windlass_app::error::{AppResult, internal};
use windlass_app::operations::Arguments;
use windlass_app::plans::GivenPlan;
use windlass_app::review::Selection;
use windlass_app::service::Service;
use windlass_app::{apply, plans, review, runs};
use windlass_model::id::{RunId, StepId};
use windlass_model::operation::plan::Origin;
use windlass_model::review::document::Document;
use windlass_model::review::{Review, Verdict};
use windlass_model::run::{RunRecord, RunState, StepState};

pub fn dispatch(cx: &Context, command: Command) -> Answer {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(crate::STACK)
        .build()
        .map_err(internal)?;
    let result = runtime.block_on(async {
        let service = Arc::new(Service::open(&cx.directory, Some(crate::policy_worker())).await?);
        let answer = run(cx, &service, command).await;
        service.store.close().await;
        answer
    });
    // A policy that does not end must not keep the program from ending.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

async fn run(cx: &Context, service: &Arc<Service>, command: Command) -> Answer {
    match command {
        Command::Review { show: Some(name), view, .. } => {
            let view = View::of(cx, &view)?;
            let id = runs::review_find(service, Some(&name)).await?;
            show_review(cx, service, &id, &view).await
        }
        Command::Review { plan, view, .. } if !plan.is_empty() => {
            let view = View::of(cx, &view)?;
            let given = plan.iter().map(|text| GivenPlan::parse(service, text)).collect::<Result<Vec<_>, _>>()?;
            let (review, document) = plans::plans_review(service, &given)?;
            if cx.json && view.is_plain() {
                print_json(&serde_json::json!({ "review": review }));
            } else {
                view.show(cx, &document)?;
            }
            Ok(is_positive(&review))
        }
        Command::Review { base, all, stack, report, view, .. } => {
            // A template or report that is not there is told before minutes of planning.
            let view = View::of(cx, &view)?;
            let mut handed = Vec::new();
            for path in &report {
                handed.extend(review::report_read(service, path)?);
            }
            let selection = match (all, stack.is_empty()) {
                (true, _) => Selection::All,
                (false, false) => Selection::Matching(stack),
                (false, true) => Selection::Affected { base: base.base },
            };
            make_review(cx, service, &selection, handed, &view).await
        }
        Command::Approve { id, reason } => approve(cx, service, id.as_deref(), reason.as_deref()).await,
        Command::Apply { review, yes, confirm } => apply_review(cx, service, review.as_deref(), yes, confirm).await,
        Command::Drift { stack, last, schedule_ready } => {
            let run = if last { None } else { Some(windlass_app::drift::drift_create(service, &stack).await?) };
            drift(cx, service, run, schedule_ready).await
        }
        Command::Rollback { run } => {
            let run = runs::run_find(service, &run).await?.id;
            make_review(cx, service, &Selection::Rollback(run), Vec::new(), &View::plain()).await
        }
        Command::Destroy { stack } => {
            make_review(cx, service, &Selection::Destroy(stack), Vec::new(), &View::plain()).await
        }
        Command::Runs { run: Some(name), follow: true, .. } => watch(cx, service, &name).await,
        Command::Runs { run: Some(name), .. } => show_run(cx, service, &runs::run_find(service, &name).await?).await,
        Command::Operations(options) => operations::list(cx, service, &options).await,
        Command::Schedule(command @ (Schedules::List { .. } | Schedules::Next { .. })) => {
            schedules::show(cx, schedules::of_checkout(service).await?, &command)
        }
        // A server keeps them.
        Command::Schedule(_) | Command::Run(operations::Run { at: Some(_), .. }) => Err(crate::remote::none()),
        Command::Run(options) => {
            let origin = Origin::Person { through: "cli".to_owned() };
            let detach = options.how.detach;
            let run = operations::start(cx, service, &options.name, options.how, Arguments::new(), origin).await?;
            begun(cx, service, run, detach).await
        }
        Command::Repeat(options) => {
            let record = runs::run_find(service, &options.run).await?;
            let input = windlass_app::requests::operations::input(&record)?;
            if !operations::asks(cx) {
                let given = |name: &str| options.how.arguments.iter().any(|word| word.split('=').next() == Some(name));
                windlass_app::operations::again::asks_secrets_again(&input, given)?;
            }
            let (origin, detach) = (Origin::Repeated { run: record.id }, options.how.detach);
            let name = input.operation.name;
            let run = operations::start(cx, service, &name, options.how, input.arguments, origin).await?;
            begun(cx, service, run, detach).await
        }
        Command::Answer(options) => operations::answer(cx, service, &options).await,
        Command::Runs { run: None, limit, operation, .. } => {
            let list = runs::run_list(service, operation, limit).await?;
            if cx.json {
                print_json(&list.iter().map(summary).collect::<Vec<_>>());
            } else {
                print(&views::runs::render_list(cx.out, &list));
            }
            Ok(true)
        }
        Command::Logs { target, follow } => logs(cx, service, &target, follow).await,
        Command::Artefacts(options) => super::artefacts::run(cx, service, &options).await,
        Command::Cancel { run, reason, kill } => {
            let record = runs::run_find(service, &run).await?;
            let (store, actor) = (&service.store, service.actor.to_string());
            let asked = match kill {
                true => store.run_kill(&record.id, &actor, reason.as_deref()).await?,
                false => store.run_cancel(&record.id, &actor, reason.as_deref()).await?,
            };
            if cx.json {
                print_json(&serde_json::json!({ "run": record.id, "cancel_requested": asked }));
            } else if asked {
                print(&format!(
                    "Run {} was asked to stop. `windlass runs {}` shows how it ends; if no process drives it, `windlass resume` ends it.\n",
                    record.id, record.id
                ));
            } else {
                print(&format!("Run {} had ended already: it is {}.\n", record.id, record.state.as_str()));
            }
            Ok(asked)
        }
        Command::Halt { run, why } => {
            let record = runs::run_find(service, &run).await?;
            runs::run_halt(&service.store, &service.actor, &record, &why).await?;
            halted(cx, &record.id);
            Ok(true)
        }
        Command::Resume { run, settle, how } => {
            let record = match run {
                Some(name) => runs::run_find(service, &name).await?,
                None => runs::run_unfinished(service).await?,
            };
            if operations::is_ended(&record) {
                let detach = how.detach;
                let run = operations::resume(service, &record, &how).await?;
                return begun(cx, service, Some(run), detach).await;
            }
            runs::run_resume(service, &record.id, &settle, None).await?;
            if !cx.json {
                eprintln!("Resuming {} {}: {}", record.plan.kind, record.id, record.plan.title);
            }
            let ended = drive(cx, service, &record.id).await?;
            if ended.plan.kind == "review" && ended.state == RunState::Succeeded {
                return show_review(cx, service, &ended.id, &View::plain()).await;
            }
            conclude(cx, service, &ended).await
        }
        Command::Policy(_) | Command::Waive { .. } | Command::Waivers => {
            super::policy_decisions::run(cx, service, command).await
        }
        Command::Adopt { .. } => super::adopt::run(cx, service, command).await,
        Command::Recover { .. }
        | Command::Locks
        | Command::Unlock { .. }
        | Command::History { .. }
        | Command::Diff { .. } => super::records::run(cx, service, command).await,
        // The others are answered without a record.
        _ => Err(internal("a command without an implementation")),
    }
}

/// Drives a run of an operation to its end.
async fn begun(cx: &Context, service: &Arc<Service>, run: Option<RunId>, detach: bool) -> Answer {
    let Some(run) = run else {
        print("Nothing was run.\n");
        return Ok(false);
    };
    if detach {
        if cx.json {
            print_json(&serde_json::json!({ "run": run }));
        } else {
            print(&format!("Run {run} waits: `windlass resume {run}` drives it.\n"));
        }
        return Ok(true);
    }
    if !cx.json {
        eprintln!("Running as {run}");
    }
    let record = drive(cx, service, &run).await?;
    conclude(cx, service, &record).await
}

/// Says that nothing new begins in a run.
pub fn halted(cx: &Context, run: &RunId) {
    if cx.json {
        print_json(&serde_json::json!({ "run": run, "halted": true }));
    } else {
        print(&format!(
            "Nothing new begins in run {run}; what is under way goes on. `windlass resume {run}` lets it go on.\n"
        ));
    }
}

pub fn summary(run: &RunRecord) -> serde_json::Value {
    serde_json::json!({
        "run": run.id, "kind": run.plan.kind, "title": run.plan.title, "state": run.state, "actor": run.actor,
        "created_at": run.created_at, "ended_at": run.ended_at, "reason": run.reason, "cancel_requested": run.cancel_requested,
    })
}

/// Drives a run with progress on standard error.
pub(super) async fn drive(cx: &Context, service: &Arc<Service>, id: &RunId) -> AppResult<RunRecord> {
    let steps = runs::run_steps(service, id).await?;
    let done = steps.iter().filter(|s| s.state.is_final()).count();
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let mut view = Progress::new(cx.err, steps.len(), done);
    let quiet = cx.json;
    let watch = async {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                progress = receiver.recv() => match progress {
                    Some(progress) if !quiet => {
                        view.update(&progress);
                        if let Some(how) = answer(service, id, &progress).await {
                            view.tell(&how);
                        }
                    }
                    Some(_) => {}
                    None => break,
                },
                _ = tick.tick() => if !quiet { view.tick() },
            }
        }
        view.clear();
    };
    let (record, ()) = tokio::join!(runs::run_drive(service, id, sender), watch);
    record
}

/// How what a step now waits with is answered.
async fn answer(service: &Service, id: &RunId, progress: &windlass_app::Progress) -> Option<String> {
    let windlass_app::Progress::Step { id: step, state: StepState::Waiting, .. } = progress else { return None };
    let record = service.store.run_get(id).await.ok()?;
    let steps = runs::run_steps(service, id).await.ok()?;
    let how = views::runs::answer(&record, steps.iter().find(|found| found.id == *step)?)?;
    Some(format!("in another terminal: {how}"))
}

async fn make_review(
    cx: &Context,
    service: &Arc<Service>,
    selection: &Selection,
    handed: Vec<windlass_model::review::Finding>,
    view: &View,
) -> Answer {
    let Some(id) = review::review_create(service, selection, handed, review::Around::default()).await? else {
        if !view.is_plain() {
            view.show(cx, &review::document_of_nothing(service)?)?;
        } else if cx.json {
            print_json(&serde_json::json!({ "review": null, "affected": [] }));
        } else {
            print("Nothing to review: no stack is affected. `windlass review --all` reviews every stack.\n");
        }
        return Ok(true);
    };
    let record = drive(cx, service, &id).await?;
    if record.state != RunState::Succeeded {
        return conclude(cx, service, &record).await;
    }
    show_review(cx, service, &id, view).await
}

/// Drives a look for drift (or shows the last) and says what was found.
async fn drift(cx: &Context, service: &Arc<Service>, run: Option<RunId>, silent: bool) -> Answer {
    let mut failed = Vec::new();
    let mut only = None;
    if let Some(run) = run {
        let quiet = Context { directory: cx.directory.clone(), json: cx.json || silent, out: cx.out, err: cx.err };
        let record = drive(&quiet, service, &run).await?;
        let steps = runs::run_steps(service, &record.id).await?;
        let name = |step: &windlass_model::run::StepRecord| step.id.as_str().trim_start_matches("drift:").to_owned();
        only = Some(steps.iter().map(name).collect::<std::collections::BTreeSet<_>>());
        failed.extend(
            steps
                .iter()
                .filter(|s| s.state != StepState::Succeeded)
                .map(|step| (name(step), step.reason.clone().unwrap_or_else(|| step.state.as_str().to_owned()))),
        );
    }
    let mut records = windlass_app::drift::records(service).await?;
    records.retain(|record| only.as_ref().is_none_or(|only| only.contains(record.instance.as_str())));
    let drifted = records.iter().any(|record| record.since.is_some());
    if cx.json {
        let unseen: Vec<_> =
            failed.iter().map(|(name, why)| serde_json::json!({ "instance": name, "reason": why })).collect();
        print_json(&serde_json::json!({ "drift": drifted, "instances": records, "not_looked_at": unseen }));
    } else if !silent || drifted || !failed.is_empty() {
        print(&views::drift::render(cx.out, &records, &failed, service.store.now().await?));
    }
    if !failed.is_empty() {
        let names = failed.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        let diagnostic = windlass_model::diagnostic::Diagnostic::error("WL663", format!("could not look at {names}"));
        return Err(windlass_app::error::AppError::new(windlass_app::error::ErrorKind::Unavailable, diagnostic));
    }
    Ok(!drifted)
}

async fn show_review(cx: &Context, service: &Service, id: &RunId, view: &View) -> Answer {
    show_review_as(cx, service, id, view, |_| ()).await
}

/// As [`show_review`]; `here` says what the reader does next as it is done there.
pub(super) async fn show_review_as(
    cx: &Context,
    service: &Service,
    id: &RunId,
    view: &View,
    here: impl FnOnce(&mut Document),
) -> Answer {
    let Some(row) = windlass_app::waivers::review_get(service, id).await? else {
        let record = service.store.run_get(id).await?;
        return show_run(cx, service, &record).await;
    };
    let mut document = review::document(service, &row).await?;
    here(&mut document);
    if cx.json && view.is_plain() {
        let missing = &document.headline.missing;
        print_json(
            &serde_json::json!({ "state": row.state.as_str(), "missing_approvals": missing, "review": row.review }),
        );
    } else {
        view.show(cx, &document)?;
    }
    Ok(is_positive(&row.review))
}

fn is_positive(review: &Review) -> bool {
    !matches!(review.verdict, Verdict::Denied | Verdict::Failed)
}

async fn approve(cx: &Context, service: &Arc<Service>, id: Option<&str>, reason: Option<&str>) -> Answer {
    let id = runs::approvable_find(service, id).await?;
    let approved = apply::approve(service, &id, reason).await?;
    if cx.json {
        print_json(
            &serde_json::json!({ "approved": approved.id, "subjects": approved.subjects, "actor": service.actor, "missing": approved.missing }),
        );
    } else {
        print(&format!("Approved {} as {}.\n", approved.id, crate::terminal::clean(&service.actor.to_string())));
        if approved.missing.is_empty() {
            let next = if approved.subjects == ["review"] { "apply" } else { "resume" };
            print(&format!("Next: windlass {next} {}\n", approved.id));
        } else {
            print("It is not enough yet:\n");
            approved.missing.iter().for_each(|sentence| print(&format!("  {}\n", crate::terminal::clean(sentence))));
        }
    }
    Ok(approved.missing.is_empty())
}

pub(super) async fn apply_review(
    cx: &Context,
    service: &Arc<Service>,
    review: Option<&str>,
    yes: bool,
    mut confirmed: Vec<String>,
) -> Answer {
    let id = runs::review_find(service, review).await?;
    if !yes
        && !cx.json
        && std::io::stdin().is_terminal()
        && let Some(row) = service.store.review_get(&id).await?
    {
        let summary: windlass_model::effect::EffectSummary =
            row.review.effects().map(windlass_model::effect::Effect::summary).sum();
        print(&format!("Apply {} ({summary})? Type yes to go on: ", crate::terminal::clean(&row.review.head.name)));
        let _ = std::io::stdout().flush();
        let mut line = String::new();
        // An end of input is a no.
        let _ = std::io::stdin().lock().read_line(&mut line);
        if line.trim() != "yes" {
            print("Nothing was applied.\n");
            return Ok(false);
        }
        let record = service.store.run_get(&id).await?;
        for instance in windlass_app::destroy::destroyed(&record, &row.review)? {
            if confirmed.iter().any(|c| c == instance.as_str()) {
                continue;
            }
            print(&format!("This destroys everything that {instance} has. Type its name to go on: "));
            let _ = std::io::stdout().flush();
            let mut line = String::new();
            let _ = std::io::stdin().lock().read_line(&mut line);
            confirmed.push(line.trim().to_owned());
        }
    }
    let Some(run) = apply::apply_create(service, &id, &confirmed).await? else {
        if cx.json {
            print_json(&serde_json::json!({ "run": null }));
        } else {
            print("Nothing to apply.\n");
        }
        return Ok(true);
    };
    if !cx.json {
        eprintln!("Applying as run {run}");
    }
    let record = drive(cx, service, &run).await?;
    let answer = conclude(cx, service, &record).await?;
    if record.state == RunState::Failed && windlass_app::rollback::is_wanted(&record)? {
        eprintln!("The rollout says to go back: this is the review of that.");
        make_review(cx, service, &Selection::Rollback(record.id), Vec::new(), &View::plain()).await?;
        return Ok(false);
    }
    Ok(answer)
}

/// Shows how far a run is that another process drives.
async fn watch(cx: &Context, service: &Service, name: &str) -> Answer {
    let id = runs::run_find(service, name).await?.id;
    let mut watch = Watch::default();
    loop {
        let (record, steps) = (service.store.run_get(&id).await?, runs::run_steps(service, &id).await?);
        if !cx.json {
            watch.look(cx.err, &steps);
            watch.tick();
        }
        if is_over(&record, &steps) {
            watch.clear();
            return conclude(cx, service, &record).await;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// How a run ended, or what it waits for.
pub(super) async fn conclude(cx: &Context, service: &Service, record: &RunRecord) -> Answer {
    if cx.json {
        let steps = runs::run_steps(service, &record.id).await?;
        print_json(&serde_json::json!({ "run": summary(record), "steps": steps }));
    } else if record.state == RunState::Succeeded {
        let steps = runs::run_steps(service, &record.id).await?;
        let applied = steps.iter().filter(|s| s.id.as_str().starts_with("apply:")).count();
        let what = if record.plan.kind == "apply" {
            format!("Applied {}.", views::count(applied, "instance"))
        } else {
            "Done.".into()
        };
        print(&format!("{}\n", cx.out.green(&what)));
    } else {
        show_run(cx, service, record).await?;
        if matches!(record.state, RunState::Failed) && record.plan.kind == "apply" {
            print(&format!(
                "Next: windlass logs {} shows what happened; mend it, then `windlass apply` again or review anew.\n",
                record.id
            ));
        }
    }
    Ok(record.state == RunState::Succeeded)
}

async fn show_run(cx: &Context, service: &Service, record: &RunRecord) -> Answer {
    let steps = runs::run_steps(service, &record.id).await?;
    if cx.json {
        print_json(&serde_json::json!({ "run": summary(record), "steps": steps }));
    } else {
        print(&views::runs::render_run(cx.out, record, &steps, service.store.now().await?));
    }
    Ok(true)
}

async fn logs(cx: &Context, service: &Service, target: &str, follow: bool) -> Answer {
    let (name, step) = target.split_once('/').map_or((target, None), |(run, step)| (run, Some(StepId::new(step))));
    let mut record = runs::run_find(service, name).await?;
    if let Some(step) = &step {
        service.store.step_get(&record.id, step).await?;
    }
    let mut offsets = std::collections::BTreeMap::new();
    let mut last: Option<StepId> = None;
    loop {
        let ended = record.state.is_final();
        for chunk in runs::log_follow(service, &record, step.as_ref(), &mut offsets).await? {
            if cx.json {
                let text = String::from_utf8_lossy(&chunk.bytes).into_owned();
                match serde_json::to_string(
                    &serde_json::json!({ "step": chunk.step, "attempt": chunk.attempt, "start": chunk.start, "at": chunk.at, "text": text }),
                ) {
                    Ok(line) => print(&format!("{line}\n")),
                    Err(error) => return Err(internal(error)),
                }
                continue;
            }
            if step.is_none() && last.as_ref() != Some(&chunk.step) {
                print(&format!("{}\n", cx.out.bold(&format!("── {}", chunk.step))));
                last = Some(chunk.step.clone());
            }
            print(&crate::terminal::clean(&String::from_utf8_lossy(&chunk.bytes)));
        }
        if ended || !follow {
            return Ok(true);
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
        record = service.store.run_get(&record.id).await?;
    }
}
