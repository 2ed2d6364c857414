//! `stack_outputs` and `terraform`, with the built-in provider.

use super::{World, operation, step, x};
use serde_json::{Value, json};
use windlass_model::run::RunState;

const MAIN: &str = "variable \"size\" {\n  type    = number\n  default = 1\n}\nresource \"terraform_data\" \"disk\" { input = var.size }\noutput \"size\" { value = terraform_data.disk.output }\noutput \"zones\" { value = [\"a\", \"b\"] }\noutput \"key\" {\n  value     = \"very-secret\"\n  sensitive = true\n}\n";

fn terraform(command: &str, size: &str) -> Value {
    json!({ "terraform": { "stack": x("\"net\""), "command": command, "variables": { "size": x(size) } } })
}

#[test]
fn stacks_are_planned_applied_and_read() {
    // What is not optimised takes more of the stack than threads have.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.enable_all().thread_stack_size(16 << 20).build().unwrap();
    runtime.block_on(runtime.spawn(planned_applied_and_read())).unwrap();
}

async fn planned_applied_and_read() {
    let world = World::new(&[("net/main.tf", MAIN)]).await;
    let outputs = || step("read", json!({ "stack_outputs": { "stack": x("\"net\"") } }), json!({}));
    let steps = vec![
        step("plan", terraform("plan", "param.size"), json!({})),
        step("apply", terraform("apply", "param.size"), json!({ "locks": [x("\"stack:net\"")] })),
        outputs(),
        step("again", terraform("apply", "param.size"), json!({ "locks": [x("\"stack:net\"")] })),
    ];
    let input = world.input(operation(steps, json!({})), json!({ "size": 3 }));
    let mut plan = world.chain(&input);
    for step in &mut plan.steps {
        step.locks = vec!["stack:net".into()];
    }
    let run = world.create(&plan).await;
    let record = world.drive(&run).await;
    let ran = world.ran(&run, record.state).await;
    assert_eq!(ran.state, RunState::Succeeded, "{:?}", ran.steps);
    let changes = json!([{ "address": "terraform_data.disk", "action": "create" }]);
    assert_eq!(ran.output("plan")["changes"], changes);
    assert_eq!((&ran.output("apply")["applied"], &ran.output("apply")["plan"]["changes"]), (&json!(true), &changes));
    assert_eq!(*ran.output("read"), json!({ "size": 3, "zones": ["a", "b"], "key": "(sensitive)" }));
    assert_eq!(ran.output("again")["applied"], false);
    let check = async |action: Value, code: &str, want: &str| {
        let ran = world.run(vec![step("s", action, json!({}))], json!({}), json!({})).await;
        let (found, reason) = ran.failure("s");
        assert!(found == code && reason.contains(want), "{found} {reason} instead of {want}");
    };
    check(terraform("apply", "4"), "WL544", "has to hold its lock").await;
    check(json!({ "stack_outputs": { "stack": x("\"nets\"") } }), "WL903", "there is no instance `nets`").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_protected_is_not_applied_by_an_operation() {
    let definitions =
        "project \"p\" {\n  environment \"production\" {\n    match = [\"net\"]\n    approvals { count = 1 }\n  }\n}\n";
    let world = World::new(&[("net/main.tf", MAIN), ("windlass.hcl", definitions)]).await;
    let ran = world.run(vec![step("s", terraform("apply", "4"), json!({}))], json!({}), json!({})).await;
    let (code, reason) = ran.failure("s");
    assert!(code == "WL544" && reason.contains("production"), "{code} {reason}");
    assert!(!world.path().join("net/terraform.tfstate").exists());
}
