//! `access explain`, `access matrix`: who may do what, and why.

use crate::{Answer, Context, print, print_json, views};
use clap::Subcommand;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use windlass_app::access::{Decider, explain};
use windlass_app::project::Checkout;
use windlass_model::access::{IDENTITIES, Permission, is_identity};
use windlass_model::approval::Actor;

#[derive(Debug, Subcommand)]
pub enum AccessCommand {
    /// Say whether somebody may do something, and what gives it or is missing.
    #[command(after_help = "\
Examples:
  windlass access explain review.apply                   me, for all stacks
  windlass access explain review.apply aws/network
  windlass access explain --actor oidc-group:sre review.approve 'aws/network[tokyo]'
  windlass access explain --work-tree project.read       by the files as they are now

Exit codes: 0 allowed, 1 refused.")]
    Explain {
        /// Ask for who has this identity, such as user:NAME, email:ADDRESS or oidc-group:NAME (may be given several times)
        /// [default: you].
        #[arg(long, value_name = "IDENTITY", value_parser = identity)]
        actor: Vec<String>,
        /// Ask the definitions and policies of the work tree instead of those of the default branch.
        #[arg(long)]
        work_tree: bool,
        /// What is to be done; `windlass access matrix` lists all of it.
        #[arg(hide_possible_values = true, value_parser = permission())]
        permission: Permission,
        /// The stacks or instances it is done to; all when left out.
        #[arg(value_name = "STACK")]
        stack: Vec<String>,
    },
    /// List all permissions, and which role has them.
    Matrix,
}

fn permission() -> impl TypedValueParser<Value = Permission> {
    let names = Permission::ALL.iter().map(|one| PossibleValue::new(one.as_str()).help(one.about()));
    PossibleValuesParser::new(names).try_map(|text| Permission::parse(&text).ok_or("no permission has that name"))
}

fn identity(text: &str) -> Result<String, String> {
    if is_identity(text) {
        return Ok(text.to_owned());
    }
    Err(format!("expected an identity, which begins with {}", IDENTITIES.join(", ")))
}

pub fn run(cx: &Context, command: AccessCommand) -> Answer {
    match command {
        AccessCommand::Matrix => {
            if cx.json {
                print_json(&views::access::permissions());
            } else {
                print(&views::access::matrix(cx.out));
            }
            Ok(true)
        }
        AccessCommand::Explain { actor, work_tree, permission, stack } => {
            let checkout = Checkout::open(&cx.directory)?;
            let decider = if work_tree { Decider::WorkTree } else { Decider::DefaultBranch };
            let actor = who(&checkout, actor);
            let now = jiff::Timestamp::now().as_microsecond();
            let explained = explain(&checkout, Some(crate::policy_worker()), decider, actor, permission, &stack, now)?;
            if cx.json {
                print_json(&explained);
            } else {
                print(&views::access::explained(cx.out, &explained));
            }
            Ok(explained.answer.allowed)
        }
    }
}

/// As if they had signed in: that is what is asked about.
fn who(checkout: &Checkout, identities: Vec<String>) -> Actor {
    match identities.first() {
        Some(first) => Actor { name: first.clone(), verified: true, identities },
        None => Actor { verified: true, ..windlass_app::actor::local(checkout.git_if_any()) },
    }
}
