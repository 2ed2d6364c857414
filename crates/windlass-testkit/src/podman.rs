//! A Podman with storage of its own and its socket, and images made of programs of this machine: no registry is asked.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A service that runs until this is dropped, which also ends its containers and removes its storage.
#[derive(Debug)]
pub struct Podman {
    service: Child,
    // Removed last, when nothing uses it.
    directory: tempfile::TempDir,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum PodmanError {
    #[error("cannot {what}")]
    Io { what: String, source: std::io::Error },
    #[error("{0} is missing, install it: `apt-get install podman runc busybox-static` (Debian, Ubuntu)")]
    NotInstalled(&'static str),
    #[error("`podman {what}` failed: {output}")]
    Failed { what: String, output: String },
    #[error("its socket was not there after {} s", START.as_secs())]
    NotReady,
}

const START: Duration = Duration::from_secs(60);

/// What containers need where neither limits can be raised nor the number of processes be limited.
const CONFIGURATION: &str =
    "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1000:1000\"]\npids_limit = 0\n";

/// Commands of busybox in the images.
const APPLETS: [&str; 9] = ["sh", "cat", "echo", "env", "head", "id", "pwd", "sleep", "yes"];

fn io(what: &str) -> impl FnOnce(std::io::Error) -> PodmanError {
    let what = what.to_owned();
    move |source| PodmanError::Io { what, source }
}

impl Podman {
    /// Starts one that knows no image.
    ///
    /// # Errors
    /// Podman is not installed, or did not start.
    pub fn start() -> Result<Self, PodmanError> {
        let directory = tempfile::Builder::new().prefix("windlass-podman-").tempdir().map_err(io("make a folder"))?;
        std::fs::write(directory.path().join("containers.conf"), CONFIGURATION).map_err(io("write containers.conf"))?;
        let socket = socket(directory.path());
        let mut service = podman(directory.path());
        service.args(["system", "service", "--time=0"]).arg(format!("unix://{}", socket.display()));
        let log = std::fs::File::create(directory.path().join("log")).map_err(io("make a log"))?;
        let service = service.stdout(Stdio::null()).stderr(log).spawn();
        let service = service.map_err(|_| PodmanError::NotInstalled("podman"))?;
        let podman = Self { service, directory };
        let until = Instant::now() + START;
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            if Instant::now() > until {
                return Err(PodmanError::NotReady);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(podman)
    }

    /// What `DOCKER_HOST` has to say.
    pub fn host(&self) -> String {
        format!("unix://{}", socket(self.directory.path()).display())
    }

    /// Makes an image of busybox and these statically linked programs, all in `/bin`, which is its `PATH`.
    ///
    /// # Errors
    /// A program is missing, or it cannot be built.
    pub fn image(&self, name: &str, programs: &[&Path]) -> Result<(), PodmanError> {
        let context = tempfile::tempdir_in(self.directory.path()).map_err(io("make a folder"))?;
        let bin = context.path().join("root/bin");
        std::fs::create_dir_all(&bin).map_err(io("make a folder"))?;
        std::fs::create_dir_all(context.path().join("root/tmp")).map_err(io("make a folder"))?;
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from).into_iter().find(|path| path.is_file());
        let busybox = busybox.ok_or(PodmanError::NotInstalled("busybox"))?;
        for program in programs.iter().copied().chain([busybox.as_path()]) {
            let to = bin.join(program.file_name().unwrap_or_default());
            std::fs::copy(program, to).map_err(io(&format!("copy {}", program.display())))?;
        }
        for applet in APPLETS {
            std::os::unix::fs::symlink("busybox", bin.join(applet)).map_err(io("link an applet"))?;
        }
        std::fs::write(context.path().join("Containerfile"), "FROM scratch\nCOPY root /\nENV PATH=/bin\n")
            .map_err(io("write a Containerfile"))?;
        self.run(&["build", "--network=host", "--tag", name, &context.path().display().to_string()]).map(drop)
    }

    /// Runs `podman` on the same storage; what it prints.
    ///
    /// # Errors
    /// It fails.
    pub fn run(&self, arguments: &[&str]) -> Result<String, PodmanError> {
        let output = podman(self.directory.path()).args(arguments).output().map_err(io("start podman"))?;
        if !output.status.success() {
            let output = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(PodmanError::Failed { what: arguments.join(" "), output });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.run(&["rm", "--all", "--force", "--time=0"]);
        let _ = self.service.kill();
        let _ = self.service.wait();
        // What is mounted cannot be removed; the innermost first.
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
        let own: Vec<&str> = mounts.lines().filter_map(|line| line.split(' ').nth(1)).collect();
        for mount in own.iter().rev().filter(|mount| Path::new(mount).starts_with(self.directory.path())) {
            let _ = Command::new("umount").arg(mount).stderr(Stdio::null()).status();
        }
    }
}

fn socket(directory: &Path) -> PathBuf {
    directory.join("podman.sock")
}

fn podman(directory: &Path) -> Command {
    let mut command = Command::new("podman");
    let option = |name: &str, value: &OsStr| {
        let mut option = std::ffi::OsString::from(format!("--{name}="));
        option.push(value);
        option
    };
    command
        .arg(option("root", directory.join("storage").as_os_str()))
        .arg(option("runroot", directory.join("run").as_os_str()))
        .arg(option("tmpdir", directory.join("tmp").as_os_str()))
        .args(["--runtime=runc", "--cgroup-manager=cgroupfs", "--events-backend=file"])
        .env("CONTAINERS_CONF", directory.join("containers.conf"))
        .stdin(Stdio::null());
    command
}
