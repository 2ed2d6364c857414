use super::*;
use serde_json::json;

fn work(id: &str, after: &[&str]) -> StackWork {
    let instance = json!({
        "id": id, "workspace": "default", "var_files": [], "variables": {}, "backend_config": {}, "backend": "local",
        "state": null, "state_unknown": null, "environments": [],
    });
    let work = json!({
        "stack": id, "instance": instance, "tool": "any", "required_version": [], "env": [], "directories": [id],
        "owner": null, "kind": { "kind": "changed" }, "reasons": [], "reads": [], "after": after,
    });
    serde_json::from_value(work).unwrap()
}

/// `id after,after; …` of all steps.
fn graph(plan: &RunPlan) -> String {
    let line = |step: &StepSpec| {
        let after: Vec<&str> = step.after.iter().map(StepId::as_str).collect();
        format!("{} {}", step.id, after.join(",")).trim_end().to_owned()
    };
    plan.steps.iter().map(line).collect::<Vec<_>>().join("; ")
}

#[test]
fn providers_come_before_everything_that_runs_init_and_only_where_one_is_locked() {
    let works = [work("net", &[]), work("app", &["net"])];
    let revision = Revision { name: "main".into(), commit: "c0".into() };
    let input = ReviewInput {
        project: "p".into(),
        base: None,
        head: revision,
        deciding: None,
        dirty: Vec::new(),
        authors: Vec::new(),
        unknown_authors: Vec::new(),
        deleted: Vec::new(),
        diagnostics: Vec::new(),
    };
    let check = |locked: &[&str], of_review: &str, of_drift: &str| {
        let locked = ProvidersInput { instances: locked.iter().map(|id| InstanceId::new(*id)).collect() };
        let review = review(&works, &ChecksInput::default(), &locked, &input, &Costs::new());
        assert_eq!(graph(&review), of_review);
        assert_eq!(graph(&drift(&works, &locked, &input.head, &Costs::new())), of_drift);
        for plan in [review, drift(&works, &locked, &input.head, &Costs::new())] {
            let step = plan.steps.iter().find(|step| step.work.driver == driver::PROVIDERS);
            assert_eq!(
                step.map(|step| step.work.input.clone()),
                (!locked.instances.is_empty()).then(|| to_value(&locked))
            );
        }
    };
    check(&[], "plan:net; plan:app plan:net; review plan:net,plan:app", "drift:net; drift:app");
    // One stack that locks something is enough: the others may read from it.
    check(
        &["app"],
        "providers; plan:net providers; plan:app plan:net,providers; review providers,plan:net,plan:app",
        "providers; drift:net providers; drift:app providers",
    );
}
