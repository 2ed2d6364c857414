//! Errors that go away by themselves, and how often a command that met one is run again. Only `init` and `plan` are: they change
//! nothing. An apply that has begun is never repeated.

use windlass_model::diagnostic::{Diagnostic, Severity};

/// How often a command is run at most.
pub const ATTEMPTS: u32 = 3;

/// One row: what the message of such an error contains (upper and lower case alike), and what it means.
#[derive(Debug, Clone, Copy)]
pub struct Transient {
    pub pattern: &'static str,
    pub meaning: &'static str,
}

const fn row(pattern: &'static str, meaning: &'static str) -> Transient {
    Transient { pattern, meaning }
}

/// All of them. The page `docs/terraform.md` shows the same table.
pub const TRANSIENT: &[Transient] = &[
    row("connection reset by peer", "the other side dropped the connection"),
    row("broken pipe", "the other side dropped the connection"),
    row("unexpected eof", "the other side dropped the connection"),
    row("http2: server sent goaway", "the other side is about to restart"),
    row("tls handshake timeout", "the other side is overloaded"),
    row("i/o timeout", "the network did not answer in time"),
    row("client.timeout exceeded", "the network did not answer in time"),
    row("temporary failure in name resolution", "the name server did not answer"),
    row("server misbehaving", "the name server did not answer"),
    row("429 too many requests", "a registry limits the rate"),
    row("500 internal server error", "a registry failed"),
    row("502 bad gateway", "a registry is restarting"),
    row("503 service unavailable", "a registry is overloaded"),
    row("504 gateway timeout", "a registry is overloaded"),
    row("bad response code: 429", "a registry limits the rate"),
    row("bad response code: 500", "a registry failed"),
    row("bad response code: 502", "a registry is restarting"),
    row("bad response code: 503", "a registry is overloaded"),
    row("bad response code: 504", "a registry is overloaded"),
    row("response code 429", "the http backend limits the rate"),
    row("response code 500", "the http backend failed"),
    row("response code 502", "the http backend is restarting"),
    row("response code 503", "the http backend is overloaded"),
    row("response code 504", "the http backend is overloaded"),
    row("statuscode: 429", "AWS limits the rate"),
    row("statuscode: 500", "AWS failed"),
    row("statuscode: 503", "AWS is overloaded"),
    row("throttl", "AWS limits the rate"),
    row("requestlimitexceeded", "AWS limits the rate"),
    row("slowdown", "S3 limits the rate"),
    row("toomanyrequests", "Azure limits the rate"),
    row("ratelimitexceeded", "Google limits the rate"),
    row("googleapi: error 503", "Google is overloaded"),
    row("text file busy", "a provider was being installed while it was started"),
];

/// The row that a text matches first.
pub fn of_text(text: &str) -> Option<&'static Transient> {
    // Terraform breaks the lines of its messages at the width of a terminal.
    let text = text.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
    TRANSIENT.iter().find(|row| text.contains(row.pattern))
}

/// The row that the errors among `diagnostics` match, when all of them match one: with another error beside it the command would
/// fail again. A lock that could not be released would be met by the next attempt, so that is none.
pub fn of_errors(diagnostics: &[Diagnostic]) -> Option<&'static Transient> {
    let mut found = None;
    for error in diagnostics.iter().filter(|d| d.severity == Severity::Error) {
        let text = format!("{}\n{}", error.summary, error.detail);
        if text.contains("Error releasing the state lock") {
            return None;
        }
        found = Some(of_text(&text)?);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_message_that_it_matches() {
        let messages = [
            "read tcp 10.0.0.1:4711->1.2.3.4:443: read: connection reset by peer",
            "write tcp 10.0.0.1:4711->1.2.3.4:443: write: broken pipe",
            "Get \"https://registry.terraform.io/v1/providers/a/b/versions\": unexpected EOF",
            "http2: server sent GOAWAY and closed the connection; LastStreamID=1",
            "Get \"https://registry.terraform.io/.well-known/terraform.json\": net/http: TLS handshake timeout",
            "dial tcp 1.2.3.4:443: i/o timeout",
            "net/http: request canceled (Client.Timeout exceeded while awaiting headers)",
            "dial tcp: lookup a.example: Temporary failure in name resolution",
            "dial tcp: lookup a.example on 127.0.0.53:53: server misbehaving",
            "could not query provider registry: the request failed, please try again later: 429 Too Many Requests returned from registry.terraform.io",
            "the request failed after 2 attempts, please try again later: 500 Internal Server Error returned from registry.terraform.io",
            "failed to fetch provider: 502 Bad Gateway returned from registry.terraform.io",
            "error: 503 Service Unavailable returned from releases.example",
            "unsuccessful request to https://a/b.zip: 504 Gateway Timeout",
            "Failed to download localhost:1/a/b v1.0.0 for linux_amd64: bad response code: 429.",
            "Failed to download localhost:1/a/b v1.0.0 for linux_amd64: bad response code: 500.",
            "Failed to download localhost:1/a/b v1.0.0 for linux_amd64: bad response code: 502.",
            "Failed to download localhost:1/a/b v1.0.0 for linux_amd64: bad response code: 503.",
            "Failed to download localhost:1/a/b v1.0.0 for linux_amd64: bad response code: 504.",
            "Unexpected HTTP response code 429",
            "Failed to get state: Unexpected HTTP response code 500",
            "HTTP remote state: Unexpected HTTP response code 502",
            "Error acquiring the state lock\nUnexpected HTTP response code 503",
            "Unexpected HTTP response code 504",
            "operation error S3: GetObject, https response error StatusCode: 429, RequestID: x",
            "operation error S3: GetObject, https response error StatusCode: 500, RequestID: x",
            "operation error S3: GetObject, https response error StatusCode: 503, RequestID: x",
            "api error ThrottlingException: Rate exceeded",
            "api error RequestLimitExceeded: Request limit exceeded.",
            "api error SlowDown: Please reduce your request rate.",
            "Code=\"TooManyRequests\" Message=\"The request is being throttled\"",
            "googleapi: Error 403: Quota exceeded, rateLimitExceeded",
            "googleapi: Error 503: Backend Error",
            "fork/exec .terraform/providers/x/terraform-provider-a: text file busy",
        ];
        assert_eq!(messages.len(), TRANSIENT.len());
        for (row, message) in TRANSIENT.iter().zip(messages) {
            assert_eq!(row.pattern, row.pattern.to_lowercase());
            assert!(message.to_lowercase().contains(row.pattern), "{}: {message}", row.pattern);
            assert!(of_text(message).is_some(), "{message}");
        }
        let page = include_str!("../../../../docs/terraform.md");
        for row in TRANSIENT {
            assert!(
                page.contains(&format!("| `{}` | {} |", row.pattern, row.meaning)),
                "{} is not in the docs",
                row.pattern
            );
        }
    }

    #[test]
    fn what_stays_wrong_is_not_tried_again() {
        let check = |errors: &[&str], want: bool| {
            let errors: Vec<Diagnostic> = errors.iter().map(|text| Diagnostic::error("WL503", *text)).collect();
            assert_eq!(of_errors(&errors).is_some(), want, "{errors:?}");
        };
        check(&["dial tcp 1.2.3.4:443: i/o timeout"], true);
        check(&["Failed to download h/n/t v1.0.0 for linux_amd64: bad\nresponse code: 503."], true);
        check(&["dial tcp 1.2.3.4:443: i/o timeout", "No value for required variable"], false);
        check(&["Error acquiring the state lock: state blob is already locked"], false);
        check(&["Unexpected HTTP response code 401"], false);
        check(&["Error releasing the state lock: connection reset by peer"], false);
        check(&["dial tcp 127.0.0.1:1: connect: connection refused"], false);
        check(&[], false);
        let warning = Diagnostic::new(Severity::Warning, "WL503", "500 Internal Server Error");
        assert!(of_errors(&[warning]).is_none());
    }
}
