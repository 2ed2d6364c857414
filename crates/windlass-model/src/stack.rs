//! What a repository holds: stacks, their instances, the edges between them and everything each one reads.

use crate::diagnostic::Span;
use crate::id::{InstanceId, StackId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The result of discovery. Stacks are sorted by id, edges by (dependant, upstream).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Repository {
    pub stacks: Vec<Stack>,
    pub edges: Vec<Edge>,
}

impl Repository {
    pub fn stack(&self, id: &StackId) -> Option<&Stack> {
        self.stacks.binary_search_by(|s| s.id.cmp(id)).ok().map(|i| &self.stacks[i])
    }
    pub fn instance(&self, id: &InstanceId) -> Option<(&Stack, &Instance)> {
        let stack = self.stack(&id.stack())?;
        stack.instances.iter().find(|i| i.id == *id).map(|i| (stack, i))
    }
    pub fn instances(&self) -> impl Iterator<Item = (&Stack, &Instance)> {
        self.stacks.iter().flat_map(|s| s.instances.iter().map(move |i| (s, i)))
    }
}

/// A root module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stack {
    pub id: StackId,
    /// Why it is a stack, e.g. `configures backend "s3"`, `configures provider "aws"`; never empty.
    pub why: String,
    pub owner: Option<String>,
    /// `required_version` constraints as written.
    pub required_version: Vec<String>,
    pub tool: Tool,
    /// Names of environment variables passed to terraform.
    pub env: Vec<String>,
    pub instances: Vec<Instance>,
    pub variables: Vec<Variable>,
    pub outputs: Vec<Output>,
    pub inputs: Inputs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tool {
    /// Either; terraform is taken when both are there.
    Any,
    Terraform,
    /// `.tofu` files, or declared.
    Tofu,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    pub id: InstanceId,
    /// Terraform workspace; `default` unless declared.
    pub workspace: String,
    /// `-var-file` arguments in order, relative to the stack's directory (`*.auto.tfvars` and `terraform.tfvars` are not
    /// listed: terraform reads them itself).
    pub var_files: Vec<String>,
    /// `TF_VAR_*` values: strings as they are, everything else as JSON.
    pub variables: BTreeMap<String, serde_json::Value>,
    pub backend_config: BTreeMap<String, String>,
    /// Backend type as written, e.g. `s3`; `local` when none is configured.
    pub backend: String,
    /// Where the state lives, normalised so that two equal addresses are one state, e.g. `local:aws/network/terraform.tfstate`,
    /// `s3:bucket/env:/prod/key`. `None` when a part of it is unknown.
    pub state: Option<Arc<str>>,
    /// Why `state` is unknown, in one sentence.
    pub state_unknown: Option<String>,
    /// Names of the environments of the project it belongs to, in order of definition.
    pub environments: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Variable {
    pub name: String,
    /// Type expression as written; `any` when absent.
    pub type_text: String,
    pub required: bool,
    pub sensitive: bool,
    pub description: String,
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    pub name: String,
    pub sensitive: bool,
    pub description: String,
    pub span: Span,
}

/// Everything a stack reads from the repository, and what it names outside of it. Paths are relative to the repository root,
/// canonical (no `.`/`..`, symbolic links resolved), `/`-separated.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Inputs {
    /// Directories whose configuration files (`*.tf`, `*.tf.json`, `*.tofu`, `*.tofu.json`, `*.tfvars`, `*.tfvars.json`, lock
    /// file) belong to it: its own directory first, then local modules, transitively.
    pub directories: Vec<InputPath>,
    /// Single files that need not exist: `file()`, `templatefile()`, variable files, scripts of provisioners.
    pub files: Vec<InputPath>,
    /// Directories all of whose content counts: `fileset()`, and arguments that are known to lie under a directory only.
    pub trees: Vec<InputPath>,
    pub remote_modules: Vec<RemoteModule>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InputPath {
    pub path: Arc<str>,
    /// The chain that leads there, outermost first, e.g. [`module "vpc" at aws/network/main.tf:3`,
    /// `templatefile at modules/vpc/main.tf:7`]; empty for the stack's own directory.
    pub chain: Vec<Evidence>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// e.g. `module "vpc"`, `templatefile`, `variable file`, `symbolic link`.
    pub what: String,
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RemoteModule {
    /// As written, e.g. `git::https://example.com/x.git//modules/a?ref=master`.
    pub source: String,
    /// Registry version constraint or git reference.
    pub reference: Option<String>,
    /// True when the reference can move: a branch, none at all, an open version constraint.
    pub moving: bool,
    pub span: Span,
}

/// `to` reads what `from` wrote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Edge {
    pub from: InstanceId,
    pub to: InstanceId,
    pub kind: EdgeKind,
    /// `count`/`for_each` of the data source.
    pub gate: Option<Gate>,
    pub evidence: Span,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EdgeKind {
    /// `data "terraform_remote_state" "NAME"` in the module at `module` (the stack's directory or a local module of it).
    RemoteState { name: String, backend: String, module: Arc<str>, outputs: ConsumedOutputs },
    /// `after` in a stack block.
    After,
}

/// Which outputs of the upstream are read, traced through locals and module arguments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConsumedOutputs {
    /// Exactly these, with the places.
    Named(BTreeMap<String, Vec<Span>>),
    /// The whole `outputs` object is handed on, or the use could not be followed.
    All,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// The expression as written, e.g. `contains(var.targets, "cassandra") ? 1 : 0`.
    pub condition: String,
    /// Whether the edge is active for the instance's variables.
    pub state: GateState,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateState {
    Open,
    Closed,
    /// Counts as open; the sentence says why it is not known.
    Unknown(String),
}

impl ConsumedOutputs {
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::Named(names) => names.contains_key(name),
            Self::All => true,
        }
    }

    /// Both together: a data source of the same name in two modules of a stack.
    pub fn add(&mut self, other: &Self) {
        match (self, other) {
            (Self::Named(names), Self::Named(more)) => {
                for (name, spans) in more {
                    names.entry(name.clone()).or_default().extend(spans.iter().cloned());
                }
            }
            (this, _) => *this = Self::All,
        }
    }
}

impl Edge {
    /// Closed gates do not order and do not propagate.
    pub fn is_active(&self) -> bool {
        !matches!(self.gate, Some(Gate { state: GateState::Closed, .. }))
    }
    /// Whether it reads the upstream's output `name`.
    pub fn consumes(&self, name: &str) -> bool {
        match &self.kind {
            EdgeKind::RemoteState { outputs, .. } => outputs.has(name),
            EdgeKind::After => false,
        }
    }
}
