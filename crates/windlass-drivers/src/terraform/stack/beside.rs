//! `init` beside states that it must not see.

use super::{Invocation, Sink, StackDirectory, TerraformError};
use crate::terraform::preview;
use std::collections::BTreeMap;
use std::ffi::OsString;
use tokio_util::sync::CancellationToken;

const LOCK_FILE: &str = ".terraform.lock.hcl";

impl StackDirectory {
    /// `init` with `arguments`, where it does not see states that lie in the directory.
    ///
    /// # Errors
    /// The command could not be run, or the copy not be made.
    pub(super) async fn init_beside_states(
        &self,
        arguments: &[OsString],
        cancel: &CancellationToken,
        sink: &mut impl Sink,
    ) -> Result<Invocation, TerraformError> {
        let Some(hidden) = self.without_states() else { return self.init_with_mirror(arguments, cancel, sink).await };
        let hidden = hidden.map_err(|source| TerraformError::Io { path: self.data.clone(), source })?;
        let result = hidden.init_with_mirror(arguments, cancel, sink).await?;
        let (made, own) = (hidden.directory.join(LOCK_FILE), self.directory.join(LOCK_FILE));
        // The first lock file of a stack belongs beside its configuration: `plan` looks for it there.
        if result.success && !own.exists() && made.exists() {
            std::fs::copy(made, &own).map_err(|source| TerraformError::Io { path: own, source })?;
        }
        Ok(result)
    }

    /// With a `local` backend, init takes states that lie in the directory for ones of before the backend was configured and
    /// wants to migrate them. It is run beside them then: a copy of the directory that has everything but its states.
    fn without_states(&self) -> Option<std::io::Result<Self>> {
        let states = ["terraform.tfstate", "terraform.tfstate.d"];
        if self.backend != "local" || !states.iter().any(|name| self.directory.join(name).exists()) {
            return None;
        }
        let relative = self.directory.strip_prefix(&self.root).ok()?.to_string_lossy().into_owned();
        let hide = || {
            let directory = preview::prepare(&self.root, &self.data.join("init"), &[relative], &BTreeMap::new())?;
            for name in states {
                let link = directory.join(name);
                if link.is_symlink() {
                    std::fs::remove_file(link)?;
                }
            }
            Ok(Self { directory, ..self.clone() })
        };
        Some(hide())
    }
}
