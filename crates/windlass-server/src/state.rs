//! What every handler has.

use crate::limits::Limits;
use ipnet::IpNet;
use std::sync::{Arc, PoisonError, RwLock};
use windlass_app::installation::Installation;
use windlass_connect::oidc::Provider;
use windlass_connect::workload::Issuers;

pub struct App {
    pub installation: Arc<Installation>,
    /// How people reach this server, without a slash at the end, e.g. `https://windlass.example.com`.
    pub url: String,
    pub limits: Limits,
    trusted: RwLock<Arc<Trusted>>,
}

/// Whom this server believes: as its configuration says, which may change while it goes on.
pub struct Trusted {
    /// Where people sign in; none for a server that only its own machine uses.
    pub providers: Vec<Arc<Provider>>,
    /// Whose jobs get short tokens.
    pub issuers: Arc<Issuers>,
    /// Secrets that webhooks are signed with.
    pub webhook_secrets: Vec<Vec<u8>>,
    /// Networks of the proxies that are believed when they say for whom they ask.
    pub proxies: Vec<IpNet>,
}

impl App {
    pub fn new(installation: Arc<Installation>, url: String, limits: Limits, trusted: Trusted) -> Self {
        Self { installation, url, limits, trusted: RwLock::new(Arc::new(trusted)) }
    }

    /// Whom it believes now.
    pub fn trusted(&self) -> Arc<Trusted> {
        self.trusted.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has it believe others from now on.
    pub fn trust(&self, trusted: Trusted) {
        *self.trusted.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(trusted);
    }

    /// Whether browsers send cookies over TLS only.
    pub fn is_secure(&self) -> bool {
        self.url.starts_with("https://")
    }
}
