//! The CLI configuration that commands are given: the user's own (credentials, mirrors), with our mirror of providers added.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Where the user's configuration is looked for.
#[derive(Debug, Clone, Default)]
pub struct CliConfiguration {
    /// `TF_CLI_CONFIG_FILE`: then nothing else counts.
    explicit: Option<PathBuf>,
    home: Option<PathBuf>,
    xdg_config: Option<PathBuf>,
    xdg_data: Option<PathBuf>,
    /// Takes the place of all that.
    replaced: Option<PathBuf>,
}

/// Why our mirror is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotMerged {
    #[error("{} says itself where providers come from (`provider_installation`)", .0.display())]
    OwnInstallation(PathBuf),
    #[error("{} is JSON, or in another form that nothing can be added to", .0.display())]
    Form(PathBuf),
    #[error("{} cannot be read: {message}", .path.display())]
    Unreadable { path: PathBuf, message: String },
}

impl CliConfiguration {
    /// `variable` gives a variable of the environment.
    pub fn new(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let path = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = path("HOME");
        let below = |name: &str, place: &str| path(name).or_else(|| home.as_ref().map(|home| home.join(place)));
        Self {
            explicit: path("TF_CLI_CONFIG_FILE").filter(|path| path.is_file()),
            xdg_config: below("XDG_CONFIG_HOME", ".config"),
            xdg_data: below("XDG_DATA_HOME", ".local/share"),
            home,
            replaced: None,
        }
    }

    /// As [`Self::new`], with the environment of this process.
    pub fn of_process() -> Self {
        Self::new(|name| std::env::var_os(name))
    }

    /// This file instead.
    #[must_use]
    pub fn replaced_by(&self, file: PathBuf) -> Self {
        Self { replaced: Some(file), ..self.clone() }
    }

    /// The user's files, the main one first: `.terraformrc` (for tofu `.tofurc` before it), then `*.tfrc` and `*.tfrc.json` of the
    /// configuration directory, where `terraform login` keeps credentials.
    fn files(&self, tool: &str) -> Vec<PathBuf> {
        if let Some(explicit) = &self.explicit {
            return vec![explicit.clone()];
        }
        let Some(home) = &self.home else { return Vec::new() };
        let names: &[&str] = if tool == "tofu" { &[".tofurc", ".terraformrc"] } else { &[".terraformrc"] };
        let mut files: Vec<PathBuf> =
            names.iter().map(|name| home.join(name)).find(|path| path.is_file()).into_iter().collect();
        let mut directory = home.join(".terraform.d");
        if tool == "tofu" && !directory.is_dir() {
            directory = self.xdg_config.as_ref().map_or(directory, |config| config.join("opentofu"));
        }
        let mut more: Vec<PathBuf> =
            std::fs::read_dir(directory).into_iter().flatten().filter_map(|e| Some(e.ok()?.path())).collect();
        more.retain(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            path.is_file() && (name.ends_with(".tfrc") || name.ends_with(".tfrc.json"))
        });
        more.sort();
        files.extend(more);
        files
    }

    /// The file to name in `TF_CLI_CONFIG_FILE`. Naming one makes terraform pass over the configuration directory, so all of
    /// the user's files are put into one in `directory` when there are several; an empty one stands for none, because terraform
    /// warns about a file that is missing.
    pub fn file(&self, tool: &str, directory: &Path) -> PathBuf {
        if let Some(replaced) = &self.replaced {
            return replaced.clone();
        }
        let files = self.files(tool);
        let first = files.first().cloned().unwrap_or_else(|| "/dev/null".into());
        if files.iter().all(|file| *file == first && !is_json(file)) {
            return first;
        }
        let path = directory.join("user.tfrc");
        match join(&files) {
            Ok(text) if write_private(&path, &text).is_ok() => path,
            _ => first,
        }
    }

    /// Whether something can be added to the user's configuration.
    ///
    /// # Errors
    /// Why not.
    pub fn may_add(&self, tool: &str) -> Result<(), NotMerged> {
        let files = self.files(tool);
        for file in &files {
            if says_installation(&read(file)?) {
                return Err(NotMerged::OwnInstallation(file.clone()));
            }
        }
        join(&files).map(|_| ())
    }

    /// The text of the user's configuration with `mirror` as the source of the providers `mirrored` (`HOST/NAMESPACE/TYPE`).
    /// Directories that terraform looks into of its own accord, when it
    /// runs in `stack`, stay sources of what lies in them.
    ///
    /// # Errors
    /// The user's own configuration rules it out.
    pub fn with_mirror(
        &self,
        tool: &str,
        stack: &Path,
        mirror: &Path,
        mirrored: &[String],
    ) -> Result<String, NotMerged> {
        let files = self.files(tool);
        self.may_add(tool)?;
        let mut text = join(&files)?;
        let mut local: Vec<(PathBuf, Vec<String>)> = Vec::new();
        for directory in self.implied(tool, stack) {
            let mut addresses = providers_below(&directory);
            addresses.retain(|address| !mirrored.contains(address));
            if !addresses.is_empty() {
                local.push((directory, addresses));
            }
        }
        let list = |addresses: &[String]| {
            addresses.iter().map(|address| format!("\"{address}\"")).collect::<Vec<_>>().join(", ")
        };
        text.push_str("\nprovider_installation {\n");
        let all = [(mirror.to_owned(), mirrored.to_vec())];
        for (path, addresses) in all.iter().chain(&local) {
            let path = quote(&path.to_string_lossy()).ok_or_else(|| NotMerged::Form(path.clone()))?;
            let _ =
                write!(text, "  filesystem_mirror {{\n    path = {path}\n    include = [{}]\n  }}\n", list(addresses));
        }
        let elsewhere: Vec<String> =
            mirrored.iter().chain(local.iter().flat_map(|(_, addresses)| addresses)).cloned().collect();
        let _ = write!(text, "  direct {{\n    exclude = [{}]\n  }}\n}}\n", list(&elsewhere));
        Ok(text)
    }

    /// Directories that hold providers which the program finds without being told when it runs in `stack`.
    pub fn implied(&self, tool: &str, stack: &Path) -> Vec<PathBuf> {
        let below = if tool == "tofu" { "opentofu/plugins" } else { "terraform/plugins" };
        let mut directories = vec![stack.join("terraform.d/plugins")];
        directories.extend(self.home.as_ref().map(|home| home.join(".terraform.d/plugins")));
        directories.extend(self.xdg_data.as_ref().map(|data| data.join(below)));
        directories.extend(["/usr/local/share", "/usr/share"].map(|share| Path::new(share).join(below)));
        directories.retain(|directory| directory.is_dir());
        directories
    }

    /// Whether the user has this provider in such a directory.
    pub fn has_locally(&self, tool: &str, stack: &Path, address: &str) -> bool {
        self.implied(tool, stack).iter().any(|directory| directory.join(address).is_dir())
    }
}

/// Writes a file that only the user can read: the configuration holds credentials.
///
/// # Errors
/// It cannot be written.
pub fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    if std::fs::read_to_string(path).is_ok_and(|found| found == text) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let draft = path.with_extension(format!("{}.{number}.draft", std::process::id()));
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(text.as_bytes())?;
    std::fs::rename(draft, path)
}

fn read(path: &Path) -> Result<String, NotMerged> {
    std::fs::read_to_string(path)
        .map_err(|error| NotMerged::Unreadable { path: path.to_owned(), message: error.to_string() })
}

fn is_json(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "json")
}

/// All files as one text. Of JSON only credentials are understood, which is what `terraform login` writes.
fn join(files: &[PathBuf]) -> Result<String, NotMerged> {
    let mut text = String::new();
    for file in files {
        let content = read(file)?;
        if content.trim_start().starts_with('{') {
            text.push_str(&credentials(&content).ok_or_else(|| NotMerged::Form(file.clone()))?);
        } else {
            text.push_str(&content);
        }
        text.push('\n');
    }
    Ok(text)
}

/// `{"credentials": {"HOST": {"token": "…"}}}` as blocks.
fn credentials(json: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(json).ok()?;
    let mut text = String::new();
    for (kind, hosts) in value.as_object()? {
        if kind != "credentials" {
            return None;
        }
        for (host, settings) in hosts.as_object()? {
            let _ = writeln!(text, "credentials {} {{", quote(host)?);
            for (name, value) in settings.as_object()? {
                let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
                let _ = writeln!(text, "  {} = {}", plain.then_some(name)?, quote(value.as_str()?)?);
            }
            text.push_str("}\n");
        }
    }
    Some(text)
}

/// A string of the configuration language; `None` for one that it would read in another way.
fn quote(text: &str) -> Option<String> {
    let plain = !text.contains("${") && !text.contains(|c: char| c.is_control() || c == '"' || c == '\\');
    plain.then(|| format!("\"{text}\""))
}

/// Whether a text has a `provider_installation` block; one in a comment counts only when the comment begins before its line's text.
fn says_installation(text: &str) -> bool {
    text.lines()
        .map(str::trim_start)
        .any(|line| !line.starts_with('#') && !line.starts_with("//") && line.contains("provider_installation"))
}

/// `HOST/NAMESPACE/TYPE` of what lies in a directory of providers.
fn providers_below(directory: &Path) -> Vec<String> {
    let mut found = vec![String::new()];
    for _ in 0..3 {
        let mut next = Vec::new();
        for parent in &found {
            for entry in std::fs::read_dir(directory.join(parent)).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if entry.path().is_dir() && quote(&name).is_some() {
                    next.push(if parent.is_empty() { name } else { format!("{parent}/{name}") });
                }
            }
        }
        found = next;
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home(files: &[(&str, &str)]) -> (tempfile::TempDir, CliConfiguration) {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let home = directory.path().to_owned();
        let configuration = CliConfiguration::new(|name| (name == "HOME").then(|| home.clone().into()));
        (directory, configuration)
    }

    #[test]
    fn the_users_configuration_is_found_and_none_of_it_is_lost() {
        let check = |files: &[(&str, &str)], tool: &str, want: &str| {
            let (directory, configuration) = home(files);
            let found = configuration.file(tool, &directory.path().join("data"));
            assert_eq!(std::fs::read_to_string(found).unwrap(), want, "{files:?}");
        };
        check(&[], "terraform", "");
        check(&[(".terraformrc", "a = 1")], "terraform", "a = 1");
        check(&[(".terraformrc", "a = 1"), (".tofurc", "b = 1")], "terraform", "a = 1");
        check(&[(".terraformrc", "a = 1"), (".tofurc", "b = 1")], "tofu", "b = 1");
        let login = "{\"credentials\": {\"app.example\": {\"token\": \"t-1.2\"}}}";
        check(
            &[(".terraformrc", "a = 1"), (".terraform.d/credentials.tfrc.json", login)],
            "terraform",
            "a = 1\ncredentials \"app.example\" {\n  token = \"t-1.2\"\n}\n\n",
        );
        check(&[(".config/opentofu/x.tfrc", "c = 1"), (".terraformrc", "a = 1")], "tofu", "a = 1\nc = 1\n");
    }

    #[test]
    fn the_mirror_is_added_and_yields_to_the_user() {
        let mirrored = ["h/n/t".to_owned()];
        let (_directory, configuration) = home(&[
            (".terraformrc", "# provider_installation is not set\ncredentials \"h\" {\n  token = \"x\"\n}\n"),
            (".terraform.d/plugins/own.example/me/mine/1.0.0/x", ""),
        ]);
        let text = configuration.with_mirror("terraform", Path::new("/none"), Path::new("/m"), &mirrored).unwrap();
        assert!(text.contains("token = \"x\""), "{text}");
        assert!(text.contains("path = \"/m\"\n    include = [\"h/n/t\"]"), "{text}");
        assert!(text.contains("include = [\"own.example/me/mine\"]"), "{text}");
        assert!(text.contains("exclude = [\"h/n/t\", \"own.example/me/mine\"]"), "{text}");
        assert!(
            ["own.example/me/mine", "h/n/t"].map(|a| configuration.has_locally("terraform", Path::new("/none"), a))
                == [true, false]
        );
        let check = |name: &str, content: &str, own: bool| {
            let (directory, configuration) = home(&[(name, content)]);
            let path = directory.path().join(name);
            let want = if own { NotMerged::OwnInstallation(path) } else { NotMerged::Form(path) };
            assert_eq!(
                configuration.with_mirror("terraform", Path::new("/none"), Path::new("/m"), &mirrored),
                Err(want)
            );
        };
        check(".terraformrc", "provider_installation {\n  direct {}\n}\n", true);
        check(".terraform.d/more.tfrc", "provider_installation {\n  direct {}\n}\n", true);
        check(".terraformrc", "{\"disable_checkpoint\": true}", false);
    }
}
