//! With the real git, over paths, HTTP with a password, and git's own protocol.

use super::*;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

fn sh(directory: &Path, arguments: &[&str]) -> String {
    let output = command(directory)
        .args(["-c", "user.name=Dev", "-c", "user.email=dev@example.com", "-c", "commit.gpgsign=false"])
        .args(["-c", "protocol.file.allow=always"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    text(output.stdout)
}

struct Upstream {
    directory: tempfile::TempDir,
}

impl Upstream {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        sh(directory.path(), &["init", "-q", "-b", "main"]);
        let upstream = Self { directory };
        upstream.commit("a.txt", "1");
        upstream
    }
    fn path(&self) -> &Path {
        self.directory.path()
    }
    fn url(&self) -> String {
        self.path().display().to_string()
    }
    fn git(&self, arguments: &[&str]) -> String {
        sh(self.path(), arguments)
    }
    fn commit(&self, path: &str, content: &str) -> String {
        std::fs::write(self.path().join(path), content).unwrap();
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", "change"]);
        self.git(&["rev-parse", "HEAD"])
    }
}

struct Copy {
    _directory: tempfile::TempDir,
    mirror: Mirror,
}

fn copy_with(remote: Remote) -> Copy {
    let directory = tempfile::tempdir().unwrap();
    let mirror = Mirror::open(&directory.path().join("m"), remote).unwrap();
    Copy { _directory: directory, mirror }
}

fn fetched(mirror: &Mirror) -> Vec<(String, bool, bool)> {
    let moved = mirror.fetch().unwrap().moved;
    moved.into_iter().map(|moved| (moved.name, moved.old.is_some(), moved.new.is_some())).collect()
}

fn row(name: &str, old: bool, new: bool) -> (String, bool, bool) {
    (name.to_owned(), old, new)
}

#[test]
fn what_moves_at_the_remote_moves_here() {
    let upstream = Upstream::new();
    let first = upstream.git(&["rev-parse", "HEAD"]);
    let copy = copy_with(Remote { references: vec!["refs/pull/*/head".into()], ..Remote::new(upstream.url()) });
    let mirror = &copy.mirror;
    assert_eq!(mirror.default_branch(), None);
    assert_eq!(fetched(mirror), [row("refs/heads/main", false, true)]);
    assert_eq!(mirror.default_branch().as_deref(), Some("main"));
    assert_eq!(fetched(mirror), []);
    let second = upstream.commit("a.txt", "2");
    upstream.git(&["branch", "topic"]);
    upstream.git(&["tag", "v1"]);
    upstream.git(&["update-ref", "refs/pull/7/head", &first]);
    upstream.git(&["update-ref", "refs/other/x", &first]);
    let new =
        [("refs/heads/main", true), ("refs/heads/topic", false), ("refs/pull/7/head", false), ("refs/tags/v1", false)];
    assert_eq!(fetched(mirror), new.map(|(name, old)| row(name, old, true)));
    assert_eq!(
        mirror.branches().unwrap(),
        [("main", &second), ("topic", &second)].map(|(n, c)| (n.into(), c.clone())).into()
    );
    // Forced back, deleted, and a name that was a branch is the directory of one.
    upstream.git(&["reset", "-q", "--hard", &first]);
    upstream.git(&["branch", "-D", "topic"]);
    upstream.git(&["branch", "topic/x"]);
    let moved = [
        row("refs/heads/main", true, true),
        row("refs/heads/topic", true, false),
        row("refs/heads/topic/x", false, true),
    ];
    assert_eq!(fetched(mirror), moved);
    assert_eq!(mirror.commit("refs/heads/main"), Some(first));
    // What no branch has any more is still here, for checkouts of it.
    assert_eq!(mirror.commit(&second), Some(second));
}

#[test]
fn a_remote_that_is_gone_loses_nothing_and_may_come_back() {
    let upstream = Upstream::new();
    let copy = copy_with(Remote::new(upstream.url()));
    copy.mirror.fetch().unwrap();
    let (place, away) = (upstream.path().join(".git"), upstream.path().join("away"));
    std::fs::rename(&place, &away).unwrap();
    let error = copy.mirror.fetch().unwrap_err();
    assert!(matches!(error, MirrorError::Fetch { .. }) && error.diagnostic().code == "WL831", "{error}");
    assert_eq!(copy.mirror.branches().unwrap().len(), 1);
    std::fs::rename(&away, &place).unwrap();
    assert_eq!(fetched(&copy.mirror), []);
}

#[test]
fn addresses_that_hold_secrets_or_run_programs_are_refused() {
    let check = |url: &str, wanted: Option<&str>| {
        let found = Remote::new(url).check().err().map(|error| error.to_string());
        assert_eq!(found.is_some(), wanted.is_some(), "{url}: {found:?}");
        assert!(found.as_deref().unwrap_or_default().contains(wanted.unwrap_or_default()), "{url}: {found:?}");
        assert!(!found.unwrap_or_default().contains("s3cret"), "{url}");
    };
    for url in ["https://h/a.git", "ssh://git@h:22/a", "git@h:a.git", "/a/b", "../a", "file:///a", "git://h/a"] {
        check(url, None);
    }
    check("https://s3cret@h/a", Some("h holds a user or password"));
    check("https://u:s3cret@h/a", Some("h holds a user or password"));
    check("ssh://git:s3cret@h/a", Some("h holds a user or password"));
    check("ext::sh -c x", Some("helper programs"));
    check("ext://x", Some("`ext`"));
    check("--upload-pack=x", Some("no address"));
    check("", Some("missing"));
    for (reference, good) in
        [("refs/pull/*/head", true), ("pull/*", false), ("refs/heads/*", false), ("refs/a:b", false)]
    {
        let remote = Remote { references: vec![reference.into()], ..Remote::new("/a") };
        assert_eq!(remote.check().is_ok(), good, "{reference}");
    }
}

#[test]
fn a_killed_fetch_leaves_a_usable_copy() {
    let upstream = Upstream::new();
    let copy = copy_with(Remote::new(upstream.url()));
    let mirror = &copy.mirror;
    mirror.fetch().unwrap();
    let wanted = upstream.commit("big.txt", &"x".repeat(1 << 20));
    // A remote that answers and then hangs: the fetch is killed, with its group, in the middle.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/r.git", listener.local_addr().unwrap());
    let hang = std::thread::spawn(move || listener.accept().map(|(stream, _)| stream));
    let hanging = Remote { timeout: Duration::from_millis(300), ..Remote::new(url) };
    let hanging = Mirror::open(&mirror.directory, hanging).unwrap();
    let error = hanging.fetch().unwrap_err();
    assert!(matches!(error, MirrorError::TimedOut { .. }), "{error}");
    drop(hang.join().unwrap());
    // What a git leaves that was killed at its worst moments.
    for file in ["packed-refs.lock", "HEAD.lock", "shallow.lock", "refs/heads/main.lock", "objects/pack/tmp_pack_x"] {
        let path = mirror.git.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }
    assert_eq!(fetched(mirror), [row("refs/heads/main", true, true)]);
    assert_eq!(mirror.commit("refs/heads/main"), Some(wanted));
    assert!(!mirror.git.join("objects/pack/tmp_pack_x").exists());
}

#[test]
fn many_fetch_at_once() {
    let upstream = Upstream::new();
    let copy = copy_with(Remote::new(upstream.url()));
    for number in 0..3 {
        let wanted = upstream.commit("a.txt", &format!("change {number}"));
        let others: Vec<Mirror> =
            (0..3).map(|_| Mirror::open(&copy.mirror.directory, copy.mirror.remote.clone()).unwrap()).collect();
        let told: usize = std::thread::scope(|scope| {
            let fetches: Vec<_> = others.iter().map(|one| scope.spawn(|| one.fetch().unwrap().moved.len())).collect();
            fetches.into_iter().map(|fetch| fetch.join().unwrap()).sum()
        });
        assert_eq!((told, copy.mirror.commit("refs/heads/main")), (1, Some(wanted)));
    }
    let held = copy.mirror.lock(Instant::now()).unwrap();
    let hasty = Remote { timeout: Duration::ZERO, ..copy.mirror.remote.clone() };
    let error = Mirror::open(&copy.mirror.directory, hasty).unwrap().fetch().unwrap_err();
    assert!(matches!(error, MirrorError::Busy(_)), "{error}");
    drop(held);
}

/// Serves the files of a bare repository to who has the password; tells what was sent.
fn serve(root: PathBuf, password: &'static str) -> (String, Arc<Mutex<Vec<String>>>) {
    use base64::Engine;
    let wanted = base64::engine::general_purpose::STANDARD.encode(format!("x-access-token:{password}"));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/r.git", listener.local_addr().unwrap());
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = seen.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (root, wanted, log) = (root.clone(), wanted.clone(), log.clone());
            std::thread::spawn(move || answer(stream.unwrap(), &root, &wanted, &log));
        }
    });
    (url, seen)
}

/// The processes below one, of this machine's table.
fn children(of: u32) -> Vec<u32> {
    let table = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let process: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        // The name before it may hold anything but ends with the last parenthesis.
        Some((process, stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?))
    });
    let table: Vec<(u32, u32)> = table.collect();
    let mut found = vec![of];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        found.extend(table.iter().filter(|(_, above)| *above == parent).map(|(process, _)| *process));
        at += 1;
    }
    found.split_off(1)
}

fn answer(mut stream: TcpStream, root: &Path, wanted: &str, log: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let request = lines.next().unwrap().unwrap();
    let headers: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    // While git runs, its and its helpers' command lines and environments are what its user may look at.
    for process in children(std::process::id()) {
        for file in ["cmdline", "environ"] {
            let text = std::fs::read(format!("/proc/{process}/{file}")).unwrap_or_default();
            log.lock().unwrap().push(String::from_utf8_lossy(&text).into_owned());
        }
    }
    let path = request.split(' ').nth(1).unwrap().split('?').next().unwrap().trim_start_matches("/r.git/");
    let allowed =
        headers.iter().any(|line| line.to_lowercase().starts_with("authorization: ") && line.ends_with(wanted));
    let (status, body) = match std::fs::read(root.join(path)) {
        _ if !allowed => ("401 No\r\nWWW-Authenticate: Basic realm=\"r\"", Vec::new()),
        Ok(body) => ("200 OK", body),
        Err(_) => ("404 Not Found", Vec::new()),
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
}

#[test]
fn a_token_lets_in_and_is_seen_nowhere() {
    const TOKEN: &str = "s3cret-of-the-mirror";
    let upstream = Upstream::new();
    let bare = tempfile::tempdir().unwrap();
    sh(upstream.path(), &["clone", "-q", "--bare", ".", &bare.path().display().to_string()]);
    sh(bare.path(), &["update-server-info"]);
    let (url, seen) = serve(bare.path().to_owned(), TOKEN);
    let file = bare.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let token = |secret| Some(Credentials::Token { username: "x-access-token".into(), secret });
    let remote = Remote { credentials: token(Secret::File(file.clone())), ..Remote::new(url.clone()) };
    let copy = copy_with(remote.clone());
    assert_eq!(fetched(&copy.mirror), [row("refs/heads/main", false, true)]);
    assert_eq!(copy.mirror.default_branch().as_deref(), Some("main"));
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    assert!(seen.iter().any(|text| text.contains("remote-http")), "the look at processes saw no git");
    assert!(!seen.iter().any(|text| text.contains(TOKEN)));
    let config = std::fs::read_to_string(copy.mirror.git.join("config")).unwrap();
    assert!(!config.contains(TOKEN) && !format!("{remote:?}").contains(TOKEN));
    // Another one is refused, and not repeated; nor is one given to another host.
    std::fs::write(&file, "wr0ng-one").unwrap();
    let error = copy.mirror.fetch().unwrap_err();
    assert!(matches!(error, MirrorError::Fetch { .. }) && !format!("{error:?}").contains("wr0ng"), "{error}");
    let missing = Remote { credentials: token(Secret::File("/nonexistent/t".into())), ..remote };
    let error = copy_with(missing).mirror.fetch().unwrap_err();
    assert_eq!(error.diagnostic().code, "WL832", "{error}");
}

#[test]
fn those_that_make_room_at_once_do_not_take_each_other_for_users() {
    let upstream = Upstream::new();
    let commits: Vec<String> = (0..6).map(|n| upstream.commit("b.txt", &format!("change {n}"))).collect();
    let copy = copy_with(Remote::new(upstream.url()));
    copy.mirror.fetch().unwrap();
    // As many as use one at once, so that each of them has to make room.
    let limits = Limits { free: 0, count: 3, ..Limits::default() };
    std::thread::scope(|scope| {
        for first in 0..3 {
            let (mirror, commits, limits) = (&copy.mirror, &commits, &limits);
            scope.spawn(move || {
                for commit in commits.iter().cycle().skip(first * 2).take(18) {
                    drop(mirror.checkout(commit, None, limits).unwrap());
                }
            });
        }
    });
}

#[test]
fn a_checkout_is_a_repository_of_exactly_one_commit() {
    let upstream = Upstream::new();
    let base = upstream.git(&["rev-parse", "HEAD"]);
    upstream.git(&["switch", "-q", "-c", "feature/x"]);
    let change = upstream.commit("b.txt", "change");
    upstream.git(&["switch", "-q", "main"]);
    upstream.commit("c.txt", "main goes on");
    let copy = copy_with(Remote::new(upstream.url()));
    copy.mirror.fetch().unwrap();
    let limits = Limits { free: 0, ..Limits::default() };
    let tree = copy.mirror.checkout(&change, Some("feature/x"), &limits).unwrap();
    let look = |tree: &WorkTree| {
        let git = GitRepository::open(tree.path()).unwrap();
        assert_eq!(git.current_branch().as_deref(), Some("feature/x"));
        assert_eq!(git.default_branch().as_deref(), Some("origin/main"));
        assert_eq!(git.merge_base("origin/main", "HEAD").unwrap(), base);
        assert_eq!(git.authors(&base, "HEAD").unwrap(), ["Dev <dev@example.com>"]);
        assert_eq!(git.status().unwrap(), (change.clone(), vec![]));
        assert!(git.tree("origin/main").is_ok() && git.work_tree().is_ok());
        assert_eq!(std::fs::read_to_string(tree.path().join("b.txt")).unwrap(), "change");
    };
    look(&tree);
    // One that is in use is nobody else's, and stays.
    let other = copy.mirror.checkout(&change, None, &limits).unwrap();
    assert_ne!(other.path(), tree.path());
    assert_eq!(GitRepository::open(other.path()).unwrap().current_branch(), None);
    let nothing = Limits { idle: Duration::ZERO, count: 0, bytes: 0, free: 0 };
    assert_eq!(copy.mirror.prune(&nothing).unwrap().removed, Vec::<String>::new());
    assert!(copy.mirror.reopen(tree.name()).unwrap().is_none());
    let error = copy.mirror.checkout(&base, None, &Limits { count: 2, ..limits }).unwrap_err();
    assert!(matches!(error, MirrorError::Full(_)) && error.diagnostic().code == "WL834", "{error}");
    let error = copy.mirror.checkout(&base, None, &Limits { free: u64::MAX, ..limits }).unwrap_err();
    assert!(error.to_string().contains("are free"), "{error}");
    // Used again, it is clean; damaged, it is made again.
    let (name, path) = (tree.name().to_owned(), tree.path().to_owned());
    for damage in ["", "b.txt", ".git/HEAD", ".git/index", ".git/objects/info/alternates"] {
        std::fs::write(path.join("left.txt"), "x").unwrap();
        std::fs::write(path.join(damage).with_extension("lock"), "").unwrap_or_default();
        if !damage.is_empty() {
            std::fs::write(path.join(damage), "rubbish").unwrap();
        }
        drop(copy.mirror.reopen(&name));
    }
    drop(tree);
    assert!(copy.mirror.reopen(&name).unwrap().is_none(), "its HEAD is rubbish");
    let again = copy.mirror.checkout(&change, Some("feature/x"), &limits).unwrap();
    assert_eq!(again.name(), name);
    look(&again);
    drop((again, other));
    assert_eq!(copy.mirror.reopen(&name).unwrap().unwrap().commit(), change);
    let pruned = copy.mirror.prune(&nothing).unwrap();
    assert_eq!((pruned.removed.len(), pruned.count, pruned.bytes), (2, 0, 0));
    assert!(!path.exists());
}

#[test]
fn a_checkout_has_the_references_of_the_last_fetch_and_no_other() {
    let upstream = Upstream::new();
    let commit = upstream.git(&["rev-parse", "HEAD"]);
    upstream.git(&["tag", "-a", "-m", "first", "v1"]);
    upstream.git(&["branch", "a"]);
    upstream.git(&["branch", "old/name"]);
    let copy = copy_with(Remote::new(upstream.url()));
    copy.mirror.fetch().unwrap();
    let limits = Limits { free: 0, ..Limits::default() };
    let references = |tree: &WorkTree| sh(tree.path(), &["for-each-ref", "--format=%(refname) %(objecttype)"]);
    let tree = copy.mirror.checkout(&commit, Some("work"), &limits).unwrap();
    let first = "refs/heads/work commit\nrefs/remotes/origin/HEAD commit\nrefs/remotes/origin/a commit\n\
                 refs/remotes/origin/main commit\nrefs/remotes/origin/old/name commit\nrefs/tags/v1 tag";
    assert_eq!(references(&tree), first);
    assert_eq!(sh(tree.path(), &["describe"]), "v1");
    assert_eq!(sh(tree.path(), &["rev-parse", "v1^{commit}"]), commit);
    assert!(
        !tree.path().join(".git/refs/remotes/origin/a").exists(),
        "one file for each takes long where there are thousands"
    );
    // Somebody moved one here, and a branch has the name of what was a folder of branches.
    sh(tree.path(), &["update-ref", "refs/remotes/origin/mine", &commit]);
    sh(tree.path(), &["tag", "mine"]);
    let name = tree.name().to_owned();
    drop(tree);
    upstream.git(&["branch", "-D", "a", "old/name"]);
    upstream.git(&["branch", "old"]);
    copy.mirror.fetch().unwrap();
    let tree = copy.mirror.checkout(&commit, None, &limits).unwrap();
    assert_eq!(tree.name(), name, "it is used again");
    let second = "refs/remotes/origin/HEAD commit\nrefs/remotes/origin/main commit\nrefs/remotes/origin/old commit\nrefs/tags/v1 tag";
    assert_eq!(references(&tree), second);
    sh(tree.path(), &["fsck", "--connectivity-only"]);
}

#[test]
fn what_a_checkout_takes_is_looked_at_after_it_was_used() {
    let upstream = Upstream::new();
    let commit = upstream.git(&["rev-parse", "HEAD"]);
    let copy = copy_with(Remote::new(upstream.url()));
    copy.mirror.fetch().unwrap();
    let limits = Limits { free: 0, ..Limits::default() };
    drop(copy.mirror.checkout(&commit, None, &limits).unwrap());
    let small = copy.mirror.prune(&limits).unwrap().bytes;
    let tree = copy.mirror.checkout(&commit, None, &limits).unwrap();
    std::fs::create_dir_all(tree.path().join(".windlass")).unwrap();
    std::fs::write(tree.path().join(".windlass/plan"), vec![1; 1 << 20]).unwrap();
    drop(tree);
    assert!(copy.mirror.prune(&limits).unwrap().bytes >= small + (1 << 20));
    let pruned = copy.mirror.prune(&Limits { bytes: 1 << 20, ..limits }).unwrap();
    assert_eq!((pruned.removed.len(), pruned.bytes), (1, 0));
}

#[test]
fn a_damaged_checkout_is_not_taken_for_the_repository_that_it_lies_in() {
    let upstream = Upstream::new();
    let commit = upstream.git(&["rev-parse", "HEAD"]);
    let around = Upstream::new();
    std::fs::write(around.path().join("a.txt"), "not committed").unwrap();
    let mirror = Mirror::open(&around.path().join("data"), Remote::new(upstream.url())).unwrap();
    mirror.fetch().unwrap();
    let limits = Limits { free: 0, ..Limits::default() };
    let tree = mirror.checkout(&commit, None, &limits).unwrap();
    let (name, path) = (tree.name().to_owned(), tree.path().to_owned());
    drop(tree);
    std::fs::remove_file(path.join(".git/HEAD")).unwrap();
    assert!(mirror.reopen(&name).unwrap().is_none());
    let tree = mirror.checkout(&commit, None, &limits).unwrap();
    assert_eq!((tree.path(), sh(&path, &["rev-parse", "HEAD"])), (path.as_path(), commit));
    assert_eq!(std::fs::read_to_string(around.path().join("a.txt")).unwrap(), "not committed");
}

/// `git daemon` over the repositories below a directory; ended when dropped.
struct Daemon(std::process::Child, String);

impl Daemon {
    fn start(root: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut daemon = command(root);
        daemon.args(["daemon", "--export-all", "--reuseaddr", "--listen=127.0.0.1", &format!("--port={port}")]);
        daemon.arg(format!("--base-path={}", root.display())).arg(root).process_group(0).stderr(Stdio::null());
        let daemon = Self(daemon.spawn().unwrap(), format!("git://127.0.0.1:{port}"));
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "git daemon does not answer");
            std::thread::sleep(Duration::from_millis(10));
        }
        daemon
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // `git daemon` is a child of `git`.
        let group = nix::unistd::Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

#[test]
fn submodules_are_checked_out_with_it() {
    let root = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(root.path());
    for name in ["modules", "top"] {
        let path = root.path().join(name);
        std::fs::create_dir(&path).unwrap();
        sh(&path, &["init", "-q", "-b", "main"]);
        std::fs::write(path.join("own.txt"), name).unwrap();
        if name == "top" {
            // As its address says, beside this one.
            let absolute = format!("{}/modules", daemon.1);
            sh(&path, &["submodule", "--quiet", "add", &absolute, "inner"]);
            sh(&path, &["config", "-f", ".gitmodules", "submodule.inner.url", "../modules"]);
        }
        sh(&path, &["add", "-A"]);
        sh(&path, &["commit", "-q", "-m", "first"]);
    }
    let limits = Limits { free: 0, ..Limits::default() };
    let remote = Remote::new(format!("{}/top", daemon.1));
    for submodules in [true, false] {
        let copy = copy_with(Remote { submodules, ..remote.clone() });
        copy.mirror.fetch().unwrap();
        for _ in 0..2 {
            let tree = copy.mirror.checkout("refs/heads/main", Some("main"), &limits).unwrap();
            let inner = std::fs::read_to_string(tree.path().join("inner/own.txt")).ok();
            assert_eq!(inner.as_deref(), submodules.then_some("modules"));
            std::fs::write(tree.path().join("inner/left.txt"), "x").unwrap();
        }
    }
}

#[test]
fn a_shallow_remote_is_copied_as_far_as_it_goes() {
    let upstream = Upstream::new();
    upstream.commit("a.txt", "2");
    let wanted = upstream.commit("a.txt", "3");
    let shallow = tempfile::tempdir().unwrap();
    let url = format!("file://{}", upstream.path().display());
    sh(shallow.path(), &["clone", "-q", "--depth=2", &url, "clone"]);
    let copy = copy_with(Remote::new(shallow.path().join("clone").display().to_string()));
    assert_eq!(fetched(&copy.mirror), [row("refs/heads/main", false, true)]);
    let tree = copy.mirror.checkout(&wanted, None, &Limits { free: 0, ..Limits::default() }).unwrap();
    let git = GitRepository::open(tree.path()).unwrap();
    assert!(git.is_shallow());
    assert_eq!(sh(tree.path(), &["rev-list", "--count", "HEAD"]), "2");
}

#[test]
fn a_large_repository_is_checked_out_many_times_at_once() {
    let upstream = Upstream::new();
    for directory in 0..100 {
        let path = upstream.path().join(format!("d{directory}"));
        std::fs::create_dir(&path).unwrap();
        for file in 0..100 {
            std::fs::write(path.join(format!("f{file}.tf")), format!("# {directory} {file}\n")).unwrap();
        }
    }
    let wanted = upstream.commit("a.txt", "2");
    let copy = copy_with(Remote::new(upstream.url()));
    copy.mirror.fetch().unwrap();
    let limits = Limits { free: 0, ..Limits::default() };
    let start = Instant::now();
    let trees: Vec<WorkTree> = std::thread::scope(|scope| {
        let some: Vec<_> =
            (0..3).map(|_| scope.spawn(|| copy.mirror.checkout(&wanted, Some("main"), &limits).unwrap())).collect();
        some.into_iter().map(|one| one.join().unwrap()).collect()
    });
    // Three of 10,000 files each; generous, as the machine may be busy with other tests.
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    let names: std::collections::BTreeSet<&str> = trees.iter().map(WorkTree::name).collect();
    assert_eq!(names.len(), 3);
    assert!(trees.iter().all(|tree| tree.path().join("d99/f99.tf").exists()));
}

#[test]
fn a_git_killed_while_objects_come_is_an_error_and_no_more() {
    let upstream = Upstream::new();
    upstream.git(&["update-server-info"]);
    let root = upstream.path().join(".git");
    // References are told; the first object never comes.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/r.git", listener.local_addr().unwrap());
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let request = BufReader::new(stream.try_clone().unwrap()).lines().next().unwrap().unwrap();
            let path = request.split(' ').nth(1).unwrap().split('?').next().unwrap().trim_start_matches("/r.git/");
            if path.starts_with("objects/") {
                sender.send(stream).unwrap();
                continue;
            }
            let body = std::fs::read(root.join(path)).unwrap();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).unwrap();
        }
    });
    let copy = copy_with(Remote::new(url.clone()));
    let error = std::thread::scope(|scope| {
        let fetch = scope.spawn(|| copy.mirror.fetch().unwrap_err());
        let _held = receiver.recv_timeout(Duration::from_secs(30)).unwrap();
        for process in children(std::process::id()) {
            let command = std::fs::read_to_string(format!("/proc/{process}/cmdline")).unwrap_or_default();
            if command.contains(&url) {
                let process = nix::unistd::Pid::from_raw(i32::try_from(process).unwrap());
                let _ = nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGKILL);
            }
        }
        fetch.join().unwrap()
    });
    assert!(matches!(error, MirrorError::Fetch { .. }), "{error:?}");
    let same = Mirror::open(&copy.mirror.directory, Remote::new(upstream.url())).unwrap();
    assert_eq!(fetched(&same), [row("refs/heads/main", false, true)]);
}
