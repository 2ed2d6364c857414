//! Against a chat that keeps the rules of Slack and Mattermost, a real mail server, and the reference library of signed webhooks.

use super::*;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;
use windlass_model::operation::Occasion;
use windlass_model::run::RunState;
use windlass_testkit::chat::{CHANNEL, CHANNEL_NAME, Chat, HOOK, TEAM, TOKEN};
use windlass_testkit::mail::{Encryption, MailServer};
use windlass_testkit::pypi;

/// 2026-11-21, in seconds.
const AT: i64 = 1_795_000_000;

pub(super) fn notice(title: &str) -> Notice {
    Notice {
        occasion: Some(Occasion::Failure),
        state: Some(RunState::Failed),
        project: "shop".into(),
        operation: Some("backup".into()),
        run: Some("01k".into()),
        title: title.into(),
        text: "the disk of <db1> is full @all".into(),
        facts: vec![("host".into(), "db1".into())],
        links: vec![("the run".into(), "https://windlass.example/runs/01k".into())],
        at: AT * 1_000_000,
    }
}

/// One attempt to send a message about `thread`.
pub(super) fn send(
    channel: &Channel,
    title: &str,
    thread: &str,
    reference: Option<&str>,
    unsure_since: Option<i64>,
) -> Result<Option<String>, SendError> {
    let (key, notice) = (format!("{thread}/{title}"), notice(title));
    let at = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
    channel.send(&Delivery { key: &key, thread, reference, unsure_since, notice: &notice, at })
}

/// Texts, and how often each was changed.
fn seen(chat: &Chat) -> Vec<(String, usize)> {
    chat.posts().into_iter().map(|post| (post.text, post.changes)).collect()
}

fn seen_as(list: &[(&str, usize)]) -> Vec<(String, usize)> {
    list.iter().map(|(text, changes)| ((*text).to_owned(), *changes)).collect()
}

#[test]
fn a_bot_changes_its_message_and_finds_it_again() {
    for (api, channel) in [("/api", CHANNEL), ("/api/v4", CHANNEL), ("/api/v4", &format!("{TEAM}/{CHANNEL_NAME}"))] {
        let chat = Chat::start().unwrap();
        let bot = || Channel::bot(Some(&chat.url(api)), TOKEN, channel).unwrap();
        assert_eq!(bot().manner(), Manner::InPlace);
        let place = send(&bot(), "began", "r1", None, None).unwrap().unwrap();
        assert_eq!(seen(&chat), seen_as(&[("began", 0)]), "{api}");
        assert_eq!(send(&bot(), "ended", "r1", Some(&place), None).unwrap().as_deref(), Some(&*place));
        assert_eq!(seen(&chat), seen_as(&[("ended", 1)]), "{api}");
        // Nobody heard whether it arrived: it did, it did not, or it is of something else.
        assert_eq!(send(&bot(), "again", "r1", None, Some(0)).unwrap().as_deref(), Some(&*place));
        assert_eq!(seen(&chat), seen_as(&[("again", 2)]), "{api}");
        let other = send(&bot(), "other", "r2", None, Some(0)).unwrap().unwrap();
        assert_eq!(seen(&chat), seen_as(&[("again", 2), ("other", 0)]), "{api}");
        // Somebody removed it.
        chat.remove(other.rsplit('/').next().unwrap());
        assert_ne!(send(&bot(), "anew", "r2", Some(&other), None).unwrap().as_deref(), Some(&*other));
        assert_eq!(seen(&chat), seen_as(&[("again", 2), ("anew", 0)]), "{api}");
        // A bot that may not read the channel tells twice rather than never.
        chat.blind();
        send(&bot(), "twice", "r2", None, Some(0)).unwrap();
        assert_eq!(seen(&chat), seen_as(&[("again", 2), ("anew", 0), ("twice", 0)]), "{api}");
    }
}

#[test]
fn a_channel_says_what_is_wrong_and_when_to_come_again() {
    let chat = Chat::start().unwrap();
    let check = |channel: &Channel, want: &str, after: Option<u64>| {
        let error = send(channel, "t", "r", None, None).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(want) && text.contains("127.0.0.1"), "{text}");
        assert!(!text.contains("4711"), "a secret is told: {text}");
        assert_eq!((error.code(), error.retryable()), ("WL771", true), "{text}");
        assert_eq!(error.after(), after.map(Duration::from_secs));
    };
    let slack = |token: &str, channel: &str| Channel::bot(Some(&chat.url("/api")), token, channel).unwrap();
    let mattermost = |token: &str, channel: &str| Channel::bot(Some(&chat.url("/api/v4/")), token, channel).unwrap();
    check(&slack("other-4711", CHANNEL), "invalid_auth", None);
    check(&slack(TOKEN, "C999"), "channel_not_found", None);
    check(&mattermost("other-4711", CHANNEL), "answers 401 Invalid or expired session", None);
    check(&mattermost(TOKEN, "nobody/here"), "answers 404", None);
    for channel in [slack(TOKEN, CHANNEL), mattermost(TOKEN, CHANNEL), Channel::webhook(&chat.hook()).unwrap()] {
        chat.refuse(1, 429, Some(7));
        check(&channel, "asks to be left alone", Some(7));
        chat.refuse(1, 429, Some(1 << 40));
        check(&channel, "asks to be left alone", Some(3_600));
        chat.refuse(1, 503, None);
        check(&channel, "answers 503 not now", None);
    }
    check(&Channel::webhook(&chat.url("/hooks/other-4711")).unwrap(), "answers 404", None);
    assert_eq!(chat.posts(), []);
    chat.refuse(1, 400, None);
    let refused = send(&slack(TOKEN, CHANNEL), "t", "r", None, None).unwrap_err();
    assert_eq!((refused.code(), refused.retryable()), ("WL772", false));
    let away = Channel::webhook(&chat.hook()).unwrap();
    drop(chat);
    check(&away, "cannot be reached", None);
}

#[test]
fn what_cannot_be_used_is_told_without_secrets() {
    let check = |made: Result<Channel, SendError>, want: &str| {
        let error = made.err().map(|error| (error.code(), error.to_string()));
        let (code, text) = error.unwrap_or_else(|| panic!("it can be used: {want}"));
        assert!(text.contains(want) && !text.contains("4711"), "{text}");
        assert_eq!(code, "WL770");
    };
    check(Channel::webhook("not-an-address-4711"), "`url` is no address");
    check(Channel::webhook("http://chat.example/4711"), "`url` has to begin with https://");
    check(Channel::bot(Some("ftp://x"), "4711", "c"), "`api` has to begin with https://");
    check(Channel::signed("https://x.example", "short-4711"), "`key` is no key");
    check(Channel::signed("https://x.example", ""), "`key` is no key");
    let to = ["ops@example.com".to_owned()];
    check(Channel::email("https://x", "w@example.com", &to), "`smtp` begins with https://");
    check(Channel::email("smtp://", "w@example.com", &to), "`smtp`");
    check(Channel::email("smtp://x", "nobody", &to), "`from`");
    check(Channel::email("smtp://x", "w@example.com", &["a@".into()]), "`to`");
    check(Channel::email("smtp://x", "w@example.com", &[]), "`to` names nobody");
    assert!(Channel::bot(None, "t", "c").is_ok() && Channel::webhook("https://hooks.slack.com/x").is_ok());
}

#[test]
fn an_incoming_webhook_gets_text_that_mentions_nobody() {
    let chat = Chat::start().unwrap();
    let webhook = Channel::webhook(&chat.hook()).unwrap();
    assert_eq!(webhook.manner(), Manner::Apart);
    assert_eq!(send(&webhook, "backup failed", "r", None, None).unwrap(), None);
    let post = &chat.posts()[0];
    assert_eq!(post.text, "backup failed");
    let attachment = &post.attachments[0];
    let text = attachment["text"].as_str().unwrap();
    assert_eq!(text, "the disk of \\<db1\\> is full @\u{200b}all\n[the run](https://windlass.example/runs/01k)");
    assert_eq!(attachment["fields"][0]["value"], "db1");
    assert!(chat.heard().iter().all(|heard| heard.request == format!("POST /hooks/{HOOK}")));
}

#[test]
fn the_reference_library_verifies_what_is_signed() {
    let python = pypi::environment("standardwebhooks==1.0.0", "python").unwrap();
    let keys = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_c2Vjb25kIGtleSBvZiB0aGUgdGVzdHMgaGVyZQ=="];
    let chat = Chat::start().unwrap();
    let signed = Channel::signed(&chat.url("/signed"), &keys.join(" ")).unwrap();
    assert_eq!(signed.manner(), Manner::Every);
    send(&signed, "backup failed", "r", None, None).unwrap();
    send(&signed, "backup failed", "r", None, Some(0)).unwrap();
    send(&signed, "something else", "r", None, None).unwrap();
    let heard = chat.heard();
    let id = |at: usize| heard[at].headers["webhook-id"].clone();
    assert!(id(0) == id(1) && id(0) != id(2), "another attempt has the same id");
    let verify = |key: &str, body: &str| {
        let script = "import sys, json\nfrom standardwebhooks import Webhook\n\
                      given = json.load(sys.stdin)\nWebhook(given['key']).verify(given['body'], given['headers'])\n";
        let given = serde_json::json!({ "key": key, "body": body, "headers": heard[0].headers });
        let mut child =
            Command::new(&python).args(["-c", script]).stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(given.to_string().as_bytes()).unwrap();
        child.wait().unwrap().success()
    };
    for key in keys {
        assert!(verify(key, &heard[0].body), "{key}");
    }
    assert!(!verify(keys[0], &heard[0].body.replace("failed", "passed")));
    assert!(!verify("whsec_YW5vdGhlciBrZXkgdGhhdCBpcyBub3Qgb3Vycw==", &heard[0].body));
    let body: serde_json::Value = serde_json::from_str(&heard[0].body).unwrap();
    assert_eq!((&body["type"], &body["timestamp"]), (&"run.failed".into(), &"2026-11-18T11:06:40Z".into()));
    assert_eq!(body["data"]["facts"]["host"], "db1");
}

#[test]
fn mail_is_sent_as_the_server_asks_for_it_and_answers_the_first() {
    let (from, to) = ("Windlass <windlass@example.com>", ["ops@example.com".to_owned(), "dev@example.com".to_owned()]);
    let account = Some(("anna", "p@ss:4711"));
    for (encryption, account) in
        [(Encryption::Plain, None), (Encryption::StartTls, account), (Encryption::Tls, account)]
    {
        let server = MailServer::start(encryption, account).unwrap();
        let place = server.place();
        let url = |password: &str| match (encryption, account) {
            (Encryption::Tls, _) => format!("smtps://anna:{password}@{place}"),
            (Encryption::StartTls, _) => format!("smtp://anna:{password}@{place}?tls=required"),
            _ => format!("smtp://{place}"),
        };
        let channel = |url: &str, to: &[String]| {
            Channel::Email(email::Email::trusting(url, from, to, Some(server.certificate().as_bytes())).unwrap())
        };
        let mail = channel(&url("p%40ss%3A4711"), &to);
        assert_eq!(mail.manner(), Manner::Apart);
        let first = send(&mail, "backup waits\r\nBcc: all@example.com", "r", None, None).unwrap().unwrap();
        assert_eq!(send(&mail, "backup failed", "r", Some(&first), None).unwrap().unwrap(), first);
        // Another attempt has the same id, by which it is known.
        send(&mail, "backup failed", "r", Some(&first), Some(0)).unwrap();
        let mails = server.mails().unwrap();
        let headers = |name: &str| mails.iter().map(|mail| mail.header(name)).collect::<Vec<_>>();
        let ids = headers("Message-ID");
        assert_eq!(ids[0].as_deref(), Some(&*first));
        assert!(ids[1] == ids[2] && ids[0] != ids[1], "{ids:?}");
        for name in ["In-Reply-To", "References"] {
            assert_eq!(headers(name), [None, Some(first.clone()), Some(first.clone())], "{name}");
        }
        assert_eq!(headers("Subject")[1].as_deref(), Some("[shop] backup failed"));
        assert_eq!(
            (headers("Bcc")[0].clone(), headers("Auto-Submitted")[0].as_deref()),
            (None, Some("auto-generated"))
        );
        for mail in &mails {
            assert_eq!((mail.from.as_str(), mail.to.len()), ("windlass@example.com", 2));
            assert_eq!(mail.encrypted, encryption != Encryption::Plain);
            assert_eq!(mail.user.as_deref(), account.map(|(user, _)| user));
            assert!(mail.text.contains("https://windlass.example/runs/01k"), "{}", mail.text);
        }
        let failure =
            |to: &str| send(&channel(&url("p%40ss%3A4711"), &[to.to_owned()]), "t", "r", None, None).unwrap_err();
        assert_eq!((failure("nobody@example.com").code(), failure("later@example.com").code()), ("WL772", "WL771"));
        if account.is_some() {
            let wrong = send(&channel(&url("wrong"), &to), "t", "r", None, None).unwrap_err();
            assert_eq!(wrong.code(), "WL771", "somebody may mend it: {wrong}");
            // Nothing is sent to a server that nobody vouches for.
            let unknown = Channel::email(&url("p%40ss%3A4711"), from, &to).unwrap();
            let error = send(&unknown, "t", "r", None, None).unwrap_err().to_string();
            assert!(error.contains("certificate") && !error.contains("4711"), "{error}");
        }
        assert_eq!(server.mails().unwrap().len(), 3);
    }
}
