//! What stands between a cluster and those who ask it: connections that break.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Debug)]
struct Manner {
    away: AtomicBool,
    /// Bytes of answers after which the first connection breaks; each later one carries as many more.
    step: AtomicUsize,
    /// Connections since that was said.
    connections: AtomicUsize,
    /// Connections of an earlier number break.
    generation: watch::Sender<u64>,
}

#[derive(Debug)]
pub struct Proxy {
    manner: Arc<Manner>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Starts one before `target`, and tells its URL.
    pub async fn start(target: SocketAddr) -> std::io::Result<(Self, String)> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let manner = Arc::new(Manner {
            away: AtomicBool::new(false),
            step: AtomicUsize::new(usize::MAX),
            connections: AtomicUsize::new(0),
            generation: watch::Sender::new(0),
        });
        let accepting = tokio::spawn(accept(listener, target, manner.clone()));
        Ok((Self { manner, accepting }, url))
    }

    pub fn away(&self, away: bool) {
        self.manner.away.store(away, Ordering::SeqCst);
        self.cut();
    }

    pub fn cut(&self) {
        self.manner.generation.send_modify(|generation| *generation += 1);
    }

    pub fn break_after(&self, bytes: Option<usize>) {
        self.manner.step.store(bytes.unwrap_or(usize::MAX), Ordering::SeqCst);
        self.manner.connections.store(0, Ordering::SeqCst);
        self.cut();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, manner: Arc<Manner>) {
    while let Ok((client, _)) = listener.accept().await {
        if manner.away.load(Ordering::SeqCst) {
            continue;
        }
        let (manner, mut broken) = (manner.clone(), manner.generation.subscribe());
        tokio::spawn(async move {
            tokio::select! {
                _ = broken.changed() => {}
                () = carry(client, target, &manner) => {}
            }
        });
    }
}

async fn carry(mut client: TcpStream, target: SocketAddr, manner: &Manner) {
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let limit =
        manner.step.load(Ordering::SeqCst).saturating_mul(manner.connections.fetch_add(1, Ordering::SeqCst) + 1);
    let answers = async {
        let (mut buffer, mut carried) = (vec![0; 4096], 0);
        while let Ok(n @ 1..) = from_server.read(&mut buffer).await {
            let left = limit.saturating_sub(carried).min(n);
            if to_client.write_all(&buffer[..left]).await.is_err() || left < n {
                return;
            }
            carried += n;
        }
    };
    tokio::select! {
        () = answers => {}
        _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
    }
}
