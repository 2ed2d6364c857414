//! What there is to choose from for a parameter: what the project has, or what a program, a file, an address or a stack says.

use super::Source;
use super::form::{depends, expressions, known};
use crate::error::AppResult;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use windlass_drivers::process::{self, Listener, Spec, Stream};
use windlass_lang::expression::Scope;
use windlass_model::id::InstanceId;
use windlass_model::operation::OperationDefinition;
use windlass_model::operation::parameter::{Choice, ChoiceSource, Parameter, ParameterKind};

/// How long a program or an address may take to say what there is.
const LIMIT: Duration = Duration::from_secs(20);
/// From the interrupt to the kill of a program.
const GRACE: Duration = Duration::from_secs(2);
/// What they may say, bytes, and how many choices a form has.
const LONGEST: usize = 1 << 20;
const MOST: usize = 5_000;

/// The values of the parameters before.
pub struct Asked<'a> {
    pub arguments: &'a BTreeMap<String, Value>,
}

/// Why there is nothing to choose from, in words for whoever fills the form.
pub type Found = Result<Vec<Choice>, String>;

/// `None` for a parameter without choices.
///
/// # Errors
/// The files of the commit cannot be read, or the database.
pub async fn of(
    source: &Source<'_>,
    operation: &OperationDefinition,
    parameter: &Parameter,
    scope: &Scope,
    asked: &Asked<'_>,
) -> AppResult<Option<Found>> {
    let definitions = source.definitions();
    let Some(choices) = &parameter.choices else {
        let plain = |names: Vec<&str>| Some(Ok(names.into_iter().map(Choice::plain).collect()));
        return Ok(match parameter.kind {
            ParameterKind::Stack => {
                let instances = source.project.repository.stacks.iter().flat_map(|stack| &stack.instances);
                plain(instances.map(|instance| instance.id.as_str()).collect())
            }
            ParameterKind::Service => plain(definitions.services.iter().map(|service| service.name.as_str()).collect()),
            ParameterKind::HostSet => Some(Ok(definitions
                .host_sets
                .iter()
                .map(|set| Choice {
                    value: set.name.clone(),
                    label: format!("{}: {}", set.name, set.members.join(", ")),
                })
                .collect())),
            _ => None,
        });
    };
    let expression = expressions(&choices.from);
    let value = match known(expression, scope, |name| asked.arguments.contains_key(name)) {
        Ok(value) => value,
        Err(why) => return Ok(Some(Err(why))),
    };
    if let ChoiceSource::List(_) = &choices.from {
        return Ok(Some(listed(&value)));
    }
    // What was said is good for the same commit and the same values.
    let on: BTreeMap<String, Option<&Value>> = depends(expression)
        .unwrap_or_default()
        .into_iter()
        .map(|name| (name.clone(), asked.arguments.get(&name)))
        .collect();
    let on = serde_json::to_string(&on).unwrap_or_default();
    let key = format!("{}\n{}\n{}\n{on}", source.head.commit, operation.name, parameter.name);
    let now = source.service.store.now().await?;
    if !source.is_work_tree
        && let Some(found) = source.service.choices_get(&key, now)
    {
        return Ok(Some(Ok(found)));
    }
    let found = ask(source, &choices.from, &value).await?;
    if let Ok(found) = &found {
        source.service.choices_put(key, now.saturating_add(choices.cache), now, found.clone());
    }
    Ok(Some(found))
}

async fn ask(source: &Source<'_>, from: &ChoiceSource, value: &Value) -> AppResult<Found> {
    let text = value.as_str();
    Ok(match (from, text) {
        (ChoiceSource::List(_), _) => listed(value),
        (ChoiceSource::Command(_), _) => match argv(value) {
            Some(argv) => said(source, &argv).await.and_then(|out| read(&out)),
            None => Err("its command is no list of texts".into()),
        },
        (ChoiceSource::File(_), Some(path)) => match source.tree()?.read(path.trim_start_matches("./")) {
            Ok(Some(content)) => read(&content),
            Ok(None) => Err(format!("there is no file {path} in the repository")),
            Err(error) => Err(format!("{path} cannot be read: {error}")),
        },
        (ChoiceSource::Http { pointer, .. }, Some(url)) => {
            let address = url.to_owned();
            let got = tokio::task::spawn_blocking(move || windlass_drivers::http::get(&address, LIMIT, LONGEST as u64));
            got.await.map_err(crate::error::internal)?.and_then(|body| {
                let answer: Value =
                    serde_json::from_slice(&body).map_err(|error| format!("{url} answers no JSON: {error}"))?;
                let list = match pointer {
                    Some(pointer) => answer.pointer(pointer),
                    None => Some(&answer),
                };
                listed(list.ok_or_else(|| format!("{url} answers nothing at {}", pointer.as_deref().unwrap_or("")))?)
            })
        }
        (ChoiceSource::StackOutput { output, .. }, Some(stack)) => {
            let (tree, id) = (source.tree()?, InstanceId::new(stack));
            let cancel = CancellationToken::new();
            let state = crate::adopt::states::read_one(source.service, &*tree, source.project, &id, &cancel).await?;
            state.and_then(|state| match &state["outputs"][output] {
                Value::Null => Err(format!("{stack} has no output `{output}`")),
                found if found["sensitive"] == true => Err(format!("the output `{output}` of {stack} is sensitive")),
                found => listed(&found["value"]),
            })
        }
        (_, None) => Err("where its choices come from is no text".into()),
    })
}

fn argv(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|item| item.as_str().map(str::to_owned)).collect()
}

/// Texts, or an object of texts by the label that is shown.
fn listed(value: &Value) -> Found {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let found: Option<Vec<Choice>> = match value {
        Value::Array(items) => items
            .iter()
            .map(|item| match (text(item), text(&item["value"])) {
                (Some(value), _) => Some(Choice::plain(value)),
                (None, Some(value)) => {
                    Some(Choice { label: text(&item["label"]).unwrap_or_else(|| value.clone()), value })
                }
                _ => None,
            })
            .collect(),
        Value::Object(items) => {
            items.iter().map(|(label, value)| Some(Choice { value: text(value)?, label: label.clone() })).collect()
        }
        _ => None,
    };
    match found {
        Some(found) if found.len() > MOST => Err(format!("there are more than {MOST} choices")),
        Some(found) => Ok(found),
        None => Err("what is said is no list of texts".into()),
    }
}

/// A JSON or YAML list, or a line for each.
fn read(content: &[u8]) -> Found {
    let text = std::str::from_utf8(content).map_err(|_| "what is said is no text".to_owned())?;
    if let Ok(value @ (Value::Array(_) | Value::Object(_))) = serde_json::from_str(text) {
        return listed(&value);
    }
    if let Ok(value @ Value::Array(_)) = yaml_serde::from_str(text) {
        return listed(&value);
    }
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    listed(&Value::Array(lines.map(Into::into).collect()))
}

/// What a program says, in the files of the commit. Its environment is that of no person and no server.
async fn said(source: &Source<'_>, argv: &[String]) -> Result<Vec<u8>, String> {
    let (program, arguments) = argv.split_first().ok_or("its command is empty")?;
    let root = &source.service.checkout.root;
    let path = if program.contains('/') { root.join(program) } else { PathBuf::from(program) };
    let arguments: Vec<OsString> = arguments.iter().map(Into::into).collect();
    let mut spec = Spec::here(path, arguments, root.clone(), GRACE);
    let kept = ["PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE"];
    spec.environment = kept.iter().filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?))).collect();
    let project = source.service.checkout.name(source.definitions());
    spec.environment.insert("WINDLASS_PROJECT".into(), project.into());
    let (stop, mut heard) = (CancellationToken::new(), Heard::default());
    let alarm = {
        let stop = stop.clone();
        tokio::spawn(async move {
            tokio::time::sleep(LIMIT).await;
            stop.cancel();
        })
    };
    let ended = process::run(&spec, &stop, &mut heard).await;
    alarm.abort();
    let ended = ended.map_err(|error| error.to_string())?;
    if stop.is_cancelled() {
        return Err(format!("`{program}` did not end within {} s", LIMIT.as_secs()));
    }
    if !ended.status.success() {
        let said = String::from_utf8_lossy(&heard.err);
        let why = said.lines().rev().find(|line| !line.trim().is_empty()).map(|line| format!(": {}", line.trim()));
        return Err(format!("`{program}` ended with {}{}", ended.status, why.unwrap_or_default()));
    }
    if heard.out.len() > LONGEST {
        return Err(format!("`{program}` says more than {} KiB", LONGEST >> 10));
    }
    Ok(heard.out)
}

#[derive(Default)]
struct Heard {
    out: Vec<u8>,
    err: Vec<u8>,
}

impl Listener for Heard {
    async fn started(&mut self, _: u32) -> Result<(), String> {
        Ok(())
    }
    async fn output(&mut self, stream: Stream, bytes: &[u8]) {
        let to = if stream == Stream::Out { &mut self.out } else { &mut self.err };
        let room = (LONGEST + 1).saturating_sub(to.len()).min(bytes.len());
        to.extend_from_slice(&bytes[..room]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_they_are_written() {
        let check = |text: &str, want: Result<&[(&str, &str)], &str>| {
            let found = read(text.as_bytes());
            match (found, want) {
                (Ok(found), Ok(want)) => {
                    let found: Vec<_> = found.iter().map(|c| (c.value.as_str(), c.label.as_str())).collect();
                    assert_eq!(found, want, "{text}");
                }
                (Err(found), Err(want)) => assert!(found.contains(want), "{text}: {found}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        };
        check("a\n\n b \n# not this\n", Ok(&[("a", "a"), ("b", "b")]));
        check("[\"a\", 2]", Ok(&[("a", "a"), ("2", "2")]));
        check("[{\"value\": \"a\", \"label\": \"Alpha\"}, {\"value\": \"b\"}]", Ok(&[("a", "Alpha"), ("b", "b")]));
        check("{\"Alpha\": \"a\"}", Ok(&[("a", "Alpha")]));
        check("---\n- a\n- \"b c\"\n", Ok(&[("a", "a"), ("b c", "b c")]));
        check("[[1]]", Err("no list of texts"));
        check("", Ok(&[]));
        assert!(read(&[0xff, 0xfe]).is_err());
    }
}
