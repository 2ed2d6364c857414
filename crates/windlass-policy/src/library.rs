//! The starter library: policies that come with the program, with their tests and settings. What it says about a policy is read from
//! the policy itself.

use crate::conftest::{self, File};
use crate::engine::{Options, Rego};
use regorus::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use windlass_model::diagnostic::{Diagnostic, Span};
use windlass_model::review::Severity;

macro_rules! embedded {
    ($($path:literal),+ $(,)?) => { &[$(($path, include_str!(concat!("../library/", $path)))),+] };
}

/// Every file of the library, sorted: its path below the library's directory, and its text.
pub const FILES: &[(&str, &str)] = embedded![
    "aws/encryption.rego",
    "aws/encryption_test.rego",
    "aws/public_exposure.rego",
    "aws/public_exposure_test.rego",
    "aws/regions.rego",
    "aws/regions_test.rego",
    "aws/tags.rego",
    "aws/tags_test.rego",
    "aws/wildcard_iam.rego",
    "aws/wildcard_iam_test.rego",
    "azure/encryption.rego",
    "azure/encryption_test.rego",
    "azure/public_exposure.rego",
    "azure/public_exposure_test.rego",
    "azure/regions.rego",
    "azure/regions_test.rego",
    "azure/tags.rego",
    "azure/tags_test.rego",
    "azure/wildcard_iam.rego",
    "azure/wildcard_iam_test.rego",
    "google/encryption.rego",
    "google/encryption_test.rego",
    "google/labels.rego",
    "google/labels_test.rego",
    "google/public_exposure.rego",
    "google/public_exposure_test.rego",
    "google/regions.rego",
    "google/regions_test.rego",
    "google/wildcard_iam.rego",
    "google/wildcard_iam_test.rego",
    "kubernetes/exposure.rego",
    "kubernetes/exposure_test.rego",
    "kubernetes/labels.rego",
    "kubernetes/labels_test.rego",
    "kubernetes/objects.rego",
    "kubernetes/objects_test.rego",
    "kubernetes/rbac.rego",
    "kubernetes/rbac_test.rego",
    "kubernetes/workloads.rego",
    "kubernetes/workloads_test.rego",
    "plan.rego",
    "plan_test.rego",
    "terraform/data_deletion.rego",
    "terraform/data_deletion_test.rego",
    "terraform/module_pinning.rego",
    "terraform/module_pinning_test.rego",
    "terraform/provider_pinning.rego",
    "terraform/provider_pinning_test.rego",
    "terraform/unexpected_destroy.rego",
    "terraform/unexpected_destroy_test.rego",
];

/// A policy of the library.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Policy {
    /// `aws`, `azure`, `google`, `kubernetes` or `terraform`.
    pub cloud: String,
    /// e.g. `public_exposure`.
    pub name: String,
    pub title: String,
    pub description: String,
    pub severity: Severity,
    /// Pages that say more.
    pub related: Vec<String>,
    /// Names of its settings, in the order of the file.
    pub settings: Vec<String>,
}

impl Policy {
    /// e.g. `aws/public_exposure`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.cloud, self.name)
    }

    /// Paths of the files that it needs: itself, its tests, and what it shares with others.
    pub fn paths(&self) -> impl Iterator<Item = &'static str> + '_ {
        let own = self.id();
        let shared = format!("{}/objects", self.cloud);
        FILES.iter().map(|(path, _)| *path).filter(move |path| {
            let stem = path.trim_end_matches(".rego").trim_end_matches("_test");
            stem == own || stem == shared || stem == "plan"
        })
    }
}

/// What a team can set: a name below `data.library.settings`.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Setting {
    pub name: String,
    pub meaning: String,
    pub default: serde_json::Value,
    /// Ids of the policies that heed it.
    pub policies: Vec<String>,
}

/// The library as it describes itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Library {
    /// Sorted by id.
    pub policies: Vec<Policy>,
    /// Sorted by name.
    pub settings: Vec<Setting>,
}

/// All files in the shape that the loaders take.
pub fn files() -> Vec<(Arc<str>, String)> {
    FILES.iter().map(|(path, text)| ((*path).into(), (*text).to_owned())).collect()
}

impl Library {
    /// Reads the embedded policies.
    ///
    /// # Errors
    /// A policy does not load, says too little of itself, or two of them differ over a setting; tests of the library keep that from
    /// being shipped.
    pub fn read() -> Result<Self, Vec<Diagnostic>> {
        let modules = files();
        let mut rego = Rego::load(&modules, &Options::default())?;
        let mut policies = Vec::new();
        let mut settings: BTreeMap<String, Setting> = BTreeMap::new();
        for file in conftest::files(&modules)? {
            if !file.heads.iter().any(|head| head.judges()) {
                continue;
            }
            let policy = policy(&file)?;
            for name in &policy.settings {
                let fail = |why: String| {
                    let summary = format!("setting {name} of {} {why}", policy.id());
                    vec![Diagnostic::error("WL406", summary).at(Span::file(file.path.clone()))]
                };
                let value = rego.eval_rule(&format!("data.{}.{name}", file.package)).map_err(&fail)?;
                if value == Value::Undefined {
                    return Err(fail("has no default".into()));
                }
                let default = serde_json::to_value(&value).map_err(|error| fail(error.to_string()))?;
                let meaning = meaning(&file.text, name).ok_or_else(|| fail("has no comment".into()))?;
                let setting = settings.entry(name.clone()).or_insert_with(|| Setting {
                    name: name.clone(),
                    meaning: meaning.clone(),
                    default: default.clone(),
                    policies: Vec::new(),
                });
                if setting.default != default || setting.meaning != meaning {
                    return Err(fail(format!("is not that of {}", setting.policies.join(", "))));
                }
                setting.policies.push(policy.id());
            }
            policies.push(policy);
        }
        Ok(Self { policies, settings: settings.into_values().collect() })
    }

    /// The policies that `names` name, in the library's order: a cloud (`aws`), a policy (`aws/tags`, `aws-tags`) or a policy of every
    /// cloud (`tags`). No name means all.
    ///
    /// # Errors
    /// The names that name nothing.
    pub fn choose(&self, names: &[String]) -> Result<Vec<&Policy>, Vec<String>> {
        let is = |policy: &Policy, name: &str| {
            let name = name.trim_end_matches('/').replace('-', "_");
            name == policy.cloud
                || name == policy.name
                || name == policy.id()
                || name == policy.id().replacen('/', "_", 1)
        };
        let unknown: Vec<String> =
            names.iter().filter(|name| !self.policies.iter().any(|policy| is(policy, name))).cloned().collect();
        if !unknown.is_empty() {
            return Err(unknown);
        }
        let chosen = |policy: &&Policy| names.is_empty() || names.iter().any(|name| is(policy, name));
        Ok(self.policies.iter().filter(chosen).collect())
    }

    /// The settings that at least one of `policies` heeds.
    pub fn settings_of<'a>(&'a self, policies: &'a [&Policy]) -> impl Iterator<Item = &'a Setting> {
        self.settings.iter().filter(|setting| policies.iter().any(|policy| policy.settings.contains(&setting.name)))
    }
}

fn policy(file: &File) -> Result<Policy, Vec<Diagnostic>> {
    let lacks = |what: &str| {
        let summary = format!("{} has no {what} in its METADATA", file.path);
        vec![Diagnostic::error("WL410", summary).at(Span::file(file.path.clone()))]
    };
    let (cloud, name) = file.path.trim_end_matches(".rego").split_once('/').ok_or_else(|| lacks("cloud"))?;
    let notes = &file.annotations;
    let prefix = "data.library.settings.";
    let mut settings: Vec<String> = Vec::new();
    for (at, _) in file.text.match_indices(prefix) {
        // In METADATA it is mentioned only.
        let line = file.text[..at].rsplit('\n').next().unwrap_or_default();
        let rest = &file.text[at + prefix.len()..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        if !line.starts_with('#') && !settings.iter().any(|known| known == &rest[..end]) {
            settings.push(rest[..end].to_owned());
        }
    }
    Ok(Policy {
        cloud: cloud.to_owned(),
        name: name.to_owned(),
        title: notes.title.clone().ok_or_else(|| lacks("title"))?,
        description: notes.description.clone().ok_or_else(|| lacks("description"))?.trim().to_owned(),
        severity: notes.severity.ok_or_else(|| lacks("custom.severity"))?,
        related: notes.related.clone(),
        settings,
    })
}

/// The comment above the default of a setting.
fn meaning(text: &str, name: &str) -> Option<String> {
    let before = text.split(&format!("\ndefault {name} :=")).next().filter(|before| before.len() < text.len())?;
    let lines: Vec<&str> = before.lines().rev().map_while(|line| line.strip_prefix("# ")).collect();
    (!lines.is_empty()).then(|| lines.into_iter().rev().collect::<Vec<_>>().join(" "))
}
