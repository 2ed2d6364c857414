//! What `windlass.hcl` and `*.windlass.hcl` say, typed. All of it is optional: the default value of [`Definitions`] is a
//! repository that was never prepared.

use crate::Micros;
use crate::access::{Permission, Role};
use crate::change::settings::{ApplyWhen, ChangeSettings};
use crate::diagnostic::Span;
use crate::id::StackId;
use crate::operation::trigger::Freeze;
use crate::operation::{HostSet, Notifier, NotifyRule, OperationDefinition, ServiceDefinition};
use crate::place::Place;
use crate::rollout::{Gate, Rollout};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Definitions {
    /// `None` when no `project` block exists; the directory's name is used then.
    pub project: Option<String>,
    /// How long a review is good for, microseconds; [`crate::binding::REVIEW_EXPIRES`] when it is not said.
    #[serde(default)]
    pub review_expires: Option<crate::Micros>,
    pub environments: Vec<Environment>,
    pub teams: Vec<Team>,
    pub stacks: Vec<StackDefinition>,
    pub policies: Vec<PolicyDefinition>,
    #[serde(default)]
    pub lint: LintDefinition,
    /// What becomes of changes of a forge.
    #[serde(default)]
    pub changes: ChangeSettings,
    /// Who may waive findings of policies that do not say so themselves.
    #[serde(default)]
    pub waivers: Option<WaiverRule>,
    #[serde(default)]
    pub grants: Vec<Grant>,
    #[serde(default)]
    pub runners: Vec<Runner>,
    /// Of everybody who is signed in; `None`: who is granted nothing may do nothing.
    #[serde(default)]
    pub default_role: Option<Role>,
    #[serde(default)]
    pub operations: Vec<OperationDefinition>,
    #[serde(default)]
    pub notifiers: Vec<Notifier>,
    /// Who is told of reviews, applies and stacks.
    #[serde(default)]
    pub notify: Vec<ChangeNotify>,
    #[serde(default)]
    pub freezes: Vec<Freeze>,
    #[serde(default)]
    pub host_sets: Vec<HostSet>,
    #[serde(default)]
    pub services: Vec<ServiceDefinition>,
}

/// `notify { to = [notifier.ops]  on = ["failure", "drift"] }` in `project` or in one of its environments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChangeNotify {
    /// Only what touches this one; `None`: all of the project.
    pub environment: Option<String>,
    pub rule: NotifyRule,
}

/// `lint { disable = ["WL703"]  tool "tflint" {} }` inside `project`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LintDefinition {
    /// Codes of our own checks that are not made.
    pub disable: Vec<String>,
    pub tools: Vec<LintTool>,
}

/// A static checker that reports in SARIF.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LintTool {
    pub name: String,
    /// Program and arguments, run at the root of the repository; its report comes on standard output, or in the file or directory
    /// that stands for [`LintTool::REPORT`].
    pub command: Vec<String>,
    /// With [`Enforcement::Deny`] what the tool calls an error blocks.
    pub enforcement: Enforcement,
    /// Name of the [`Runner`] in whose place it runs; `None`: in the machine that does the step.
    #[serde(default)]
    pub runner: Option<String>,
    pub span: Span,
}

impl LintTool {
    /// In an argument: an empty directory of the step, where the report is expected as the only file.
    pub const REPORT: &str = "{report}";

    /// How the tools that are known by name are run.
    pub fn known(name: &str) -> Option<Vec<String>> {
        let command: &[&str] = match name {
            "tflint" => &["tflint", "--recursive", "--format", "sarif"],
            "trivy" => &["trivy", "config", "--quiet", "--format", "sarif", "."],
            "checkov" => {
                &["checkov", "--directory", ".", "--quiet", "--output", "sarif", "--output-file-path", Self::REPORT]
            }
            _ => return None,
        };
        Some(command.iter().map(|word| (*word).to_owned()).collect())
    }
}

/// Glob patterns over stack ids (`*` within a segment, `**` over segments).
pub type Globs = Vec<String>;

/// `environment "production" { match = ["aws/**"]  approvals { … } }` inside `project`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    pub name: String,
    /// Patterns over instance ids: a pattern with a bracket (`aws/**[tokyo]`) is matched against the instance, one without
    /// against the stack.
    pub matches: Globs,
    /// `None`: the environment is not protected.
    pub approvals: Option<ApprovalRule>,
    /// How its instances are applied one after the other.
    #[serde(default)]
    pub rollout: Option<Rollout>,
    /// The label of the workers that do the steps of its instances.
    #[serde(default)]
    pub runner: Option<String>,
    /// When changes that touch it are applied; `None`: as the project says.
    #[serde(default)]
    pub apply: Option<ApplyWhen>,
    pub span: Span,
}

/// `approvals { count = 1  from = [team.sre]  author_may_approve = false  unverified = true }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApprovalRule {
    /// How many different people; at least 1.
    pub count: u32,
    /// Names of teams whose members count; empty means anybody.
    pub from: Vec<String>,
    /// Whether the author of the change (of any commit in it) counts as one of them. Default: false.
    pub author_may_approve: bool,
    /// Whether approvals by unverified actors (operating-system users of a local run) count. Default: false.
    pub unverified: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Team {
    pub name: String,
    /// Such as `github:org/team`, `oidc-group:sre`, `user:name`, `email:a@b.example`.
    pub members: Vec<String>,
    pub span: Span,
}

/// `grant "sre" { to = [team.sre]  role = "operator"  permissions = ["state.read"]  stacks = ["aws/**"]  environments = ["production"] }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Grant {
    pub name: String,
    /// Names of teams; at least one.
    pub to: Vec<String>,
    pub role: Option<Role>,
    /// Beside those of the role.
    pub permissions: Vec<Permission>,
    /// Where it gives what is of stacks: patterns as those of [`Environment::matches`]; empty means everywhere.
    pub stacks: Globs,
    /// Where it gives what is of stacks: names of environments; empty means everywhere. With `stacks` both have to hold.
    pub environments: Vec<String>,
    pub span: Span,
}

impl Grant {
    /// It is for some stacks only.
    pub fn is_narrowed(&self) -> bool {
        !self.stacks.is_empty() || !self.environments.is_empty()
    }
}

/// `stack "aws/cassandra" { … }`: only what discovery cannot know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StackDefinition {
    pub id: StackId,
    pub owner: Option<String>,
    pub regions: Vec<String>,
    /// Explicit instances, in source order; together with `regions` at most one of the two is given.
    pub instances: Vec<InstanceDefinition>,
    pub after: Vec<StackId>,
    /// Variable files used by every instance, relative to the stack's directory.
    pub var_files: Vec<String>,
    /// Variables given to every instance.
    pub variables: BTreeMap<String, serde_json::Value>,
    /// `-backend-config` values of a partial backend configuration.
    pub backend_config: BTreeMap<String, String>,
    /// `terraform`, `tofu` or unset for what the stack's requirement says.
    pub tool: Option<String>,
    /// The label of the workers that do its steps; it goes before the environments'.
    #[serde(default)]
    pub runner: Option<String>,
    /// Environment variables that are passed through to terraform by name (credentials are never taken from elsewhere).
    pub env: Vec<String>,
    /// `false` takes the directory out of discovery.
    pub enabled: bool,
    /// It is never destroyed as a whole; the definition of the deciding commit counts.
    #[serde(default)]
    pub protect: bool,
    /// What may drift without being told: patterns over `ADDRESS.ATTRIBUTE`.
    #[serde(default)]
    pub drift_ignore: Vec<String>,
    /// What has to pass between its apply and its dependants; texts may hold `${output.NAME}`. The timeout of each is for all
    /// its attempts.
    #[serde(default)]
    pub ready: Vec<Gate>,
    /// How its instances are applied one after the other; it goes before the environment's.
    #[serde(default)]
    pub rollout: Option<Rollout>,
    pub span: Span,
}

/// `instance "tokyo" { workspace = "tokyo"  var_files = ["tokyo.tfvars"]  variables = { … }  backend_config = { … } }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstanceDefinition {
    pub key: String,
    pub workspace: Option<String>,
    pub var_files: Vec<String>,
    pub variables: BTreeMap<String, serde_json::Value>,
    pub backend_config: BTreeMap<String, String>,
    pub span: Span,
}

/// `runner "production" { container { … } }`: where the programs run that workers with the label start. A label without a block
/// is one of workers that run them in their own machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Runner {
    /// The label.
    pub name: String,
    pub description: Option<String>,
    pub place: Place,
    pub span: Span,
}

/// `policy "no-public" { paths = ["policy/"]  match = ["aws/**"]  namespaces = ["main"]  enforcement = "deny" }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyDefinition {
    pub name: String,
    /// What it is asked about.
    #[serde(default)]
    pub decides: DecisionKind,
    /// Rego files or directories relative to the repository root, or to the bundle where there is a source.
    pub paths: Vec<String>,
    /// A bundle that its files come from, `git::https://…//dir?ref=…` or `oci://host/repo:tag@sha256:…`; `None` for the
    /// repository itself.
    #[serde(default)]
    pub source: Option<String>,
    /// `sha256:` and 64 hexadecimal digits: what the bundle has to hold.
    #[serde(default)]
    pub checksum: Option<String>,
    /// Stacks it judges; empty means all.
    pub matches: Globs,
    /// Rego packages without `data.`; empty means every package in `paths` that has a rule.
    pub namespaces: Vec<String>,
    pub enforcement: Enforcement,
    #[serde(default)]
    pub engine: PolicyEngine,
    /// Who may waive its findings; `None`: as the project says.
    #[serde(default)]
    pub waivers: Option<WaiverRule>,
    pub span: Span,
}

/// What a policy is asked about. Each kind has an input with a schema.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DecisionKind {
    /// The plan of one instance.
    #[default]
    Plan,
    /// A whole change.
    Review,
    /// Who has to approve a change, beside those that its environments ask for.
    Approval,
    /// Whether an operation may run with these parameters.
    Operation,
    /// Whether somebody may do something: no, unless a policy allows it.
    Access,
    /// Whether an event may start something.
    Trigger,
}

impl DecisionKind {
    pub const ALL: [Self; 6] = [Self::Plan, Self::Review, Self::Approval, Self::Operation, Self::Access, Self::Trigger];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Review => "review",
            Self::Approval => "approval",
            Self::Operation => "operation",
            Self::Access => "access",
            Self::Trigger => "trigger",
        }
    }

    /// The kind of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// What evaluates a policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyEngine {
    /// The interpreter in this program.
    #[default]
    Embedded,
    /// The `opa` that is on the PATH.
    Opa,
}

/// `waivers { from = [team.sre]  author_may_waive = false  unverified = false  longest = "30d" }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaiverRule {
    /// Names of teams whose members may; nobody else.
    pub from: Vec<String>,
    /// Whether an author of the change may. Default: false.
    pub author_may_waive: bool,
    /// Whether people nobody has checked may. Default: false.
    pub unverified: bool,
    /// How long a waiver may hold, microseconds.
    pub longest: Micros,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Enforcement {
    /// `deny` and `violation` block. The default.
    Deny,
    /// Everything it finds only warns.
    Warn,
}
