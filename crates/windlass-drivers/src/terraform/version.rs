//! Versions, constraints on them, and the files that pin one for a directory.

use std::cmp::Ordering;
use std::path::Path;
use windlass_model::stack::Tool;

/// A text that is no version constraint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no version constraint")]
pub struct NotAConstraint(pub String);

/// What a version file asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pin {
    /// A version or a constraint, as written.
    Constraint(String),
    /// `min-required`: the oldest that `required_version` allows.
    Oldest,
    /// `latest-allowed`: the newest that `required_version` allows.
    Newest,
}

/// A version file that holds for a stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionFile {
    /// Relative to the repository.
    pub path: String,
    /// `terraform` or `tofu`: what it is about.
    pub tool: &'static str,
    pub pin: Pin,
}

/// A version file whose content cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path} says `{content}`, which is neither a version nor a constraint")]
pub struct UnknownPin {
    pub path: String,
    pub content: String,
}

/// The version files nearest to `directory`, from there upward to `root` (both absolute): one for each program that `tool`
/// leaves open, both out of the same directory.
///
/// # Errors
/// The nearest one says something else than a version, a constraint, `min-required` or `latest-allowed`.
pub fn version_files(root: &Path, directory: &Path, tool: Tool) -> Result<Vec<VersionFile>, UnknownPin> {
    let names: &[(&str, &'static str)] = match tool {
        Tool::Any => &[(".terraform-version", "terraform"), (".opentofu-version", "tofu")],
        Tool::Terraform => &[(".terraform-version", "terraform")],
        Tool::Tofu => &[(".opentofu-version", "tofu")],
    };
    for directory in directory.ancestors().take_while(|d| d.starts_with(root)) {
        let mut found = Vec::new();
        for (name, tool) in names {
            let file = directory.join(name);
            let Ok(content) = std::fs::read(&file) else { continue };
            let path = file.strip_prefix(root).unwrap_or(&file).to_string_lossy().into_owned();
            let pin = pin(&String::from_utf8_lossy(&content));
            let pin = pin.map_err(|content| UnknownPin { path: path.clone(), content })?;
            found.push(VersionFile { path, tool, pin });
        }
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Ok(Vec::new())
}

/// What the content of a version file asks for: its first line that is not empty and no comment.
fn pin(content: &str) -> Result<Pin, String> {
    let lines = content.trim_start_matches('\u{feff}').lines();
    let line = lines.map(|line| line.split('#').next().unwrap_or_default().trim()).find(|line| !line.is_empty());
    match line.unwrap_or_default() {
        "min-required" => Ok(Pin::Oldest),
        "latest-allowed" => Ok(Pin::Newest),
        other if satisfies("1.0.0", other).is_ok() => Ok(Pin::Constraint(other.to_owned())),
        other => Err(other.to_owned()),
    }
}

/// Orders versions; a pre-release comes before all releases, because it is only ever meant when it is named.
pub fn order(a: &str, b: &str) -> Ordering {
    let key = |text: &str| {
        let (mut numbers, pre) = parse(text).unwrap_or_default();
        numbers.resize(3, 0);
        (pre.is_none(), numbers, pre.unwrap_or_default().to_owned())
    };
    key(a).cmp(&key(b))
}

/// Whether version `a` is newer than `b`, a release being newer than its pre-releases; `false` when one of them is no version.
pub fn is_newer(a: &str, b: &str) -> bool {
    let key = |text: &str| {
        let (mut numbers, pre) = parse(text)?;
        numbers.resize(3, 0);
        Some((numbers, pre.is_none(), pre.unwrap_or_default().to_owned()))
    };
    matches!((key(a), key(b)), (Some(a), Some(b)) if a > b)
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
pub fn satisfies(version: &str, constraints: &str) -> Result<bool, NotAConstraint> {
    let bad = || NotAConstraint(constraints.to_owned());
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
    fn what_version_files_say() {
        let check = |content: &str, want: Result<Pin, &str>| {
            assert_eq!(pin(content), want.map_err(str::to_owned), "{content:?}");
        };
        let constraint = |text: &str| Ok(Pin::Constraint(text.into()));
        check("1.11.4\n", constraint("1.11.4"));
        check("# ours\n\nv1.9.0 # for the module\r\n1.8.0\n", constraint("v1.9.0"));
        check("~> 1.9\n", constraint("~> 1.9"));
        check(">= 1.5, < 2.0", constraint(">= 1.5, < 2.0"));
        check("1.12.0-beta1", constraint("1.12.0-beta1"));
        check("min-required\n", Ok(Pin::Oldest));
        check("latest-allowed", Ok(Pin::Newest));
        check("latest:^1.9", Err("latest:^1.9"));
        check("latest", Err("latest"));
        check("", Err(""));
    }

    #[test]
    fn the_nearest_file_holds() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for (path, content) in [
            (".terraform-version", "1.5.0"),
            ("a/.opentofu-version", "1.9.0"),
            ("a/b/c/.terraform-version", "~> 1.11"),
            ("both/.terraform-version", "1.1.0"),
            ("both/.opentofu-version", "1.2.0"),
            ("bad/.terraform-version", "latest"),
        ] {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let check = |below: &str, tool: Tool, want: &[&str]| {
            let found = version_files(root, &root.join(below), tool).unwrap();
            assert_eq!(found.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(), want, "{below} {tool:?}");
        };
        check("", Tool::Any, &[".terraform-version"]);
        check("", Tool::Tofu, &[]);
        check("a/b", Tool::Any, &["a/.opentofu-version"]);
        check("a/b", Tool::Terraform, &[".terraform-version"]);
        check("a/b/c", Tool::Any, &["a/b/c/.terraform-version"]);
        check("a/b/c", Tool::Tofu, &["a/.opentofu-version"]);
        check("both", Tool::Any, &["both/.terraform-version", "both/.opentofu-version"]);
        check("gone/since", Tool::Any, &[".terraform-version"]);
        assert!(version_files(root, &root.join("bad"), Tool::Any).is_err());
        assert_eq!(version_files(&root.join("bad/x"), &root.join("bad/x"), Tool::Any), Ok(vec![]));
    }

    #[test]
    fn newer_versions() {
        let check = |a: &str, b: &str, want: bool| assert_eq!(is_newer(a, b), want, "{a} {b}");
        check("99.0.0", "1.11.4", true);
        check("1.11.4", "1.11.4", false);
        check("1.9.8", "1.11.4", false);
        check("1.11.5", "1.11.4", true);
        check("1.12.0-beta1", "1.11.4", true);
        check("1.12.0", "1.12.0-rc1", true);
        check("", "1.11.4", false);
        assert_eq!(order("1.12.0-beta1", "1.11.4"), Ordering::Less);
    }
}
