//! haproxy (`apt-get install haproxy`) under supervision, before the two servers of a shop, *blue* and *green*.

use crate::services::{Services, free_ports, until};
use crate::{TestkitError, write_file};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Runs until it is dropped. Visitors go where the entry `shop` of [`Haproxy::map`] says, at first to `blue`.
#[derive(Debug)]
pub struct Haproxy {
    services: Services,
    port: u16,
    secure: u16,
    blue: Arc<Shop>,
    green: Arc<Shop>,
}

/// A server that answers with its colour.
#[derive(Debug)]
pub struct Shop {
    colour: &'static str,
    port: u16,
    /// Whether it says that it is well.
    pub healthy: AtomicBool,
    /// Whether visitors get an error instead of their answer.
    pub broken: AtomicBool,
    /// Whether visitors wait for their answer.
    pub held: AtomicBool,
    /// Visitors so far, without those who asked after its health.
    pub visits: AtomicUsize,
    ended: AtomicBool,
}

impl Haproxy {
    /// Starts it as the service `haproxy` and returns when it answers. With a `certificate` (a file with the key and the
    /// certificate) it also answers over TLS.
    ///
    /// # Errors
    /// haproxy or runit is missing, or it does not start.
    pub fn start(certificate: Option<&Path>) -> Result<Self, TestkitError> {
        let program = crate::cli::program("haproxy")?;
        let (blue, green) = (Shop::open("blue")?, Shop::open("green")?);
        let ports = free_ports(2)?;
        let mut services = Services::new()?;
        let home = services.path().join("haproxy");
        let (map, socket) = (home.join("active.map"), home.join("admin.sock"));
        let mut text = format!(
            "global\n  stats socket {} mode 600 level admin\n  hard-stop-after 2s\n\
             defaults\n  mode http\n  timeout connect 2s\n  timeout client 10s\n  timeout server 10s\n\
             frontend shop\n  bind 127.0.0.1:{}\n  use_backend %[str(shop),map({})]\n",
            socket.display(),
            ports[0],
            map.display()
        );
        if let Some(certificate) = certificate {
            text.push_str(&format!(
                "frontend secure\n  bind 127.0.0.1:{} ssl crt {}\n  default_backend blue\n",
                ports[1],
                certificate.display()
            ));
        }
        for shop in [&blue, &green] {
            text.push_str(&format!(
                "backend {0}\n  option httpchk GET /health\n  server {0} 127.0.0.1:{1} check inter 100ms fall 2 rise 1\n",
                shop.colour, shop.port
            ));
        }
        write_file(&map, "shop blue\n")?;
        write_file(&home.join("haproxy.cfg"), &text)?;
        services.add("haproxy", &format!("exec '{}' -W -db -f haproxy.cfg", program.display()))?;
        let started = Self { services, port: ports[0], secure: ports[1], blue, green };
        let answers = || ureq::get(started.url()).call().is_ok();
        until("haproxy", answers, || started.services.log("haproxy"))?;
        Ok(started)
    }

    /// The directory of the services.
    pub fn services(&self) -> &Path {
        self.services.path()
    }

    /// What visitors open.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Host and port of TLS.
    pub fn secure(&self) -> String {
        format!("127.0.0.1:{}", self.secure)
    }

    /// The socket of its administrator.
    pub fn socket(&self) -> PathBuf {
        self.services.path().join("haproxy/admin.sock")
    }

    /// The file that says where visitors go.
    pub fn map(&self) -> PathBuf {
        self.services.path().join("haproxy/active.map")
    }

    /// One of the servers.
    pub fn shop(&self, colour: &str) -> &Shop {
        if colour == self.blue.colour { &self.blue } else { &self.green }
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        self.blue.close();
        self.green.close();
    }
}

impl Shop {
    fn open(colour: &'static str) -> Result<Arc<Self>, TestkitError> {
        let at = |source| TestkitError::Start { program: format!("the {colour} server"), source };
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(at)?;
        let port = listener.local_addr().map_err(at)?.port();
        let [healthy, broken, held, ended] = [true, false, false, false].map(AtomicBool::new);
        let shop = Arc::new(Self { colour, port, healthy, broken, held, visits: AtomicUsize::new(0), ended });
        let own = shop.clone();
        std::thread::spawn(move || {
            for visitor in listener.incoming().flatten() {
                if own.ended.load(Ordering::SeqCst) {
                    return;
                }
                let own = own.clone();
                // A visitor who went away is no matter.
                std::thread::spawn(move || own.answer(visitor).ok());
            }
        });
        Ok(shop)
    }

    fn answer(&self, mut visitor: TcpStream) -> std::io::Result<()> {
        visitor.set_read_timeout(Some(Duration::from_secs(2)))?;
        let mut head = Vec::new();
        let mut some = [0; 1024];
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            match visitor.read(&mut some)? {
                0 => return Ok(()),
                length => head.extend_from_slice(&some[..length]),
            }
        }
        let health = head.starts_with(b"GET /health");
        if !health {
            self.visits.fetch_add(1, Ordering::SeqCst);
            while self.held.load(Ordering::SeqCst) && !self.ended.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let well = if health { self.healthy.load(Ordering::SeqCst) } else { !self.broken.load(Ordering::SeqCst) };
        let (status, body) = if well { ("200 OK", self.colour) } else { ("500 Internal Server Error", "sorry") };
        let length = body.len();
        write!(visitor, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
    }

    fn close(&self) {
        self.ended.store(true, Ordering::SeqCst);
        // The server is waiting for a visitor.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visitors_get_blue() {
        let haproxy = Haproxy::start(None).unwrap();
        let visit = || ureq::get(haproxy.url()).call().map(|mut answer| answer.body_mut().read_to_string().unwrap());
        assert_eq!(visit().unwrap(), "blue");
        haproxy.shop("blue").broken.store(true, Ordering::SeqCst);
        assert!(visit().is_err());
    }
}
