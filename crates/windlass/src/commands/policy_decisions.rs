//! `policy schema`, `policy replay`, `policy pull`, `waive`, `waivers`: what decides, and who answers for an exception.

use crate::arguments::{Command, Policy};
use crate::{Answer, Context, print, print_json, views};
use clap::{Subcommand, ValueEnum};
use windlass_app::bundles::{Bundles, Fetch, PulledState};
use windlass_app::error::{AppError, ErrorKind, internal};
use windlass_app::project::Checkout;
use windlass_app::service::Service;
use windlass_app::settings::StateDirectory;
use windlass_app::{replay, runs, waivers};
use windlass_model::Micros;
use windlass_model::definition::DecisionKind;
use windlass_model::diagnostic::has_errors;

#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Print the JSON Schema of what policies of a kind are asked with.
    #[command(after_help = "Example:\n  windlass policy schema review > review.schema.json")]
    Schema {
        /// All kinds with what they are about when left out.
        #[arg(value_enum)]
        kind: Option<KindName>,
    },
    /// Say what the policies of the work tree would have decided about the last reviews, and the present ones did not.
    #[command(after_help = "\
Examples:
  windlass policy replay                 against the branch this one goes to
  windlass policy replay --last 50
  windlass policy replay --base v1.2")]
    Replay {
        /// How many reviews.
        #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
        last: u32,
        /// Compare with the policies of this commit [default: where this branch left the default branch].
        #[arg(long, value_name = "REV")]
        base: Option<String>,
    },
    /// Fetch the bundles that policies come from, and print the checksums to pin them by.
    Pull,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KindName {
    Plan,
    Review,
    Approval,
    Operation,
    Access,
    Trigger,
}

impl KindName {
    fn kind(self) -> DecisionKind {
        match self {
            Self::Plan => DecisionKind::Plan,
            Self::Review => DecisionKind::Review,
            Self::Approval => DecisionKind::Approval,
            Self::Operation => DecisionKind::Operation,
            Self::Access => DecisionKind::Access,
            Self::Trigger => DecisionKind::Trigger,
        }
    }
}

/// A time such as `90s`, `5m`, `2h`, `7d`, in microseconds.
pub fn expiry(text: &str) -> Result<Micros, String> {
    let units = [("s", 1_000_000), ("m", 60_000_000), ("h", 3_600_000_000), ("d", 86_400_000_000_i64)];
    units
        .iter()
        .find_map(|(unit, micros)| text.strip_suffix(unit)?.trim().parse::<i64>().ok()?.checked_mul(*micros))
        .filter(|micros| *micros > 0)
        .ok_or_else(|| "expected a time, e.g. 12h or 7d".to_owned())
}

/// Commands that need no record.
pub fn plain(cx: &Context, command: &PolicyCommand) -> Option<Answer> {
    match command {
        PolicyCommand::Schema { kind } => Some(schema(cx, *kind)),
        PolicyCommand::Pull => Some(pull(cx)),
        PolicyCommand::Replay { .. } => None,
    }
}

fn schema(cx: &Context, kind: Option<KindName>) -> Answer {
    if let Some(kind) = kind {
        print(windlass_app::decisions::schema(kind.kind()));
        return Ok(true);
    }
    let rows: Vec<(&str, String)> = DecisionKind::ALL
        .into_iter()
        .map(|kind| {
            let schema: serde_json::Value =
                serde_json::from_str(windlass_app::decisions::schema(kind)).unwrap_or_default();
            (kind.as_str(), schema["description"].as_str().unwrap_or_default().to_owned())
        })
        .collect();
    if cx.json {
        let kinds = rows.iter().map(|(kind, about)| serde_json::json!({ "kind": kind, "description": about }));
        print_json(&kinds.collect::<Vec<_>>());
    } else {
        print(&rows.iter().map(|(kind, about)| format!("{kind:<10} {about}\n")).collect::<String>());
    }
    Ok(true)
}

fn pull(cx: &Context) -> Answer {
    let checkout = Checkout::open(&cx.directory)?;
    let (definitions, diagnostics) = windlass_app::bundles::definitions(&checkout)?;
    if has_errors(&diagnostics) {
        return Err(AppError::many(ErrorKind::Definition, diagnostics));
    }
    let directory = StateDirectory::create(&checkout.root)?;
    let (pulled, failed) = Bundles::new(&directory, Fetch::Missing).pull(&definitions);
    if cx.json {
        print_json(&serde_json::json!({ "bundles": pulled, "diagnostics": failed }));
    } else if pulled.is_empty() && failed.is_empty() {
        print("No policy comes from a bundle.\n");
    } else {
        for bundle in &pulled {
            let state = match bundle.state {
                PulledState::AsDeclared => cx.out.green("as its definition says"),
                PulledState::PinnedBySource => cx.out.green("pinned by its source"),
                PulledState::NotDeclared => cx.out.yellow("not what its definition says: write"),
            };
            let files = views::count(bundle.files, "file");
            print(&format!(
                "{} ({files}) from {}\n  {state}\n  checksum = \"{}\"\n",
                cx.out.bold(&bundle.policy),
                crate::terminal::clean(&bundle.source),
                bundle.checksum
            ));
        }
    }
    if !failed.is_empty() {
        return Err(AppError::many(ErrorKind::Unavailable, failed));
    }
    Ok(pulled.iter().all(|bundle| bundle.state != PulledState::NotDeclared))
}

pub async fn run(cx: &Context, service: &Service, command: Command) -> Answer {
    match command {
        Command::Policy(Policy::Decisions(PolicyCommand::Replay { last, base })) => {
            let replay = replay::replay(service, last as usize, base.as_deref()).await?;
            if cx.json {
                print_json(&replay);
            } else {
                print(&views::decisions::replay(cx.out, &replay));
            }
            Ok(replay.differing.is_empty())
        }
        Command::Waive { finding: None, review, .. } => {
            let id = runs::review_find(service, review.as_deref()).await?;
            let list = waivers::candidate_list(service, &id).await?;
            if cx.json {
                print_json(&list);
            } else {
                print(&views::decisions::candidates(cx.out, &id, &list));
            }
            Ok(list.is_empty())
        }
        Command::Waive { finding: Some(finding), review, reason, expires } => {
            let id = runs::review_find(service, review.as_deref()).await?;
            let reason = reason.as_deref().unwrap_or_default();
            let waiver = waivers::waive(service, &id, &finding, reason, expires).await?;
            let row = waivers::review_get(service, &id).await?.ok_or_else(|| internal("a review that went away"))?;
            if cx.json {
                print_json(&serde_json::json!({ "waiver": waiver, "verdict": row.review.verdict }));
            } else {
                print(&views::decisions::waived(cx.out, &waiver, &row.review));
            }
            Ok(true)
        }
        Command::Waivers => {
            let list = waivers::waiver_list(service).await?;
            if cx.json {
                print_json(&list);
            } else {
                print(&views::decisions::waivers(cx.out, &list));
            }
            Ok(true)
        }
        _ => Err(internal("a command without an implementation")),
    }
}
