//! Deliveries of webhooks: sent one after the other, or lost, repeated, held back and turned around.

use super::{Dialect, Message};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use ureq::Agent;

/// How long a receiver may take, and how long a test waits for all of them.
const PATIENCE: Duration = Duration::from_secs(10);
const DEADLINE: Duration = Duration::from_secs(60);

/// A delivery that was made or tried.
#[derive(Debug, Clone)]
pub struct Delivered {
    /// As the forge calls it.
    pub event: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// What the receiver answered; `None` when it did not.
    pub status: Option<u16>,
}

/// In which order those come that were held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    AsTheyHappened,
    Reversed,
}

/// The webhook of a forge.
pub struct Deliveries<'a> {
    pub(super) outbox: &'a Outbox,
}

pub(super) struct Outbox {
    shared: Arc<(Mutex<Post>, Condvar)>,
    sends: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Post {
    /// Where they go, and with which secret.
    to: Option<(String, String)>,
    /// So many of the next ones are lost.
    lost: usize,
    /// How often each is sent besides the first time.
    again: usize,
    /// Those that wait while deliveries are held back.
    held: Option<Vec<Delivered>>,
    queue: VecDeque<Delivered>,
    done: Vec<Delivered>,
    drawn: u64,
    is_sending: bool,
    ends: bool,
}

impl Deliveries<'_> {
    /// From now on everything is told there, signed with this secret.
    pub fn send_to(&self, url: &str, secret: &str) {
        self.outbox.lock().to = Some((url.to_owned(), secret.to_owned()));
    }

    /// The next so many are lost.
    pub fn lose(&self, count: usize) {
        self.outbox.lock().lost = count;
    }

    /// Each is sent so many times more.
    pub fn repeat(&self, times: usize) {
        self.outbox.lock().again = times;
    }

    /// None is sent until [`Self::release`].
    pub fn hold(&self) {
        self.outbox.lock().held.get_or_insert_default();
    }

    /// Sends those that were held back, and holds none from now on.
    pub fn release(&self, order: Order) {
        let mut post = self.outbox.lock();
        let mut held = post.held.take().unwrap_or_default();
        if order == Order::Reversed {
            held.reverse();
        }
        post.queue.extend(held);
        self.outbox.shared.1.notify_all();
    }

    /// Sends one of [`Self::done`] once more, as people do from the page of a webhook.
    pub fn again(&self, delivered: &Delivered) {
        self.outbox.lock().queue.push_back(delivered.clone());
        self.outbox.shared.1.notify_all();
    }

    /// All that were sent.
    pub fn done(&self) -> Vec<Delivered> {
        self.outbox.lock().done.clone()
    }

    /// Waits until nothing is on its way; `false` when that does not end.
    pub fn settle(&self) -> bool {
        let post = self.outbox.lock();
        let busy = |post: &mut Post| !post.queue.is_empty() || post.is_sending;
        let waited = self.outbox.shared.1.wait_timeout_while(post, DEADLINE, busy);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

impl Outbox {
    pub fn start() -> io::Result<Self> {
        let shared = Arc::<(Mutex<Post>, Condvar)>::default();
        let ours = shared.clone();
        let sends = std::thread::Builder::new().name("deliveries".into()).spawn(move || send(&ours))?;
        Ok(Self { shared, sends: Some(sends) })
    }

    fn lock(&self) -> MutexGuard<'_, Post> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn put(&self, dialect: &Dialect, message: &Message) {
        let mut post = self.lock();
        let Some((_, secret)) = post.to.clone() else { return };
        if post.lost > 0 {
            post.lost -= 1;
            return;
        }
        post.drawn += 1;
        let id = format!("00000000-0000-4000-8000-{:012}", post.drawn);
        let headers = (dialect.headers)(message, &id, &secret);
        let delivery = Delivered { event: message.event.clone(), headers, body: message.bytes(), status: None };
        for _ in 0..=post.again {
            match &mut post.held {
                Some(held) => held.push(delivery.clone()),
                None => post.queue.push_back(delivery.clone()),
            }
        }
        self.shared.1.notify_all();
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.lock().ends = true;
        self.shared.1.notify_all();
        // It may have ended by itself.
        let _ = self.sends.take().map(JoinHandle::join);
    }
}

fn send((post, changed): &(Mutex<Post>, Condvar)) {
    let config = Agent::config_builder().timeout_global(Some(PATIENCE)).http_status_as_error(false).proxy(None);
    let agent = config.build().new_agent();
    let mut inside = post.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        inside = changed
            .wait_while(inside, |post| post.queue.is_empty() && !post.ends)
            .unwrap_or_else(PoisonError::into_inner);
        if inside.ends {
            return;
        }
        let to = inside.to.clone();
        let (Some(mut delivery), Some((url, _))) = (inside.queue.pop_front(), to) else { continue };
        inside.is_sending = true;
        drop(inside);
        let request = agent.post(&url).header("content-type", "application/json");
        let request = delivery.headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        delivery.status = request.send(&delivery.body[..]).ok().map(|answer| answer.status().as_u16());
        inside = post.lock().unwrap_or_else(PoisonError::into_inner);
        inside.is_sending = false;
        inside.done.push(delivery);
        changed.notify_all();
    }
}
