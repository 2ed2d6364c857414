//! The upgrade of etcd, the switch behind haproxy, the renewal of a certificate.

use super::common::*;
use super::story::{Sample, Story};
use super::tree;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use windlass_testkit::authority::Authority;
use windlass_testkit::etcd::{Etcd, healthy};
use windlass_testkit::haproxy::Haproxy;
use windlass_testkit::operations::Site;

struct Cluster {
    etcd: Etcd,
    backups: PathBuf,
}

impl Cluster {
    /// The release that all members run, if it is one.
    fn release(&self) -> Option<String> {
        let mut installed = self.etcd.installed();
        installed.dedup();
        (installed.len() == 1).then(|| installed[0].file_name().unwrap().to_string_lossy().into_owned())
    }

    /// Program and release of each process.
    fn running(&self) -> Vec<String> {
        let name = |member: &str| {
            let pid =
                std::fs::read_to_string(self.etcd.services().join(member).join("supervise/pid")).unwrap_or_default();
            let line = std::fs::read(format!("/proc/{}/cmdline", pid.trim())).unwrap_or_default();
            String::from_utf8_lossy(line.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
        };
        windlass_testkit::etcd::MEMBERS.map(name).to_vec()
    }
}

impl Sample for Cluster {
    fn arguments(&self) -> Vec<String> {
        let other = if self.release().as_deref() == Some("3.4.1") { "3.4.2" } else { "3.4.1" };
        vec![format!("release={other}")]
    }

    fn world(&self) -> String {
        let healthy: Vec<bool> = self.etcd.endpoints().iter().map(|endpoint| healthy(endpoint)).collect();
        format!("{:?} {:?} {healthy:?} {}", self.etcd.installed(), self.running(), tree(&self.backups))
    }

    fn done(&self) {
        let release = self.release().expect("all run the same");
        let program = self.etcd.releases().join(release).join("etcd").display().to_string();
        assert_eq!(self.running(), [program.clone(), program.clone(), program]);
        assert!(self.etcd.endpoints().iter().all(|endpoint| healthy(endpoint)));
    }

    /// The next run goes to the other release.
    fn back(&self) {
        for file in walk(&self.backups) {
            std::fs::remove_file(file).unwrap();
        }
    }
}

/// Asks all members again and again, and counts how often two were away at once.
struct Watch {
    ended: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<usize>>,
    rounds: Arc<AtomicUsize>,
}

impl Watch {
    fn begin(endpoints: Vec<String>) -> Self {
        let (ended, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stop, count) = (ended.clone(), rounds.clone());
        let reachable = |endpoint: &String| {
            let address = endpoint.trim_start_matches("http://").parse().unwrap();
            std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_secs(1)).is_ok()
        };
        let thread = std::thread::spawn(move || {
            let mut bad = 0;
            while !stop.load(Ordering::SeqCst) {
                let up = endpoints.iter().filter(|endpoint| reachable(endpoint)).count();
                bad += usize::from(up + 1 < endpoints.len());
                count.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            bad
        });
        Self { ended, thread: Some(thread), rounds }
    }

    fn end(mut self) -> usize {
        self.ended.store(true, Ordering::SeqCst);
        assert!(self.rounds.load(Ordering::SeqCst) > 0);
        self.thread.take().unwrap().join().unwrap()
    }
}

#[test]
fn etcd_is_upgraded_one_member_at_a_time_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let etcd = Etcd::start(&["3.4.1", "3.4.2"]).unwrap();
    let site = Site {
        backups: directory.path().to_owned(),
        services: etcd.services().to_owned(),
        etcd: etcd.endpoints().join(","),
        releases: etcd.releases().to_owned(),
        ..Site::default()
    };
    let story = Story::new("upgrade-etcd", &site, &[]);
    let watch = Watch::begin(etcd.endpoints().to_vec());
    let cluster = Cluster { etcd, backups: directory.path().to_owned() };
    story.prove(&cluster, 2, 0);
    assert_eq!(watch.end(), 0, "two members were away at once");
}

struct Shop(Haproxy);

impl Shop {
    fn active(&self) -> String {
        ureq::get(self.0.url())
            .call()
            .map_or_else(|error| error.to_string(), |mut answer| answer.body_mut().read_to_string().unwrap())
    }
}

impl Sample for Shop {
    fn arguments(&self) -> Vec<String> {
        vec![format!("to={}", if self.active() == "blue" { "green" } else { "blue" })]
    }

    fn world(&self) -> String {
        format!("{} {}", self.active(), std::fs::read_to_string(self.0.map()).unwrap())
    }

    fn done(&self) {
        assert_eq!(std::fs::read_to_string(self.0.map()).unwrap(), format!("shop {}\n", self.active()));
    }

    fn back(&self) {}
}

fn shop() -> (Story, Shop) {
    let haproxy = Haproxy::start(None).unwrap();
    let site = Site { socket: haproxy.socket(), map: haproxy.map(), url: haproxy.url(), ..Site::default() };
    (Story::new("switch-shop", &site, &[]), Shop(haproxy))
}

#[test]
fn visitors_are_sent_to_the_other_servers_or_stay() {
    let (story, shop) = shop();
    story.prove(&shop, usize::MAX, 3);
    // Windlass is killed while it waits for the answer that a visitor gets.
    let [argument] = &shop.arguments()[..] else { panic!() };
    let colour = argument.trim_start_matches("to=");
    let other = shop.0.shop(colour);
    let visits = other.visits.load(Ordering::SeqCst);
    other.held.store(true, Ordering::SeqCst);
    let mut child = start(&story.env, &["run", "switch-shop", argument, "--yes"]);
    wait(|| (other.visits.load(Ordering::SeqCst) > visits).then_some(()));
    child.kill().unwrap();
    child.wait().unwrap();
    other.held.store(false, Ordering::SeqCst);
    story.resume(&shop, "killed in the answer");
    assert_eq!(shop.active(), colour);
}

#[test]
fn visitors_come_back_when_the_answer_is_wrong() {
    let (story, shop) = shop();
    let green = shop.0.shop("green");
    green.broken.store(true, Ordering::SeqCst);
    expect(&story.env, &["run", "switch-shop", "to=green", "--yes"], 1, &["answer"]);
    assert_eq!(shop.active(), "blue");
    // Nobody is sent to servers that say themselves that they are not well.
    green.broken.store(false, Ordering::SeqCst);
    assert_eq!(story.latest()["run"]["state"], "failed");
    expect(&story.env, &["run", "switch-shop", "to=green", "--yes"], 0, &[]);
    assert_eq!(shop.active(), "green");
}

struct Secure {
    haproxy: Haproxy,
    authority: Authority,
}

const HOST: &str = "shop.example.com";

impl Secure {
    /// Fingerprint of the certificate that is shown.
    fn shown(&self) -> String {
        let line = format!(
            "openssl s_client -connect {} -servername {HOST} </dev/null 2>/dev/null | openssl x509 -noout -fingerprint",
            self.haproxy.secure()
        );
        String::from_utf8(Command::new("/bin/sh").args(["-c", &line]).output().unwrap().stdout).unwrap()
    }

    fn live(&self) -> PathBuf {
        self.authority.path().join(HOST).join("live")
    }

    fn installed(&self) -> String {
        let cert = self.live().join("cert.pem");
        let output =
            Command::new("openssl").args(["x509", "-noout", "-fingerprint", "-in"]).arg(cert).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Sample for Secure {
    fn arguments(&self) -> Vec<String> {
        vec![format!("name={HOST}")]
    }

    fn world(&self) -> String {
        // A reload takes a moment.
        wait(|| (self.shown() == self.installed()).then_some(()));
        format!("{}{}", self.shown(), tree(self.authority.path()))
    }

    fn done(&self) {
        assert_ne!(std::fs::read_link(self.live()).unwrap().to_str(), Some("versions/first"));
        assert_eq!(std::fs::read_dir(self.authority.path().join(HOST).join("versions")).unwrap().count(), 2);
        wait(|| (self.shown() == self.installed()).then_some(()));
    }

    fn back(&self) {
        std::fs::remove_file(self.live()).unwrap();
        std::os::unix::fs::symlink("versions/first", self.live()).unwrap();
        let versions = self.authority.path().join(HOST).join("versions");
        for entry in std::fs::read_dir(versions).unwrap().flatten().filter(|entry| entry.file_name() != "first") {
            std::fs::remove_dir_all(entry.path()).unwrap();
        }
        let reload = Command::new("sv").arg("2").arg(self.haproxy.services().join("haproxy")).status();
        assert!(reload.unwrap().success());
        wait(|| (self.shown() == self.installed()).then_some(()));
    }
}

#[test]
fn a_certificate_is_renewed_or_stays() {
    let authority = Authority::new().unwrap();
    let haproxy = Haproxy::start(Some(&authority.issue(HOST, 5, "first").unwrap())).unwrap();
    let site = Site {
        services: haproxy.services().to_owned(),
        authority: authority.path().to_owned(),
        secure: haproxy.secure(),
        ..Site::default()
    };
    let story = Story::new("renew-certificate", &site, &[]);
    let secure = Secure { haproxy, authority };
    story.prove(&secure, usize::MAX, 1);
    // One that is good for long is left alone.
    let before = secure.world();
    expect(&story.env, &["run", "renew-certificate", &format!("name={HOST}"), "days=3", "--yes"], 0, &[]);
    assert_eq!(secure.world(), before);
}
