//! `ready` and `rollout` blocks.

use super::reader::{Kind, Schema};
use super::{Block, Loader};
use windlass_model::Micros;
use windlass_model::id::InstanceId;
use windlass_model::rollout::{Gate, OnFailure, Rollout, Selector, WaveOrder, WaveSpec};

const PROBE: &[(&str, Kind, bool)] = &[
    ("tcp", Kind::Template, false),
    ("http", Kind::Template, false),
    ("command", Kind::Templates, false),
    ("status", Kind::Count, false),
    ("contains", Kind::Text, false),
    ("timeout", Kind::Duration, false),
    ("interval", Kind::Duration, false),
];
const READY: Schema = Schema { block: "ready", attributes: PROBE, blocks: &[] };
const GATE: Schema = Schema {
    block: "gate",
    attributes: &[
        ("tcp", Kind::Template, false),
        ("http", Kind::Template, false),
        ("command", Kind::Templates, false),
        ("status", Kind::Count, false),
        ("contains", Kind::Text, false),
        ("timeout", Kind::Duration, false),
        ("interval", Kind::Duration, false),
        ("checks", Kind::Bool, false),
        ("service_level", Kind::Text, false),
    ],
    blocks: &[],
};
const ROLLOUT: Schema = Schema {
    block: "rollout",
    attributes: &[
        ("canary", Kind::Text, false),
        ("batch", Kind::Count, false),
        ("soak", Kind::Duration, false),
        ("gate_timeout", Kind::Duration, false),
        ("max_failures", Kind::Count, false),
        ("on_failure", Kind::Text, false),
    ],
    blocks: &["gate", "wave"],
};
const WAVE: Schema = Schema {
    block: "wave",
    attributes: &[("select", Kind::Texts, true), ("soak", Kind::Duration, false)],
    blocks: &["gate"],
};

const SECOND: Micros = 1_000_000;

impl Loader<'_> {
    /// The probes of all `ready` blocks of a stack. `timeout` is how long the whole of it may take.
    pub(super) fn ready(&mut self, file: usize, block: &Block) -> Vec<Gate> {
        let blocks = block.body.blocks.iter().filter(|b| b.kind == "ready");
        blocks.filter_map(|inner| self.probe(file, inner, &READY, 300 * SECOND)).collect()
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
        let mut reader = self.reader(file, inner, &ROLLOUT);
        let canary = reader.text("canary").map(|text| selector(&text));
        let batch = reader.count("batch").unwrap_or(0) as usize;
        if !waves.is_empty() && (canary.is_some() || batch > 0) {
            reader.mistake(
                "canary",
                "WL107",
                "`wave` blocks exclude `canary` and `batch`",
                "name the canary in a first `wave` block",
            );
        }
        let on_failure = match reader.text("on_failure").as_deref() {
            None | Some("halt") => OnFailure::Halt,
            Some("rollback") => OnFailure::Rollback,
            Some(_) => {
                let what = "`on_failure` is \"halt\" or \"rollback\"";
                reader.mistake("on_failure", "WL106", what, "\"halt\" is the default");
                OnFailure::Halt
            }
        };
        let rollout = Rollout {
            waves: if waves.is_empty() { WaveOrder::Derived { canary, batch } } else { WaveOrder::Declared(waves) },
            soak: reader.duration("soak").unwrap_or(0),
            gates,
            gate_timeout: reader.duration("gate_timeout").unwrap_or(3600 * SECOND),
            max_failures: reader.count("max_failures").unwrap_or(0),
            on_failure,
        };
        reader.finish();
        Some(rollout)
    }

    fn wave(&mut self, file: usize, block: &Block) -> Option<WaveSpec> {
        let [name] = block.labels.as_slice() else {
            self.mistake_at(file, block, "WL103", "a `wave` block needs a name", "write `wave \"canary\" { … }`");
            return None;
        };
        let has_gates = block.body.blocks.iter().any(|b| b.kind == "gate");
        let gates = self.gates(file, block);
        let mut reader = self.reader(file, block, &WAVE);
        let wave = WaveSpec {
            name: name.clone(),
            select: reader.texts("select").iter().map(|text| selector(text)).collect(),
            soak: reader.duration("soak"),
            gates: has_gates.then_some(gates),
        };
        reader.finish();
        Some(wave)
    }

    fn gates(&mut self, file: usize, block: &Block) -> Vec<Gate> {
        let blocks = block.body.blocks.iter().filter(|b| b.kind == "gate");
        blocks.filter_map(|gate| self.probe(file, gate, &GATE, 10 * SECOND)).collect()
    }

    fn probe(&mut self, file: usize, block: &Block, schema: &'static Schema, timeout: Micros) -> Option<Gate> {
        let mut reader = self.reader(file, block, schema);
        let timeout = reader.duration("timeout").unwrap_or(timeout);
        let interval = reader.duration("interval").unwrap_or(5 * SECOND);
        let status = reader.count("status").map_or((200, 299), |status| (status as u16, status as u16));
        let contains = reader.text("contains");
        let gate_block = schema.block == GATE.block;
        let mut found = Vec::new();
        found.extend(reader.template("tcp").map(|address| Gate::Tcp { address, timeout, interval }));
        found.extend(reader.template("http").map(|url| Gate::Http { url, status, contains, timeout, interval }));
        let argv = reader.templates("command");
        if !argv.is_empty() {
            found.push(Gate::Command { argv, timeout, interval });
        }
        if gate_block {
            if reader.bool("checks") == Some(true) {
                found.push(Gate::Checks);
            }
            found.extend(reader.text("service_level").map(|name| Gate::ServiceLevel { name, interval }));
        }
        let what = if gate_block { "tcp, http, command, checks or service_level" } else { "tcp, http or command" };
        if found.len() != 1 {
            let summary = format!("a `{}` block asks one thing, this one asks {}", schema.block, found.len());
            reader.mistake("", "WL107", &summary, &format!("give one of {what}; further blocks ask further things"));
        }
        reader.finish();
        if found.len() == 1 { found.pop() } else { None }
    }
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
