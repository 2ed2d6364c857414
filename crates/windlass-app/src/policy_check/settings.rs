//! Flags, `CONFTEST_…` variables and `conftest.toml`, resolved once: the first that says something wins.

use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use windlass_model::diagnostic::{Diagnostic, Span};
use windlass_policy::Mode;
use windlass_policy::input::{self, Parser};
use windlass_policy::output::Format;
use windlass_policy::syntax::tree::Dialect;

/// What the command line said; empty and `false` mean that it said nothing.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    pub policy: Vec<String>,
    pub data: Vec<String>,
    pub namespace: Vec<String>,
    pub all_namespaces: bool,
    pub combine: bool,
    pub parser: Option<String>,
    pub ignore: Option<String>,
    pub fail_on_warn: bool,
    pub no_fail: bool,
    pub output: Option<String>,
    pub rego_version: Option<String>,
    /// Refuse what Conftest lets pass, whatever else says `compatible`.
    pub strict: bool,
    pub compatible: bool,
    pub quiet: bool,
    pub show_builtin_errors: bool,
    pub suppress_exceptions: bool,
    pub trace: bool,
    pub github_hide_passed: bool,
    pub junit_hide_message: bool,
    pub stdin_filename: Option<String>,
    /// Instead of `conftest.toml` in the directory.
    pub config_file: Option<String>,
}

/// What holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Empty when nothing names any: the project's own policies, else `policy`.
    pub policy: Vec<String>,
    pub data: Vec<String>,
    /// Empty when nothing names any.
    pub namespaces: Vec<String>,
    pub all_namespaces: bool,
    pub combine: bool,
    pub parser: Option<Parser>,
    pub ignore: Option<String>,
    pub fail_on_warn: bool,
    pub no_fail: bool,
    pub format: Format,
    pub dialect: Option<Dialect>,
    pub mode: Mode,
    pub quiet: bool,
    pub show_builtin_errors: bool,
    pub suppress_exceptions: bool,
    pub trace: bool,
    pub github_hide_passed: bool,
    pub junit_hide_message: bool,
    pub stdin_filename: Option<String>,
}

/// Keys of `conftest.toml` that mean something here.
const KEYS: [&str; 20] = [
    "all-namespaces",
    "combine",
    "data",
    "fail-on-warn",
    "github-hide-passed",
    "ignore",
    "junit-hide-message",
    "namespace",
    "no-color",
    "no-fail",
    "output",
    "parser",
    "policy",
    "quiet",
    "rego-version",
    "show-builtin-errors",
    "stdin-filename",
    "strict",
    "suppress-exceptions",
    "trace",
];

struct Sources<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
    file: Value,
    path: Arc<str>,
    diagnostics: Vec<Diagnostic>,
}

impl Settings {
    /// From flags, variables and the configuration file in `directory`; warnings come with it.
    ///
    /// # Errors
    /// WL432: a value that cannot be used.
    pub fn resolve(
        directory: &Path,
        flags: Flags,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(Self, Vec<Diagnostic>), Vec<Diagnostic>> {
        let (path, file) = configuration(directory, flags.config_file.as_deref()).map_err(|d| vec![*d])?;
        let mut from = Sources { variable, file, path, diagnostics: Vec::new() };
        from.unknown_keys();
        let mode = if flags.compatible && !flags.strict { Mode::Compatible } else { Mode::Strict };
        let settings = Self {
            policy: from.list(flags.policy, "policy"),
            data: from.list(flags.data, "data"),
            namespaces: from.list(flags.namespace, "namespace"),
            all_namespaces: from.switch(flags.all_namespaces, "all-namespaces"),
            combine: from.switch(flags.combine, "combine"),
            parser: from.chosen(flags.parser, "parser", Parser::named),
            ignore: from.text(flags.ignore, "ignore"),
            fail_on_warn: from.switch(flags.fail_on_warn, "fail-on-warn"),
            no_fail: from.switch(flags.no_fail, "no-fail"),
            format: from.chosen(flags.output, "output", format).unwrap_or_default(),
            dialect: from.chosen(flags.rego_version, "rego-version", dialect),
            mode,
            quiet: from.switch(flags.quiet, "quiet"),
            show_builtin_errors: from.switch(flags.show_builtin_errors, "show-builtin-errors"),
            suppress_exceptions: from.switch(flags.suppress_exceptions, "suppress-exceptions"),
            trace: from.switch(flags.trace, "trace"),
            github_hide_passed: from.switch(flags.github_hide_passed, "github-hide-passed"),
            junit_hide_message: from.switch(flags.junit_hide_message, "junit-hide-message"),
            stdin_filename: from.text(flags.stdin_filename, "stdin-filename"),
        };
        if windlass_model::diagnostic::has_errors(&from.diagnostics) {
            Err(from.diagnostics)
        } else {
            Ok((settings, from.diagnostics))
        }
    }
}

fn format(name: &str) -> Result<Format, String> {
    let known: Vec<&str> = Format::NAMES.iter().map(|(name, _)| *name).collect();
    Format::named(name).ok_or_else(|| format!("there is no output `{name}`; there are: {}", known.join(", ")))
}

fn dialect(name: &str) -> Result<Dialect, String> {
    match name {
        "v0" => Ok(Dialect::V0),
        "v1" => Ok(Dialect::V1),
        _ => Err(format!("there is no Rego `{name}`; there are v0 and v1")),
    }
}

/// `conftest.toml`, or as JSON or YAML; null when there is none.
fn configuration(directory: &Path, named: Option<&str>) -> Result<(Arc<str>, Value), Box<Diagnostic>> {
    let names = match named {
        Some(name) => vec![name],
        None => vec!["conftest.toml", "conftest.json", "conftest.yaml", "conftest.yml"],
    };
    for name in names {
        let path: Arc<str> = name.into();
        match std::fs::read_to_string(directory.join(name)) {
            Ok(text) => {
                let parser = Parser::of_path(name).unwrap_or(Parser::Toml);
                return input::parse(parser, &path, &text).map(|value| (path, value));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => {}
            Err(error) => {
                let summary = format!("cannot read {name}: {error}");
                return Err(Box::new(Diagnostic::error("WL432", summary).at(Span::file(path))));
            }
        }
    }
    Ok(("conftest.toml".into(), Value::Null))
}

impl Sources<'_> {
    fn unknown_keys(&mut self) {
        let keys: Vec<String> = self.file.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect();
        for key in keys.into_iter().filter(|key| !KEYS.contains(&key.replace('_', "-").as_str())) {
            self.diagnostics.push(
                Diagnostic::warning("WL432", format!("{} sets `{key}`, which has no effect here", self.path))
                    .at(Span::file(self.path.clone())),
            );
        }
    }

    fn variable(&self, key: &str) -> Option<String> {
        (self.variable)(&format!("CONFTEST_{}", key.to_uppercase().replace('-', "_"))).filter(|value| !value.is_empty())
    }

    fn in_file(&self, key: &str) -> Option<&Value> {
        self.file.get(key).or_else(|| self.file.get(key.replace('-', "_")))
    }

    fn wrong(&mut self, key: &str, want: &str) {
        self.diagnostics.push(
            Diagnostic::error("WL432", format!("`{key}` in {} is not {want}", self.path))
                .at(Span::file(self.path.clone())),
        );
    }

    fn list(&mut self, flag: Vec<String>, key: &str) -> Vec<String> {
        let split =
            |text: &str| text.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect();
        if !flag.is_empty() {
            return flag.iter().flat_map(|text| -> Vec<String> { split(text) }).collect();
        }
        if let Some(text) = self.variable(key) {
            return split(&text);
        }
        match self.in_file(key) {
            None => Vec::new(),
            Some(Value::String(text)) => split(text),
            Some(Value::Array(items)) if items.iter().all(Value::is_string) => {
                items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
            }
            Some(_) => {
                self.wrong(key, "a list of texts");
                Vec::new()
            }
        }
    }

    fn switch(&mut self, flag: bool, key: &str) -> bool {
        if flag {
            return true;
        }
        if let Some(text) = self.variable(key) {
            return match text.to_lowercase().as_str() {
                "1" | "t" | "true" => true,
                "0" | "f" | "false" => false,
                _ => {
                    let summary =
                        format!("CONFTEST_{} is neither true nor false", key.to_uppercase().replace('-', "_"));
                    self.diagnostics.push(Diagnostic::error("WL432", summary));
                    false
                }
            };
        }
        match self.in_file(key) {
            None => false,
            Some(Value::Bool(value)) => *value,
            Some(_) => {
                self.wrong(key, "true or false");
                false
            }
        }
    }

    fn text(&mut self, flag: Option<String>, key: &str) -> Option<String> {
        if let Some(text) = flag.or_else(|| self.variable(key)) {
            return Some(text);
        }
        match self.in_file(key) {
            None => None,
            Some(Value::String(text)) => (!text.is_empty()).then(|| text.clone()),
            Some(_) => {
                self.wrong(key, "a text");
                None
            }
        }
    }

    fn chosen<T>(&mut self, flag: Option<String>, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let text = self.text(flag, key)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(why) => {
                self.diagnostics.push(Diagnostic::error("WL432", format!("`{key}`: {why}")));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(
        file: &str,
        flags: Flags,
        variables: &[(&str, &str)],
    ) -> Result<(Settings, Vec<Diagnostic>), Vec<Diagnostic>> {
        let directory = tempfile::tempdir().unwrap();
        if !file.is_empty() {
            std::fs::write(directory.path().join("conftest.toml"), file).unwrap();
        }
        let variable =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Settings::resolve(directory.path(), flags, &variable)
    }

    #[test]
    fn flags_win_over_variables_over_the_file() {
        let file =
            "policy = [\"a\", \"b\"]\nnamespace = \"x,y\"\nfail-on-warn = true\noutput = \"json\"\nupdate = [\"z\"]\n";
        let (settings, warnings) = resolve(file, Flags::default(), &[]).unwrap();
        assert_eq!(settings.policy, ["a", "b"]);
        assert_eq!(settings.namespaces, ["x", "y"]);
        assert!(settings.fail_on_warn);
        assert_eq!(settings.format, Format::Json);
        assert!(warnings.len() == 1 && warnings[0].summary.contains("`update`"), "{warnings:?}");
        let variables = [("CONFTEST_POLICY", "c"), ("CONFTEST_FAIL_ON_WARN", "false"), ("CONFTEST_OUTPUT", "tap")];
        let (settings, _) = resolve(file, Flags::default(), &variables).unwrap();
        assert_eq!(
            (settings.policy, settings.fail_on_warn, settings.format),
            (vec!["c".to_owned()], false, Format::Tap)
        );
        let flags = Flags { policy: vec!["d,e".into()], output: Some("table".into()), ..Flags::default() };
        let (settings, _) = resolve(file, flags, &variables).unwrap();
        assert_eq!((settings.policy, settings.format), (vec!["d".to_owned(), "e".to_owned()], Format::Table));
    }

    #[test]
    fn all_wrong_values_are_told_at_once() {
        let errors =
            resolve("policy = 1\noutput = \"x\"\nquiet = \"yes\"\n", Flags::default(), &[("CONFTEST_COMBINE", "2")]);
        assert_eq!(errors.unwrap_err().len(), 4);
        let errors = resolve("policy = \n", Flags::default(), &[]).unwrap_err();
        assert_eq!(errors[0].code, "WL430");
        let flags = Flags { config_file: Some("none.toml".into()), ..Flags::default() };
        assert_eq!(resolve("", flags, &[]).unwrap_err()[0].code, "WL432");
    }
}
