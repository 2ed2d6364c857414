//! Against a socket that answers what it was told, whatever it is asked.

use super::*;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;

/// Answers one connection after another; what was asked is given back. `URL` is replaced by its own address.
fn serve(answers: &[String]) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answers: Vec<String> = answers.iter().map(|answer| answer.replace("URL", &url)).collect();
    let served = std::thread::spawn(move || {
        let answer = |answer: String| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
            let first = lines.next().unwrap();
            assert!(lines.any(|line| line.is_empty()), "the request ends");
            stream.write_all(answer.as_bytes()).unwrap();
            first
        };
        answers.into_iter().map(answer).collect()
    });
    (url, served)
}

fn answer(status: u16, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

fn api(url: &str) -> Api {
    let address = Address { host: "git.example".into(), api: url.into(), repository: "company/infra".into() };
    Api::new(&address, None).unwrap()
}

fn away(problem: &str, after: Option<u64>, unsure: bool) -> ForgeError {
    let after = after.map(Duration::from_secs);
    ForgeError::Away { forge: "git.example".into(), problem: problem.into(), after, unsure }
}

#[test]
fn an_answer_says_whether_it_is_about_us_about_now_or_about_the_request() {
    let check = |answer: String, creates: bool, want: Result<u16, ForgeError>| {
        let (url, served) = serve(std::slice::from_ref(&answer));
        let call = Call { creates, ..Call::get("/x", "read it", &[("authorization", "Bearer 4711")]) };
        let found = api(&url).ask(&call).map(|answer| answer.status);
        assert_eq!(found, want, "{answer}");
        assert_eq!(served.join().unwrap(), ["GET /x HTTP/1.1"]);
    };
    let said = r#"{"message":"so it is","errors":[{"message":"and so"},{"code":"too"}]}"#;
    let forbidden = |problem: &str| {
        let problem = problem.to_owned();
        Err(ForgeError::Forbidden { forge: "git.example".into(), what: "read it".into(), problem })
    };
    for status in [200, 204, 404, 405, 409, 422] {
        check(answer(status, "", ""), true, Ok(status));
    }
    check(answer(401, "", said), false, forbidden("401 so it is; and so; too"));
    check(answer(403, "", said), false, forbidden("403 so it is; and so; too"));
    check(answer(403, "X-RateLimit-Remaining: 7\r\n", "{}"), false, forbidden("403 {}"));
    let no_more = "takes no more requests for now (403)";
    check(answer(403, "Retry-After: 9\r\n", said), true, Err(away(no_more, Some(9), false)));
    check(answer(403, "X-RateLimit-Remaining: 0\r\n", said), false, Err(away(no_more, Some(60), false)));
    check(
        answer(403, "", r#"{"message":"You have exceeded a secondary rate limit."}"#),
        false,
        Err(away(no_more, Some(60), false)),
    );
    let alone = "asks to be left alone for a while (429)";
    check(answer(429, "", ""), true, Err(away(alone, Some(60), false)));
    check(answer(429, "Retry-After: 99999999\r\n", ""), false, Err(away(alone, Some(3600), false)));
    check(answer(502, "", "<html>of a proxy</html>"), false, Err(away("answers 502", None, false)));
    check(answer(503, "Retry-After: 5\r\n", said), true, Err(away("answers 503 so it is; and so; too", Some(5), true)));
    let moved = ForgeError::Refused {
        forge: "git.example".into(),
        what: "read it".into(),
        problem: "301 so it is; and so; too".into(),
    };
    check(answer(301, "Location: /y\r\n", said), false, Err(moved));
}

#[test]
fn what_was_cut_off_may_have_been_done_and_what_never_arrived_was_not() {
    let (url, served) = serve(&["HTTP/1.1 201 Created\r\nContent-Length: 10\r\n\r\n{".into(), String::new()]);
    let ask = |creates: bool| {
        let call = Call { creates, ..Call::send(Method::POST, "/x", Some(&Value::Null), "make it", &[]) };
        api(&url).ask(&call).err().unwrap()
    };
    assert!(ask(true).unsure());
    assert!(ask(true).unsure());
    served.join().unwrap();
    let refused = ask(true);
    assert!(!refused.unsure() && refused.retryable(), "{refused}");
    assert!(refused.to_string().starts_with("git.example cannot be reached"), "{refused}");
}

#[test]
fn pages_follow_one_another_as_far_as_they_are_wanted() {
    let page = |next: &str, body: &str| answer(200, &format!("Link: <URL/a>; rel=\"first\", {next}\r\n"), body);
    let pages =
        [page("<URL/x?page=2>; rel=\"next\"", "[1,2]"), page("<URL/x?page=3>; rel=next", "[3,4]"), page("", "[5]")];
    let check = |answers: &[String], most: u64, want: Result<Option<Vec<Value>>, &str>, asked: &[&str]| {
        let (url, served) = serve(answers);
        let call = Call::get("/x", "list them", &[]);
        let found = api(&url).pages(&call, |answer, _| next_link(answer), array, |entry| entry.as_u64() <= Some(most));
        match want {
            Ok(want) => assert_eq!(found.unwrap(), want),
            Err(want) => assert!(found.unwrap_err().to_string().contains(want)),
        }
        let heard = served.join().unwrap();
        let paths: Vec<&str> = heard.iter().map(|line| line.split(' ').nth(1).unwrap()).collect();
        assert_eq!(paths, asked);
    };
    let list = |last: u64| Ok(Some((1..=last).map(Value::from).collect()));
    check(&pages, 9, list(5), &["/x", "/x?page=2", "/x?page=3"]);
    check(&pages[..2], 3, list(3), &["/x", "/x?page=2"]);
    check(&[answer(404, "", "")], 9, Ok(None), &["/x"]);
    check(&[pages[0].clone(), answer(404, "", "")], 9, Err("refuses to list them: 404"), &["/x", "/x?page=2"]);
    check(&[answer(200, "", "{}")], 9, Err("cannot be read when asked to list them"), &["/x"]);
    // A token is sent to nobody but its forge.
    check(&[page("<https://evil.example/x>; rel=\"next\"", "[1]")], 9, Err("cannot be read"), &["/x"]);
}

#[test]
fn it_is_known_how_much_more_may_be_asked() {
    let check = |headers: &str, want: Option<(u64, u64, i64)>| {
        let (url, served) = serve(&[answer(200, headers, "{}")]);
        let api = api(&url);
        api.ask(&Call::get("/x", "read it", &[])).unwrap();
        let budget = api.budget().map(|budget| (budget.limit, budget.remaining, budget.resets_at));
        assert_eq!(budget, want, "{headers}");
        served.join().unwrap();
    };
    let github = "X-RateLimit-Limit: 5000\r\nX-RateLimit-Remaining: 4999\r\nX-RateLimit-Reset: 1795000000\r\n";
    check(github, Some((5000, 4999, 1_795_000_000_000_000)));
    check(&github.replace("X-R", "R"), Some((5000, 4999, 1_795_000_000_000_000)));
    check(&format!("{github}X-RateLimit-Resource: core\r\n"), Some((5000, 4999, 1_795_000_000_000_000)));
    check(&format!("{github}X-RateLimit-Resource: graphql\r\n"), None);
    check("X-RateLimit-Limit: 5000\r\n", None);
    check("", None);
}
