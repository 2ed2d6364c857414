//! `windlass notifiers`.

use super::At;
use super::client::segment;
use crate::terminal::{Terminal, clean, table};
use crate::views::time;
use crate::{Answer, print, print_json};
use clap::Subcommand;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Debug, Clone, Subcommand)]
pub enum NotifiersCommand {
    /// Send a message through a notifier that says who tries it; what waits there is tried again at once.
    #[command(after_help = "Example:\n  windlass notifiers test ops")]
    Test {
        /// As its block is called.
        name: String,
    },
}

/// As the server tells of it.
#[derive(Debug, Serialize, Deserialize)]
struct Notifier {
    name: String,
    channel: String,
    queued: i64,
    sent: i64,
    given_up: i64,
    failures: i64,
    failure: Option<String>,
    failed_at: Option<i64>,
    sent_at: Option<i64>,
    next_at: Option<i64>,
    messages: Value,
}

pub fn run(at: &At<'_>, command: Option<&NotifiersCommand>) -> Answer {
    match command {
        None => {
            let list: Vec<Notifier> = at.client.list(&format!("{}/notifiers", at.project()?))?;
            if at.cx.json {
                print_json(&list);
            } else {
                print(&render(at.cx.out, &list));
            }
        }
        Some(NotifiersCommand::Test { name }) => {
            let path = format!("{}/notifiers/{}/test", at.project()?, segment(name));
            at.client.post::<Value>(&path, &json!({}))?;
            if at.cx.json {
                print_json(&json!({ "notifier": name, "sent": true }));
            } else {
                print(&format!("A message went through {}.\n", clean(name)));
            }
        }
    }
    Ok(true)
}

fn render(terminal: Terminal, list: &[Notifier]) -> String {
    if list.is_empty() {
        return "There is no notifier in this project.\n".into();
    }
    let row = |notifier: &Notifier| {
        let state = match (&notifier.failure, notifier.failures) {
            (Some(failure), 1..) => format!("fails ({} times): {failure}", notifier.failures),
            (Some(failure), _) => format!("gave a message up: {failure}"),
            (None, _) => "works".to_owned(),
        };
        let state = if notifier.sent == 0 && notifier.failure.is_none() { "not used yet".to_owned() } else { state };
        vec![
            notifier.name.clone(),
            notifier.channel.clone(),
            notifier.sent.to_string(),
            notifier.queued.to_string(),
            notifier.given_up.to_string(),
            notifier.sent_at.map(time).unwrap_or_default(),
            state,
        ]
    };
    let rows = list.iter().map(row).collect();
    table(terminal, &["notifier", "channel", "sent", "waiting", "given up", "last sent", "state"], rows)
}
