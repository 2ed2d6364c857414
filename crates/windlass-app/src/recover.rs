//! After an apply that ended badly: what it was doing is read from its journal and compared with the state; the instance is
//! quarantined until a person has looked. Nothing here guesses.

use crate::error::{AppError, AppResult, ErrorKind};
use crate::service::Service;
use crate::steps::terraform::{LOCKED, Recorder, driver_error, fact};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use windlass_drivers::terraform::events::{Lines, parse};
use windlass_drivers::terraform::{StackDirectory, plan_file};
use windlass_engine::StepContext;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::id::{InstanceId, RunId, StepId};
use windlass_model::journal::{Aftermath, BackendLock, Entry, Quarantine, aftermath, event, journal};
use windlass_model::review::Revision;
use windlass_model::run::RunRecord;
use windlass_model::stack_plan::StackWork;
use windlass_store::{Artefact, ArtefactKind, Event, NewArtefact, Store};

const SCOPE: &str = "quarantine";
/// States from before applies that are kept for each instance.
const SNAPSHOTS: usize = 20;

/// Seals the state that the plan was made from, so that there is a way back whatever the apply does.
pub async fn snapshot(service: &Service, instance: &InstanceId, run: &RunId, plan: &Path) -> AppResult<()> {
    let failed = |error: &dyn std::fmt::Display| {
        let summary = format!("the state of {instance} from before the apply cannot be kept: {error}");
        AppError::new(
            ErrorKind::Unavailable,
            Diagnostic::error("WL901", summary).help("make room on the disk; nothing was applied"),
        )
    };
    let state = plan_file::state_of(plan).map_err(|e| failed(&e))?;
    if state.version.is_none() {
        return Ok(());
    }
    let sealed = plan_file::seal(&state.content, &service.key, &state_purpose(instance)).map_err(|e| failed(&e))?;
    let of = NewArtefact { kind: ArtefactKind::State, run: run.clone(), subject: instance.to_string(), number: 0 };
    service.store.artefact_put(&of, sealed).await.map_err(|e| failed(&e))?;
    let kept = service.store.artefact_list(ArtefactKind::State, None, Some(instance.as_str())).await?;
    for old in kept.iter().take(kept.len().saturating_sub(SNAPSHOTS)) {
        // One too many does no harm.
        let _ = service.store.artefact_remove(old, None).await;
    }
    Ok(())
}

fn state_purpose(instance: &InstanceId) -> String {
    format!("state of {instance}")
}

/// A kept state.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Snapshot {
    /// The apply it was taken before.
    pub run: RunId,
    pub artefact: String,
    /// Why it is not there any more.
    pub note: Option<String>,
}

/// Kept states of an instance, oldest first: ids of runs grow with time.
pub async fn snapshots(service: &Service, instance: &InstanceId) -> AppResult<Vec<Snapshot>> {
    let kept = service.store.artefact_list(ArtefactKind::State, None, Some(instance.as_str())).await?;
    Ok(kept.into_iter().map(|kept| Snapshot { run: kept.of.run, artefact: kept.id, note: kept.note }).collect())
}

/// The content of a kept state.
pub async fn snapshot_read(service: &Service, instance: &InstanceId, snapshot: &Snapshot) -> AppResult<Vec<u8>> {
    let sealed = service.store.artefact_read(&snapshot.artefact).await?;
    plan_file::open(&sealed, &service.key, &state_purpose(instance)).map_err(|error| {
        let summary =
            format!("the kept state of {instance} from before run {} cannot be opened: {error}", snapshot.run);
        AppError::new(ErrorKind::Refused, Diagnostic::error("WL652", summary))
    })
}

/// Looks at what an attempt left. When anything is in doubt the instance is quarantined and the reason comes back.
pub async fn look(
    service: &Service,
    cx: &StepContext,
    stack: &StackDirectory,
    work: &StackWork,
) -> AppResult<Option<String>> {
    ingest(service, cx, stack).await?;
    let instance = &work.instance.id;
    remove_opened(service, &cx.run, instance);
    let errored = keep_errored_state(service, cx, &stack.directory, instance).await?;
    let entries = entries(service, &cx.run, &cx.step, cx.attempt).await?;
    // Without a cancel token of its own: looking is what a cancelled apply needs most.
    let cancel = tokio_util::sync::CancellationToken::new();
    let lock = own_lock(service, cx, stack).await?;
    let begun = entries.iter().any(|e| e.progress != windlass_model::journal::Progress::Failed);
    let state = if begun {
        match stack.state(&cancel, &mut Recorder::new(cx)).await.map_err(|e| driver_error(&e))? {
            Ok(state) => Ok(state),
            Err(diagnostics) => {
                Err(diagnostics.first().map_or_else(|| "terraform failed".to_owned(), |d| d.summary.clone()))
            }
        }
    } else {
        Ok(serde_json::Value::Null)
    };
    let (aftermath, unread) = match &state {
        Ok(state) => (aftermath(&entries, state), None),
        // Everything that was made counts as lost until the state can be read.
        Err(why) => (aftermath(&entries, &serde_json::Value::Null), Some(why.clone())),
    };
    if aftermath.is_clean() && errored.is_none() && unread.is_none() && lock.is_none() {
        return Ok(None);
    }
    let reason = sentence(instance, &aftermath, errored.is_some(), unread.as_deref(), lock.as_ref());
    let reason = cx.mask().await.text(&reason);
    let quarantine = Quarantine {
        instance: instance.clone(),
        run: cx.run.clone(),
        step: cx.step.clone(),
        since: service.store.now().await?,
        reason: reason.clone(),
        aftermath,
        errored_state: errored,
        lock,
    };
    put(service, &quarantine).await?;
    let data = serde_json::json!({ "instance": instance, "reason": reason });
    cx.events(&[("stack.quarantined".to_owned(), data)]).await?;
    Ok(Some(reason))
}

/// As [`look`], for a new attempt of a step: at what the newest one before it left that got as far as applying anything. Whoever comes
/// next looks before it does something, so that one has seen to those before it.
///
/// # Errors
/// The state or the record cannot be read.
pub async fn look_back(
    service: &Service,
    cx: &StepContext,
    stack: &StackDirectory,
    work: &StackWork,
) -> AppResult<Option<String>> {
    for attempt in (1..cx.attempt).rev() {
        let mut earlier = cx.clone();
        earlier.attempt = attempt;
        let doubts = look(service, &earlier, stack, work).await?;
        if doubts.is_some() || !entries(service, &cx.run, &cx.step, attempt).await?.is_empty() {
            return Ok(doubts);
        }
    }
    Ok(None)
}

/// The lock at the backend after the processes of the attempt are dead. It is freed when it is known to be theirs: the one that
/// was seen to be held, or one of this machine that is older than the first thing they did under it, since a lock has one
/// holder at a time. One that only may be theirs comes back, for a person; any other is left alone.
async fn own_lock(service: &Service, cx: &StepContext, stack: &StackDirectory) -> AppResult<Option<BackendLock>> {
    let Ok(Some(holder)) = stack.lock_holder().await else { return Ok(None) };
    let of_step = recorded(service, &cx.run, &cx.step, &[LOCKED, "step.started"]).await?;
    let seen = of_step.iter().rev().find(|e| e.kind == LOCKED && e.data["attempt"] == cx.attempt);
    let seen = seen.is_some_and(|e| e.data["lock"]["id"] == holder.id.as_str());
    let here = holder.who.rsplit_once('@').is_some_and(|(_, host)| host == windlass_engine::identity().host);
    let instant = |text: &str| text.parse::<jiff::Timestamp>().ok();
    let created = instant(&holder.created);
    let first = first_act(service, cx).as_deref().and_then(instant);
    let proven = here && created.zip(first).is_some_and(|(created, first)| created <= first);
    if seen || proven {
        let cancel = tokio_util::sync::CancellationToken::new();
        let freed =
            stack.force_unlock(&holder.id, &cancel, &mut Recorder::new(cx)).await.map_err(|e| driver_error(&e))?;
        if freed.is_ok() {
            cx.events(&[("backend.unlocked".to_owned(), serde_json::json!({ "lock": holder }))]).await?;
            return Ok(None);
        }
    }
    let begun = of_step.iter().rev().find(|e| e.kind == "step.started").map(|e| e.at);
    let since = created.zip(begun).is_some_and(|(created, begun)| created.as_microsecond() >= begun);
    Ok((here && since).then_some(holder))
}

/// When the attempt was seen to do its first thing to a resource: it held the lock then.
fn first_act(service: &Service, cx: &StepContext) -> Option<String> {
    let path = service.directory.output(&cx.run, &cx.step, cx.attempt, "out");
    let content = std::fs::read_to_string(path).ok()?;
    let mut lines = content.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let first = lines.find(|line| line["type"] == "apply_start")?;
    Some(first["@timestamp"].as_str()?.to_owned())
}

/// Breaks the lock that a person says is the dead apply's own, by its id.
pub async fn force_unlock(service: &Service, instance: &InstanceId, id: &str) -> AppResult<()> {
    let quarantine = get(service, instance).await?;
    if quarantine.lock.as_ref().is_none_or(|lock| lock.id != id) {
        let diagnostic = Diagnostic::error("WL656", format!("the lock in doubt of {instance} is not `{id}`"))
            .help(format!("`windlass recover {instance}` shows which it is"));
        return Err(AppError::new(ErrorKind::Refused, diagnostic));
    }
    let stack = quarantined_stack(service, &quarantine).await?;
    let cancel = tokio_util::sync::CancellationToken::new();
    let freed = stack.force_unlock(id, &cancel, &mut Silent).await.map_err(|e| driver_error(&e))?;
    freed.map_err(|diagnostics| AppError::many(ErrorKind::Refused, diagnostics))?;
    let data = serde_json::json!({ "instance": instance, "lock": id, "actor": service.actor.to_string() });
    let facts = [("backend.unlocked".to_owned(), data)];
    service.store.event_append(&quarantine.run, &quarantine.step, &facts).await?;
    put(service, &Quarantine { lock: None, ..quarantine }).await
}

async fn put(service: &Service, quarantine: &Quarantine) -> AppResult<()> {
    let text = serde_json::to_string(quarantine).map_err(crate::error::internal)?;
    Ok(service.store.kv_set(SCOPE, quarantine.instance.as_str(), &text).await?)
}

/// The commit that a quarantined apply worked on, which is an older one where the stack was deleted since.
pub async fn worked_on(service: &Service, instance: &InstanceId) -> AppResult<Revision> {
    let quarantine = get(service, instance).await?;
    let record = service.store.run_get(&quarantine.run).await?;
    let input: windlass_model::stack_plan::ApplyInput = crate::steps::input(&record.plan.input)?;
    let work = work(&record, &quarantine)?;
    Ok(Revision { commit: work.source.unwrap_or(input.head.commit), ..input.head })
}

fn work(record: &RunRecord, quarantine: &Quarantine) -> AppResult<StackWork> {
    let spec = record.plan.steps.iter().find(|step| step.id == quarantine.step);
    let spec = spec.ok_or_else(|| crate::error::internal("a quarantine without its step"))?;
    let apply: windlass_model::stack_plan::ApplyWork = crate::steps::input(&spec.work.input)?;
    Ok(apply.work)
}

/// The commands of the stack that a quarantined apply worked on.
async fn quarantined_stack(service: &Service, quarantine: &Quarantine) -> AppResult<StackDirectory> {
    let record = service.store.run_get(&quarantine.run).await?;
    let work = work(&record, quarantine)?;
    let stack = crate::steps::terraform::placed(service, &work, "recover").await?;
    if stack.directory.is_dir() {
        return Ok(stack);
    }
    let commit = work.source.as_deref().map_or("HEAD", |commit| commit.get(..12).unwrap_or(commit));
    let summary = format!("the directory of {} is gone, and terraform has to run in it", quarantine.instance);
    let help = format!("bring it back for this: git checkout {commit} -- {}", quarantine.instance.stack());
    Err(AppError::new(ErrorKind::Conflict, Diagnostic::error("WL657", summary).help(help)))
}

fn sentence(
    instance: &InstanceId,
    aftermath: &Aftermath,
    errored: bool,
    unread: Option<&str>,
    lock: Option<&BackendLock>,
) -> String {
    let names = |entries: &[Entry]| entries.iter().map(|e| e.address.as_str()).collect::<Vec<_>>().join(", ");
    let mut parts = Vec::new();
    if !aftermath.in_flight.is_empty() {
        parts.push(format!("{} was under way and may have happened", names(&aftermath.in_flight)));
    }
    if !aftermath.lost.is_empty() {
        parts.push(format!("{} was created and is in no state", names(&aftermath.lost)));
    }
    if errored {
        parts.push("terraform could not write the state and left errored.tfstate".into());
    }
    if let Some(why) = unread {
        parts.push(format!("the state cannot be read ({why})"));
    }
    if let Some(lock) = lock {
        parts.push(format!("the state is locked by {} since {}, which may be the dead apply", lock.who, lock.created));
    }
    format!("{instance} is quarantined: {}; see `windlass recover {instance}`", parts.join("; "))
}

/// A process that was killed could not put its plan back under seal. Those of other instances may be in use.
fn remove_opened(service: &Service, run: &RunId, instance: &InstanceId) {
    let plans = std::fs::read_dir(service.directory.run(run).join("plans")).into_iter().flatten().flatten();
    let prefix = format!("{}.", instance.file_name());
    for entry in plans {
        let name = entry.file_name().to_string_lossy().into_owned();
        let attempt = name.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(".tfplan.open"));
        if attempt.is_some_and(|attempt| attempt.parse::<u32>().is_ok()) {
            // All of the directory goes with the run at the latest.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// What terraform said after this process's predecessor died is in the files of the attempt: it is recorded now.
async fn ingest(service: &Service, cx: &StepContext, stack: &StackDirectory) -> AppResult<()> {
    let path = service.directory.output(&cx.run, &cx.step, cx.attempt, "out");
    let Ok(content) = std::fs::read(&path) else { return Ok(()) };
    let mut lines = Lines::default();
    let mut said: Vec<Vec<u8>> = lines.push(&content);
    said.extend(lines.rest());
    let facts: Vec<(String, serde_json::Value)> = said
        .iter()
        .filter_map(|line| fact(&parse(line)?, cx.attempt))
        .map(|(kind, data)| (kind.to_owned(), data))
        .collect();
    let mask = cx.mask().await;
    let said: Vec<String> = stack.said(&content).iter().map(|line| mask.text(line)).collect();
    cx.log(unlogged(service, cx, &said).await?.as_bytes()).await;
    let known = recorded(service, &cx.run, &cx.step, &ACTS).await?;
    let known = known.iter().filter(|e| e.data["attempt"] == cx.attempt).count();
    if facts.len() > known {
        cx.events(&facts[known..]).await?;
    }
    Ok(())
}

/// How much of the end of a log is looked at, bytes.
const TAIL: i64 = 1 << 20;

/// The lines that are not in the log yet, because who listened died.
async fn unlogged(service: &Service, cx: &StepContext, said: &[String]) -> AppResult<String> {
    let (store, run, step) = (&service.store, &cx.run, &cx.step);
    let from = (store.log_end(run, step).await? - TAIL).max(0);
    let chunks = store.log_read(run, step, from, u32::MAX).await?;
    let logged: Vec<u8> = chunks.into_iter().flat_map(|chunk| chunk.bytes).collect();
    Ok(rest(&String::from_utf8_lossy(&logged), said))
}

/// What of these lines comes after the end of a log that has them up to there; nothing where that cannot be told.
fn rest(logged: &str, said: &[String]) -> String {
    let logged: Vec<&str> = logged.split_inclusive('\n').collect();
    let ends_with =
        |count: &usize| !logged.is_empty() && said[..*count].iter().rev().zip(logged.iter().rev()).all(|(a, b)| a == b);
    let known = (1..=said.len()).rev().find(ends_with).unwrap_or(0);
    if known == 0 && said.first().is_some_and(|first| logged.contains(&first.as_str())) {
        return String::new();
    }
    said[known..].concat()
}

/// What terraform says about resources.
const ACTS: [&str; 5] = [event::STARTED, event::PROGRESS, event::APPLIED, event::FAILED, event::UNANSWERED];

/// Events of a step of these kinds, oldest first.
async fn recorded(service: &Service, run: &RunId, step: &StepId, kinds: &[&str]) -> AppResult<Vec<Event>> {
    let mut found = Vec::new();
    let mut after = 0;
    loop {
        let page = service.store.event_list(Some(run), after, 1000).await?;
        let Some(last) = page.last() else { return Ok(found) };
        after = last.id;
        let of_step = |e: &Event| e.step.as_deref() == Some(step.as_str());
        found.extend(page.into_iter().filter(|e| of_step(e) && kinds.contains(&e.kind.as_str())));
    }
}

/// What an attempt of a step was seen to do.
async fn entries(service: &Service, run: &RunId, step: &StepId, attempt: u32) -> AppResult<Vec<Entry>> {
    let events = recorded(service, run, step, &ACTS).await?;
    let of_attempt = events.iter().filter(|e| e.data["attempt"] == attempt);
    Ok(journal(of_attempt.map(|e| (e.kind.as_str(), &e.data))))
}

/// `errored.tfstate` is the only copy of a state that could not be written: it is kept where every machine finds it. Its artefact comes
/// back, or the path of the file where no artefact can be kept.
async fn keep_errored_state(
    service: &Service,
    cx: &StepContext,
    directory: &Path,
    instance: &InstanceId,
) -> AppResult<Option<String>> {
    let left = directory.join("errored.tfstate");
    let kept = service.directory.kept(instance).join(format!("{}.errored.tfstate", cx.run));
    let Some(found) = [&left, &kept].into_iter().find(|file| file.exists()) else {
        return Ok(errored_states(service, instance, &cx.run).await?.pop().map(|artefact| artefact.id));
    };
    let (run, number) = (cx.run.clone(), cx.attempt.into());
    let of = NewArtefact { kind: ArtefactKind::Errored, run, subject: instance.to_string(), number };
    if let Ok(id) = seal_errored_state(service, found, &of).await {
        // One that stays is found again, and is the same.
        let _ = std::fs::remove_file(found);
        return Ok(Some(id));
    }
    // When it cannot be moved it stays where terraform left it.
    let moved = std::fs::create_dir_all(service.directory.kept(instance)).and_then(|()| std::fs::rename(found, &kept));
    Ok(Some(if moved.is_ok() { &kept } else { found }.display().to_string()))
}

async fn seal_errored_state(service: &Service, file: &Path, of: &NewArtefact) -> AppResult<String> {
    let state = std::fs::read(file).map_err(|error| crate::settings::disk(file, &error))?;
    let sealed = plan_file::seal(&state, &service.key, &of.to_string()).map_err(crate::error::internal)?;
    Ok(service.store.artefact_put(of, sealed).await?)
}

/// States that a run could not write and nobody has pushed, oldest first.
async fn errored_states(service: &Service, instance: &InstanceId, run: &RunId) -> AppResult<Vec<Artefact>> {
    let mut kept = service.store.artefact_list(ArtefactKind::Errored, Some(run), Some(instance.as_str())).await?;
    kept.retain(|artefact| artefact.note.is_none());
    kept.sort_by_key(|artefact| (artefact.of.number, artefact.at));
    Ok(kept)
}

/// All quarantined instances.
pub async fn quarantine_list(service: &Service) -> AppResult<Vec<Quarantine>> {
    let rows = service.store.kv_list(SCOPE).await?;
    rows.into_iter().map(|(_, text)| serde_json::from_str(&text).map_err(crate::error::internal)).collect()
}

pub async fn quarantine_get(service: &Service, instance: &InstanceId) -> AppResult<Option<Quarantine>> {
    let found = service.store.kv_get(SCOPE, instance.as_str()).await?;
    found.map(|text| serde_json::from_str(&text).map_err(crate::error::internal)).transpose()
}

/// Whether somebody has yet to look at what became of an instance.
pub(crate) async fn is_quarantined(store: &Store, instance: &str) -> AppResult<bool> {
    Ok(store.kv_get(SCOPE, instance).await?.is_some())
}

/// Refuses when any of the instances is quarantined.
pub async fn refuse_quarantined<'a>(
    service: &Service,
    instances: impl Iterator<Item = &'a InstanceId>,
) -> AppResult<()> {
    let quarantined = quarantine_list(service).await?;
    let diagnostics: Vec<Diagnostic> = instances
        .filter_map(|instance| quarantined.iter().find(|q| q.instance == *instance))
        .map(|q| {
            Diagnostic::error("WL650", q.reason.clone())
                .help(format!("look with `windlass recover {}`, which says what to do", q.instance))
        })
        .collect();
    if diagnostics.is_empty() { Ok(()) } else { Err(AppError::many(ErrorKind::Conflict, diagnostics)) }
}

/// Lifts a quarantine; `why` is recorded.
pub async fn release(service: &Service, instance: &InstanceId, why: &str) -> AppResult<Quarantine> {
    let quarantine = get(service, instance).await?;
    service.store.kv_remove(SCOPE, instance.as_str()).await?;
    let data = serde_json::json!({ "run": quarantine.run, "step": quarantine.step });
    let (subject, actor) = (format!("stack {instance}"), service.actor.to_string());
    service.store.event_tell("stack.released", &subject, data, &actor, Some(why)).await?;
    Ok(quarantine)
}

/// The quarantine of an instance, or that there is none.
pub async fn get(service: &Service, instance: &InstanceId) -> AppResult<Quarantine> {
    quarantine_get(service, instance).await?.ok_or_else(|| {
        let diagnostic = Diagnostic::error("WL653", format!("{instance} is not quarantined"))
            .help("`windlass recover` lists what is");
        AppError::new(ErrorKind::NotFound, diagnostic)
    })
}

/// Pushes the state that terraform could not write, and keeps it no longer; what is left of the quarantine comes back. terraform itself
/// refuses a state that does not follow the present one.
///
/// # Errors
/// No such state was kept, it cannot be read here, or terraform refuses it.
pub async fn push(service: &Service, instance: &InstanceId) -> AppResult<Quarantine> {
    let quarantine = get(service, instance).await?;
    let refuse = |summary: String| AppError::new(ErrorKind::NotFound, Diagnostic::error("WL654", summary));
    let Some(kept) = quarantine.errored_state.clone() else {
        return Err(refuse(format!("no errored.tfstate of {instance} was kept")));
    };
    let file = if kept.starts_with('/') {
        PathBuf::from(&kept)
    } else {
        let opened = service.directory.kept(instance).join(format!("{}.opened.tfstate", quarantine.run));
        open_errored_state(service, &kept, &opened).await?;
        opened
    };
    if !file.exists() {
        return Err(refuse(format!("{kept} is not on this machine: the apply was on another, or it is gone")));
    }
    let pushed = push_file(service, &quarantine, &file).await;
    if pushed.is_ok() || file.as_path() != Path::new(&kept) {
        // It holds secrets in the clear; another push writes it anew.
        let _ = std::fs::remove_file(&file);
    }
    pushed?;
    let data = serde_json::json!({ "run": quarantine.run, "step": quarantine.step });
    let (subject, actor) = (format!("stack {instance}"), service.actor.to_string());
    service.store.event_tell("state.pushed", &subject, data, &actor, None).await?;
    for artefact in errored_states(service, instance, &quarantine.run).await? {
        service.store.artefact_remove(&artefact, Some(&format!("It was pushed by {actor}"))).await?;
    }
    let quarantine = Quarantine { errored_state: None, ..quarantine };
    put(service, &quarantine).await?;
    Ok(quarantine)
}

/// Writes a kept state to a file that only this user can read.
async fn open_errored_state(service: &Service, artefact: &str, to: &Path) -> AppResult<()> {
    let found = service.store.artefact_get(artefact).await?;
    let found = found.ok_or_else(|| crate::error::internal("a state that could not be written is not on record"))?;
    let sealed = service.store.artefact_read(artefact).await?;
    let state = plan_file::open(&sealed, &service.key, &found.of.to_string()).map_err(|error| {
        AppError::new(
            ErrorKind::Refused,
            Diagnostic::error("WL652", format!("the {} cannot be opened: {error}", found.of)),
        )
    })?;
    let write = || -> std::io::Result<()> {
        if let Some(parent) = to.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600).open(to)?.write_all(&state)
    };
    write().map_err(|error| crate::settings::disk(to, &error))
}

async fn push_file(service: &Service, quarantine: &Quarantine, file: &Path) -> AppResult<()> {
    let stack = quarantined_stack(service, quarantine).await?;
    let cancel = tokio_util::sync::CancellationToken::new();
    // On a machine that has not run anything of it, terraform does not know its backend yet.
    if let Some(init) = stack.init(&cancel, &mut Silent).await.map_err(|e| driver_error(&e))?
        && !init.success
    {
        return Err(AppError::many(ErrorKind::Unavailable, init.diagnostics));
    }
    let pushed = stack.state_push(file, &cancel, &mut Silent).await.map_err(|e| driver_error(&e))?;
    pushed.map_err(|diagnostics| AppError::many(ErrorKind::Refused, diagnostics))
}

/// A command that belongs to no step.
pub struct Silent;

impl windlass_drivers::terraform::Sink for Silent {
    async fn started(&mut self, _: u32) -> Result<(), String> {
        Ok(())
    }
    async fn log(&mut self, _: &[u8]) {}
    async fn event(&mut self, _: &windlass_drivers::terraform::events::Event) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_log_lacks_is_what_comes_after_its_end() {
        let said = ["one\n", "two\n", "two\n", "three\n"].map(str::to_owned);
        let check = |logged: &str, wanted: &str| assert_eq!(rest(logged, &said), wanted, "{logged:?}");
        check("", "one\ntwo\ntwo\nthree\n");
        check("planned before\n", "one\ntwo\ntwo\nthree\n");
        check("planned before\none\n", "two\ntwo\nthree\n");
        check("one\ntwo\n", "two\nthree\n");
        check("one\ntwo\ntwo\n", "three\n");
        check("one\ntwo\ntwo\nthree\n", "");
        // Something was said in between, or since.
        check("one\nsomething else\n", "");
        check("one\ntwo\ntwo\nthree\nand asked the world\n", "");
        // Only the end of it was looked at.
        check("two\ntwo\n", "three\n");
    }
}
