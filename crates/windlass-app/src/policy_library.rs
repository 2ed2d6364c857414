//! The starter library of policies: what there is, and copies of it in a project.

use crate::error::{AppError, AppResult, ErrorKind};
use crate::project::Checkout;
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;
use windlass_model::diagnostic::{Diagnostic, Span};
use windlass_policy::library::{FILES, Library, Policy};

/// Where the copies lie in a project.
pub const PLACE: &str = "policy/library";

const SETTINGS: &str = "settings.json";
const README: &str = "README.md";

/// What a copy did, in paths below the project.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Initialised {
    /// Ids of the policies that were asked for.
    pub policies: Vec<String>,
    pub written: Vec<String>,
    /// Files that were there with the same content.
    pub unchanged: Vec<String>,
    /// The project says itself which files judge, so that those in `policy` are not used unless a `policy` block names them.
    pub needs_block: bool,
}

/// All policies, sorted by id.
///
/// # Errors
/// A policy of the library does not load, which is a bug.
pub fn list() -> AppResult<Vec<Policy>> {
    Ok(library()?.policies)
}

fn library() -> AppResult<Library> {
    Library::read().map_err(|diagnostics| AppError::many(ErrorKind::Internal, diagnostics))
}

/// Copies the policies that `names` choose (all when empty) to `policy/library` in the project around `directory`, with their tests, their settings and a
/// page about them. Values that stand in the settings stay.
///
/// # Errors
/// WL445 for names that choose nothing; WL446 for files that were changed and would be overwritten, unless `force`; files that cannot
/// be read or written. Nothing is written when there is an error before the first write.
pub fn init(directory: &Path, names: &[String], force: bool) -> AppResult<Initialised> {
    let checkout = Checkout::open(directory)?;
    let root = checkout.root.as_path();
    let library = library()?;
    let chosen = library.choose(names).map_err(|unknown| unknown_names(&library, &unknown))?;
    let place = root.join(PLACE);
    let before: Vec<&Policy> =
        library.policies.iter().filter(|policy| place.join(format!("{}.rego", policy.id())).is_file()).collect();
    let after: Vec<&Policy> =
        library.policies.iter().filter(|policy| before.contains(policy) || chosen.contains(policy)).collect();

    let mut diagnostics = Vec::new();
    let mut read = |path: &str| match std::fs::read_to_string(place.join(path)) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => {
            diagnostics.push(cannot("read", path, &error));
            None
        }
    };
    let mut wanted: BTreeMap<String, String> = BTreeMap::new();
    let mut there: BTreeMap<String, String> = BTreeMap::new();
    for path in chosen.iter().flat_map(|policy| policy.paths()) {
        if let Some((_, text)) = FILES.iter().find(|(known, _)| *known == path) {
            wanted.insert(path.to_owned(), (*text).to_owned());
        }
    }
    wanted.insert(README.to_owned(), readme(&library, &after));
    for path in wanted.keys().map(String::as_str).chain([SETTINGS]) {
        if let Some(text) = read(path) {
            there.insert(path.to_owned(), text);
        }
    }
    match settings(&library, &after, there.get(SETTINGS).map(String::as_str)) {
        Ok(text) => drop(wanted.insert(SETTINGS.to_owned(), text)),
        Err(diagnostic) => diagnostics.push(*diagnostic),
    }
    let ours_before = readme(&library, &before);
    for (path, text) in &there {
        let is_ours = wanted.get(path) == Some(text) || path == SETTINGS || (path == README && *text == ours_before);
        if !is_ours && !force {
            diagnostics.push(
                Diagnostic::error("WL446", format!("{PLACE}/{path} is not what the library has: it was changed"))
                    .at(Span::file(format!("{PLACE}/{path}")))
                    .help("keep your version by naming other policies, or write the library's over it with --force"),
            );
        }
    }
    if !diagnostics.is_empty() {
        return Err(AppError::many(ErrorKind::Definition, diagnostics));
    }

    let mut done = Initialised {
        policies: chosen.iter().map(|policy| policy.id()).collect(),
        written: Vec::new(),
        unchanged: Vec::new(),
        needs_block: needs_block(&checkout),
    };
    for (path, text) in &wanted {
        if there.get(path) == Some(text) {
            done.unchanged.push(format!("{PLACE}/{path}"));
            continue;
        }
        let full = place.join(path);
        let written = full.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&full, text));
        written.map_err(|error| AppError::new(ErrorKind::Definition, cannot("write", path, &error)))?;
        done.written.push(format!("{PLACE}/{path}"));
    }
    Ok(done)
}

fn cannot(verb: &str, path: &str, error: &std::io::Error) -> Diagnostic {
    Diagnostic::error("WL401", format!("cannot {verb} {PLACE}/{path}: {error}"))
        .at(Span::file(format!("{PLACE}/{path}")))
}

fn unknown_names(library: &Library, unknown: &[String]) -> AppError {
    let all: Vec<String> = library.policies.iter().map(Policy::id).collect();
    let diagnostics = unknown.iter().map(|name| {
        Diagnostic::error("WL445", format!("the library has no policy and no cloud `{name}`"))
            .help(format!("there are: {}", all.join(", ")))
    });
    AppError::many(ErrorKind::Definition, diagnostics.collect())
}

/// Whether the project has `policy` blocks and none of them covers the library's place.
fn needs_block(checkout: &Checkout) -> bool {
    let Ok(tree) = checkout.work_tree() else { return false };
    let (definitions, _) = windlass_lang::definitions::load(&*tree);
    let covers = |path: &String| {
        let path = path.trim_start_matches("./").trim_end_matches('/');
        path.is_empty() || path == "." || path == "policy" || path == PLACE
    };
    !definitions.policies.is_empty() && !definitions.policies.iter().any(|policy| policy.paths.iter().any(covers))
}

/// The settings of `policies` with their defaults, under what `present` says already.
fn settings(library: &Library, policies: &[&Policy], present: Option<&str>) -> Result<String, Box<Diagnostic>> {
    let path = format!("{PLACE}/{SETTINGS}");
    let wrong = |why: String, line: u32| {
        let span = Span { line, end_line: line, ..Span::file(path.clone()) };
        Box::new(
            Diagnostic::error("WL401", format!("{path} {why}"))
                .at(span)
                .help("its shape is {\"library\": {\"settings\": {NAME: VALUE}}}"),
        )
    };
    let mut document = match present {
        None => Value::Object(Map::new()),
        Some(text) => {
            serde_json::from_str(text).map_err(|error| wrong(format!("is not JSON: {error}"), error.line() as u32))?
        }
    };
    let mut at = &mut document;
    for key in ["library", "settings"] {
        let object = at.as_object_mut().ok_or_else(|| wrong("is not of its shape".into(), 1))?;
        at = object.entry(key).or_insert_with(|| Value::Object(Map::new()));
    }
    let object = at.as_object_mut().ok_or_else(|| wrong("is not of its shape".into(), 1))?;
    let missing: Vec<_> = library.settings_of(policies).filter(|setting| !object.contains_key(&setting.name)).collect();
    // What is complete stays as it was written.
    if let (Some(text), true) = (present, missing.is_empty()) {
        return Ok(text.to_owned());
    }
    for setting in missing {
        object.insert(setting.name.clone(), setting.default.clone());
    }
    Ok(format!("{document:#}\n"))
}

fn readme(library: &Library, policies: &[&Policy]) -> String {
    let mut out = String::from(
        "# Policies from the starter library\n\n\
         Made by `windlass policy init`. These files are yours: change them, and the program leaves your version alone.\n\n\
         | policy | severity | what it wants |\n|---|---|---|\n",
    );
    for policy in policies {
        let severity = format!("{:?}", policy.severity).to_lowercase();
        out.push_str(&format!("| [{0}]({0}.rego) | {severity} | {1} |\n", policy.id(), policy.title));
    }
    out.push_str(
        "\n## Settings\n\n`settings.json` holds every setting with its default. What is left out has its default again.\n\n\
         | setting | default | meaning | heeded by |\n|---|---|---|---|\n",
    );
    for setting in library.settings_of(policies) {
        let heeded: Vec<String> = policies
            .iter()
            .filter(|policy| policy.settings.contains(&setting.name))
            .map(|policy| policy.id())
            .collect();
        out.push_str(&format!(
            "| `{}` | `{}` | {} | {} |\n",
            setting.name,
            setting.default,
            setting.meaning,
            heeded.join(", ")
        ));
    }
    out.push_str(
        "\n## Use\n\n```console\n$ windlass policy test policy/library\n$ windlass review --all\n\
         $ windlass policy check --policy policy/library --data policy/library/settings.json --all-namespaces plan.json\n```\n\n\
         A review reads everything below `policy`, the settings included, unless `policy` blocks say otherwise.\n",
    );
    out
}
