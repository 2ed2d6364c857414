//! Files that steps of operations left.

use super::visible::why_not;
use super::{run_for, run_planned, run_subject};
use crate::caller::Caller;
use crate::error::{AppError, AppResult, ErrorKind};
use crate::installation::Installation;
use crate::run_artefacts::{self, RunArtefact};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use windlass_model::access::Permission;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::id::RunId;
use windlass_model::run::RunRecord;

/// What the steps of a run left, as [`run_artefacts::artefact_list`] has it.
///
/// # Errors
/// There is no such run that the caller may see.
pub async fn artefact_list(
    installation: &Installation,
    caller: &Caller,
    run: &RunId,
    after: Option<&str>,
    limit: u32,
) -> AppResult<Vec<RunArtefact>> {
    let record = run_planned(installation, caller, run).await?;
    run_artefacts::artefact_list(&installation.store(caller, &record.project), &record, after, limit).await
}

/// Why the caller may not read what is in the files that a run left, in one sentence; `None` where they may.
///
/// # Errors
/// The policies of access cannot be asked.
pub async fn artefact_why_not(
    installation: &Installation,
    caller: &Caller,
    record: &RunRecord,
) -> AppResult<Option<String>> {
    let subject = match run_subject(installation, record) {
        Ok(subject) => subject,
        // Then nothing can be read, and the page of the run says so beside all else.
        Err(error) => return Ok(Some(error.to_string())),
    };
    why_not(installation, caller, Permission::ArtefactRead, &subject).await
}

/// Files that one process reads and sends at once: each is in its memory until it is sent.
const AT_ONCE: usize = 16;
static PLACES: Semaphore = Semaphore::const_new(AT_ONCE);
/// How long somebody waits for a place.
const WAIT: Duration = Duration::from_secs(30);

/// A file that is being sent. It has its place among those until it is dropped.
#[derive(Debug)]
pub struct Opened {
    pub artefact: RunArtefact,
    pub content: Vec<u8>,
    pub place: SemaphorePermit<'static>,
}

/// A file by its id or by `STEP/NAME`.
///
/// # Errors
/// There is none that the caller may see, the caller may not read what is in it, too many are being sent (WL762), or as of
/// [`run_artefacts::artefact_read`].
pub async fn artefact_open(installation: &Installation, caller: &Caller, run: &RunId, name: &str) -> AppResult<Opened> {
    let record = run_for(installation, caller, run, Permission::ArtefactRead).await?;
    let store = installation.store(caller, &record.project);
    let Ok(Ok(place)) = tokio::time::timeout(WAIT, PLACES.acquire()).await else {
        let summary = format!("{AT_ONCE} artefacts are being sent, and none of them came to its end");
        let diagnostic = Diagnostic::error("WL762", summary).help("ask for it again in a moment");
        return Err(AppError::new(ErrorKind::Unavailable, diagnostic));
    };
    let (artefact, content) = run_artefacts::artefact_read(&store, &record, name).await?;
    Ok(Opened { artefact, content, place })
}
