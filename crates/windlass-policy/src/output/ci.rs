//! Annotations as GitHub's and Azure's runners read them from a log.

use super::{Tally, View, broken_line};
use crate::conftest::{Judgement, Outcome};

pub fn github(outcomes: &[Outcome], view: &View) -> String {
    let mut out = String::new();
    for outcome in outcomes {
        let remarkable = outcome.total() + outcome.broken.len() > outcome.successes;
        if view.hide_passed && !remarkable {
            continue;
        }
        out.push_str(&format!(
            "::group::Testing \"{}\" against {} policies in namespace \"{}\"\n",
            data(&outcome.file),
            outcome.total() + outcome.broken.len(),
            outcome.namespace
        ));
        let file = property(&outcome.file);
        let mut line =
            |kind: &str, message: &str| out.push_str(&format!("::{kind} file={file},line=1::{}\n", data(message)));
        for diagnostic in &outcome.broken {
            line("error", &broken_line(diagnostic));
        }
        let mut located = |kind: &str, judgement: &Judgement| match &judgement.place {
            Some((place, number)) => {
                let number = number.unwrap_or(1);
                let message = data(&judgement.message);
                out.push_str(&format!("::{kind} file={},line={number}::{message}\n", property(place)));
                let place = data(place);
                out.push_str(&format!("::{kind} file={file},line=1::(ORIGINATING FROM {place} L{number}) {message}\n"));
            }
            None => out.push_str(&format!("::{kind} file={file},line=1::{}\n", data(&judgement.message))),
        };
        outcome.failures.iter().for_each(|judgement| located("error", judgement));
        outcome.warnings.iter().for_each(|judgement| located("warning", judgement));
        let mut line = |message: &str| out.push_str(&format!("::notice file={file},line=1::{}\n", data(message)));
        if !view.suppress_exceptions {
            outcome.exceptions.iter().for_each(|judgement| line(&judgement.message));
        }
        outcome.skipped.iter().for_each(|judgement| line(&format!("Test was skipped: {}", judgement.message)));
        line(&format!("Number of successful checks: {}", outcome.successes));
        out.push_str("::endgroup::\n");
    }
    out.push_str(&format!("{}\n", Tally::of(outcomes)));
    out
}

pub fn azure(outcomes: &[Outcome]) -> String {
    let mut out = String::new();
    for outcome in outcomes {
        let file = data(&outcome.file);
        out.push_str(&format!(
            "##[section]Testing '{file}' against {} policies in namespace '{}'\n##[group]See conftest results\n",
            outcome.total() + outcome.broken.len(),
            outcome.namespace
        ));
        let mut line = |kind: &str, message: &str| {
            out.push_str(&format!("##vso[task.logissue type={kind}] file={file} --> {}\n", data(message)));
        };
        outcome.broken.iter().for_each(|diagnostic| line("error", &broken_line(diagnostic)));
        outcome.failures.iter().for_each(|judgement| line("error", &judgement.message));
        outcome.warnings.iter().for_each(|judgement| line("warning", &judgement.message));
        outcome.exceptions.iter().for_each(|judgement| line("warning", &judgement.message));
        outcome
            .skipped
            .iter()
            .for_each(|judgement| line("warning", &format!("Test was skipped: {}", judgement.message)));
        if outcome.successes > 0 {
            out.push_str(&format!("success file={file} {}\n", outcome.successes));
        }
        out.push_str("##[endgroup]\n");
    }
    out.push_str(&format!("{}\n", Tally::of(outcomes)));
    out
}

/// Text after `::`: a line feed would end the command, and begin another of the message's own.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// A value between commas.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
