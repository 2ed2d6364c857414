//! Server-sent events, taken up again where they broke off.

use super::client::Client;
use std::io::{BufRead, BufReader, Read};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// How long the first line may take: a server says something at once, and what stands between may keep it for itself.
const FIRST: Duration = Duration::from_secs(10);
/// How long a server may say nothing; it sends a line every 15 s at least.
const QUIET: Duration = Duration::from_secs(40);
/// How long a connection holds that is worth another one, though nothing happened meanwhile.
const HELD: Duration = Duration::from_secs(5);
/// The first and the longest pause before the next try; each is twice as long as the one before.
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MOST: Duration = Duration::from_secs(10);
/// How many tries in a row may bring nothing.
const TRIES: u32 = 6;
/// Lines that wait for their reader.
const WAITING: usize = 64;

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its name; empty where it has none.
    pub kind: String,
    pub data: String,
    /// Where to go on after it.
    id: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum News {
    Event(Event),
    /// There are no events to be had this way: what is to be known has to be asked for.
    Gone,
}

/// Hands events of `path` to `out` until that says `false` or one is named `end`, each once and in order, over as many connections
/// as it takes. `after`: the id of an event that was had before.
pub fn follow(client: &Client, path: String, after: Option<String>, out: impl Fn(News) -> bool + Send + 'static) {
    let client = client.clone();
    std::thread::spawn(move || {
        let mut after = after;
        let mut pause = PAUSE;
        let mut tries = 0;
        while tries < TRIES {
            tries += 1;
            match connection(&client, &path, &mut after, &out) {
                Ended::Done => return,
                Ended::Silent => break,
                Ended::Broke { good: true } => (tries, pause) = (0, PAUSE),
                Ended::Broke { good: false } => {}
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MOST);
        }
        out(News::Gone);
    });
}

enum Ended {
    /// Nothing more will come, or nobody listens.
    Done,
    /// It was good for something: an event came, or it held for a while.
    Broke { good: bool },
    /// The connection stands, and nothing comes.
    Silent,
}

/// One connection. What is read waits in another thread: a connection that died without a word is left to it.
fn connection(client: &Client, path: &str, after: &mut Option<String>, out: &impl Fn(News) -> bool) -> Ended {
    let (sender, receiver) = sync_channel(WAITING);
    let (client, path, last) = (client.clone(), path.to_owned(), after.clone());
    std::thread::spawn(move || {
        if let Some(body) = client.events(&path, last.as_deref()) {
            read(body, &sender);
        }
    });
    let began = Instant::now();
    let (mut said, mut had, mut patience) = (false, false, FIRST);
    loop {
        match receiver.recv_timeout(patience) {
            Ok(line) => {
                (said, patience) = (true, QUIET);
                let Some(event) = line else { continue };
                had = true;
                if event.id.is_some() {
                    after.clone_from(&event.id);
                }
                let is_last = event.kind == "end";
                if !out(News::Event(event)) || is_last {
                    return Ended::Done;
                }
            }
            Err(RecvTimeoutError::Timeout) if !said => return Ended::Silent,
            Err(_) => return Ended::Broke { good: had || (said && began.elapsed() >= HELD) },
        }
    }
}

/// Takes events out of lines (WHATWG HTML, 9.2.6); `None` stands for a line that only shows that there is somebody. An event whose
/// end did not come is none.
fn read(body: impl Read, sender: &SyncSender<Option<Event>>) {
    let mut event = Event::default();
    let mut has_data = false;
    let mut lines = BufReader::new(body);
    let mut line = String::new();
    // The id stays that of the last event that had one.
    let mut id = None;
    loop {
        line.clear();
        if !lines.read_line(&mut line).is_ok_and(|length| length > 0) || !line.ends_with('\n') {
            return;
        }
        let text = line.trim_end_matches(['\n', '\r']);
        let (name, value) = text.split_once(':').unwrap_or((text, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        let whole = match name {
            "" if text.is_empty() => {
                event.id.clone_from(&id);
                Some(std::mem::take(&mut event)).filter(|_| std::mem::take(&mut has_data))
            }
            "event" => {
                value.clone_into(&mut event.kind);
                None
            }
            "data" => {
                if has_data {
                    event.data.push('\n');
                }
                event.data.push_str(value);
                has_data = true;
                None
            }
            "id" => {
                id = Some(value.to_owned());
                None
            }
            _ => None,
        };
        if sender.send(whole).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_from_lines() {
        let check = |text: &str, want: &[(&str, &str, Option<&str>)]| {
            let (sender, receiver) = sync_channel(100);
            read(text.as_bytes(), &sender);
            drop(sender);
            let event = |&(kind, data, id): &(&str, &str, Option<&str>)| Event {
                kind: kind.into(),
                data: data.into(),
                id: id.map(str::to_owned),
            };
            let found: Vec<Event> = receiver.iter().flatten().collect();
            assert_eq!(found, want.iter().map(event).collect::<Vec<_>>(), "{text:?}");
        };
        check("retry: 2000\n\n", &[]);
        check(": ping\n\ndata: a\n\n", &[("", "a", None)]);
        check(
            "event: changed\nid: 7\ndata: {}\n\ndata: b\r\n\r\n",
            &[("changed", "{}", Some("7")), ("", "b", Some("7"))],
        );
        check("data: a\ndata:\ndata: b\n\n", &[("", "a\n\nb", None)]);
        check("data:  two\n\n", &[("", " two", None)]);
        // It broke off in the middle of one.
        check("id: 1\ndata: a\n\nid: 2\ndata: b\n", &[("", "a", Some("1"))]);
        check("id: 1\ndata: a\n\nid: 2\nda", &[("", "a", Some("1"))]);
    }
}
