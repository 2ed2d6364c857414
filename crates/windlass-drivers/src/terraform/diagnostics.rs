//! Terraform's diagnostics as ours, with a code per kind of trouble and a way out.

use serde_json::Value;
use std::path::Path;
use windlass_model::diagnostic::{Diagnostic, Label, Severity, Span};

/// From the JSON of one diagnostic. File names are relative to `directory` (absolute) and come out relative to `root`.
pub fn from_json(value: &Value, root: &Path, directory: &Path) -> Diagnostic {
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (summary, detail) = (text("summary"), text("detail"));
    let (code, help) = classify(&format!("{summary}\n{detail}"));
    let severity = if value.get("severity").and_then(Value::as_str) == Some("warning") {
        Severity::Warning
    } else {
        Severity::Error
    };
    let mut diagnostic = Diagnostic::new(severity, code, summary).detail(detail);
    if let Some(range) = value.get("range") {
        let number = |pointer: &str| range.pointer(pointer).and_then(Value::as_u64).unwrap_or(1) as u32;
        let file = directory.join(range.get("filename").and_then(Value::as_str).unwrap_or_default());
        let file = file.strip_prefix(root).unwrap_or(&file).to_string_lossy().into_owned();
        let span = Span {
            file: file.into(),
            line: number("/start/line"),
            column: number("/start/column"),
            end_line: number("/end/line"),
            end_column: number("/end/column"),
        };
        let excerpt = value
            .pointer("/snippet/code")
            .and_then(Value::as_str)
            .and_then(|code| code.lines().next())
            .unwrap_or_default()
            .to_owned();
        diagnostic.labels.push(Label { span, excerpt, message: String::new() });
    }
    match help {
        Some(help) => diagnostic.help(help),
        None => diagnostic,
    }
}

/// From what a command without `-json` printed on standard error.
pub fn from_text(text: &str) -> Diagnostic {
    let plain: Vec<&str> = text
        .lines()
        .map(|line| line.trim_start_matches(['│', '╷', '╵', ' ']))
        .filter(|line| !line.is_empty())
        .collect();
    let start = plain.iter().position(|line| line.starts_with("Error:")).unwrap_or(0);
    let summary =
        plain.get(start).map_or("it failed without a message", |line| line.trim_start_matches("Error:").trim());
    let detail = plain.get(start + 1..).unwrap_or_default().join("\n");
    let (code, help) = classify(text);
    let diagnostic = Diagnostic::error(code, summary).detail(detail);
    match help {
        Some(help) => diagnostic.help(help),
        None => diagnostic,
    }
}

/// Code and way out by what Terraform says.
fn classify(text: &str) -> (&'static str, Option<&'static str>) {
    let has = |needles: &[&str]| needles.iter().any(|needle| text.contains(needle));
    if has(&["state file uses format version", "state snapshot was created by"]) {
        // Before the lock: terraform reads the state while it takes it, and says both.
        ("WL518", Some("use the version that wrote the state, or a newer one: pin it in `.terraform-version`"))
    } else if has(&["Error acquiring the state lock", "state blob is already locked"]) {
        ("WL504", Some("somebody else works on this state: wait for it to end; the lock's own message says who"))
    } else if has(&["Unable to find remote state", "No stored state was found"]) {
        (
            "WL505",
            Some(
                "the stack it reads from was never applied: review and apply that one first (`windlass graph` shows the order)",
            ),
        )
    } else if has(&["does not match any of the checksums recorded in the dependency lock file"]) {
        (
            "WL506",
            Some(
                "the lock file was made on another platform: `terraform providers lock -platform=linux_amd64` adds the checksums of this one",
            ),
        )
    } else if has(&["Provider dependency changes detected"]) {
        (
            "WL506",
            Some(
                "the configuration wants a provider that the lock file does not have: run `terraform init` there and commit `.terraform.lock.hcl`",
            ),
        )
    } else if has(&[
        "Failed to query available provider packages",
        "Could not retrieve the list of available versions",
        "Failed to install provider",
        "Required plugins are not installed",
        "Inconsistent dependency lock file",
    ]) {
        (
            "WL506",
            Some("check the network, the provider's name and the lock file (`terraform init -upgrade` renews it)"),
        )
    } else if has(&[
        "Failed to get existing workspaces",
        "Error loading state",
        "Failed to read remote state",
        "Backend initialization required",
        "connection refused",
        "no such host",
        "i/o timeout",
    ]) {
        (
            "WL507",
            Some("check the backend's address and the credentials that are passed on with `env` in the stack's block"),
        )
    } else if has(&["Saved plan is stale"]) {
        ("WL508", Some("the state moved after the plan was made: run `windlass apply` again, which plans anew"))
    } else if has(&["No value for required variable", "No value for variable"]) {
        ("WL509", Some("give it a value: in `*.auto.tfvars`, or with `variables` or `var_files` in a stack block"))
    } else if has(&[
        "Module not installed",
        "Failed to download module",
        "Unreadable module directory",
        "Could not download module",
    ]) {
        ("WL510", Some("check the module's source and that it can be reached from here"))
    } else if has(&["panic:", "TERRAFORM CRASH", "OPENTOFU CRASH", "Plugin did not respond", "Plugin error"]) {
        ("WL511", Some("terraform or a provider crashed; the step's log has all of it"))
    } else {
        ("WL503", None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_relative_to_the_repository() {
        let value = serde_json::json!({
            "severity": "error", "summary": "No value for required variable", "detail": "d",
            "range": {"filename": "../modules/a/main.tf", "start": {"line": 3, "column": 5}, "end": {"line": 3, "column": 9}},
            "snippet": {"code": "  x = var.y"}
        });
        let diagnostic = from_json(&value, Path::new("/r"), Path::new("/r/aws"));
        assert_eq!(diagnostic.code, "WL509");
        assert_eq!((diagnostic.labels[0].span.line, diagnostic.labels[0].excerpt.as_str()), (3, "  x = var.y"));
    }

    #[test]
    fn a_state_of_a_later_format_is_no_lock() {
        // As terraform 1.11.4 says it with the `local` backend.
        let value = serde_json::json!({
            "severity": "error", "summary": "Error acquiring the state lock",
            "detail": "Error message: Unsupported state file format: The state file uses format version 5, which is not supported by Terraform 1.11.4. This state file was created by Terraform 99.0.0."
        });
        assert_eq!(from_json(&value, Path::new("/r"), Path::new("/r/aws")).code, "WL518");
    }

    #[test]
    fn plain_text_keeps_its_first_error() {
        let diagnostic =
            from_text("\n│ Error: Unreadable module directory\n│ \n│ Unable to evaluate directory symlink\n╵\n");
        assert_eq!((diagnostic.code.as_str(), diagnostic.summary.as_str()), ("WL510", "Unreadable module directory"));
    }
}
