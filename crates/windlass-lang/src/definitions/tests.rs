use super::*;
use windlass_model::definition::{DecisionKind, Enforcement, PolicyEngine, WaiverRule};

fn load(text: &str) -> (Definitions, Vec<Diagnostic>) {
    load_files(&[("windlass.hcl".into(), text.to_owned())])
}

#[test]
fn a_whole_file_is_read() {
    let (definitions, diagnostics) = load(
        r#"
locals {
  regions = ["tokyo", "osaka"]
}
project "scalar" {
  environment "production" {
    match = ["aws/**"]
    approvals {
      count              = 2
      from               = [team.sre]
      author_may_approve = false
    }
  }
}
team "sre" { members = ["github:your-org/sre"] }
stack "aws/cassandra" {
  owner   = team.sre
  regions = local.regions
  after   = [stack.aws/network, "aws/ca", stack["x/y"]]
}
policy "no-public" {
  paths       = ["policy/"]
  enforcement = "warn"
}
"#,
    );
    assert_eq!(diagnostics, vec![]);
    assert_eq!(definitions.project.as_deref(), Some("scalar"));
    let rule = definitions.environments[0].approvals.as_ref().unwrap();
    assert_eq!((rule.count, rule.from.as_slice(), rule.unverified), (2, ["sre".to_owned()].as_slice(), false));
    let stack = &definitions.stacks[0];
    assert_eq!(stack.regions, ["tokyo", "osaka"]);
    assert_eq!(stack.after.iter().map(|s| s.as_str()).collect::<Vec<_>>(), ["aws/network", "aws/ca", "x/y"]);
    assert_eq!(definitions.policies[0].enforcement, Enforcement::Warn);
}

#[test]
fn all_mistakes_are_told_at_once_each_with_its_place_and_a_way_out() {
    let (_, diagnostics) = load(
        r#"
projct "x" {}
team "sre" {
  members = "alice"
}
team "sre" { members = [] }
stack "a" {
  ownr    = team.sre
  owner   = team.srre
  regions = ["r"]
  enabled = "yes"
  instance "i" { workspce = "w" }
}
policy "p" {
  match = ["a{"]
}
"#,
    );
    let found: Vec<String> = diagnostics
        .iter()
        .map(|d| format!("{}:{} {} | {}", d.labels[0].span.line, d.code, d.summary, d.help.clone().unwrap_or_default()))
        .collect();
    insta::assert_snapshot!(found.join("\n"), @r#"
    2:WL111 unknown block `projct` in a Windlass file | did you mean `project`?
    4:WL110 `members` has the wrong type | expected a list of strings, e.g. ["x"]: who belongs to it, such as "user:NAME" or "github:ORG/TEAM"
    6:WL104 team "sre" is defined twice | merge or rename one of them
    8:WL102 unknown attribute `ownr` in stack | did you mean `owner`?
    9:WL108 there is no team "srre" | did you mean "sre"?
    10:WL107 `regions` and `instance` blocks exclude each other | keep the `instance` blocks when the regions differ in more than their name
    11:WL110 `enabled` has the wrong type | expected true or false: `false` takes the directory out of discovery
    12:WL102 unknown attribute `workspce` in instance | did you mean `workspace`?
    14:WL109 policy needs `paths` | add `paths = …`, a list of strings, e.g. ["x"]: Rego files or directories, from the root
    15:WL106 pattern `a{` is not valid: error parsing glob 'a{': unclosed alternate group; missing '}' (maybe escape '{' with '[{]'?) | `*` stands for anything within a segment, `**` for any number of segments
    "#);
}

#[test]
fn syntax_errors_have_a_line_and_other_files_count() {
    let (definitions, diagnostics) = load_files(&[
        ("windlass.hcl".into(), "team \"a\" {\n  members = [\n".into()),
        ("b.windlass.hcl".into(), "team \"b\" { members = [] }\n".into()),
    ]);
    assert_eq!(definitions.teams.len(), 1);
    assert_eq!(diagnostics.len(), 1);
    assert_eq!(diagnostics[0].code, "WL101");
}

#[test]
fn locals_that_refer_to_themselves_are_told() {
    let (_, diagnostics) = load("locals {\n  a = local.b\n  b = local.a\n}\n");
    assert!(diagnostics.iter().all(|d| d.code == "WL105") && !diagnostics.is_empty());
}

#[test]
fn a_second_rule_and_an_unknown_team_cannot_weaken_an_approval() {
    let (definitions, diagnostics) = load(
        "project \"p\" {\n  environment \"e\" {\n    match = [\"**\"]\n    approvals { count = 2 }\n    approvals { count = 1 }\n  }\n}\nstack \"a\" { owner = team[\"ghost\"] }\nlocals {\n  x = 1\n}\nlocals {\n  x = 2\n}\n",
    );
    assert_eq!(definitions.environments[0].approvals.as_ref().unwrap().count, 2);
    let codes: Vec<&str> = diagnostics.iter().map(|d| d.code.as_str()).collect();
    assert_eq!(codes, ["WL104", "WL108", "WL104"], "{diagnostics:?}");
}

#[test]
fn policies_say_what_they_decide_and_who_may_waive() {
    let (definitions, diagnostics) = load(
        r#"
team "sre" { members = ["user:ops"] }
project "p" {
  waivers { from = [team.sre] }
}
policy "big" {
  decides = "review"
  paths   = ["policy/big.rego"]
  engine  = "opa"
  waivers {
    from             = [team.sre]
    author_may_waive = true
    unverified       = true
    longest          = "7d"
  }
}
policy "base" {
  source   = "git::https://example.com/policies.git//base?ref=v1"
  checksum = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
}
"#,
    );
    assert_eq!(diagnostics, vec![]);
    let day = 86_400_000_000;
    let rule = |author, unverified, longest| WaiverRule {
        from: vec!["sre".into()],
        author_may_waive: author,
        unverified,
        longest,
    };
    assert_eq!(definitions.waivers, Some(rule(false, false, 30 * day)));
    let [big, base] = definitions.policies.as_slice() else { panic!("{:?}", definitions.policies) };
    assert_eq!((big.decides, big.engine), (DecisionKind::Review, PolicyEngine::Opa));
    assert_eq!(big.waivers, Some(rule(true, true, 7 * day)));
    assert_eq!((base.decides, base.engine, &base.waivers), (DecisionKind::Plan, PolicyEngine::Embedded, &None));
    let check = |body: &str, code: &str, want: &str| {
        let (_, diagnostics) = load(&format!("policy \"p\" {{\n  paths = [\"p\"]\n{body}\n}}\n"));
        let found: Vec<_> = diagnostics.iter().map(|d| (d.code.as_str(), d.help.clone().unwrap_or_default())).collect();
        assert!(found.len() == 1 && found[0].0 == code && found[0].1.contains(want), "{body}: {diagnostics:?}");
    };
    check("decides = \"reviw\"", "WL106", "did you mean \"review\"");
    check("decides = \"review\"\nmatch = [\"aws/**\"]", "WL107", "select in the rules");
    check("decides = \"access\"\nenforcement = \"warn\"", "WL107", "anybody let in");
    check("engine = \"cue\"", "WL106", "\"embedded\" is the default");
    check("source = \"git::https://h/r\"\nchecksum = \"sha256:12\"", "WL106", "windlass policy pull");
    check(&format!("checksum = \"sha256:{}\"", "0".repeat(64)), "WL107", "name a `source`");
    check("waivers { from = [team.ghost] }", "WL108", "define it");
    check("waivers { from = [] }", "WL106", "name a team");
    check("waivers {}", "WL109", "teams whose members");
    let two = "waivers { from = [team.a] }\nwaivers { from = [team.a] }\n}\nteam \"a\" {\nmembers = []";
    check(two, "WL104", "merge them");
}

#[test]
fn grants_say_who_may_do_what_where() {
    use windlass_model::access::{Permission, Role};
    let teams = "team \"sre\" { members = [\"user:ops\"] }\nproject \"p\" {\n  default_role = \"viewer\"\n  environment \"production\" { match = [\"**\"] }\n}\n";
    let (definitions, diagnostics) = load(&format!(
        "{teams}grant \"all\" {{\n  to = [team.sre]\n  role = \"operator\"\n}}\ngrant \"some\" {{\n  to = [team.sre]\n  role = \"admin\"\n  permissions = [\"review.apply\", \"state.read\"]\n  stacks = [\"aws/**\", stack.gcp/net[tokyo]]\n  environments = [\"production\"]\n}}\n"
    ));
    assert_eq!(diagnostics, vec![]);
    assert_eq!(definitions.default_role, Some(Role::Viewer));
    let [all, some] = definitions.grants.as_slice() else { panic!("{:?}", definitions.grants) };
    assert_eq!(
        (all.name.as_str(), all.to.as_slice(), all.role),
        ("all", &["sre".to_owned()][..], Some(Role::Operator))
    );
    assert!(!all.is_narrowed() && some.is_narrowed());
    assert_eq!((some.role, some.span.line), (Some(Role::Admin), 10));
    assert_eq!(some.permissions, [Permission::ReviewApply, Permission::StateRead]);
    assert_eq!(
        (some.stacks.as_slice(), some.environments.as_slice()),
        (&["aws/**".to_owned(), "gcp/net[tokyo]".to_owned()][..], &["production".to_owned()][..])
    );
    // What is wrong, where (the block begins in line 6), and the way out. Nothing of it gives anything.
    let check = |body: &str, want: &[&str]| {
        let (definitions, diagnostics) = load(&format!("{teams}grant \"g\" {{\n{body}\n}}\n"));
        let found: Vec<String> = diagnostics
            .iter()
            .map(|d| {
                format!("{}:{} {} | {}", d.labels[0].span.line, d.code, d.summary, d.help.clone().unwrap_or_default())
            })
            .collect();
        assert_eq!(found.len(), want.len(), "{body}: {found:?}");
        assert!(found.iter().zip(want).all(|(found, want)| found.starts_with(want)), "{body}: {found:?}");
        let known =
            |grant: &windlass_model::definition::Grant| grant.to == ["srre"] || grant.environments == ["prodution"];
        assert!(definitions.grants.iter().all(known), "{body}: {:?}", definitions.grants);
    };
    let to = "to = [team.sre]";
    check(
        &format!("{to}\nrole = \"operater\""),
        &["8:WL106 there is no role \"operater\" | did you mean \"operator\"?"],
    );
    check(
        &format!("{to}\nrole = \"x\""),
        &["8:WL106 there is no role \"x\" | it is one of viewer, developer, operator, admin"],
    );
    let near = "8:WL106 there is no permission \"review.aply\" | did you mean \"review.apply\"?";
    check(&format!("{to}\npermissions = [\"review.aply\"]"), &[near]);
    let list = "8:WL106 there is no permission \"zzz\" | `windlass access matrix`";
    check(&format!("{to}\npermissions = [\"zzz\"]"), &[list]);
    check(to, &["6:WL109 grant needs `role` or `permissions` | add `role"]);
    check(&format!("{to}\npermissions = []"), &["8:WL109 grant needs `role` or `permissions`"]);
    check("role = \"viewer\"", &["6:WL109 grant needs `to`"]);
    check("role = \"viewer\"\nto = []", &["8:WL106 nobody is granted anything"]);
    check("role = \"viewer\"\nto = [team.srre]", &["8:WL108 there is no team \"srre\" | did you mean \"sre\"?"]);
    let environment = "9:WL113 there is no environment \"prodution\" | did you mean \"production\"?";
    check(&format!("{to}\nrole = \"viewer\"\nenvironments = [\"prodution\"]"), &[environment]);
    check(&format!("{to}\nrole = \"viewer\"\nstacks = []"), &["9:WL106 `stacks` names none | name some, or remove it"]);
    check(&format!("{to}\nrole = \"viewer\"\nenvironments = []"), &["9:WL106 `environments` names none"]);
    check(&format!("{to}\nrole = \"viewer\"\nstacks = [\"a{{\"]"), &["9:WL106 pattern `a{` is not valid"]);
    let whole =
        "8:WL114 `audit.read` is of the project as a whole, and cannot be narrowed | give it by a grant without";
    check(&format!("{to}\npermissions = [\"audit.read\"]\nstacks = [\"aws/**\"]"), &[whole]);
    let server = "8:WL114 `server.manage` is of the server, and no project can give it | the settings of the server";
    check(&format!("{to}\npermissions = [\"server.manage\"]"), &[server]);
    check(
        &format!("{to}\nroles = \"viewer\"\nrole = \"viewer\""),
        &["8:WL102 unknown attribute `roles` in grant | did you mean `role`?"],
    );
    let members = "[\"oidc-group:sre\", \"ci:github\", \"oidc:idp.example:42\", \"user:\", \"anna\"]";
    let (_, diagnostics) = load(&format!("team \"a\" {{ members = {members} }}\n"));
    let told: Vec<&str> = diagnostics.iter().map(|d| d.summary.as_str()).collect();
    let want = ["member `user:` does not say what it is", "member `anna` does not say what it is"];
    assert_eq!(told, want);
    let (definitions, diagnostics) = load("project \"p\" { default_role = \"vewer\" }\n");
    assert_eq!(definitions.default_role, None);
    assert!(diagnostics[0].help.as_ref().is_some_and(|help| help.contains("\"viewer\"")), "{diagnostics:?}");
    let twice = format!(
        "{teams}grant \"g\" {{\n  {to}\n  role = \"viewer\"\n}}\ngrant \"g\" {{\n  {to}\n  role = \"admin\"\n}}\n"
    );
    let (definitions, diagnostics) = load(&twice);
    assert_eq!((diagnostics[0].code.as_str(), definitions.grants.len()), ("WL104", 1));
}

/// Value of a local, as JSON, or what is said about it.
fn check_expression(expression: &str, want: &str) {
    let text = format!(
        "locals {{\n  yes = true\n  rs  = [\"t\", \"o\"]\n  x   = {expression}\n}}\nstack \"s\" {{\n  variables = {{ x = local.x }}\n}}\n"
    );
    let (definitions, diagnostics) = load(&text);
    let found = match diagnostics.first() {
        Some(d) => format!("{} {}", d.code, d.help.clone().unwrap_or_default()),
        None => definitions.stacks[0].variables["x"].to_string(),
    };
    assert_eq!(found, want, "{expression}: {diagnostics:?}");
    assert!(diagnostics.iter().filter(|d| d.code == "WL112").count() <= 1, "{expression}: {diagnostics:?}");
}

#[test]
fn stacks_are_named_anywhere_in_an_expression() {
    let check = check_expression;
    check("stack.aws/network", r#""aws/network""#);
    check("stack.network", r#""network""#);
    check("stack.aws/a-b/c_d/e", r#""aws/a-b/c_d/e""#);
    check("stack.aws / network", r#""aws/network""#);
    check("stack.v1.2/x.y.z", r#""v1.2/x.y.z""#);
    check("stack.aws/2024", r#""aws/2024""#);
    check("stack.2024/x", r#""2024/x""#);
    check("stack.aws/net.0", r#""aws/net.0""#);
    check("stack.aws/null/true", r#""aws/null/true""#);
    check("local.yes ? stack.a/b : stack.c/d", r#""a/b""#);
    check("stack.a/b == \"a/b\"", "true");
    check("join(\",\", [stack.a/b, upper(stack.c/d)])", r#""a/b,C/D""#);
    check("\"in ${stack.a/b}!\"", r#""in a/b!""#);
    check("{ (stack.a/b) = stack.c/d }", r#"{"a/b":"c/d"}"#);
    check("[for r in local.rs : stack.a/b]", r#"["a/b","a/b"]"#);
    check("(stack.a/b)", r#""a/b""#);
    check("6 / 2", "3");
    check("[for stack in [8] : stack / 2]", "[4]");
}

#[test]
fn instances_are_in_brackets() {
    let check = check_expression;
    check("stack.aws/network[tokyo]", r#""aws/network[tokyo]""#);
    check("stack.aws/network[\"tokyo\"]", r#""aws/network[tokyo]""#);
    check("stack.network[ap-northeast-1]", r#""network[ap-northeast-1]""#);
    check("stack[\"aws/2024-net\"][tokyo]", r#""aws/2024-net[tokyo]""#);
    check("[for r in local.rs : stack.aws/network[r]]", r#"["aws/network[t]","aws/network[o]"]"#);
    check("stack.a/b[local.rs[1]]", r#""a/b[o]""#);
    check("stack.a/b[\"x-${local.rs[0]}\"]", r#""a/b[x-t]""#);
}

#[test]
fn a_path_that_is_no_name_is_written_as_text() {
    let check = check_expression;
    check("stack[\"aws/2024-net\"]", r#""aws/2024-net""#);
    check("stack[\"aws/${local.rs[0]}\"]", r#""aws/t""#);
    check("[for r in local.rs : team[r]]", r#"["t","o"]"#);
    check("stack.aws/2024-net", "WL112 write `stack[\"aws/2024-net\"]`");
    check("stack.aws/2024net", "WL112 write `stack[\"aws/2024net\"]`");
    check("[stack.aws/2024-net/x]", "WL112 write `stack[\"aws/2024-net/x\"]`");
    check("stack.a/b[x]/c", "WL112 write `stack[\"a/b[x]/c\"]`");
    check("stack.a/2-c[\"x\"]", "WL112 write `stack[\"a/2-c[x]\"]`");
    check("[stack.a/b stack.c]", "WL101 ");
    check("stack.a/b[*]", "WL112 write `stack[\"a/b[*]\"]`");
    check("stack", "WL105 ");
}

#[test]
fn runners_say_where_programs_run() {
    use windlass_model::place::{Container, Job, Place, Pull};
    let (definitions, diagnostics) = load(
        r#"
runner "production" {
  description = "with what production needs"
  container {
    image       = "registry.example.com/terraform:1.11"
    user        = "1000:1000"
    network     = "host"
    memory      = "2GiB"
    cpu         = "1.5"
    environment = { SSL_CERT_DIR = "/certs", N = 1 }
    mounts      = ["/etc/ssl/certs:/certs:ro", "/a:/b"]
    pull        = "always"
  }
}
runner "small" {
  container { image = "i" }
}
runner "cluster" {
  job {
    image           = "i"
    namespace       = "ops"
    service_account = "windlass"
    memory          = "512MiB"
    cpu             = 2
    volume_claim    = "data"
    node_selector   = { pool = "ops" }
  }
}
"#,
    );
    assert_eq!(diagnostics, vec![]);
    let texts = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    let places: Vec<(&str, &Place)> = definitions.runners.iter().map(|r| (r.name.as_str(), &r.place)).collect();
    let production = Place::Container(Container {
        image: "registry.example.com/terraform:1.11".into(),
        user: Some("1000:1000".into()),
        network: Some("host".into()),
        memory_mib: Some(2048),
        cpu_milli: Some(1500),
        environment: texts(&[("SSL_CERT_DIR", "/certs"), ("N", "1")]),
        mounts: vec!["/etc/ssl/certs:/certs:ro".into(), "/a:/b".into()],
        pull: Pull::Always,
    });
    let small = Place::Container(Container { image: "i".into(), ..Container::default() });
    let cluster = Place::Job(Job {
        image: "i".into(),
        namespace: Some("ops".into()),
        service_account: Some("windlass".into()),
        memory_mib: Some(512),
        cpu_milli: Some(2000),
        environment: Default::default(),
        volume_claim: Some("data".into()),
        node_selector: texts(&[("pool", "ops")]),
    });
    assert_eq!(places, [("production", &production), ("small", &small), ("cluster", &cluster)]);
}

#[test]
fn mistakes_in_runners_are_told_and_none_is_half_read() {
    let check = |body: &str, want: &[&str]| {
        let (definitions, diagnostics) = load(&format!("runner \"r\" {{\n{body}\n}}\n"));
        let told: Vec<String> = diagnostics.iter().map(|d| format!("{} {}", d.code, d.summary)).collect();
        assert_eq!(told, want, "{body}");
        assert!(diagnostics.iter().all(|d| !d.labels.is_empty()), "{body}");
        assert!(want.is_empty() || windlass_model::diagnostic::has_errors(&diagnostics), "{:?}", definitions.runners);
    };
    check("container { image = \"i\" }", &[]);
    check("", &["WL109 runner needs a `container` or a `job` block"]);
    let both = "container { image = \"i\" }\njob { image = \"i\" }";
    check(both, &["WL104 runner \"r\" says twice where its programs run"]);
    check("container {}", &["WL109 container needs `image`"]);
    check("job {}", &["WL109 job needs `image`"]);
    check("container { image = \"\" }", &["WL106 `image` names none"]);
    let with = |line: &str| format!("container {{\nimage = \"i\"\n{line}\n}}");
    check(&with("memory = \"512MB\""), &["WL110 `memory` has the wrong type"]);
    check(&with("memory = \"0MiB\""), &["WL110 `memory` has the wrong type"]);
    check(&with("cpu = \"many\""), &["WL110 `cpu` has the wrong type"]);
    check(&with("cpu = 0"), &["WL110 `cpu` has the wrong type"]);
    check(&with("pull = \"often\""), &["WL106 `pull` says nothing that is known"]);
    check(&with("mounts = [\"here:/x\"]"), &["WL106 `here:/x` is no mount"]);
    check(&with("namespace = \"x\""), &["WL102 unknown attribute `namespace` in container"]);
    let of_tool = |runner: &str| {
        let text = format!(
            "project \"p\" {{\n  lint {{\n    tool \"trivy\" {{\n      runner = \"{runner}\"\n    }}\n  }}\n}}\n\
             runner \"scan\" {{\n  container {{ image = \"i\" }}\n}}\n"
        );
        let (definitions, diagnostics) = load(&text);
        let told: Vec<String> = diagnostics.iter().map(|d| format!("{} {}", d.code, d.summary)).collect();
        (definitions.lint.tools[0].runner.clone(), told)
    };
    assert_eq!(of_tool("scan"), (Some("scan".into()), vec![]));
    assert_eq!(of_tool("scam").1, ["WL879 there is no runner \"scam\""]);
    let (_, diagnostics) = load("runner \"a b\" {\n  container { image = \"i\" }\n}\n");
    assert_eq!(diagnostics.iter().map(|d| d.summary.as_str()).collect::<Vec<_>>(), ["runner \"a b\" is no label"]);
}

#[test]
fn what_becomes_of_changes_is_read() {
    use windlass_model::change::MergeMethod;
    use windlass_model::change::settings::{ApplyWhen, ChangeSettings, Forks};
    let check = |body: &str, want: ChangeSettings, told: &[&str]| {
        let (definitions, diagnostics) = load(&format!("project \"p\" {{\n{body}\n}}\n"));
        let found: Vec<String> = diagnostics.iter().map(|d| format!("{} {}", d.code, d.summary)).collect();
        assert_eq!(found, told, "{body}");
        assert_eq!(definitions.changes, want, "{body}");
    };
    let usual = ChangeSettings::default;
    check("", usual(), &[]);
    check("changes {}", usual(), &[]);
    let all = "changes {\napply = \"on_merge\"\nmerge = true\nmethod = \"squash\"\ndelete_branch = true\n\
               forks = \"never\"\nautoplan = false\nlabels = true\n}";
    let want = ChangeSettings {
        apply: ApplyWhen::OnMerge,
        merge: true,
        method: MergeMethod::Squash,
        delete_branch: true,
        forks: Forks::Never,
        autoplan: false,
        labels: true,
    };
    check(all, want, &[]);
    let words = "WL106 `apply` is one of \"before_merge\", \"on_merge\", \"after_merge\", \"never\"";
    check("changes { apply = \"onmerge\" }", usual(), &[words]);
    check("changes { method = \"octopus\" }", usual(), &["WL106 `method` is \"merge\", \"squash\" or \"rebase\""]);
    check("changes { forks = \"always\" }", usual(), &["WL106 `forks` is \"ask\" or \"never\""]);
    check("changes {}\nchanges {}", usual(), &["WL104 the project has two `changes` blocks"]);
    let environment = |apply: &str| {
        let text = format!("project \"p\" {{\n  environment \"e\" {{\n    match = [\"**\"]\n{apply}\n  }}\n}}\n");
        let (definitions, diagnostics) = load(&text);
        (definitions.environments[0].apply, diagnostics.len())
    };
    assert_eq!(environment(""), (None, 0));
    assert_eq!(environment("apply = \"after_merge\""), (Some(ApplyWhen::AfterMerge), 0));
    assert_eq!(environment("apply = \"later\""), (None, 1));
}

#[test]
fn every_attribute_is_documented_and_nothing_else() {
    let page = include_str!("../../../../docs/windlass-files.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`')).map(|(name, _)| name);
    let documented: std::collections::BTreeSet<&str> = rows.collect();
    let mut known = std::collections::BTreeSet::new();
    for schema in schema::ALL.into_iter().chain(operation_schema::ALL).chain([schema::TOP]) {
        known.extend(schema.attributes.iter().map(|a| a.name).chain(schema.blocks.iter().copied()));
        for attribute in schema.attributes {
            // In a table, or in an example where there is no table.
            let shown = documented.contains(attribute.name) || page.contains(&format!("  {} = ", attribute.name));
            assert!(shown, "{} of {} is not in the documentation", attribute.name, schema.block);
        }
    }
    assert!(documented.is_subset(&known), "documented only: {:?}", documented.difference(&known).collect::<Vec<_>>());
}

/// Examples stand alone: they may name teams, environments and stacks that are elsewhere, and nothing else may be wrong with them.
#[test]
fn the_examples_of_the_documentation_are_read() {
    let mut seen = 0;
    for (page, text) in [
        ("windlass-files.md", include_str!("../../../../docs/windlass-files.md")),
        ("review.md", include_str!("../../../../docs/review.md")),
        ("policies.md", include_str!("../../../../docs/policies.md")),
        ("lint.md", include_str!("../../../../docs/lint.md")),
        ("decisions.md", include_str!("../../../../docs/decisions.md")),
        ("access.md", include_str!("../../../../docs/access.md")),
        ("runners.md", include_str!("../../../../docs/runners.md")),
        ("operations.md", include_str!("../../../../docs/operations.md")),
        ("getting-started.md", include_str!("../../../../docs/getting-started.md")),
    ] {
        for block in text.split("```hcl\n").skip(1) {
            let block = block.split("```").next().unwrap_or_default();
            let ours = schema::TOP.blocks.iter().map(|kind| format!("{kind} ")).collect::<Vec<_>>();
            if !ours.iter().any(|kind| block.lines().any(|line| line.starts_with(kind.as_str()))) {
                continue;
            }
            seen += 1;
            let (_, diagnostics) = load_files(&[(page.into(), block.to_owned())]);
            let wrong: Vec<_> =
                diagnostics.iter().filter(|d| !matches!(d.code.as_str(), "WL108" | "WL113" | "WL121")).collect();
            assert!(wrong.is_empty(), "{page}:\n{block}\n{wrong:?}");
        }
    }
    assert!(seen >= 5, "only {seen} examples were found");
}
