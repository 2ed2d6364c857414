//! Files that steps of operations left, as whoever may see their run finds and reads them. Their names are what steps wrote: they
//! are compared with names on record, and are no paths of this machine.

use crate::error::{AppError, AppResult, ErrorKind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use windlass_model::Micros;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::id::{RunId, StepId};
use windlass_model::run::RunRecord;
use windlass_store::{Artefact, ArtefactKind, Store};

/// A file that a step left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunArtefact {
    /// 64 hexadecimal digits.
    pub id: String,
    pub step: StepId,
    /// Its path, relative to the directory of the step.
    pub name: String,
    /// From 1.
    pub attempt: u32,
    /// Bytes.
    pub size: u64,
    /// When it was kept, microseconds since 1970, UTC.
    pub at: Micros,
    /// Why it is not there any more; `null` while it is.
    pub removed: Option<String>,
}

impl RunArtefact {
    fn of(artefact: Artefact, steps: &BTreeSet<&str>) -> Self {
        let (step, name) = split(&artefact.of.subject, steps);
        Self {
            step: StepId::new(step),
            name: name.to_owned(),
            id: artefact.id,
            attempt: u32::try_from(artefact.of.number).unwrap_or_default(),
            size: u64::try_from(artefact.size).unwrap_or_default(),
            at: artefact.at,
            removed: artefact.note,
        }
    }

    /// How it is asked for: `STEP/NAME`.
    pub fn path(&self) -> String {
        format!("{}/{}", self.step, self.name)
    }
}

/// The step and the name of the file. Ids of steps and names of files have slashes: it is the longest id that the run has.
fn split<'a>(subject: &'a str, steps: &BTreeSet<&str>) -> (&'a str, &'a str) {
    let mut cuts = subject.rmatch_indices('/').map(|(at, _)| (&subject[..at], &subject[at + 1..]));
    cuts.find(|(step, _)| steps.contains(step)).or_else(|| subject.split_once('/')).unwrap_or((subject, ""))
}

/// The steps that these may be of, whether the run was made with them or they were added.
async fn steps(store: &Store, run: &RunId, found: &[Artefact]) -> AppResult<Vec<StepId>> {
    let cuts = |subject: &str| -> Vec<StepId> {
        subject.match_indices('/').map(|(at, _)| StepId::new(&subject[..at])).collect()
    };
    let some: BTreeSet<StepId> = found.iter().flat_map(|artefact| cuts(&artefact.of.subject)).collect();
    let some: Vec<StepId> = some.into_iter().collect();
    Ok(store.step_some(run, &some).await?.into_iter().map(|step| step.record.id).collect())
}

/// What the steps of a run left, also what was removed by age, by step and name: from the one after the id `after` on, at most `limit`.
///
/// # Errors
/// The database cannot be read.
pub async fn artefact_list(
    store: &Store,
    record: &RunRecord,
    after: Option<&str>,
    limit: u32,
) -> AppResult<Vec<RunArtefact>> {
    let found = store.artefact_page(ArtefactKind::File, &record.id, after, limit).await?;
    let steps = steps(store, &record.id, &found).await?;
    let steps = steps.iter().map(|step| step.as_str()).collect();
    Ok(found.into_iter().map(|artefact| RunArtefact::of(artefact, &steps)).collect())
}

/// A file and what is in it, by its id or by `STEP/NAME` (that of the last attempt). It is read whole, since that is how it is
/// verified; steps keep files of 16 MiB at most.
///
/// # Errors
/// There is none of that name (WL760), it was removed, is not where it was kept, or was changed there (WL890 and on).
pub async fn artefact_read(store: &Store, record: &RunRecord, name: &str) -> AppResult<(RunArtefact, Vec<u8>)> {
    let Some(found) = store.artefact_find(ArtefactKind::File, &record.id, name).await? else {
        let summary = format!("the steps of run {} left nothing that is called `{name}`", record.id);
        let help = format!("`windlass artefacts {}` lists what they left, as STEP/NAME", record.id);
        return Err(AppError::new(ErrorKind::NotFound, Diagnostic::error("WL760", summary).help(help)));
    };
    let steps = steps(store, &record.id, std::slice::from_ref(&found)).await?;
    let found = RunArtefact::of(found, &steps.iter().map(|step| step.as_str()).collect());
    if let Some(why) = &found.removed {
        let summary = format!("`{}` of run {} is not there any more: {why}", found.path(), record.id);
        return Err(AppError::new(ErrorKind::NotFound, Diagnostic::error("WL890", summary)));
    }
    let content = store.artefact_read(&found.id).await?;
    Ok((found, content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_begins_after_its_step() {
        let steps = BTreeSet::from(["dump", "member[a]/stop", "member[a/b]/stop"]);
        let check = |subject: &str, want: (&str, &str)| assert_eq!(split(subject, &steps), want, "{subject}");
        check("dump/x.log", ("dump", "x.log"));
        check("dump/out/x.log", ("dump", "out/x.log"));
        check("member[a]/stop/out/x.log", ("member[a]/stop", "out/x.log"));
        check("member[a/b]/stop/x.log", ("member[a/b]/stop", "x.log"));
        check("dump/../../x", ("dump", "../../x"));
        // Of a step that the run does not know any more.
        check("gone/out/x", ("gone", "out/x"));
    }
}
