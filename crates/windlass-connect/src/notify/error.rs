//! Why a message did not arrive.

use std::time::Duration;
use windlass_model::diagnostic::Diagnostic;

/// No variant holds a secret: addresses of webhooks are told by their host alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// What the notifier says cannot be used.
    #[error("{problem}")]
    Settings { problem: String },
    /// It did not take this or any message now. `after`: when it asks to be tried again.
    #[error("{place} {problem}")]
    Away { place: String, problem: String, after: Option<Duration> },
    /// It will never take this message.
    #[error("{place} refuses the message: {problem}")]
    Refused { place: String, problem: String },
}

impl SendError {
    /// Its page in `docs/codes`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Settings { .. } => "WL770",
            Self::Away { .. } => "WL771",
            Self::Refused { .. } => "WL772",
        }
    }

    /// Whether the same message may arrive later: what is wrong with a notifier may be mended meanwhile.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Settings { .. } | Self::Away { .. } => true,
            Self::Refused { .. } => false,
        }
    }

    /// How long nothing is to be sent.
    pub fn after(&self) -> Option<Duration> {
        match self {
            Self::Away { after, .. } => *after,
            Self::Settings { .. } | Self::Refused { .. } => None,
        }
    }

    pub fn diagnostic(&self) -> Diagnostic {
        let help = match self {
            Self::Settings { .. } => {
                "correct the `notifier` block or its secrets; docs/notifications.md has every channel"
            }
            Self::Away { .. } => "it is tried again; `windlass notifiers test NAME` tries at once",
            Self::Refused { .. } => "compare the message that the channel gives with what the notifier says",
        };
        Diagnostic::error(self.code(), self.to_string()).help(help)
    }
}
