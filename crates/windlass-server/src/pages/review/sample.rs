//! Reviews in the states that look different, for tests.

use super::*;
use std::collections::BTreeMap;
use windlass_model::Micros;
use windlass_model::diagnostic::Span;
use windlass_model::effect::{Action, AttributeChange, Effect, ResourceChange, Shown, digest_all};
use windlass_model::id::RunId;
use windlass_model::review as model;
use windlass_model::review::document::Context;
use windlass_model::review::progress::{Phase, Progress};
use windlass_model::review::{AffectedKind, Finding, Level, Outcome, Reason, Revision, Severity, StackReview};
use windlass_model::rollout::Answer;
use windlass_model::run::RunState;
use windlass_model::{diagnostic::Diagnostic, risk};

const NOW: Micros = 1_763_715_005_000_000;
const MINUTE: Micros = 60_000_000;
const ID: &str = "01k9zzzzzzzzzzzzzzzzzzzzzz";

fn change(action: Action, kind: &str, name: &str, attribute: &str, before: Shown, after: Shown) -> ResourceChange {
    ResourceChange {
        address: format!("{kind}.{name}"),
        previous_address: None,
        resource_type: kind.into(),
        provider: "registry.terraform.io/hashicorp/aws".into(),
        action,
        attributes: BTreeMap::from([(attribute.to_owned(), AttributeChange { before, after })]),
        lists: BTreeMap::new(),
        replace_paths: if action == Action::Replace { vec![attribute.to_owned()] } else { Vec::new() },
        reason: None,
        import_id: None,
    }
}

fn stack(instance: &str, changes: Vec<ResourceChange>) -> StackReview {
    let effect = Effect {
        instance: instance.into(),
        changes,
        outputs: BTreeMap::new(),
        checks: BTreeMap::new(),
        drift: Vec::new(),
    };
    StackReview {
        instance: instance.into(),
        kind: AffectedKind::Changed,
        reasons: vec![Reason {
            cause: "modules/db/main.tf".into(),
            change: "modified".into(),
            chain: vec!["module \"db\" (aws/db/main.tf:3)".into()],
        }],
        after: Vec::new(),
        environments: vec!["production".into()],
        owner: Some("data".into()),
        risk: Some(risk::rank(&effect, &risk::Context::default())),
        outcome: Outcome::Planned { effect },
        findings: Vec::new(),
        binding: None,
        readers: Vec::new(),
        dependants: BTreeMap::new(),
    }
}

fn document(verdict: Verdict, findings: Vec<Finding>) -> Document {
    document_of(verdict, findings, Context::default())
}

fn document_of(verdict: Verdict, findings: Vec<Finding>, context: Context<'_>) -> Document {
    let text = |text: &str| Shown::Value(text.into());
    let engine = change(Action::Replace, "aws_db_instance", "main", "engine_version", text("14.9"), text("16.1"));
    let port = change(Action::Update, "aws_security_group_rule", "web", "to_port", text("80"), text("443"));
    let app = change(Action::Create, "aws_instance", "app", "ami", Shown::Absent, text("ami-1"));
    let mut database = stack("aws/db[tokyo]", vec![engine]);
    database.findings = findings;
    let mut broken = stack("azure/x", Vec::new());
    let why = Diagnostic::error("WL503", "Invalid provider configuration").detail("No region was given.");
    broken.outcome = Outcome::Failed { stage: model::Stage::Plan, diagnostics: vec![why] };
    let mut stacks = vec![stack("aws/network", vec![port]), database, stack("aws/app", vec![app])];
    if verdict == Verdict::Failed {
        stacks.push(broken);
    }
    let effect_digest = digest_all(stacks.iter().filter_map(|s| s.outcome.effect()));
    let review = model::Review {
        run: RunId::new(ID),
        project: "shop".into(),
        base: Some(Revision { name: "main".into(), commit: "b".repeat(40) }),
        head: Revision { name: "bigger-database".into(), commit: "a".repeat(40) },
        dirty: Vec::new(),
        authors: vec!["Dev <dev@example.com>".into()],
        unknown_authors: Vec::new(),
        stacks,
        diagnostics: Vec::new(),
        findings: Vec::new(),
        policy_digest: "d".repeat(64),
        effect_digest,
        verdict,
        readers_beyond: BTreeMap::new(),
    };
    Document::new(&review, context)
}

fn backups() -> Finding {
    Finding {
        address: Some("aws_db_instance.main".into()),
        code: Some(Span { line: 12, ..Span::file("modules/db/main.tf") }),
        severity: Some(Severity::High),
        ..Finding::new(Level::Deny, "policy backups", "databases keep backups for 7 days: set backup_retention_period")
    }
}

impl Review {
    /// For tests: one of two approvals is given; this person may give the other.
    pub fn sample() -> Self {
        let at = |minutes: i64| Moment::new(NOW - minutes * MINUTE, NOW);
        let open = |what: &str| Some(Offer::open(format!("/reviews/{ID}/{what}")));
        Self {
            id: ID.into(),
            document: document(Verdict::NeedsApproval, Vec::new()),
            state: "open".into(),
            authors: "Dev <dev@example.com>".into(),
            made: at(3),
            approvals: vec![
                Given {
                    who: "Kim <kim@example.com>".into(),
                    at: at(190),
                    reason: Some("looks right".into()),
                    not_counted: Some("it was given for commit 3f3f3f3f3f3f".into()),
                },
                Given { who: "Lee <lee@example.com>".into(), at: at(1), reason: None, not_counted: None },
            ],
            missing: vec!["environment production asks for 2 approvals from team data, has 1".into()],
            refused: None,
            approve: open("approve"),
            refuse: open("refuse"),
            apply: Some(Offer::closed("1 approval is missing")),
            confirm: Vec::new(),
            waivable: Vec::new(),
            earlier: vec![Earlier {
                id: "01k8zzzzzzzzzzzzzzzzzzzzzz".into(),
                commit: "3f".repeat(20),
                verdict: Verdict::NeedsApproval,
                approved: true,
                made: at(200),
            }],
            live: None,
        }
    }

    /// For tests: a policy denies it; one finding may be waived by this person, one may not.
    pub fn sample_denied() -> Self {
        let waivable = |id: &str, waive| Waivable {
            id: id.into(),
            message: backups().message,
            source: "policy backups".into(),
            instance: Some("aws/db[tokyo]".into()),
            most_days: 30,
            waive,
        };
        Self {
            document: document(Verdict::Denied, vec![backups()]),
            approvals: Vec::new(),
            approve: Some(Offer::closed("a policy denies it")),
            waivable: vec![
                waivable("1a2b3c4d", Offer::open(format!("/reviews/{ID}/waive"))),
                waivable("5e6f7a8b", Offer::closed("only team security may waive what policy exposure finds")),
            ],
            ..Self::sample()
        }
    }

    /// For tests: all is approved, and something whole is destroyed with it.
    pub fn sample_approved() -> Self {
        Self {
            state: "approved".into(),
            missing: Vec::new(),
            approve: Some(Offer::closed("you approved it")),
            apply: Some(Offer::open(format!("/reviews/{ID}/apply"))),
            confirm: vec!["aws/old[osaka]".into()],
            ..Self::sample()
        }
    }

    /// For tests: somebody refused it, and a stack failed.
    pub fn sample_refused() -> Self {
        Self {
            document: document(Verdict::Failed, Vec::new()),
            state: "refused".into(),
            refused: Some(Refusal {
                who: "Lee <lee@example.com>".into(),
                at: Moment::new(NOW - MINUTE, NOW),
                reason: "the database must not be replaced in business hours".into(),
            }),
            approve: None,
            refuse: None,
            apply: None,
            ..Self::sample()
        }
    }

    /// For tests: being applied in waves.
    pub fn sample_applying() -> Self {
        let bar = |instance: &str, state, done, current: Option<&str>, reason: Option<&str>| Bar {
            instance: instance.into(),
            state,
            done,
            total: 8,
            current: current.map(str::to_owned),
            reason: reason.map(str::to_owned),
            href: format!("/runs/01k9a{}", crate::pages::run::anchor(&format!("apply:{instance}"))),
        };
        let gate = |title: &str, answer, told: Option<&str>| Gate {
            title: title.into(),
            answer,
            told: told.map(str::to_owned),
        };
        let wave = |name: &str, state, bars: Vec<Bar>| Wave {
            name: name.into(),
            state,
            bars,
            more: 0,
            soak: None,
            gates: Vec::new(),
        };
        let canary = Wave {
            soak: Some(Soak { until: Moment::new(NOW + 12 * MINUTE, NOW), over: false }),
            gates: vec![
                gate("shop answers within 300 ms", Some(Answer::Hold), Some("only 3 of 20 samples by now")),
                gate("error rate below 1 %", Some(Answer::Pass), Some("0.02 %")),
                gate("https://shop.example.com/healthz answers 200", None, None),
            ],
            ..wave("1. canary", WaveState::Soaking, vec![bar("aws/db[tokyo]", BarState::Done, 8, None, None)])
        };
        let rest = Wave {
            more: 40,
            ..wave(
                "2. rest",
                WaveState::Waiting,
                vec![
                    bar("aws/app", BarState::Running, 3, Some("creating aws_instance.app"), None),
                    bar("aws/db[osaka]", BarState::Waiting, 0, None, Some("after aws/network")),
                    bar("aws/network", BarState::Failed, 5, None, Some("InvalidSubnet.Range")),
                    bar("aws/queue", BarState::Quarantined, 2, None, Some("its worker died while it was applied")),
                ],
            )
        };
        let deed = |kind, what: &str| Deed { kind, offer: Offer::open(format!("/runs/01k9a/{what}")) };
        let progress = Progress { phase: Phase::Applying, done: 3, all: 9, stopped_at: None };
        let context = Context { progress: Some(progress), ..Context::default() };
        Self {
            document: document_of(Verdict::Ready, Vec::new(), context),
            state: "applying".into(),
            missing: Vec::new(),
            approve: None,
            refuse: None,
            apply: Some(Offer::closed("it is being applied")),
            live: Some(Live {
                run: "01k9a".into(),
                state: RunState::Running,
                waits: None,
                waves: vec![canary, rest],
                before: 0,
                after: 7,
                settle: true,
                deeds: vec![
                    deed(DeedKind::Halt, "halt"),
                    deed(DeedKind::Resume, "resume"),
                    deed(DeedKind::Cancel, "cancel"),
                    Deed {
                        kind: DeedKind::RollBack,
                        offer: Offer::closed("nothing has been applied in the last wave"),
                    },
                ],
            }),
            ..Self::sample()
        }
    }
}
