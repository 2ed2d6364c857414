//! One stack: its instances with what is wrong with them and what to do, what it reads and who reads it, and its history.

use super::common::{Badge, List, Moment, Offer, Tone, minutes_ago};
use super::stacks::StackState;
use super::{Frame, link};
use askama::Template;

#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Stack {
    pub project: String,
    /// Its directory.
    pub stack: String,
    /// The commit that all of this was read from, short.
    pub commit: String,
    /// Why it is a stack, e.g. `configures backend "s3"`.
    pub why: String,
    pub owner: String,
    /// e.g. `terraform >= 1.6`.
    pub tool: String,
    pub instances: Vec<Instance>,
    pub upstreams: Vec<Neighbour>,
    pub downstreams: Vec<Neighbour>,
    pub inputs: List<Input>,
    pub modules: Vec<Module>,
    /// Newest first.
    pub history: List<Apply>,
    /// Start a review of it as it is in git.
    pub review: Offer,
    /// Look for drift now.
    pub check: Offer,
    /// Take locks away from their holders.
    pub unlock: Offer,
    /// Say that a quarantined instance was looked at.
    pub recover: Offer,
}

#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Instance {
    /// As it is written, e.g. `aws/network[tokyo]`.
    pub id: String,
    pub state: StackState,
    pub environments: Vec<String>,
    pub workspace: String,
    /// Where its state lives, or why that is not known.
    pub address: String,
    pub var_files: Vec<String>,
    pub last: Option<Apply>,
    pub drift: Option<Drift>,
    pub quarantine: Option<Quarantine>,
    pub locks: Vec<Lock>,
}

/// An apply that ended.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Apply {
    pub run: String,
    pub instance: String,
    /// e.g. `1 added, 2 changed`.
    pub effect: String,
    pub actor: String,
    pub end: Badge,
    pub at: Moment,
}

#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Drift {
    /// e.g. `2 changed by hand`.
    pub what: String,
    pub since: Moment,
    pub changes: List<Change>,
}

/// One resource that is otherwise than the state says.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Change {
    pub address: String,
    /// e.g. `update`.
    pub action: String,
    /// Names of the attributes.
    pub attributes: Vec<String>,
    /// Who did it, where a provider's own tags tell; may be empty.
    pub by: String,
}

#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Quarantine {
    pub because: String,
    pub run: String,
    pub since: Moment,
    /// What to do, in order.
    pub steps: Vec<String>,
    /// `import` blocks for what exists and is in no state; may be empty.
    pub imports: String,
}

#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Lock {
    /// e.g. `stack:aws/network[tokyo]`.
    pub name: String,
    pub holder: Waiter,
    /// Whether its holder still says that it lives.
    pub alive: bool,
    pub queue: Vec<Waiter>,
}

#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Waiter {
    pub run: String,
    pub title: String,
    pub actor: String,
    pub since: Moment,
}

/// The other end of an edge.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Neighbour {
    pub stack: String,
    pub instance: String,
    /// Which outputs are read, e.g. `vpc_id, subnet_ids`, `all`, `none: only after it`.
    pub outputs: String,
    /// File and line.
    pub evidence: String,
    /// The condition as written and whether it holds; empty without one.
    pub gate: String,
    /// The condition does not hold.
    pub closed: bool,
}

#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Input {
    pub path: String,
    /// What leads there, outermost first, e.g. `module "vpc" at aws/network/main.tf:3`; empty for its own directory.
    pub chain: Vec<String>,
}

/// A module that is fetched from elsewhere.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Module {
    pub source: String,
    pub reference: String,
    /// The reference can move.
    pub moving: bool,
    pub evidence: String,
}

impl Stack {
    fn quarantined(&self) -> impl Iterator<Item = (&Instance, &Quarantine)> {
        self.instances.iter().filter_map(|i| Some((i, i.quarantine.as_ref()?)))
    }

    fn drifted(&self) -> impl Iterator<Item = (&Instance, &Drift)> {
        self.instances.iter().filter_map(|i| Some((i, i.drift.as_ref()?)))
    }

    fn locks(&self) -> impl Iterator<Item = &Lock> {
        self.instances.iter().flat_map(|i| &i.locks)
    }

    pub fn sample() -> Self {
        let apply = |run: &str, instance: &str, effect: &str, end: Badge, minutes: i64| Apply {
            run: run.into(),
            instance: instance.into(),
            effect: effect.into(),
            actor: "bob@example.com".into(),
            end,
            at: minutes_ago(minutes),
        };
        let ok = || Badge::new(Tone::Ok, "succeeded");
        let history = vec![
            apply(
                "01k9yyyyyyyyyyyyyyyyyyyyy3",
                "aws/db[tokyo]",
                "1 added, 1 changed",
                Badge::new(Tone::Bad, "failed"),
                15,
            ),
            apply("01k9yyyyyyyyyyyyyyyyyyyyy2", "aws/db[osaka]", "2 changed", ok(), 60 * 30),
            apply("01k9yyyyyyyyyyyyyyyyyyyyy1", "aws/db[tokyo]", "14 added", ok(), 60 * 24 * 60),
        ];
        let waiter = |title: &str, minutes: i64| Waiter {
            run: "01k9yyyyyyyyyyyyyyyyyyyyy3".into(),
            title: title.into(),
            actor: "bob@example.com".into(),
            since: minutes_ago(minutes),
        };
        let instance = |key: &str, state: StackState, environment: &str| Instance {
            id: format!("aws/db[{key}]"),
            state,
            environments: vec![environment.into()],
            workspace: key.into(),
            address: format!("s3:example-states/env:/{key}/db.tfstate"),
            var_files: vec![format!("{key}.tfvars")],
            last: history.iter().find(|a| a.instance.contains(key)).cloned(),
            drift: None,
            quarantine: None,
            locks: Vec::new(),
        };
        let tokyo = Instance {
            quarantine: Some(Quarantine {
                because: "The apply was killed while aws_db_instance.main was being created.".into(),
                run: "01k9yyyyyyyyyyyyyyyyyyyyy3".into(),
                since: minutes_ago(15),
                steps: vec![
                    "See whether aws_db_instance.main exists: its id is db-tokyo-1.".into(),
                    "If so, add the import block below to aws/db and review it.".into(),
                    "Then end the quarantine here.".into(),
                ],
                imports: "import {\n  to = aws_db_instance.main\n  id = \"db-tokyo-1\"\n}\n".into(),
            }),
            locks: vec![Lock {
                name: "stack:aws/db[tokyo]".into(),
                holder: waiter("bigger-database: 2 stacks", 20),
                alive: false,
                queue: vec![waiter("tags: 12 stacks", 6)],
            }],
            ..instance("tokyo", StackState::Quarantined, "production")
        };
        let osaka = Instance {
            drift: Some(Drift {
                what: "1 changed by hand".into(),
                since: minutes_ago(60 * 20),
                changes: vec![Change {
                    address: "aws_security_group.db".into(),
                    action: "update".into(),
                    attributes: vec!["ingress".into(), "description".into()],
                    by: "carol".into(),
                }]
                .into(),
            }),
            ..instance("osaka", StackState::Drifted, "staging")
        };
        let neighbour = |stack: &str, gate: &str, closed: bool| Neighbour {
            stack: stack.into(),
            instance: format!("{stack}[tokyo]"),
            outputs: "vpc_id, subnet_ids".into(),
            evidence: "aws/db/remote.tf:1".into(),
            gate: gate.into(),
            closed,
        };
        Self {
            project: "shop".into(),
            stack: "aws/db".into(),
            commit: "9be01d3".into(),
            why: "configures backend \"s3\"".into(),
            owner: "sre".into(),
            tool: "terraform >= 1.6".into(),
            instances: vec![tokyo, osaka],
            upstreams: vec![neighbour("aws/network", "", false)],
            downstreams: vec![
                neighbour("aws/app", "", false),
                neighbour("aws/monitor", "contains(var.targets, \"db\") ? 1 : 0 is false", true),
            ],
            inputs: List {
                items: vec![
                    Input { path: "aws/db".into(), chain: Vec::new() },
                    Input { path: "modules/db".into(), chain: vec!["module \"db\" at aws/db/main.tf:3".into()] },
                ],
                total: 9,
            },
            modules: vec![Module {
                source: "git::https://example.com/modules.git//backup".into(),
                reference: "master".into(),
                moving: true,
                evidence: "aws/db/main.tf:20".into(),
            }],
            history: List { items: history, total: 31 },
            review: Offer::Possible,
            check: Offer::Possible,
            unlock: Offer::Possible,
            recover: Offer::Not("Only operators end a quarantine: ask somebody of team sre.".into()),
        }
    }

    /// A new one: never applied, connected with nothing, and somebody who may only read.
    pub fn sample_empty() -> Self {
        let not = || Offer::Not("Your role here is viewer.".to_owned());
        Self {
            project: "shop".into(),
            stack: "aws/new".into(),
            commit: "9be01d3".into(),
            why: "configures provider \"aws\"".into(),
            owner: String::new(),
            tool: "terraform".into(),
            instances: vec![Instance {
                id: "aws/new".into(),
                state: StackState::NeverApplied,
                environments: Vec::new(),
                workspace: "default".into(),
                address: "local:aws/new/terraform.tfstate".into(),
                var_files: Vec::new(),
                last: None,
                drift: None,
                quarantine: None,
                locks: Vec::new(),
            }],
            upstreams: Vec::new(),
            downstreams: Vec::new(),
            inputs: vec![Input { path: "aws/new".into(), chain: Vec::new() }].into(),
            modules: Vec::new(),
            history: List::default(),
            review: not(),
            check: not(),
            unlock: not(),
            recover: not(),
        }
    }
}

#[derive(Template)]
#[template(path = "stack.html")]
struct Page<'a> {
    frame: &'a Frame,
    page: &'a Stack,
}

/// The whole page.
pub fn render(frame: &Frame, page: &Stack) -> String {
    super::rendered(&Page { frame, page })
}

#[cfg(test)]
mod tests {
    use super::super::testing::check_hostile;
    use super::super::{Frame, Section};
    use super::*;

    #[test]
    fn a_stack_tells_what_is_wrong_and_what_to_do() {
        let frame = Frame::sample(Section::Stacks);
        let check = |page: &Stack, wanted: &[&str], absent: &[&str]| {
            check_hostile(page, |page| render(&frame, page));
            let html = render(&frame, page);
            for want in wanted {
                assert!(html.contains(want), "{want}\n{html}");
            }
            for not in absent {
                assert!(!html.contains(not), "{not}\n{html}");
            }
        };
        let sample = Stack::sample();
        let wanted = [
            "The apply was killed while aws_db_instance.main was being created.",
            "id = &#34;db-tokyo-1&#34;",
            "Only operators end a quarantine",
            "action=\"/actions/unlock\"",
            "aws/db/remote.tf:1",
            "condition",
            "<code>ingress</code>, <code>description</code>",
            "can move",
            "7 more",
        ];
        check(&sample, &wanted, &["action=\"/actions/recover\""]);
        let operator = Stack { recover: Offer::Possible, ..sample };
        check(&operator, &["action=\"/actions/recover\""], &["Only operators"]);
        let wanted = ["Your role here is viewer.", "never applied", "It reads no other stack", "No stack reads it"];
        check(&Stack::sample_empty(), &wanted, &["/actions/", "id=\"quarantine\"", "id=\"drift\"", "id=\"locks\""]);
    }
}
