//! Reading an artefact from an OCI registry (distribution specification 1.1): its manifest, then its layers, each checked
//! against its digest.

use crate::bundle::LARGEST;
use base64::Engine as _;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::io::Read;
use std::time::Duration;
use ureq::Agent;

/// `host/repository[:tag][@sha256:…]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// With its port, if any.
    pub host: String,
    pub repository: String,
    pub tag: Option<String>,
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum OciError {
    #[error("{url} answers {status}")]
    Status { url: String, status: u16 },
    #[error("cannot ask {url}: {message}")]
    Ask { url: String, message: String },
    #[error("{what} is not what its digest {digest} says")]
    Digest { what: &'static str, digest: String },
    #[error("its manifest is none this release can read: {0}")]
    Manifest(String),
    #[error("it holds more than {} MiB", LARGEST >> 20)]
    TooLarge,
    #[error("its archive cannot be read: {0}")]
    Archive(std::io::Error),
}

/// A manifest, bytes.
const MANIFEST: u64 = 4 << 20;
const TIMEOUT: Duration = Duration::from_secs(60);
const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";

/// Also lists of manifests for many platforms.
const ANY: &str = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
                   application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";

impl Image {
    /// `None` when it is not of that form.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        let (host, path) = name.split_once('/')?;
        let (repository, tag) = match path.rsplit_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (path, None),
        };
        let plain = |text: &str, more: &str| {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c) || more.contains(c))
        };
        let is_digest = |digest: &str| {
            digest.strip_prefix("sha256:").is_some_and(|hex| {
                hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
            })
        };
        let sound = plain(host, ":[]")
            && plain(repository, "/")
            && repository.split('/').all(|part| !part.is_empty() && !part.starts_with('.'))
            && tag.is_none_or(|tag| plain(tag, ""))
            && digest.is_none_or(is_digest)
            && (tag.is_some() || digest.is_some());
        sound.then(|| Self {
            host: host.to_owned(),
            repository: repository.to_owned(),
            tag: tag.map(str::to_owned),
            digest: digest.map(str::to_owned),
        })
    }

    /// This machine's own registries are asked without TLS, as every OCI client does.
    fn is_local(&self) -> bool {
        let host = self.host.rsplit_once(':').map_or(self.host.as_str(), |(host, _)| host);
        matches!(host, "localhost" | "127.0.0.1" | "[::1]")
    }
}

/// All files of the artefact: layers that are archives are unpacked in memory, others are one file by their title.
///
/// # Errors
/// The registry cannot be asked, or what it gives is not what was asked for.
pub fn pull(image: &Image) -> Result<Vec<(String, Vec<u8>)>, OciError> {
    let mut registry = Registry::new(image);
    let reference = image.digest.as_deref().or(image.tag.as_deref()).unwrap_or("latest");
    let manifest = registry.get(&format!("manifests/{reference}"), ACCEPT, MANIFEST)?;
    if let Some(digest) = &image.digest {
        check("its manifest", &manifest, digest)?;
    }
    let manifest: Value = serde_json::from_slice(&manifest).map_err(|error| OciError::Manifest(error.to_string()))?;
    let layers = manifest.get("layers").and_then(Value::as_array);
    let layers = layers.ok_or_else(|| OciError::Manifest("it has no layers".into()))?;
    let mut files = Vec::new();
    let mut left = LARGEST;
    for layer in layers {
        let text = |pointer: &str| layer.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let digest = text("/digest");
        let content = registry.get(&format!("blobs/{digest}"), "*/*", left)?;
        check("one of its layers", &content, digest)?;
        let title = text("/annotations/org.opencontainers.image.title");
        let kind = text("/mediaType");
        let found = if kind.contains("tar") || title.ends_with(".tar.gz") || title.ends_with(".tgz") {
            unpack(&content, left)?
        } else {
            vec![(title.trim_start_matches("./").to_owned(), content)]
        };
        let size: u64 = found.iter().map(|(_, content)| content.len() as u64).sum();
        left = left.checked_sub(size).ok_or(OciError::TooLarge)?;
        files.extend(found);
    }
    Ok(files)
}

/// The digest behind the tag of an image, of one or of many platforms, as the registry says it; nothing of the image is read.
///
/// # Errors
/// The registry cannot be asked, or says none.
pub fn digest(image: &Image) -> Result<String, OciError> {
    let mut registry = Registry { only_head: true, ..Registry::new(image) };
    let reference = image.tag.as_deref().or(image.digest.as_deref()).unwrap_or("latest");
    let (_, response) = registry.respond(&format!("manifests/{reference}"), ANY)?;
    let digest = response.headers().get("docker-content-digest").and_then(|value| value.to_str().ok());
    digest.map(str::to_owned).ok_or_else(|| OciError::Manifest("the registry says no digest".into()))
}

fn check(what: &'static str, content: &[u8], digest: &str) -> Result<(), OciError> {
    let found: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
    if digest.strip_prefix("sha256:") == Some(&found) {
        return Ok(());
    }
    Err(OciError::Digest { what, digest: digest.to_owned() })
}

/// Regular files of an archive, which may be compressed. Nothing is written anywhere: names are only names.
fn unpack(content: &[u8], limit: u64) -> Result<Vec<(String, Vec<u8>)>, OciError> {
    let reader: Box<dyn Read + '_> = if content.starts_with(&[0x1f, 0x8b]) {
        Box::new(flate2::read::MultiGzDecoder::new(content))
    } else {
        Box::new(content)
    };
    // With room for what an archive adds to its files.
    let mut archive = tar::Archive::new(reader.take(limit * 2));
    let mut files = Vec::new();
    let mut left = limit;
    for entry in archive.entries().map_err(OciError::Archive)? {
        let entry = entry.map_err(OciError::Archive)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = entry.path().map_err(OciError::Archive)?.to_string_lossy().into_owned();
        let path = path.trim_start_matches("./").trim_start_matches('/').to_owned();
        let mut bytes = Vec::new();
        entry.take(left + 1).read_to_end(&mut bytes).map_err(OciError::Archive)?;
        left = left.checked_sub(bytes.len() as u64).ok_or(OciError::TooLarge)?;
        files.push((path, bytes));
    }
    Ok(files)
}

struct Registry<'a> {
    image: &'a Image,
    agent: Agent,
    authorization: Option<String>,
    /// Nothing but headers is asked for.
    only_head: bool,
}

impl<'a> Registry<'a> {
    fn new(image: &'a Image) -> Self {
        let agent = Agent::config_builder()
            .tls_config(crate::http::tls(crate::http::system_roots()))
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            .https_only(!image.is_local())
            .user_agent("windlass")
            .build()
            .new_agent();
        Self { image, agent, authorization: None, only_head: false }
    }

    fn get(&mut self, path: &str, accept: &str, limit: u64) -> Result<Vec<u8>, OciError> {
        let (url, response) = self.respond(path, accept)?;
        read(response, &url, limit)
    }

    /// An answer with status 200, and whose it is.
    fn respond(&mut self, path: &str, accept: &str) -> Result<(String, ureq::http::Response<ureq::Body>), OciError> {
        let scheme = if self.image.is_local() { "http" } else { "https" };
        let url = format!("{scheme}://{}/v2/{}/{path}", self.image.host, self.image.repository);
        let mut response = self.ask(&url, accept)?;
        if response.status().as_u16() == 401 && self.authorization.is_none() {
            let challenge = response.headers().get("www-authenticate").and_then(|value| value.to_str().ok());
            self.authorization = self.authorize(challenge.unwrap_or_default())?;
            response = self.ask(&url, accept)?;
        }
        let status = response.status().as_u16();
        if status != 200 {
            return Err(OciError::Status { url, status });
        }
        Ok((url, response))
    }

    fn ask(&self, url: &str, accept: &str) -> Result<ureq::http::Response<ureq::Body>, OciError> {
        let request = if self.only_head { self.agent.head(url) } else { self.agent.get(url) };
        let mut request = request.header("Accept", accept);
        if let Some(value) = &self.authorization {
            request = request.header("Authorization", value);
        }
        request.call().map_err(|error| OciError::Ask { url: url.to_owned(), message: error.to_string() })
    }

    /// What a `WWW-Authenticate` asks for: the user's own credentials, or a token that is given for them or to anybody.
    fn authorize(&self, challenge: &str) -> Result<Option<String>, OciError> {
        let own = credentials(&self.image.host);
        let Some(rest) = challenge.strip_prefix("Bearer ") else {
            return Ok(own.map(|own| format!("Basic {own}")));
        };
        let field = |name: &str| {
            let start = rest.find(&format!("{name}=\""))? + name.len() + 2;
            rest[start..].split('"').next()
        };
        let Some(realm) = field("realm") else { return Ok(None) };
        let mut request = self.agent.get(realm).query("scope", format!("repository:{}:pull", self.image.repository));
        if let Some(service) = field("service") {
            request = request.query("service", service);
        }
        if let Some(own) = own {
            request = request.header("Authorization", format!("Basic {own}"));
        }
        let response =
            request.call().map_err(|error| OciError::Ask { url: realm.to_owned(), message: error.to_string() })?;
        let answer: Value = serde_json::from_slice(&read(response, realm, MANIFEST)?).unwrap_or_default();
        let token = ["token", "access_token"].iter().find_map(|name| answer.get(name)?.as_str());
        Ok(token.map(|token| format!("Bearer {token}")))
    }
}

fn read(mut response: ureq::http::Response<ureq::Body>, url: &str, limit: u64) -> Result<Vec<u8>, OciError> {
    let mut content = Vec::new();
    let read = response.body_mut().as_reader().take(limit + 1).read_to_end(&mut content);
    read.map_err(|error| OciError::Ask { url: url.to_owned(), message: error.to_string() })?;
    if content.len() as u64 > limit { Err(OciError::TooLarge) } else { Ok(content) }
}

/// `user:password` in base64, as `docker login` and its kin leave it for a registry.
pub(crate) fn credentials(host: &str) -> Option<String> {
    let directory = std::env::var_os("DOCKER_CONFIG")
        .map(std::path::PathBuf::from)
        .or_else(|| Some(std::path::PathBuf::from(std::env::var_os("HOME")?).join(".docker")))?;
    let text = std::fs::read_to_string(directory.join("config.json")).ok()?;
    let config: Value = serde_json::from_str(&text).ok()?;
    let own = config.get("auths")?.get(host)?.get("auth")?.as_str()?;
    base64::engine::general_purpose::STANDARD.decode(own).ok().map(|_| own.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_read() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        let check = |text: &str, want: Option<(&str, &str, Option<&str>, bool)>| {
            let found = Image::parse(text);
            let found = found.as_ref().map(|i| (&*i.host, &*i.repository, i.tag.as_deref(), i.digest.is_some()));
            assert_eq!(found, want, "{text}");
        };
        check("h.example/a/b:v1", Some(("h.example", "a/b", Some("v1"), false)));
        check(&format!("127.0.0.1:5000/p:v1@{digest}"), Some(("127.0.0.1:5000", "p", Some("v1"), true)));
        check(&format!("h/p@{digest}"), Some(("h", "p", None, true)));
        check("h/p", None);
        check("h/../p:v1", None);
        check("h/p:v 1", None);
        check("h/p@sha256:00", None);
        check("p:v1", None);
    }
    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, path, *content).unwrap();
        }
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        builder.append_link(&mut link, "link.rego", "/etc/passwd").unwrap();
        builder.into_inner().unwrap()
    }

    #[test]
    fn archives_are_read_in_memory() {
        let plain = archive(&[("./a.rego", b"package a"), ("d/data.json", b"{}")]);
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, &plain).unwrap();
        let packed = packed.finish().unwrap();
        let want = [("a.rego".to_owned(), b"package a".to_vec()), ("d/data.json".to_owned(), b"{}".to_vec())];
        assert_eq!(unpack(&plain, 100_000).unwrap(), want);
        assert_eq!(unpack(&packed, 100_000).unwrap(), want);
        // However small it is on the way, it may not be large here.
        let zeros = vec![0; 200_000];
        let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut bomb, &archive(&[("a.rego", &zeros)])).unwrap();
        assert!(matches!(unpack(&bomb.finish().unwrap(), 100_000), Err(OciError::TooLarge)));
        assert!(matches!(unpack(&packed[..40], 100_000), Err(OciError::Archive(_))));
    }
}
