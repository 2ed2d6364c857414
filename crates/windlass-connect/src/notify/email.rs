//! Mail by SMTP. The first message about something has an id that follows from that; those after it answer it.

use super::chat::short;
use super::{Delivery, SendError, name};
use crate::error::plain;
use crate::http::is_loopback;
use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{SmtpTransport, Transport};
use openidconnect::url::Url;
use percent_encoding::percent_decode_str;
use std::time::{Duration, SystemTime};

/// Of each command.
const TIMEOUT: Duration = Duration::from_secs(15);

pub struct Email {
    smtp: SmtpTransport,
    place: String,
    from: Mailbox,
    to: Vec<Mailbox>,
}

/// What keeps machines from answering (RFC 3834).
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".into())
    }
}

impl Email {
    pub(super) fn new(smtp: &str, from: &str, to: &[String]) -> Result<Self, SendError> {
        Self::trusting(smtp, from, to, None)
    }

    /// The same, which trusts a certificate (PEM) besides the machine's own.
    pub(super) fn trusting(smtp: &str, from: &str, to: &[String], root: Option<&[u8]>) -> Result<Self, SendError> {
        let settings = |problem: String| SendError::Settings { problem };
        let url = Url::parse(smtp.trim()).map_err(|error| settings(format!("`smtp` is no address: {error}")))?;
        let host =
            url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| settings("`smtp` has no host".into()))?;
        let required = url.query_pairs().any(|(name, value)| name == "tls" && value == "required");
        let tls = || {
            let mut builder = TlsParameters::builder(host.trim_matches(['[', ']']).to_owned())
                .certificate_store(CertificateStore::Default);
            if let Some(root) = root {
                let root = Certificate::from_pem(root).map_err(|error| settings(format!("no certificate: {error}")))?;
                builder = builder.add_root_certificate(root);
            }
            builder.build().map_err(|error| settings(format!("TLS cannot be used: {error}")))
        };
        let (tls, usual) = match url.scheme() {
            "smtps" => (Tls::Wrapper(tls()?), 465),
            "smtp" if is_loopback(&url) && !required => (Tls::None, 25),
            "smtp" => (Tls::Required(tls()?), 587),
            other => return Err(settings(format!("`smtp` begins with {other}://; it has to be smtp:// or smtps://"))),
        };
        let port = url.port().unwrap_or(usual);
        let mut builder = SmtpTransport::builder_dangerous(host.trim_matches(['[', ']']))
            .port(port)
            .tls(tls)
            .timeout(Some(TIMEOUT))
            .hello_name(ClientId::default());
        if !url.username().is_empty() {
            let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
            let password = decoded(url.password().unwrap_or_default());
            builder = builder.credentials(Credentials::new(decoded(url.username()), password));
        }
        let mailbox = |what: &str, text: &str| {
            text.parse::<Mailbox>().map_err(|error| settings(format!("`{what}`: {text:?} is no address: {error}")))
        };
        if to.is_empty() {
            return Err(settings("`to` names nobody".into()));
        }
        Ok(Self {
            smtp: builder.build(),
            place: format!("{host}:{port}"),
            from: mailbox("from", from)?,
            to: to.iter().map(|to| mailbox("to", to)).collect::<Result<_, _>>()?,
        })
    }

    pub(super) fn send(&self, delivery: &Delivery<'_>) -> Result<String, SendError> {
        let id = |key: &str| format!("<{}@{}>", name(key), self.from.email.domain());
        let own = id(if delivery.reference.is_some() { delivery.key } else { delivery.thread });
        let date = SystemTime::UNIX_EPOCH + Duration::from_secs(delivery.at.unsigned_abs());
        let notice = delivery.notice;
        let mut builder = Message::builder()
            .from(self.from.clone())
            .subject(short(&format!("[{}] {}", notice.project, notice.title).replace(['\r', '\n'], " "), 200))
            .message_id(Some(own.clone()))
            .date(date)
            .header(AutoSubmitted)
            .header(ContentType::TEXT_PLAIN);
        for to in &self.to {
            builder = builder.to(to.clone());
        }
        if let Some(first) = delivery.reference {
            builder = builder.in_reply_to(first.to_owned()).references(first.to_owned());
        }
        let message = builder.body(body(delivery)).map_err(|error| self.refused(&error.to_string()))?;
        self.smtp.send(&message).map_err(|error| self.failure(&error))?;
        Ok(delivery.reference.map_or(own, str::to_owned))
    }

    fn refused(&self, problem: &str) -> SendError {
        SendError::Refused { place: self.place.clone(), problem: plain(problem) }
    }

    fn failure(&self, error: &lettre::transport::smtp::Error) -> SendError {
        let mut problem = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            problem = format!("{problem}: {cause}");
            source = cause.source();
        }
        let code = error.status().map(u16::from);
        // Refused for good, but for what is wrong with our name or password, which somebody may mend.
        if error.is_permanent() && !matches!(code, Some(530 | 534 | 535 | 538)) {
            return self.refused(&problem);
        }
        SendError::Away {
            place: self.place.clone(),
            problem: format!("did not take it: {}", plain(&problem)),
            after: None,
        }
    }
}

/// Plain text that is read anywhere.
fn body(delivery: &Delivery<'_>) -> String {
    let notice = delivery.notice;
    let mut parts = vec![notice.title.clone()];
    if !notice.text.is_empty() {
        parts.push(notice.text.clone());
    }
    let facts: Vec<String> = notice.facts.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let links: Vec<String> = notice.links.iter().map(|(label, url)| format!("{label}: {url}")).collect();
    parts.extend([facts.join("\n"), links.join("\n")].into_iter().filter(|part| !part.is_empty()));
    format!("{}\n", parts.join("\n\n"))
}
