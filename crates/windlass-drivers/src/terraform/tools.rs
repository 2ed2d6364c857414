//! Which terraform or tofu runs a stack.

use super::version::{NotAConstraint, Pin, UnknownPin, VersionFile, order, satisfies};
use crate::process::{self, Listener, ProcessError, Spec, Stream, Token};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::place::Place;
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
    #[error("this stack wants version {wanted}, and there is only {found}")]
    Version { wanted: String, found: String },
    #[error(transparent)]
    Constraint(#[from] NotAConstraint),
    #[error(transparent)]
    VersionFile(#[from] UnknownPin),
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
            Self::Version { .. } => (
                "WL502",
                "install a version that fits (with tfenv, tenv, asdf or mise it is found at once), or change what is wanted",
            ),
            Self::Constraint(_) => ("WL502", "write for example `required_version = \">= 1.5, < 2.0\"`"),
            Self::VersionFile(_) => {
                ("WL519", "write a version (`1.11.4`), a constraint (`~> 1.11`), `min-required` or `latest-allowed`")
            }
        };
        Diagnostic::error(code, self.to_string()).help(help)
    }
}

/// Where programs are looked for.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// As `PATH`.
    pub path: OsString,
    /// What version managers installed: a directory with one directory per version, the program below that, and its name.
    pub installs: Vec<(PathBuf, &'static str, &'static str)>,
}

impl Places {
    /// The `PATH` and the version managers of the user: tfenv, tofuenv, tenv, asdf and mise. `variable` gives a variable of the
    /// environment.
    pub fn new(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let home = variable("HOME").map(PathBuf::from);
        let place = |name: &str, below_home: &str| {
            variable(name).map(PathBuf::from).or_else(|| home.as_ref().map(|home| home.join(below_home)))
        };
        let mut installs = Vec::new();
        let mut add = |root: Option<PathBuf>, below: &str, program: &'static str, name: &'static str| {
            installs.extend(root.map(|root| (root.join(below), program, name)));
        };
        add(place("TFENV_CONFIG_DIR", ".tfenv"), "versions", "terraform", "terraform");
        add(place("TOFUENV_CONFIG_DIR", ".tofuenv"), "versions", "tofu", "tofu");
        add(place("TENV_ROOT", ".tenv"), "Terraform", "terraform", "terraform");
        add(place("TENV_ROOT", ".tenv"), "OpenTofu", "tofu", "tofu");
        let data = variable("XDG_DATA_HOME").map(|data| PathBuf::from(data).join("mise"));
        let mise = variable("MISE_DATA_DIR").map(PathBuf::from).or(data);
        let mise = mise.or_else(|| home.as_ref().map(|home| home.join(".local/share/mise")));
        for (directory, name) in [("terraform", "terraform"), ("opentofu", "tofu")] {
            for root in [mise.clone(), place("ASDF_DATA_DIR", ".asdf")] {
                let below = format!("installs/{directory}");
                add(root.clone(), &below, if name == "tofu" { "bin/tofu" } else { "bin/terraform" }, name);
                add(root, &below, name, name);
            }
        }
        Self { path: variable("PATH").unwrap_or_default(), installs }
    }

    /// As [`Self::new`], with the environment of this process.
    pub fn of_process() -> Self {
        Self::new(|name| std::env::var_os(name))
    }

    /// Every program, in the order of the `PATH`, then of the version managers; the same file only once. With each, whether it is on
    /// the `PATH`.
    fn programs(&self) -> Vec<(PathBuf, &'static str, bool)> {
        let mut found: Vec<(PathBuf, &'static str, bool)> = Vec::new();
        for directory in std::env::split_paths(&self.path).filter(|directory| !is_shims(directory)) {
            found.extend(["terraform", "tofu"].map(|name| (directory.join(name), name, true)));
        }
        for (directory, program, name) in &self.installs {
            let mut versions: Vec<PathBuf> =
                std::fs::read_dir(directory).into_iter().flatten().filter_map(|e| Some(e.ok()?.path())).collect();
            versions.sort();
            found.extend(versions.into_iter().map(|version| (version.join(program), *name, false)));
        }
        let mut seen = std::collections::BTreeSet::new();
        found.retain(|(path, ..)| is_executable(path) && path.canonicalize().is_ok_and(|real| seen.insert(real)));
        found
    }
}

/// Whether programs there are stand-ins of a version manager, which choose by themselves what they run.
fn is_shims(directory: &Path) -> bool {
    directory.file_name().is_some_and(|name| name == "shims")
        || ["tfenv", "tofuenv", "tenv"].iter().any(|manager| is_executable(&directory.join(manager)))
}

/// The binaries that were found.
#[derive(Debug, Clone, Default)]
pub struct ToolBox {
    /// First those on the `PATH`, in its order.
    tools: Vec<ToolBinary>,
    /// How many of them are on the `PATH`.
    on_path: usize,
}

/// Versions by binary, so that asking costs a process only when a binary is new.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Cache(BTreeMap<String, String>);

impl ToolBox {
    /// Looks for every `terraform` and `tofu` in `places`. `cache` is a file that remembers their versions.
    pub fn discover(places: &Places, cache: &Path) -> Self {
        let mut known: Cache =
            std::fs::read(cache).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let mut tools = Vec::new();
        let mut on_path = 0;
        let mut fresh = false;
        for (path, name, of_path) in places.programs() {
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
            on_path += usize::from(of_path);
        }
        if fresh {
            // Only a cache: not being able to write it costs a process next time.
            let _ = cache.parent().map(std::fs::create_dir_all);
            let _ = std::fs::write(cache, serde_json::to_vec(&known).unwrap_or_default());
        }
        Self { tools, on_path }
    }

    pub fn tools(&self) -> &[ToolBinary] {
        &self.tools
    }

    /// The binary for a stack, of those that satisfy `required` and the version file of its program: with a version file the newest
    /// (or the oldest, where it says so); without one the first on the `PATH`, which is what anybody would run there by hand, else
    /// the newest that a version manager installed. terraform before tofu where both would do. A pre-release is taken when it
    /// is named, or when there is nothing else.
    ///
    /// # Errors
    /// There is none, or none of the wanted version: then the error lists what is wanted and what was found.
    pub fn select(&self, tool: Tool, required: &[String], files: &[VersionFile]) -> Result<&ToolBinary, ToolError> {
        let names: &[&'static str] = match tool {
            Tool::Any => &["terraform", "tofu"],
            Tool::Terraform => &["terraform"],
            Tool::Tofu => &["tofu"],
        };
        // A version file for one program says that it is this one.
        let names: Vec<&'static str> = names
            .iter()
            .copied()
            .filter(|name| files.is_empty() || files.iter().any(|file| file.tool == *name))
            .collect();
        for name in &names {
            let file = files.iter().find(|file| file.tool == *name);
            let pinned = match file.map(|file| &file.pin) {
                Some(Pin::Constraint(constraint)) => Some(constraint),
                _ => None,
            };
            let mut fitting: Vec<(usize, &ToolBinary)> = Vec::new();
            for (place, candidate) in self.tools.iter().enumerate().filter(|(_, t)| t.name == *name) {
                let mut fits = true;
                for constraint in required.iter().chain(pinned) {
                    fits &= satisfies(&candidate.version, constraint)?;
                }
                if fits {
                    fitting.push((place, candidate));
                }
            }
            let by_hand = fitting.iter().find(|(place, t)| *place < self.on_path && !is_prerelease(&t.version));
            let wanted = match file.map(|file| &file.pin) {
                None => by_hand.copied(),
                Some(_) => None,
            };
            let oldest = matches!(file, Some(VersionFile { pin: Pin::Oldest, .. }));
            // Of equal ones the first that was found.
            let best = wanted.or_else(|| {
                fitting.into_iter().reduce(|best, other| {
                    let newer = order(&other.1.version, &best.1.version);
                    let better = if oldest { newer.is_lt() } else { newer.is_gt() };
                    if better { other } else { best }
                })
            });
            if let Some((_, best)) = best {
                return Ok(best);
            }
        }
        let found: Vec<&ToolBinary> = self.tools.iter().filter(|t| names.contains(&t.name.as_str())).collect();
        if found.is_empty() {
            return Err(match names.as_slice() {
                [one] => ToolError::MissingOne(one),
                _ => ToolError::Missing,
            });
        }
        let mut wanted: Vec<String> = required.iter().map(|text| format!("{text} (required_version)")).collect();
        wanted.extend(files.iter().filter_map(|file| match &file.pin {
            Pin::Constraint(text) => Some(format!("{text} ({})", file.path)),
            Pin::Oldest | Pin::Newest => None,
        }));
        let found = found.iter().map(|t| format!("{} {} ({})", t.name, t.version, t.path.display()));
        Err(ToolError::Version { wanted: wanted.join(", "), found: found.collect::<Vec<_>>().join(", ") })
    }
}

/// The terraform and the tofu that are on the `PATH` of a place. They run in `directory`.
///
/// # Errors
/// The place does not run programs, or has neither.
pub async fn tools_in(place: &Place, directory: &Path, token: Option<Token>) -> Result<ToolBox, ProcessError> {
    let mut tools = Vec::new();
    let mut missing = None;
    for name in ["terraform", "tofu"] {
        let arguments = ["version", "-json"].map(OsString::from).to_vec();
        let spec = Spec {
            environment: BTreeMap::from([("CHECKPOINT_DISABLE".into(), "1".into())]),
            place: place.clone(),
            token: token.clone(),
            ..Spec::here(name.into(), arguments, directory.to_owned(), GRACE)
        };
        let mut said = Said::default();
        match process::run(&spec, &CancellationToken::new(), &mut said).await {
            Ok(_) => tools.extend(version_of(&said.0).map(|version| {
                let (path, name) = (PathBuf::from(name), name.to_owned());
                ToolBinary { path, name, version }
            })),
            Err(error) if error.is_refusal() => drop(missing.get_or_insert(error)),
            Err(error) => return Err(error),
        }
    }
    match missing {
        Some(error) if tools.is_empty() => Err(error),
        _ => Ok(ToolBox { on_path: tools.len(), tools }),
    }
}

/// From the interrupt to the kill of a tool that is asked its version.
const GRACE: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Said(Vec<u8>);

impl Listener for Said {
    async fn started(&mut self, _: u32) -> Result<(), String> {
        Ok(())
    }
    async fn output(&mut self, stream: Stream, bytes: &[u8]) {
        if stream == Stream::Out {
            self.0.extend_from_slice(bytes);
        }
    }
}

fn is_prerelease(version: &str) -> bool {
    version.split('+').next().is_some_and(|version| version.contains('-'))
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
    version_of(&output.stdout)
}

/// What `version -json` says.
fn version_of(said: &[u8]) -> Option<String> {
    let answer: serde_json::Value = serde_json::from_slice(said).ok()?;
    answer.get("terraform_version")?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A program that answers only what it is asked for its version.
    fn program(path: &Path, version: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("#!/bin/sh\necho '{{\"terraform_version\": \"{version}\"}}'\n")).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn tool(name: &str, version: &str) -> ToolBinary {
        ToolBinary { path: format!("/{name}-{version}").into(), name: name.into(), version: version.into() }
    }

    fn file(tool: &'static str, pin: Pin) -> VersionFile {
        VersionFile { path: format!(".{tool}-version"), tool, pin }
    }

    #[test]
    fn every_program_of_every_layout_is_found_and_stand_ins_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path();
        for (path, version) in [
            ("bin/terraform", "1.1.0"),
            ("more/terraform", "1.2.0"),
            (".tfenv/versions/1.3.0/terraform", "1.3.0"),
            (".tofuenv/versions/1.4.0/tofu", "1.4.0"),
            (".tenv/Terraform/1.5.0/terraform", "1.5.0"),
            (".tenv/OpenTofu/1.6.0/tofu", "1.6.0"),
            (".local/share/mise/installs/terraform/1.7.0/bin/terraform", "1.7.0"),
            (".local/share/mise/installs/opentofu/1.8.0/tofu", "1.8.0"),
            (".asdf/installs/terraform/1.9.0/bin/terraform", "1.9.0"),
            (".asdf/installs/opentofu/1.10.0/bin/tofu", "1.10.0"),
            ("shims/terraform", "0.1.0"),
            (".tfenv/bin/terraform", "0.2.0"),
            (".tfenv/bin/tfenv", "0"),
        ] {
            program(&home.join(path), version);
        }
        // The same program by another name counts once.
        std::os::unix::fs::symlink(home.join("bin"), home.join("again")).unwrap();
        std::fs::write(home.join("more/tofu"), "not executable").unwrap();
        let path = std::env::join_paths(["shims", ".tfenv/bin", "bin", "again", "more"].map(|d| home.join(d))).unwrap();
        let places = Places::new(|name| match name {
            "HOME" => Some(home.into()),
            "PATH" => Some(path.clone()),
            _ => None,
        });
        let found = ToolBox::discover(&places, &home.join("cache"));
        let versions = |tools: &ToolBox, name: &str| -> Vec<String> {
            tools.tools().iter().filter(|t| t.name == name).map(|t| t.version.clone()).collect()
        };
        assert_eq!(versions(&found, "terraform"), ["1.1.0", "1.2.0", "1.3.0", "1.5.0", "1.7.0", "1.9.0"]);
        assert_eq!(versions(&found, "tofu"), ["1.4.0", "1.6.0", "1.8.0", "1.10.0"]);
        // Versions come out of the cache the next time: no program is asked again.
        let cached = std::fs::read(home.join("cache")).unwrap();
        assert_eq!(ToolBox::discover(&places, &home.join("cache")).tools(), found.tools());
        assert_eq!(std::fs::read(home.join("cache")).unwrap(), cached);
    }

    #[test]
    fn what_would_run_by_hand_is_taken_unless_a_file_says_otherwise() {
        let all = ToolBox {
            on_path: 3,
            tools: vec![
                tool("terraform", "1.13.0-rc1"),
                tool("terraform", "1.9.8"),
                tool("tofu", "1.10.0"),
                tool("terraform", "1.11.4"),
                tool("terraform", "1.12.0-beta1"),
                tool("tofu", "1.8.0"),
            ],
        };
        let check = |tool: Tool, required: &[&str], files: &[VersionFile], want: &str| {
            let required: Vec<String> = required.iter().map(|r| (*r).to_owned()).collect();
            let found = all.select(tool, &required, files).unwrap();
            assert_eq!(format!("{} {}", found.name, found.version), want, "{tool:?} {required:?} {files:?}");
        };
        let pin = |text: &str| Pin::Constraint(text.into());
        check(Tool::Any, &[], &[], "terraform 1.9.8");
        check(Tool::Any, &[">= 1.10"], &[], "terraform 1.11.4");
        check(Tool::Any, &[], &[file("terraform", Pin::Newest)], "terraform 1.11.4");
        check(Tool::Any, &[], &[file("terraform", pin(">= 1.9"))], "terraform 1.11.4");
        check(Tool::Any, &["~> 1.9.0"], &[], "terraform 1.9.8");
        check(Tool::Any, &["~> 1.10.0"], &[], "tofu 1.10.0");
        check(Tool::Any, &[], &[file("terraform", pin("1.12.0-beta1"))], "terraform 1.12.0-beta1");
        check(Tool::Any, &[], &[file("terraform", pin("1.9.8"))], "terraform 1.9.8");
        check(Tool::Any, &[], &[file("tofu", pin("~> 1.8.0"))], "tofu 1.8.0");
        check(Tool::Any, &[], &[file("terraform", pin("2.0")), file("tofu", pin("1.8.0"))], "tofu 1.8.0");
        check(Tool::Any, &[">= 1.0"], &[file("terraform", Pin::Oldest)], "terraform 1.9.8");
        check(Tool::Any, &["< 1.10"], &[file("terraform", Pin::Newest)], "terraform 1.9.8");
        check(Tool::Tofu, &[], &[], "tofu 1.10.0");
    }

    #[test]
    fn what_is_missing_is_said() {
        let none = ToolBox::default();
        assert_eq!(none.select(Tool::Any, &[], &[]), Err(ToolError::Missing));
        let some = ToolBox { on_path: 0, tools: vec![tool("terraform", "1.9.8"), tool("terraform", "1.11.4")] };
        assert_eq!(some.select(Tool::Tofu, &[], &[]), Err(ToolError::MissingOne("tofu")));
        let tofu = [file("tofu", Pin::Newest)];
        assert_eq!(some.select(Tool::Any, &[], &tofu), Err(ToolError::MissingOne("tofu")));
        let files = [file("terraform", Pin::Constraint("1.10.0".into()))];
        let error = some.select(Tool::Any, &["< 2".into()], &files).unwrap_err();
        assert_eq!(
            error.to_string(),
            "this stack wants version < 2 (required_version), 1.10.0 (.terraform-version), and there is only terraform 1.9.8 (/terraform-1.9.8), terraform 1.11.4 (/terraform-1.11.4)"
        );
        assert!(matches!(some.select(Tool::Any, &["soon".into()], &[]), Err(ToolError::Constraint(_))));
    }
}
