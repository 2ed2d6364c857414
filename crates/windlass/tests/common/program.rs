//! The program while it goes on, and what it says.

use super::wait;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use windlass_testkit::cli::CliEnv;

/// A program that says what it does, and is ended with its test.
pub struct Program {
    pub child: Child,
    said: Arc<Mutex<Vec<String>>>,
}

impl Program {
    pub fn start(env: &CliEnv, arguments: &[&str]) -> Self {
        Self::of(env.command(arguments))
    }

    pub fn of(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let said = Arc::<Mutex<Vec<String>>>::default();
        let streams: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for stream in streams {
            let said = said.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    said.lock().unwrap().push(line);
                }
            });
        }
        Self { child, said }
    }

    /// What follows `before` in the first line that has it.
    pub fn says(&self, before: &str) -> String {
        wait(|| {
            let said = self.said.lock().unwrap();
            said.iter().find_map(|line| line.split_once(before).map(|(_, rest)| rest.to_owned()))
        })
    }

    pub fn all(&self) -> String {
        self.said.lock().unwrap().join("\n")
    }

    pub fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success());
    }

    pub fn code(&mut self) -> Option<i32> {
        wait(|| self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Status and body.
pub fn get(url: &str, headers: &[&str]) -> (u16, String) {
    let mut command = Command::new("curl");
    command.args(["--silent", "--max-time", "20", "--write-out", "\n%{http_code}", url]);
    for header in headers {
        command.args(["--header", header]);
    }
    let answer = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let (body, status) = answer.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), body.to_owned())
}
