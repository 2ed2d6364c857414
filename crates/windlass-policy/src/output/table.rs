//! A table with a row per result.

use super::{broken_line, text::clean};
use crate::conftest::{Judgement, Outcome};

pub fn render(outcomes: &[Outcome]) -> String {
    let mut rows: Vec<[String; 4]> = Vec::new();
    for outcome in outcomes {
        let mut row = |word: &str, message: &str| {
            let message = clean(message).replace(['\n', '\t'], " ");
            rows.push([word.to_owned(), clean(&outcome.file), outcome.namespace.clone(), message]);
        };
        for _ in 0..outcome.successes {
            row("success", "SUCCESS");
        }
        let groups: [(&str, &[Judgement]); 4] = [
            ("exception", &outcome.exceptions),
            ("skipped", &outcome.skipped),
            ("warning", &outcome.warnings),
            ("failure", &outcome.failures),
        ];
        for (word, judgements) in groups {
            judgements.iter().for_each(|judgement| row(word, &judgement.message));
        }
        outcome.broken.iter().for_each(|diagnostic| row("broken", &broken_line(diagnostic)));
    }
    let head = ["RESULT", "FILE", "NAMESPACE", "MESSAGE"];
    let width = |text: &str| text.chars().count();
    let widths: Vec<usize> = (0..4)
        .map(|column| rows.iter().map(|row| width(&row[column])).chain([width(head[column])]).max().unwrap_or(0))
        .collect();
    let rule = |left: &str, middle: &str, right: &str| {
        let bars: Vec<String> = widths.iter().map(|width| "─".repeat(width + 2)).collect();
        format!("{left}{}{right}\n", bars.join(middle))
    };
    let mut out = rule("┌", "┬", "┐");
    let cells: Vec<String> = head.iter().zip(&widths).map(|(text, width)| format!(" {text:^width$} ")).collect();
    out.push_str(&format!("│{}│\n{}", cells.join("│"), rule("├", "┼", "┤")));
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(text, width)| format!(" {text:<width$} ")).collect();
        out.push_str(&format!("│{}│\n", cells.join("│")));
    }
    out.push_str(&rule("└", "┴", "┘"));
    out
}
