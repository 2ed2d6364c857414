//! What a step is given and must neither store nor show: values of the variables that its stack names, credentials of backends,
//! passwords of proxies, what the server itself is configured with, and what terraform marked in an earlier plan.

use crate::service::Service;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use windlass_drivers::terraform::StackDirectory;
use windlass_engine::StepContext;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::mask::{Mask, SHORTEST};
use windlass_model::secrets;
use windlass_model::stack_plan::StackWork;

/// Last words of names of variables whose values are no secrets but say where, which or how.
const HARMLESS: [&str; 31] = [
    "ACCOUNT",
    "BUCKET",
    "CLUSTER",
    "CONTEXT",
    "DEBUG",
    "DIR",
    "DIRECTORY",
    "DOMAIN",
    "ENABLED",
    "ENV",
    "ENVIRONMENT",
    "HOME",
    "HOST",
    "HOSTNAME",
    "ID",
    "INSECURE",
    "LEVEL",
    "LOCATION",
    "LOG",
    "MODE",
    "NAME",
    "NAMESPACE",
    "PATH",
    "PORT",
    "PROFILE",
    "PROJECT",
    "REGION",
    "STAGE",
    "USER",
    "USERNAME",
    "ZONE",
];
/// Ids that let somebody in.
const NOT_HARMLESS: [&str; 3] = ["ACCESS_KEY_ID", "SECRET_ID", "SESSION_ID"];
/// Settings, whatever the name.
const SETTINGS: [&str; 8] = ["true", "false", "null", "none", "enabled", "disabled", "default", "json"];
/// Before the name of an input variable of terraform.
const INPUT: &str = "TF_VAR_";
/// Of what every child gets: these may hold passwords.
const PROXIES: [&str; 4] = ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"];
/// A file of credentials is not longer, bytes.
const CREDENTIALS: u64 = 256 << 10;

/// Secrets that no step may leave behind: those of the server's own configuration.
#[derive(Clone, Default)]
pub struct Hidden(Arc<Mutex<BTreeSet<String>>>);

impl Hidden {
    pub fn add(&self, secrets: impl IntoIterator<Item = String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(secrets);
    }

    pub fn all(&self) -> BTreeSet<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Keeps all that is known to be secret for a step of this instance out of what the step leaves behind.
pub async fn hide(service: &Service, cx: &StepContext, work: &StackWork, stack: Option<&StackDirectory>) {
    let mut found = service.hidden.all();
    found.extend(of_work(work));
    found.extend(service.secrets_get(&work.instance.id).unwrap_or_default());
    // What init recorded of the backend, with what came from files.
    if let Some(config) = stack.and_then(|stack| stack.backend_configuration()) {
        found.extend(secrets::in_value(&config));
    }
    cx.hide(found).await;
}

/// The secrets that an instance is given.
pub fn of_work(work: &StackWork) -> BTreeSet<String> {
    let mut found = of_variables(work.env.iter().map(String::as_str), |name| std::env::var(name).ok());
    found.extend(PROXIES.iter().filter_map(|name| std::env::var(name).ok()).flat_map(|url| secrets::in_text(&url)));
    let texts = work.instance.backend_config.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str())));
    found.extend(secrets::in_value(&Value::Object(texts.collect::<Map<_, _>>())));
    let values = work.instance.variables.iter().map(|(name, value)| (name.clone(), value.clone()));
    found.extend(secrets::in_value(&Value::Object(values.collect::<Map<_, _>>())));
    found
}

/// The secrets in variables: their values, but for those whose names say that they hold none; passwords in addresses, whatever the
/// name; and what looks like a secret in files that they name.
fn of_variables<'a>(
    names: impl IntoIterator<Item = &'a str>,
    variable: impl Fn(&str) -> Option<String>,
) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (name, value) in names.into_iter().filter_map(|name| Some((name, variable(name)?))) {
        found.extend(secrets::in_text(&value));
        if let Some(content) = content(Path::new(&value)) {
            found.extend(secrets::in_text(&content));
            if content.trim().lines().count() == 1 {
                found.insert(content.trim().to_owned());
            }
        } else if let Some(name) = name.strip_prefix(INPUT) {
            // Of these terraform says itself which are sensitive.
            found.extend(secrets::in_value(&serde_json::json!({ name: value })));
        } else if is_secret(name) && !SETTINGS.contains(&value.to_ascii_lowercase().as_str()) {
            found.insert(value);
        }
    }
    found
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let last = name.rsplit('_').next().unwrap_or_default();
    !HARMLESS.contains(&last) || NOT_HARMLESS.iter().any(|end| name.ends_with(end))
}

/// What is in a file that is named by its whole path.
fn content(path: &Path) -> Option<String> {
    let found = path.is_absolute().then(|| std::fs::metadata(path).ok()).flatten()?;
    (found.is_file() && found.len() <= CREDENTIALS).then(|| std::fs::read_to_string(path).ok()).flatten()
}

/// What is wrong with [`too_short`] ones.
pub const TOO_SHORT: &str = "has fewer than 4 bytes: it is not kept out of logs, reviews and events";

/// Variables that stacks name and whose values are too short to be kept out of logs, each once.
pub fn too_short<'a>(
    names: impl IntoIterator<Item = &'a str>,
    variable: impl Fn(&str) -> Option<String>,
) -> BTreeSet<&'a str> {
    let short = |name: &&str| variable(name).is_some_and(|value| (1..SHORTEST).contains(&value.trim().len()));
    names.into_iter().filter(|name| is_secret(name)).filter(short).collect()
}

/// Takes secrets out of what people read of diagnostics.
pub fn mask_diagnostics(mask: &Mask, diagnostics: &mut [Diagnostic]) {
    for diagnostic in diagnostics {
        let help = diagnostic.help.iter_mut();
        let labels = diagnostic.labels.iter_mut().flat_map(|label| [&mut label.excerpt, &mut label.message]);
        for text in [&mut diagnostic.summary, &mut diagnostic.detail].into_iter().chain(help).chain(labels) {
            *text = mask.text(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_give_what_is_secret_in_them() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, content).unwrap();
            path.display().to_string()
        };
        let token = write("token", "a-web-identity\n");
        let shared =
            write("credentials", "[default]\naws_secret_access_key = wJalrXUtnFEMI/K7MDENG\nregion = eu-west-1\n");
        let key = write("key.json", "{\n  \"project_id\": \"p\",\n  \"client_secret\": \"s3cr3t-4f-json\"\n}\n");
        let check = |name: &str, value: &str, want: &[&str]| {
            let found = of_variables([name], |_| Some(value.to_owned()));
            assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), want, "{name}={value}");
        };
        check("AWS_SECRET_ACCESS_KEY", "x y", &["x y"]);
        check("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7", &["AKIAIOSFODNN7"]);
        check("AWS_REGION", "eu-west-1", &[]);
        check("TF_LOG", "DEBUG", &[]);
        check("ARM_SUBSCRIPTION_ID", "0000-1111", &[]);
        check("ARM_USE_MSI", "true", &[]);
        check("TF_VAR_image", "v1.22.3", &[]);
        check("TF_VAR_db_password", "hunter22", &["hunter22"]);
        check("ANYTHING", "else", &["else"]);
        check("DB_HOST", "postgres://u:hunter22@db/x", &["hunter22"]);
        check("DB_DSN", "postgres://u:hunter22@db/x", &["hunter22", "postgres://u:hunter22@db/x"]);
        check("AWS_WEB_IDENTITY_TOKEN_FILE", &token, &["a-web-identity"]);
        check("AWS_SHARED_CREDENTIALS_FILE", &shared, &["wJalrXUtnFEMI/K7MDENG"]);
        check("GOOGLE_APPLICATION_CREDENTIALS", &key, &["s3cr3t-4f-json"]);
        assert!(of_variables(["UNSET"], |_| None).is_empty());
    }

    #[test]
    fn short_values_are_told() {
        let value = |name: &str| (name != "UNSET").then(|| if name == "LONG" { "1234" } else { "123" }.to_owned());
        let found = too_short(["PIN", "LONG", "UNSET", "AWS_REGION", "PIN"], value);
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["PIN"]);
    }
}
