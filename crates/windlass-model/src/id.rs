//! Identifiers. All of them are plain text with a documented shape, ordered and cheap to clone.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self::new(text)
            }
        }
        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self::new(text)
            }
        }
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

text_id! {
    /// A stack: the path of its root module's directory relative to the repository root, `/`-separated, `.` for the root
    /// itself. Example: `aws/network`.
    StackId
}
text_id! {
    /// An instance of a stack: the stack's id, and its key in brackets where the stack has more than its one default
    /// instance. Example: `aws/network[tokyo]`, `aws/network`.
    InstanceId
}
text_id! {
    /// A run: a lower-case ULID (26 characters, sorts by time of creation).
    RunId
}
text_id! {
    /// A step, unique within its run. Example: `plan:aws/network[tokyo]`.
    StepId
}

impl InstanceId {
    /// `aws/network` + `Some("tokyo")` → `aws/network[tokyo]`.
    pub fn of(stack: &StackId, key: Option<&str>) -> Self {
        match key {
            Some(key) => Self::new(format!("{stack}[{key}]")),
            None => Self::new(stack.as_str()),
        }
    }

    /// The stack this is an instance of.
    pub fn stack(&self) -> StackId {
        match self.as_str().strip_suffix(']').and_then(|s| s.rsplit_once('[')) {
            Some((stack, _)) => StackId::new(stack),
            None => StackId::new(self.as_str()),
        }
    }

    /// The key in brackets.
    pub fn key(&self) -> Option<&str> {
        self.as_str().strip_suffix(']').and_then(|s| s.rsplit_once('[')).map(|(_, key)| key)
    }

    /// A name usable as one path segment: everything but letters, digits, `-`, `_` and `.` is percent-encoded, so two
    /// instances never share one.
    pub fn file_name(&self) -> String {
        let mut out = String::new();
        for byte in self.as_str().bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => out.push(byte as char),
                _ => out.push_str(&format!("%{byte:02x}")),
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instance_ids_split() {
        let id = InstanceId::of(&"aws/network".into(), Some("tokyo"));
        assert_eq!(id.as_str(), "aws/network[tokyo]");
        assert_eq!(id.stack().as_str(), "aws/network");
        assert_eq!(id.key(), Some("tokyo"));
        assert_eq!(InstanceId::new("aws/network").key(), None);
        assert_ne!(InstanceId::new("a/b").file_name(), InstanceId::new("a%2fb").file_name());
    }
}
