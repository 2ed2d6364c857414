//! Hostile input to the real program: output of steps, paths, cookies and connections that want to do harm.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod common;

use common::server::Server;
use common::wait;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use windlass_testkit::cli::CliEnv;

/// Says what a terminal or a page must not get as it is, and a line of 10 MB.
const SAY: &str = r#"
printf 'title: \033]0;owned\007 link: \033]8;;http://evil\033\\x\033]8;;\033\\ colour: \033[31mred\033[0m clear: \033[2J\033c\n'
printf 'no text: \377\376\300\200 nul: a\000b bell: \a back: abc\b\b\b over: abc\rxyz\n'
printf 'page: <script>alert(1)</script><img src=x onerror=alert(2)> </textarea> </script>\n'
printf 'data: x\n\ndata: forged\nevent: end\nid: 9\n\n'
head -c 10485760 /dev/zero | tr '\000' 'L'
printf '\nall said\n'
"#;

fn repository(script: &str) -> CliEnv {
    let env = CliEnv::new(env!("CARGO_BIN_EXE_windlass")).unwrap();
    env.git_init().unwrap();
    let state = env.home().join("net.tfstate");
    let stack = format!(
        "terraform {{\n  backend \"local\" {{\n    path = \"{}\"\n  }}\n}}\nresource \"terraform_data\" \"say\" {{\n  provisioner \"local-exec\" {{\n    command = \"sh ${{path.module}}/say.sh\"\n  }}\n}}\n",
        state.display()
    );
    env.write("net/main.tf", &stack).unwrap();
    env.write("net/say.sh", script).unwrap();
    env.commit("Stack").unwrap();
    env
}

/// The most memory that the server ever held, MiB.
fn peak(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// Sends bytes as they are and gives what comes back until the connection is closed.
fn raw(server: &Server, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.url.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    // It may be closed before all was sent, with an answer that can be read.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// Whether there is something that a terminal would obey.
fn obeyed(bytes: &[u8]) -> bool {
    let is_harmful = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    String::from_utf8_lossy(bytes).chars().any(is_harmful)
}

/// Puts a terraform before the real one that says all this while it applies: terraform itself passes on no such line.
fn noisy(env: &mut CliEnv) {
    let (directory, noise) = (env.home().join("bin"), env.home().join("noise.sh"));
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(&noise, SAY).unwrap();
    let real = windlass_testkit::cli::terraform().unwrap();
    let script = format!(
        "#!/bin/sh\n[ \"$1\" != apply ] || sh {} >&2\nexec {} \"$@\"\n",
        noise.display(),
        Path::new(&real).display()
    );
    let program = directory.join("terraform");
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    env.set("PATH", format!("{}:{path}", directory.display()));
}

#[test]
fn whatever_a_step_says_is_stored_and_shown() {
    let mut env = repository("echo done");
    noisy(&mut env);
    let server = Server::start(&env, "");
    let before = peak(&server);
    let (_, run, state) = server.apply(&["net"]);
    assert_eq!(state, "succeeded");
    let log = server.log(&run, "apply:net");
    assert!(log.headers["content-type"].to_str().unwrap().starts_with("text/plain"), "{:?}", log.headers);
    assert_eq!(log.headers["x-content-type-options"], "nosniff");
    let count = log.bytes.iter().filter(|byte| **byte == b'L').count();
    assert_eq!(count, 10 << 20, "of the long line");
    for text in ["no text: ", "<script>alert(1)</script>", "data: forged", "all said"] {
        assert!(log.text().contains(text), "no `{text}`");
    }
    // In parts, with nothing missing between them.
    let step = format!("/api/v1/runs/{run}/steps/apply%3Anet/log");
    let (mut from, mut joined) = (0, String::new());
    loop {
        let part = server.get(&format!("{step}?from={from}&limit=1000000")).json();
        let chunks = part["chunks"].as_array().unwrap();
        let Some(last) = chunks.last() else { break };
        chunks.iter().for_each(|chunk| joined.push_str(chunk["text"].as_str().unwrap()));
        from = last["next"].as_u64().unwrap();
    }
    assert_eq!((from, joined.len()), (log.bytes.len() as u64, log.text().len()));
    // As a stream: what it says cannot end an event, nor begin one.
    let stream = server.get(&format!("{step}/stream?from=0")).text();
    let ends = stream.split("\n\n").filter(|event| event.lines().any(|line| line == "event: end")).count();
    assert!(ends == 1 && !stream.lines().any(|line| line == "data: forged"), "{ends} ends");
    // The page does not hold the log, and nothing of it is part of the page.
    for path in [format!("/runs/{run}"), "/events".into(), "/stacks/shop/net".into()] {
        let page = server.get(&path);
        assert!(page.status == 200 && page.bytes.len() < 500_000, "{path}: {} bytes", page.bytes.len());
        assert!(!page.text().contains("<script>alert") && !obeyed(&page.bytes), "{path}");
    }
    let grown = peak(&server) - before;
    assert!(grown < 250, "{grown} MiB more");

    // A terminal gets none of it as it is.
    let token = server.post("/api/v1/tokens", &serde_json::json!({ "name": "t", "days": 1 }));
    let mut command = env.command(&["logs", &run]);
    command.env("WINDLASS_URL", &server.url).env("WINDLASS_TOKEN", token["secret"].as_str().unwrap());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout.len() > 10 << 20 && !obeyed(&output.stdout));
}

#[test]
fn paths_lead_nowhere_else() {
    let env = repository("echo done");
    let server = Server::start(&env, "");
    let (review, run, _) = server.apply(&["net"]);
    let whole = [
        "..",
        ".",
        "%2e%2e",
        "%2E%2E%2F%2E%2E%2Fkey",
        "..%2f..%2f..%2fetc%2fpasswd",
        "%252e%252e%252fkey",
        "..%5c..%5ckey",
        "%00",
        "net%00",
        "a%0d%0aSet-Cookie:%20x=y",
        "%ff%fe",
        "%c0%ae%c0%ae%2fkey",
        "....//....//key",
        "%2fetc%2fpasswd",
        "/etc/passwd",
        "net%2f..%2f..%2fkey",
        "%1b%5d0;owned%07",
        "'%20OR%201=1--",
        "%25%30%30",
    ];
    let long = "x".repeat(20_000);
    let parameters: Vec<&str> = whole.into_iter().chain([long.as_str()]).collect();
    let cookie = &server.cookie;
    let mut wrong = Vec::new();
    for bad in &parameters {
        let paths = [
            format!("/api/v1/projects/{bad}"),
            format!("/api/v1/projects/{bad}/runs"),
            format!("/api/v1/projects/shop/stacks/{bad}"),
            format!("/api/v1/projects/shop/history/{bad}"),
            format!("/api/v1/runs/{bad}"),
            format!("/api/v1/runs/{bad}/stream"),
            format!("/api/v1/runs/{run}/steps/{bad}/log"),
            format!("/api/v1/runs/{run}/steps/{bad}/log/stream"),
            format!("/api/v1/runs/{bad}/steps/apply%3Anet/log"),
            format!("/api/v1/reviews/{bad}"),
            format!("/runs/{bad}"),
            format!("/reviews/{bad}"),
            format!("/stacks/{bad}/net"),
            format!("/stacks/shop/{bad}"),
            format!("/assets/{bad}"),
            format!("/sign-in/link/{bad}"),
            format!("/sign-in/{bad}/callback"),
        ];
        for path in paths {
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n");
            let answer = raw(&server, request.as_bytes());
            let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
            let status: u16 = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
            // What a link or a callback holds is looked at by its page.
            let page = path.starts_with("/sign-in/");
            // A list of what belongs to something that is not there is empty.
            let is_empty = status == 200 && body == r#"{"items":[],"next":null}"#;
            let is_refused = matches!(status, 400..=499) || is_empty || (page && matches!(status, 200 | 303));
            let leaks =
                body.contains("root:x:") || body.contains("[core]") || head.to_lowercase().contains("set-cookie: x");
            if !is_refused || leaks || obeyed(body.as_bytes()) {
                wrong.push(format!("{}: {head}\n{}", &path[..path.len().min(120)], &body[..body.len().min(300)]));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of them:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(server.get(&format!("/reviews/{review}")).status, 200, "it still answers");
    // Nothing was made outside of where it belongs.
    assert!(!env.home().join("key").exists() && !env.root().join("key").exists());
}

#[test]
fn heads_that_are_too_long_and_connections_that_say_nothing_hold_nobody_up() {
    let env = repository("echo done");
    let server = Server::start(&env, "");
    let silent: Vec<TcpStream> =
        (0..300).map(|_| TcpStream::connect(server.url.strip_prefix("http://").unwrap()).unwrap()).collect();
    for (number, mut stream) in silent.iter().enumerate() {
        // Some say nothing, some begin a head and never end it.
        if number % 2 == 0 {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ").unwrap();
        }
    }
    assert_eq!(server.get("/healthz").status, 200, "while they are there");
    let before = peak(&server);
    for head in [
        format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(2 << 20)),
        format!("GET / HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "a".repeat(2 << 20)),
        format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-Many: a\r\n".repeat(5_000)),
    ] {
        let answer = raw(&server, head.as_bytes());
        let refused = ["HTTP/1.1 414", "HTTP/1.1 431", "HTTP/1.1 400"].iter().any(|status| answer.starts_with(status));
        assert!(refused || answer.is_empty(), "{answer}");
    }
    // Not HTTP at all, and two lengths, which a proxy may read otherwise than we do.
    assert!(raw(&server, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").is_empty_or_bad());
    let smuggled = b"POST /sign-in HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 30\r\n\r\nabcdGET /healthz HTTP/1.1\r\n\r\n";
    assert!(raw(&server, smuggled).is_empty_or_bad());
    for mut stream in silent {
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut rest = Vec::new();
        // It is closed, or reset: either way it is over.
        match stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "it is still open"),
        }
    }
    assert_eq!(server.get("/healthz").status, 200);
    let grown = peak(&server) - before;
    assert!(grown < 100, "{grown} MiB more");
}

trait Refused {
    fn is_empty_or_bad(&self) -> bool;
}

impl Refused for String {
    fn is_empty_or_bad(&self) -> bool {
        self.is_empty() || self.starts_with("HTTP/1.1 400") && !self.contains("\r\n\r\nok")
    }
}

#[test]
fn a_form_of_another_session_is_refused() {
    let env = repository("echo done");
    let mut first = Server::start(&env, "");
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    // Sessions outlive the server, and each start has a link.
    let second = Server::start(&env, "");
    let (one, other) = ((first.cookie.clone(), first.csrf.clone()), (second.cookie.clone(), second.csrf.clone()));
    assert!(one.0 != other.0 && one.1 != other.1);
    let sign_out = |cookie: &str, csrf: &str| {
        let form = [("cookie", cookie), ("content-type", "application/x-www-form-urlencoded")];
        second.send("POST", "/sign-out", &form, format!("csrf={csrf}").as_bytes())
    };
    let fetch = |cookie: &str, csrf: &str| {
        let headers = [("cookie", cookie), ("x-csrf-token", csrf), ("content-type", "application/json")];
        second.send("POST", "/api/v1/projects/shop/reviews", &headers, br#"{"all":true}"#)
    };
    for (cookie, csrf) in [(&one.0, &other.1), (&other.0, &one.1)] {
        let refused = sign_out(cookie, csrf);
        assert!(refused.status == 403 && refused.text().contains("WL844"), "{refused:?}");
        let refused = fetch(cookie, csrf);
        assert!(refused.status == 403 && refused.text().contains("WL844"), "{refused:?}");
    }
    assert_eq!(sign_out(&one.0, &one.1).status, 303);
    wait(|| (second.send("GET", "/api/v1/me", &[("cookie", &one.0)], b"").status == 401).then_some(()));
    assert_eq!(second.get("/api/v1/me").status, 200, "the other is not touched");
}

/// A server of TLS with a certificate of the year 2020, until it is dropped.
struct Expired {
    server: Child,
    port: u16,
}

const AUTHORITY: &str = "[ca]\ndefault_ca = own\n[own]\nnew_certs_dir = .\ndatabase = index.txt\nrand_serial = yes\ndefault_md = sha256\npolicy = any\nx509_extensions = names\n[any]\ncommonName = supplied\n[names]\nsubjectAltName = DNS:localhost,IP:127.0.0.1\n";

impl Expired {
    fn start(directory: &Path) -> Self {
        let openssl = |arguments: &str| {
            let output = Command::new("openssl").args(arguments.split(' ')).current_dir(directory).output().unwrap();
            assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
        };
        std::fs::write(directory.join("ca.cnf"), AUTHORITY).unwrap();
        std::fs::write(directory.join("index.txt"), "").unwrap();
        openssl("req -new -newkey rsa:2048 -nodes -keyout key.pem -out request.pem -subj /CN=localhost");
        openssl(
            "ca -selfsign -batch -config ca.cnf -keyfile key.pem -in request.pem -out certificate.pem -startdate 20200101000000Z -enddate 20200201000000Z -notext",
        );
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Command::new("openssl")
            .args(["s_server", "-quiet", "-www", "-cert", "certificate.pem", "-key", "key.pem", "-accept"])
            .arg(format!("127.0.0.1:{port}"))
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let expired = Self { server, port };
        wait(|| TcpStream::connect(("127.0.0.1", port)).ok());
        expired
    }

    /// A port at which it is asked for TLS as PostgreSQL is: eight bytes, answered with `S`.
    fn as_postgresql(&self) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (own, to) = (listener.local_addr().unwrap().port(), self.port);
        std::thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                let Ok(mut server) = TcpStream::connect(("127.0.0.1", to)) else { break };
                let mut asked = [0; 8];
                if client.read_exact(&mut asked).and_then(|()| client.write_all(b"S")).is_err() {
                    continue;
                }
                let (mut from, mut back) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut back);
                    // It serves one after the other.
                    let _ = back.shutdown(Shutdown::Both);
                });
                std::thread::spawn(move || std::io::copy(&mut server, &mut client));
            }
        });
        own
    }
}

impl Drop for Expired {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[test]
fn expired_certificates_are_named() {
    let mut env = repository("echo done");
    let expired = Expired::start(&env.home());
    let (port, postgresql) = (expired.port, expired.as_postgresql());
    // The authority is known here: its age is all that is wrong with it.
    env.set("SSL_CERT_FILE", env.home().join("certificate.pem"));
    env.set("GIT_SSL_CAINFO", env.home().join("certificate.pem"));
    let text = format!(
        "data = \"{}\"\ndatabase = \"postgres://u@localhost:{postgresql}/x?sslmode=require\"\n[[repository]]\nname = \"shop\"\nurl = \"https://localhost:{port}/shop.git\"\n[[oidc]]\nname = \"company\"\nissuer = \"https://localhost:{port}\"\nclient_id = \"x\"\n",
        env.home().join("data").display(),
    );
    let config = env.home().join("windlass.toml");
    std::fs::write(&config, text).unwrap();
    let answer = env.run(&["doctor", "--config", &config.display().to_string()]).unwrap();
    assert_eq!(answer.code, Some(1), "{answer:?}");
    let said = |what: &str| {
        let line = answer.stdout.split("✗ ").find(|line| line.starts_with(what));
        line.unwrap_or_else(|| panic!("nothing is wrong with {what}: {}", answer.stdout)).to_lowercase()
    };
    for what in ["database", "sign-in company", "repository shop"] {
        assert!(said(what).contains("certificate") && said(what).contains("expired"), "{}", said(what));
    }
}
