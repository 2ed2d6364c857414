//! The channel of a notifier with its secrets, which are read when something is sent and kept no longer.

use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use windlass_connect::notify::{Channel, Delivery, SendError};
use windlass_lang::expression::{self, Scope};
use windlass_model::mask::Mask;
use windlass_model::operation::occasion::{Manner, Notice};
use windlass_model::operation::{Expression, Notifier, NotifyChannel, SecretFrom, SecretSource};

/// How long a program that tells a secret may take.
const LIMIT: Duration = Duration::from_secs(30);
/// A secret is not longer, bytes.
const LONGEST: usize = 256 * 1024;

/// A channel that something can be sent through.
pub(super) struct Open {
    channel: Arc<Channel>,
    mask: Mask,
}

/// Reads the secrets of a notifier and makes its channel.
pub(super) async fn open(notifier: &Notifier) -> Result<Open, SendError> {
    let mut secrets = Map::new();
    for source in &notifier.secrets {
        secrets.insert(source.name.clone(), read(source).await?.into());
    }
    let hidden: BTreeSet<String> = secrets.values().filter_map(Value::as_str).map(str::to_owned).collect();
    let scope = Scope::default().with("secret", secrets.into());
    let text = |expression: &Expression| {
        expression::text(expression, &scope).map_err(|error| SendError::Settings { problem: error.to_string() })
    };
    let channel = match &notifier.channel {
        NotifyChannel::Webhook { url } => Channel::webhook(&text(url)?),
        NotifyChannel::Bot { api, token, channel } => Channel::bot(api.as_deref(), &text(token)?, channel),
        NotifyChannel::Email { smtp, from, to } => Channel::email(&text(smtp)?, from, to),
        NotifyChannel::Signed { url, key } => Channel::signed(&text(url)?, &text(key)?),
    };
    Ok(Open { channel: Arc::new(channel?), mask: Mask::new(hidden.iter().map(String::as_str)) })
}

impl Open {
    /// How it takes several messages about one thing.
    pub fn manner(&self) -> Manner {
        self.channel.manner()
    }

    /// As [`Channel::send`], on a thread that may block.
    pub async fn send(
        &self,
        at: i64,
        key: &str,
        thread: &str,
        reference: Option<&str>,
        unsure_since: Option<i64>,
        notice: &Notice,
    ) -> Result<Option<String>, SendError> {
        let (channel, key, thread) = (self.channel.clone(), key.to_owned(), thread.to_owned());
        let (reference, notice) = (reference.map(str::to_owned), notice.clone());
        let sent = tokio::task::spawn_blocking(move || {
            let reference = reference.as_deref();
            channel.send(&Delivery { key: &key, thread: &thread, reference, unsure_since, notice: &notice, at })
        });
        let sent = sent.await.unwrap_or_else(|error| Err(SendError::Settings { problem: error.to_string() }));
        sent.map_err(|error| self.hidden(error))
    }

    /// What a channel answers may repeat what it was sent.
    fn hidden(&self, error: SendError) -> SendError {
        let hide = |text: String| self.mask.text(&text);
        match error {
            SendError::Settings { problem } => SendError::Settings { problem: hide(problem) },
            SendError::Away { place, problem, after } => {
                SendError::Away { place: hide(place), problem: hide(problem), after }
            }
            SendError::Refused { place, problem } => SendError::Refused { place: hide(place), problem: hide(problem) },
        }
    }
}

async fn read(source: &SecretSource) -> Result<String, SendError> {
    let settings = |why| SendError::Settings { problem: format!("the secret `{}` cannot be read: {why}", source.name) };
    secret(source).await.map_err(settings)
}

/// The value of a secret that the server itself needs, or why there is none.
pub(crate) async fn secret(source: &SecretSource) -> Result<String, String> {
    match &source.from {
        SecretFrom::Env(name) => std::env::var(name).map_err(|_| format!("the variable {name} is not set here")),
        SecretFrom::File(path) => of_file(Path::new(path)),
        SecretFrom::Command(argv) => said(argv).await,
    }
}

fn of_file(path: &Path) -> Result<String, String> {
    let content = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    line(content).map_err(|why| format!("{} {why}", path.display()))
}

/// What a program says; it has the environment of this one, where its own credentials are.
async fn said(argv: &[String]) -> Result<String, String> {
    let (program, arguments) = argv.split_first().ok_or("it has no command")?;
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let ended = tokio::time::timeout(LIMIT, command.output()).await;
    let output = ended.map_err(|_| format!("`{program}` did not end within {} s", LIMIT.as_secs()))?;
    let output = output.map_err(|error| format!("`{program}` cannot be run: {error}"))?;
    if !output.status.success() {
        return Err(format!("`{program}` ended with {}", output.status));
    }
    line(output.stdout).map_err(|why| format!("what `{program}` says {why}"))
}

/// A text without its last line break.
fn line(content: Vec<u8>) -> Result<String, String> {
    if content.len() > LONGEST {
        return Err(format!("is longer than {LONGEST} bytes"));
    }
    let text = String::from_utf8(content).map_err(|_| "is no text".to_owned())?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}
