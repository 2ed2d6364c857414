//! Operations: what a repository says can be done, with which parameters, by whom, when and how. [`plan`] makes a run of one.
//!
//! What depends on parameters, on outputs of earlier steps or on the member of an `each` is an [`Expression`]: the model keeps it as
//! it was written and does not read it; whoever carries a step out evaluates it.

pub mod answers;
pub mod occasion;
pub mod parameter;
pub mod plan;
pub mod trigger;

use crate::Micros;
use crate::definition::Definitions;
use crate::diagnostic::Span;
use crate::place::{Container, Job};
use crate::rollout::Gate;
use crate::run::{Cost, Repeat, Retry};
use parameter::Parameter;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use trigger::{ScheduleDefinition, TriggerDefinition};

/// An expression as it was written, e.g. `"db-${param.cluster}"` with its quotes. What it may refer to:
///
/// | reference | value |
/// |---|---|
/// | `param.NAME` | a parameter |
/// | `step.NAME.outputs.KEY`, `step.NAME.state` | of a step that comes before |
/// | `each.key`, `each.value`, `each.index` | the member of the nearest `each` around |
/// | `secret.NAME` | a secret of the operation, for steps only |
/// | `run.id`, `run.actor`, `run.reason`, `run.url`, `run.attempt`, `run.due` | of the run; `due` only where a schedule started it |
/// | `trigger.payload`, `trigger.event` | in the arguments and the condition of a trigger |
/// | `failure.step`, `failure.reason` | in `on_failure` and `undo` |
/// | `output.NAME` | within a gate of `wait`, outputs of the stack it names |
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expression {
    pub text: String,
    pub span: Span,
}

/// `operation "backup-ledger" { … }`. A `batch` is one whose only step is its program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperationDefinition {
    pub name: String,
    /// Markdown.
    pub description: Option<String>,
    /// A team.
    pub owner: Option<String>,
    /// Teams whose members may run it, whatever the parameters.
    pub allow: Vec<String>,
    /// Who else may, where a condition over parameters holds.
    pub grants: Vec<OperationGrant>,
    pub labels: BTreeMap<String, String>,
    /// The label of the workers that do its steps.
    pub runner: Option<String>,
    /// The name of the environment that it touches: its freezes, its runner and who may there follow from it.
    pub environment: Option<Expression>,
    /// In the order in which they are asked for.
    pub parameters: Vec<Parameter>,
    pub secrets: Vec<SecretSource>,
    /// Each after the one before it, unless it says otherwise.
    pub nodes: Vec<Node>,
    /// Done after the undoing when the run failed.
    pub on_failure: Vec<StepDefinition>,
    /// Done after the undoing when the run was cancelled.
    pub on_cancel: Vec<StepDefinition>,
    pub schedules: Vec<ScheduleDefinition>,
    pub triggers: Vec<TriggerDefinition>,
    pub approvals: Option<OperationApprovals>,
    /// Teams whose members may run it at once, without approvals, in a freeze, for a reason that everybody is told.
    pub break_glass: Vec<String>,
    pub concurrency: Option<Concurrency>,
    /// Of the whole run from its beginning, microseconds; waiting for people counts.
    pub timeout: Option<Micros>,
    /// Locks that each of its steps holds while it runs; `stack:INSTANCE` is that of an instance.
    pub locks: Vec<Expression>,
    /// What has to be typed before it begins, because it cannot be taken back.
    pub confirm: Option<Expression>,
    pub checklist: Option<Checklist>,
    pub notify: Vec<NotifyRule>,
    /// An alert when it has not succeeded for so many of its own intervals.
    pub dead_man: Option<u32>,
    /// Values of the `locals` that its expressions use.
    pub locals: BTreeMap<String, serde_json::Value>,
    pub span: Span,
}

/// `grant { to = [team.ledger]  when = param.environment == "staging" }` in an operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperationGrant {
    pub to: Vec<String>,
    pub when: Option<Expression>,
    pub span: Span,
}

/// `secret "pg" { env = "PGPASSWORD" }`: where a value is read when a step needs it, on the machine that does the step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretSource {
    pub name: String,
    pub from: SecretFrom,
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretFrom {
    /// A variable of the worker's environment.
    Env(String),
    /// A whole path on the worker; the last line break is not part of it.
    File(String),
    /// What a program says on its standard output, without the last line break.
    Command(Vec<String>),
}

/// A part of an operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Node {
    Step(Box<StepDefinition>),
    Each(Box<EachDefinition>),
    /// All at the same time.
    Parallel(ParallelDefinition),
}

impl Node {
    pub fn name(&self) -> &str {
        match self {
            Self::Step(step) => &step.name,
            Self::Each(each) => &each.name,
            Self::Parallel(parallel) => &parallel.name,
        }
    }
}

/// `each "member" { in = param.members  batch = 1  step … }`: the steps in it, for every member of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EachDefinition {
    pub name: String,
    /// A list, or an object, whose keys are `each.key`; the key of a list's member is its text, or its number where that is no
    /// text or comes twice.
    pub members: Expression,
    pub batch: Batch,
    /// Failed members that it may have and still go on; more of them fail the run, and nothing further is begun.
    pub max_failures: u32,
    /// What has to pass before each batch, and after the last: how a quorum is kept whole.
    pub gates: Vec<GateDefinition>,
    pub nodes: Vec<Node>,
    pub span: Span,
}

/// How many members of an `each` are under way at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Batch {
    All,
    /// `batch = 1` is one after the other.
    Count(u32),
    /// `batch = "25%"`, rounded down, at least one.
    Percent(u32),
}

/// A probe of an operation; texts in it are expressions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateDefinition {
    /// Whose texts are the sources of expressions.
    pub gate: Gate,
    /// How long it is asked again before it counts as failed, microseconds.
    pub within: Micros,
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ParallelDefinition {
    pub name: String,
    pub nodes: Vec<Node>,
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepDefinition {
    pub name: String,
    /// For people; the name where it is not said.
    pub description: Option<String>,
    pub action: Action,
    /// It is passed over where this is false.
    pub when: Option<Expression>,
    /// Nodes of the same level that it waits for, instead of the one before it; `Some([])` waits for none.
    pub after: Option<Vec<String>>,
    /// All of its environment, beside what Windlass itself tells it.
    pub env: BTreeMap<String, Expression>,
    /// Relative to the root of the repository; the root where it is not said.
    pub directory: Option<Expression>,
    /// Instead of the operation's.
    pub runner: Option<String>,
    pub retry: Retry,
    /// Of one attempt, microseconds.
    pub timeout: Option<Micros>,
    pub repeat: Repeat,
    /// For [`Repeat::Checkable`]: a program that exits with 0 when the step had happened, with 1 when it had not.
    pub probe: Option<Expression>,
    /// How its standard output is read.
    pub outputs: OutputFormat,
    /// Files that it leaves, patterns relative to its directory.
    pub artefacts: Vec<String>,
    /// More values that are kept out of its log.
    pub mask: Vec<Expression>,
    pub locks: Vec<Expression>,
    /// Its failure does not fail the run: what comes after it goes on.
    pub may_fail: bool,
    /// Exit statuses that are a success; `[0]` where nothing is said.
    pub success: Vec<i32>,
    /// Exit statuses after which it is not tried again.
    pub give_up: Vec<i32>,
    /// Takes back what it did, or may have done, when the run fails or is cancelled later on.
    pub undo: Option<Box<StepDefinition>>,
    pub cost: Cost,
    pub span: Span,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputFormat {
    /// It goes to the log only.
    #[default]
    None,
    /// One JSON object.
    Json,
    /// Lines `key=value`; others are ignored.
    KeyValue,
    /// All of it without the last line break, as `text`.
    Text,
}

/// What a step does. Every [`Expression`] is of the type that its documentation says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Program and arguments, a list of texts; in the place that the step's runner says.
    Run {
        argv: Expression,
    },
    /// A line for `/bin/sh -ec`.
    Shell {
        line: Expression,
    },
    /// A text that is written to a file and given to an interpreter (`["/bin/sh", "-e"]`), or a file of the repository.
    Script {
        interpreter: Vec<String>,
        text: Option<Expression>,
        file: Option<Expression>,
        arguments: Option<Expression>,
    },
    /// A program in a container of its own; `image` is a text, `argv` a list of texts, empty for what the image does by itself.
    Container {
        image: Expression,
        argv: Option<Expression>,
        container: Container,
    },
    /// The same as a Kubernetes Job.
    Job {
        image: Expression,
        argv: Option<Expression>,
        job: Job,
    },
    Http(Box<HttpAction>),
    Sql(Box<SqlAction>),
    /// Of a stack instance, a text such as `aws/network[tokyo]`.
    Terraform {
        stack: Expression,
        command: TerraformCommand,
        variables: BTreeMap<String, Expression>,
    },
    /// Outputs of a stack instance become those of the step.
    StackOutputs {
        stack: Expression,
    },
    /// Somebody else has to agree.
    Approval(OperationApprovals),
    Ask(Box<AskAction>),
    Wait(WaitAction),
    /// Another operation, as a run of its own that this step waits for.
    Operation {
        name: String,
        arguments: BTreeMap<String, Expression>,
    },
    /// A text to a notifier.
    Notify {
        to: Vec<String>,
        text: Expression,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HttpAction {
    pub method: String,
    pub url: Expression,
    pub headers: BTreeMap<String, Expression>,
    /// A text, or anything else, which is sent as JSON.
    pub body: Option<Expression>,
    /// First and last status that is a success.
    pub status: (u16, u16),
    pub contains: Option<Expression>,
    pub timeout: Micros,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SqlAction {
    /// `postgres://…`, `mysql://…`, `sqlite:…`; mostly from a secret.
    pub url: Expression,
    pub statement: Expression,
    /// Values of `$1`, `$2`, …: a list.
    pub values: Option<Expression>,
    /// Without it the session is read-only.
    pub write: bool,
    /// More rows than this fail the step.
    pub max_rows: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TerraformCommand {
    Plan,
    /// Plans and applies what was planned, with the lock of the instance.
    Apply,
    Output,
}

/// A question to a person in the middle of a run. The answer is the output `answer`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AskAction {
    pub question: Expression,
    /// Buttons; without any the answer is a text.
    pub choices: Vec<String>,
    /// Teams whose members may answer; whoever may run the operation where it is empty.
    pub from: Vec<String>,
    /// The answer after `expires`; without it the step fails then.
    pub default: Option<String>,
    /// Microseconds.
    pub expires: Option<Micros>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitAction {
    /// A duration such as `"5m"`.
    Time { duration: Expression },
    /// A time, RFC 3339.
    Until { at: Expression },
    /// Until all of them pass.
    Gates(Vec<GateDefinition>),
}

/// `approvals { count = 1  from = [team.sre]  expires = "4h"  when = param.environment == "production" }`. Who started the run
/// does not count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperationApprovals {
    pub count: u32,
    /// Teams whose members count; anybody's else who may see the run where it is empty.
    pub from: Vec<String>,
    pub when: Option<Expression>,
    /// Microseconds after which the run fails without it.
    pub expires: Micros,
    /// Whether approvals by people nobody has checked count, as in a run of the terminal alone.
    pub unverified: bool,
    pub span: Span,
}

/// `concurrency { key = "db-${param.cluster}"  limit = 1  on_conflict = "queue" }`. A key is of the whole project.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Concurrency {
    /// The operation's name where it is not said.
    pub key: Option<Expression>,
    /// Runs at the same time.
    pub limit: u32,
    pub on_conflict: OnConflict,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnConflict {
    #[default]
    Queue,
    CancelRunning,
    Reject,
}

/// `checklist { … }`: what makes a change planned. Items before all steps, beside them, and after them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Checklist {
    pub before: Vec<ChecklistItem>,
    pub during: Vec<ChecklistItem>,
    pub after: Vec<ChecklistItem>,
    /// When it may begin: from and to, each RFC 3339 or a time of day with a zone.
    pub window: Option<MaintenanceWindow>,
    /// Markdown; what is told to those who are touched.
    pub announcement: Option<Expression>,
    /// Markdown; how it is taken back.
    pub rollback: Option<Expression>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChecklistItem {
    pub name: String,
    /// For people; Markdown.
    pub text: String,
    /// A program that decides it; without it a person ticks it.
    pub run: Option<Expression>,
    /// Teams whose members may tick it; whoever may run the operation where it is empty.
    pub from: Vec<String>,
    pub span: Span,
}

/// Days and times of a zone, e.g. `Mon..Thu 22:00-02:00 Asia/Tokyo`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenanceWindow {
    /// 1 is Monday.
    pub days: Vec<u8>,
    /// Minutes after midnight; an end before the beginning is of the next day.
    pub from: u16,
    pub to: u16,
    /// IANA name.
    pub zone: String,
}

/// `notify { to = [notifier.ops]  on = ["failure", "waiting"] }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NotifyRule {
    /// Names of notifiers.
    pub to: Vec<String>,
    pub on: Vec<Occasion>,
    pub span: Span,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Occasion {
    Success,
    Failure,
    /// For a person.
    Waiting,
    /// Than nine of ten of the last twenty successful runs.
    Slow,
    /// It should have begun.
    Late,
    /// A success after a failure.
    Recovered,
    /// Somebody broke the glass.
    BreakGlass,
    /// It has not succeeded for too long.
    DeadMan,
    /// Stacks are not any more what their configuration says.
    Drift,
    /// An apply ended so that a person has to look at a stack.
    Quarantine,
}

impl Occasion {
    /// Those of operations.
    pub const OF_OPERATIONS: [Self; 8] = [
        Self::Success,
        Self::Failure,
        Self::Waiting,
        Self::Slow,
        Self::Late,
        Self::Recovered,
        Self::BreakGlass,
        Self::DeadMan,
    ];
    /// Those of reviews, applies and stacks.
    pub const OF_CHANGES: [Self; 5] = [Self::Success, Self::Failure, Self::Waiting, Self::Drift, Self::Quarantine];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Waiting => "waiting",
            Self::Slow => "slow",
            Self::Late => "late",
            Self::Recovered => "recovered",
            Self::BreakGlass => "break_glass",
            Self::DeadMan => "dead_man",
            Self::Drift => "drift",
            Self::Quarantine => "quarantine",
        }
    }

    /// The one of that name.
    pub fn parse(text: &str) -> Option<Self> {
        let all = Self::OF_OPERATIONS.into_iter().chain(Self::OF_CHANGES);
        all.into_iter().find(|occasion| occasion.as_str() == text)
    }
}

/// `notifier "ops" { slack { … } }`: where messages go. Texts that name secrets are expressions over `secret.NAME`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notifier {
    pub name: String,
    pub secrets: Vec<SecretSource>,
    pub channel: NotifyChannel,
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotifyChannel {
    /// An incoming webhook of Slack or Mattermost.
    Webhook {
        url: Expression,
    },
    /// A bot of Slack or Mattermost, which updates its message in place.
    Bot {
        api: Option<String>,
        token: Expression,
        channel: String,
    },
    Email {
        smtp: Expression,
        from: String,
        to: Vec<String>,
    },
    /// JSON, with `webhook-id`, `webhook-timestamp` and `webhook-signature` as the Standard Webhooks specification has them.
    Signed {
        url: Expression,
        key: Expression,
    },
}

/// `host_set "db" { members = ["db1", "db2"] }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostSet {
    pub name: String,
    pub members: Vec<String>,
    pub span: Span,
}

/// `service "ledger" { owner = team.ledger }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceDefinition {
    pub name: String,
    pub description: Option<String>,
    pub owner: Option<String>,
    pub span: Span,
}

impl Definitions {
    /// The operation of that name.
    pub fn operation(&self, name: &str) -> Option<&OperationDefinition> {
        self.operations.iter().find(|operation| operation.name == name)
    }

    /// The label of the workers of an environment.
    pub fn runner_of(&self, environment: Option<&str>) -> Option<&str> {
        let found = self.environments.iter().find(|known| Some(known.name.as_str()) == environment);
        found.and_then(|environment| environment.runner.as_deref())
    }
}

impl OperationDefinition {
    /// All its steps wherever they are, with undos and handlers.
    pub fn steps(&self) -> Vec<&StepDefinition> {
        fn of_step<'a>(step: &'a StepDefinition, out: &mut Vec<&'a StepDefinition>) {
            out.push(step);
            step.undo.iter().for_each(|undo| of_step(undo, out));
        }
        fn of_nodes<'a>(nodes: &'a [Node], out: &mut Vec<&'a StepDefinition>) {
            for node in nodes {
                match node {
                    Node::Step(step) => of_step(step, out),
                    Node::Each(each) => of_nodes(&each.nodes, out),
                    Node::Parallel(parallel) => of_nodes(&parallel.nodes, out),
                }
            }
        }
        let mut out = Vec::new();
        of_nodes(&self.nodes, &mut out);
        self.on_failure.iter().chain(&self.on_cancel).for_each(|step| of_step(step, &mut out));
        out
    }
}
