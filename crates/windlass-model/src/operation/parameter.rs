//! Parameters: what is asked for, and whether a value is one. The same for a form, a terminal, the API and chat.

mod value;

pub use value::{Choice, Context, Mistake, duration, validate};

use super::Expression;
use crate::Micros;
use crate::diagnostic::Span;
use serde::{Deserialize, Serialize};

/// `param "cluster" { type = choice  choices = ["a", "b"] }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parameter {
    pub name: String,
    pub kind: ParameterKind,
    pub description: Option<String>,
    /// Over the parameters before it. Without one it is required, unless `required` says otherwise.
    pub default: Option<Expression>,
    /// One that is neither given nor has a default is `null` where this is false.
    pub required: bool,
    /// What the whole of a text has to match.
    pub pattern: Option<String>,
    /// Of a number, or of a duration in microseconds; the length of a text or a list.
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub choices: Option<Choices>,
    pub span: Span,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParameterKind {
    String,
    Number,
    Bool,
    /// One of the choices.
    Choice,
    /// Some of the choices; a list.
    MultiChoice,
    /// `90s`, `5m`, `2h`, `7d`, kept as it was written.
    Duration,
    /// RFC 3339 with an offset or a zone, `2026-03-29T02:30:00+01:00[Europe/Berlin]`.
    DateTime,
    /// Never on record: not in the run, the log, the database or a page. It is asked for again when the operation is.
    Secret,
    /// The content of a file, at most 1 MiB, UTF-8.
    File,
    /// A stack instance of the project, e.g. `aws/network[tokyo]`.
    Stack,
    /// A `service` of the project.
    Service,
    /// A `host_set` of the project, or some hosts of it; a list of hosts.
    HostSet,
}

impl ParameterKind {
    pub const ALL: [Self; 12] = [
        Self::String,
        Self::Number,
        Self::Bool,
        Self::Choice,
        Self::MultiChoice,
        Self::Duration,
        Self::DateTime,
        Self::Secret,
        Self::File,
        Self::Stack,
        Self::Service,
        Self::HostSet,
    ];

    /// As it is written after `type =`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Number => "number",
            Self::Bool => "bool",
            Self::Choice => "choice",
            Self::MultiChoice => "multi_choice",
            Self::Duration => "duration",
            Self::DateTime => "date_time",
            Self::Secret => "secret",
            Self::File => "file",
            Self::Stack => "stack",
            Self::Service => "service",
            Self::HostSet => "host_set",
        }
    }

    /// The one of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// Where the choices of a parameter come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Choices {
    pub from: ChoiceSource,
    /// How long an answer is good for, for the same values of the parameters it depends on, microseconds.
    pub cache: Micros,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChoiceSource {
    /// A list of texts, or an object of texts by the label that is shown, over the parameters before it.
    List(Expression),
    /// Program and arguments: a line each, or a JSON list.
    Command(Expression),
    /// A file of the repository: a line each, or a JSON or YAML list.
    File(Expression),
    /// A JSON list at an address, or at a JSON pointer (RFC 6901) in the answer.
    Http { url: Expression, pointer: Option<String> },
    /// An output of a stack instance that is a list.
    StackOutput { stack: Expression, output: String },
}
