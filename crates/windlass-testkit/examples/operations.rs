//! A place to try the sample operations by hand: `cargo run -p windlass-testkit --example operations -- DIRECTORY` makes the
//! repository in DIRECTORY, which must not exist, starts everything that they work on, and ends it at the end of its input.

use std::error::Error;
use std::io::Read;
use std::path::PathBuf;
use windlass_testkit::authority::Authority;
use windlass_testkit::etcd::Etcd;
use windlass_testkit::git::Git;
use windlass_testkit::haproxy::Haproxy;
use windlass_testkit::operations::{Site, write_operations};
use windlass_testkit::postgres::Postgres;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).map(PathBuf::from).ok_or("say which directory")?;
    let (root, backups, exports) = (directory.join("repo"), directory.join("backups"), directory.join("exports"));
    for made in [&root, &backups, &exports] {
        std::fs::create_dir_all(made)?;
    }
    let postgres = Postgres::start()?;
    postgres.database("shop");
    let etcd = Etcd::start(&["3.4.1", "3.4.2"])?;
    let authority = Authority::new()?;
    let haproxy = Haproxy::start(Some(&authority.issue("shop.example.com", 5, "first")?))?;
    // One directory of services for both.
    for name in windlass_testkit::etcd::MEMBERS {
        std::os::unix::fs::symlink(etcd.services().join(name), haproxy.services().join(name))?;
    }
    let site = Site {
        backups,
        services: haproxy.services().to_owned(),
        postgres: postgres.port(),
        databases: vec!["shop".into()],
        etcd: etcd.endpoints().join(","),
        releases: etcd.releases().to_owned(),
        socket: haproxy.socket(),
        map: haproxy.map(),
        url: haproxy.url(),
        authority: authority.path().to_owned(),
        secure: haproxy.secure(),
        exports,
    };
    Git::init(&root)?;
    write_operations(&root, &site)?;
    println!("cd {}", root.display());
    println!("export BACKUP_PASSWORD=any REPORT_DATABASE='{}'", postgres.url().replace("/postgres?", "/shop?"));
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
