//! A review of ten thousand resources costs four times one of two and a half thousand, not sixteen times.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};
use windlass_model::effect::{Effect, digest_all};
use windlass_model::id::RunId;
use windlass_model::review::document::{Context, Document};
use windlass_model::review::{AffectedKind, Outcome, Review, Revision, StackReview, Verdict};
use windlass_render::markdown::Forge;
use windlass_render::{html, markdown, terminal};

/// `resources` in stacks of fifty instances, so many in each instance; in every instance one row is its own.
fn review(resources: usize, each: usize) -> Review {
    let stacks: Vec<StackReview> = (0..resources / each)
        .map(|instance| {
            let rows: Vec<Value> = (0..each)
                .map(|n| {
                    let actions = if n % 10 == 0 { json!(["delete", "create"]) } else { json!(["update"]) };
                    let own = if n == 7 { instance } else { 0 };
                    json!({
                        "address": format!("module.m[\"{n}\"].aws_instance.x{n}"), "type": "aws_instance",
                        "change": {"actions": actions, "before": {"size": n, "tags": {"a": "b"}}, "after": {"size": n + 1 + own, "tags": {"a": "c"}}}
                    })
                })
                .collect();
            let plan = json!({"format_version": "1.2", "resource_changes": rows});
            let id = format!("stack-{}[{}]", instance / 50, instance % 50);
            let effect = Effect::from_plan_json(id.as_str().into(), &plan, b"key").unwrap();
            StackReview {
                instance: id.as_str().into(),
                kind: AffectedKind::Changed,
                reasons: Vec::new(),
                after: Vec::new(),
                environments: Vec::new(),
                owner: None,
                outcome: Outcome::Planned { effect },
                findings: Vec::new(),
                binding: None,
                risk: None,
                readers: Vec::new(),
                dependants: BTreeMap::new(),
            }
        })
        .collect();
    let effect_digest = digest_all(stacks.iter().filter_map(|s| s.outcome.effect()));
    Review {
        run: RunId::new("01"),
        project: "large".into(),
        base: None,
        head: Revision { name: "main".into(), commit: "a".repeat(40) },
        dirty: Vec::new(),
        authors: Vec::new(),
        stacks,
        findings: Vec::new(),
        diagnostics: Vec::new(),
        policy_digest: String::new(),
        effect_digest,
        verdict: Verdict::Ready,
        readers_beyond: BTreeMap::new(),
    }
}

/// The shortest of three times of the document and all its renderings.
fn time(review: &Review) -> Duration {
    let once = || {
        let begin = Instant::now();
        let document = Document::new(review, Context { last: Some(review), ..Context::default() });
        black_box(markdown::render(&document, &Forge::GitHub.options()));
        black_box(html::fragment(&document, None));
        black_box(terminal::render(&document, terminal::Options { color: true, width: 100 }));
        black_box(windlass_render::json(&document));
        begin.elapsed()
    };
    (0..3).map(|_| once()).min().unwrap()
}

#[test]
fn the_time_grows_with_the_size_and_not_faster() {
    let check = |each: fn(usize) -> usize| {
        let of = |resources: usize| time(&review(resources, each(resources)));
        let (small, large) = (of(2_500), of(10_000));
        assert!(large < small * 9, "{small:?} for 2,500 resources, {large:?} for 10,000");
    };
    // Many instances, one large one, and one resource each.
    check(|_| 50);
    check(|resources| resources);
    check(|_| 1);
}
