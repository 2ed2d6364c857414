//! Between a program and its PostgreSQL: connections that are slow, stand still, or are cut, and that stop at a chosen commit.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// On which side of a commit its connection is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The server has not been asked to commit yet.
    Before,
    /// It has committed, and its answer has not been passed on yet.
    After,
}

/// Accepts connections until it is dropped, which ends them all.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Milliseconds that each piece waits.
    delay: AtomicU64,
    stalled: AtomicBool,
    ended: AtomicBool,
    connections: Mutex<Vec<TcpStream>>,
    commits: Mutex<Commits>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Commits {
    /// So many were asked for.
    seen: u64,
    stop: Option<(u64, Moment)>,
    is_held: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Proxy {
    /// Before the server at this port of loopback.
    ///
    /// # Errors
    /// There is no free port.
    pub fn start(server: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let state = Arc::new(State::default());
        let of = state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if of.ended.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(("127.0.0.1", server))) else { continue };
                // A client that cannot be passed on is one that was cut.
                let _ = of.connect(client, server);
            }
        });
        Ok(Self { port, state })
    }

    /// The address of the database at `url`, through here.
    ///
    /// # Panics
    /// It has no port.
    pub fn url(&self, url: &str) -> String {
        url.replace(&format!(":{}/", port(url)), &format!(":{}/", self.port))
    }

    /// How long each piece waits, in either direction.
    pub fn delay(&self, delay: Duration) {
        self.state.delay.store(delay.as_millis().try_into().unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Nothing is passed on any more, or again.
    pub fn stall(&self, stalled: bool) {
        self.state.stalled.store(stalled, Ordering::SeqCst);
    }

    /// Ends all connections at once, wherever they are.
    pub fn cut(&self) {
        for connection in lock(&self.state.connections).drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// How many commits were asked for so far.
    pub fn commits(&self) -> u64 {
        lock(&self.state.commits).seen
    }

    /// The commit that comes as the `nth` from now on (1 is the next) is held at `moment`.
    pub fn hold(&self, nth: u64, moment: Moment) {
        let mut commits = lock(&self.state.commits);
        commits.stop = Some((commits.seen + nth, moment));
    }

    /// Whether a commit is held now.
    pub fn is_held(&self) -> bool {
        lock(&self.state.commits).is_held
    }

    /// What is held goes on (where it was not cut meanwhile), and nothing more is held.
    pub fn release(&self) {
        let mut commits = lock(&self.state.commits);
        (commits.stop, commits.is_held) = (None, false);
        self.state.changed.notify_all();
    }
}

impl State {
    fn connect(self: &Arc<Self>, client: TcpStream, server: TcpStream) -> std::io::Result<()> {
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        lock(&self.connections).extend([client.try_clone()?, server.try_clone()?]);
        // Held at its answer: set by the side that sees the question.
        let after = Arc::new(AtomicBool::new(false));
        let ways = [(client.try_clone()?, server.try_clone()?, Some(Messages::default())), (server, client, None)];
        for (from, to, messages) in ways {
            let (state, after) = (self.clone(), after.clone());
            std::thread::spawn(move || state.pass(from, to, messages, &after));
        }
        Ok(())
    }

    /// Passes on until one of them ends; `questions` go to the server.
    fn pass(&self, mut from: TcpStream, mut to: TcpStream, mut questions: Option<Messages>, after: &AtomicBool) {
        let (mut buffer, mut answers) = ([0; 16384], Answers::default());
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            std::thread::sleep(Duration::from_millis(self.delay.load(Ordering::SeqCst)));
            while self.stalled.load(Ordering::SeqCst) && !self.ended.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
            match &mut questions {
                Some(messages) => {
                    for _ in 0..messages.commits(&buffer[..read]) {
                        self.commit(after);
                    }
                }
                // What was sent together with the commit is answered before it.
                None if after.load(Ordering::SeqCst) && answers.are_committed(&buffer[..read]) => {
                    after.store(false, Ordering::SeqCst);
                    self.wait();
                }
                None => {}
            }
            if to.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }

    fn commit(&self, after: &AtomicBool) {
        let mut commits = lock(&self.commits);
        commits.seen += 1;
        match commits.stop {
            Some((at, Moment::Before)) if at == commits.seen => {
                drop(commits);
                self.wait();
            }
            Some((at, Moment::After)) if at == commits.seen => after.store(true, Ordering::SeqCst),
            _ => {}
        }
    }

    /// Says that a commit is held, and holds it.
    fn wait(&self) {
        let mut commits = lock(&self.commits);
        commits.is_held = commits.stop.is_some();
        while commits.is_held && !self.ended.load(Ordering::SeqCst) {
            commits = self.changed.wait(commits).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        self.release();
        self.cut();
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// The port in an address.
///
/// # Panics
/// It has none.
pub fn port(url: &str) -> u16 {
    url.split(['/', ':', '?']).find_map(|part| part.parse().ok()).expect("a port")
}

/// What a client of PostgreSQL says, cut into messages: the first is a length and a body, all others have a letter before that.
#[derive(Debug, Default)]
struct Messages {
    left: Vec<u8>,
    has_begun: bool,
}

impl Messages {
    /// How many commits are complete with these bytes.
    fn commits(&mut self, bytes: &[u8]) -> usize {
        self.left.extend_from_slice(bytes);
        let mut found = 0;
        loop {
            let at = usize::from(self.has_begun);
            let Some(length) = self.left.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes) else {
                return found;
            };
            let end = at + length as usize;
            if self.left.len() < end {
                return found;
            }
            let message: Vec<u8> = self.left.drain(..end).collect();
            if self.has_begun && message[0] == b'Q' && message[5..].starts_with(b"COMMIT") {
                found += 1;
            }
            self.has_begun = true;
        }
    }
}

/// What a server says, as far as it tells of commits.
#[derive(Debug, Default)]
struct Answers {
    left: Vec<u8>,
}

impl Answers {
    /// Whether a commit was answered, with these bytes as the last.
    fn are_committed(&mut self, bytes: &[u8]) -> bool {
        const DONE: &[u8] = b"C\0\0\0\x0bCOMMIT\0";
        self.left.extend_from_slice(bytes);
        let found = self.left.windows(DONE.len()).any(|window| window == DONE);
        self.left.drain(..self.left.len().saturating_sub(DONE.len() - 1));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_found_wherever_the_bytes_are_cut() {
        let message = |text: &str| [&b"Q"[..], &(text.len() as u32 + 5).to_be_bytes(), text.as_bytes(), b"\0"].concat();
        let start = [&8_u32.to_be_bytes()[..], b"\0\x03\0\0"].concat();
        let said = [start, message("BEGIN"), message("SELECT 'COMMIT'"), message("COMMIT"), message("COMMIT")].concat();
        for size in [1, 2, 3, 7, 1000] {
            let mut messages = Messages::default();
            let found: usize = said.chunks(size).map(|bytes| messages.commits(bytes)).sum();
            assert_eq!(found, 2, "in pieces of {size}");
        }
    }

    #[test]
    fn the_port_of_an_address() {
        assert_eq!(port("postgres://postgres@127.0.0.1:5433/x?sslmode=disable"), 5433);
        assert_eq!(port("http://127.0.0.1:80"), 80);
    }
}
