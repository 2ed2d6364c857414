//! A provider registry over TLS that serves the depot provider, signed, under two names. Its archive, the checksums, their signature and the public
//! key lie in `registry/`; they were made once, and the key was thrown away.

use crate::TestkitError;
use crate::depot::platform;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Checksum of the unpacked package.
pub const H1: &str = "h1:42Q5N1yuT6K/uuDQn/K03ydndJC1LVB9UevgwaoJSvI=";
/// Checksum of the archive.
pub const ZH: &str = "zh:64836f8ad6e48acae2287c67c953cd055f73acd92b5a734940b5a7f8a26d2044";

/// What is served.
pub const ARCHIVE: &[u8] = include_bytes!("registry/provider.zip");
/// The namespaces that have the provider: the one that stacks use, and one for a second provider.
pub const NAMESPACES: [&str; 2] = ["acme", "spare"];

const KEY: &str = include_str!("registry/key.asc");
const KEY_ID: &str = "9BCD95862EB234B1";

/// How requests for the archive are answered.
#[derive(Debug, Default)]
struct Archives {
    manner: Mutex<Manner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Manner {
    /// So many are answered with `503` first.
    refused: usize,
    /// They are not answered until this ends.
    held: bool,
}

impl Archives {
    /// Waits until one may be answered; `false` when it is to be refused.
    fn admit(&self) -> bool {
        let manner = self.manner.lock().unwrap_or_else(PoisonError::into_inner);
        let mut manner = self.changed.wait_while(manner, |manner| manner.held).unwrap_or_else(PoisonError::into_inner);
        let refused = manner.refused > 0;
        manner.refused = manner.refused.saturating_sub(1);
        !refused
    }

    fn change(&self, change: impl FnOnce(&mut Manner)) {
        change(&mut self.manner.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }
}

/// A request that was made.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Method and path.
    pub request: String,
    pub authorization: Option<String>,
}

/// A registry at `https://localhost:PORT`, until it is stopped or this process ends.
#[derive(Debug)]
pub struct Registry {
    /// `localhost:PORT`.
    pub host: String,
    /// PEM, for `SSL_CERT_FILE`.
    pub certificate: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    archives: Arc<Archives>,
    stopping: Arc<AtomicBool>,
    listening: Mutex<Option<JoinHandle<()>>>,
}

impl Registry {
    /// Starts it on a free port.
    ///
    /// # Errors
    /// There is no port, or no certificate can be made.
    pub fn start() -> Result<Self, TestkitError> {
        let failed = |error: &dyn std::fmt::Display| TestkitError::Start {
            program: "the registry".into(),
            source: std::io::Error::other(error.to_string()),
        };
        let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).map_err(|e| failed(&e))?;
        let certificate = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, signed.cert.der());
        let key = rustls::pki_types::PrivateKeyDer::Pkcs8(signed.signing_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![signed.cert.der().clone()], key))
            .map_err(|e| failed(&e))?;
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| failed(&e))?;
        let host = format!("localhost:{}", listener.local_addr().map_err(|e| failed(&e))?.port());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let stopping = Arc::new(AtomicBool::new(false));
        let archives = Arc::new(Archives::default());
        let (own, seen, last, admits) = (host.clone(), asked.clone(), stopping.clone(), archives.clone());
        let listening = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if last.load(Ordering::SeqCst) {
                    break;
                }
                let (config, own, seen, admits) = (config.clone(), own.clone(), seen.clone(), admits.clone());
                // A client that goes away is none of ours.
                std::thread::spawn(move || serve(config, stream, &own, &seen, &admits));
            }
        });
        Ok(Self {
            host,
            certificate: format!("-----BEGIN CERTIFICATE-----\n{certificate}\n-----END CERTIFICATE-----\n"),
            asked,
            archives,
            stopping,
            listening: Mutex::new(Some(listening)),
        })
    }

    /// Answers the next `count` requests for an archive with `503 Service Unavailable`.
    pub fn refuse(&self, count: usize) {
        self.archives.change(|manner| manner.refused = count);
    }

    /// Answers no request for an archive until [`Self::release`].
    pub fn hold(&self) {
        self.archives.change(|manner| manner.held = true);
    }

    /// Ends [`Self::hold`].
    pub fn release(&self) {
        self.archives.change(|manner| manner.held = false);
    }

    /// From now on nobody listens at its port.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        // The thread sees it with the next connection; when it cannot be made, it has ended before.
        let _ = TcpStream::connect(&self.host);
        if let Some(listening) = self.listening.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A panic of its own was printed there.
            let _ = listening.join();
        }
    }

    /// `HOST/NAMESPACE/TYPE` of the provider in the first of [`NAMESPACES`].
    pub fn address(&self) -> String {
        self.address_in(NAMESPACES[0])
    }

    /// `HOST/NAMESPACE/TYPE` of the provider in one of [`NAMESPACES`].
    pub fn address_in(&self, namespace: &str) -> String {
        format!("{}/{namespace}/depot", self.host)
    }

    /// A lock file that allows these checksums.
    pub fn lock_file(&self, hashes: &[&str]) -> String {
        self.lock_file_of(&NAMESPACES[..1], hashes)
    }

    /// As [`Self::lock_file`], for the provider in each of these namespaces.
    pub fn lock_file_of(&self, namespaces: &[&str], hashes: &[&str]) -> String {
        let hashes: String = hashes.iter().map(|hash| format!("    \"{hash}\",\n")).collect();
        let rest = format!("  version     = \"1.0.0\"\n  constraints = \"1.0.0\"\n  hashes = [\n{hashes}  ]\n}}\n");
        let block = |namespace: &&str| format!("provider \"{}\" {{\n{rest}", self.address_in(namespace));
        namespaces.iter().map(block).collect()
    }

    /// Everything that was asked for.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often the archive was fetched.
    pub fn fetched(&self) -> usize {
        NAMESPACES.iter().map(|namespace| self.fetched_in(namespace)).sum()
    }

    /// How often the archive was fetched from one of [`NAMESPACES`].
    pub fn fetched_in(&self, namespace: &str) -> usize {
        let begin = format!("GET /{namespace}/");
        self.asked()
            .iter()
            .filter(|Asked { request, .. }| request.starts_with(&begin) && request.ends_with(".zip"))
            .count()
    }
}

fn serve(
    config: Arc<rustls::ServerConfig>,
    stream: TcpStream,
    host: &str,
    asked: &Mutex<Vec<Asked>>,
    archives: &Archives,
) -> std::io::Result<()> {
    let connection = rustls::ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut reader = BufReader::new(rustls::StreamOwned::new(connection, stream));
    let (mut first, mut line, mut authorization) = (String::new(), String::new(), None);
    reader.read_line(&mut first)?;
    while reader.read_line(&mut line)? > 2 {
        if let Some((_, value)) = line.split_once(": ").filter(|_| line.starts_with("Authorization:")) {
            authorization = Some(value.trim().to_owned());
        }
        line.clear();
    }
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    asked
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(Asked { request: format!("{method} {path}"), authorization });
    let refused = method == "GET" && path.ends_with(".zip") && !archives.admit();
    let answer = answer(host, path).filter(|_| !refused);
    let status = match (&answer, refused) {
        (Some(_), _) => "200 OK",
        (None, true) => "503 Service Unavailable",
        (None, false) => "404 Not Found",
    };
    let body = answer.unwrap_or_default();
    let stream = reader.get_mut();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )?;
    if method != "HEAD" {
        stream.write_all(&body)?;
    }
    stream.conn.send_close_notify();
    stream.flush()
}

fn answer(host: &str, path: &str) -> Option<Vec<u8>> {
    let platform = platform();
    let (os, arch) = platform.split_once('_')?;
    let name = format!("terraform-provider-depot_1.0.0_{platform}.zip");
    let file = |name: &str| format!("https://{host}/{name}");
    let json = |value: serde_json::Value| Some(value.to_string().into_bytes());
    if let Some(namespace) =
        NAMESPACES.iter().find(|namespace| path.starts_with(&format!("/v1/providers/{namespace}/")))
    {
        let rest = path.split_once("/depot/")?.1;
        return match rest {
            "versions" => json(serde_json::json!({
                "versions": [{ "version": "1.0.0", "protocols": ["6.0"], "platforms": [{ "os": os, "arch": arch }] }]
            })),
            _ if rest.starts_with("1.0.0/download/") => json(serde_json::json!({
                "protocols": ["6.0"], "os": os, "arch": arch, "filename": name,
                "download_url": file(&format!("{namespace}/{name}")),
                "shasums_url": file("SHA256SUMS"), "shasums_signature_url": file("SHA256SUMS.sig"),
                "shasum": &ZH[3..],
                "signing_keys": { "gpg_public_keys": [{ "key_id": KEY_ID, "ascii_armor": KEY }] }
            })),
            _ => None,
        };
    }
    match path {
        "/.well-known/terraform.json" => json(serde_json::json!({ "providers.v1": "/v1/providers/" })),
        "/SHA256SUMS" => Some(include_bytes!("registry/SHA256SUMS").to_vec()),
        "/SHA256SUMS.sig" => Some(include_bytes!("registry/SHA256SUMS.sig").to_vec()),
        _ if NAMESPACES.iter().any(|namespace| path == format!("/{namespace}/{name}")) => Some(ARCHIVE.to_vec()),
        _ => None,
    }
}

/// Writes the certificate of a registry where a command can be told to trust it (`SSL_CERT_FILE`).
///
/// # Errors
/// [`TestkitError::Write`].
pub fn trust(registry: &Registry, env: &mut crate::cli::CliEnv) -> Result<(), TestkitError> {
    let path: PathBuf = env.home().join("certificate.pem");
    crate::write_file(&path, &registry.certificate)?;
    env.set("SSL_CERT_FILE", path);
    Ok(())
}
