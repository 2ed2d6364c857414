//! Reading the reports of static checkers in SARIF 2.1.0 (OASIS, 27 March 2020) as findings.

use crate::diagnostic::Span;
use crate::review::{Finding, Level, Severity};
use serde_json::Value;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SarifError {
    #[error("it is not JSON: {0}")]
    Json(String),
    #[error("it is no SARIF report: `{0}` is missing")]
    NotSarif(&'static str),
    #[error("SARIF {0} is not known; 2.1.0 is")]
    Version(String),
}

/// The results of a report that tell of something wrong. All of them warn: who runs the tool says which may block
/// ([`is_error`]). Paths are made relative to `root`, the absolute path of the repository.
///
/// # Errors
/// It is not a SARIF 2.1.0 report.
pub fn findings(text: &str, root: &str) -> Result<Vec<Finding>, SarifError> {
    let text = text.trim_start_matches('\u{feff}');
    let report: Value = serde_json::from_str(text).map_err(|error| SarifError::Json(error.to_string()))?;
    let version = report.get("version").and_then(Value::as_str).ok_or(SarifError::NotSarif("version"))?;
    if version != "2.1.0" {
        return Err(SarifError::Version(version.to_owned()));
    }
    let runs = report.get("runs").and_then(Value::as_array).ok_or(SarifError::NotSarif("runs"))?;
    Ok(runs.iter().flat_map(|run| of_run(run, root)).collect())
}

fn of_run(run: &Value, root: &str) -> Vec<Finding> {
    let driver = &run["tool"]["driver"];
    let tool = driver["name"].as_str().unwrap_or("static check");
    list(&run["results"])
        .filter(|result| tells(result))
        .map(|result| finding(run, driver, tool, result, root))
        .collect()
}

/// Not a pass, not taken back by its author, not a result of an earlier report.
fn tells(result: &Value) -> bool {
    let fails = result["kind"].as_str().is_none_or(|kind| matches!(kind, "fail" | "open" | "review"));
    let suppressed = list(&result["suppressions"]).any(|s| s["status"].as_str().is_none_or(|s| s == "accepted"));
    fails && !suppressed && result["baselineState"] != "absent" && result["level"] != "none"
}

fn finding(run: &Value, driver: &Value, tool: &str, result: &Value, root: &str) -> Finding {
    let rule = rule(run, driver, result);
    let id = result["ruleId"].as_str().or_else(|| result["rule"]["id"].as_str()).or_else(|| rule["id"].as_str());
    let physical = list(&result["locations"]).map(|l| &l["physicalLocation"]).find(|p| p.is_object());
    let code = physical.and_then(|physical| place(run, physical, root));
    let logical = list(&result["locations"]).flat_map(|l| list(&l["logicalLocations"]));
    let address = logical.filter_map(|l| l["fullyQualifiedName"].as_str()).find(|name| is_address(name));
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Finding {
        rule: id.map(str::to_owned),
        address: address.map(str::to_owned),
        code,
        severity: Some(severity(rule, result)),
        help: text(&rule["helpUri"]),
        ..Finding::new(Level::Warn, tool, message(rule, result))
    }
}

/// Whether a tool calls a finding of its own an error: SARIF's level, or a severity of high and above.
pub fn is_error(finding: &Finding) -> bool {
    finding.severity.is_some_and(|severity| severity <= Severity::High)
}

fn rule<'a>(run: &'a Value, driver: &'a Value, result: &Value) -> &'a Value {
    let component = match result["rule"]["toolComponent"]["index"].as_u64() {
        Some(index) => &run["tool"]["extensions"][index as usize],
        None => driver,
    };
    let index = result["ruleIndex"].as_u64().or_else(|| result["rule"]["index"].as_u64());
    match index.map(|index| &component["rules"][index as usize]) {
        Some(rule) if rule.is_object() => rule,
        _ => list(&component["rules"]).find(|rule| rule["id"] == result["ruleId"]).unwrap_or(&Value::Null),
    }
}

fn message(rule: &Value, result: &Value) -> String {
    let own = &result["message"];
    let template = own["text"].as_str().or_else(|| {
        let id = own["id"].as_str()?;
        rule["messageStrings"][id]["text"].as_str()
    });
    let described = || rule["shortDescription"]["text"].as_str().filter(|text| !text.is_empty());
    let mut text = template.or_else(described).unwrap_or("no message").trim().to_owned();
    for (index, argument) in list(&own["arguments"]).enumerate() {
        text = text.replace(&format!("{{{index}}}"), argument.as_str().unwrap_or_default());
    }
    text
}

/// GitHub's `security-severity` is a CVSS score from 0 to 10; without one SARIF's level tells.
fn severity(rule: &Value, result: &Value) -> Severity {
    let score = [result, rule].into_iter().find_map(|from| {
        let value = &from["properties"]["security-severity"];
        value.as_f64().or_else(|| value.as_str()?.parse().ok())
    });
    let level = result["level"].as_str().or_else(|| rule["defaultConfiguration"]["level"].as_str());
    match (score, level) {
        (Some(score), _) if score >= 9.0 => Severity::Critical,
        (Some(score), _) if score >= 7.0 => Severity::High,
        (Some(score), _) if score >= 4.0 => Severity::Medium,
        (Some(score), _) if score > 0.0 => Severity::Low,
        (Some(_), _) | (None, Some("note" | "none")) => Severity::Info,
        (None, Some("error")) => Severity::High,
        (None, _) => Severity::Medium,
    }
}

fn place(run: &Value, physical: &Value, root: &str) -> Option<Span> {
    let artifact = &physical["artifactLocation"];
    let uri = artifact["uri"].as_str().or_else(|| {
        let index = artifact["index"].as_u64()?;
        run["artifacts"][index as usize]["location"]["uri"].as_str()
    })?;
    let base = artifact["uriBaseId"].as_str().and_then(|id| run["originalUriBaseIds"][id]["uri"].as_str());
    let joined = match base {
        Some(base) if !uri.contains("://") && !uri.starts_with('/') => format!("{}/{uri}", base.trim_end_matches('/')),
        _ => uri.to_owned(),
    };
    let path =
        percent_encoding::percent_decode_str(joined.strip_prefix("file://").unwrap_or(&joined)).decode_utf8_lossy();
    let relative = path.strip_prefix(root.trim_end_matches('/')).map_or(&*path, |rest| rest.trim_start_matches('/'));
    let relative = relative.trim_start_matches("./");
    // Of another repository, or of the tool's own machine.
    if relative.is_empty() || relative.starts_with('/') || relative.split('/').any(|segment| segment == "..") {
        return None;
    }
    let number = |name: &str| physical["region"][name].as_u64().and_then(|n| u32::try_from(n).ok());
    let line = number("startLine").unwrap_or(1).max(1);
    Some(Span {
        line,
        column: number("startColumn").unwrap_or(1).max(1),
        end_line: number("endLine").unwrap_or(line).max(line),
        end_column: number("endColumn").unwrap_or(1).max(1),
        ..Span::file(relative)
    })
}

/// `aws_s3_bucket.logs`, `module.x.aws_s3_bucket.logs[0]`.
fn is_address(name: &str) -> bool {
    name.contains('.') && name.chars().all(|c| c.is_alphanumeric() || "._-[]\"".contains(c))
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(results: Value, rules: Value) -> Vec<String> {
        let report = json!({"version": "2.1.0", "runs": [{
            "tool": {"driver": {"name": "scan", "rules": rules}}, "results": results,
            "originalUriBaseIds": {"ROOT": {"uri": "file:///src/repo/"}},
        }]});
        findings(&report.to_string(), "/src/repo")
            .unwrap()
            .into_iter()
            .map(|f| {
                let place = f.code.map_or_else(|| "-".to_owned(), |span| span.to_string());
                format!(
                    "{place} {} {:?} {} {}",
                    f.rule.unwrap_or_default(),
                    f.severity.unwrap(),
                    f.message,
                    f.help.is_some()
                )
            })
            .collect()
    }

    fn at(uri: &str) -> Value {
        json!([{"physicalLocation": {"artifactLocation": {"uri": uri}, "region": {"startLine": 3}}}])
    }

    #[test]
    fn results_become_findings() {
        let rules = json!([
            {"id": "R1", "helpUri": "https://e.com", "defaultConfiguration": {"level": "error"}},
            {"id": "R2", "shortDescription": {"text": "Second."}, "properties": {"security-severity": "9.1"}},
            {"id": "R3", "messageStrings": {"m": {"text": "{0} of {1}"}}},
        ]);
        let check = |result: Value, want: &[&str]| assert_eq!(told(json!([result]), rules.clone()), want, "{result}");
        check(
            json!({"ruleId": "R1", "message": {"text": "Bad."}, "locations": at("a/b.tf")}),
            &["a/b.tf:3 R1 High Bad. true"],
        );
        check(json!({"ruleIndex": 1, "message": {}, "locations": at("./a.tf")}), &["a.tf:3 R2 Critical Second. false"]);
        check(
            json!({"rule": {"id": "R3", "index": 2}, "level": "note", "message": {"id": "m", "arguments": ["one", "two"]}}),
            &["- R3 Info one of two false"],
        );
        check(
            json!({"message": {"text": "No rule."}, "locations": at("file:///src/repo/a%20b.tf")}),
            &["a b.tf:3  Medium No rule. false"],
        );
        let based = json!([{"physicalLocation": {"artifactLocation": {"uri": "x.tf", "uriBaseId": "ROOT"}}}]);
        check(
            json!({"ruleId": "R1", "message": {"text": "Based."}, "locations": based}),
            &["x.tf:1 R1 High Based. true"],
        );
        // A place that is not in the repository is none.
        check(
            json!({"ruleId": "R1", "message": {"text": "Far."}, "locations": at("/etc/x")}),
            &["- R1 High Far. true"],
        );
        check(json!({"ruleId": "R1", "message": {"text": "Up."}, "locations": at("../x")}), &["- R1 High Up. true"]);
        // What does not tell of something wrong now.
        check(json!({"ruleId": "R1", "kind": "pass", "message": {"text": "Good."}}), &[]);
        check(json!({"ruleId": "R1", "suppressions": [{"kind": "inSource"}], "message": {"text": "Known."}}), &[]);
        check(json!({"ruleId": "R1", "baselineState": "absent", "message": {"text": "Gone."}}), &[]);
    }

    #[test]
    fn what_is_no_report_is_refused() {
        let refused = |text: &str| findings(text, "/").unwrap_err().to_string();
        assert!(refused("{").starts_with("it is not JSON"));
        assert_eq!(refused("{}"), "it is no SARIF report: `version` is missing");
        assert_eq!(refused("{\"version\": \"2.1.0\"}"), "it is no SARIF report: `runs` is missing");
        assert_eq!(refused("{\"version\": \"1.0.0\"}"), "SARIF 1.0.0 is not known; 2.1.0 is");
    }
}
