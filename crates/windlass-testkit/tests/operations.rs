//! The sample operations are read without a complaint, each with all that its documentation shows.

#![allow(clippy::unwrap_used, reason = "a test")]

use windlass_lang::tree::DirTree;
use windlass_testkit::git::Git;
use windlass_testkit::operations::{Site, write_operations};

#[test]
fn the_sample_operations_are_read() {
    let directory = tempfile::tempdir().unwrap();
    Git::init(directory.path()).unwrap();
    write_operations(directory.path(), &Site::default()).unwrap();
    let ours = DirTree::open(directory.path()).unwrap();
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/operations");
    for tree in [ours, DirTree::open(examples.as_ref()).unwrap()] {
        let (definitions, diagnostics) = windlass_lang::definitions::load(&tree);
        assert!(diagnostics.is_empty(), "{diagnostics:#?}");
        let mut names: Vec<&str> = definitions.operations.iter().map(|operation| operation.name.as_str()).collect();
        names.sort_unstable();
        let all = [
            "backup-database",
            "clean-up",
            "put-back",
            "renew-certificate",
            "sales-report",
            "switch-shop",
            "upgrade-etcd",
        ];
        assert_eq!(names, all);
        for operation in &definitions.operations {
            assert!(operation.description.is_some() && operation.owner.is_some(), "{}", operation.name);
        }
    }
}

#[test]
fn the_sample_operations_are_as_windlass_formats_them() {
    let directory = tempfile::tempdir().unwrap();
    Git::init(directory.path()).unwrap();
    write_operations(directory.path(), &Site::default()).unwrap();
    let listed = Git::open(directory.path()).run(&["ls-files", "*.hcl"]).unwrap();
    let site = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/operations/site.windlass.hcl");
    let files = listed.lines().map(|name| directory.path().join(name)).chain([site.into()]);
    let mut read = 0;
    for file in files {
        let (name, text) = (file.display().to_string(), std::fs::read_to_string(&file).unwrap());
        assert_eq!(windlass_lang::fmt::format(&name, &text).unwrap(), text, "{name}");
        read += 1;
    }
    assert_eq!(read, 9);
}
