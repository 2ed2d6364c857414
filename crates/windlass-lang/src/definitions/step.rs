//! What operations do: `step`, `each` and `parallel` blocks.

use super::operation::{Placed, one_of};
use super::operation_schema::{
    AskValues, CallValues, EachValues, HttpValues, OperationGateValues, ParallelValues, RetryValues, ScriptValues,
    SqlValues, StepContainerValues, StepJobValues, StepNotifyValues, StepValues, TerraformValues, WaitValues,
};
use super::runner::pull;
use super::{Block, Loader, check_runner, text_map};
use windlass_model::Micros;
use windlass_model::operation::{
    Action, AskAction, Batch, EachDefinition, Expression, GateDefinition, HttpAction, Node, OutputFormat,
    ParallelDefinition, SqlAction, StepDefinition, TerraformCommand, WaitAction,
};
use windlass_model::place::{Container, Job};
use windlass_model::rollout::Gate;
use windlass_model::run::{Cost, Repeat, Retry};

const SECOND: Micros = 1_000_000;
/// Blocks that say what a step does; `run`, `shell` and `stack_outputs` are attributes.
const ACTIONS: [&str; 11] =
    ["script", "container", "job", "http", "sql", "terraform", "approval", "ask", "wait", "operation", "notify"];

/// So many attempts; times are microseconds, ten seconds and five minutes where they are not said.
pub(super) fn retry(attempts: u32, backoff: Option<Micros>, max_backoff: Option<Micros>) -> Retry {
    let backoff = backoff.unwrap_or(10 * SECOND);
    Retry { attempts, backoff, max_backoff: max_backoff.unwrap_or(300 * SECOND).max(backoff) }
}

impl Loader<'_> {
    /// Steps, `each` and `parallel` in their order.
    pub(super) fn nodes(&mut self, within: &str, blocks: &[Placed<'_>]) -> Vec<Node> {
        let mut nodes = Vec::new();
        for &(file, block) in blocks {
            nodes.extend(match block.kind.as_str() {
                "step" => self.step(within, file, block).map(|step| Node::Step(Box::new(step))),
                "each" => self.each(within, file, block).map(|each| Node::Each(Box::new(each))),
                "parallel" => self.parallel(within, file, block).map(Node::Parallel),
                _ => None,
            });
        }
        nodes
    }

    /// The steps of `on_failure` or `on_cancel`.
    pub(super) fn handlers(&mut self, within: &str, kind: &str, blocks: &[Placed<'_>]) -> Vec<StepDefinition> {
        let blocks = blocks.iter().filter(|(_, block)| block.kind == kind);
        blocks.filter_map(|(file, block)| self.step(&format!("{within}{kind}/"), *file, block)).collect()
    }

    /// The name of a node, which no other node of the operation has.
    fn node_name(&mut self, within: &str, file: usize, block: &Block) -> Option<String> {
        let (name, _) = self.label(file, block, within)?;
        // The three kinds are named alike in `after` and on pages.
        let others = ["step", "each", "parallel"].into_iter().filter(|kind| *kind != block.kind);
        for other in others {
            if let Some(first) = self.seen.get(&(format!("{within}{other}"), name.clone())).cloned() {
                let what = format!("{} \"{name}\" is called like {other} \"{name}\" in {first}", block.kind);
                self.mistake_at(file, block, "WL104", &what, "rename one of them");
            }
        }
        Some(name)
    }

    fn each(&mut self, within: &str, file: usize, block: &Block) -> Option<EachDefinition> {
        let name = self.node_name(within, file, block)?;
        let (values, _) = self.read::<EachValues>(file, block);
        let inner = placed(file, block);
        let nodes = self.nodes(within, &inner);
        let gates = self.operation_gates(file, block);
        if nodes.is_empty() {
            let help = "add `step \"NAME\" { … }`";
            self.mistake_at(file, block, "WL109", &format!("each \"{name}\" has no steps"), help);
        }
        let batch = values.batch.unwrap_or(Batch::All);
        let max_failures = values.max_failures.unwrap_or(0);
        Some(EachDefinition {
            name,
            members: values.members?,
            batch,
            max_failures,
            gates,
            nodes,
            span: self.head(file, block),
        })
    }

    fn parallel(&mut self, within: &str, file: usize, block: &Block) -> Option<ParallelDefinition> {
        let name = self.node_name(within, file, block)?;
        self.read::<ParallelValues>(file, block);
        let nodes = self.nodes(within, &placed(file, block));
        if nodes.is_empty() {
            let help = "add `step \"NAME\" { … }`";
            self.mistake_at(file, block, "WL109", &format!("parallel \"{name}\" has no steps"), help);
        }
        Some(ParallelDefinition { name, nodes, span: self.head(file, block) })
    }

    fn step(&mut self, within: &str, file: usize, block: &Block) -> Option<StepDefinition> {
        let name = self.node_name(within, file, block)?;
        let mut step = self.step_of(name, file, block)?;
        let undo = self.single(&placed(file, block), "undo");
        step.undo = undo.and_then(|(file, inner)| {
            if let Some(second) = inner.body.blocks.iter().find(|b| b.kind == "undo") {
                self.mistake_at(file, second, "WL126", "an undo is not undone", "remove it");
            }
            self.step_of(step.name.clone(), file, inner).map(Box::new)
        });
        Some(step)
    }

    /// All of a step but its undo.
    fn step_of(&mut self, name: String, file: usize, block: &Block) -> Option<StepDefinition> {
        let action = self.action(&name, file, block);
        let retry = self.single(&placed(file, block), "retry").map(|(file, inner)| {
            let (values, _) = self.read::<RetryValues>(file, inner);
            retry(values.attempts.unwrap_or(1), values.backoff, values.max_backoff)
        });
        let (values, mut reader) = self.read::<StepValues>(file, block);
        check_runner(values.runner.as_deref(), &mut reader);
        let known = [("idempotent", Repeat::Idempotent), ("checkable", Repeat::Checkable), ("once", Repeat::Once)];
        let repeat = one_of(&mut reader, "repeat", values.repeat.as_deref(), &known).unwrap_or(Repeat::Idempotent);
        match (repeat, &values.probe) {
            (Repeat::Checkable, None) => {
                let help =
                    "add `probe = [ … ]`: a program that exits with 0 when the step had happened, with 1 when not";
                reader.mistake("repeat", "WL126", "a checkable step needs a `probe`", help);
            }
            (Repeat::Idempotent | Repeat::Once, Some(_)) => {
                let help = "write `repeat = \"checkable\"`, or remove it";
                reader.mistake("probe", "WL126", "`probe` is for checkable steps", help);
            }
            _ => {}
        }
        let known = [("json", OutputFormat::Json), ("key_value", OutputFormat::KeyValue), ("text", OutputFormat::Text)];
        let outputs = one_of(&mut reader, "outputs", values.outputs.as_deref(), &known).unwrap_or_default();
        for glob in &values.artefacts {
            if let Err(error) = crate::glob(glob) {
                let help = "`*` stands for anything within a segment, `**` for any number of segments";
                reader.mistake("artefacts", "WL106", &format!("pattern `{glob}` is not valid: {error}"), help);
            }
        }
        let success = if reader.has("success") { values.success } else { vec![0] };
        let after = reader.has("after").then_some(values.after);
        Some(StepDefinition {
            name,
            description: values.description,
            action: action?,
            when: values.when,
            after,
            env: values.env,
            directory: values.directory,
            runner: values.runner,
            retry: retry.unwrap_or(Retry::NEVER),
            timeout: values.timeout,
            repeat,
            probe: values.probe,
            outputs,
            artefacts: values.artefacts,
            mask: values.mask.unwrap_or_default(),
            locks: values.locks.unwrap_or_default(),
            may_fail: values.may_fail.unwrap_or(false),
            success,
            give_up: values.give_up,
            undo: None,
            cost: Cost { cpu_milli: values.cpu.unwrap_or(0), memory_mib: values.memory.unwrap_or(0) },
            span: self.head(file, block),
        })
    }

    fn action(&mut self, name: &str, file: usize, block: &Block) -> Option<Action> {
        let attributes = ["run", "shell", "stack_outputs"].into_iter().filter(|name| block.body.value(name).is_some());
        let blocks: Vec<&Block> =
            block.body.blocks.iter().filter(|inner| ACTIONS.contains(&inner.kind.as_str())).collect();
        let said: Vec<&str> = attributes.chain(blocks.iter().map(|inner| inner.kind.as_str())).collect();
        if said.len() != 1 {
            let (what, help) = if said.is_empty() {
                let help = format!("add `run = [ … ]`, `shell`, `stack_outputs` or a block: {}", ACTIONS.join(", "));
                (format!("{} \"{name}\" does nothing", block.kind), help)
            } else {
                let help = "make a step of each".to_owned();
                (format!("{} \"{name}\" does {} things: {}", block.kind, said.len(), said.join(", ")), help)
            };
            self.mistake_at(file, block, "WL125", &what, &help);
            return None;
        }
        let Some(inner) = blocks.first() else {
            let (values, _) = self.read::<StepValues>(file, block);
            return values
                .run
                .map(|argv| Action::Run { argv })
                .or_else(|| values.shell.map(|line| Action::Shell { line }))
                .or_else(|| values.stack_outputs.map(|stack| Action::StackOutputs { stack }));
        };
        match inner.kind.as_str() {
            "script" => self.script(file, inner),
            "container" => self.container_step(file, inner),
            "job" => self.job_step(file, inner),
            "http" => self.http(file, inner),
            "sql" => self.sql(file, inner),
            "terraform" => self.terraform(file, inner),
            "approval" => self.approvals(file, inner).map(Action::Approval),
            "ask" => self.ask(file, inner),
            "wait" => self.wait(file, inner),
            "operation" => {
                let (values, _) = self.read::<CallValues>(file, inner);
                Some(Action::Operation { name: values.name?, arguments: values.arguments })
            }
            _ => {
                let (values, _) = self.read::<StepNotifyValues>(file, inner);
                Some(Action::Notify { to: values.to, text: values.text? })
            }
        }
    }

    fn script(&mut self, file: usize, block: &Block) -> Option<Action> {
        let (values, mut reader) = self.read::<ScriptValues>(file, block);
        if values.text.is_some() == values.file.is_some() {
            reader.mistake("", "WL107", "a script is a `text` or a `file`", "give one of them");
        }
        let interpreter =
            if reader.has("interpreter") { values.interpreter } else { vec!["/bin/sh".to_owned(), "-e".to_owned()] };
        Some(Action::Script { interpreter, text: values.text, file: values.file, arguments: values.arguments })
    }

    fn container_step(&mut self, file: usize, block: &Block) -> Option<Action> {
        let (values, mut reader) = self.read::<StepContainerValues>(file, block);
        let pull = pull(&mut reader, values.pull.as_deref());
        super::runner::check_mounts(&mut reader, &values.mounts);
        let container = Container {
            image: String::new(),
            user: values.user,
            network: values.network,
            memory_mib: values.memory,
            cpu_milli: values.cpu,
            environment: text_map(values.environment),
            mounts: values.mounts,
            pull: pull?,
        };
        Some(Action::Container { image: values.image?, argv: values.run, container })
    }

    fn job_step(&mut self, file: usize, block: &Block) -> Option<Action> {
        let (values, _) = self.read::<StepJobValues>(file, block);
        let job = Job {
            image: String::new(),
            namespace: values.namespace,
            service_account: values.service_account,
            memory_mib: values.memory,
            cpu_milli: values.cpu,
            environment: text_map(values.environment),
            volume_claim: values.volume_claim,
            node_selector: text_map(values.node_selector),
        };
        Some(Action::Job { image: values.image?, argv: values.run, job })
    }

    fn http(&mut self, file: usize, block: &Block) -> Option<Action> {
        let (values, mut reader) = self.read::<HttpValues>(file, block);
        let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"].map(|method| (method, method));
        let method = values.method.map(|method| method.to_uppercase());
        let method = one_of(&mut reader, "method", method.as_deref(), &known).unwrap_or("GET").to_owned();
        Some(Action::Http(Box::new(HttpAction {
            method,
            url: values.url?,
            headers: values.headers,
            body: values.body,
            status: values.status.unwrap_or((200, 299)),
            contains: values.contains,
            timeout: values.timeout.unwrap_or(30 * SECOND),
        })))
    }

    fn sql(&mut self, file: usize, block: &Block) -> Option<Action> {
        let (values, _) = self.read::<SqlValues>(file, block);
        Some(Action::Sql(Box::new(SqlAction {
            url: values.url?,
            statement: values.statement?,
            values: values.values,
            write: values.write.unwrap_or(false),
            max_rows: values.max_rows.unwrap_or(1000),
        })))
    }

    fn terraform(&mut self, file: usize, block: &Block) -> Option<Action> {
        let (values, mut reader) = self.read::<TerraformValues>(file, block);
        let known = [
            ("plan", TerraformCommand::Plan),
            ("apply", TerraformCommand::Apply),
            ("output", TerraformCommand::Output),
        ];
        let command = one_of(&mut reader, "command", values.command.as_deref(), &known);
        Some(Action::Terraform { stack: values.stack?, command: command?, variables: values.variables })
    }

    fn ask(&mut self, file: usize, block: &Block) -> Option<Action> {
        let (values, mut reader) = self.read::<AskValues>(file, block);
        if let Some(default) = values.default.as_ref().filter(|_| !values.choices.is_empty())
            && !values.choices.contains(default)
        {
            let what = format!("\"{default}\" is no choice");
            reader.mistake("default", "WL106", &what, &format!("it is one of {}", values.choices.join(", ")));
        }
        Some(Action::Ask(Box::new(AskAction {
            question: values.question?,
            choices: values.choices,
            from: values.from,
            default: values.default,
            expires: values.expires,
        })))
    }

    fn wait(&mut self, file: usize, block: &Block) -> Option<Action> {
        let gates = self.operation_gates(file, block);
        let has_gates = block.body.blocks.iter().any(|inner| inner.kind == "gate");
        let (values, mut reader) = self.read::<WaitValues>(file, block);
        match (values.duration, values.until, has_gates) {
            (Some(duration), None, false) => Some(Action::Wait(WaitAction::Time { duration })),
            (None, Some(at), false) => Some(Action::Wait(WaitAction::Until { at })),
            (None, None, true) => Some(Action::Wait(WaitAction::Gates(gates))),
            _ => {
                reader.mistake(
                    "",
                    "WL107",
                    "a `wait` block waits for one thing",
                    "give one of for, until or gate blocks",
                );
                None
            }
        }
    }

    /// The `gate` blocks of an `each` or a `wait`.
    fn operation_gates(&mut self, file: usize, block: &Block) -> Vec<GateDefinition> {
        let blocks = block.body.blocks.iter().filter(|inner| inner.kind == "gate");
        blocks.filter_map(|inner| self.operation_gate(file, inner)).collect()
    }

    fn operation_gate(&mut self, file: usize, block: &Block) -> Option<GateDefinition> {
        let (values, mut reader) = self.read::<OperationGateValues>(file, block);
        let (timeout, interval) = (values.timeout.unwrap_or(10 * SECOND), values.interval.unwrap_or(5 * SECOND));
        let (status, source) = (values.status.unwrap_or((200, 299)), |expression: Expression| expression.text);
        let contains = values.contains.map(source);
        let tcp = values.tcp.map(|address| Gate::Tcp { address: source(address), timeout, interval });
        let http = values.http.map(|url| Gate::Http { url: source(url), status, contains, timeout, interval });
        let argv = values.command.map(|argv| argv.into_iter().map(source).collect());
        let command = argv.map(|argv| Gate::Command { argv, timeout, interval });
        let mut found: Vec<Gate> = [tcp, http, command].into_iter().flatten().collect();
        if found.len() != 1 {
            let what = format!("a `gate` block asks one thing, this one asks {}", found.len());
            let help = "give one of tcp, http or command; further blocks ask further things";
            reader.mistake("", "WL107", &what, help);
            return None;
        }
        let within = values.within.unwrap_or(300 * SECOND);
        Some(GateDefinition { gate: found.pop()?, within, span: self.head(file, block) })
    }
}

fn placed(file: usize, block: &Block) -> Vec<Placed<'_>> {
    block.body.blocks.iter().map(|inner| (file, inner)).collect()
}
