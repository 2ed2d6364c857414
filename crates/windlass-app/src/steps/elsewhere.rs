//! Steps whose programs run where they are no processes of ours: which tools are there, and what dead attempts left.

use crate::error::{AppError, AppResult, ErrorKind, internal};
use crate::service::Service;
use crate::settings::disk;
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use windlass_drivers::probe::Surroundings;
use windlass_drivers::process::{self, ProcessError, Token};
use windlass_drivers::terraform::{ToolBox, tools_in};
use windlass_engine::{Executor, Probe, StepContext, StepResult};
use windlass_model::operation::plan::OperationStep;
use windlass_model::place::{Job, Place};
use windlass_model::rollout::Gate;

/// terraform and tofu of a place, asked there once for each image.
pub async fn tools(service: &Service, place: &Place, token: &str) -> AppResult<Arc<ToolBox>> {
    let failed = |error: ProcessError| match error.diagnostic() {
        Some(diagnostic) => AppError::new(ErrorKind::Unavailable, diagnostic),
        None => super::terraform::driver_error(&error.into()),
    };
    let image = process::image(place).await.map_err(failed)?;
    let key = format!("{image} {}", serde_json::to_string(place).map_err(crate::error::internal)?);
    if let Some(known) = service.tools_get(&key) {
        return Ok(known);
    }
    let found = tools_in(place, &service.checkout.root, Token::parse(token)).await.map_err(failed)?;
    Ok(service.tools_put(key, found))
}

/// Has a gate that is no command asked from where programs run, by our own program. What is mounted can be written there, so it is a
/// copy; it goes with its libraries, which the image need not have.
///
/// # Errors
/// It cannot be copied.
pub async fn ask_there(service: &Service, around: &mut Surroundings, gate: &Gate) -> AppResult<()> {
    if !matches!(gate, Gate::Tcp { .. } | Gate::Http { .. }) || !around.asker.is_empty() {
        return Ok(());
    }
    match &around.place {
        Place::Here => {}
        // It sees no file of ours.
        Place::Job(Job { volume_claim: None, .. }) => around.asker = vec!["windlass".to_owned()],
        Place::Job(_) | Place::Container(_) => {
            let programs = service.directory.programs();
            let copying = tokio::task::spawn_blocking(move || copy(&programs).map_err(|error| disk(&programs, &error)));
            let copy = copying.await.map_err(internal)??;
            let at = |name: &str| copy.join(name).display().to_string();
            around.asker = match copy.join(PROGRAM).exists() {
                true => vec![at(LOADER), "--library-path".to_owned(), copy.display().to_string(), at(PROGRAM)],
                false => vec![at(LOADER)],
            };
            around.reach.push(copy);
        }
    }
    Ok(())
}

/// What is called: the program itself, or the loader of one that has libraries.
const LOADER: &str = "windlass";
const PROGRAM: &str = "program";

/// A directory with the program that runs, also when another version was put in its place.
fn copy(programs: &Path) -> std::io::Result<PathBuf> {
    let own = std::fs::File::open("/proc/self/exe")?.metadata()?;
    let programs = std::path::absolute(programs)?;
    let done = programs.join(format!("{}-{}", own.mtime(), own.len()));
    if done.is_dir() {
        return Ok(done);
    }
    std::fs::create_dir_all(&programs)?;
    let making = tempfile::Builder::new().prefix(".making-").tempdir_in(&programs)?;
    let add = |from: &Path, name: &str| std::fs::copy(from, making.path().join(name)).map(drop);
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let libraries: BTreeSet<&Path> = maps.lines().filter_map(library).collect();
    for library in &libraries {
        let name = library.file_name().unwrap_or_default().to_string_lossy();
        add(library, if name.starts_with("ld-") { LOADER } else { &name })?;
    }
    add(Path::new("/proc/self/exe"), if libraries.is_empty() { LOADER } else { PROGRAM })?;
    std::fs::set_permissions(making.path(), std::fs::Permissions::from_mode(0o755))?;
    match std::fs::rename(making.path(), &done) {
        // Somebody else was quicker.
        Err(error) if !done.is_dir() => return Err(error),
        _ => {}
    }
    for other in std::fs::read_dir(&programs)?.flatten().map(|entry| entry.path()) {
        let is_made = other.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b"."));
        if is_made && other != done {
            // Of another version, which makes it again where it still runs.
            let _ = std::fs::remove_dir_all(other);
        }
    }
    Ok(done)
}

/// The shared library in a line of `maps` (proc(5): the path is the sixth field).
fn library(line: &str) -> Option<&Path> {
    let path = &line[line.find('/')?..];
    let name = path.rsplit('/').next()?;
    (name.ends_with(".so") || name.contains(".so.")).then_some(Path::new(path))
}

/// Where the programs of a step run.
async fn place_of(service: &Service, run_input: &Value, input: &Value) -> AppResult<Place> {
    if let Some(step) = operation_step(input) {
        return super::operation::place_of(service, &super::input(run_input)?, &step).await;
    }
    let place = input.get("place").or_else(|| input.get("work")?.get("place"));
    Ok(place.and_then(|place| Place::deserialize(place).ok()).unwrap_or_default())
}

fn operation_step(input: &Value) -> Option<OperationStep> {
    input.get("path")?;
    OperationStep::deserialize(input).ok()
}

/// Whether something of a step lives elsewhere.
///
/// # Errors
/// It cannot be told now; why not.
pub async fn lives(service: &Service, cx: &StepContext) -> Result<bool, String> {
    let place = place_of(service, &cx.run_input, &cx.input).await.map_err(|error| error.to_string())?;
    match (place, Token::parse(&cx.token)) {
        (Place::Here, _) | (_, None) => Ok(false),
        (place, Some(token)) => process::lives(&place, &token).await.map_err(|error| error.to_string()),
    }
}

/// Ends what the attempts of a step of a run with this input left elsewhere.
///
/// # Errors
/// It may live on; why.
pub async fn end(
    service: &Service,
    run_input: &Value,
    input: &Value,
    token: &str,
    grace: Duration,
) -> Result<(), String> {
    let place = place_of(service, run_input, input).await.map_err(|error| error.to_string())?;
    match (place, Token::parse(token)) {
        (Place::Here, _) | (_, None) => Ok(()),
        (place, Some(token)) => process::end(&place, &token, grace).await.map_err(|error| error.to_string()),
    }
}

/// An executor, with what is known of its dead attempts.
pub struct Elsewhere(pub Arc<dyn Executor>, pub Arc<Service>);

#[async_trait]
impl Executor for Elsewhere {
    async fn execute(&self, cx: &StepContext) -> StepResult {
        self.0.execute(cx).await
    }

    async fn probe(&self, cx: &StepContext) -> Probe {
        self.0.probe(cx).await
    }

    async fn lives(&self, cx: &StepContext) -> Result<bool, String> {
        lives(&self.1, cx).await
    }

    async fn end(&self, cx: &StepContext, grace: Duration) -> Result<(), String> {
        end(&self.1, &cx.run_input, &cx.input, &cx.token, grace).await
    }
}
