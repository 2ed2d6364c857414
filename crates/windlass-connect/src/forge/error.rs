//! Why a forge did not do what was asked.

use std::time::Duration;
use windlass_model::diagnostic::Diagnostic;

/// No variant holds a token. `forge` is the host, as people know it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForgeError {
    /// What the configuration says cannot be used.
    #[error("{problem}")]
    Settings { problem: String },
    /// It cannot be reached, or not now. `after`: when it asks to be asked again. `unsure`: it may have done it all the same.
    #[error("{forge} {problem}")]
    Away { forge: String, problem: String, after: Option<Duration>, unsure: bool },
    /// The token is not good, or not for this.
    #[error("{forge} does not let us {what}: {problem}")]
    Forbidden { forge: String, what: String, problem: String },
    /// It will never take this request.
    #[error("{forge} refuses to {what}: {problem}")]
    Refused { forge: String, what: String, problem: String },
}

impl ForgeError {
    /// Its page in `docs/codes`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Settings { .. } => "WL780",
            Self::Away { .. } => "WL781",
            Self::Forbidden { .. } => "WL782",
            Self::Refused { .. } => "WL783",
        }
    }

    /// Whether the same may work later although nobody mends anything here.
    pub fn retryable(&self) -> bool {
        matches!(self, Self::Away { .. })
    }

    /// How long nothing is to be asked.
    pub fn after(&self) -> Option<Duration> {
        match self {
            Self::Away { after, .. } => *after,
            _ => None,
        }
    }

    /// Whether it may have been done although this says that it was not.
    pub fn unsure(&self) -> bool {
        matches!(self, Self::Away { unsure: true, .. })
    }

    pub fn diagnostic(&self) -> Diagnostic {
        let help = match self {
            Self::Settings { .. } => "correct `forge` of the repository in windlass.toml; docs/forges.md has every key",
            Self::Away { .. } => "it is asked again; nothing is lost meanwhile",
            Self::Forbidden { .. } => {
                "docs/forges.md lists what the token or the app has to be allowed, for each forge"
            }
            Self::Refused { .. } => {
                "compare what the forge says with the change; the next look tries what is still wanted"
            }
        };
        Diagnostic::error(self.code(), self.to_string()).help(help)
    }
}
