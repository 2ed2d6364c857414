//! One query, answered by the embedded engine and, for comparison, by OPA.

use super::Within;
use super::settings::Settings;
use super::sources::{self, Data, Modules};
use serde_json::{Map, Value, json};
use std::path::Path;
use std::process::{Command, Stdio};
use windlass_model::diagnostic::Diagnostic;
use windlass_policy::syntax::tree::Dialect;
use windlass_policy::{CheckOptions, Checker, Limits, Mode, Reader};

/// What a query answers.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct QueryAnswer {
    /// For a query that is one expression: its value. `None` is undefined.
    pub value: Option<Value>,
    /// For other queries: the values of its variables, a row for each way to make it true.
    pub rows: Vec<Map<String, Value>>,
    /// What OPA answers, in the same shape, when it was asked and answers something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opa: Option<Value>,
}

/// What is asked.
#[derive(Debug, Clone, Default)]
pub struct Query {
    pub text: String,
    /// The file that is `input`; `-` is standard input.
    pub input: Option<String>,
    pub compare: bool,
}

/// Answers a query over the policies and data that the settings name; without policies over data alone.
///
/// # Errors
/// WL438 when it cannot be evaluated; whatever is wrong with the files.
pub fn eval(
    directory: &Path,
    query: &Query,
    settings: &Settings,
    stdin: &mut dyn std::io::Read,
    within: &Within,
) -> Result<QueryAnswer, Vec<Diagnostic>> {
    let conventional = settings.policy.is_empty() && !directory.join("policy").is_dir();
    let modules = match settings.policy.as_slice() {
        [] if conventional => Modules::new(),
        [] => sources::modules(directory, &["policy".to_owned()])?,
        paths => sources::modules(directory, paths)?,
    };
    let data = sources::data(directory, &settings.data)?;
    let input = match &query.input {
        None => None,
        Some(path) => {
            let inputs = sources::inputs(directory, std::slice::from_ref(path), settings, stdin)?;
            inputs.into_iter().next().map(|input| input.contents)
        }
    };
    let options = CheckOptions { mode: Mode::Compatible, dialect: settings.dialect, ..CheckOptions::default() };
    let reader = Reader::beside(directory, &modules);
    let checker = Checker::load_apart(&modules, &data, &options, reader, within.worker.clone())?;
    let mut answer = answer(&checker, &query.text, input.as_ref(), &within.limits)
        .map_err(|why| vec![Diagnostic::error("WL438", format!("the query cannot be evaluated: {why}"))])?;
    if query.compare {
        let theirs = ask_opa(&query.text, &modules, &data, input.as_ref(), settings.dialect)
            .map_err(|why| vec![Diagnostic::error("WL438", format!("OPA cannot be asked: {why}"))])?;
        let ours = answer.comparable();
        if theirs != ours {
            answer.opa = Some(theirs);
        }
    }
    Ok(answer)
}

impl QueryAnswer {
    /// The value, or the list of rows; null when there is neither.
    pub fn comparable(&self) -> Value {
        match (&self.value, self.rows.is_empty()) {
            (Some(value), _) => value.clone(),
            (None, true) => Value::Null,
            (None, false) => json!(self.rows),
        }
    }
}

const VALUE: &str = "windlass_value";

fn answer(checker: &Checker, text: &str, input: Option<&Value>, limits: &Limits) -> Result<QueryAnswer, String> {
    let mut answer = QueryAnswer { value: None, rows: Vec::new(), opa: None };
    // Several statements have no value of their own.
    if !text.contains([';', '\n']) {
        let named = format!("{VALUE} := {text}");
        if let Ok(rows) = checker.query(&named, input, limits) {
            answer.value = rows.into_iter().next().and_then(|mut row| row.remove(VALUE));
            return Ok(answer);
        }
    }
    answer.rows = checker.query(text, input, limits)?.into_iter().map(|row| row.into_iter().collect()).collect();
    Ok(answer)
}

/// The same from `opa eval`, as [`QueryAnswer::comparable`].
fn ask_opa(
    text: &str,
    modules: &Modules,
    data: &Data,
    input: Option<&Value>,
    dialect: Option<Dialect>,
) -> Result<Value, String> {
    let place = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut command = Command::new("opa");
    command.args(["eval", "--format", "json"]);
    if dialect == Some(Dialect::V0) {
        command.arg("--v0-compatible");
    }
    let write = |name: String, text: &str| {
        let path = place.path().join(name);
        std::fs::write(&path, text).map(|()| path).map_err(|error| error.to_string())
    };
    for (index, (_, text)) in modules.iter().enumerate() {
        command.arg("--data").arg(write(format!("m{index}.rego"), text)?);
    }
    for (index, (_, value)) in data.iter().enumerate() {
        command.arg("--data").arg(write(format!("d{index}.json"), &value.to_string())?);
    }
    if let Some(input) = input {
        command.arg("--input").arg(write("input.json".into(), &input.to_string())?);
    }
    let output = command.arg(text).stdin(Stdio::null()).output().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "`opa` is not on the PATH".to_owned(),
        _ => error.to_string(),
    })?;
    let value: Value = serde_json::from_slice(&output.stdout).map_err(|error| {
        let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if text.is_empty() { error.to_string() } else { text }
    })?;
    if let Some(errors) = value.get("errors") {
        let first = errors.get(0).and_then(|error| error.get("message")).and_then(Value::as_str);
        return Err(first.unwrap_or("it failed").to_owned());
    }
    let Some(results) = value.get("result").and_then(Value::as_array) else { return Ok(Value::Null) };
    let bound: Vec<&Value> = results.iter().filter_map(|result| result.get("bindings")).collect();
    if !bound.is_empty() {
        return Ok(json!(bound));
    }
    let value = results.first().and_then(|result| result.get("expressions")?.get(0)?.get("value"));
    Ok(value.cloned().unwrap_or(Value::Null))
}
