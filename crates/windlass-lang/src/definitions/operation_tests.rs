use super::*;
use proptest::prelude::*;

fn load(text: &str) -> (Definitions, Vec<Diagnostic>) {
    load_files(&[("windlass.hcl".into(), text.to_owned())])
}

/// What is wrong with a file that also has a team, a notifier and an environment: line, code and summary, and the way out.
fn told(text: &str) -> Vec<String> {
    let others = "team \"sre\" { members = [] }\nproject \"p\" {\n  environment \"production\" { match = [\"**\"] }\n}\n\
                  notifier \"ops\" {\n  secret \"hook\" { env = \"HOOK\" }\n  webhook { url = secret.hook }\n}\n";
    let (_, diagnostics) = load(&format!("{text}\n{others}"));
    let told = diagnostics.iter().map(|d| {
        format!("{}:{} {} | {}", d.labels[0].span.line, d.code, d.summary, d.help.clone().unwrap_or_default())
    });
    told.collect()
}

/// What is wrong with an operation of this body, which begins in line 2. Nothing is left of an operation with a mistake.
fn check(body: &str, want: &[&str]) {
    let text = format!("operation \"o\" {{\n{body}\n}}\n");
    let told = told(&text);
    assert_eq!(told, want, "{body}");
    let (definitions, _) = load(&text);
    assert!(want.is_empty() || definitions.operations.iter().all(|operation| operation.name != "o"), "{body}");
}

/// One that nothing is wrong with.
const STEP: &str = "step \"s\" { run = [\"x\"] }";

#[test]
fn expressions_name_what_there_is() {
    check(
        "param \"cluster\" {}\nstep \"s\" { run = [\"x\", param.clustr] }",
        &["3:WL120 `param` has no `clustr` | did you mean `param.cluster`?"],
    );
    check("step \"s\" { run = [\"x\", parm.y] }", &["2:WL120 `parm` is not known | did you mean `param`?"]);
    check(
        "step \"s\" { run = [each.value] }",
        &["2:WL120 `each` cannot be used here | it is for steps within an `each` block"],
    );
    check(
        "secret \"password\" { env = \"PG\" }\nstep \"s\" { run = [secret.passwrd] }",
        &["3:WL120 `secret` has no `passwrd` | did you mean `secret.password`?"],
    );
    check(
        "step \"s\" {\n  run = [\"x\"]\n  locks = [run.id]\n}",
        &["4:WL120 `run` cannot be used here | here are local, param"],
    );
    check("step \"s\" { run = [uper(\"x\")] }", &["2:WL120 there is no function `uper` here | did you mean `upper`?"]);
    check("step \"s\" { run = [run.atempt] }", &["2:WL120 `run` has no `atempt` | did you mean `run.attempt`?"]);
    check("step \"s\" { run = [local.x] }", &["2:WL120 `local` has no `x` | there is nothing in `local` here"]);
    check("step \"s\" {\n  run = [for x in [1] : tostring(x)]\n  undo { run = [failure.step] }\n}", &[]);
    check(
        "step \"s\" { run = [failure.step] }",
        &["2:WL120 `failure` cannot be used here | it is for `undo`, `on_failure` and `on_cancel`"],
    );
    check("param \"p\" {}\nstep \"s\" { run = [try(param.q, \"d\")] }", &[]);
}

#[test]
fn steps_name_outputs_of_steps_before_them() {
    let made = "step \"a\" {\n  run = [\"x\"]\n  outputs = \"text\"\n}\n";
    check(&format!("{made}step \"b\" {{ run = [step.a.outputs.text] }}"), &[]);
    check(
        &format!("{made}step \"b\" {{ run = [step.a.outputs.txt] }}"),
        &["6:WL120 `step.a.outputs` has no `txt` | did you mean `step.a.outputs.text`?"],
    );
    check(
        "step \"a\" { run = [step.b.outputs.x] }\nstep \"b\" {\n  run = [\"x\"]\n  outputs = \"json\"\n}",
        &["2:WL122 step \"b\" comes later | steps have outputs when they have ended: move this one behind it"],
    );
    check(
        "step \"a\" { run = [step.a.state] }",
        &["2:WL122 step \"a\" comes later | steps have outputs when they have ended: move this one behind it"],
    );
    check(
        "step \"a\" { run = [\"x\"] }\nstep \"b\" { run = [step.a.state, step.a.outputs.x] }",
        &["3:WL122 \"a\" has no outputs | say how its output is read: `outputs = \"json\"`, \"key_value\" or \"text\""],
    );
    check(
        &format!("{made}step \"b\" {{ run = [step.aa.state] }}"),
        &["6:WL120 there is no step \"aa\" | did you mean `step.a`?"],
    );
    let each =
        format!("each \"m\" {{\n  in = [1]\n  {made}  step \"b\" {{ run = [step.a.outputs.text, each.key] }}\n}}\n");
    check(&format!("{each}step \"c\" {{ run = [jsonencode(step.m.outputs)] }}"), &[]);
    check(
        &format!("{each}step \"c\" {{ run = [step.a.outputs.text] }}"),
        &[
            "10:WL122 step \"a\" is within each \"m\" | outside of it, `step.m.outputs` has the outputs of all members by key",
        ],
    );
    check(
        &format!("{STEP}\nstep \"t\" {{\n  run   = [\"x\"]\n  after = [\"u\"]\n}}"),
        &["3:WL122 step \"t\" cannot be after \"u\" | it names steps of the same level that are written before it"],
    );
    check(
        "step \"ask\" { ask { question = \"go?\" } }\nstep \"b\" { shell = \"echo ${step.ask.outputs.answer}\" }",
        &[],
    );
}

#[test]
fn expressions_have_the_type_that_is_needed() {
    let with = |param: &str, body: &str| format!("param \"p\" {{ {param} }}\n{body}");
    let when = |when: &str| format!("step \"s\" {{\n  run  = [\"x\"]\n  when = {when}\n}}");
    check(&with("type = bool", &when("param.p")), &[]);
    check(&with("type = number", &when("param.p > 3 && param.p != 4")), &[]);
    check(
        &with("type = string", &when("param.p")),
        &["5:WL123 `param.p` is a text | it has to be a bool, e.g. param.x == \"y\""],
    );
    check(&with("type = string", &when("param.p > 3")), &["5:WL123 `param.p` is a text | it has to be a number here"]);
    check(
        &with("type = number", &when("param.p == \"3\"")),
        &[
            "5:WL123 a number is never equal to a text | compare values of one type: `tostring`, `tonumber` and quotes change it",
        ],
    );
    check(
        &with("type = host_set", "step \"s\" { run = [\"x\", param.p] }"),
        &["3:WL123 `[\"x\", param.p]` is a list | it has to be a list of texts, e.g. [\"x\", param.y]"],
    );
    check(&with("type = host_set", "step \"s\" { run = concat([\"x\"], param.p) }"), &[]);
    check(
        &with("type = host_set", "step \"s\" { shell = \"echo ${param.p}\" }"),
        &["3:WL123 `param.p` is a list | it has to be a text here"],
    );
    check(
        "step \"s\" { run = \"ls -l\" }",
        &["2:WL123 `\"ls -l\"` is a text | it has to be a list of texts, e.g. [\"x\", param.y]"],
    );
    check(
        &with("type = host_set", "each \"m\" {\n  in = param.p\n  step \"s\" { run = [each.value.name] }\n}"),
        &["5:WL123 `each.value` is a text | it has to be an object here"],
    );
    check(
        "each \"m\" {\n  in = \"x\"\n  step \"s\" { run = [each.key] }\n}",
        &["3:WL123 `\"x\"` is a text | it has to be a list or an object"],
    );
    check(
        "step \"s\" { wait { for = \"5 minutes\" } }",
        &["2:WL123 `\"5 minutes\"` is no time | write a number with `s`, `m`, `h` or `d` behind it, such as \"5m\""],
    );
}

#[test]
fn parameters_do_not_contradict_themselves() {
    let check = |param: &str, want: &[&str]| check(&format!("param \"p\" {{\n{param}\n}}\n{STEP}"), want);
    check("choices = [\"a\", \"b\"]\ndefault = \"a\"", &[]);
    check(
        "choices = [\"a\", \"b\"]\ndefault = \"c\"",
        &["4:WL124 the default of param \"p\" is wrong: \"c\" is not among the choices: a, b | it is a choice"],
    );
    check(
        "type = number\ndefault = \"many\"",
        &[
            "4:WL124 the default of param \"p\" is wrong: \"many\" is no number: give one such as 3 or 0.5 | it is a number",
        ],
    );
    check(
        "pattern = \"[a\"",
        &[
            "3:WL124 `[a` is no regular expression: unclosed character class | it is written as for the crate `regex`, without look-around",
        ],
    );
    check("type = number\nmin = 3\nmax = 2", &["4:WL124 `min` is more than `max` | no value fits: change one of them"]);
    check(
        "type = duration\nmin = 3",
        &["4:WL110 `min` of a duration has the wrong type | write a time such as \"5m\""],
    );
    check(
        "type = secret\ndefault = \"x\"",
        &[
            "4:WL124 a secret has no default | remove it; a value that is always the same is a `secret` block of the operation",
        ],
    );
    check("default = param.p", &["3:WL124 param \"p\" depends on itself | put what others depend on before them"]);
    check(
        "default = param.q\n}\nparam \"q\" {",
        &["3:WL124 param \"p\" depends on `param.q`, which is asked for later | put what others depend on before them"],
    );
    check("type = strng", &["3:WL106 `type` cannot be `strng` | did you mean `string`?"]);
    check("type = choice", &["2:WL109 param \"p\" needs choices | add `choices = [ … ]`, or a `choices_from` block"]);
    check(
        "choices = [1, [2]]",
        &["3:WL123 `[1, [2]]` is a list | it has to be a list of texts, or an object of texts by what is shown"],
    );
    check(
        "choices_from {\nfile = \"a\"\ncommand = [\"b\"]\n}",
        &["3:WL107 choices come from one thing, these from 2 | give one of command, file, http or stack"],
    );
}

#[test]
fn steps_do_one_thing_and_say_how_it_is_repeated() {
    check(
        "step \"s\" {}",
        &[
            "2:WL125 step \"s\" does nothing | add `run = [ … ]`, `shell`, `stack_outputs` or a block: script, container, job, http, sql, terraform, approval, ask, wait, operation, notify",
        ],
    );
    check(
        "step \"s\" {\n  run   = [\"x\"]\n  shell = \"y\"\n}",
        &["2:WL125 step \"s\" does 2 things: run, shell | make a step of each"],
    );
    check(
        "step \"s\" {\n  run    = [\"x\"]\n  repeat = \"checkable\"\n}",
        &[
            "4:WL126 a checkable step needs a `probe` | add `probe = [ … ]`: a program that exits with 0 when the step had happened, with 1 when not",
        ],
    );
    check(
        "step \"s\" {\n  run   = [\"x\"]\n  probe = [\"y\"]\n}",
        &["4:WL126 `probe` is for checkable steps | write `repeat = \"checkable\"`, or remove it"],
    );
    check(
        "step \"s\" {\n  run = [\"x\"]\n  undo {\n    run = [\"y\"]\n    undo { run = [\"z\"] }\n  }\n}",
        &["6:WL126 an undo is not undone | remove it"],
    );
    check(&format!("{STEP}\n{STEP}"), &["3:WL104 step \"s\" is defined twice | merge or rename one of them"]);
    check(
        &format!("{STEP}\nparallel \"s\" {{\n  step \"t\" {{ run = [\"x\"] }}\n}}"),
        &["3:WL104 parallel \"s\" is called like step \"s\" in windlass.hcl:2 | rename one of them"],
    );
    check("", &["1:WL109 operation \"o\" does nothing | add `step \"NAME\" { run = [ … ] }`"]);
    check(
        "step \"s\" {\n  run     = [\"x\"]\n  outputs = \"yaml\"\n}",
        &["4:WL106 `outputs` cannot be `yaml` | it is one of json, key_value, text"],
    );
    check(
        "step \"s\" { http { url = \"u\"  status = \"1000\" } }",
        &[
            "2:WL110 `status` has the wrong type | expected a status or a range of them, e.g. \"200\" or \"200-299\": the status to answer with, or a range of them",
        ],
    );
}

#[test]
fn arguments_fit_what_is_run() {
    let called = "\n}\noperation \"called\" {\n  param \"n\" { type = number }\n  param \"o\" { default = \"x\" }\n  param \"pw\" {\n    type = secret\n    required = false\n  }\n  step \"s\" { run = [\"x\"] }";
    let call = |arguments: &str| {
        format!(
            "secret \"pg\" {{ env = \"PG\" }}\nstep \"s\" {{ operation {{ name = \"called\"  arguments = {arguments} }} }}{called}"
        )
    };
    check(&call("{ n = 3, pw = secret.pg }"), &[]);
    check(
        &call("{ n = \"three\" }"),
        &["3:WL127 `n` of step \"s\" is wrong: \"three\" is no number: give one such as 3 or 0.5 | it is a number"],
    );
    check(
        &call("{ n = 1, oo = 2 }"),
        &["3:WL127 step \"s\" gives `oo`, which is no parameter of \"called\" | did you mean `o`?"],
    );
    check(
        &call("{}"),
        &[
            "3:WL127 step \"s\" does not give `n`, which \"called\" needs | add `arguments = { n = … }`, or give the parameter a default",
        ],
    );
    check(
        &call("{ n = 1, o = secret.pg }"),
        &[
            "3:WL130 `secret.pg` would be seen | what is written here is shown and kept: use secrets in what a step does, its `env` or its `mask`",
        ],
    );
    check(
        "step \"s\" { operation { name = \"caled\" } }\n}\noperation \"called\" {\n  step \"s\" { run = [\"x\"] }",
        &["2:WL121 there is no operation \"caled\" | did you mean \"called\"?"],
    );
    check(
        "step \"s\" { operation { name = \"b\" } }\n}\noperation \"b\" {\n  step \"t\" { operation { name = \"o\" } }",
        &[
            "2:WL128 step \"s\" runs \"b\", which runs \"o\" again | it would never end: make an operation of what both need",
            "5:WL128 step \"t\" runs \"o\", which runs \"b\" again | it would never end: make an operation of what both need",
        ],
    );
    check(
        "step \"s\" { operation { name = \"o\" } }",
        &[
            "2:WL128 step \"s\" runs \"o\", which runs \"o\" again | it would never end: make an operation of what both need",
        ],
    );
    let by_time = |arguments: &str| {
        format!(
            "param \"n\" {{ type = number }}\nschedule {{\n  cron = \"0 3 * * *\"\n  arguments = {arguments}\n}}\n{STEP}"
        )
    };
    check(&by_time("{ n = 3 }"), &[]);
    check(
        &by_time("{}"),
        &[
            "3:WL127 schedule \"default\" does not give `n`, which \"o\" needs | add `arguments = { n = … }`, or give the parameter a default",
        ],
    );
    check(
        "param \"p\" { type = secret }\nschedule { cron = \"0 3 * * *\" }\nstep \"s\" { run = [\"x\", param.p] }",
        &[
            "3:WL127 schedule \"default\" does not give `p`, which \"o\" needs | what starts by itself keeps its arguments: use a `secret` block of the operation instead",
        ],
    );
    check(
        &by_time("{ n = trigger.payload.n }"),
        &["5:WL120 `trigger` cannot be used here | it is for the condition and the arguments of a `trigger`"],
    );
    let by_event = "param \"n\" {}\ntrigger \"t\" {\n  event { kinds = [\"run.failed\"] }\n  when = trigger.payload.x\n  arguments = { n = trigger.event }\n}\n";
    check(&format!("{by_event}{STEP}"), &[]);
}

#[test]
fn operations_that_start_each_other_are_told() {
    let check = |first: &str, second: &str, want: &[&str]| {
        let by = |name: &str, trigger: &str| {
            format!("operation \"{name}\" {{\n{STEP}\ntrigger \"t\" {{\n{trigger}\n}}\n}}\n")
        };
        let text = by("a", first) + &by("b", second);
        assert_eq!(told(&text), want, "{first} {second}");
        // They are operations all the same.
        assert_eq!(load(&text).0.operations.len(), 2);
    };
    let every = "event { kinds = [\"run.failed\", \"run.succeeded\"] }";
    let help = "say with `when` which runs are meant, such as `trigger.event.subject == \"backup-ledger\"`";
    check(every, every, &[&format!("9:WL773 operations `a` and `b` start each other | {help}")]);
    check(every, &format!("{every}\nwhen = trigger.event.subject == \"x\""), &[]);
    check(every, "event { kinds = [\"run.failed\"] }", &[]);
    check(every, "event { kinds = [\"stack.drifted\"] }", &[]);
}

#[test]
fn times_and_keys_are_what_they_have_to_be() {
    let schedule = |body: &str| format!("schedule {{\n{body}\n}}\n{STEP}");
    check(
        &schedule("cron = \"0 25 * * *\""),
        &[
            "3:WL129 `25` is no hour: it may be 0-23, `*`, a list `1,2`, a range `1-5`, or steps `*/5` | write minute, hour, day, month and day of the week, such as \"0 3 * * 1\"",
        ],
    );
    check(
        &schedule("cron = \"0 3 * * *\"\ntimezone = \"Asia/Tokio\""),
        &["4:WL129 there is no time zone \"Asia/Tokio\" | did you mean \"Asia/Tokyo\"?"],
    );
    check(
        &schedule("cron = \"0 3 * * *\"\nmissed = \"last\""),
        &["4:WL106 `missed` cannot be `last` | did you mean `latest`?"],
    );
    check(
        &format!("alert_after = 2\n{STEP}"),
        &[
            "1:WL107 `alert_after` counts the intervals of schedules, and there are none | add a `schedule`, or remove it",
        ],
    );
    check(
        &format!("trigger \"t\" {{ webhook {{ key = \"abc\" }} }}\n{STEP}"),
        &[
            "2:WL130 a key that is written here is no secret | add `secret \"key\" { env = \"…\" }`, and write `secret.key`",
        ],
    );
    check(
        &format!("trigger \"t\" {{}}\n{STEP}"),
        &[
            "2:WL107 a trigger listens to one thing, this one to 0 | give one of the blocks webhook, event, alertmanager, files, image",
        ],
    );
}

#[test]
fn secrets_are_not_seen() {
    let seen = "what is written here is shown and kept: use secrets in what a step does, its `env` or its `mask`";
    let pg = "secret \"pg\" { env = \"PG\" }\nparam \"pw\" { type = secret }\n";
    check(&format!("{pg}confirm = param.pw\n{STEP}"), &[&format!("4:WL130 `param.pw` would be seen | {seen}")]);
    check(
        &format!("{pg}step \"s\" {{\n  run  = [\"x\"]\n  when = secret.pg == \"x\"\n}}"),
        &[&format!("6:WL130 `secret.pg` would be seen | {seen}")],
    );
    check(
        &format!("{pg}step \"s\" {{ notify {{ to = [notifier.ops]  text = \"it is ${{param.pw}}\" }} }}"),
        &[&format!("4:WL130 `param.pw` would be seen | {seen}")],
    );
    check(&format!("{pg}step \"s\" {{\n  run = [\"x\", secret.pg]\n  env = {{ PW = param.pw }}\n}}"), &[]);
}

#[test]
fn what_is_named_is_defined() {
    // A name that nobody has gives nobody anything: the operation is there.
    let check =
        |body: &str, want: &[&str]| assert_eq!(told(&format!("operation \"o\" {{\n{body}\n}}\n")), want, "{body}");
    check(&format!("allow = [team.srr]\n{STEP}"), &["2:WL108 there is no team \"srr\" | did you mean \"sre\"?"]);
    check(
        &format!("grant {{ to = [team.x] }}\n{STEP}"),
        &["2:WL108 there is no team \"x\" | define it: team \"x\" { members = [ … ] }"],
    );
    check(
        &format!("notify {{ to = [notifier.opps]  on = [\"failure\"] }}\n{STEP}"),
        &["2:WL121 there is no notifier \"opps\" | did you mean \"ops\"?"],
    );
    check(
        &format!("environment = \"prodution\"\n{STEP}"),
        &["2:WL113 there is no environment \"prodution\" | did you mean \"production\"?"],
    );
    check(
        &format!("from = template.x\n{STEP}"),
        &["2:WL121 there is no template \"x\" | define it: template \"x\" { … }"],
    );
    let freeze = "freeze \"f\" {\n  environments = [\"x\"]\n  from = \"2026-12-20T00:00:00+09:00\"\n  to = \"2026-12-19\"\n  reason = \"r\"\n}\n";
    assert_eq!(
        told(freeze),
        [
            "2:WL113 there is no environment \"x\" | define it in `project`: environment \"x\" { match = [ … ] }",
            "4:WL106 `2026-12-19` is no moment | write it with its offset: \"2026-12-20T00:00:00+09:00\"",
        ]
    );
    let help = "use letters, digits, `-`, `_` and `.`, as in `windlass run backup-ledger`";
    check(
        &format!("trigger \"a b\" {{\n  event {{ kinds = [\"x\"] }}\n}}\n{STEP}"),
        &[&format!("2:WL106 trigger \"a b\" is no label | {help}")],
    );
    assert_eq!(
        told("host_set \"a/b\" { members = [\"x\"] }\n"),
        [format!("1:WL106 host_set \"a/b\" is no label | {help}")]
    );
    let twice = "operation \"o\" { step \"s\" { run = [\"x\"] } }\nbatch \"o\" { command = [\"x\"] }\n";
    assert_eq!(
        told(twice),
        ["2:WL104 batch \"o\" is called like operation \"o\" in windlass.hcl:1 | rename one of them"]
    );
}

#[test]
fn all_that_an_operation_may_say_is_read() {
    use windlass_model::operation::trigger::TriggerSource;
    use windlass_model::operation::{Action, Batch, Node};
    let page = include_str!("../../../../docs/operations.md");
    let example = page.split("```hcl\n").nth(2).and_then(|rest| rest.split("```").next()).unwrap();
    let (definitions, diagnostics) = load(&format!(
        "{example}\nteam \"sre\" {{ members = [] }}\nteam \"ledger\" {{ members = [] }}\nteam \"support\" {{ members = [] }}\n\
         notifier \"ops\" {{\n  secret \"hook\" {{ env = \"HOOK\" }}\n  webhook {{ url = secret.hook }}\n}}\n"
    ));
    assert_eq!(diagnostics, vec![]);
    let [operation] = definitions.operations.as_slice() else { panic!("{:?}", definitions.operations) };
    let nodes: Vec<&str> = operation.nodes.iter().map(Node::name).collect();
    assert_eq!(nodes, ["dump", "member", "checks"]);
    assert_eq!(
        operation.parameters.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(),
        ["environment", "cluster", "version", "password"]
    );
    let Node::Each(each) = &operation.nodes[1] else { panic!() };
    assert_eq!(
        (each.batch, each.members.text.as_str(), each.gates.len()),
        (Batch::Count(1), "step.dump.outputs.members", 1)
    );
    let Node::Step(dump) = &operation.nodes[0] else { panic!() };
    assert!(
        matches!(&dump.action, Action::Run { argv } if argv.text == "[\"./dump\", param.cluster]"),
        "{:?}",
        dump.action
    );
    assert_eq!((dump.retry.attempts, dump.retry.backoff, dump.retry.max_backoff), (3, 10_000_000, 120_000_000));
    assert!(dump.undo.is_some() && dump.probe.is_some());
    assert!(matches!(&operation.triggers[0].source, TriggerSource::Webhook { key } if key.text == "secret.hook"));
    let checklist = operation.checklist.as_ref().unwrap();
    assert_eq!((checklist.before.len(), checklist.during.len(), checklist.after.len()), (2, 1, 1));
    let window = checklist.window.as_ref().unwrap();
    assert_eq!((window.days.as_slice(), window.from, window.to), ([1, 2].as_slice(), 1320, 120));
    let (definitions, diagnostics) = load(
        "batch \"b\" {\n  command = [\"./r\"]\n  arguments = [run.due]\n  count = 2\n  retries = 2\n  schedule { cron = \"0 2 * * *\" }\n}\n",
    );
    assert_eq!(diagnostics, vec![]);
    let [batch] = definitions.operations.as_slice() else { panic!() };
    let Node::Each(each) = &batch.nodes[0] else { panic!() };
    let Node::Step(step) = &each.nodes[0] else { panic!() };
    assert_eq!((each.members.text.as_str(), step.retry.attempts), ("range(2)", 3));
    assert!(matches!(&step.action, Action::Run { argv } if argv.text == "concat([\"./r\"], [run.due])"));
}

#[test]
fn an_operation_goes_before_its_template() {
    let (definitions, diagnostics) = load_files(&[
        (
            "windlass.hcl".into(),
            r#"
locals {
  tool = "pg_dump"
}
template "backup" {
  timeout = "1h"
  allow   = ["a"]
  param "cluster" {}
  step "dump" { run = [local.tool, param.cluster] }
  step "check" { run = ["check"] }
  schedule {
    cron      = "0 1 * * *"
    arguments = { cluster = "a" }
  }
}
team "a" { members = [] }
"#
            .into(),
        ),
        (
            "ops/x.windlass.hcl".into(),
            r#"
operation "x" {
  from    = template.backup
  timeout = "2h"
  allow   = []
  each "check" {
    in = [1]
    step "one" { run = ["c"] }
  }
  step "more" { run = ["m"] }
}
"#
            .into(),
        ),
    ]);
    assert_eq!(diagnostics, vec![]);
    let [operation] = definitions.operations.as_slice() else { panic!("{:?}", definitions.operations) };
    assert_eq!((operation.timeout, operation.allow.len()), (Some(7_200_000_000), 0));
    let nodes: Vec<&str> = operation.nodes.iter().map(|node| node.name()).collect();
    assert_eq!((nodes.as_slice(), operation.schedules.len()), (["dump", "check", "more"].as_slice(), 1));
    assert_eq!(operation.locals["tool"], "pg_dump");
    let windlass_model::operation::Node::Each(each) = &operation.nodes[1] else { panic!() };
    assert_eq!(&*each.span.file, "ops/x.windlass.hcl");
}

proptest! {
    #[test]
    fn no_operation_panics(body in "([a-z0-9 .\"\\[\\](){}?:,=<>!$\n-]|param \"p\" \\{|step \"s\" \\{|each \"e\" \\{|run = |in = |when = |undo \\{|param\\.p|step\\.s\\.outputs|\\$\\{|\\}\n){0,40}") {
        load(&format!("operation \"o\" {{\n{body}\n}}\n"));
        load(&body);
    }
}
