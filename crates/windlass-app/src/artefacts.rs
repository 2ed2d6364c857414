//! What steps leave beside the record: plan files, states from before applies, inputs of policies, packed logs. All of it is sealed
//! before it leaves this process, and kept in the database, in a directory, or in an object store that all servers and workers have.

use crate::error::{AppError, AppResult, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use windlass_drivers::objects::{Objects, ObjectsError};
use windlass_drivers::terraform::plan_file;
use windlass_model::binding::keyed_digest;
use windlass_model::diagnostic::Diagnostic;
use windlass_store::{Contents, ContentsError, Store};

/// What names the database as the place.
const DATABASE: &str = "database";

/// Where artefacts are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Database,
    /// Of this machine alone, unless it is shared.
    Directory(PathBuf),
    /// A URL that every server and worker can use.
    Objects(String),
}

impl Place {
    /// Reads `database` or a URL.
    pub fn parse(setting: &str) -> Self {
        if setting == DATABASE { Self::Database } else { Self::Objects(setting.to_owned()) }
    }

    fn open(&self) -> AppResult<Option<Objects>> {
        let opened = match self {
            Self::Database => return Ok(None),
            Self::Directory(path) => Objects::directory(path),
            Self::Objects(url) => Objects::open(url),
        };
        opened.map(Some).map_err(|error| {
            let diagnostic = Diagnostic::error("WL893", error.to_string())
                .help("`artefacts` is `database`, `file:///DIRECTORY`, `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX` or `az://CONTAINER/PREFIX`");
            AppError::new(ErrorKind::Usage, diagnostic)
        })
    }

    /// Writes, reads and removes something; what is there, for people.
    ///
    /// # Errors
    /// It cannot be used.
    pub async fn check(&self) -> AppResult<String> {
        let Some(objects) = self.open()? else { return Ok("in the database".into()) };
        objects.check().await.map_err(|error| {
            let diagnostic =
                Diagnostic::error("WL892", format!("artefacts in {} cannot be used: {error}", objects.place())).help(
                    "look at its credentials, which are read from the environment of this process, and at the network",
                );
            AppError::new(ErrorKind::Unavailable, diagnostic)
        })?;
        Ok(format!("{} can be written and read", objects.place()))
    }
}

/// Keeps the artefacts of a store in a place from now on.
///
/// # Errors
/// The place cannot be used.
pub fn keep(store: &Store, place: &Place, key: &[u8]) -> AppResult<()> {
    if let Some(objects) = place.open()? {
        let takes_logs = matches!(place, Place::Objects(_));
        store.keep_artefacts(Arc::new(Sealed { objects, key: key.to_owned(), takes_logs }));
    }
    Ok(())
}

/// Objects that nobody else can read, and that are nothing else than what they are called.
struct Sealed {
    objects: Objects,
    key: Vec<u8>,
    takes_logs: bool,
}

fn purpose(name: &str) -> String {
    format!("artefact {name}")
}

fn failed(error: ObjectsError) -> ContentsError {
    ContentsError::Unreachable(error.to_string())
}

#[async_trait::async_trait]
impl Contents for Sealed {
    fn place(&self) -> &str {
        self.objects.place()
    }

    fn takes_logs(&self) -> bool {
        self.takes_logs
    }

    async fn put(&self, name: &str, content: Vec<u8>) -> Result<(), ContentsError> {
        let sealed = plan_file::seal(&content, &self.key, &purpose(name));
        let sealed = sealed.map_err(|error| ContentsError::Unreachable(error.to_string()))?;
        self.objects.put(name, sealed).await.map_err(failed)
    }

    async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, ContentsError> {
        let Some(sealed) = self.objects.get(name).await.map_err(failed)? else { return Ok(None) };
        let content = plan_file::open(&sealed, &self.key, &purpose(name));
        content.map(Some).map_err(|error| ContentsError::Changed(error.to_string()))
    }

    async fn remove(&self, name: &str) -> Result<(), ContentsError> {
        self.objects.remove(name).await.map_err(failed)
    }
}

const SCOPE: &str = "installation";
const KEY: &str = "key";

/// Refuses a key that is not the one this database was written with: with another, nothing that was sealed opens, and every effect
/// looks different from what was reviewed. `accepted` is the fingerprint of one that takes over for good.
///
/// # Errors
/// It is another key; the database cannot be written.
pub async fn same_key(store: &Store, key: &[u8], accepted: Option<&str>) -> AppResult<()> {
    let digest = keyed_digest(key, b"windlass fingerprint of the key v1");
    let fingerprint = digest.get(..16).unwrap_or(&digest).to_owned();
    let known = store.kv_first(SCOPE, KEY, &fingerprint).await?;
    if known == fingerprint {
        return Ok(());
    }
    if accepted == Some(fingerprint.as_str()) {
        store.kv_set(SCOPE, KEY, &fingerprint).await?;
        let data = serde_json::json!({ "from": known, "to": fingerprint });
        store.event_tell("key.replaced", "key", data, crate::installation::ITSELF, None).await?;
        return Ok(());
    }
    let summary =
        format!("the database {} was written with another key ({known}) than this one ({fingerprint})", store.place());
    let diagnostic = Diagnostic::error("WL894", summary)
        .detail("With another key, sealed plans and states do not open, and every effect looks different from what was reviewed.")
        .help(format!("give this server the key of the others, with `key_file` or as `key` in its data directory; where that is lost for good, `accept_key = \"{fingerprint}\"` takes this one"));
    Err(AppError::new(ErrorKind::Conflict, diagnostic))
}

/// The installation's key in a file that somebody else keeps: 32 bytes, or 64 hexadecimal digits.
///
/// # Errors
/// It cannot be read, or is no key.
pub fn key_of(file: &Path) -> AppResult<Vec<u8>> {
    let wrong = |why: &str| {
        let diagnostic = Diagnostic::error("WL895", format!("{} is no key: {why}", file.display()))
            .help("it holds 32 random bytes, or 64 hexadecimal digits as `openssl rand -hex 32` makes them");
        AppError::new(ErrorKind::Usage, diagnostic)
    };
    let bytes = std::fs::read(file).map_err(|error| wrong(&error.to_string()))?;
    if bytes.len() == 32 {
        return Ok(bytes);
    }
    let text = bytes.trim_ascii();
    let digits = text.chunks_exact(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.bytes().all(|b| b.is_ascii_hexdigit()))?;
        u8::from_str_radix(pair, 16).ok()
    });
    match digits.collect::<Option<Vec<u8>>>() {
        Some(key) if text.len() == 64 => Ok(key),
        _ => Err(wrong("it has neither 32 bytes nor 64 hexadecimal digits")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_bytes_or_digits() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("key");
        let check = |content: &[u8], want: Option<&[u8]>| {
            std::fs::write(&file, content).unwrap();
            match (key_of(&file), want) {
                (Ok(key), Some(want)) => assert_eq!(key, want),
                (Err(error), None) => assert_eq!(error.diagnostics[0].code, "WL895"),
                (found, want) => panic!("{found:?} instead of {want:?}"),
            }
        };
        check(&[7; 32], Some(&[7; 32]));
        check(format!("{}\n", "0A".repeat(32)).as_bytes(), Some(&[10; 32]));
        for wrong in [
            &b""[..],
            &[7; 31],
            &[7; 33],
            "0g".repeat(32).as_bytes(),
            "0a".repeat(33).as_bytes(),
            "é".repeat(32).as_bytes(),
        ] {
            check(wrong, None);
        }
        std::fs::remove_file(&file).unwrap();
        assert_eq!(key_of(&file).unwrap_err().diagnostics[0].code, "WL895");
    }

    #[tokio::test]
    async fn a_database_takes_one_key() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("w.db")).await.unwrap();
        let refused = async |key: &[u8], accepted: Option<&str>| {
            let error = same_key(&store, key, accepted).await.err()?;
            Some((error.diagnostics[0].code.clone(), error.diagnostics[0].help.clone().unwrap()))
        };
        assert_eq!(refused(b"one", None).await, None);
        assert_eq!(refused(b"one", None).await, None);
        let (code, help) = refused(b"two", None).await.unwrap();
        assert_eq!(code, "WL894");
        let accepted = help.split('"').nth(1).unwrap();
        assert!(refused(b"three", Some(accepted)).await.is_some(), "another is not what was accepted");
        assert_eq!(refused(b"two", Some(accepted)).await, None);
        assert_eq!(refused(b"two", None).await, None);
        assert!(refused(b"one", Some(accepted)).await.is_some());
        let events = store.event_list(None, 0, 10).await.unwrap();
        assert_eq!(events.iter().map(|event| event.kind.as_str()).collect::<Vec<_>>(), ["key.replaced"]);
    }

    #[tokio::test]
    async fn what_leaves_is_sealed_and_comes_back_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let open = |key: &[u8]| {
            let objects = Objects::directory(&directory.path().join("a")).unwrap();
            Sealed { objects, key: key.to_owned(), takes_logs: true }
        };
        let sealed = open(b"key");
        sealed.put("log/0a", b"what was said".to_vec()).await.unwrap();
        let file = directory.path().join("a/log/0a");
        let written = std::fs::read(&file).unwrap();
        assert!(!written.windows(4).any(|part| part == b"what"));
        assert_eq!(sealed.get("log/0a").await.unwrap().as_deref(), Some(&b"what was said"[..]));
        assert_eq!(sealed.get("log/0b").await.unwrap(), None);
        let is_changed = async |sealed: &Sealed, name: &str| {
            assert!(matches!(sealed.get(name).await, Err(ContentsError::Changed(_))), "{name}");
        };
        is_changed(&open(b"another"), "log/0a").await;
        std::fs::copy(&file, file.with_file_name("0b")).unwrap();
        is_changed(&sealed, "log/0b").await;
        std::fs::write(&file, &written[..written.len() - 1]).unwrap();
        is_changed(&sealed, "log/0a").await;
        sealed.remove("log/0a").await.unwrap();
        assert_eq!(sealed.get("log/0a").await.unwrap(), None);
    }
}
