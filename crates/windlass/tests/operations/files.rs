//! Clean-up with undo.

use super::common::*;
use super::story::{Sample, Story};
use super::tree;
use std::path::PathBuf;
use std::process::Command;
use windlass_testkit::operations::Site;

struct Exports {
    area: PathBuf,
}

/// Names that a shell would take apart.
const OLD: [&str; 3] = ["old.csv", "a dir/it's \"old\"\n; rm.csv", "a dir/-n"];

impl Exports {
    fn fill(area: PathBuf) -> Self {
        std::fs::create_dir_all(area.join("a dir")).unwrap();
        for name in OLD.into_iter().chain(["new.csv", "a dir/new.csv"]) {
            std::fs::write(area.join(name), format!("content of {name}")).unwrap();
        }
        for name in OLD {
            age(&area.join(name), "40 days ago");
        }
        Self { area }
    }
}

fn age(path: &std::path::Path, to: &str) {
    assert!(Command::new("touch").arg("--date").arg(to).arg("--").arg(path).status().unwrap().success());
}

impl Sample for Exports {
    fn arguments(&self) -> Vec<String> {
        vec!["area=exports".into()]
    }

    fn world(&self) -> String {
        tree(&self.area)
    }

    fn done(&self) {
        for name in OLD {
            assert!(!self.area.join(name).exists(), "{name}");
        }
        assert!(self.area.join("a dir/new.csv").exists());
        let moves: Vec<_> = std::fs::read_dir(self.area.join(".trash")).unwrap().collect();
        assert_eq!(moves.len(), 1);
        let trash = moves[0].as_ref().unwrap().path().join("files");
        for name in OLD {
            assert_eq!(std::fs::read_to_string(trash.join(name)).unwrap(), format!("content of {name}"));
        }
    }

    fn back(&self) {
        std::fs::remove_dir_all(&self.area).unwrap();
        Self::fill(self.area.clone());
    }
}

fn story() -> (Story, Exports, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let exports = Exports::fill(directory.path().join("exports"));
    let site = Site { exports: exports.area.clone(), ..Site::default() };
    (Story::new("clean-up", &site, &[]), exports, directory)
}

#[test]
fn a_clean_up_leaves_nothing_or_all() {
    let (story, exports, _directory) = story();
    story.prove(&exports, usize::MAX, 3);
}

#[test]
fn a_move_is_taken_back_for_as_long_as_it_is_in_the_trash() {
    let (story, exports, _directory) = story();
    let before = exports.world();
    expect(&story.env, &["run", "clean-up", "area=exports", "--yes"], 0, &[]);
    exports.done();
    let moved = std::fs::read_dir(exports.area.join(".trash")).unwrap().next().unwrap().unwrap();
    let id = moved.file_name().into_string().unwrap();
    expect(&story.env, &["run", "put-back", "area=exports", "move=another", "--yes"], 2, &[&id]);
    expect(&story.env, &["run", "put-back", "area=exports", &format!("move={id}"), "--yes"], 0, &[]);
    assert_eq!(exports.world(), before);
    // What was in the trash for long is gone with the next clean-up.
    expect(&story.env, &["run", "clean-up", "area=exports", "--yes"], 0, &[]);
    let moved = std::fs::read_dir(exports.area.join(".trash")).unwrap().next().unwrap().unwrap();
    age(&moved.path(), "20 days ago");
    expect(&story.env, &["run", "clean-up", "area=exports", "--yes"], 0, &[]);
    assert!(!exports.area.join(".trash").exists());
}
