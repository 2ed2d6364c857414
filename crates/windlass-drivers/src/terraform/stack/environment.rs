//! What commands of a stack are given of this process and this machine.

use super::{StackDirectory, TerraformError};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Variables that children get from this process: what languages and proxies need.
const INHERITED: [&str; 8] =
    ["LANG", "LC_ALL", "TZ", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "https_proxy", "no_proxy"];
/// Those that mean something in this machine only: what finding programs, homes and certificates needs.
const OF_THE_MACHINE: [&str; 7] = ["PATH", "HOME", "USER", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "SSH_AUTH_SOCK"];

impl StackDirectory {
    /// All of the environment of a command.
    pub(super) fn environment(&self, command: &str) -> BTreeMap<OsString, OsString> {
        let here = self.place.is_here();
        let inherited = INHERITED.iter().chain(OF_THE_MACHINE.iter().filter(|_| here));
        let mut environment: BTreeMap<OsString, OsString> = inherited
            .map(|name| (*name).to_owned())
            .chain(self.env.iter().cloned())
            .filter_map(|name| Some((OsString::from(&name), std::env::var_os(&name)?)))
            .collect();
        let mut set = |name: &str, value: OsString| environment.insert(name.into(), value);
        if !here {
            set("HOME", self.home().into());
        }
        set("TF_IN_AUTOMATION", "1".into());
        set("TF_INPUT", "0".into());
        set("CHECKPOINT_DISABLE", "1".into());
        set("TF_DATA_DIR", self.data.clone().into());
        set("TF_CLI_CONFIG_FILE", self.cli.file(&self.tool.name, &self.data).into());
        set("WINDLASS_TOKEN", self.token.clone().into());
        // Short-lived processes spend a fifth of their time collecting garbage; the limit keeps large states in bounds.
        set("GOGC", "400".into());
        set("GOMEMLIMIT", "1GiB".into());
        let hosted = matches!(self.backend.as_str(), "remote" | "cloud");
        if self.workspace != "default" && (command != "init" || hosted) {
            set("TF_WORKSPACE", self.workspace.clone().into());
        }
        for (name, value) in &self.variables {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            set(&format!("TF_VAR_{name}"), text.into());
        }
        environment
    }

    /// A home that is there wherever commands run.
    fn home(&self) -> PathBuf {
        self.data.join("home")
    }

    /// What a command may touch, where it runs elsewhere.
    pub(super) fn reachable(&self) -> Result<Vec<PathBuf>, TerraformError> {
        if self.place.is_here() {
            return Ok(Vec::new());
        }
        let mut reach = vec![self.root.clone(), self.data.clone()];
        let mirror = self.mirror.as_ref().map(|mirror| mirror.root().to_owned());
        for made in [Some(self.home()), mirror].into_iter().flatten() {
            std::fs::create_dir_all(&made).map_err(|source| TerraformError::Io { path: made.clone(), source })?;
            reach.push(made);
        }
        reach.push(self.cli.file(&self.tool.name, &self.data));
        reach.extend(self.cli.implied(&self.tool.name, &self.directory));
        reach.extend(self.reach.iter().cloned());
        reach.retain(|path| path != Path::new("/dev/null"));
        Ok(reach)
    }
}
