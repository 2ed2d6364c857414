//! What is followed over connections that break, and through what keeps streams for itself.

use super::common::wait;
use super::{World, stack};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Streams break after some ten kilobytes, and every fifth other connection in the middle of its answer.
    Cut,
    /// Of a stream nothing comes through.
    Hold,
}

#[derive(Default)]
struct Counts {
    connections: AtomicUsize,
    streams: AtomicUsize,
}

/// Something between a terminal and its server.
struct Proxy {
    url: String,
    counts: Arc<Counts>,
}

impl Proxy {
    fn new(server: &str, mode: Mode) -> Self {
        let server = server.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let counts = Arc::new(Counts::default());
        let counted = counts.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(&server) else { continue };
                let number = counted.connections.fetch_add(1, Ordering::Relaxed);
                let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Write);
                });
                let counted = counted.clone();
                std::thread::spawn(move || answer(server, client, mode, number, &counted));
            }
        });
        Self { url, counts }
    }

    fn streams(&self) -> usize {
        self.counts.streams.load(Ordering::Relaxed)
    }
}

fn answer(mut server: TcpStream, mut client: TcpStream, mode: Mode, number: usize, counts: &Counts) {
    let mut left = if mode == Mode::Cut && number % 5 == 4 { 100 } else { usize::MAX };
    let mut buffer = [0; 1024];
    let mut is_stream = false;
    while let Ok(length @ 1..) = server.read(&mut buffer) {
        let part = &buffer[..length];
        if !is_stream && part.windows(17).any(|text| text == b"text/event-stream") {
            is_stream = true;
            let before = counts.streams.fetch_add(1, Ordering::Relaxed);
            // More than one event, which is some 17 kB at most.
            left = 20_000 + before * 2711 % 9000;
        }
        if is_stream && mode == Mode::Hold {
            continue;
        }
        let part = &part[..length.min(left)];
        left -= part.len();
        if client.write_all(part).is_err() || left == 0 {
            break;
        }
    }
    let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
}

/// An apply under way that says much: half of it, and the rest when the file `go` is there.
fn talking(world: &World) -> std::path::PathBuf {
    let go = world.env.home().join("go");
    world.git.run(&["switch", "--quiet", "-c", "talk"]).unwrap();
    let wait = format!("timeout 100 sh -c 'until [ -e {} ]; do sleep 0.05; done'", go.display());
    let half = |from: u32, to: u32| format!("for i in $(seq {from} {to}); do echo line-$i-é; done");
    stack(&world.env, 3, &format!("{}; {wait}; {}", half(1, 1500), half(1501, 3000)));
    world.env.commit("Talk").unwrap();
    world.push("talk");
    world.expect(&["review"], 0, &[]);
    let review = world.json(&["review", "--show"]);
    let seen = serde_json::json!({ "effect": review["review"]["effect_digest"] });
    let id = review["review"]["run"].as_str().unwrap();
    let agent = ureq::Agent::new_with_defaults();
    let request = agent.post(format!("{}/api/v1/reviews/{id}/apply", world.url));
    request.header("authorization", format!("Bearer {}", world.token)).send(seen.to_string()).unwrap();
    wait_for(world, "running");
    go
}

fn wait_for(world: &World, state: &str) {
    wait(|| (world.json(&["runs", "latest"])["steps"][0]["state"] == state).then_some(()));
}

/// What `arguments` print through a proxy; the run goes on when the line was seen.
fn follow(world: &World, proxy: &Proxy, arguments: &[&str], line: &str, go: &std::path::Path) -> String {
    let mut command = world.env.command(arguments);
    command.env("WINDLASS_URL", &proxy.url).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut said = String::new();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    while lines.read_line(&mut said).unwrap() > 0 {
        if said.ends_with(line) {
            std::fs::write(go, "").unwrap();
        }
    }
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
    said
}

/// Compares logs, of which one may have names of directories instead of what they stand for.
#[track_caller]
fn same(one: &str, other: &str) {
    let lines =
        |text: &str| text.lines().filter(|line| !line.contains("Executing:")).map(str::to_owned).collect::<Vec<_>>();
    let (one, other) = (lines(one), lines(other));
    let differs = one.iter().zip(&other).position(|(one, other)| one != other);
    assert_eq!((one.len(), differs), (other.len(), None), "they differ, by number of lines or at a line");
}

#[test]
fn a_log_has_no_gap_and_nothing_twice_over_connections_that_break() {
    let world = World::new();
    let go = talking(&world);
    let proxy = Proxy::new(&world.url, Mode::Cut);
    let said = follow(&world, &proxy, &["logs", "latest/apply:net", "--follow"], "line-1500-é\n", &go);
    same(&said, &world.expect(&["logs", "latest/apply:net"], 0, &["line-3000-é"]));
    assert!(proxy.streams() >= 2, "only {} streams were opened", proxy.streams());
    // All of a run that has ended, and one as JSON.
    let all = follow(&world, &proxy, &["logs", "latest", "-f"], "-", &go);
    same(&all, &world.expect(&["logs", "latest"], 0, &["── apply:net"]));
    let run = follow(&world, &proxy, &["runs", "latest", "--follow", "--json"], "-", &go);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&run).unwrap()["run"]["state"], "succeeded");
}

/// What a program says at a terminal, until it says `wanted`.
fn until(said: &mut Vec<u8>, out: &mut impl Read, wanted: &str) {
    let mut byte = [0];
    while !String::from_utf8_lossy(said).contains(wanted) {
        assert_eq!(out.read(&mut byte).unwrap(), 1, "no `{wanted}` in {}", String::from_utf8_lossy(said));
        said.push(byte[0]);
    }
}

#[test]
fn the_second_interrupt_ends_the_terminal_and_not_the_run() {
    let world = World::new();
    let go = talking(&world);
    let inner = world.env.command(&[]);
    // The shell is not to be there when Ctrl-C comes.
    let line = format!("exec {} runs latest --follow", inner.get_program().display());
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &line, "/dev/null"]).env_clear().current_dir(world.env.root());
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut keys, mut out) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut said = Vec::new();
    until(&mut said, &mut out, "plan:net");
    keys.write_all(b"\x03").unwrap();
    until(&mut said, &mut out, "goes on on the server: `windlass cancel ");
    until(&mut said, &mut out, "or Ctrl-C again");
    keys.write_all(b"\x03").unwrap();
    out.read_to_end(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{}", String::from_utf8_lossy(&said));
    assert_eq!(world.json(&["runs", "latest"])["run"]["state"], "running");
    std::fs::write(go, "").unwrap();
    world.expect(&["runs", "latest", "--follow"], 0, &["Applied 1 instance."]);
}

#[test]
fn what_keeps_streams_for_itself_is_got_around() {
    let world = World::new();
    let go = talking(&world);
    let proxy = Proxy::new(&world.url, Mode::Hold);
    let said = follow(&world, &proxy, &["logs", "latest", "--follow"], "line-1500-é\n", &go);
    same(&said, &world.expect(&["logs", "latest"], 0, &["line-3000-é"]));
    assert!(proxy.streams() >= 2, "it was tried");
}
