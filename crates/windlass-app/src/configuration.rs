//! What a server is told by the file that it is started with, by the environment and by flags: resolved once into plain values.

use crate::error::{AppError, AppResult, ErrorKind};
use crate::housekeeping::{Retention, Retentions};
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
    /// Where plan files, states from before applies, inputs of policies and packed logs are kept, which all servers and workers need:
    /// `database`, `file:///DIRECTORY`, `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX` or `az://CONTAINER/PREFIX`, with credentials from the
    /// environment as the tools of each cloud read them; the directory `artefacts` in the data directory, with logs in the database,
    /// otherwise. `WINDLASS_ARTEFACTS`.
    pub artefacts: Option<String>,
    /// File with the key of the installation, which all servers and workers share: 32 bytes or 64 hexadecimal digits; `key` in the data
    /// directory, made by the first start, otherwise. `WINDLASS_KEY_FILE`.
    pub key_file: Option<PathBuf>,
    /// Fingerprint of a key that takes over from the one that the database was written with, where that is lost for good.
    pub accept_key: Option<String>,
    /// File with the key that the first start takes to sign seals of the audit record, where the data directory has none
    /// (`audit-key.pk8`); one is made otherwise. `WINDLASS_AUDIT_KEY_FILE`.
    pub audit_key_file: Option<PathBuf>,
    /// How long logs are kept after the end of their run, such as `30d`, `52w`, or `forever`; `90d` otherwise.
    pub retain_logs: Option<Retention>,
    /// How long plan files of runs that do not end are kept, which are planned again after that; `7d` otherwise. They go with the end
    /// of their run.
    pub retain_plans: Option<Retention>,
    /// How long states from before applies are kept, of which each instance has the last twenty; `365d` otherwise.
    pub retain_states: Option<Retention>,
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
        configuration.artefacts = set("WINDLASS_ARTEFACTS").or(configuration.artefacts);
        configuration.key_file = set("WINDLASS_KEY_FILE").map(PathBuf::from).or(configuration.key_file);
        configuration.audit_key_file =
            set("WINDLASS_AUDIT_KEY_FILE").map(PathBuf::from).or(configuration.audit_key_file);
        Ok(configuration)
    }

    /// Keys whose values differ in `new` and that are looked at only when the program starts.
    pub fn restart(&self, new: &Self) -> Vec<&'static str> {
        let differ = [
            ("listen", self.listen != new.listen),
            ("url", self.url != new.url),
            ("data", self.data != new.data),
            ("database", self.database != new.database),
            ("artefacts", self.artefacts != new.artefacts),
            ("key_file", self.key_file != new.key_file),
            ("audit_key_file", self.audit_key_file != new.audit_key_file),
            ("retain_logs", self.retain_logs != new.retain_logs),
            ("retain_plans", self.retain_plans != new.retain_plans),
            ("retain_states", self.retain_states != new.retain_states),
            ("drain", self.drain != new.drain),
            ("otlp_endpoint", self.otlp_endpoint != new.otlp_endpoint),
        ];
        differ.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }

    /// How long what steps leave is kept.
    pub fn retentions(&self) -> Retentions {
        let usual = Retentions::default();
        Retentions {
            logs: self.retain_logs.unwrap_or(usual.logs),
            plans: self.retain_plans.unwrap_or(usual.plans),
            states: self.retain_states.unwrap_or(usual.states),
        }
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
