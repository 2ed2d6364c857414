//! A cluster of three etcd (`apt-get install etcd-server etcd-client`) under supervision, with releases to move between.

use crate::TestkitError;
use crate::services::{Services, free_ports, until};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Names of the members, which are those of their services.
pub const MEMBERS: [&str; 3] = ["etcd1", "etcd2", "etcd3"];

/// Runs until it is dropped. Each member runs the release that the link `release` in its service names.
#[derive(Debug)]
pub struct Etcd {
    services: Services,
    releases: tempfile::TempDir,
    endpoints: Vec<String>,
}

impl Etcd {
    /// Starts three members on `releases[0]` and returns when all are healthy. A release is the machine's etcd under another path.
    ///
    /// # Errors
    /// etcd or runit is missing, or it does not start.
    pub fn start(releases: &[&str]) -> Result<Self, TestkitError> {
        let program = crate::cli::program("etcd")?;
        let directory = tempfile::Builder::new().prefix("windlass-releases-").tempdir();
        let directory = directory.map_err(|source| TestkitError::Write { path: std::env::temp_dir(), source })?;
        for release in releases {
            let place = directory.path().join(release);
            let write = |source| TestkitError::Write { path: place.clone(), source };
            std::fs::create_dir(&place).map_err(write)?;
            symlink(&program, place.join("etcd")).map_err(write)?;
        }
        let ports = free_ports(2 * MEMBERS.len())?;
        let (clients, peers) = ports.split_at(MEMBERS.len());
        let url = |port: &u16| format!("http://127.0.0.1:{port}");
        let cluster: Vec<String> =
            MEMBERS.iter().zip(peers).map(|(name, port)| format!("{name}={}", url(port))).collect();
        let mut services = Services::new()?;
        for ((name, client), peer) in MEMBERS.iter().zip(clients).zip(peers) {
            let home = services.path().join(name);
            let write = |source| TestkitError::Write { path: home.clone(), source };
            std::fs::create_dir_all(&home).map_err(write)?;
            symlink(directory.path().join(releases[0]), home.join("release")).map_err(write)?;
            let (client, peer, cluster) = (url(client), url(peer), cluster.join(","));
            services.add(
                name,
                &format!(
                    "exec \"$(readlink release)/etcd\" --name={name} --data-dir=data --log-level=warn --logger=zap \
                     --listen-client-urls={client} --advertise-client-urls={client} --listen-peer-urls={peer} \
                     --initial-advertise-peer-urls={peer} --initial-cluster={cluster} --initial-cluster-state=new \
                     --heartbeat-interval=50 --election-timeout=500"
                ),
            )?;
        }
        let endpoints = clients.iter().map(url).collect();
        let started = Self { services, releases: directory, endpoints };
        let log = || MEMBERS.map(|name| started.services.log(name)).join("\n");
        until("etcd", || started.endpoints.iter().all(|endpoint| healthy(endpoint)), log)?;
        Ok(started)
    }

    /// The directory of the services.
    pub fn services(&self) -> &Path {
        self.services.path()
    }

    /// The directory of the releases.
    pub fn releases(&self) -> &Path {
        self.releases.path()
    }

    /// URL of each member.
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Which release each member is to run.
    pub fn installed(&self) -> Vec<PathBuf> {
        let link =
            |name: &&str| std::fs::read_link(self.services.path().join(name).join("release")).unwrap_or_default();
        MEMBERS.iter().map(link).collect()
    }
}

/// Whether a member answers, and has a leader.
pub fn healthy(endpoint: &str) -> bool {
    let agent = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(2))).build().new_agent();
    let answer = agent.get(format!("{endpoint}/health")).call();
    answer.is_ok_and(|mut answer| answer.body_mut().read_to_string().is_ok_and(|text| text.contains("\"true\"")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_member_that_is_stopped_is_not_healthy_and_the_others_are() {
        let etcd = Etcd::start(&["1.0.0"]).unwrap();
        let sv = |verb: &str| Command::new("sv").args(["-w", "20", verb]).arg(etcd.services().join("etcd2")).status();
        assert!(sv("stop").unwrap().success());
        let answers: Vec<bool> = etcd.endpoints().iter().map(|endpoint| healthy(endpoint)).collect();
        assert_eq!(answers, [true, false, true]);
        assert!(sv("start").unwrap().success());
        until("etcd2", || healthy(&etcd.endpoints()[1]), || etcd.services.log("etcd2")).unwrap();
        let home = etcd.services().to_owned();
        drop(etcd);
        assert!(!home.exists());
    }
}
