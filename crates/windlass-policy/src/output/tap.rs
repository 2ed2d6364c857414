//! The Test Anything Protocol.

use super::{Tally, broken_line};
use crate::conftest::{Judgement, Outcome};

pub fn render(outcomes: &[Outcome]) -> String {
    let mut out = format!("1..{}\n", Tally::of(outcomes).tests);
    let mut number = 0;
    let mut line = |out: &mut String, word: &str, outcome: &Outcome, message: &str| {
        number += 1;
        let message = message.replace(['\n', '\r'], " ");
        out.push_str(&format!("{word} {number} - {} - {} - {message}\n", outcome.file, outcome.namespace));
    };
    for outcome in outcomes {
        for diagnostic in &outcome.broken {
            line(&mut out, "not ok", outcome, &broken_line(diagnostic));
        }
        let groups: [(&str, &str, &[Judgement]); 4] = [
            ("", "not ok", &outcome.failures),
            ("# warnings\n", "not ok", &outcome.warnings),
            ("# exceptions\n", "ok", &outcome.exceptions),
            ("# skip\n", "ok", &outcome.skipped),
        ];
        for (title, word, judgements) in groups {
            if !judgements.is_empty() {
                out.push_str(title);
            }
            for judgement in judgements {
                line(&mut out, word, outcome, &judgement.message);
            }
        }
        if outcome.successes > 0 {
            out.push_str("# successes\n");
        }
        for _ in 0..outcome.successes {
            line(&mut out, "ok", outcome, "SUCCESS");
        }
    }
    out
}
