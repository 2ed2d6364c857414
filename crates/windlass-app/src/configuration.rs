//! What a server is told by the file that it is started with, by the environment and by flags: resolved once into plain values.

use crate::error::{AppError, AppResult, ErrorKind};
use crate::repositories::Repository;
use ipnet::IpNet;
use serde::Deserialize;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use windlass_connect::oidc::ProviderSettings;
use windlass_connect::workload::IssuerSettings;
use windlass_model::diagnostic::Diagnostic;

/// Where a server listens when it is not told.
pub const LISTEN: &str = "127.0.0.1:7670";

/// `windlass.toml`. Each value that is not there has a default; most can be given by the environment and by a flag as well, which
/// go before the file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Configuration {
    /// Address and port to listen on; `127.0.0.1:7670` otherwise. `WINDLASS_LISTEN`, `--listen`.
    pub listen: Option<SocketAddr>,
    /// How people reach the server, e.g. `https://windlass.example.com`; `http://` and the address otherwise. `WINDLASS_EXTERNAL_URL`,
    /// `--url`.
    pub url: Option<String>,
    /// Directory of everything that is kept beside the database; `.windlass/server` otherwise. `WINDLASS_DATA`, `--data`.
    pub data: Option<PathBuf>,
    /// Address of PostgreSQL; a file in the data directory otherwise. `WINDLASS_DATABASE`, `--database`.
    pub database: Option<String>,
    /// Identities that may do everything everywhere, e.g. `email:anna@example.com`.
    pub admins: Vec<String>,
    /// Seconds that steps under way may take to end when the server is stopped; 60 otherwise.
    pub drain: Option<u64>,
    /// What is logged, e.g. `info,windlass::http=off` or `debug`; what tells of the service's work otherwise. `WINDLASS_LOG`.
    pub log: Option<String>,
    /// The collector (OTLP, http/protobuf) that traces are sent to, e.g. `http://127.0.0.1:4318`; none otherwise.
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub otlp_endpoint: Option<String>,
    /// Networks of the proxies that are believed when they say for whom they ask (`X-Forwarded-For`, `Forwarded`), such as `10.0.0.0/8`.
    pub trusted_proxies: Vec<IpNet>,
    /// Files with one secret each that webhooks of forges are signed with.
    pub webhook_secrets: Vec<PathBuf>,
    /// Repositories that are followed. `--repository`.
    #[serde(rename = "repository")]
    pub repositories: Vec<Repository>,
    /// Where people sign in.
    #[serde(rename = "oidc")]
    pub providers: Vec<ProviderSettings>,
    /// Whose jobs get tokens.
    #[serde(rename = "ci")]
    pub issuers: Vec<IssuerSettings>,
}

impl Configuration {
    /// Reads the file, then what the environment says on top of it.
    ///
    /// # Errors
    /// The file cannot be read or is not well formed, with the place; a variable is not well formed.
    pub fn read(file: Option<&Path>, variable: impl Fn(&str) -> Option<OsString>) -> AppResult<Self> {
        let mut configuration = match file {
            Some(file) => Self::parse(file)?,
            None => Self::default(),
        };
        let set = |name: &str| {
            variable(name).filter(|value| !value.is_empty()).map(|value| value.to_string_lossy().into_owned())
        };
        if let Some(text) = set("WINDLASS_LISTEN") {
            configuration.listen = Some(text.parse().map_err(|_| {
                let diagnostic = Diagnostic::error("WL906", format!("WINDLASS_LISTEN is set to `{text}`"));
                AppError::new(
                    ErrorKind::Usage,
                    diagnostic.help(format!("it is an address and a port, such as `{LISTEN}`")),
                )
            })?);
        }
        configuration.url = set("WINDLASS_EXTERNAL_URL").or(configuration.url);
        configuration.data = set("WINDLASS_DATA").map(PathBuf::from).or(configuration.data);
        configuration.database = set("WINDLASS_DATABASE").or(configuration.database);
        configuration.log = set("WINDLASS_LOG").or(configuration.log);
        Ok(configuration)
    }

    /// Keys whose values differ in `new` and that are looked at only when the program starts.
    pub fn restart(&self, new: &Self) -> Vec<&'static str> {
        let differ = [
            ("listen", self.listen != new.listen),
            ("url", self.url != new.url),
            ("data", self.data != new.data),
            ("database", self.database != new.database),
            ("drain", self.drain != new.drain),
            ("otlp_endpoint", self.otlp_endpoint != new.otlp_endpoint),
        ];
        differ.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }

    fn parse(file: &Path) -> AppResult<Self> {
        let wrong = |summary: String| {
            let diagnostic = Diagnostic::error("WL907", summary);
            AppError::new(ErrorKind::Usage, diagnostic.help("docs/configuration.md has all that it may say"))
        };
        let text = std::fs::read_to_string(file)
            .map_err(|error| wrong(format!("cannot read the configuration {}: {error}", file.display())))?;
        toml::from_str(&text).map_err(|error| wrong(format!("{}: {error}", file.display()).trim_end().to_owned()))
    }
}

#[cfg(test)]
mod tests;
