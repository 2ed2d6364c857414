//! Steps over time as an SVG: one row for each, time that was waited apart from time that was worked, each attempt on its own.
//!
//! Geometry stands in attributes, in per cent across and in pixels down: the drawing fits any width with text that stays as
//! large, and `gantt.js` looks closer by making the inner drawing wider.

use super::parts::{duration, iso};
use std::fmt::Write;
use windlass_model::Micros;
use windlass_model::run::StepState;
use windlass_render::html::escape;

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row<'a> {
    pub title: &'a str,
    pub state: StepState,
    /// In order of time.
    pub spans: &'a [Span],
}

/// What a step did for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    pub kind: SpanKind,
    /// From 1; of a queue, the attempt that it led to.
    pub attempt: u32,
    /// Microseconds since 1970, UTC.
    pub from: Micros,
    /// `None` while it lasts.
    pub until: Option<Micros>,
    /// How the attempt ended; only of work.
    pub end: Option<StepState>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// Could have started: for a free place, a lock, a worker.
    Queued,
    /// For a gate, a person, a time, or the next attempt.
    Waiting,
    Working,
}

impl Span {
    /// How long it lasted, or lasts by now; never negative.
    pub fn lasted(&self, now: Micros) -> Micros {
        (self.until.unwrap_or(now) - self.from).max(0)
    }

    fn class(&self) -> &'static str {
        match (self.kind, self.end) {
            (SpanKind::Queued, _) => "queued",
            (SpanKind::Waiting, _) => "waiting",
            (SpanKind::Working, None) => "working",
            (SpanKind::Working, Some(StepState::Succeeded | StepState::Skipped)) => "ok",
            (SpanKind::Working, Some(StepState::Failed)) => "bad",
            (SpanKind::Working, Some(StepState::Unknown)) => "unknown",
            (SpanKind::Working, Some(_)) => "warn",
        }
    }

    /// e.g. `attempt 2 worked for 12 s, failed`.
    fn told(&self, now: Micros) -> String {
        let lasted = duration(self.lasted(now));
        let still = self.until.is_none();
        match self.kind {
            SpanKind::Queued if still => format!("queued for {lasted}"),
            SpanKind::Queued => format!("was queued for {lasted}"),
            SpanKind::Waiting if still => format!("waiting for {lasted}"),
            SpanKind::Waiting => format!("waited for {lasted}"),
            SpanKind::Working => match self.end {
                _ if still => format!("attempt {}: at work for {lasted}", self.attempt),
                Some(end) => format!("attempt {}: worked for {lasted}, {}", self.attempt, end.as_str()),
                None => format!("attempt {}: worked for {lasted}", self.attempt),
            },
        }
    }
}

/// What is drawn at most: more is a picture of nothing.
pub const MOST: usize = 200;

const HEAD: usize = 22;
const ROW: usize = 32;

/// The drawing of at most [`MOST`] rows, from `start` to `end`; without an end the run goes on, and a line says where now is.
pub fn svg(rows: &[Row<'_>], start: Micros, end: Option<Micros>, now: Micros) -> String {
    let rows = &rows[..rows.len().min(MOST)];
    let last = rows.iter().flat_map(|row| row.spans).map(|span| span.until.unwrap_or(now)).max();
    let mut until = end.unwrap_or(now).max(last.unwrap_or(start)).max(start + 1000);
    if end.is_none() {
        // Room for the line.
        until += (until - start) / 50;
    }
    let scale = Scale { start, length: until - start };
    let height = HEAD + rows.len() * ROW + 4;
    let mut out = format!(
        "<svg class=\"gantt\" width=\"100%\" height=\"{height}\" role=\"img\" aria-label=\"Steps over time; the table of \
         steps says the same in words\">\n<svg class=\"gantt-time\" x=\"0%\" width=\"100%\" height=\"{height}\">\n"
    );
    ticks(&mut out, &scale, height);
    for (number, row) in rows.iter().enumerate() {
        let y = HEAD + number * ROW + 16;
        for span in row.spans {
            let (x, width) = scale.span(span, now);
            let told = format!("{}: {}, from {}", row.title, span.told(now), iso(span.from));
            // Writing to a string cannot fail; so below.
            let _ = writeln!(
                out,
                "<rect class=\"span {}\" x=\"{x:.3}%\" y=\"{y}\" width=\"{width:.3}%\" height=\"12\"><title>{}</title></rect>",
                span.class(),
                escape(&told)
            );
            if span.kind == SpanKind::Working && span.attempt > 1 {
                let _ = writeln!(
                    out,
                    "<text class=\"attempt\" x=\"{x:.3}%\" y=\"{}\" dx=\"3\">{}</text>",
                    y + 10,
                    span.attempt
                );
            }
        }
    }
    if end.is_none() {
        let x = scale.percent(now);
        let _ = writeln!(
            out,
            "<line class=\"now\" x1=\"{x:.3}%\" x2=\"{x:.3}%\" y1=\"{}\" y2=\"{height}\"><title>now</title></line>",
            HEAD - 6
        );
    }
    out.push_str("</svg>\n");
    for (number, row) in rows.iter().enumerate() {
        let y = HEAD + number * ROW + 12;
        let _ = writeln!(
            out,
            "<text class=\"label\" x=\"2\" y=\"{y}\">{} · {}</text>",
            escape(row.title),
            row.state.as_str()
        );
    }
    out.push_str("</svg>\n");
    out
}

struct Scale {
    start: Micros,
    length: Micros,
}

impl Scale {
    fn percent(&self, at: Micros) -> f64 {
        ((at - self.start) as f64 * 100.0 / self.length as f64).clamp(0.0, 100.0)
    }

    /// Where it begins and how wide it is; never too thin to be seen.
    fn span(&self, span: &Span, now: Micros) -> (f64, f64) {
        let from = self.percent(span.from);
        let width = (self.percent(span.until.unwrap_or(now)) - from).max(0.2);
        (from.min(100.0 - width), width)
    }
}

/// Lines at round distances from the start, at most six.
fn ticks(out: &mut String, scale: &Scale, height: usize) {
    const SECOND: Micros = 1_000_000;
    const ROUND: [Micros; 21] = [
        1000,
        5000,
        20_000,
        100_000,
        SECOND / 2,
        SECOND,
        2 * SECOND,
        5 * SECOND,
        15 * SECOND,
        30 * SECOND,
        60 * SECOND,
        120 * SECOND,
        300 * SECOND,
        900 * SECOND,
        1800 * SECOND,
        3600 * SECOND,
        7200 * SECOND,
        6 * 3600 * SECOND,
        86_400 * SECOND,
        7 * 86_400 * SECOND,
        30 * 86_400 * SECOND,
    ];
    let step = ROUND.into_iter().find(|step| scale.length / step <= 5).unwrap_or(scale.length);
    for number in 0..=scale.length / step {
        let x = scale.percent(scale.start + number * step);
        let label = if number == 0 { "start".to_owned() } else { duration(number * step) };
        let _ = writeln!(
            out,
            "<line class=\"tick\" x1=\"{x:.3}%\" x2=\"{x:.3}%\" y1=\"{}\" y2=\"{height}\"/><text class=\"tick\" x=\"{x:.3}%\" \
             y=\"12\" dx=\"2\">{label}</text>",
            HEAD - 6
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Micros = 1_000_000;

    fn span(kind: SpanKind, attempt: u32, from: Micros, until: Option<Micros>, end: Option<StepState>) -> Span {
        Span { kind, attempt, from: from * S, until: until.map(|u| u * S), end }
    }

    #[test]
    fn waiting_is_apart_from_work_and_each_attempt_is_seen() {
        let spans = [
            span(SpanKind::Queued, 1, 0, Some(10), None),
            span(SpanKind::Working, 1, 10, Some(50), Some(StepState::Failed)),
            span(SpanKind::Waiting, 2, 50, Some(60), None),
            span(SpanKind::Working, 2, 60, Some(100), Some(StepState::Succeeded)),
        ];
        let rows = [Row { title: "plan <x>", state: StepState::Succeeded, spans: &spans }];
        let svg = svg(&rows, 0, Some(100 * S), 500 * S);
        for wanted in [
            "class=\"span queued\" x=\"0.000%\" y=\"38\" width=\"10.000%\"",
            "class=\"span bad\" x=\"10.000%\" y=\"38\" width=\"40.000%\"",
            "plan &lt;x&gt;: attempt 1: worked for 40 s, failed, from 1970-01-01T00:00:10Z",
            "class=\"span waiting\" x=\"50.000%\"",
            "class=\"span ok\" x=\"60.000%\"",
            "class=\"attempt\" x=\"60.000%\" y=\"48\" dx=\"3\">2<",
            ">30 s</text>",
        ] {
            assert!(svg.contains(wanted), "{wanted}: {svg}");
        }
        assert!(!svg.contains("class=\"now\""), "it has ended");
    }

    #[test]
    fn what_goes_on_reaches_to_the_line_of_now() {
        let spans = [span(SpanKind::Working, 1, 0, None, None)];
        let rows = [Row { title: "apply", state: StepState::Running, spans: &spans }];
        let svg = svg(&rows, 0, None, 100 * S);
        assert!(svg.contains("class=\"span working\" x=\"0.000%\" y=\"38\" width=\"98.039%\""), "{svg}");
        assert!(svg.contains("class=\"now\" x1=\"98.039%\""), "{svg}");
    }

    #[test]
    fn nothing_breaks_the_scale() {
        #[track_caller]
        fn check(spans: &[Span], start: Micros, end: Option<Micros>, now: Micros) {
            let svg = svg(&[Row { title: "x", state: StepState::Pending, spans }], start, end, now);
            for number in svg.split(['"', '%']).filter_map(|part| part.parse::<f64>().ok()) {
                assert!(number.is_finite() && number >= 0.0, "{svg}");
            }
            assert!(svg.matches("class=\"tick\"").count() <= 12 + 2, "{svg}");
        }
        check(&[], 0, None, 0);
        check(&[span(SpanKind::Queued, 1, 10, Some(5), None)], 7 * S, Some(7 * S), 7 * S);
        check(&[span(SpanKind::Working, 1, 0, None, None)], 50 * S, None, 10 * S);
        check(&[span(SpanKind::Working, 1, 0, Some(1_000_000_000), None)], 0, Some(1), 5);
    }

    #[test]
    fn more_rows_than_can_be_read_are_not_drawn() {
        let row = Row { title: "x", state: StepState::Pending, spans: &[] };
        let svg = svg(&vec![row; MOST + 50], 0, None, 1);
        assert_eq!(svg.matches("class=\"label\"").count(), MOST);
    }
}
