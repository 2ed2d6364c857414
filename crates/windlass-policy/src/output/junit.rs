//! JUnit's XML: a suite per namespace.

use super::{View, broken_line};
use crate::conftest::{Judgement, Outcome};

pub fn render(outcomes: &[Outcome], view: &View) -> String {
    let mut namespaces: Vec<&str> = Vec::new();
    for outcome in outcomes {
        if !namespaces.contains(&outcome.namespace.as_str()) {
            namespaces.push(&outcome.namespace);
        }
    }
    let mut out = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n".to_owned();
    for namespace in namespaces {
        let mut cases = String::new();
        let (mut tests, mut failures, mut errors) = (0, 0, 0);
        let class = escape(&format!("conftest.{namespace}"));
        for outcome in outcomes.iter().filter(|outcome| outcome.namespace == namespace) {
            let name = |message: &str| {
                let text =
                    if view.hide_message { outcome.file.clone() } else { format!("{} - {message}", outcome.file) };
                escape(&text)
            };
            let mut case = |name: &str, inner: &str| {
                tests += 1;
                cases.push_str(&format!(
                    "\t\t<testcase classname=\"{class}\" name=\"{name}\" time=\"0.000\">{inner}</testcase>\n"
                ));
            };
            let failed: [&[Judgement]; 2] = [&outcome.warnings, &outcome.failures];
            for judgement in failed.into_iter().flatten() {
                failures += 1;
                let text = escape(&judgement.message);
                case(
                    &name(&judgement.message),
                    &format!("\n\t\t\t<failure message=\"Failed\" type=\"\">{text}</failure>\n\t\t"),
                );
            }
            for diagnostic in &outcome.broken {
                errors += 1;
                let text = escape(&broken_line(diagnostic));
                case(
                    &name(&diagnostic.summary),
                    &format!("\n\t\t\t<error message=\"Broken\" type=\"{}\">{text}</error>\n\t\t", diagnostic.code),
                );
            }
            for judgement in &outcome.skipped {
                let text = escape(&judgement.message);
                case(&name(&judgement.message), &format!("\n\t\t\t<skipped message=\"{text}\"></skipped>\n\t\t"));
            }
            for _ in 0..outcome.successes {
                case(&escape(&outcome.file), "");
            }
        }
        let errors = if errors == 0 { String::new() } else { format!(" errors=\"{errors}\"") };
        out.push_str(&format!(
            "\t<testsuite tests=\"{tests}\" failures=\"{failures}\"{errors} time=\"0.000\" name=\"{class}\">\n{cases}\t</testsuite>\n"
        ));
    }
    out.push_str("</testsuites>\n");
    out
}

/// What XML allows; other control characters become the replacement character.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\n' => out.push_str("&#xA;"),
            '\t' => out.push_str("&#x9;"),
            '\r' => out.push_str("&#xD;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
