//! Where the programs of a step run: in the process's machine, in a container, or as a Kubernetes Job.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where programs run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// In the machine of the process that starts them.
    #[default]
    Here,
    Container(Container),
    Job(Job),
}

impl Place {
    pub fn is_here(&self) -> bool {
        *self == Self::Here
    }
}

/// `container { image = "…"  user = "1000:1000"  network = "host"  memory = "512MiB"  cpu = "1.5"  mounts = ["/host:/in:ro"] }`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    pub image: String,
    /// `uid:gid` or a name that the image knows; `None`: those of the process that starts it.
    pub user: Option<String>,
    /// As the engine names networks (`host`, `none`, `bridge` or one's own); `None`: the engine's default.
    pub network: Option<String>,
    /// At most this much memory, MiB.
    pub memory_mib: Option<u32>,
    /// At most this much of a processor, thousandths of one.
    pub cpu_milli: Option<u32>,
    /// Variables beside those that the step declares; they go before them.
    pub environment: BTreeMap<String, String>,
    /// `/host:/in` or `/host:/in:ro`, beside the directories that a step always has.
    pub mounts: Vec<String>,
    pub pull: Pull,
}

/// When an image is fetched from its registry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pull {
    /// When the machine does not have it.
    #[default]
    Missing,
    /// Before every program.
    Always,
    /// It has to be there.
    Never,
}

impl Pull {
    pub const ALL: [Self; 3] = [Self::Missing, Self::Always, Self::Never];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Always => "always",
            Self::Never => "never",
        }
    }

    /// The one of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|pull| pull.as_str() == text)
    }
}

/// `job { image = "…"  namespace = "ops"  service_account = "windlass"  memory = "1GiB"  cpu = "2"  volume_claim = "data" }`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    pub image: String,
    /// `None`: that of the process's own service account or context.
    pub namespace: Option<String>,
    pub service_account: Option<String>,
    /// Requested and at most, MiB.
    pub memory_mib: Option<u32>,
    /// Requested and at most, thousandths of a processor.
    pub cpu_milli: Option<u32>,
    /// Variables beside those that the step declares; they go before them.
    pub environment: BTreeMap<String, String>,
    /// The claim whose volume holds the data directory and the work tree, mounted at the same paths.
    pub volume_claim: Option<String>,
    pub node_selector: BTreeMap<String, String>,
}

/// What `/host:/in[:ro]` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindMount<'a> {
    pub host: &'a str,
    pub inside: &'a str,
    pub read_only: bool,
}

/// Reads `/host:/in`, `/host:/in:ro` and `/host:/in:rw`; `None` when it is not of that form, with absolute paths.
pub fn mount(text: &str) -> Option<BindMount<'_>> {
    let mut parts = text.split(':');
    let (host, inside) = (parts.next()?, parts.next()?);
    let read_only = match (parts.next(), parts.next()) {
        (None | Some("rw"), None) => false,
        (Some("ro"), None) => true,
        _ => return None,
    };
    (host.starts_with('/') && inside.starts_with('/')).then_some(BindMount { host, inside, read_only })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read() {
        let check = |text: &str, want: Option<(&str, &str, bool)>| {
            assert_eq!(mount(text).map(|m| (m.host, m.inside, m.read_only)), want, "{text}");
        };
        check("/a:/b", Some(("/a", "/b", false)));
        check("/a:/b:ro", Some(("/a", "/b", true)));
        check("/a:/b:rw", Some(("/a", "/b", false)));
        for wrong in ["", "/a", "a:/b", "/a:b", "/a:/b:z", "/a:/b:ro:ro", "/a:"] {
            check(wrong, None);
        }
    }
}
