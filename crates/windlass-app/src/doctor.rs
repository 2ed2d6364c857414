//! What of the outside world is here and fit.

use crate::project::Checkout;
use crate::settings::{StateDirectory, provider_mirror};
use serde::Serialize;
use std::path::Path;
use windlass_drivers::terraform::cli_configuration::CliConfiguration;
use windlass_drivers::terraform::{Places, ToolBox};

#[derive(Debug, Clone, Serialize)]
pub struct Fitness {
    pub what: String,
    pub found: String,
    pub fit: bool,
    pub help: Option<String>,
}

pub fn doctor(directory: &Path) -> Vec<Fitness> {
    let mut out = Vec::new();
    let mut add = |what: &str, found: Result<String, (String, Option<String>)>| {
        let fit = found.is_ok();
        let (found, help) = found.map_or_else(|(why, help)| (why, help), |found| (found, None));
        out.push(Fitness { what: what.into(), found, fit, help });
    };
    let first = |error: &crate::error::AppError| {
        let diagnostic = error.diagnostics.first();
        (diagnostic.map_or_else(String::new, |d| d.summary.clone()), diagnostic.and_then(|d| d.help.clone()))
    };
    let checkout = Checkout::open(directory);
    match &checkout {
        Ok(checkout) => match checkout.git() {
            Ok(git) => {
                add("git repository", Ok(git.root().display().to_string()));
                add(
                    "default branch",
                    git.default_branch().ok_or_else(|| {
                        (
                            "none of origin/HEAD, main, master".into(),
                            Some("name what to compare with, `--base REV`".into()),
                        )
                    }),
                );
                add(
                    "history",
                    if git.is_shallow() {
                        Err(("shallow clone".into(), Some("git fetch --unshallow".into())))
                    } else {
                        Ok("complete".into())
                    },
                );
            }
            Err(error) => add("git repository", Err(first(&error))),
        },
        Err(error) => add("directory", Err(first(error))),
    }
    let cache = std::env::temp_dir().join(format!("windlass-doctor-{}", std::process::id()));
    let tools = ToolBox::discover(&Places::of_process(), &cache);
    // The cache was only for this call.
    let _ = std::fs::remove_file(cache);
    let names: Vec<String> =
        tools.tools().iter().map(|t| format!("{} {} ({})", t.name, t.version, t.path.display())).collect();
    add(
        "terraform or tofu",
        if names.is_empty() {
            Err((
                "none on the PATH, and none of a version manager".into(),
                Some("install OpenTofu: https://opentofu.org/docs/intro/install".into()),
            ))
        } else {
            Ok(names.join(", "))
        },
    );
    if let Ok(checkout) = &checkout {
        add("mirror of providers", Ok(mirror(&checkout.root)));
    }
    out
}

/// What the mirror of providers takes and saves, or why it is not used.
fn mirror(root: &Path) -> String {
    let cli = CliConfiguration::of_process();
    if let Err(why) = cli.may_add("terraform").and_then(|()| cli.may_add("tofu")) {
        return format!("not used: {why}");
    }
    provider_usage(&StateDirectory::at(root))
}

/// Disk used by the mirror of providers, and what the links of this repository save.
pub(crate) fn provider_usage(state: &StateDirectory) -> String {
    let mirror = provider_mirror(state);
    let data: Vec<std::path::PathBuf> = std::fs::read_dir(state.all_terraform_data())
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    let usage = mirror.usage(data.iter().map(std::path::PathBuf::as_path));
    format!(
        "{}: {} packages, {}; {} links to them here save {}",
        mirror.root().display(),
        usage.packages,
        size(usage.disk),
        usage.links,
        size(usage.saved)
    )
}

/// Bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..0x10_0000 => (1 << 10, "KiB"),
        0x10_0000..0x4000_0000 => (1 << 20, "MiB"),
        _ => (1_u128 << 30, "GiB"),
    };
    let tenths = u128::from(bytes) * 10 / unit;
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes_have_the_unit_that_suits_them() {
        let check = |bytes: u64, want: &str| assert_eq!(super::size(bytes), want);
        check(0, "0.0 KiB");
        check(1536, "1.5 KiB");
        check((1 << 20) - 1, "1023.9 KiB");
        check(1 << 20, "1.0 MiB");
        check((1 << 30) + (1 << 29), "1.5 GiB");
        check(u64::MAX, "17179869183.9 GiB");
    }
}
