//! The form of an operation: what is asked for, what there is to choose from, and what is wrong with what was given. Pages, the
//! terminal, the API and chat have the same.

use super::choices::{self, Asked};
use super::{Arguments, Source, scope};
use crate::error::AppResult;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use windlass_lang::expression::{self, Scope};
use windlass_model::operation::parameter::{
    Choice, ChoiceSource, Context, Mistake, Parameter, ParameterKind, validate,
};
use windlass_model::operation::{Expression, OperationDefinition};

/// An operation, with what was given for it so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Form {
    pub operation: String,
    /// In the order in which they are asked for.
    pub fields: Vec<Field>,
    /// What has to be typed before it begins; `None` also as long as what it depends on is not given.
    pub confirm: Option<String>,
    /// What was given for no parameter, with what may have been meant.
    pub unknown: BTreeMap<String, Mistake>,
    /// Everything is given that has to be, and nothing is wrong with it.
    pub complete: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Field {
    pub name: String,
    pub kind: ParameterKind,
    /// Markdown.
    pub description: Option<String>,
    pub required: bool,
    /// With the values given so far.
    pub default: Option<Value>,
    /// What there is to choose from; `None` where anything may be given, or `why_no_choices` says why not.
    pub choices: Option<Vec<Choice>>,
    /// What it depends on is not given, or what was asked did not answer.
    pub why_no_choices: Option<String>,
    pub pattern: Option<String>,
    pub min: Option<f64>,
    pub max: Option<f64>,
    /// Something was given for it, and not only the default.
    pub given: bool,
    /// What the run would have; never that of a secret or a file.
    pub value: Option<Value>,
    pub mistakes: Vec<Mistake>,
}

impl Form {
    /// Everything that is wrong, with the parameter that it is about.
    pub fn mistakes(&self) -> impl Iterator<Item = (&str, &Mistake)> {
        let fields = self.fields.iter().flat_map(|field| field.mistakes.iter().map(|m| (field.name.as_str(), m)));
        fields.chain(self.unknown.iter().map(|(name, mistake)| (name.as_str(), mistake)))
    }
}

/// A form, and the values that a run would have.
#[derive(Debug, Clone)]
pub struct Filled {
    pub form: Form,
    /// Of every parameter that is no secret and has nothing wrong with it.
    pub arguments: BTreeMap<String, Value>,
    pub secrets: BTreeMap<String, String>,
}

/// Puts what was given into the form of an operation. Defaults and choices may depend on the parameters before theirs.
///
/// # Errors
/// The files of the commit cannot be read.
pub async fn fill(source: &Source<'_>, operation: &OperationDefinition, given: &Arguments) -> AppResult<Filled> {
    let (mut arguments, mut secrets) = (BTreeMap::new(), BTreeMap::new());
    let mut fields: Vec<Field> = Vec::new();
    for parameter in &operation.parameters {
        let scope = scope(operation, &arguments);
        let mut field = field(parameter);
        let is_settled = |name: &str| arguments.contains_key(name);
        let default = parameter.default.as_ref().map(|default| known(default, &scope, is_settled));
        field.default = match &default {
            Some(Ok(value)) => Some(value.clone()),
            _ => None,
        };
        let found = choices::of(source, operation, parameter, &scope, &Asked { arguments: &arguments }).await?;
        match found {
            None => {}
            Some(Ok(choices)) => field.choices = Some(choices),
            Some(Err(why)) => field.why_no_choices = Some(why),
        }
        let own = given.get(&parameter.name).filter(|value| !is_empty(value));
        field.given = own.is_some();
        let value = own.or(field.default.as_ref()).cloned().unwrap_or(Value::Null);
        let context = Context { choices: field.choices.as_deref(), host_sets: &source.definitions().host_sets };
        let judged = match (&field.why_no_choices, &default) {
            // What it is compared with is not known.
            (Some(why), _) if !value.is_null() => Err(vec![Mistake(format!("it cannot be checked: {why}"))]),
            (_, Some(Err(why))) if value.is_null() => Err(vec![Mistake(format!("it has no default: {why}"))]),
            _ => validate(parameter, &value, context),
        };
        match judged {
            Ok(Value::String(text)) if parameter.kind == ParameterKind::Secret => {
                secrets.insert(parameter.name.clone(), text);
            }
            // One that is not given, and need not be.
            Ok(_) if parameter.kind == ParameterKind::Secret => {}
            Ok(value) => {
                field.value = (parameter.kind != ParameterKind::File).then(|| value.clone());
                arguments.insert(parameter.name.clone(), value);
            }
            Err(mistakes) => field.mistakes = mistakes,
        }
        fields.push(field);
    }
    let unknown = unknown(operation, given);
    let complete = unknown.is_empty() && fields.iter().all(|field| field.mistakes.is_empty());
    let scope = scope(operation, &arguments);
    let confirm = operation.confirm.as_ref().and_then(|confirm| expression::text(confirm, &scope).ok());
    let form = Form { operation: operation.name.clone(), fields, confirm, unknown, complete };
    Ok(Filled { form, arguments, secrets })
}

fn field(parameter: &Parameter) -> Field {
    Field {
        name: parameter.name.clone(),
        kind: parameter.kind,
        description: parameter.description.clone(),
        required: parameter.required && parameter.default.is_none(),
        default: None,
        choices: None,
        why_no_choices: None,
        pattern: parameter.pattern.clone(),
        min: parameter.min,
        max: parameter.max,
        given: false,
        value: None,
        mistakes: Vec::new(),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn unknown(operation: &OperationDefinition, given: &Arguments) -> BTreeMap<String, Mistake> {
    let names: BTreeSet<&str> = operation.parameters.iter().map(|parameter| parameter.name.as_str()).collect();
    let unknown = given.keys().filter(|name| !names.contains(name.as_str()));
    let mistake = |name: &String| {
        Mistake(match windlass_lang::suggest(name, names.iter().copied()) {
            Some(near) => format!("`{}` has no such parameter; did you mean `{near}`?", operation.name),
            None if names.is_empty() => format!("`{}` takes no parameters", operation.name),
            None => {
                let all = names.iter().copied().collect::<Vec<_>>().join(", ");
                format!("`{}` has no such parameter: it takes {all}", operation.name)
            }
        })
    };
    unknown.map(|name| (name.clone(), mistake(name))).collect()
}

/// The value of an expression over the parameters before; why it has none, in words for whoever fills the form.
pub(super) fn known(
    expression: &Expression,
    scope: &Scope,
    is_settled: impl Fn(&str) -> bool,
) -> Result<Value, String> {
    let named = depends(expression)?;
    if let Some(name) = named.iter().find(|name| !is_settled(name)) {
        return Err(format!("it depends on `{name}`: give that first"));
    }
    expression::evaluate(expression, scope).map_err(|error| error.to_string())
}

/// Names of the parameters that an expression depends on.
pub(crate) fn depends(expression: &Expression) -> Result<BTreeSet<String>, String> {
    let references = expression::references(expression).map_err(|error| error.to_string())?;
    let parameters = references.into_iter().filter(|reference| reference.root == "param");
    Ok(parameters.filter_map(|reference| reference.name).collect())
}

/// The expressions that the choices of a parameter are made of.
pub(crate) fn expressions(source: &ChoiceSource) -> &Expression {
    match source {
        ChoiceSource::List(of) | ChoiceSource::Command(of) | ChoiceSource::File(of) => of,
        ChoiceSource::Http { url, .. } => url,
        ChoiceSource::StackOutput { stack, .. } => stack,
    }
}
