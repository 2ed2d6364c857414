//! One address before several servers, as a load balancer of the simplest kind.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Gives each connection to the next server that is up, until this is dropped. A connection that no server takes is closed.
#[derive(Debug)]
pub struct Balancer {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    servers: Mutex<Vec<Server>>,
    next: AtomicUsize,
    ended: AtomicBool,
}

#[derive(Debug, Default)]
struct Server {
    /// `None` while it is down.
    port: Option<u16>,
    connections: Vec<TcpStream>,
}

impl Balancer {
    /// With room for so many servers, all of them down.
    ///
    /// # Errors
    /// There is no free port.
    pub fn start(servers: usize) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::default());
        state.servers().resize_with(servers, Server::default);
        let of = state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if of.ended.load(Ordering::SeqCst) {
                    return;
                }
                if let Ok(client) = client {
                    of.take(&client);
                }
            }
        });
        Ok(Self { address, state })
    }

    /// Without a slash at its end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on the server takes connections, at this port of loopback.
    pub fn up(&self, server: usize, port: u16) {
        self.state.servers()[server].port = Some(port);
    }

    /// It has died: it gets no connection any more, and those that it has are cut.
    pub fn down(&self, server: usize) {
        let mut servers = self.state.servers();
        servers[server].port = None;
        for connection in servers[server].connections.drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

impl State {
    fn servers(&self) -> MutexGuard<'_, Vec<Server>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, client: &TcpStream) {
        let mut servers = self.servers();
        let count = servers.len();
        for _ in 0..count {
            let at = self.next.fetch_add(1, Ordering::SeqCst) % count;
            let Some(port) = servers[at].port else { continue };
            let to = SocketAddr::from(([127, 0, 0, 1], port));
            // One that has just died is not told of yet.
            let Ok(server) = TcpStream::connect_timeout(&to, Duration::from_secs(1)) else { continue };
            // What cannot be passed on is closed, as any connection may be.
            if let Ok(connections) = join(client, &server) {
                servers[at].connections.extend(connections);
            }
            return;
        }
        let _ = client.shutdown(Shutdown::Both);
    }
}

/// Passes on in both directions until both ends have ended; gives them, to cut them.
fn join(client: &TcpStream, server: &TcpStream) -> std::io::Result<[TcpStream; 2]> {
    for (from, to) in [(client, server), (server, client)] {
        from.set_nodelay(true)?;
        let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
        std::thread::spawn(move || {
            let mut buffer = [0; 16384];
            while let Ok(read @ 1..) = from.read(&mut buffer) {
                if to.write_all(&buffer[..read]).is_err() {
                    break;
                }
            }
            let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
        });
    }
    Ok([client.try_clone()?, server.try_clone()?])
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        let count = self.state.servers().len();
        (0..count).for_each(|server| self.down(server));
        let _ = TcpStream::connect(self.address);
    }
}
