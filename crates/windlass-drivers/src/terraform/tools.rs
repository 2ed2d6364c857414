//! Which terraform or tofu runs a stack.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use windlass_model::diagnostic::Diagnostic;
use windlass_model::stack::Tool;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolBinary {
    pub path: PathBuf,
    /// `terraform` or `tofu`.
    pub name: String,
    pub version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ToolError {
    #[error("neither terraform nor tofu is on the PATH")]
    Missing,
    #[error("{0} is not on the PATH, and this stack needs it")]
    MissingOne(&'static str),
    #[error("this stack requires version {required}, but there is {found}")]
    Version { required: String, found: String },
    #[error("`{0}` is no version constraint")]
    Constraint(String),
}

impl ToolError {
    pub fn diagnostic(&self) -> Diagnostic {
        let (code, help) = match self {
            Self::Missing => (
                "WL501",
                "install OpenTofu (https://opentofu.org/docs/intro/install) or Terraform, and put it on the PATH",
            ),
            Self::MissingOne("tofu") => (
                "WL501",
                "install OpenTofu (https://opentofu.org/docs/intro/install), or set `tool = \"terraform\"` in the stack's block",
            ),
            Self::MissingOne(_) => ("WL501", "install it and put it on the PATH, or set `tool` in the stack's block"),
            Self::Version { .. } => {
                ("WL502", "install a version that satisfies the constraint, or widen `required_version`")
            }
            Self::Constraint(_) => ("WL502", "write for example `required_version = \">= 1.5, < 2.0\"`"),
        };
        Diagnostic::error(code, self.to_string()).help(help)
    }
}

/// The binaries that were found.
#[derive(Debug, Clone, Default)]
pub struct ToolBox {
    tools: Vec<ToolBinary>,
}

/// Versions by binary, so that asking costs a process only when a binary is new.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Cache(BTreeMap<String, String>);

impl ToolBox {
    /// Looks for `terraform` and `tofu` on `path`. `cache` is a file that remembers their versions.
    pub fn discover(path: &OsStr, cache: &Path) -> Self {
        let mut known: Cache =
            std::fs::read(cache).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let mut tools = Vec::new();
        let mut fresh = false;
        for name in ["terraform", "tofu"] {
            let Some(path) =
                std::env::split_paths(path).map(|directory| directory.join(name)).find(|path| is_executable(path))
            else {
                continue;
            };
            let Ok(meta) = std::fs::metadata(&path) else { continue };
            let modified = meta
                .modified()
                .ok()
                .and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok())
                .map_or(0, |d| d.as_nanos());
            let key = format!("{}:{}:{modified}", path.display(), meta.len());
            let version = match known.0.get(&key) {
                Some(version) => version.clone(),
                None => {
                    let Some(version) = ask_version(&path) else { continue };
                    known.0.insert(key, version.clone());
                    fresh = true;
                    version
                }
            };
            tools.push(ToolBinary { path, name: name.to_owned(), version });
        }
        if fresh {
            // Only a cache: not being able to write it costs a process next time.
            let _ = cache.parent().map(std::fs::create_dir_all);
            let _ = std::fs::write(cache, serde_json::to_vec(&known).unwrap_or_default());
        }
        Self { tools }
    }

    pub fn tools(&self) -> &[ToolBinary] {
        &self.tools
    }

    /// The binary for a stack.
    ///
    /// # Errors
    /// There is none, or none of the required version.
    pub fn select(&self, tool: Tool, required: &[String]) -> Result<&ToolBinary, ToolError> {
        let name = match tool {
            Tool::Any => None,
            Tool::Terraform => Some("terraform"),
            Tool::Tofu => Some("tofu"),
        };
        let candidates: Vec<&ToolBinary> =
            self.tools.iter().filter(|t| name.is_none_or(|name| t.name == name)).collect();
        let Some(first) = candidates.first() else {
            return Err(name.map_or(ToolError::Missing, ToolError::MissingOne));
        };
        for candidate in &candidates {
            let mut fits = true;
            for constraint in required {
                fits &= satisfies(&candidate.version, constraint)?;
            }
            if fits {
                return Ok(candidate);
            }
        }
        Err(ToolError::Version { required: required.join(", "), found: format!("{} {}", first.name, first.version) })
    }
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn ask_version(path: &Path) -> Option<String> {
    let output = std::process::Command::new(path)
        .args(["version", "-json"])
        .env_clear()
        .env("CHECKPOINT_DISABLE", "1")
        .env("HOME", "/nonexistent")
        .current_dir("/")
        .stdin(std::process::Stdio::null())
        .output()
        .ok()?;
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    answer.get("terraform_version")?.as_str().map(str::to_owned)
}

/// Numbers and pre-release of a version.
fn parse(text: &str) -> Option<(Vec<u64>, Option<&str>)> {
    let text = text.trim().trim_start_matches('v');
    let text = text.split('+').next()?;
    let (numbers, pre) = text.split_once('-').map_or((text, None), |(n, p)| (n, Some(p)));
    let numbers: Option<Vec<u64>> = numbers.split('.').map(|n| n.parse().ok()).collect();
    numbers.map(|numbers| (numbers, pre))
}

/// Whether a version satisfies a comma list of constraints (`=`, `!=`, `>`, `>=`, `<`, `<=`, `~>`).
fn satisfies(version: &str, constraints: &str) -> Result<bool, ToolError> {
    let bad = || ToolError::Constraint(constraints.to_owned());
    let (mut have, pre) = parse(version).ok_or_else(bad)?;
    have.resize(3, 0);
    for part in constraints.split(',').map(str::trim) {
        let split = part.find(|c: char| c.is_ascii_digit() || c == 'v').ok_or_else(bad)?;
        let (operator, rest) = (part[..split].trim(), &part[split..]);
        let (given, given_pre) = parse(rest).ok_or_else(bad)?;
        let mut want = given.clone();
        want.resize(3, 0);
        // A pre-release is only ever meant when it is named.
        if pre.is_some() && pre != given_pre {
            return Ok(false);
        }
        let fits = match operator {
            "" | "=" => have == want && pre == given_pre,
            "!=" => have != want || pre != given_pre,
            ">" => have > want,
            ">=" => have >= want,
            "<" => have < want,
            "<=" => have <= want,
            "~>" => {
                let fixed = given.len().saturating_sub(1).max(1);
                have >= want && have[..fixed] == want[..fixed]
            }
            _ => return Err(bad()),
        };
        if !fits {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints() {
        let check =
            |constraint: &str, want: bool| assert_eq!(satisfies("1.11.4", constraint), Ok(want), "{constraint}");
        check(">= 1.0", true);
        check(">= 1.5, < 2.0.0", true);
        check("~> 1.0", true);
        check("~> 1.11.0", true);
        check("~> 1.10.0", false);
        check("= 1.11.4", true);
        check("1.11.4", true);
        check("!= 1.11.4", false);
        check("> 1.11.4", false);
        check("< 1.11", false);
        check("~> 0.12", false);
        assert!(satisfies("1.11.4", "soon").is_err());
        assert_eq!(satisfies("1.12.0-beta1", ">= 1.0"), Ok(false));
    }

    #[test]
    fn what_is_missing_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let none = ToolBox::discover(directory.path().as_os_str(), &directory.path().join("cache"));
        assert_eq!(none.select(Tool::Any, &[]), Err(ToolError::Missing));
        let some = ToolBox {
            tools: vec![ToolBinary { path: "/t".into(), name: "terraform".into(), version: "1.11.4".into() }],
        };
        assert_eq!(some.select(Tool::Tofu, &[]), Err(ToolError::MissingOne("tofu")));
        assert!(matches!(some.select(Tool::Any, &[">= 2".into()]), Err(ToolError::Version { .. })));
        assert!(some.select(Tool::Any, &["~> 1.0".into()]).is_ok());
    }
}
