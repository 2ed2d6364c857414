//! `init` out of the mirror of providers.

use super::{Invocation, Sink, StackDirectory, TerraformError};
use crate::terraform::cli_configuration::write_private;
use crate::terraform::lock_file::{self, Locked};
use crate::terraform::mirror::{Mirror, MirrorError, configuration_of, directories};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use windlass_model::diagnostic::Diagnostic;

/// How long an interrupted download may take to stop.
const FETCH_GRACE: Duration = Duration::from_secs(2);

/// What became of a provider that a lock file names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Provided {
    /// It lay in the mirror.
    There,
    /// It lies there now; `bytes` is the size of its archive.
    Fetched {
        bytes: u64,
    },
    /// Terraform gets it by itself; why.
    Elsewhere(String),
    /// Where it comes from could not be asked, or does not have it; why.
    Missing(String),
    Cancelled,
}

impl StackDirectory {
    /// `init` with `arguments`: out of the mirror, where there is one and the lock file allows it; without it otherwise. When a
    /// package turns out to be damaged it is fetched anew, once.
    ///
    /// # Errors
    /// The command could not be run.
    pub(super) async fn init_with_mirror(
        &self,
        arguments: &[OsString],
        cancel: &CancellationToken,
        sink: &mut impl Sink,
    ) -> Result<Invocation, TerraformError> {
        let first = self.init_once(arguments, cancel, sink).await?;
        if first.damaged { Ok(self.init_once(arguments, cancel, sink).await?.result) } else { Ok(first.result) }
    }

    async fn init_once(
        &self,
        arguments: &[OsString],
        cancel: &CancellationToken,
        sink: &mut impl Sink,
    ) -> Result<Init, TerraformError> {
        remove_dangling(&self.data.join("providers"));
        let plain = |result| Ok(Init { result, damaged: false });
        let locked = self.lock_file().map(|text| lock_file::parse(&String::from_utf8_lossy(&text))).unwrap_or_default();
        let Some(mirror) = self.mirror.clone().filter(|_| !locked.is_empty()) else {
            return plain(self.invoke_again(arguments, false, cancel, sink).await?);
        };
        if let Err(why) = self.cli.may_add(&self.tool.name) {
            note(sink, &format!("the mirror of providers is not used: {why}")).await;
            return plain(self.invoke_again(arguments, false, cancel, sink).await?);
        }
        let mut mirrored: Vec<&Locked> = Vec::new();
        for provider in &locked {
            match self.provide_into(&mirror, provider, cancel, sink).await {
                Ok(Provided::There | Provided::Fetched { .. }) => mirrored.push(provider),
                Ok(Provided::Elsewhere(why) | Provided::Missing(why)) => {
                    note(sink, &format!("{} {} is not mirrored: {why}", provider.address, provider.version)).await;
                }
                Ok(Provided::Cancelled) => return plain(ended(true, None)),
                Err(error) if error.diagnostic().is_some() => return plain(ended(false, error.diagnostic())),
                Err(error) => note(sink, &error.to_string()).await,
            }
        }
        if mirrored.is_empty() {
            return plain(self.invoke_again(arguments, false, cancel, sink).await?);
        }
        let addresses: Vec<String> = mirrored.iter().map(|locked| locked.address.clone()).collect();
        let text = self.cli.with_mirror(&self.tool.name, &self.directory, &mirror.packages(), &addresses);
        let file = self.data.join("windlass.tfrc");
        let written = match text {
            Ok(text) => write_private(&file, &text).map_err(|error| error.to_string()),
            Err(why) => Err(why.to_string()),
        };
        if let Err(why) = written {
            note(sink, &format!("the mirror of providers is not used: {why}")).await;
            return plain(self.invoke_again(arguments, false, cancel, sink).await?);
        }
        let with_mirror = Self { cli: self.cli.replaced_by(file.clone()), ..self.clone() };
        let result = with_mirror.invoke_again(arguments, false, cancel, sink).await;
        // It repeats the user's credentials, and is written anew for the next init.
        let _ = std::fs::remove_file(file);
        let result = result?;
        let of_provider = result.diagnostics.iter().any(|diagnostic| diagnostic.code == "WL506");
        if result.success || result.cancelled || !of_provider {
            return plain(result);
        }
        let mut damaged = false;
        for locked in mirrored {
            let (mirror, owned) = (mirror.clone(), locked.clone());
            // Another stack may have been quicker to notice.
            damaged |= mirror.hash(&owned).is_none();
            let looked = blocking(move || mirror.drop_if_damaged(&owned)).await;
            if looked.unwrap_or(false) {
                damaged = true;
                note(sink, &format!("{} {} was damaged in the mirror and is removed", locked.address, locked.version))
                    .await;
            }
        }
        Ok(Init { result, damaged })
    }

    /// Lets `init` write the lock file anew, with what the configuration wants and it does not have yet. Neither the backend nor
    /// what an earlier init left is touched: `data` is used instead, a directory of its own.
    ///
    /// # Errors
    /// The command could not be run. What terraform itself says is in the result.
    pub async fn renew_lock_file(
        &self,
        data: PathBuf,
        cancel: &CancellationToken,
        sink: &mut impl Sink,
    ) -> Result<Invocation, TerraformError> {
        let arguments = ["init", "-backend=false", "-input=false", "-no-color"].map(OsString::from);
        Self { data, ..self.clone() }.invoke_again(&arguments, false, cancel, sink).await
    }

    /// Fetches a provider that this stack's lock file names into the mirror, unless it is there. Transient errors are tried again.
    ///
    /// # Errors
    /// [`MirrorError::Mismatch`] when the lock file does not allow what came; the disk.
    pub async fn provide(
        &self,
        locked: &Locked,
        cancel: &CancellationToken,
        sink: &mut impl Sink,
    ) -> Result<Provided, MirrorError> {
        let Some(mirror) = self.mirror.clone() else { return Ok(Provided::Elsewhere("there is no mirror".into())) };
        if let Err(why) = self.cli.may_add(&self.tool.name) {
            return Ok(Provided::Elsewhere(why.to_string()));
        }
        self.provide_into(&mirror, locked, cancel, sink).await
    }

    /// Makes sure that the mirror has a provider that the lock file allows.
    async fn provide_into(
        &self,
        mirror: &Mirror,
        locked: &Locked,
        cancel: &CancellationToken,
        sink: &mut impl Sink,
    ) -> Result<Provided, MirrorError> {
        // `init` checks the unpacked package, so it is this checksum that has to be there.
        let unlocked = || {
            let platform = mirror.platform();
            let hint = format!("`{} providers lock -platform={platform}` adds it", self.tool.name);
            Ok(Provided::Elsewhere(format!("the lock file has no h1 checksum for {platform}; {hint}")))
        };
        let judged = |hash: &str, how: Provided| if locked.allows(hash) { Ok(how) } else { unlocked() };
        if !locked.hashes.iter().any(|hash| hash.starts_with("h1:")) {
            return unlocked();
        }
        if self.cli.has_locally(&self.tool.name, &self.directory, &locked.address) {
            return Ok(Provided::Elsewhere("it lies in a local plugin directory".into()));
        }
        if let Some(hash) = mirror.hash(locked) {
            return judged(&hash, Provided::There);
        }
        let (waiting, provider) = (mirror.clone(), locked.clone());
        let _lock = tokio::select! {
            lock = blocking(move || waiting.lock(&provider)) => lock?,
            () = cancel.cancelled() => return Ok(Provided::Cancelled),
        };
        if let Some(hash) = mirror.hash(locked) {
            return judged(&hash, Provided::There);
        }
        let filling = mirror.filling()?;
        let (directory, fetched) = (filling.path().join("configuration"), filling.path().join("fetched"));
        let io = |source| MirrorError::Io { path: directory.clone(), source };
        std::fs::create_dir_all(&directory).map_err(io)?;
        std::fs::write(directory.join("main.tf"), configuration_of(locked)).map_err(io)?;
        std::fs::write(directory.join(".terraform.lock.hcl"), locked.text()).map_err(io)?;
        note(sink, &format!("fetching {} {} into the mirror", locked.address, locked.version)).await;
        let fetch = Self {
            root: directory.clone(),
            directory: directory.clone(),
            modules: Vec::new(),
            data: filling.path().join("data"),
            workspace: "default".into(),
            backend: "local".into(),
            var_files: Vec::new(),
            variables: BTreeMap::new(),
            backend_config: BTreeMap::new(),
            mirror: None,
            // A download has nothing to lose, and terraform does not give one up by itself.
            grace: self.grace.min(FETCH_GRACE),
            ..self.clone()
        };
        let arguments: [OsString; 5] = [
            "providers".into(),
            "mirror".into(),
            "-no-color".into(),
            format!("-platform={}", mirror.platform()).into(),
            fetched.clone().into(),
        ];
        match fetch.invoke_again(&arguments, false, cancel, sink).await {
            Ok(result) if result.cancelled => return Ok(Provided::Cancelled),
            Ok(result) if result.success => {}
            Ok(result) => {
                let said = result.diagnostics.first().map(|d| {
                    let detail: Vec<&str> = d.detail.split_whitespace().collect();
                    format!(": {}. {}", d.summary, detail.join(" "))
                });
                let said = said.unwrap_or_default();
                return Ok(Provided::Missing(format!("it could not be fetched from its registry{said}")));
            }
            Err(error) => return Ok(Provided::Missing(error.to_string())),
        }
        let (taking, provider) = (mirror.clone(), locked.clone());
        let taken = blocking(move || taking.take_in(&provider, &filling, &fetched)).await?;
        judged(&taken.hash, Provided::Fetched { bytes: taken.bytes })
    }
}

/// What one init came to, and whether a package in the mirror was to blame, which is gone then.
struct Init {
    result: Invocation,
    damaged: bool,
}

/// Links to packages that are gone: terraform would make a directory in such a place, and cannot.
fn remove_dangling(providers: &Path) {
    for link in directories(providers, 5).iter().filter(|path| path.is_symlink() && !path.exists()) {
        // One that stays is an error of terraform's that says so.
        let _ = std::fs::remove_file(link);
    }
}

async fn note(sink: &mut impl Sink, text: &str) {
    sink.log(format!("windlass: {text}\n").as_bytes()).await;
}

/// An init that did not run.
fn ended(cancelled: bool, diagnostic: Option<Diagnostic>) -> Invocation {
    Invocation {
        success: false,
        code: None,
        cancelled,
        peak_kib: 0,
        out: Vec::new(),
        err: String::new(),
        diagnostics: diagnostic.into_iter().collect(),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}
