//! Who has a file: several commands, or one server.

use super::*;

#[tokio::test]
async fn a_server_has_a_file_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.db");
    let (one, two) = (Store::open(&path).await.unwrap(), Store::open(&path).await.unwrap());
    one.kv_set("s", "a", "1").await.unwrap();
    let refused = Store::open_exclusive(&path).await.unwrap_err().to_string();
    assert!(refused.contains("w.db") && refused.contains("other commands of Windlass"), "{refused}");
    one.close().await;
    // What is dropped without being closed goes when its threads have ended, which the server waits for.
    drop(two);
    let server = Store::open_exclusive(&path).await.unwrap();
    assert_eq!(server.kv_get("s", "a").await.unwrap().as_deref(), Some("1"));
    for refused in [Store::open(&path).await, Store::open_exclusive(&path).await] {
        let refused = refused.unwrap_err();
        assert!(matches!(&refused, StoreError::InUse { .. }), "{refused:?}");
        let told = refused.to_string();
        let process = format!("a Windlass server (process {} on ", std::process::id());
        assert!([process.as_str(), " UTC); set WINDLASS_URL"].iter().all(|part| told.contains(part)), "{told}");
    }
    // A clone of it holds it too.
    let project = server.of_project("p");
    drop(server);
    assert!(Store::open(&path).await.is_err());
    project.close().await;
    Store::open(&path).await.unwrap().close().await;
    // What was written about the server that is gone is not told of those that came after it.
    let one = Store::open(&path).await.unwrap();
    assert!(Store::open_exclusive(&path).await.unwrap_err().to_string().contains("other commands"));
    use std::os::unix::fs::PermissionsExt;
    let mode = |name: &str| std::fs::metadata(directory.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("w.db-wal"), mode("w.db-shm")), (0o600, 0o600));
    one.close().await;
    assert_eq!((mode("w.db"), mode("w.db.lock")), (0o600, 0o600));
}
