//! With the real git; the traps of other tools, each on a repository of its own.

use super::*;
use std::collections::BTreeMap;
use windlass_lang::tree::Tree;
use windlass_model::affected::{affected, base_needed};
use windlass_model::definition::Definitions;
use windlass_model::review::{Affected, AffectedKind};

struct Repo {
    directory: tempfile::TempDir,
    git: GitRepository,
}

fn sh(directory: &Path, arguments: &[&str]) -> String {
    let output = command(directory)
        .args([
            "-c",
            "user.name=Dev",
            "-c",
            "user.email=dev@example.com",
            "-c",
            "commit.gpgsign=false",
            "-c",
            "protocol.file.allow=always",
        ])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    text(output.stdout)
}

impl Repo {
    fn new(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        sh(directory.path(), &["init", "-q", "-b", "main"]);
        let git = GitRepository::open(directory.path()).unwrap();
        let repo = Self { directory, git };
        repo.write(files);
        repo.commit();
        repo
    }
    fn write(&self, files: &[(&str, &str)]) {
        for (path, content) in files {
            let path = self.directory.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
    }
    fn commit(&self) -> String {
        sh(self.directory.path(), &["add", "-A"]);
        sh(self.directory.path(), &["commit", "-q", "--allow-empty", "-m", "change"]);
        self.git.resolve("HEAD").unwrap()
    }
    fn remove(&self, path: &str) {
        std::fs::remove_file(self.directory.path().join(path)).unwrap();
    }
    /// The work tree against HEAD.
    fn affected(&self) -> Vec<Affected> {
        let head = self.git.resolve("HEAD").unwrap();
        let tree = self.git.work_tree().unwrap();
        let changes = with_untracked(self.git.changes(&head, &Target::WorkTree).unwrap(), &tree);
        let discover = |tree: &dyn Tree| {
            windlass_lang::discovery::discover(tree, &windlass_lang::definitions::load(tree).0).repository
        };
        let base = base_needed(&changes).then(|| discover(&self.git.tree(&head).unwrap()));
        affected(&discover(&self.git.work_tree().unwrap()), base.as_ref(), &changes)
    }
    fn names(&self) -> Vec<String> {
        self.affected().iter().map(|a| a.instance.to_string()).collect()
    }
}

const STACK: &str = "terraform {\n  backend \"local\" {}\n}\nresource \"terraform_data\" \"x\" {}\n";

fn calls(source: &str) -> String {
    format!("{STACK}module \"m\" {{\n  source = \"{source}\"\n}}\n")
}

fn reads(path: &str) -> String {
    format!(
        "{STACK}data \"terraform_remote_state\" \"up\" {{\n  backend = \"local\"\n  config = {{\n    path = \"{path}\"\n  }}\n}}\noutput \"o\" {{\n  value = data.terraform_remote_state.up.outputs.a\n}}\n"
    )
}

#[test]
fn two_modules_with_the_same_relative_source_are_two_modules() {
    let repo = Repo::new(&[
        ("a/main.tf", &calls("../mods/one")),
        ("b/main.tf", &calls("../mods/two")),
        ("mods/one/main.tf", "module \"s\" {\n  source = \"./sub\"\n}\n"),
        ("mods/two/main.tf", "module \"s\" {\n  source = \"./sub\"\n}\n"),
        ("mods/one/sub/x.tf", "locals {\n  a = 1\n}\n"),
        ("mods/two/sub/x.tf", "locals {\n  a = 1\n}\n"),
    ]);
    repo.write(&[("mods/two/sub/x.tf", "locals {\n  a = 2\n}\n")]);
    let found = repo.affected();
    assert_eq!(found.iter().map(|a| a.instance.as_str()).collect::<Vec<_>>(), ["b"]);
    assert_eq!(found[0].reasons[0].chain, ["module \"m\" (b/main.tf:5)", "module \"s\" (mods/two/main.tf:1)"]);
}

#[test]
fn a_prefix_is_not_a_parent() {
    let repo = Repo::new(&[("stack-a/main.tf", STACK), ("stack-aa/main.tf", STACK)]);
    repo.write(&[("stack-aa/more.tf", "locals {\n  a = 1\n}\n")]);
    assert_eq!(repo.names(), ["stack-aa"]);
}

#[test]
fn templates_scripts_and_filesets_count() {
    let module = "resource \"terraform_data\" \"t\" {\n  input = templatefile(\"${path.module}/tpl/x.tpl\", {})\n  provisioner \"local-exec\" {\n    command = \"./run.sh now\"\n  }\n}\nlocals {\n  all = fileset(\"${path.module}/files\", \"**\")\n}\n";
    let repo = Repo::new(&[
        ("a/main.tf", &calls("../m")),
        ("a/run.sh", ""),
        ("m/main.tf", module),
        ("m/tpl/x.tpl", "1"),
        ("m/files/deep/f", "1"),
        ("other/main.tf", STACK),
    ]);
    for path in ["m/tpl/x.tpl", "m/files/deep/f", "a/run.sh"] {
        repo.write(&[(path, "changed")]);
        assert_eq!(repo.names(), ["a"], "{path}");
        repo.commit();
    }
    repo.remove("m/tpl/x.tpl");
    assert_eq!(repo.names(), ["a"]);
}

#[test]
fn symlinked_modules_and_modules_outside_the_stacks_count() {
    let repo = Repo::new(&[("stacks/a/main.tf", &calls("./linked")), ("shared/m/x.tf", "locals {\n  a = 1\n}\n")]);
    std::os::unix::fs::symlink("../../shared/m", repo.directory.path().join("stacks/a/linked")).unwrap();
    repo.commit();
    repo.write(&[("shared/m/x.tf", "locals {\n  a = 2\n}\n")]);
    assert_eq!(repo.names(), ["stacks/a"]);
}

#[test]
fn variable_files_json_and_overrides_count_for_their_instance() {
    let windlass = "stack \"a\" {\n  regions = [\"tokyo\", \"osaka\"]\n}\n";
    let repo = Repo::new(&[
        ("windlass.hcl", windlass),
        ("a/main.tf", "terraform {\n  backend \"local\" {}\n}\nvariable \"size\" {\n  default = 1\n}\n"),
        ("a/tokyo.tfvars", "size = 1\n"),
        ("a/osaka.tfvars", "size = 1\n"),
        ("b/main.tf.json", "{\"terraform\": {\"backend\": {\"local\": {}}}}"),
        ("b/x_override.tf", "locals {\n  a = 1\n}\n"),
    ]);
    repo.write(&[("a/tokyo.tfvars", "size = 2\n")]);
    assert_eq!(repo.names(), ["a[tokyo]"]);
    repo.commit();
    repo.write(&[("b/x_override.tf", "locals {\n  a = 2\n}\n")]);
    assert_eq!(repo.names(), ["b"]);
    repo.commit();
    repo.write(&[("windlass.hcl", &windlass.replace("\"osaka\"", "\"osaka\", \"seoul\""))]);
    let found = repo.affected();
    assert_eq!((found[0].instance.as_str(), &found[0].kind), ("a[seoul]", &AffectedKind::New));
}

#[test]
fn a_deleted_stack_is_named_with_those_that_still_read_it() {
    let repo = Repo::new(&[
        ("net/main.tf", &format!("{STACK}output \"a\" {{\n  value = 1\n}}\n")),
        ("db/main.tf", &reads("../net/terraform.tfstate")),
        ("app/main.tf", &reads("../db/terraform.tfstate")),
    ]);
    repo.remove("net/main.tf");
    let found = repo.affected();
    let kinds: Vec<_> = found.iter().map(|a| (a.instance.as_str(), a.kind.clone())).collect();
    assert_eq!(
        kinds,
        [("app", AffectedKind::Dependant), ("db", AffectedKind::Dependant), ("net", AffectedKind::Deleted)]
    );
}

#[test]
fn a_renamed_stack_with_the_same_state_is_no_destruction() {
    let stack = "terraform {\n  backend \"s3\" {\n    bucket = \"b\"\n    key    = \"net\"\n  }\n}\n";
    let repo = Repo::new(&[("old/main.tf", stack), ("old/more.tf", "locals {\n  a = 1\n}\n")]);
    std::fs::rename(repo.directory.path().join("old"), repo.directory.path().join("new")).unwrap();
    repo.commit();
    let changes = repo
        .git
        .changes(&repo.git.resolve("HEAD~1").unwrap(), &Target::Commit(repo.git.resolve("HEAD").unwrap()))
        .unwrap();
    let load = |rev: &str| {
        windlass_lang::discovery::discover(
            &repo.git.tree(&repo.git.resolve(rev).unwrap()).unwrap(),
            &Definitions::default(),
        )
        .repository
    };
    let found = affected(&load("HEAD"), Some(&load("HEAD~1")), &changes);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].instance.as_str(), &found[0].kind), ("new", &AffectedKind::Renamed { from: "old".into() }));
}

#[test]
fn two_stacks_on_one_state_and_circles_are_errors() {
    let same = "terraform {\n  backend \"s3\" {\n    bucket = \"b\"\n    key    = \"k\"\n  }\n}\n";
    let repo = Repo::new(&[
        ("a/main.tf", same),
        ("b/main.tf", same),
        ("c/main.tf", &reads("../d/terraform.tfstate")),
        ("d/main.tf", &reads("../c/terraform.tfstate")),
    ]);
    let found = windlass_lang::discovery::discover(&repo.git.work_tree().unwrap(), &Definitions::default());
    let codes: Vec<&str> = found.diagnostics.iter().map(|d| d.code.as_str()).collect();
    assert!(codes.contains(&"WL212") && codes.contains(&"WL217"), "{:?}", found.diagnostics);
    let shared = found.diagnostics.iter().find(|d| d.code == "WL212").unwrap();
    assert_eq!(shared.labels.len(), 2);
}

#[test]
fn unusual_names_are_read_as_they_are() {
    let repo = Repo::new(&[("köln stack/main.tf", STACK), ("line\nfeed/main.tf", STACK)]);
    repo.write(&[
        ("köln stack/main.tf", &format!("{STACK}# more\n")),
        ("line\nfeed/main.tf", &format!("{STACK}# more\n")),
    ]);
    assert_eq!(repo.names(), ["köln stack", "line\nfeed"]);
}

#[test]
fn submodules_are_read_and_their_change_counts() {
    let inner = Repo::new(&[("x.tf", "locals {\n  a = 1\n}\n")]);
    let repo = Repo::new(&[("a/main.tf", &calls("../vendored"))]);
    sh(repo.directory.path(), &["submodule", "--quiet", "add", inner.directory.path().to_str().unwrap(), "vendored"]);
    repo.commit();
    assert!(
        windlass_lang::discovery::discover(&repo.git.work_tree().unwrap(), &Definitions::default())
            .diagnostics
            .is_empty()
    );
    repo.write(&[("vendored/x.tf", "locals {\n  a = 2\n}\n")]);
    assert_eq!(repo.names(), ["a"]);
}

#[test]
fn shallow_clones_and_unrelated_histories_are_told_apart() {
    let repo = Repo::new(&[("a/main.tf", STACK)]);
    for _ in 0..3 {
        repo.commit();
    }
    sh(repo.directory.path(), &["checkout", "-q", "-b", "side", "HEAD~2"]);
    repo.commit();
    let clone = tempfile::tempdir().unwrap();
    let url = format!("file://{}", repo.directory.path().display());
    sh(clone.path(), &["clone", "-q", "--depth", "1", "--no-single-branch", &url, "c"]);
    let shallow = GitRepository::open(&clone.path().join("c")).unwrap();
    let (a, b) = (shallow.resolve("origin/main").unwrap(), shallow.resolve("origin/side").unwrap());
    assert!(matches!(shallow.merge_base(&a, &b), Err(GitError::Shallow(..))));
    sh(repo.directory.path(), &["checkout", "-q", "--orphan", "alone"]);
    repo.write(&[("only/here.tf", STACK)]);
    let alone = repo.commit();
    assert!(matches!(repo.git.merge_base(&alone, &repo.git.resolve("main").unwrap()), Err(GitError::NoMergeBase(..))));
    assert!(matches!(repo.git.resolve("nope"), Err(GitError::UnknownRevision(_))));
    let none = tempfile::tempdir().unwrap();
    assert!(matches!(GitRepository::open(none.path()), Err(GitError::NotARepository(_))));
}

#[test]
fn dirt_authors_and_branches_are_told() {
    let repo = Repo::new(&[("a/main.tf", STACK)]);
    let base = repo.git.resolve("HEAD").unwrap();
    repo.write(&[("a/main.tf", "changed"), ("new file", "")]);
    assert_eq!(repo.git.status().unwrap().1, ["a/main.tf", "new file"]);
    let head = repo.commit();
    assert_eq!(repo.git.authors(&base, &head).unwrap(), ["Dev <dev@example.com>"]);
    // Who wrote it together is named by its message, and nobody becomes somebody else by a file of the change.
    repo.write(&[("a/main.tf", "again"), (".mailmap", "Ops <ops@example.com> <dev@example.com>\n")]);
    repo.commit();
    let together = "Both\n\nCo-authored-by: Ann <ann@example.com>\n";
    sh(repo.directory.path(), &["commit", "--quiet", "--amend", "-m", together]);
    let both = ["Ann <ann@example.com>", "Dev <dev@example.com>"];
    assert_eq!(repo.git.authors(&base, "HEAD").unwrap(), both);
    assert_eq!(repo.git.current_branch().as_deref(), Some("main"));
    assert_eq!(repo.git.default_branch().as_deref(), Some("main"));
}

#[test]
fn a_commit_and_the_work_tree_hold_the_same_files() {
    let repo = Repo::new(&[("a/main.tf", STACK), ("b/x.tpl", "t")]);
    std::os::unix::fs::symlink("b", repo.directory.path().join("link")).unwrap();
    let head = repo.commit();
    let (commit, work) = (repo.git.tree(&head).unwrap(), repo.git.work_tree().unwrap());
    assert_eq!(commit.paths(), work.paths());
    assert_eq!((commit.link("link"), work.link("link")), (Some("b".into()), Some("b".into())));
    for path in commit.paths() {
        assert_eq!(commit.read(path).unwrap(), work.read(path).unwrap(), "{path}");
    }
}

#[test]
fn commits_are_made_beside_the_work_tree() {
    let repo = Repo::new(&[("a/main.tf", "one\n"), ("b.txt", "b\n")]);
    sh(repo.directory.path(), &["config", "user.name", "Dev"]);
    sh(repo.directory.path(), &["config", "user.email", "dev@example.com"]);
    repo.write(&[("b.txt", "changed\n"), ("staged", "s\n"), ("new", "n\n")]);
    sh(repo.directory.path(), &["add", "staged"]);
    let index = repo.directory.path().join(".git/index");
    let before = (std::fs::read(&index).unwrap(), repo.git.status().unwrap());
    let head = repo.git.resolve("HEAD").unwrap();
    let files = BTreeMap::from([
        ("a/new file.tf".to_owned(), b"two\n".to_vec()),
        ("a/main.tf".to_owned(), b"three\n".to_vec()),
    ]);
    let temporary = repo.directory.path().join(".git/other-index");
    let commit = repo.git.commit_files(&head, &files, "Subject\n\nbody\n", &temporary).unwrap();
    assert!(!temporary.exists());
    let check = |path: &str, want: Option<&str>| {
        assert_eq!(repo.git.file_at(&commit, path), want.map(|text| text.as_bytes().to_vec()), "{path}");
    };
    check("a/new file.tf", Some("two\n"));
    check("a/main.tf", Some("three\n"));
    check("b.txt", Some("b\n"));
    check("staged", None);
    check("new", None);
    assert_eq!(sh(repo.directory.path(), &["log", "-1", "--format=%P %s|%an", &commit]), format!("{head} Subject|Dev"));
    assert!(repo.git.branch_create("adopt/a-1", &commit).unwrap());
    assert!(!repo.git.branch_create("adopt/a-1", &head).unwrap());
    assert_eq!(repo.git.resolve("adopt/a-1").unwrap(), commit);
    assert!(repo.git.branch_create("no..name", &commit).is_err());
    assert_eq!(before, (std::fs::read(&index).unwrap(), repo.git.status().unwrap()));
}
