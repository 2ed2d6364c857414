//! `ready` and `rollout` blocks.

use super::reader::Reader;
use super::schema::{GateValues, ReadyValues, RolloutValues, WaveValues};
use super::{Block, Loader};
use windlass_model::Micros;
use windlass_model::id::InstanceId;
use windlass_model::rollout::{Gate, OnFailure, Rollout, Selector, WaveOrder, WaveSpec};

const SECOND: Micros = 1_000_000;

impl Loader<'_> {
    /// The probes of all `ready` blocks of a stack. `timeout` is how long the whole of it may take.
    pub(super) fn ready(&mut self, file: usize, block: &Block) -> Vec<Gate> {
        let blocks = block.body.blocks.iter().filter(|b| b.kind == "ready");
        let ready = |inner: &Block| {
            let (values, mut reader) = self.read::<ReadyValues>(file, inner);
            let (timeout, interval) = (values.timeout.unwrap_or(300 * SECOND), values.interval.unwrap_or(5 * SECOND));
            let questions = Questions { tcp: values.tcp, http: values.http, command: values.command };
            let found = questions.gates(values.status, values.contains, timeout, interval);
            only(found, &mut reader, "ready", "tcp, http or command")
        };
        blocks.filter_map(ready).collect()
    }

    /// The `rollout` block of a stack or environment; of several the first counts, the others are mistakes.
    pub(super) fn rollout(&mut self, file: usize, block: &Block) -> Option<Rollout> {
        let mut blocks = block.body.blocks.iter().filter(|b| b.kind == "rollout");
        let inner = blocks.next()?;
        for second in blocks {
            let what = "there are two `rollout` blocks";
            self.mistake_at(file, second, "WL104", what, "merge them: a stack or environment is rolled out in one way");
        }
        let gates = self.gates(file, inner);
        let waves: Vec<WaveSpec> =
            inner.body.blocks.iter().filter(|b| b.kind == "wave").filter_map(|wave| self.wave(file, wave)).collect();
        let (values, mut reader) = self.read::<RolloutValues>(file, inner);
        let canary = values.canary.as_deref().map(selector);
        let batch = values.batch.unwrap_or(0) as usize;
        if !waves.is_empty() && (canary.is_some() || batch > 0) {
            reader.mistake(
                "canary",
                "WL107",
                "`wave` blocks exclude `canary` and `batch`",
                "name the canary in a first `wave` block",
            );
        }
        let on_failure = match values.on_failure.as_deref() {
            None | Some("halt") => OnFailure::Halt,
            Some("rollback") => OnFailure::Rollback,
            Some(_) => {
                let what = "`on_failure` is \"halt\" or \"rollback\"";
                reader.mistake("on_failure", "WL106", what, "\"halt\" is the default");
                OnFailure::Halt
            }
        };
        Some(Rollout {
            waves: if waves.is_empty() { WaveOrder::Derived { canary, batch } } else { WaveOrder::Declared(waves) },
            soak: values.soak.unwrap_or(0),
            gates,
            gate_timeout: values.gate_timeout.unwrap_or(3600 * SECOND),
            max_failures: values.max_failures.unwrap_or(0),
            on_failure,
        })
    }

    fn wave(&mut self, file: usize, block: &Block) -> Option<WaveSpec> {
        let [name] = block.labels.as_slice() else {
            self.mistake_at(file, block, "WL103", "a `wave` block needs a name", "write `wave \"canary\" { … }`");
            return None;
        };
        let has_gates = block.body.blocks.iter().any(|b| b.kind == "gate");
        let gates = self.gates(file, block);
        let (values, _) = self.read::<WaveValues>(file, block);
        Some(WaveSpec {
            name: name.clone(),
            select: values.select.iter().map(|text| selector(text)).collect(),
            soak: values.soak,
            gates: has_gates.then_some(gates),
        })
    }

    fn gates(&mut self, file: usize, block: &Block) -> Vec<Gate> {
        let blocks = block.body.blocks.iter().filter(|b| b.kind == "gate");
        let gate = |inner: &Block| {
            let (values, mut reader) = self.read::<GateValues>(file, inner);
            let (timeout, interval) = (values.timeout.unwrap_or(10 * SECOND), values.interval.unwrap_or(5 * SECOND));
            let questions = Questions { tcp: values.tcp, http: values.http, command: values.command };
            let mut found = questions.gates(values.status, values.contains, timeout, interval);
            found.extend((values.checks == Some(true)).then_some(Gate::Checks));
            found.extend(values.service_level.map(|name| Gate::ServiceLevel { name, interval }));
            only(found, &mut reader, "gate", "tcp, http, command, checks or service_level")
        };
        blocks.filter_map(gate).collect()
    }
}

struct Questions {
    tcp: Option<String>,
    http: Option<String>,
    command: Vec<String>,
}

impl Questions {
    fn gates(self, status: Option<u32>, contains: Option<String>, timeout: Micros, interval: Micros) -> Vec<Gate> {
        let status = status.map_or((200, 299), |status| (status as u16, status as u16));
        let argv = self.command;
        let tcp = self.tcp.map(|address| Gate::Tcp { address, timeout, interval });
        let http = self.http.map(|url| Gate::Http { url, status, contains, timeout, interval });
        let command = (!argv.is_empty()).then_some(Gate::Command { argv, timeout, interval });
        [tcp, http, command].into_iter().flatten().collect()
    }
}

/// A block asks one thing.
fn only(mut found: Vec<Gate>, reader: &mut Reader<'_>, block: &str, what: &str) -> Option<Gate> {
    if found.len() != 1 {
        let summary = format!("a `{block}` block asks one thing, this one asks {}", found.len());
        reader.mistake("", "WL107", &summary, &format!("give one of {what}; further blocks ask further things"));
        return None;
    }
    found.pop()
}

/// `rest`, an instance (`aws/db[tokyo]`), `environment:NAME`, or a region.
fn selector(text: &str) -> Selector {
    match text.strip_prefix("environment:") {
        Some(name) => Selector::Environment(name.to_owned()),
        None if text == "rest" => Selector::Rest,
        None if text.contains(['/', '[']) => Selector::Instance(InstanceId::new(text)),
        None => Selector::Region(text.to_owned()),
    }
}
