//! Which lists of resources are sets, from `providers schema -json`: asked once for each lock file, and kept.

use super::{Quiet, Sink, StackDirectory};
use crate::terraform::cli_configuration::write_private;
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tokio_util::sync::CancellationToken;
use windlass_model::effect::{Effect, Sets};

/// It is part of terraform and has no sets.
const BUILT_IN: &str = "terraform.io/builtin/terraform";

impl StackDirectory {
    /// Notes in an effect which of its lists are sets. Nothing is run where no list differs, and where the schemas of this lock
    /// file are kept below `cache`. Where they cannot be had, the log says why and lists are shown in order.
    pub async fn mark_sets(&self, effect: &mut Effect, cache: &Path, cancel: &CancellationToken, sink: &mut impl Sink) {
        let wanted: BTreeSet<String> =
            effect.providers_with_lists().into_iter().filter(|p| *p != BUILT_IN).map(str::to_owned).collect();
        if wanted.is_empty() {
            return;
        }
        match self.sets(&wanted, cache, cancel, sink).await {
            Ok(sets) => effect.mark_sets(&sets),
            Err(why) => sink.log(format!("windlass: lists are shown in order: {why}\n").as_bytes()).await,
        }
    }

    /// The sets of these providers, as far as they have any.
    async fn sets(
        &self,
        wanted: &BTreeSet<String>,
        cache: &Path,
        cancel: &CancellationToken,
        sink: &mut impl Sink,
    ) -> Result<Sets, String> {
        let file = self.schema_file(cache);
        let known = |sets: &Sets| wanted.iter().all(|provider| sets.knows(provider));
        if let Some(sets) = kept(&file).filter(known) {
            return Ok(sets);
        }
        // The first of several that need it asks for all.
        let path = file.with_extension("lock");
        let lock = tokio::task::spawn_blocking(move || lock(&path));
        let _lock = tokio::select! {
            lock = lock => lock.map_err(|e| e.to_string())?.map_err(|e| format!("cannot write {}: {e}", file.display()))?,
            () = cancel.cancelled() => return Err("cancelled".into()),
        };
        let before = kept(&file).unwrap_or_default();
        if known(&before) {
            return Ok(before);
        }
        let arguments = ["providers".into(), "schema".into(), "-json".into()];
        let printed =
            self.invoke(&arguments, false, cancel, &mut Quiet(sink)).await.map_err(|error| error.to_string())?;
        if !printed.success {
            let first = printed.diagnostics.first().map(|d| d.summary.clone()).unwrap_or_default();
            return Err(format!("`{} providers schema` failed: {first}", self.tool.name));
        }
        let out = printed.out;
        // That of a large provider takes seconds to read.
        let read = tokio::task::spawn_blocking(move || Sets::from_schema(&out)).await;
        let mut sets = before.with(read.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?);
        // A provider that is in the state only may be missing; it is not asked for again.
        wanted.iter().for_each(|provider| sets.add(provider));
        let text = serde_json::to_string(&sets).map_err(|error| error.to_string())?;
        if let Err(error) = write_private(&file, &text) {
            sink.log(format!("windlass: cannot keep {}: {error}\n", file.display()).as_bytes()).await;
        }
        Ok(sets)
    }

    fn schema_file(&self, cache: &Path) -> PathBuf {
        let mut hash = Sha256::new_with_prefix(format!("1\0{}\0{}\0", self.tool.name, self.tool.version));
        hash.update(self.lock_file().unwrap_or_default());
        let digest: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        cache.join("schemas").join(format!("{digest}.json"))
    }
}

fn kept(file: &Path) -> Option<Sets> {
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}

fn lock(path: &Path) -> std::io::Result<Flock<std::fs::File>> {
    std::fs::create_dir_all(path.parent().unwrap_or(path))?;
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{plan_of, seen, stack};
    use super::*;

    /// With the real terraform, whose built-in provider stands for any other.
    #[tokio::test]
    async fn schemas_are_asked_for_once_for_each_lock_file() {
        let directory = tempfile::tempdir().unwrap();
        let stack = stack(&directory, &[("main.tf", "resource \"terraform_data\" \"x\" { input = [1, 2] }")]);
        let (cache, cancel, mut sink) = (stack.root.join("cache"), CancellationToken::new(), seen());
        let plan = plan_of(&stack, &mut sink).await;
        let started = sink.commands;
        let wanted = BTreeSet::from([BUILT_IN.to_owned(), "example.com/only/in-the-state".to_owned()]);
        let first = stack.sets(&wanted, &cache, &cancel, &mut sink).await.unwrap();
        assert!(first.knows(BUILT_IN) && sink.commands == started + 1, "{first:?}");
        assert_eq!(stack.sets(&wanted, &cache, &cancel, &mut sink).await.unwrap(), first);
        assert_eq!(sink.commands, started + 1);
        // Another lock file may stand for other versions.
        std::fs::write(stack.directory.join(".terraform.lock.hcl"), "# changed\n").unwrap();
        assert!(kept(&stack.schema_file(&cache)).is_none());
        // Of the built-in provider it is known.
        let mut effect = Effect::from_plan_json("a".into(), &plan.json, b"k").unwrap();
        stack.mark_sets(&mut effect, &cache, &cancel, &mut sink).await;
        assert_eq!(sink.commands, started + 1);
        assert!(!sink.log.contains("schema"), "{}", sink.log);
    }

    #[tokio::test]
    async fn without_a_schema_lists_are_shown_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let stack = stack(&directory, &[("main.tf", "this is no configuration")]);
        let change = serde_json::json!({"actions": ["update"], "before": {"l": [1]}, "after": {"l": [2]}});
        let plan = serde_json::json!({"format_version": "1.2", "resource_changes": [
            {"address": "t.x", "type": "t", "provider_name": "example.com/a/b", "change": change}]});
        let mut effect = Effect::from_plan_json("a".into(), &plan, b"k").unwrap();
        let (before, mut sink) = (effect.clone(), seen());
        stack.mark_sets(&mut effect, &stack.root.join("cache"), &CancellationToken::new(), &mut sink).await;
        assert_eq!(effect, before);
        assert!(sink.log.contains("lists are shown in order: `terraform providers schema` failed"), "{}", sink.log);
    }
}
