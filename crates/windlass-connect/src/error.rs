//! Why nobody was identified, in words for whoever has to mend it.

use windlass_model::diagnostic::Diagnostic;

/// `provider` is the name that the settings give a provider of sign-in or an issuer of CI tokens. No variant holds a token, a
/// code or a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    #[error("the settings of identity provider `{provider}` cannot be used: {problem}")]
    Settings { provider: String, problem: String },
    #[error("identity provider `{provider}` cannot be asked at {url}: {problem}")]
    Unreachable { provider: String, url: String, problem: String },
    #[error("identity provider `{provider}` gives an answer at {url} that cannot be used: {problem}")]
    Answer { provider: String, url: String, problem: String },
    #[error("identity provider `{provider}` refuses: {problem}")]
    Refused { provider: String, problem: String },
    #[error("the answer of identity provider `{provider}` belongs to no sign-in that this browser began: {problem}")]
    State { provider: String, problem: String },
    #[error("the token of identity provider `{provider}` does not count: {problem}")]
    Token { provider: String, problem: String },
    #[error("identity provider `{provider}` vouches for somebody who is not let in: {problem}")]
    Claims { provider: String, problem: String },
    #[error("{problem}")]
    Undeclared { problem: String },
}

impl IdentityError {
    /// Its page in `docs/codes`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Settings { .. } => "WL801",
            Self::Unreachable { .. } => "WL802",
            Self::Answer { .. } => "WL803",
            Self::Refused { .. } => "WL804",
            Self::State { .. } => "WL805",
            Self::Token { .. } => "WL806",
            Self::Claims { .. } => "WL807",
            Self::Undeclared { .. } => "WL808",
        }
    }

    /// Whether the same request may succeed later although nobody mends anything here.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Answer { .. } => true,
            Self::Settings { .. }
            | Self::Refused { .. }
            | Self::State { .. }
            | Self::Token { .. }
            | Self::Claims { .. }
            | Self::Undeclared { .. } => false,
        }
    }

    fn help(&self) -> &'static str {
        match self {
            Self::Settings { .. } => "correct the settings of this provider; `docs/identity.md` has every field",
            Self::Unreachable { .. } => {
                "ask for that address from this machine, e.g. with `curl -v`: the name, the network, the proxy (HTTPS_PROXY, NO_PROXY) and the certificate (`root_certificates`) have to be right"
            }
            Self::Answer { .. } => {
                "compare the `issuer` in the settings with the one in the provider's `/.well-known/openid-configuration`: every character counts, also a `/` at the end"
            }
            Self::Refused { .. } => {
                "sign in again; if it stays, compare `client_id`, `client_secret` and the redirect address with what is registered at the provider"
            }
            Self::State { .. } => "begin the sign-in again, in one browser and one tab",
            Self::Token { .. } => {
                "ask for a new one; if it stays, compare `audience` or `client_id` with the token's `aud`, and the clocks of both machines"
            }
            Self::Claims { .. } => {
                "ask whoever keeps the settings to declare these claims, or use an account that has them"
            }
            Self::Undeclared { .. } => "declare this issuer in the settings, with its audience and claims",
        }
    }

    pub fn diagnostic(&self) -> Diagnostic {
        Diagnostic::error(self.code(), self.to_string()).help(self.help())
    }
}

/// Text that came from outside, short and on one line.
pub(crate) fn plain(text: &str) -> String {
    const LONGEST: usize = 200;
    let mut plain: String = text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() {
        plain.push('…');
    }
    plain
}
