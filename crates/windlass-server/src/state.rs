//! What every handler has.

use crate::limits::Limits;
use ipnet::IpNet;
use std::sync::Arc;
use windlass_app::installation::Installation;
use windlass_connect::oidc::Provider;
use windlass_connect::workload::Issuers;

pub struct App {
    pub installation: Arc<Installation>,
    /// Where people sign in; none for a server that only its own machine uses.
    pub providers: Vec<Arc<Provider>>,
    /// Whose jobs get short tokens.
    pub issuers: Arc<Issuers>,
    /// How people reach this server, without a slash at the end, e.g. `https://windlass.example.com`.
    pub url: String,
    /// Secrets that webhooks are signed with.
    pub webhook_secrets: Vec<Vec<u8>>,
    /// Networks of the proxies that are believed when they say for whom they ask.
    pub trusted_proxies: Vec<IpNet>,
    pub limits: Limits,
}

impl App {
    /// Whether browsers send cookies over TLS only.
    pub fn is_secure(&self) -> bool {
        self.url.starts_with("https://")
    }
}
