//! Instances of a stack: declared, by region, or by the variable files of its workspaces.

use super::Modules;
use super::scope::{ModuleScope, Nothing, Variables};
use super::state::address;
use crate::eval::{Value, evaluate};
use crate::terraform::module::Module;
use crate::terraform::syntax::{parse_json, parse_native};
use crate::tree::join;
use std::collections::BTreeMap;
use std::sync::Arc;
use windlass_model::definition::{Definitions, StackDefinition};
use windlass_model::diagnostic::{Diagnostic, Span};
use windlass_model::id::{InstanceId, StackId};
use windlass_model::stack::Instance;

/// Subdirectories in which repositories keep variable files per environment.
const VAR_DIRECTORIES: [&str; 7] = ["", "env", "envs", "environments", "vars", "tfvars", "regions"];

/// The instances of a stack and the values of their variables, in the same order; never empty.
pub fn instances(
    modules: &Modules<'_>,
    module: &Module,
    id: &StackId,
    definition: Option<&StackDefinition>,
    definitions: &Definitions,
    diagnostics: &mut Vec<Diagnostic>,
) -> (Vec<Instance>, Vec<Variables>) {
    let common_files = definition.map(|d| d.var_files.clone()).unwrap_or_default();
    let common = definition.map(|d| d.variables.clone()).unwrap_or_default();
    let common_backend = definition.map(|d| d.backend_config.clone()).unwrap_or_default();
    let mut drafts: Vec<Draft> = Vec::new();
    if let Some(definition) = definition {
        for region in &definition.regions {
            let files = var_file(modules, module, region).into_iter().collect::<Vec<_>>();
            let mut variables = BTreeMap::new();
            let set =
                files.iter().any(|file| read_var_file(modules, module, file, &mut Vec::new()).contains_key("region"));
            if module.variables.contains_key("region") && !set {
                variables.insert("region".to_owned(), serde_json::Value::from(region.as_str()));
            }
            drafts.push(Draft {
                key: Some(region.clone()),
                workspace: region.clone(),
                files,
                variables,
                backend: BTreeMap::new(),
            });
        }
        for instance in &definition.instances {
            drafts.push(Draft {
                key: Some(instance.key.clone()),
                workspace: instance.workspace.clone().unwrap_or_else(|| "default".into()),
                files: instance.var_files.clone(),
                variables: instance.variables.clone(),
                backend: instance.backend_config.clone(),
            });
        }
    }
    if drafts.is_empty() && module.mentions_workspace {
        for name in workspace_names(modules, module) {
            let files = var_file(modules, module, &name).into_iter().collect();
            drafts.push(Draft {
                key: Some(name.clone()),
                workspace: name,
                files,
                variables: BTreeMap::new(),
                backend: BTreeMap::new(),
            });
        }
    }
    if drafts.is_empty() {
        drafts.push(Draft {
            key: None,
            workspace: "default".into(),
            files: Vec::new(),
            variables: BTreeMap::new(),
            backend: BTreeMap::new(),
        });
    }
    let base = automatic_variables(modules, module, diagnostics);
    let mut instances = Vec::with_capacity(drafts.len());
    let mut values = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let var_files: Vec<String> = common_files.iter().chain(&draft.files).cloned().collect();
        let mut variables = base.clone();
        for file in &var_files {
            let found = read_var_file(modules, module, file, diagnostics);
            if found.is_empty()
                && join(&module.directory, file).is_none_or(|path| modules.tree.read(&path).ok().flatten().is_none())
            {
                let span = definition.map_or_else(|| Span::file(&*module.directory), |d| d.span.clone());
                diagnostics.push(
                    Diagnostic::error("WL211", format!("variable file {file} of {id} does not exist"))
                        .at(span)
                        .help("paths of variable files are relative to the stack's directory"),
                );
            }
            variables.extend(found);
        }
        let given: BTreeMap<String, serde_json::Value> = common.clone().into_iter().chain(draft.variables).collect();
        variables.extend(given.iter().map(|(name, value)| (name.clone(), Value::from_json(value))));
        let backend_config: BTreeMap<String, String> =
            common_backend.clone().into_iter().chain(draft.backend).collect();
        let (backend, state) = own_state(modules, module, &variables, &draft.workspace, &backend_config);
        let instance = InstanceId::of(id, draft.key.as_deref());
        instances.push(Instance {
            environments: environments_of(definitions, &instance),
            id: instance,
            workspace: draft.workspace,
            var_files,
            variables: given,
            backend_config,
            backend,
            state_unknown: state.as_ref().err().map(|why| why.to_string()),
            state: state.ok(),
        });
        values.push(variables);
    }
    (instances, values)
}

struct Draft {
    key: Option<String>,
    workspace: String,
    files: Vec<String>,
    variables: BTreeMap<String, serde_json::Value>,
    backend: BTreeMap<String, String>,
}

/// Names of the environments an instance belongs to, in order of definition.
pub fn environments_of(definitions: &Definitions, instance: &InstanceId) -> Vec<String> {
    let stack = instance.stack();
    let matches = |pattern: &String| {
        // The bracket of an instance is meant as it stands, not as a class of characters.
        let subject = if pattern.contains('[') { instance.as_str() } else { stack.as_str() };
        crate::glob(&pattern.replace('[', "[[]")).is_ok_and(|glob| glob.is_match(subject))
    };
    definitions.environments.iter().filter(|e| e.matches.iter().any(matches)).map(|e| e.name.clone()).collect()
}

/// `NAME.tfvars` in the stack's directory or one of the usual subdirectories, relative to the stack's directory.
fn var_file(modules: &Modules<'_>, module: &Module, name: &str) -> Option<String> {
    let candidates = VAR_DIRECTORIES.iter().flat_map(|directory| {
        let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        [format!("{prefix}{name}.tfvars"), format!("{prefix}{name}.tfvars.json")]
    });
    candidates.into_iter().find(|file| {
        join(&module.directory, file)
            .is_some_and(|path| modules.tree.paths().binary_search_by(|p| p.as_ref().cmp(&path)).is_ok())
    })
}

/// Stems of the variable files that are not read automatically and are no examples.
fn workspace_names(modules: &Modules<'_>, module: &Module) -> Vec<String> {
    let mut names = Vec::new();
    for directory in VAR_DIRECTORIES {
        let prefix = match (module.directory.is_empty(), directory.is_empty()) {
            (true, true) => String::new(),
            (true, false) => format!("{directory}/"),
            (false, true) => format!("{}/", module.directory),
            (false, false) => format!("{}/{directory}/", module.directory),
        };
        for path in under(modules, &prefix) {
            let Some(name) = path.strip_prefix(prefix.as_str()).filter(|name| !name.contains('/')) else { continue };
            let Some(stem) = name.strip_suffix(".tfvars").or_else(|| name.strip_suffix(".tfvars.json")) else {
                continue;
            };
            let automatic = stem == "terraform" || stem.ends_with(".auto");
            if !automatic
                && !stem.starts_with("example")
                && !stem.starts_with("sample")
                && !names.iter().any(|n| n == stem)
            {
                names.push(stem.to_owned());
            }
        }
    }
    names.sort();
    names
}

/// Paths that start with `prefix`.
fn under<'a>(modules: &'a Modules<'_>, prefix: &'a str) -> impl Iterator<Item = &'a Arc<str>> {
    let paths = modules.tree.paths();
    let start = paths.partition_point(|path| path.as_ref() < prefix);
    paths[start..].iter().take_while(move |path| path.starts_with(prefix))
}

/// `terraform.tfvars`, `terraform.tfvars.json`, then `*.auto.tfvars(.json)` in lexical order.
fn automatic_variables(modules: &Modules<'_>, module: &Module, diagnostics: &mut Vec<Diagnostic>) -> Variables {
    let mut variables = Variables::new();
    let prefix = if module.directory.is_empty() { String::new() } else { format!("{}/", module.directory) };
    let mut automatic: Vec<String> = under(modules, &prefix)
        .filter_map(|path| path.strip_prefix(prefix.as_str()))
        .filter(|name| !name.contains('/') && (name.ends_with(".auto.tfvars") || name.ends_with(".auto.tfvars.json")))
        .map(str::to_owned)
        .collect();
    automatic.sort();
    for file in ["terraform.tfvars".to_owned(), "terraform.tfvars.json".to_owned()].iter().chain(&automatic) {
        variables.extend(read_var_file(modules, module, file, diagnostics));
    }
    variables
}

/// Values of one variable file, relative to the stack's directory; none when there is no such file.
fn read_var_file(modules: &Modules<'_>, module: &Module, file: &str, diagnostics: &mut Vec<Diagnostic>) -> Variables {
    let path =
        join(&module.directory, file).and_then(|path| crate::tree::resolve(modules.tree, &path)).map(|(path, _)| path);
    let Some(path) = path else { return Variables::new() };
    // Most stacks have none: asking the sorted list is cheaper than the file system.
    if modules.tree.paths().binary_search_by(|p| p.as_ref().cmp(&path)).is_err() {
        return Variables::new();
    }
    let Some(text) = modules.tree.read(&path).ok().flatten().and_then(|bytes| String::from_utf8(bytes).ok()) else {
        return Variables::new();
    };
    if path.ends_with(".json") {
        return match serde_json::from_str::<serde_json::Value>(&text).map(|value| Value::from_json(&value)) {
            Ok(Value::Object(object)) => object,
            _ => {
                let at = parse_json(&text).err().map_or(0, |e| e.at) as usize;
                let span = Span::of(&path.as_str().into(), &text, at, at + 1);
                diagnostics.push(
                    Diagnostic::error("WL201", format!("{path} is not a JSON object")).at_source(span, &text, "here"),
                );
                Variables::new()
            }
        };
    }
    match parse_native(&text, 0) {
        Ok(body) => body.attributes.iter().map(|a| (a.name.clone(), evaluate(&a.value, &Nothing))).collect(),
        Err(error) => {
            let span = Span::of(&path.as_str().into(), &text, error.at as usize, error.at as usize + 1);
            let what =
                error.message.lines().map(str::trim).find(|l| !l.is_empty()).unwrap_or("not valid HCL").to_owned();
            diagnostics
                .push(Diagnostic::error("WL201", format!("syntax error: {what}")).at_source(span, &text, "here"));
            Variables::new()
        }
    }
}

/// Backend kind and address of an instance's own state.
fn own_state(
    modules: &Modules<'_>,
    module: &Module,
    variables: &Variables,
    workspace: &str,
    backend_config: &BTreeMap<String, String>,
) -> (String, Result<Arc<str>, Arc<str>>) {
    let workspace = Value::string(workspace);
    let scope = ModuleScope::new(modules.tree, module, variables, workspace.clone(), &module.directory);
    let (kind, body) = match (&module.backend, &module.cloud) {
        (Some(backend), _) => (backend.labels.first().map_or("local", String::as_str), Some(module.body(backend))),
        (None, Some(cloud)) => ("cloud", Some(module.body(cloud))),
        (None, None) => ("local", None),
    };
    let mut config = body.map(|body| scope.config(body)).unwrap_or_default();
    config.extend(backend_config.iter().map(|(name, value)| (name.clone(), Value::string(value.as_str()))));
    (kind.to_owned(), address(kind, &config, &workspace, &module.directory))
}
