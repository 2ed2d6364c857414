//! Objects by name: in a directory, in S3 or what speaks like it, in Google Cloud Storage, or in Azure; chosen by a URL. Credentials
//! are found as the tools of each cloud find them: in the environment, or from the machine.

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Location;
use object_store::{ObjectStore, ObjectStoreExt, RetryConfig};
use std::fmt;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// For how long a request that fails is sent again before it is told.
const RETRY: Duration = Duration::from_secs(20);

#[derive(Debug, thiserror::Error)]
pub enum ObjectsError {
    #[error("`{url}` is no place for objects: {why}")]
    Address { url: String, why: String },
    #[error("`{0}` is no name of an object")]
    Name(String),
    #[error("{0}")]
    Failed(String),
}

/// Objects in one place. Cheap to clone.
#[derive(Clone)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    prefix: String,
    place: String,
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects").field("place", &self.place).finish()
    }
}

impl Objects {
    /// Opens `file:///DIRECTORY`, `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX` or `az://CONTAINER/PREFIX`. Nothing is asked yet, except
    /// that a directory is made.
    ///
    /// # Errors
    /// It is none of these, or what the environment says about it is not well formed.
    pub fn open(url: &str) -> Result<Self, ObjectsError> {
        let wrong = |why: String| ObjectsError::Address { url: url.to_owned(), why };
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("it has no scheme such as `s3://`".into()))?;
        if rest.contains(['?', '#', '@']) {
            return Err(wrong("it has more than a name and a prefix".into()));
        }
        if scheme == "file" {
            let path = Path::new(rest);
            return if path.is_absolute() { Self::directory(path) } else { Err(wrong("its path is relative".into())) };
        }
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(wrong("it names no bucket".into()));
        }
        // Whoever was first in this process has said which; any does.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let retry = RetryConfig { retry_timeout: RETRY, ..RetryConfig::default() };
        let failed = |error: object_store::Error| wrong(error.to_string());
        let store: Arc<dyn ObjectStore> = match scheme {
            "s3" => {
                let builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry);
                Arc::new(builder.build().map_err(failed)?)
            }
            "gs" => {
                let builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket).with_retry(retry);
                Arc::new(builder.build().map_err(failed)?)
            }
            "az" => {
                let builder = MicrosoftAzureBuilder::from_env().with_container_name(bucket).with_retry(retry);
                Arc::new(builder.build().map_err(failed)?)
            }
            _ => return Err(wrong("its scheme is none of file, s3, gs and az".into())),
        };
        let prefix = prefix.trim_matches('/');
        Location::parse(prefix).map_err(|error| wrong(error.to_string()))?;
        Ok(Self { store, prefix: prefix.to_owned(), place: url.trim_end_matches('/').to_owned() })
    }

    /// Objects as files below a directory, which is made with mode 0700 where it is missing. What is written is on the disk.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn directory(path: &Path) -> Result<Self, ObjectsError> {
        let url = format!("file://{}", path.display());
        let wrong = |why: String| ObjectsError::Address { url: url.clone(), why };
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|error| wrong(error.to_string()))?;
        let store = LocalFileSystem::new_with_prefix(path).map_err(|error| wrong(error.to_string()))?.with_fsync(true);
        Ok(Self { store: Arc::new(store), prefix: String::new(), place: url.trim_end_matches('/').to_owned() })
    }

    /// Where they are, for people.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// A name is `KIND/ID` of lower-case letters and digits: no way leads out of the place.
    fn location(&self, name: &str) -> Result<Location, ObjectsError> {
        let wrong = || ObjectsError::Name(name.to_owned());
        let plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let (kind, id) = name.split_once('/').ok_or_else(wrong)?;
        if !plain(kind) || !plain(id) {
            return Err(wrong());
        }
        Location::parse(format!("{}/{name}", self.prefix).trim_start_matches('/')).map_err(|_| wrong())
    }

    /// Writes an object, as a whole or not at all.
    ///
    /// # Errors
    /// The place cannot be reached or written.
    pub async fn put(&self, name: &str, content: Vec<u8>) -> Result<(), ObjectsError> {
        let location = self.location(name)?;
        self.store.put(&location, content.into()).await.map(drop).map_err(failed)
    }

    /// Reads an object; `None` when there is none.
    ///
    /// # Errors
    /// The place cannot be reached or read.
    pub async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, ObjectsError> {
        let location = self.location(name)?;
        let found = async { self.store.get(&location).await?.bytes().await };
        match found.await {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Removes an object; one that is not there is removed.
    ///
    /// # Errors
    /// The place cannot be reached or written.
    pub async fn remove(&self, name: &str) -> Result<(), ObjectsError> {
        let location = self.location(name)?;
        match self.store.delete(&location).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    /// Whether objects can be written, read and removed.
    ///
    /// # Errors
    /// They cannot.
    pub async fn check(&self) -> Result<(), ObjectsError> {
        let name = format!("check/{}", std::process::id());
        self.put(&name, b"windlass".to_vec()).await?;
        let found = self.get(&name).await?;
        self.remove(&name).await?;
        match found.as_deref() {
            Some(b"windlass") => Ok(()),
            _ => Err(ObjectsError::Failed("what was written is not what is read".into())),
        }
    }
}

fn failed(error: object_store::Error) -> ObjectsError {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(error) = source {
        let why = error.to_string();
        if !text.contains(&why) {
            text = format!("{text}: {why}");
        }
        source = error.source();
    }
    ObjectsError::Failed(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_testkit::s3::S3;

    async fn keeps_and_forgets(objects: &Objects) {
        objects.check().await.unwrap();
        assert_eq!(objects.get("plan/0a").await.unwrap(), None);
        for content in [&b"one"[..], b"", &[0, 255, b'\n']] {
            objects.put("plan/0a", content.to_vec()).await.unwrap();
            assert_eq!(objects.get("plan/0a").await.unwrap().as_deref(), Some(content));
        }
        objects.put("state/0a", b"another".to_vec()).await.unwrap();
        for _ in 0..2 {
            objects.remove("plan/0a").await.unwrap();
            assert_eq!(objects.get("plan/0a").await.unwrap(), None);
        }
        assert_eq!(objects.get("state/0a").await.unwrap().as_deref(), Some(&b"another"[..]));
        for name in [
            "",
            "plan",
            "plan/",
            "/0a",
            "plan/../0a",
            "../plan/0a",
            "plan/..",
            "plan/a/b",
            "plan/0A",
            "plan/%2e",
            "plan/a\\b",
            "plan/é",
        ] {
            let refused = [
                objects.put(name, b"x".to_vec()).await.err(),
                objects.get(name).await.err(),
                objects.remove(name).await.err(),
            ];
            assert!(refused.iter().all(|error| matches!(error, Some(ObjectsError::Name(_)))), "{name}: {refused:?}");
        }
    }

    #[tokio::test]
    async fn a_directory_keeps_objects_in_itself() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/objects");
        let url = format!("file://{}", path.display());
        let objects = Objects::open(&url).unwrap();
        assert_eq!(objects.place(), url);
        keeps_and_forgets(&objects).await;
        assert_eq!(std::fs::read(path.join("state/0a")).unwrap(), b"another");
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o700);
        std::fs::write(directory.path().join("file"), "x").unwrap();
        assert!(Objects::directory(&directory.path().join("file/below")).is_err());
    }

    #[tokio::test]
    async fn a_bucket_keeps_objects_under_its_prefix() {
        let server = tokio::task::spawn_blocking(S3::start).await.unwrap().unwrap();
        let at = server.endpoint().to_owned();
        let of = move |bucket: &str, url: &str| {
            let settings = [("aws_access_key_id", "a"), ("aws_secret_access_key", "b"), ("aws_region", "us-east-1")];
            let builder = AmazonS3Builder::new().with_bucket_name(bucket).with_endpoint(&at).with_allow_http(true);
            let builder = settings.iter().fold(builder, |builder, (key, value)| match key.parse() {
                Ok(key) => builder.with_config(key, *value),
                Err(_) => builder,
            });
            let retry = RetryConfig { max_retries: 1, ..RetryConfig::default() };
            let store = Arc::new(builder.with_retry(retry).build().unwrap());
            Objects { store, prefix: "team/windlass".into(), place: url.into() }
        };
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (bucket, missing) = (server.bucket().to_owned(), "no-such-bucket");
        keeps_and_forgets(&of(&bucket, "s3://b/team/windlass")).await;
        let error = of(missing, "s3://no-such-bucket").put("plan/0a", b"x".to_vec()).await.unwrap_err();
        assert!(error.to_string().contains("NoSuchBucket"), "{error}");
        tokio::task::spawn_blocking(move || drop(server)).await.unwrap();
        let error = of(&bucket, "s3://b").get("plan/0a").await.unwrap_err();
        assert!(matches!(error, ObjectsError::Failed(_)), "{error}");
    }

    #[test]
    fn what_is_no_place_is_refused() {
        let check = |url: &str, want: &str| {
            let error = Objects::open(url).unwrap_err().to_string();
            assert!(error.contains(url) && error.contains(want), "{url}: {error}");
        };
        check("bucket", "no scheme");
        check("file://relative", "relative");
        check("s3://", "no bucket");
        check("s3:///prefix", "no bucket");
        check("http://example.com/x", "none of");
        check("s3://key:secret@bucket/x", "more than");
        check("s3://bucket/x?region=y", "more than");
        check("s3://bucket/a//b", "");
        check("s3://bucket/../b", "");
    }
}
