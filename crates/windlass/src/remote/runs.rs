//! Reviews, applies and runs that a server drives.

use super::At;
use super::client::{segment, segments};
use super::follow::{follow, logs};
use crate::arguments::Command;
use crate::commands::artefacts::{self, ArtefactOptions};
use crate::terminal::clean;
use crate::views::review::View;
use crate::{Answer, print, print_json, views};
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::{BufRead, IsTerminal};
use std::time::{Duration, Instant};
use windlass_app::error::{AppError, AppResult, ErrorKind, internal};
use windlass_app::history::Changed;
use windlass_app::run_artefacts::RunArtefact;
use windlass_app::waivers::Candidate;
use windlass_model::Micros;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::drift::Record;
use windlass_model::effect::{Effect, EffectSummary};
use windlass_model::id::{RunId, StepId};
use windlass_model::review::document::Document;
use windlass_model::review::{Review, Verdict};
use windlass_model::run::{RunPlan, RunRecord, RunState, StepRecord, StepState};
use windlass_model::waiver::Waiver;

/// How long a server may take to notice what was pushed.
const NOTICE: Duration = Duration::from_secs(90);

/// A run, as lists have it.
#[derive(Debug, Clone, Deserialize)]
struct Run {
    id: RunId,
    project: String,
    kind: String,
    title: String,
    state: RunState,
    cancel_requested: bool,
    actor: String,
    created_at: Micros,
    ended_at: Option<Micros>,
    reason: Option<String>,
}

impl From<Run> for RunRecord {
    fn from(run: Run) -> Self {
        let plan =
            RunPlan { kind: run.kind, title: run.title, input: Value::Null, steps: Vec::new(), ..RunPlan::default() };
        Self {
            id: run.id,
            project: run.project,
            plan,
            state: run.state,
            cancel_requested: run.cancel_requested,
            kill_requested: false,
            actor: run.actor,
            created_at: run.created_at,
            ended_at: run.ended_at,
            reason: run.reason,
        }
    }
}

#[derive(Debug, Deserialize)]
struct Step {
    id: StepId,
    state: StepState,
    attempt: u32,
    not_before: Option<Micros>,
    started_at: Option<Micros>,
    ended_at: Option<Micros>,
    reason: Option<String>,
    code: Option<String>,
}

impl From<Step> for StepRecord {
    fn from(step: Step) -> Self {
        let Step { id, state, attempt, not_before, started_at, ended_at, reason, code } = step;
        // What only engines need is not sent.
        Self { id, state, attempt, epoch: 0, not_before, started_at, ended_at, output: None, reason, code }
    }
}

/// A run with its steps.
#[derive(Deserialize)]
struct Whole {
    run: Run,
    steps: Vec<Step>,
    /// Where the others begin.
    next: Option<String>,
}

#[derive(Deserialize)]
struct Started {
    run: Option<RunId>,
}

#[derive(Deserialize)]
struct Named {
    id: RunId,
}

#[derive(Deserialize)]
struct Page<T> {
    items: Vec<T>,
}

#[derive(Deserialize)]
struct Shown {
    state: String,
    missing_approvals: Vec<String>,
    review: Review,
}

pub(super) fn run(at: &At, command: &Command) -> Answer {
    match command {
        Command::Review { show: Some(name), view, .. } => {
            let view = View::of(at.cx, view)?;
            show_review(at, &find_review(at, Some(name))?, &view)
        }
        Command::Review { base, all, stack, report, view, .. } => {
            if !report.is_empty() {
                let diagnostic = Diagnostic::error("WL904", "reports of other programs are taken in checkouts alone")
                    .help("leave `--report` out, or unset WINDLASS_URL");
                return Err(AppError::new(ErrorKind::Usage, diagnostic));
            }
            let view = View::of(at.cx, view)?;
            let asked = json!({ "base": base.base, "all": all, "stacks": stack });
            review_branch(at, asked, &view)
        }
        Command::Destroy { stack } => review_branch(at, json!({ "stacks": stack, "destroy": true }), &View::plain()),
        Command::Rollback { run } => {
            let run = find_run(at, run)?;
            let path = format!("{}/reviews", at.project()?);
            made(at, at.client.post(&path, &json!({ "rollback": run }))?, &View::plain())
        }
        Command::Approve { id, reason } => approve(at, id.as_deref(), reason.as_deref()),
        Command::Waive { finding: None, review, .. } => {
            let id = find_review(at, review.as_deref())?;
            let list: Vec<Candidate> = at.client.list(&format!("/api/v1/reviews/{}/waivers", segment(id.as_str())))?;
            if at.cx.json {
                print_json(&list);
            } else {
                print(&views::decisions::candidates(at.cx.out, &id, &list));
            }
            Ok(list.is_empty())
        }
        Command::Waive { finding: Some(finding), review, reason, expires } => {
            let id = find_review(at, review.as_deref())?;
            const DAY: Micros = 86_400_000_000;
            let days = expires.map(|time| (time + DAY - 1) / DAY);
            let body = json!({ "finding": finding, "reason": reason, "days": days });
            let waiver: Waiver = at.client.post(&format!("/api/v1/reviews/{}/waivers", segment(id.as_str())), &body)?;
            let shown = shown(at, &id)?;
            if at.cx.json {
                print_json(&json!({ "waiver": waiver, "verdict": shown.review.verdict }));
            } else {
                print(&views::decisions::waived(at.cx.out, &waiver, &shown.review));
            }
            Ok(true)
        }
        Command::Apply { review, yes, confirm } => apply(at, review.as_deref(), *yes, confirm),
        Command::Drift { stack, last, schedule_ready } => drift(at, stack, *last, *schedule_ready),
        Command::Runs { run: Some(name), follow: true, .. } => match follow(at, &find_run(at, name)?, at.cx.json)? {
            Some(record) => conclude(at, &record),
            None => Ok(false),
        },
        Command::Runs { run: Some(name), .. } => show_run(at, &find_run(at, name)?),
        Command::Runs { run: None, limit, operation, .. } => {
            let only = operation.as_ref().map(|name| format!("&operation={}", segment(name))).unwrap_or_default();
            let page: Page<Run> = at.client.get(&format!("{}/runs?limit={limit}{only}", at.project()?))?;
            let list: Vec<RunRecord> = page.items.into_iter().map(RunRecord::from).collect();
            if at.cx.json {
                print_json(&list.iter().map(crate::commands::runs::summary).collect::<Vec<_>>());
            } else {
                print(&views::runs::render_list(at.cx.out, &list));
            }
            Ok(true)
        }
        Command::Diff { before, after } => {
            let (before, after) = (find_run(at, before)?, find_run(at, after)?);
            if whole(at, &before)?.0.plan.kind == windlass_model::operation::plan::KIND {
                return super::operations::compare(at, &before, &after);
            }
            let list: Vec<Changed> = at.client.list(&format!("{}/diff/{}", path(&before), segment(after.as_str())))?;
            if at.cx.json {
                print_json(&list);
            } else {
                print(&views::records::diff(at.cx.out, &list));
            }
            Ok(list.is_empty())
        }
        Command::Logs { target, follow } => logs(at, target, *follow),
        Command::Artefacts(options) => artefacts(at, options),
        Command::Cancel { run, reason, kill } => {
            let id = find_run(at, run)?;
            let asked = cancel(at, &id, reason.as_deref(), *kill)?;
            if at.cx.json {
                print_json(&json!({ "run": id, "cancel_requested": asked }));
            } else if asked {
                print(&format!("Run {id} was asked to stop. `windlass runs {id}` shows how it ends.\n"));
            } else {
                let (record, _) = whole(at, &id)?;
                print(&format!("Run {id} had ended already: it is {}.\n", record.state.as_str()));
            }
            Ok(asked)
        }
        Command::Halt { run, why } => {
            let id = find_run(at, run)?;
            let _: Started = at.client.post(&format!("{}/halt", path(&id)), &json!({ "reason": why }))?;
            crate::commands::runs::halted(at.cx, &id);
            Ok(true)
        }
        Command::Resume { run, settle, how } => {
            let id = match run {
                Some(name) => find_run(at, name)?,
                None => newest(at, "runs?active=true&limit=1")?,
            };
            if crate::commands::operations::is_ended(&whole(at, &id)?.0) {
                return super::operations::resume(at, &id, how);
            }
            let _: Started = at.client.post(&format!("{}/resume", path(&id)), &json!({ "settle": settle }))?;
            let Some(record) = follow(at, &id, at.cx.json)? else { return Ok(false) };
            if record.plan.kind == "review" && record.state == RunState::Succeeded {
                return show_review(at, &id, &View::plain());
            }
            conclude(at, &record)
        }
        _ => Err(internal("a command without an implementation")),
    }
}

pub(super) fn path(run: &RunId) -> String {
    format!("/api/v1/runs/{}", segment(run.as_str()))
}

pub(super) fn whole(at: &At, run: &RunId) -> AppResult<(RunRecord, Vec<StepRecord>)> {
    let mut whole: Whole = at.client.get(&path(run))?;
    if let Some(next) = whole.next.take() {
        whole.steps.extend(at.client.list_after(&format!("{}/steps", path(run)), Some(next))?);
    }
    Ok((whole.run.into(), whole.steps.into_iter().map(StepRecord::from).collect()))
}

fn artefacts(at: &At, options: &ArtefactOptions) -> Answer {
    let (run, name) = options.target()?;
    let run = find_run(at, run)?;
    let all = format!("{}/artefacts", path(&run));
    match name {
        None => Ok(artefacts::list(at.cx, &run, &at.client.list::<RunArtefact>(&all)?)),
        Some(name) => {
            let content = at.client.read(&format!("{all}/{}", segments(name)))?;
            artefacts::save(at.cx, name, options.output.as_deref(), content)
        }
    }
}

/// The newest of a list of this project.
fn newest(at: &At, list: &str) -> AppResult<RunId> {
    let page: Page<Named> = at.client.get(&format!("{}/{list}", at.project()?))?;
    page.items.into_iter().next().map(|named| named.id).ok_or_else(|| {
        let diagnostic = Diagnostic::error("WL620", "there is none yet").help("`windlass review` makes the first");
        AppError::new(ErrorKind::NotFound, diagnostic)
    })
}

/// A full id is one of any project; the beginning of one, and `latest`, of this.
fn find(at: &At, list: &str, name: &str) -> AppResult<RunId> {
    /// Of an id.
    const LENGTH: usize = 26;
    if name == "latest" {
        return newest(at, &format!("{list}?limit=1"));
    }
    if name.len() == LENGTH {
        return Ok(RunId::new(name));
    }
    let page: Page<Named> = at.client.get(&format!("{}/{list}?limit=500", at.project()?))?;
    let matching: Vec<RunId> =
        page.items.into_iter().map(|named| named.id).filter(|id| id.as_str().starts_with(name)).collect();
    match matching.as_slice() {
        [only] => Ok(only.clone()),
        several => {
            let summary = format!("{} of the newest {list} begin with `{name}`", several.len());
            let diagnostic = Diagnostic::error("WL620", summary).help("`windlass runs` lists them; give the whole id");
            Err(AppError::new(ErrorKind::NotFound, diagnostic))
        }
    }
}

pub(super) fn find_run(at: &At, name: &str) -> AppResult<RunId> {
    find(at, "runs", name)
}

fn find_review(at: &At, name: Option<&str>) -> AppResult<RunId> {
    find(at, "reviews", name.unwrap_or("latest"))
}

fn shown(at: &At, review: &RunId) -> AppResult<Shown> {
    at.client.get(&format!("/api/v1/reviews/{}", segment(review.as_str())))
}

/// Has what was pushed of this branch reviewed.
fn review_branch(at: &At, mut asked: Value, view: &View) -> Answer {
    let path = format!("{}/reviews", at.project()?);
    let (branch, commit) = (at.git(&["symbolic-ref", "--short", "HEAD"]), at.git(&["rev-parse", "HEAD"]));
    if let Some(branch) = &branch {
        asked["branch"] = json!(branch);
        asked["commit"] = json!(commit);
        if at.git(&["status", "--porcelain", "--untracked-files=no"]).is_some() {
            eprintln!("What is not committed is not reviewed: the server reviews what was pushed of `{branch}`.");
        }
    }
    let began = Instant::now();
    loop {
        match at.client.post::<Started>(&path, &asked) {
            Ok(started) => return made(at, started, view),
            Err(error) if !error.diagnostics.iter().any(|d| d.code == "WL849") || branch.is_none() => {
                return Err(error);
            }
            Err(error) => {
                let branch = branch.as_deref().unwrap_or_default();
                let pushed = at.git(&["rev-parse", "--verify", "--quiet", &format!("refs/remotes/origin/{branch}")]);
                if pushed.is_none() || pushed != commit {
                    let diagnostic =
                        Diagnostic::error("WL883", format!("the last commit of `{branch}` was not pushed"))
                            .detail("A server reviews what is in the repository that it follows.")
                            .help(format!("git push -u origin {branch}"));
                    return Err(AppError::new(ErrorKind::Usage, diagnostic));
                }
                if began.elapsed() > NOTICE {
                    return Err(error);
                }
                std::thread::sleep(Duration::from_secs(3));
            }
        }
    }
}

/// A review that is on its way, or that nothing is affected.
fn made(at: &At, started: Started, view: &View) -> Answer {
    let Some(id) = started.run else {
        if at.cx.json {
            print_json(&json!({ "review": null, "affected": [] }));
        } else {
            print("Nothing to review: no stack is affected. `windlass review --all` reviews every stack.\n");
        }
        return Ok(true);
    };
    let Some(record) = follow(at, &id, at.cx.json)? else { return Ok(false) };
    if record.state != RunState::Succeeded {
        return conclude(at, &record);
    }
    show_review(at, &id, view)
}

fn show_review(at: &At, id: &RunId, view: &View) -> Answer {
    let shown = shown(at, id)?;
    if at.cx.json && view.is_plain() {
        print_json(
            &json!({ "state": shown.state, "missing_approvals": shown.missing_approvals, "review": shown.review }),
        );
    } else {
        let document: Document = at.client.get(&format!("/api/v1/reviews/{}?format=json", segment(id.as_str())))?;
        view.show(at.cx, &document)?;
    }
    Ok(!matches!(shown.review.verdict, Verdict::Denied | Verdict::Failed))
}

fn approve(at: &At, name: Option<&str>, reason: Option<&str>) -> Answer {
    #[derive(Deserialize)]
    struct Approved {
        approved: RunId,
        subjects: Vec<String>,
        actor: Value,
        missing: Vec<String>,
    }
    // It may also be an apply that waits.
    let id = match name {
        Some(name) => find(at, "reviews", name).or_else(|_| find_run(at, name))?,
        None => find_review(at, None)?,
    };
    let seen = match shown(at, &id) {
        Ok(shown) => {
            json!({ "effect": shown.review.effect_digest, "commit": shown.review.head.commit, "reason": reason })
        }
        Err(error) if error.kind == ErrorKind::NotFound => json!({ "reason": reason }),
        Err(error) => return Err(error),
    };
    let approved: Approved = at.client.post(&format!("{}/approve", path(&id)), &seen)?;
    if at.cx.json {
        print_json(
            &json!({ "approved": approved.approved, "subjects": approved.subjects, "actor": approved.actor, "missing": approved.missing }),
        );
        return Ok(approved.missing.is_empty());
    }
    print(&format!(
        "Approved {} as {}.\n",
        approved.approved,
        clean(approved.actor["name"].as_str().unwrap_or_default())
    ));
    if approved.missing.is_empty() {
        let id = &approved.approved;
        let next = match approved.subjects == ["review"] {
            true => format!("windlass apply {id}"),
            false => format!("it goes on on the server; windlass runs {id} --follow watches it"),
        };
        print(&format!("Next: {next}\n"));
    } else {
        print("It is not enough yet:\n");
        approved.missing.iter().for_each(|sentence| print(&format!("  {}\n", clean(sentence))));
    }
    Ok(approved.missing.is_empty())
}

fn apply(at: &At, name: Option<&str>, yes: bool, confirm: &[String]) -> Answer {
    let id = find_review(at, name)?;
    let review = shown(at, &id)?.review;
    if !yes && !at.cx.json && std::io::stdin().is_terminal() {
        let summary: EffectSummary = review.effects().map(Effect::summary).sum();
        if ask(&format!("Apply {} ({summary})? Type yes to go on: ", clean(&review.head.name))) != "yes" {
            print("Nothing was applied.\n");
            return Ok(false);
        }
    }
    let body = json!({ "effect": review.effect_digest, "commit": review.head.commit, "confirm": confirm });
    let started: Started = at.client.post(&format!("/api/v1/reviews/{}/apply", segment(id.as_str())), &body)?;
    let Some(run) = started.run else {
        if at.cx.json {
            print_json(&json!({ "run": null }));
        } else {
            print("Nothing to apply.\n");
        }
        return Ok(true);
    };
    if !at.cx.json {
        eprintln!("Applying as run {run}");
    }
    match follow(at, &run, at.cx.json)? {
        Some(record) => conclude(at, &record),
        None => Ok(false),
    }
}

/// What a person types; nothing where input ends.
pub(super) fn ask(question: &str) -> String {
    print(question);
    let mut line = String::new();
    let _ = std::io::stdin().lock().read_line(&mut line);
    line.trim().to_owned()
}

pub(super) fn cancel(at: &At, id: &RunId, reason: Option<&str>, kill: bool) -> AppResult<bool> {
    let body = json!({ "reason": reason, "kill": kill });
    let answer: Value = at.client.post(&format!("{}/cancel", path(id)), &body)?;
    Ok(answer["cancel_requested"] == json!(true))
}

/// How a run ended, or what it waits for.
pub(super) fn conclude(at: &At, record: &RunRecord) -> Answer {
    let (_, steps) = whole(at, &record.id)?;
    if at.cx.json {
        print_json(&json!({ "run": crate::commands::runs::summary(record), "steps": steps }));
    } else if record.state == RunState::Succeeded {
        let applied = steps.iter().filter(|step| step.id.as_str().starts_with("apply:")).count();
        let what = match record.plan.kind.as_str() {
            "apply" => format!("Applied {}.", views::count(applied, "instance")),
            _ => "Done.".into(),
        };
        print(&format!("{}\n", at.cx.out.green(&what)));
    } else {
        let now = jiff::Timestamp::now().as_microsecond();
        print(&views::runs::render_run(at.cx.out, record, &steps, now));
    }
    Ok(record.state == RunState::Succeeded)
}

fn show_run(at: &At, id: &RunId) -> Answer {
    let (record, steps) = whole(at, id)?;
    if at.cx.json {
        print_json(&json!({ "run": crate::commands::runs::summary(&record), "steps": steps }));
    } else {
        let now = jiff::Timestamp::now().as_microsecond();
        print(&views::runs::render_run(at.cx.out, &record, &steps, now));
    }
    Ok(true)
}

fn drift(at: &At, patterns: &[String], last: bool, silent: bool) -> Answer {
    let project = at.project()?;
    let (mut only, mut failed) = (None, Vec::new());
    if !last {
        let started: Started = at.client.post(&format!("{project}/drift"), &json!({ "patterns": patterns }))?;
        if let Some(run) = started.run {
            let Some(_) = follow(at, &run, at.cx.json || silent)? else { return Ok(false) };
            let (_, steps) = whole(at, &run)?;
            let name = |step: &StepRecord| step.id.as_str().trim_start_matches("drift:").to_owned();
            only = Some(steps.iter().map(name).collect::<Vec<_>>());
            failed.extend(
                steps
                    .iter()
                    .filter(|step| step.state != StepState::Succeeded)
                    .map(|step| (name(step), step.reason.clone().unwrap_or_else(|| step.state.as_str().to_owned()))),
            );
        }
    }
    let mut records: Vec<Record> = at.client.list(&format!("{project}/drift"))?;
    records.retain(|record| only.as_ref().is_none_or(|only| only.iter().any(|name| name == record.instance.as_str())));
    let drifted = records.iter().any(|record| record.since.is_some());
    if at.cx.json {
        let unseen: Vec<_> = failed.iter().map(|(name, why)| json!({ "instance": name, "reason": why })).collect();
        print_json(&json!({ "drift": drifted, "instances": records, "not_looked_at": unseen }));
    } else if !silent || drifted || !failed.is_empty() {
        print(&views::drift::render(at.cx.out, &records, &failed, jiff::Timestamp::now().as_microsecond()));
    }
    if !failed.is_empty() {
        let names = failed.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        let diagnostic = Diagnostic::error("WL663", format!("could not look at {names}"));
        return Err(AppError::new(ErrorKind::Unavailable, diagnostic));
    }
    Ok(!drifted)
}
