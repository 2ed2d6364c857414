//! The `-json` stream of plan and apply: one object a line, unknown ones ignored, other bytes kept.

use serde_json::Value;

/// A line that matters.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Major version of the stream's format, e.g. 1.
    Version(u64),
    Diagnostic(Value),
    ApplyStart {
        address: String,
        action: String,
        id_key: Option<String>,
        id_value: Option<String>,
    },
    ApplyProgress {
        address: String,
        action: String,
        seconds: u64,
    },
    ApplyComplete {
        address: String,
        action: String,
        id_key: Option<String>,
        id_value: Option<String>,
        seconds: u64,
    },
    ApplyErrored {
        address: String,
        action: String,
        seconds: u64,
    },
    /// A line of a provisioner, with what terraform puts before it.
    Said {
        who: String,
        line: String,
    },
    /// Text of anything else that has one.
    Message(String),
}

/// Reads one line; `None` for what is no JSON object of the stream.
pub fn parse(line: &[u8]) -> Option<Event> {
    let value: Value = serde_json::from_slice(line).ok()?;
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let number = |pointer: &str| value.pointer(pointer).and_then(Value::as_f64).map_or(0, |n| n as u64);
    let address = || text("/hook/resource/addr").unwrap_or_default();
    let action = || text("/hook/action").unwrap_or_default();
    Some(match value.get("type")?.as_str()? {
        "version" => Event::Version(text("/ui")?.split('.').next()?.parse().ok()?),
        "diagnostic" => Event::Diagnostic(value.get("diagnostic")?.clone()),
        "apply_start" => Event::ApplyStart {
            address: address(),
            action: action(),
            id_key: text("/hook/id_key"),
            id_value: text("/hook/id_value"),
        },
        "apply_progress" => {
            Event::ApplyProgress { address: address(), action: action(), seconds: number("/hook/elapsed_seconds") }
        }
        "apply_complete" => Event::ApplyComplete {
            address: address(),
            action: action(),
            id_key: text("/hook/id_key"),
            id_value: text("/hook/id_value"),
            seconds: number("/hook/elapsed_seconds"),
        },
        "apply_errored" => {
            Event::ApplyErrored { address: address(), action: action(), seconds: number("/hook/elapsed_seconds") }
        }
        "provision_progress" => {
            let (message, line) = (text("/@message")?, text("/hook/output").unwrap_or_default());
            match message.strip_suffix(line.as_str()) {
                Some(who) => Event::Said { who: who.to_owned(), line },
                None => Event::Message(message),
            }
        }
        _ => Event::Message(text("/@message")?),
    })
}

/// Cuts a byte stream into lines; a last line without a line feed comes out of [`Lines::rest`].
#[derive(Debug, Default)]
pub struct Lines {
    buffer: Vec<u8>,
}

impl Lines {
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.buffer.extend_from_slice(bytes);
        let mut lines = Vec::new();
        while let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
            let rest = self.buffer.split_off(end + 1);
            let mut line = std::mem::replace(&mut self.buffer, rest);
            line.pop();
            lines.push(line);
        }
        lines
    }

    pub fn rest(self) -> Option<Vec<u8>> {
        Some(self.buffer).filter(|b| !b.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_lines() {
        let check = |line: &str, want: Option<Event>| assert_eq!(parse(line.as_bytes()), want, "{line}");
        check(
            r#"{"@level":"info","@message":"Terraform 1.11.4","@module":"terraform.ui","terraform":"1.11.4","type":"version","ui":"1.2"}"#,
            Some(Event::Version(1)),
        );
        check(
            r#"{"@level":"info","@message":"terraform_data.a: Creating...","hook":{"resource":{"addr":"terraform_data.a"},"action":"create"},"type":"apply_start"}"#,
            Some(Event::ApplyStart {
                address: "terraform_data.a".into(),
                action: "create".into(),
                id_key: None,
                id_value: None,
            }),
        );
        check(
            r#"{"@message":"done","hook":{"resource":{"addr":"terraform_data.a"},"action":"create","id_key":"id","id_value":"7","elapsed_seconds":2},"type":"apply_complete"}"#,
            Some(Event::ApplyComplete {
                address: "terraform_data.a".into(),
                action: "create".into(),
                id_key: Some("id".into()),
                id_value: Some("7".into()),
                seconds: 2,
            }),
        );
        check(
            r#"{"@message":"a.b: (local-exec): hello","hook":{"resource":{"addr":"a.b"},"provisioner":"local-exec","output":"hello"},"type":"provision_progress"}"#,
            Some(Event::Said { who: "a.b: (local-exec): ".into(), line: "hello".into() }),
        );
        check(r#"{"@message":"new thing","type":"from_the_future"}"#, Some(Event::Message("new thing".into())));
        check("panic: runtime error", None);
    }

    #[test]
    fn lines_are_cut_wherever_the_chunks_end() {
        let mut lines = Lines::default();
        assert_eq!(lines.push(b"a\nb"), [b"a".to_vec()]);
        assert_eq!(lines.push(b"c\n\nd"), [b"bc".to_vec(), b"".to_vec()]);
        assert_eq!(lines.rest(), Some(b"d".to_vec()));
    }
}
