//! An issuer of tokens that says whatever a test wants.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};
use windlass_model::Micros;

pub const SECOND: Micros = 1_000_000;

pub fn now() -> Micros {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as Micros
}

/// A JSON object with some members set to others, or taken away (`null`).
pub fn with(base: &Value, changes: Value) -> Value {
    let mut changed = base.clone();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(changed.as_object_mut().unwrap().remove(name)),
            value => changed[name] = value.clone(),
        }
    }
    changed
}

/// A key for ES256.
pub struct Key {
    pair: EcdsaKeyPair,
    id: String,
}

impl Key {
    pub fn new(id: &str) -> Self {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap();
        Self { pair, id: id.into() }
    }

    /// An uncompressed point.
    pub fn public(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    pub fn jwk(&self) -> Value {
        let encode = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
        let (x, y) = (encode(&self.public()[1..33]), encode(&self.public()[33..]));
        json!({ "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.id, "x": x, "y": y })
    }

    pub fn sign(&self, claims: &Value) -> String {
        self.sign_as(&json!({ "alg": "ES256", "typ": "JWT", "kid": self.id }), claims)
    }

    /// Signs with this key whatever the header says.
    pub fn sign_as(&self, header: &Value, claims: &Value) -> String {
        token(header, claims, |text| self.pair.sign(&SystemRandom::new(), text).unwrap().as_ref().to_vec())
    }
}

pub fn token(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", encode(header), encode(claims));
    let signature = URL_SAFE_NO_PAD.encode(sign(text.as_bytes()));
    format!("{text}.{signature}")
}

/// How a path is answered.
#[derive(Clone)]
pub enum Answer {
    Json(Value),
    Text(&'static str),
    Status(u16),
    Redirect(String),
    /// So many bytes of nothing, or as many as the client takes.
    Endless(u64),
}

#[derive(Default)]
struct Content {
    answers: BTreeMap<String, Answer>,
    asked: Vec<String>,
}

/// It listens until the process ends.
pub struct Issuer {
    pub url: String,
    /// PEM, when it speaks TLS.
    pub certificate: Option<String>,
    content: Arc<Mutex<Content>>,
}

impl Issuer {
    /// With a discovery document and these keys.
    pub fn start(keys: &[&Key]) -> Self {
        Self::listen(keys, None)
    }

    /// The same, over TLS with a certificate of its own.
    pub fn start_tls(keys: &[&Key]) -> Self {
        let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::Pkcs8(signed.signing_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![signed.cert.der().clone()], key)
            .unwrap();
        let mut issuer = Self::listen(keys, Some(Arc::new(config)));
        let der = STANDARD.encode(signed.cert.der());
        issuer.certificate = Some(format!("-----BEGIN CERTIFICATE-----\n{der}\n-----END CERTIFICATE-----\n"));
        issuer
    }

    fn listen(keys: &[&Key], tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = if tls.is_some() { format!("https://localhost:{port}") } else { format!("http://127.0.0.1:{port}") };
        let content = Arc::new(Mutex::new(Content::default()));
        let shared = content.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (content, tls) = (shared.clone(), tls.clone());
                // A client that goes away is what some tests are for.
                std::thread::spawn(move || match tls {
                    Some(config) => {
                        let connection = rustls::ServerConnection::new(config).unwrap();
                        serve(rustls::StreamOwned::new(connection, stream), &content)
                    }
                    None => serve(stream, &content),
                });
            }
        });
        let issuer = Self { url, certificate: None, content };
        issuer.set("/.well-known/openid-configuration", Answer::Json(issuer.document()));
        issuer.publish(keys);
        issuer
    }

    /// What OpenID Connect requires of one, and where a person's sign-in would go.
    pub fn document(&self) -> Value {
        let at = |path: &str| format!("{}{path}", self.url);
        json!({
            "issuer": self.url, "jwks_uri": at("/keys"),
            "authorization_endpoint": at("/auth"), "token_endpoint": at("/token"), "userinfo_endpoint": at("/me"),
            "response_types_supported": ["code"], "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }

    pub fn publish(&self, keys: &[&Key]) {
        let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
        self.set("/keys", Answer::Json(json!({ "keys": keys })));
    }

    pub fn set(&self, path: &str, answer: Answer) {
        self.content.lock().unwrap().answers.insert(path.into(), answer);
    }

    /// How often a path was asked for.
    pub fn asked(&self, path: &str) -> usize {
        self.content.lock().unwrap().asked.iter().filter(|asked| *asked == path).count()
    }
}

fn serve(stream: impl ReadWrite, content: &Mutex<Content>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut first, mut line, mut length) = (String::new(), String::new(), 0);
    reader.read_line(&mut first)?;
    while reader.read_line(&mut line)? > 2 {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink())?;
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let answer = {
        let mut content = content.lock().unwrap();
        content.asked.push(path.clone());
        content.answers.get(&path).cloned().unwrap_or(Answer::Status(404))
    };
    let stream = reader.get_mut();
    let mut say = |status: &str, kind: &str, body: &[u8]| {
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        )?;
        stream.write_all(body)
    };
    match answer {
        Answer::Json(value) => say("200 OK", "application/json", value.to_string().as_bytes())?,
        Answer::Text(text) => say("200 OK", "text/html", text.as_bytes())?,
        Answer::Status(status) => say(&format!("{status} So"), "text/plain", b"")?,
        Answer::Redirect(to) => say(&format!("302 Found\r\nLocation: {to}"), "text/plain", b"")?,
        Answer::Endless(size) => {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n")?;
            std::io::copy(&mut std::io::repeat(b' ').take(size), stream)?;
        }
    }
    stream.flush()
}

trait ReadWrite: Read + Write {}
impl ReadWrite for TcpStream {}
impl ReadWrite for rustls::StreamOwned<rustls::ServerConnection, TcpStream> {}
