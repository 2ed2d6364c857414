//! A provider whose world is a directory of files: what it manages can be changed, deleted and listed by hand, and told to go
//! wrong. The program is the example `terraform-provider-depot` of this crate.

use crate::cli::CliEnv;
use crate::{TestkitError, write_file};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// `HOST/NAMESPACE/TYPE` of the provider where it lies in a local directory.
pub const ADDRESS: &str = "depot.test/acme/depot";

/// The package is a script that becomes the program, so that its checksums are the same everywhere.
pub const SCRIPT: &str = "#!/bin/sh\nexec \"$HOME/.depot/provider\" \"$@\"\n";

/// The provider and its world in one environment.
#[derive(Debug)]
pub struct Depot {
    directory: PathBuf,
    program: PathBuf,
}

impl Depot {
    /// Puts the provider where terraform and tofu find it by themselves.
    ///
    /// # Errors
    /// It cannot be built, or a file cannot be written.
    pub fn install(env: &CliEnv) -> Result<Self, TestkitError> {
        let depot = Self::without_package(env)?;
        let package = env.home().join(".terraform.d/plugins").join(ADDRESS).join("1.0.0").join(platform());
        executable(&package.join("terraform-provider-depot_v1.0.0"), SCRIPT)?;
        Ok(depot)
    }

    /// As [`Self::install`], where terraform gets the package from somewhere else.
    ///
    /// # Errors
    /// It cannot be built, or a link cannot be made.
    pub fn without_package(env: &CliEnv) -> Result<Self, TestkitError> {
        let directory = env.home().join(".depot");
        let program = build()?;
        let link = directory.join("provider");
        let made = std::fs::create_dir_all(&directory).and_then(|()| std::os::unix::fs::symlink(&program, &link));
        made.map_err(|source| TestkitError::Write { path: link, source })?;
        Ok(Self { directory, program })
    }

    /// Every item, by id.
    pub fn items(&self) -> Vec<Value> {
        let entries = std::fs::read_dir(self.directory.join("items")).into_iter().flatten().flatten();
        let mut items: Vec<Value> =
            entries.filter_map(|entry| serde_json::from_slice(&std::fs::read(entry.path()).ok()?).ok()).collect();
        items.sort_by_key(|item| item["id"].to_string());
        items
    }

    /// The id of the item of this name; empty when there is none.
    pub fn id(&self, name: &str) -> String {
        let found = self.items().into_iter().find(|item| item["name"] == name);
        found.and_then(|item| item["id"].as_str().map(str::to_owned)).unwrap_or_default()
    }

    fn item(&self, id: &str) -> PathBuf {
        self.directory.join("items").join(format!("{id}.json"))
    }

    /// Changes attributes of an item, or makes one, as somebody would who does not know of terraform.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn change(&self, id: &str, attributes: Value) -> Result<(), TestkitError> {
        let path = self.item(id);
        let mut item: Value =
            std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        item["id"] = id.into();
        for (name, value) in attributes.as_object().into_iter().flatten() {
            item[name] = value.clone();
        }
        write_file(&path, &item.to_string())
    }

    /// Deletes an item by hand.
    ///
    /// # Errors
    /// There is none.
    pub fn remove(&self, id: &str) -> Result<(), TestkitError> {
        let path = self.item(id);
        std::fs::remove_file(&path).map_err(|source| TestkitError::Write { path, source })
    }

    /// How changing the item of this name goes from now on: `fail`, `crash` before it is done, `crash-after` it was done, `hang`, or
    /// anything else for well.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn behave(&self, name: &str, how: &str) -> Result<(), TestkitError> {
        write_file(&self.directory.join("behave").join(name), how)
    }

    /// What the provider itself lists, as `windlass adopt --listing` reads it.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn listing(&self) -> Result<String, TestkitError> {
        let home = self.directory.parent().unwrap_or(&self.directory);
        let output = Command::new(&self.program)
            .arg("--list")
            .env("HOME", home)
            .output()
            .map_err(|source| TestkitError::Start { program: self.program.display().to_string(), source })?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// The head of a stack's configuration that uses the provider from `address`, with a state in a file.
pub fn head(address: &str) -> String {
    format!(
        "terraform {{\n  backend \"local\" {{}}\n  required_providers {{\n    depot = {{\n      source  = \"{address}\"\n      version = \"1.0.0\"\n    }}\n  }}\n}}\n"
    )
}

/// `OS_ARCH` as terraform names it.
pub fn platform() -> String {
    let os = if std::env::consts::OS == "macos" { "darwin" } else { std::env::consts::OS };
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{os}_{architecture}")
}

/// Writes a script that can be run.
///
/// # Errors
/// [`TestkitError::Write`].
pub fn executable(path: &Path, script: &str) -> Result<(), TestkitError> {
    use std::os::unix::fs::PermissionsExt;
    write_file(path, script)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
        .map_err(|source| TestkitError::Write { path: path.to_owned(), source })
}

/// Builds the program, once per process. With the features of the whole workspace, so that nothing is compiled anew for it after a
/// build of all tests.
fn build() -> Result<PathBuf, TestkitError> {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    if let Some(built) = BUILT.get() {
        return Ok(built.clone());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["build", "--workspace", "--example", "terraform-provider-depot", "--message-format", "json"];
    let mut command = Command::new(&cargo);
    command.args(arguments).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
    // What cargo told this process about its own package would make build scripts believe that something changed.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    let output = command.output().map_err(|source| TestkitError::Start { program: "cargo".into(), source })?;
    let program = String::from_utf8_lossy(&output.stdout).lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let ours = message["target"]["name"] == "terraform-provider-depot";
        message["executable"].as_str().filter(|_| ours).map(PathBuf::from)
    });
    let failed = || TestkitError::Failed {
        command: format!("cargo {}", arguments.join(" ")),
        status: output.status,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    let program = program.filter(|_| output.status.success()).ok_or_else(failed)?;
    Ok(BUILT.get_or_init(|| program).clone())
}
