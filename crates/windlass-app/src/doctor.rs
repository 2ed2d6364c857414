//! What of the outside world is here and fit.

use crate::artefacts::Place;
use crate::configuration::Configuration;
use crate::error::AppError;
use crate::project::Checkout;
use crate::repositories::Repository;
use crate::settings::{StateDirectory, provider_mirror};
use serde::Serialize;
use std::path::Path;
use windlass_connect::oidc::Provider;
use windlass_drivers::git::mirror::Mirror;
use windlass_drivers::terraform::cli_configuration::CliConfiguration;
use windlass_drivers::terraform::{Places, ToolBox};
use windlass_model::diagnostic::Diagnostic;
use windlass_store::Store;

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
        let project = checkout.project();
        let stacks = project.iter().flat_map(|project| &project.definitions.stacks);
        let names = stacks.flat_map(|stack| stack.env.iter().map(String::as_str));
        for name in crate::secrets::too_short(names, |name| std::env::var(name).ok()) {
            let help = "make it longer; where it is no secret, nothing is to be done".to_owned();
            add("secrets of stacks", Err((format!("{name} {}", crate::secrets::TOO_SHORT), Some(help))));
        }
    }
    out
}

/// What a server with this configuration needs: its database, its directory, its repositories and whoever signs people in.
pub async fn server(configuration: &Configuration) -> Vec<Fitness> {
    let mut out = Vec::new();
    let mut add = |what: String, found: Result<String, Box<Diagnostic>>| {
        let fit = found.is_ok();
        let (found, help) = found.map_or_else(|wrong| (wrong.summary, wrong.help), |found| (found, None));
        out.push(Fitness { what, found, fit, help });
    };
    let data = configuration.data.clone().unwrap_or_else(|| StateDirectory::at(Path::new(".")).server());
    add("data directory".into(), writable(&data));
    match &configuration.database {
        Some(url) => match Store::connect(url).await {
            Ok(store) => {
                add("database".into(), Ok(format!("{}, with the schema of this release", store.place())));
                add("clocks".into(), clocks(&store).await);
                store.close().await;
            }
            Err(error) => add("database".into(), Err(first(error.into()))),
        },
        None => {
            let file = data.join("windlass.db");
            let found = if file.exists() { "is there" } else { "is made by the first start" };
            add("database".into(), Ok(format!("{} {found}", file.display())));
        }
    }
    if let Some(setting) = &configuration.artefacts {
        add("artefacts".into(), Place::parse(setting).check().await.map_err(first));
    }
    for repository in &configuration.repositories {
        let checked = repository.check().into_iter().next().map_or(Ok(()), |wrong| Err(Box::new(wrong)));
        let reached = match checked {
            Ok(()) => reach(repository).await,
            Err(wrong) => Err(wrong),
        };
        add(format!("repository {}", repository.name), reached);
    }
    for settings in &configuration.providers {
        let issuer = settings.issuer.clone();
        let (name, settings) = (settings.name.clone(), settings.clone());
        let now = jiff::Timestamp::now().as_microsecond();
        let discover = move || {
            let discovered = Provider::new(settings).and_then(|provider| provider.discover(now));
            discovered.map(|()| format!("{issuer} answers")).map_err(|error| Box::new(error.diagnostic()))
        };
        add(format!("sign-in {name}"), asked(tokio::task::spawn_blocking(discover).await));
    }
    out
}

fn first(error: AppError) -> Box<Diagnostic> {
    let said = error.to_string();
    Box::new(error.diagnostics.into_iter().next().unwrap_or_else(|| Diagnostic::error("WL999", said)))
}

/// What a server should have free: work trees, kept states and plans take it.
const ROOM: u64 = 1 << 30;

fn writable(data: &Path) -> Result<String, Box<Diagnostic>> {
    let wrong = |error: &dyn std::fmt::Display| {
        let summary = format!("{} cannot be written: {error}", data.display());
        Box::new(
            Diagnostic::error("WL907", summary).help("give it to the user that the server runs as, or choose another"),
        )
    };
    // The server makes it; that it can be made is what counts.
    let there = data.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    tempfile::Builder::new().prefix(".windlass-doctor-").tempfile_in(there).map_err(|error| wrong(&error))?;
    let space = nix::sys::statvfs::statvfs(there).map_err(|error| wrong(&error))?;
    let free = space.blocks_available().saturating_mul(space.fragment_size());
    if free < ROOM {
        let summary = format!("{} has {} free", data.display(), size(free));
        return Err(Box::new(Diagnostic::error("WL907", summary).help("work trees and plans need 1 GiB at the least")));
    }
    Ok(format!("{}, {} free", data.display(), size(free)))
}

/// So much two clocks may differ, µs: leases go by the database's, sign-in and tokens by this machine's.
const SKEW: i64 = 5_000_000;

async fn clocks(store: &Store) -> Result<String, Box<Diagnostic>> {
    let before = jiff::Timestamp::now().as_microsecond();
    let theirs = store.now().await.map_err(|error| first(error.into()))?;
    let after = jiff::Timestamp::now().as_microsecond();
    let skew = (before - theirs).max(theirs - after).max(0);
    if skew > SKEW {
        let summary = format!("this machine's clock and the database's differ by {} s", skew / 1_000_000);
        return Err(Box::new(Diagnostic::error("WL907", summary).help("have both set by a time server (NTP)")));
    }
    Ok(format!("this machine's and the database's differ by {} ms", skew / 1000))
}

/// Asks a repository what it has, in a mirror that is thrown away.
async fn reach(repository: &Repository) -> Result<String, Box<Diagnostic>> {
    let (remote, url) = (repository.remote(), repository.url.clone());
    let ask = move || {
        let place = tempfile::tempdir().map_err(|error| Box::new(Diagnostic::error("WL907", error.to_string())))?;
        let mirror = Mirror::open(place.path(), remote).map_err(|error| Box::new(error.diagnostic()))?;
        mirror.fetch().map_err(|error| Box::new(error.diagnostic()))?;
        Ok(format!("{url} answers"))
    };
    asked(tokio::task::spawn_blocking(ask).await)
}

type Asked = Result<String, Box<Diagnostic>>;

fn asked(answer: Result<Asked, tokio::task::JoinError>) -> Asked {
    answer.unwrap_or_else(|error| Err(Box::new(Diagnostic::error("WL999", error.to_string()))))
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
