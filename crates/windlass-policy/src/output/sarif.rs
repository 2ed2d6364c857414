//! SARIF 2.1.0: a rule per rule of the policies.

use super::{Tally, View, broken_line, severity_name};
use crate::conftest::{Judgement, Outcome};
use serde_json::{Value, json};
use windlass_model::review::Severity;

const SCHEMA: &str =
    "https://raw.githubusercontent.com/oasis-tcs/sarif-spec/main/sarif-2.1/schema/sarif-schema-2.1.0.json";

pub fn render(outcomes: &[Outcome], view: &View) -> String {
    let mut run = Run::default();
    for outcome in outcomes {
        for judgement in &outcome.failures {
            run.judgement(outcome, judgement, "error", "Policy violation");
        }
        for judgement in &outcome.warnings {
            run.judgement(outcome, judgement, "warning", "Policy warning");
        }
        let quiet =
            outcome.exceptions.iter().filter(|_| !view.suppress_exceptions).map(|judgement| ("allow", judgement));
        let skipped = outcome.skipped.iter().map(|judgement| ("skip", judgement));
        for (name, judgement) in quiet.chain(skipped) {
            let index = run.rule(
                format!("{}/{name}", outcome.namespace),
                json!({ "shortDescription": { "text": "Policy exception" } }),
            );
            run.result(index, "note", &judgement.message, vec![location(&outcome.file, None, None)]);
        }
        for diagnostic in &outcome.broken {
            let index = run.rule(diagnostic.code.clone(), json!({ "shortDescription": { "text": "The gate broke" } }));
            let place = diagnostic.labels.first().map(|label| (label.span.file.to_string(), Some(label.span.line)));
            let (file, line) = place.unwrap_or_else(|| (outcome.file.clone(), None));
            run.result(index, "error", &broken_line(diagnostic), vec![location(&file, line, None)]);
        }
    }
    let tally = Tally::of(outcomes);
    let description = match () {
        () if tally.broken > 0 => "A gate broke",
        () if tally.failures > 0 => "Policy violations found",
        () if tally.warnings > 0 => "Policy warnings found",
        () => "No policy violations found",
    };
    let invocation = json!({
        "executionSuccessful": tally.broken == 0, "exitCode": view.exit_code, "exitCodeDescription": description,
    });
    let driver = json!({ "name": "windlass", "version": env!("CARGO_PKG_VERSION"), "rules": run.rules });
    let document = json!({
        "version": "2.1.0", "$schema": SCHEMA,
        "runs": [{ "tool": { "driver": driver }, "invocations": [invocation], "results": run.results }],
    });
    format!("{document}\n")
}

#[derive(Default)]
struct Run {
    rules: Vec<Value>,
    results: Vec<Value>,
}

impl Run {
    /// Index of the rule, which is added when it is new.
    fn rule(&mut self, id: String, mut description: Value) -> usize {
        if let Some(index) = self.rules.iter().position(|rule| rule["id"] == id.as_str()) {
            return index;
        }
        description["id"] = id.into();
        self.rules.push(description);
        self.rules.len() - 1
    }

    fn judgement(&mut self, outcome: &Outcome, judgement: &Judgement, level: &str, text: &str) {
        let name = judgement.rule.rsplit('.').next().unwrap_or("deny");
        let mut properties = json!({ "query": judgement.rule });
        if let Some(severity) = judgement.severity {
            properties["severity"] = severity_name(severity).into();
            properties["security-severity"] = score(severity).into();
        }
        let mut rule = json!({ "shortDescription": { "text": text }, "properties": properties });
        if let Some(help) = &judgement.help {
            rule["helpUri"] = help.clone().into();
        }
        let index = self.rule(format!("{}/{name}", outcome.namespace), rule);
        let (file, line) = judgement.place.clone().unwrap_or_else(|| (outcome.file.clone(), None));
        let place = location(&file, line, judgement.address.as_deref());
        self.result(index, level, &judgement.message, vec![place]);
        if let (Some(span), Some(result)) = (&judgement.policy, self.results.last_mut()) {
            let mut related = location(&span.file, Some(span.line), None);
            related["message"] = json!({ "text": "the rule" });
            result["relatedLocations"] = json!([related]);
        }
    }

    fn result(&mut self, index: usize, level: &str, message: &str, locations: Vec<Value>) {
        self.results.push(json!({
            "ruleId": self.rules[index]["id"], "ruleIndex": index, "level": level, "message": { "text": message },
            "locations": locations,
        }));
    }
}

fn location(file: &str, line: Option<u32>, address: Option<&str>) -> Value {
    let mut place = json!({ "artifactLocation": { "uri": uri(file) } });
    if let Some(line) = line.filter(|line| *line > 0) {
        place["region"] = json!({ "startLine": line, "endLine": line });
    }
    let mut location = json!({ "physicalLocation": place });
    if let Some(address) = address {
        location["logicalLocations"] = json!([{ "fullyQualifiedName": address, "kind": "resource" }]);
    }
    location
}

/// A relative reference: what has a meaning in addresses is escaped.
fn uri(file: &str) -> String {
    let mut out = String::with_capacity(file.len());
    for byte in file.trim_start_matches("./").bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// What GitHub sorts by, on the scale of CVSS.
fn score(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "9.5",
        Severity::High => "8.0",
        Severity::Medium => "5.5",
        Severity::Low => "2.5",
        Severity::Info => "0.0",
    }
}
