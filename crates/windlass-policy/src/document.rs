//! A document that policies are asked about.

use crate::limits::Session;
use regorus::Value;
use serde_json::Value as Json;
use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Read at most once for all policies that are asked about it: by this process, or by the one that they run in.
#[derive(Debug)]
pub struct Document<'a> {
    source: Source<'a>,
    /// What is put into it.
    members: Vec<(String, Json)>,
    read: OnceLock<Result<Value, String>>,
    /// A process that has read it.
    session: Mutex<Option<Session>>,
}

#[derive(Debug)]
enum Source<'a> {
    /// JSON that nobody has read.
    Text(Arc<String>),
    /// The same, let go of when it is read.
    Once(Mutex<Option<String>>),
    Json(&'a Json),
    Owned(Json),
}

impl<'a> Document<'a> {
    /// Of JSON as somebody else wrote it.
    pub fn text(json: Arc<String>) -> Self {
        Self::of(Source::Text(json))
    }

    /// As [`Document::text`], where nobody asks for the text: it is not kept beside what was read.
    pub(crate) fn text_once(json: String) -> Self {
        Self::of(Source::Once(Mutex::new(Some(json))))
    }

    pub(crate) fn owned(json: Json) -> Self {
        Self::of(Source::Owned(json))
    }

    fn of(source: Source<'a>) -> Self {
        Self { source, members: Vec::new(), read: OnceLock::new(), session: Mutex::default() }
    }

    /// Puts a member into an object, in place of one that it has; does nothing to anything else.
    #[must_use]
    pub fn with(mut self, name: &str, value: Json) -> Self {
        self.members.push((name.to_owned(), value));
        self
    }

    /// What was put into it; not in what [`Document::write`] writes.
    pub(crate) fn members(&self) -> &[(String, Json)] {
        &self.members
    }

    /// Writes it as JSON without what was put into it.
    pub(crate) fn write(&self, mut out: impl Write) -> std::io::Result<()> {
        match &self.source {
            Source::Text(text) => out.write_all(text.as_bytes()),
            Source::Once(text) => match &*text.lock().unwrap_or_else(PoisonError::into_inner) {
                Some(text) => out.write_all(text.as_bytes()),
                None => Err(std::io::Error::other("its text was let go of")),
            },
            Source::Json(value) => serde_json::to_writer(out, value).map_err(Into::into),
            Source::Owned(value) => serde_json::to_writer(out, value).map_err(Into::into),
        }
    }

    /// As the engine holds it, cheap to clone.
    ///
    /// # Errors
    /// It is not JSON; the parser's complaint.
    pub(crate) fn value(&self) -> Result<Value, String> {
        let read = || {
            let mut value = match &self.source {
                // Straight into the engine's form, which takes less memory than a way through another one.
                Source::Text(text) => Value::from_json_str(text).map_err(|error| error.to_string())?,
                Source::Once(text) => {
                    let text = text.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default();
                    Value::from_json_str(&text).map_err(|error| error.to_string())?
                }
                Source::Json(value) => Value::from((*value).clone()),
                Source::Owned(value) => Value::from(value.clone()),
            };
            if let Ok(object) = value.as_object_mut() {
                for (name, member) in &self.members {
                    object.insert(name.as_str().into(), member.clone().into());
                }
            }
            Ok(value)
        };
        self.read.get_or_init(read).clone()
    }

    /// As JSON; what has no form there is null.
    ///
    /// # Errors
    /// It is not JSON; the parser's complaint.
    pub fn to_json(&self) -> Result<Json, String> {
        Ok(serde_json::to_value(self.value()?).unwrap_or_default())
    }

    /// The process that has read it, for one question.
    pub(crate) fn take_session(&self) -> Option<Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(crate) fn keep_session(&self, session: Session) {
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
    }
}

impl<'a> From<&'a Json> for Document<'a> {
    fn from(value: &'a Json) -> Self {
        Self::of(Source::Json(value))
    }
}
