//! With the real terraform, and the testkit's registry, whose provider init installs and never starts.

use super::*;
use crate::terraform::cli_configuration::CliConfiguration;
use crate::terraform::events::Event;
use crate::terraform::stack::{Invocation, Provided, Sink, StackDirectory};
use crate::terraform::{Places, ToolBox};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use windlass_model::stack::Tool;
use windlass_testkit::registry::{ARCHIVE, H1, Registry, ZH};

type Writer = zip::ZipWriter<std::io::Cursor<Vec<u8>>>;

#[derive(Default)]
struct Log(String);

impl Sink for Log {
    async fn started(&mut self, _: u32) -> Result<(), String> {
        Ok(())
    }
    async fn log(&mut self, bytes: &[u8]) {
        self.0.push_str(&String::from_utf8_lossy(bytes));
    }
    async fn event(&mut self, _: &Event) {}
}

/// A stack that wants the provider, with these checksums in its lock file; `home` is where the user's configuration lies.
fn stack(directory: &Path, name: &str, registry: &Registry, hashes: &[&str]) -> StackDirectory {
    let root = directory.canonicalize().unwrap();
    let own = root.join(name);
    std::fs::create_dir_all(&own).unwrap();
    let locked = locked(registry, hashes);
    let main = configuration_of(&locked).replace("version = \"1.0.0\"", "version = \"~> 1.0\"");
    std::fs::write(own.join("main.tf"), main).unwrap();
    std::fs::write(own.join(".terraform.lock.hcl"), locked.text()).unwrap();
    let mut tool =
        ToolBox::discover(&Places::of_process(), &root.join("tools.json")).select(Tool::Any, &[], &[]).unwrap().clone();
    // The only way to make a child trust the registry without trusting it in this process.
    let (script, certificate) = (root.join("trusting"), root.join("certificate.pem"));
    if !script.exists() {
        std::fs::write(&certificate, &registry.certificate).unwrap();
        let text = format!(
            "#!/bin/sh\nexport SSL_CERT_FILE='{}'\nexec '{}' \"$@\"\n",
            certificate.display(),
            tool.path.display()
        );
        std::fs::write(&script, text).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    tool.path = script;
    let home = root.join("home");
    StackDirectory {
        token: "r/s/1".into(),
        retry_wait: Duration::from_millis(1),
        cli: CliConfiguration::new(|name| (name == "HOME").then(|| home.clone().into())),
        mirror: Some(Mirror::new(root.join("mirror"))),
        ..StackDirectory::new(root.clone(), own, root.join("data").join(name), tool)
    }
}

fn locked(registry: &Registry, hashes: &[&str]) -> Locked {
    Locked {
        address: registry.address(),
        version: "1.0.0".into(),
        hashes: hashes.iter().map(|hash| (*hash).to_owned()).collect(),
    }
}

async fn init(stack: &StackDirectory, log: &mut Log) -> Option<Invocation> {
    stack.init(&CancellationToken::new(), log).await.unwrap()
}

/// Where init put the provider for a stack.
fn installed(stack: &StackDirectory) -> PathBuf {
    let found = directories(&stack.data.join("providers"), 5);
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

#[tokio::test]
async fn a_provider_is_fetched_once_and_linked_by_every_stack() {
    let registry = Registry::start().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (a, b) = (stack(directory.path(), "a", &registry, &[H1, ZH]), stack(directory.path(), "b", &registry, &[H1]));
    // At once: one of them fetches, the other one waits for it.
    let (mut log_a, mut log_b) = (Log::default(), Log::default());
    let (made_a, made_b) = tokio::join!(init(&a, &mut log_a), init(&b, &mut log_b));
    assert!(made_a.unwrap().success && made_b.unwrap().success, "{}\n{}", log_a.0, log_b.0);
    assert_eq!(registry.fetched(), 1, "{:?}\n{}\n{}", registry.asked(), log_a.0, log_b.0);
    let mirror = a.mirror.clone().unwrap();
    let package = mirror.package(&locked(&registry, &[]));
    for stack in [&a, &b] {
        assert_eq!(std::fs::read_link(installed(stack)).unwrap(), package);
        assert!(std::fs::read_to_string(stack.directory.join(".terraform.lock.hcl")).unwrap().contains(H1));
    }
    let mode = std::fs::metadata(package.join("terraform-provider-depot_v1.0.0")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o555);
    let usage = mirror.usage([a.data.as_path(), b.data.as_path(), Path::new("/nonexistent")]);
    assert_eq!((usage.packages, usage.links), (1, 2));
    assert!(usage.disk > 0 && usage.saved == usage.disk, "{usage:?}");
    assert!(std::fs::read_dir(directory.path().join("mirror/filling")).unwrap().next().is_none());

    // A third one asks the registry for nothing.
    let before = registry.asked().len();
    let c = stack(directory.path(), "c", &registry, &[H1, ZH]);
    let mut log = Log::default();
    assert!(init(&c, &mut log).await.unwrap().success, "{}", log.0);
    assert_eq!(registry.asked().len(), before);
    assert!(init(&c, &mut log).await.is_none());

    // The cache was emptied: the links lead nowhere, so init is due again and fills it.
    std::fs::remove_dir_all(mirror.root()).unwrap();
    let mut log = Log::default();
    assert!(init(&c, &mut log).await.unwrap().success, "{}", log.0);
    assert_eq!((registry.fetched(), std::fs::read_link(installed(&c)).unwrap()), (2, package));
}

#[tokio::test]
async fn what_the_lock_file_does_not_allow_is_refused_and_not_kept() {
    let registry = Registry::start().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let other = stack(directory.path(), "a", &registry, &["h1:AAAAqXFaBkBMi5p+xVruSOxSy3orMeaV7YPUCDoIhCI="]);
    let mut log = Log::default();
    let refused = init(&other, &mut log).await.unwrap();
    assert!(!refused.success);
    assert_eq!(refused.diagnostics.iter().map(|d| d.code.as_str()).collect::<Vec<_>>(), ["WL520"], "{}", log.0);
    let mirror = other.mirror.clone().unwrap();
    assert_eq!(mirror.usage([]), Usage::default());
    assert!(!other.data.join("providers").exists());
    assert!(std::fs::read_dir(directory.path().join("mirror/filling")).unwrap().next().is_none());
}

#[tokio::test]
async fn without_a_checksum_of_this_platform_terraform_installs_by_itself() {
    let registry = Registry::start().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let stack = stack(directory.path(), "a", &registry, &[ZH]);
    let mut log = Log::default();
    assert!(init(&stack, &mut log).await.unwrap().success, "{}", log.0);
    assert!(log.0.contains("providers lock -platform="), "{}", log.0);
    assert!(!installed(&stack).is_symlink());
}

#[tokio::test]
async fn the_user_comes_first() {
    let registry = Registry::start().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let a = stack(directory.path(), "a", &registry, &[H1]);
    let home = directory.path().join("home");
    std::fs::create_dir_all(home.join(".terraform.d")).unwrap();
    let login = format!("{{\"credentials\": {{\"{}\": {{\"token\": \"t-1\"}}}}}}", registry.host);
    std::fs::write(home.join(".terraform.d/credentials.tfrc.json"), login).unwrap();
    let mut log = Log::default();
    assert!(init(&a, &mut log).await.unwrap().success, "{}", log.0);
    assert!(installed(&a).is_symlink());
    // What `terraform login` stored reaches the registry.
    let tokens: Vec<Option<String>> = registry.asked().into_iter().map(|asked| asked.authorization).collect();
    assert!(tokens.contains(&Some("Bearer t-1".into())), "{tokens:?}");
    // Whoever says where providers come from gets them from there.
    std::fs::write(home.join(".terraformrc"), "provider_installation {\n  direct {}\n}\n").unwrap();
    let b = stack(directory.path(), "b", &registry, &[H1]);
    let mut log = Log::default();
    assert!(init(&b, &mut log).await.unwrap().success, "{}", log.0);
    assert!(log.0.contains("the mirror of providers is not used") && !installed(&b).is_symlink(), "{}", log.0);
}

#[tokio::test]
async fn a_damaged_package_is_noticed_and_fetched_anew() {
    let registry = Registry::start().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let a = stack(directory.path(), "a", &registry, &[H1]);
    assert!(init(&a, &mut Log::default()).await.unwrap().success);
    let (mirror, locked) = (a.mirror.clone().unwrap(), locked(&registry, &[H1]));
    assert!(!mirror.drop_if_damaged(&locked).unwrap());
    let file = mirror.package(&locked).join("terraform-provider-depot_v1.0.0");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(&file, "something else").unwrap();
    let b = stack(directory.path(), "b", &registry, &[H1]);
    let mut log = Log::default();
    assert!(init(&b, &mut log).await.unwrap().success, "{}", log.0);
    assert!(log.0.contains("was damaged in the mirror"), "{}", log.0);
    assert!(installed(&b).is_symlink() && !mirror.drop_if_damaged(&locked).unwrap());
    assert_eq!(registry.fetched(), 2);
    // A link to a package that is gone is in nobody's way.
    std::fs::remove_dir_all(mirror.package(&locked)).unwrap();
    assert!(init(&a, &mut Log::default()).await.unwrap().success);
    assert!(installed(&a).is_symlink() && installed(&a).exists());
}

#[tokio::test]
async fn a_registry_that_cannot_be_reached_is_terraforms_to_complain_about() {
    let registry = Registry::start().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut stack = stack(directory.path(), "a", &registry, &[H1]);
    // The registry answers, but has no such provider.
    let lock = std::fs::read_to_string(stack.directory.join(".terraform.lock.hcl")).unwrap().replace("depot", "other");
    std::fs::write(stack.directory.join(".terraform.lock.hcl"), lock).unwrap();
    let main = std::fs::read_to_string(stack.directory.join("main.tf")).unwrap().replace("depot", "other");
    std::fs::write(stack.directory.join("main.tf"), main).unwrap();
    stack.retry_wait = Duration::from_millis(1);
    let mut log = Log::default();
    let failed = init(&stack, &mut log).await.unwrap();
    assert!(!failed.success && failed.diagnostics[0].code == "WL506", "{:?}", failed.diagnostics);
    assert!(log.0.contains("could not be fetched"), "{}", log.0);
}

#[tokio::test]
async fn terraform_links_to_an_unpacked_package_and_copies_a_packed_one() {
    let registry = Registry::start().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().join("home");
    let platform = Mirror::new("/".into()).platform;
    let unpacked = directory.path().join("unpacked");
    let at = unpacked.join(registry.address()).join("1.0.0").join(&platform);
    unpack(std::io::Cursor::new(ARCHIVE), &at).unwrap();
    let packed = directory.path().join("packed");
    let zip = packed.join(registry.address()).join(format!("terraform-provider-depot_1.0.0_{platform}.zip"));
    std::fs::create_dir_all(zip.parent().unwrap()).unwrap();
    std::fs::write(&zip, ARCHIVE).unwrap();
    std::fs::create_dir_all(&home).unwrap();
    for (name, mirror, linked) in [("a", &unpacked, true), ("b", &packed, false)] {
        let text = format!(
            "provider_installation {{\n  filesystem_mirror {{\n    path = \"{}\"\n  }}\n}}\n",
            mirror.display()
        );
        std::fs::write(home.join(".terraformrc"), text).unwrap();
        let mut stack = stack(directory.path(), name, &registry, &[H1, ZH]);
        stack.mirror = None;
        let mut log = Log::default();
        assert!(init(&stack, &mut log).await.unwrap().success, "{name}: {}", log.0);
        assert_eq!(installed(&stack).is_symlink(), linked, "{name}");
    }
    assert_eq!(registry.fetched(), 0);
}

#[tokio::test]
async fn what_became_of_a_provider() {
    let registry = Registry::start().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let stack = stack(directory.path(), "a", &registry, &[H1, ZH]);
    let locked = locked(&registry, &[H1, ZH]);
    let cancel = CancellationToken::new();
    // Of those who want it at the same time one fetches it, in the third attempt: the first two meet a registry at its limit.
    registry.refuse(2);
    let (mut one, mut two) = (Log::default(), Log::default());
    let (first, second) =
        tokio::join!(stack.provide(&locked, &cancel, &mut one), stack.provide(&locked, &cancel, &mut two));
    let fetched = Provided::Fetched { bytes: ARCHIVE.len() as u64 };
    let both = [first.unwrap(), second.unwrap()];
    assert!(both.contains(&fetched) && both.contains(&Provided::There), "{both:?}\n{}\n{}", one.0, two.0);
    let said = one.0 + &two.0;
    assert!(said.contains("attempt 3 of 3") && said.contains("bad response code: 503"), "{said}");
    assert_eq!((registry.fetched(), stack.mirror.as_ref().unwrap().size(&locked) > 0), (3, true));

    let check = async |stack: &StackDirectory, locked: &Locked, want: &dyn Fn(&Provided) -> bool| {
        let mut log = Log::default();
        let got = stack.provide(locked, &cancel, &mut log).await.unwrap();
        assert!(want(&got), "{got:?}\n{}", log.0);
    };
    let says = |why: &str, word: &str| assert!(why.contains(word), "{why}");
    check(&StackDirectory { mirror: None, ..stack.clone() }, &locked, &|got| matches!(got, Provided::Elsewhere(_)))
        .await;
    let unlocked = Locked { hashes: vec![ZH.into()], ..locked.clone() };
    check(&stack, &unlocked, &|got| matches!(got, Provided::Elsewhere(why) if why.contains("no h1 checksum"))).await;
    registry.stop();
    let other = Locked { address: registry.address_in("spare"), ..locked.clone() };
    check(&stack, &other, &|got| {
        let Provided::Missing(why) = got else { return false };
        says(why, "could not be fetched from its registry: ");
        true
    })
    .await;
    check(&stack, &locked, &|got| *got == Provided::There).await;
}

#[test]
fn archives_that_do_more_than_hold_files_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let make = |write: &dyn Fn(&mut Writer)| {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        write(&mut zip);
        zip.finish().unwrap().into_inner()
    };
    let options = zip::write::SimpleFileOptions::default().unix_permissions(0o777);
    let check = |name: &str, archive: &[u8], want: Result<usize, &str>| {
        let found = unpack(std::io::Cursor::new(archive), &directory.path().join(name))
            .map(|files| files.len())
            .map_err(|e| e.to_string());
        match (found, want) {
            (Ok(found), Ok(want)) => assert_eq!(found, want, "{name}"),
            (Err(found), Err(want)) => assert!(found.contains(want), "{name}: {found}"),
            other => panic!("{name}: {other:?}"),
        }
    };
    let two = make(&|zip| {
        zip.add_directory("sub", options).unwrap();
        for name in ["a", "sub/b"] {
            zip.start_file(name, options).unwrap();
            zip.write_all(b"x").unwrap();
        }
    });
    check("two", &two, Ok(2));
    let mode = std::fs::metadata(directory.path().join("two/sub/b")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o555);
    check("link", &make(&|zip| zip.add_symlink("a", "/etc/passwd", options).unwrap()), Err("is a link"));
    check("out", &make(&|zip| zip.start_file("../out", options).unwrap()), Err("leads out of it"));
    check("empty", &make(&|_| ()), Err("it is empty"));
    check("noise", b"no archive at all", Err(""));
    assert!(!directory.path().join("out").exists());
}
