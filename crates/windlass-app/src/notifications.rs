//! Telling people: a reading of the events, kept in a queue for each notifier of a project until it was taken there.

mod changes;
pub(crate) mod channel;
mod reader;
mod sender;
mod words;

use crate::caller::Caller;
use crate::error::{AppError, AppResult, ErrorKind};
use crate::installation::Installation;
use jiff::Timestamp;
use reader::Reader;
use sender::Sender;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use windlass_connect::notify::SendError;
use windlass_model::Micros;
use windlass_model::access::{Permission, Subject};
use windlass_model::definition::ChangeNotify;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::operation::occasion::Notice;
use windlass_model::operation::{Notifier, NotifyChannel, NotifyRule};
use windlass_store::{MessageRow, NotifierRow, Store};

/// How long ago another attempt to send the same may have been made of which nobody heard, seconds.
const RETRIED: i64 = 3_600;
/// Messages that ended so long ago are forgotten, µs: thirty days.
const FORGOTTEN: Micros = 30 * 86_400_000_000;
/// How many messages of a notifier are shown.
const SHOWN: u32 = 20;
/// What happens within this time is read together.
const SETTLE: Duration = Duration::from_millis(100);

/// How often the clock is asked what should have happened, and what waits is looked for.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    pub look: Duration,
    /// How long a notifier is one server's without a word from it, µs; longer than an attempt to send takes.
    pub lease: Micros,
}

impl Default for Pace {
    fn default() -> Self {
        Self { look: Duration::from_secs(5), lease: 90_000_000 }
    }
}

/// Tells whoever is to be told until `stop` is cancelled, and ends when what is being sent is. `url` is how people reach the server;
/// `told` hears what keeps it from that, once; it tries again all the time. Any number of servers may do it at once.
pub async fn run(
    installation: Arc<Installation>,
    url: String,
    pace: Pace,
    stop: CancellationToken,
    told: impl Fn(&AppError) + Send,
) {
    let holder = Store::run_id().to_string();
    let store = installation.common.store.clone();
    let mut changes = store.changes();
    let sender =
        Sender { store: store.clone(), in_force: installation.clone(), holder, lease: pace.lease, stop: stop.clone() };
    let reader = Reader::new(store, installation, url);
    let mut teller = Teller { reader, sender: Arc::new(sender), sending: JoinSet::new() };
    let (mut before, mut looked) = (None, None::<tokio::time::Instant>);
    while !stop.is_cancelled() {
        let look = looked.is_none_or(|at| at.elapsed() >= pace.look);
        if look {
            looked = Some(tokio::time::Instant::now());
        }
        let failure = teller.round(look).await.err();
        let now = failure.as_ref().map(ToString::to_string);
        if let Some(failure) = failure.filter(|_| now != before) {
            told(&failure);
        }
        before = now;
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(pace.look) => {}
            changed = changes.changed() => {
                // A store that was closed changes no more.
                let settle = if changed.is_ok() { SETTLE } else { pace.look };
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(settle) => {}
                }
            }
        }
    }
    // Each ends with the message that it is at.
    while teller.sending.join_next().await.is_some() {}
}

/// What the definitions in force say about who is told.
pub(crate) trait InForce: Send + Sync + 'static {
    fn projects(&self) -> Vec<String>;
    /// # Errors
    /// The definitions of the project are not known yet.
    fn notifiers(&self, project: &str) -> AppResult<Vec<Notifier>>;
    /// Of an operation.
    fn rules(&self, project: &str, operation: &str) -> Option<Vec<NotifyRule>>;
    /// Of reviews, applies and stacks; none where the definitions are not known yet.
    fn change_rules(&self, project: &str) -> Vec<ChangeNotify>;
}

impl InForce for Installation {
    fn projects(&self) -> Vec<String> {
        self.followed.list().into_iter().map(|(repository, _)| repository.name.clone()).collect()
    }

    fn notifiers(&self, project: &str) -> AppResult<Vec<Notifier>> {
        Ok(self.good(project)?.deciding.definitions.notifiers.clone())
    }

    fn rules(&self, project: &str, operation: &str) -> Option<Vec<NotifyRule>> {
        let good = self.good(project).ok()?;
        good.deciding.definitions.operation(operation).map(|operation| operation.notify.clone())
    }

    fn change_rules(&self, project: &str) -> Vec<ChangeNotify> {
        self.good(project).map(|good| good.deciding.definitions.notify.clone()).unwrap_or_default()
    }
}

struct Teller {
    reader: Reader,
    sender: Arc<Sender>,
    sending: JoinSet<AppResult<()>>,
}

impl Teller {
    /// Reads what happened, asks the clock where it is time to, and begins to send what can be sent.
    async fn round(&mut self, look: bool) -> AppResult<()> {
        self.reader.read().await?;
        let store = &self.sender.store;
        if look {
            self.reader.look().await?;
            store.message_sweep(store.now().await? - FORGOTTEN).await?;
        }
        for (project, name) in store.notifier_due().await? {
            let sender = self.sender.clone();
            // Two tasks of one notifier are no harm: one of them has it.
            self.sending.spawn(async move { sender.send(&project, &name).await });
        }
        while let Some(ended) = self.sending.try_join_next() {
            ended.map_err(crate::error::internal)??;
        }
        Ok(())
    }
}

/// Sends a text through a notifier now: its first line is the title. `key` is the same for every attempt to send the same, so that a
/// channel that can tell shows it once.
///
/// # Errors
/// A secret of the notifier cannot be read, or the text was not taken; [`may_retry`] says whether it may be later.
pub async fn send_now(notifier: &Notifier, project: &str, text: &str, key: &str) -> AppResult<()> {
    let now = Timestamp::now();
    let (title, rest) = text.trim().split_once('\n').unwrap_or((text.trim(), ""));
    let notice = Notice {
        occasion: None,
        state: None,
        project: project.to_owned(),
        operation: None,
        run: None,
        title: title.trim().to_owned(),
        text: rest.trim().to_owned(),
        facts: Vec::new(),
        links: Vec::new(),
        at: now.as_microsecond(),
    };
    let open = channel::open(notifier).await.map_err(|error| failed(notifier, &error))?;
    let key = format!("{project}/{}/{key}", notifier.name);
    let sent = open.send(now.as_second(), &key, &key, None, Some(now.as_second() - RETRIED), &notice).await;
    sent.map(drop).map_err(|error| failed(notifier, &error))
}

/// Whether what [`send_now`] could not send may arrive later although nothing of it is changed.
pub fn may_retry(error: &AppError) -> bool {
    error.kind == ErrorKind::Unavailable
}

fn failed(notifier: &Notifier, error: &SendError) -> AppError {
    let kind = if error.retryable() { ErrorKind::Unavailable } else { ErrorKind::Refused };
    let diagnostic = error.diagnostic();
    let summary = format!("notifier `{}`: {}", notifier.name, diagnostic.summary);
    AppError::new(kind, Diagnostic { summary, ..diagnostic }.at(notifier.span.clone()))
}

/// A notifier of the definitions in force, how it does, and what it was given last.
pub struct NotifierView {
    pub notifier: Notifier,
    /// `None` before its first message.
    pub row: Option<NotifierRow>,
    /// Newest first.
    pub messages: Vec<MessageRow>,
}

impl NotifierView {
    /// What its block is called.
    pub fn channel(&self) -> &'static str {
        match self.notifier.channel {
            NotifyChannel::Webhook { .. } => "webhook",
            NotifyChannel::Bot { .. } => "bot",
            NotifyChannel::Email { .. } => "email",
            NotifyChannel::Signed { .. } => "signed",
        }
    }
}

/// What a message says; `None` of one that another release wrote and this one cannot read.
pub fn notice(message: &MessageRow) -> Option<Notice> {
    serde_json::from_str(&message.body).ok()
}

/// The notifiers of a project.
///
/// # Errors
/// The caller may not see the project, or the database cannot be read.
pub async fn notifier_list(
    installation: &Installation,
    caller: &Caller,
    project: &str,
) -> AppResult<Vec<NotifierView>> {
    caller.must(installation, Permission::ProjectRead, &Subject::project(project)).await?;
    let good = installation.good(project)?;
    let store = installation.common.store.of_project(project);
    let mut rows = store.notifier_list().await?;
    let mut list = Vec::new();
    for notifier in &good.deciding.definitions.notifiers {
        let at = rows.iter().position(|row| row.name == notifier.name);
        let messages = store.message_list(project, &notifier.name, SHOWN).await?;
        list.push(NotifierView { notifier: notifier.clone(), row: at.map(|at| rows.swap_remove(at)), messages });
    }
    Ok(list)
}

/// Sends a message through a notifier that says who tries it, and lets what waits there be tried at once.
///
/// # Errors
/// The caller may not, there is none of that name, or the message was not taken.
pub async fn notifier_test(installation: &Installation, caller: &Caller, project: &str, name: &str) -> AppResult<()> {
    caller.must(installation, Permission::ProjectManage, &Subject::project(project)).await?;
    let good = installation.good(project)?;
    let notifier = good.deciding.definitions.notifiers.iter().find(|notifier| notifier.name == name);
    let notifier = notifier.ok_or_else(|| {
        let diagnostic = Diagnostic::error("WL770", format!("the project has no notifier `{name}`"));
        AppError::new(ErrorKind::NotFound, diagnostic.help("`notifier` blocks are those of the protected branch"))
    })?;
    let store = installation.store(caller, project);
    let actor = caller.actor.to_string();
    store.event_tell("notifier.tried", &format!("notifier {name}"), serde_json::Value::Null, &actor, None).await?;
    let text = format!("Windlass can reach you here\n{actor} tried the notifier `{name}` of the project {project}.");
    send_now(notifier, project, &text, &format!("test/{}", Store::run_id())).await?;
    Ok(store.notifier_rouse(project, name).await?)
}

#[cfg(test)]
mod tests;
