//! With the real git.

use super::*;
use crate::bundles::Fetch;
use crate::settings::StateDirectory;
use windlass_testkit::git::Git;

const STACK: &str = "terraform {\n  backend \"local\" {}\n}\nresource \"terraform_data\" \"x\" {}\n";

struct Upstream {
    directory: tempfile::TempDir,
    git: Git,
}

impl Upstream {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let git = Git::init(directory.path()).unwrap();
        let upstream = Self { directory, git };
        upstream.commit("a/main.tf", STACK);
        upstream
    }
    fn commit(&self, path: &str, content: &str) -> String {
        let place = self.directory.path().join(path);
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::fs::write(place, content).unwrap();
        self.git.run(&["add", "-A"]).unwrap();
        self.git.commit(("Dev", "dev@example.com"), "2026-01-01T00:00:00Z", content).unwrap();
        self.head()
    }
    fn head(&self) -> String {
        self.git.run(&["rev-parse", "HEAD"]).unwrap().trim().to_owned()
    }
    fn repository(&self, name: &str) -> Repository {
        Repository::new(name, self.directory.path().display().to_string())
    }
}

fn open(directory: &Path, repositories: &[Repository]) -> AppResult<Followed> {
    let bundles = Bundles::new(&StateDirectory::at(Path::new("/nonexistent")), Fetch::Never);
    let loader = Loader { bundles, limits: Limits::default() };
    Followed::open(directory, repositories, loader, WorkTreeLimits::default())
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Commits that are good and bad, and whether fetching fails.
fn shape(status: &Status) -> (Option<&str>, Option<&str>, Option<&str>) {
    let failure = status.failure.as_ref().map(|failure| failure.diagnostic.code.as_str());
    (status.good.as_ref().map(|g| g.commit.as_str()), status.bad.as_ref().map(|b| b.commit.as_str()), failure)
}

#[tokio::test]
async fn the_last_good_definitions_stay_until_there_are_better_ones() {
    let (upstream, data) = (Upstream::new(), tempfile::tempdir().unwrap());
    let first = upstream.head();
    let repositories = [upstream.repository("infra")];
    let followed = open(data.path(), &repositories).unwrap();
    let mut news = followed.subscribe();
    assert_eq!(shape(&followed.status("infra").unwrap()), (None, None, None));
    let status = followed.refresh("infra", at(1)).await.unwrap();
    assert_eq!((shape(&status), status.branch.as_deref()), ((Some(&*first), None, None), Some("main")));
    let good = status.good.clone().unwrap();
    assert_eq!((good.project.repository.stacks.len(), good.at, status.fetched), (1, at(1), Some(at(1))));
    let told = news.try_recv().unwrap();
    assert!(told.first && told.moved.len() == 1 && told.moved[0].old.is_none());
    assert_eq!(told.definitions, Some(Turn::Good { old: None, new: first.clone() }));
    // Nothing moved: nothing is told.
    followed.refresh("infra", at(2)).await.unwrap();
    assert!(news.try_recv().is_err());

    for (second, broken) in [(3, "team {\n"), (4, "policy \"p\" {\n  paths = [\"none\"]\n}\n")] {
        let bad = upstream.commit("windlass.hcl", broken);
        let status = followed.refresh("infra", at(second)).await.unwrap();
        assert_eq!(shape(&status), (Some(&*first), Some(&*bad), None), "{broken}");
        assert!(has_errors(&status.bad.as_ref().unwrap().diagnostics));
        let told = news.try_recv().unwrap();
        assert_eq!(told.definitions, Some(Turn::Bad { kept: Some(first.clone()), commit: bad.clone() }));
        assert!(!told.first);
        // Looked at again, and told once.
        let again = followed.refresh("infra", at(9)).await.unwrap();
        assert_eq!((again.bad.as_ref().unwrap().at, news.try_recv().is_err()), (at(second), true));
    }
    // A restart with a bad commit on top, and without the remote, has the last good one.
    let git = upstream.directory.path().join(".git");
    std::fs::rename(&git, git.with_extension("away")).unwrap();
    let restarted = open(data.path(), &repositories).unwrap();
    let status = restarted.refresh("infra", at(10)).await.unwrap();
    assert_eq!(shape(&status), (Some(&*first), None, Some("WL831")));
    assert_eq!((status.good.as_ref().unwrap().at, status.failure.as_ref().unwrap().count), (at(1), 1));
    assert_eq!(restarted.refresh("infra", at(11)).await.unwrap().failure.as_ref().unwrap().count, 2);
    std::fs::rename(git.with_extension("away"), &git).unwrap();
    let better = upstream.commit("windlass.hcl", "team \"sre\" {\n  members = [\"email:a@example.com\"]\n}\n");
    let status = restarted.refresh("infra", at(12)).await.unwrap();
    assert_eq!(status.bad, None);
    assert_eq!(shape(&status), (Some(&*better), None, None));
    assert_eq!(status.good.as_ref().unwrap().deciding.definitions.teams.len(), 1);
    // Forced back to what was good before.
    upstream.git.run(&["reset", "--quiet", "--hard", &first]).unwrap();
    assert_eq!(shape(&restarted.refresh("infra", at(13)).await.unwrap()), (Some(&*first), None, None));
    // Its branch is gone, and another repository of that name decides nothing by what this one said.
    upstream.git.run(&["branch", "-m", "trunk"]).unwrap();
    let named = Repository { branch: Some("main".into()), ..repositories[0].clone() };
    let gone = open(data.path(), std::slice::from_ref(&named)).unwrap();
    assert_eq!(shape(&gone.refresh("infra", at(14)).await.unwrap()), (Some(&*first), None, Some("WL833")));
    let other = open(data.path(), &[Upstream::new().repository("infra")]).unwrap();
    assert_eq!(shape(&other.status("infra").unwrap()), (None, None, None));
    assert_eq!(other.refresh("infro", at(1)).await.err().unwrap().kind, ErrorKind::NotFound);
}

async fn until(mut predicate: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !predicate() {
        assert!(Instant::now() < deadline, "it did not come about");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_is_followed_can_change() {
    let (one, two, data) = (Upstream::new(), Upstream::new(), tempfile::tempdir().unwrap());
    let newer = two.commit("b/main.tf", STACK);
    let followed = Arc::new(open(data.path(), &[one.repository("one")]).unwrap());
    let cancel = CancellationToken::new();
    let running = tokio::spawn(followed.clone().run(cancel.clone()));
    let good = |name: &str| Some(followed.status(name)?.good.as_ref()?.commit.clone());
    until(|| good("one") == Some(one.head())).await;
    let mirror = followed.mirror("one").unwrap();
    followed.change(&[one.repository("one"), two.repository("two")]).unwrap();
    until(|| good("two") == Some(newer.clone())).await;
    assert!(Arc::ptr_eq(&mirror, &followed.mirror("one").unwrap()), "what is as it was goes on");
    let wrong = followed.change(&[Repository::new("no name", "/nowhere")]).err().unwrap();
    assert_eq!((wrong.kind, followed.list().len()), (ErrorKind::Usage, 2), "all is as it was");
    // Another one of that name; and one that is followed no more.
    followed.change(&[two.repository("one")]).unwrap();
    until(|| good("one") == Some(newer.clone())).await;
    assert!(followed.status("two").is_none() && !followed.poke("two"));
    cancel.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn one_that_hangs_delays_no_other_and_a_poke_has_it_fetched() {
    let (upstream, data) = (Upstream::new(), tempfile::tempdir().unwrap());
    // It takes connections and says nothing.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let hangs = Repository::new("hangs", format!("git://{}/r", listener.local_addr().unwrap()));
    let broken = Repository::new("broken", data.path().join("nothing").display().to_string());
    let slow = Repository { every: 86_400, ..upstream.repository("infra") };
    let followed = Arc::new(open(data.path(), &[hangs, broken, slow]).unwrap());
    let cancel = CancellationToken::new();
    let running = tokio::spawn(followed.clone().run(cancel.clone()));
    let good = || followed.status("infra").unwrap().good.as_ref().map(|good| good.commit.clone());
    until(|| good() == Some(upstream.head())).await;
    until(|| followed.status("broken").unwrap().failure.is_some()).await;
    let newer = upstream.commit("b/main.tf", STACK);
    assert!(followed.poke("infra") && !followed.poke("unknown"));
    until(|| good() == Some(newer.clone())).await;
    assert!(followed.status("hangs").unwrap().fetched.is_none());
    cancel.cancel();
    running.await.unwrap();
    // The git that waits for it ends now.
    drop(listener.accept());
    drop(listener);
}

#[test]
fn the_next_look_comes_later_after_each_failure() {
    let check = |every: u64, failures: u32, spread: u64, wanted: f64| {
        let found = poll_next(Duration::from_secs(every), failures, spread).as_secs_f64();
        assert!((found - wanted).abs() < 0.01, "{every} {failures} {spread}: {found}");
    };
    check(60, 0, u64::MAX / 2, 60.0);
    check(60, 0, 0, 54.0);
    check(60, 0, u64::MAX, 66.0);
    check(60, 1, u64::MAX / 2, 120.0);
    check(60, 3, u64::MAX / 2, 480.0);
    check(60, 4, u64::MAX / 2, 900.0);
    check(60, u32::MAX, u64::MAX / 2, 900.0);
    check(3600, 7, u64::MAX / 2, 3600.0);
}

#[test]
fn all_that_is_wrong_with_the_settings_is_told() {
    let data = tempfile::tempdir().unwrap();
    let bad = Repository { every: 1, ..Repository::new("../x", "https://u:s3cret@h/a") };
    let twice = Repository::new("a", "/a");
    let error = open(data.path(), &[bad, twice.clone(), twice]).err().unwrap();
    let summaries: Vec<&str> = error.diagnostics.iter().map(|d| d.summary.as_str()).collect();
    assert_eq!(
        summaries,
        [
            "`../x` is no name for a repository",
            "repository `../x` is to be fetched every 1 s",
            "the address at h holds a user or password: name them in `credentials`",
            "two repositories are called `a`",
        ]
    );
    let read = |text: &str| serde_json::from_str::<Repository>(text);
    let token = r#"{"name":"a","url":"https://h/a","credentials":{"token":{"secret":{"env":"T"}}}}"#;
    let Some(Credentials::Token { username, secret }) = read(token).unwrap().credentials else { panic!("no token") };
    assert_eq!((username.as_str(), secret), ("x-access-token", Secret::Env("T".into())));
    assert!(read(r#"{"name":"a","url":"/a","brunch":"main"}"#).is_err());
    let forge = r#"{"name":"a","url":"https://github.com/company/a","forge":{"kind":"github"}}"#;
    let forge = read(forge).unwrap().check();
    assert_eq!(forge.iter().map(|found| found.code.as_str()).collect::<Vec<_>>(), ["WL780"], "who asks is missing");
}
