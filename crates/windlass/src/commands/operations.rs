//! `operations`, `run`, `repeat`, `answer`: what is asked for in a checkout and of a server alike, and the former's part.

use crate::terminal::clean;
use crate::{Answer, Context, print, print_json, views};
use clap::Args;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, IsTerminal, Read, Write};
use std::sync::Arc;
use windlass_app::error::{AppError, AppResult, ErrorKind};
use windlass_app::operations::form::{Field, Form};
use windlass_app::operations::{Arguments, Local, StartOptions, form};
use windlass_app::requests::operations::{Listed, May, MayAnswer, input};
use windlass_app::service::Service;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::id::{RunId, StepId};
use windlass_model::operation::OperationDefinition;
use windlass_model::operation::parameter::{Parameter, ParameterKind};
use windlass_model::operation::plan::Origin;
use windlass_model::run::RunRecord;

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  windlass operations                  what there is, and whether you may run it
  windlass operations restart-ledger   what one asks for, who may run it, what it does")]
pub struct Operations {
    /// Show this one.
    pub name: Option<String>,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  windlass run restart-ledger host=app1
  windlass run restart-ledger                        asks for what is missing, in a terminal
  windlass run backup-ledger password=@secret.txt    what the file holds; `@-` is standard input
  windlass run upgrade-store cluster=a --confirm a
  windlass run backup-ledger --at 2026-12-01T02:00:00+01:00     on a server, then
  windlass run restart-ledger host=app2 --break-glass --reason 'payments are down, INC-12'

Exit codes: 0 it succeeded, 1 it failed or was refused, 2 what was given is wrong, 3 something outside was unavailable.")]
pub struct Run {
    /// Name of the operation; `windlass operations` lists all.
    pub name: String,
    /// Have the server begin it at this time, with an offset or `Z`, instead of now.
    #[arg(long, value_name = "TIME", conflicts_with_all = ["break_glass", "confirm", "skip"])]
    pub at: Option<String>,
    #[command(flatten)]
    pub how: How,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  windlass repeat 01k9…                       asks for secrets again
  windlass repeat latest version=2.1          with something different")]
pub struct Repeat {
    /// The run; `latest` for the newest.
    pub run: String,
    #[command(flatten)]
    pub how: How,
}

#[derive(Debug, Clone, Args)]
pub struct How {
    /// Values of parameters: lists with commas, `@FILE` for what a file holds.
    #[arg(value_name = "KEY=VALUE")]
    pub arguments: Vec<String>,
    /// Why; it is shown with the run.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Without approvals, in a freeze, outside of its window. Everybody is told, with the reason.
    #[arg(long, requires = "reason")]
    pub break_glass: bool,
    /// What has to be typed before it begins.
    #[arg(long, value_name = "TEXT")]
    pub confirm: Option<String>,
    /// Pass over a step once (may be given several times).
    #[arg(long, value_name = "STEP", requires = "reason")]
    pub skip: Vec<String>,
    /// Do not ask before starting.
    #[arg(long, short)]
    pub yes: bool,
    /// Do not wait for its end.
    #[arg(long)]
    pub detach: bool,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  windlass answer 01k9… approve approve --reason 'looked at the plan'
  windlass answer 01k9… approve refuse --reason 'not on a Friday'
  windlass answer 01k9… which-replica db2
  windlass answer 01k9… before:told done")]
pub struct AnswerOptions {
    /// The run; `latest` for the newest.
    pub run: String,
    /// The step that asks.
    pub step: String,
    /// `approve` or `refuse`, one of the choices, or `done` or `undone`.
    pub value: String,
    /// Recorded with the answer.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

impl How {
    /// Steps that are passed over, each with the reason.
    pub fn skip(&self) -> BTreeMap<String, String> {
        let reason = self.reason.clone().unwrap_or_default();
        self.skip.iter().map(|step| (step.clone(), reason.clone())).collect()
    }

    /// What is given on the command line. `kind_of` says what a parameter is.
    ///
    /// # Errors
    /// A word is no `KEY=VALUE`, or a file cannot be read.
    pub fn given(&self, parameters: &[Parameter]) -> AppResult<Arguments> {
        let usage = |summary: String, help: &str| {
            AppError::new(ErrorKind::Usage, Diagnostic::error("WL904", summary).help(help))
        };
        let mut given = Arguments::new();
        for word in &self.arguments {
            let Some((name, value)) = word.split_once('=') else {
                return Err(usage(format!("`{word}` is no parameter"), "write KEY=VALUE"));
            };
            let kind = parameters.iter().find(|parameter| parameter.name == name).map(|parameter| parameter.kind);
            let value = match value.strip_prefix('@') {
                Some(path) => read(path, kind).map_err(|error| {
                    usage(format!("cannot read `{path}` for `{name}`: {error}"), "name a text file")
                })?,
                None => value.to_owned(),
            };
            given.insert(name.to_owned(), value.into());
        }
        Ok(given)
    }

    fn options(&self, origin: Origin) -> StartOptions {
        StartOptions {
            reason: self.reason.clone(),
            break_glass: self.break_glass,
            confirm: self.confirm.clone(),
            skip: self.skip(),
            ..StartOptions::new(origin)
        }
    }
}

/// The text of a file; the last line break is a part of it only where the file itself is meant.
fn read(path: &str, kind: Option<ParameterKind>) -> std::io::Result<String> {
    let mut text = String::new();
    match path {
        "-" => std::io::stdin().lock().read_to_string(&mut text)?,
        path => std::fs::File::open(path)?.read_to_string(&mut text)?,
    };
    if kind != Some(ParameterKind::File) {
        let end = text.trim_end_matches(['\r', '\n']).len();
        text.truncate(end);
    }
    Ok(text)
}

/// Whether somebody can be asked.
pub fn asks(cx: &Context) -> bool {
    !cx.json && std::io::stdin().is_terminal()
}

/// Asks for the first thing that is missing or wrong; `false` when there is none, or nobody answers. `asked` are those that were
/// asked for already: what is wrong with them is said.
pub fn ask_next(cx: &Context, form: &Form, given: &mut Arguments, asked: &mut BTreeSet<String>) -> bool {
    let Some(field) = form.fields.iter().find(|field| !field.mistakes.is_empty()) else { return false };
    let again = field.given || !asked.insert(field.name.clone());
    if again {
        field.mistakes.iter().for_each(|mistake| eprintln!("{}", cx.err.red(&clean(&mistake.0))));
    }
    if let Some(why) = &field.why_no_choices {
        // Another answer would not help.
        eprintln!("{}", cx.err.red(&clean(&format!("{}: {why}", field.name))));
        return false;
    }
    match ask(cx, field) {
        Some(value) => {
            given.insert(field.name.clone(), value);
            true
        }
        None => false,
    }
}

/// What somebody gives for a field; `None` where input ends.
fn ask(cx: &Context, field: &Field) -> Option<Value> {
    eprint!("{}", views::operations::question(cx.err, field));
    let _ = std::io::stderr().flush();
    let line = match field.kind {
        ParameterKind::Secret => rpassword::read_password().ok()?,
        _ => {
            let mut line = String::new();
            if std::io::stdin().lock().read_line(&mut line).ok()? == 0 {
                return None;
            }
            line.trim_end_matches(['\r', '\n']).to_owned()
        }
    };
    if field.kind == ParameterKind::File {
        return match read(&line, Some(field.kind)) {
            Ok(text) => Some(text.into()),
            Err(error) => {
                eprintln!("{}", cx.err.red(&clean(&format!("cannot read {line}: {error}"))));
                Some(Value::Null)
            }
        };
    }
    Some(numbered(field, &line).into())
}

/// Choices are listed with numbers, which may be given for them; a choice that looks like a number is itself.
fn numbered(field: &Field, line: &str) -> String {
    let choices = field.choices.as_deref().unwrap_or_default();
    let one = |word: &str| {
        let word = word.trim();
        let own = choices.iter().any(|choice| choice.value == word);
        let number = word.parse::<usize>().ok().filter(|_| !own).and_then(|number| choices.get(number.checked_sub(1)?));
        number.map_or_else(|| word.to_owned(), |choice| choice.value.clone())
    };
    match field.kind {
        _ if choices.is_empty() => line.to_owned(),
        ParameterKind::MultiChoice | ParameterKind::HostSet => line.split(',').map(one).collect::<Vec<_>>().join(","),
        _ => one(line),
    }
}

/// Asks whether to begin, and for what has to be typed; `false` is a no. What was typed is put into `how`.
pub fn confirmed(cx: &Context, form: &Form, how: &mut How) -> bool {
    if !asks(cx) || !form.complete {
        return true;
    }
    let typed = |question: &str| {
        print(question);
        let mut line = String::new();
        // An end of input is a no.
        let _ = std::io::stdin().lock().read_line(&mut line);
        line.trim().to_owned()
    };
    if !how.yes {
        print(&views::operations::summary(cx.out, form));
    }
    match &form.confirm {
        Some(wanted) if how.confirm.is_none() => {
            how.confirm = Some(typed(&format!("This cannot be taken back. Type `{}` to go on: ", clean(wanted))));
            how.confirm.as_ref() == Some(wanted)
        }
        Some(_) => true,
        None => how.yes || typed(&format!("Run {}? Type yes to go on: ", clean(&form.operation))) == "yes",
    }
}

/// An operation as the terminal lists it: in a checkout nobody is asked who they are.
fn listed(operation: &OperationDefinition) -> Listed {
    let because = vec!["in a checkout nobody is asked: whoever has its files may".to_owned()];
    Listed {
        name: operation.name.clone(),
        description: operation.description.clone(),
        owner: operation.owner.clone(),
        labels: operation.labels.clone(),
        parameters: operation.parameters.iter().map(|parameter| parameter.name.clone()).collect(),
        may_run: May { answer: MayAnswer::Yes, because },
    }
}

pub async fn list(cx: &Context, service: &Service, options: &Operations) -> Answer {
    let local = Local::load(service)?;
    let source = local.source(service);
    let Some(name) = &options.name else {
        let all: Vec<Listed> = source.definitions().operations.iter().map(listed).collect();
        if cx.json {
            print_json(&all);
        } else {
            print(&views::operations::list(cx.out, &all));
        }
        return Ok(true);
    };
    let operation = source.find(name)?;
    let filled = form::fill(&source, operation, &Arguments::new()).await?;
    if cx.json {
        print_json(
            &serde_json::json!({ "operation": listed(operation), "form": filled.form, "definition": operation }),
        );
    } else {
        print(&views::operations::one(cx.out, &listed(operation), operation, &filled.form));
    }
    Ok(true)
}

/// Begins an operation in this checkout; `None` when somebody thought better of it.
///
/// # Errors
/// As for [`windlass_app::operations::start`].
pub async fn start(
    cx: &Context,
    service: &Arc<Service>,
    name: &str,
    mut how: How,
    before: Arguments,
    origin: Origin,
) -> AppResult<Option<RunId>> {
    let local = Local::load(service)?;
    let source = local.source(service);
    let operation = source.find(name)?;
    let mut given = before;
    given.extend(how.given(&operation.parameters)?);
    let mut filled = form::fill(&source, operation, &given).await?;
    let mut asked = BTreeSet::new();
    while asks(cx) && ask_next(cx, &filled.form, &mut given, &mut asked) {
        filled = form::fill(&source, operation, &given).await?;
    }
    if !confirmed(cx, &filled.form, &mut how) {
        return Ok(None);
    }
    let prepared = windlass_app::operations::prepare(&source, operation, filled, how.options(origin)).await?;
    Ok(Some(prepared.create(service).await?))
}

pub async fn answer(cx: &Context, service: &Service, options: &AnswerOptions) -> Answer {
    let record = windlass_app::runs::run_find(service, &options.run).await?;
    let input = input(&record)?;
    let step = StepId::new(options.step.as_str());
    let (value, reason) = (options.value.as_str(), options.reason.as_deref());
    windlass_app::operations::answers::answer(service, &record, &input, &step, value, reason).await?;
    answered(cx, &record.id, options);
    Ok(true)
}

pub fn answered(cx: &Context, run: &RunId, options: &AnswerOptions) {
    let AnswerOptions { step, value, .. } = options;
    if cx.json {
        print_json(&serde_json::json!({ "run": run, "step": step, "value": value }));
    } else {
        print(&format!("Answered {} with `{}`.\n", clean(step), clean(value)));
    }
}

/// Which parameters, definitions and durations of two runs of operations are different.
pub async fn compare(cx: &Context, service: &Service, before: &RunRecord, after: &RunRecord) -> Answer {
    let (old, new) = (input(before)?, input(after)?);
    let (first, second) = (service.store.step_list(&before.id).await?, service.store.step_list(&after.id).await?);
    let compared = windlass_app::operations::again::compare((before, &old, &first), (after, &new, &second));
    if cx.json {
        print_json(&compared);
    } else {
        print(&views::operations::compared(cx.out, &compared));
    }
    Ok(compared.same_definition && compared.parameters.is_empty())
}

/// Whether it is the run of an operation that is not under way any more: going on with it is another run.
pub fn is_ended(record: &RunRecord) -> bool {
    record.plan.kind == windlass_model::operation::plan::KIND && record.state.is_final()
}

/// Goes on where a run of an operation failed.
///
/// # Errors
/// As for [`windlass_app::operations::again::resume`].
pub async fn resume(service: &Service, record: &RunRecord, how: &How) -> AppResult<RunId> {
    let own = input(record)?;
    let secrets = how.given(&own.operation.parameters)?;
    let options = how.options(Origin::Resumed { run: record.id.clone() });
    let local = Local::load(service)?;
    windlass_app::operations::again::resume(&local.source(service), record, &own, &secrets, options).await
}
