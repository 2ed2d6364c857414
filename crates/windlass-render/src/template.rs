//! Markdown and HTML made by a user's own template (minijinja). It reads the document as it is in JSON; whatever it prints is
//! escaped for the sink unless it says `|safe`. A template that does not work never costs the review: the built-in text is
//! given instead, with a note that names the file and the line.

use crate::html::{self, Style};
use crate::markdown::{self, Comment, Cut, Size};
use crate::text;
use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, Error, Output, State, UndefinedBehavior};
use std::sync::Arc;
use windlass_model::effect::Shown;
use windlass_model::review::document::{Document, ResourceEntry};

/// A template and where it is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// For messages, e.g. `ci/review.md.j2`.
    pub name: String,
    pub source: String,
}

/// Why a template gives nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("the template {name}:{line} does not work: {message}")]
    Broken { name: String, line: usize, message: String },
    #[error("the template {name} makes {characters} characters, {bytes} bytes; at most {limit} fit")]
    TooLarge { name: String, characters: usize, bytes: usize, limit: usize },
}

/// A text, and what the caller should tell about how it came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    pub text: String,
    pub cut: Cut,
    /// The template did not work; the text is the built-in one.
    pub problem: Option<TemplateError>,
}

/// Steps after which a template is taken to be without an end.
const FUEL: u64 = 20_000_000;

/// The comment that the template makes, after the line by which it is found again ([`markdown::marker`]).
pub fn markdown(template: &Template, document: &Document, options: &markdown::Options) -> Rendered {
    let built_in = |options: &markdown::Options| markdown::render(document, options);
    let made = run(template, document, Sink::Markdown, built_in(options).text).and_then(|text| {
        let text = format!("{}{text}", markdown::marker(options));
        let size = Size::of(&text);
        if size.fits(options.limit) {
            return Ok(text);
        }
        let limit = options.limit.characters.min(options.limit.bytes);
        let name = template.name.clone();
        Err(TemplateError::TooLarge { name, characters: size.characters, bytes: size.bytes, limit })
    });
    match made {
        Ok(text) => Rendered { text, cut: Cut::default(), problem: None },
        Err(problem) => {
            let note = Some(fallback(&problem));
            let Comment { text, cut } = built_in(&markdown::Options { note, ..options.clone() });
            Rendered { text, cut, problem: Some(problem) }
        }
    }
}

/// What the template makes is a whole page, or a part of one: as it is.
pub fn html(template: &Template, document: &Document) -> Rendered {
    match run(template, document, Sink::Html, html::fragment(document, None)) {
        Ok(text) => Rendered { text, cut: Cut::default(), problem: None },
        Err(problem) => {
            let text = html::page(document, Style::Inline, Some(&fallback(&problem)));
            Rendered { text, cut: Cut::default(), problem: Some(problem) }
        }
    }
}

fn fallback(problem: &TemplateError) -> String {
    format!("This is the built-in text: {problem}.")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sink {
    Markdown,
    Html,
}

const MARKDOWN: AutoEscape = AutoEscape::Custom("markdown");

fn run(template: &Template, document: &Document, sink: Sink, built_in: String) -> Result<String, TemplateError> {
    // There is no loader: a template is one file.
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_fuel(Some(FUEL));
    env.set_auto_escape_callback(move |_| if sink == Sink::Html { AutoEscape::Html } else { MARKDOWN });
    env.set_formatter(format_value);
    let built_in: Arc<str> = built_in.into();
    env.add_function("built_in", move || Value::from_safe_string(built_in.to_string()));
    env.add_global("style", Value::from_safe_string(html::STYLE.to_owned()));
    env.add_filter("code", move |text: String| {
        Value::from_safe_string(match sink {
            Sink::Markdown => markdown::code_span(&text),
            Sink::Html => format!("<code>{}</code>", html::escape(&text)),
        })
    });
    env.add_filter("short", |text: String| text::short(&text).to_owned());
    env.add_filter("count", |number: usize, noun: String| text::count(number, &noun));
    env.add_filter("time", |at: i64| text::time(at));
    env.add_filter("shown", |value: Value| -> Result<String, Error> {
        Ok(text::value(&decoded::<Shown>(value)?, 2_000))
    });
    env.add_filter("diff", move |value: Value| -> Result<Value, Error> {
        let (lines, _) = markdown::block(&decoded::<ResourceEntry>(value)?, markdown::FULL);
        Ok(Value::from_safe_string(match sink {
            Sink::Markdown if lines.is_empty() => String::new(),
            Sink::Markdown => markdown::fence("diff", &lines),
            Sink::Html => format!("<pre class=\"lines\">{}</pre>", html::escape(&lines.join("\n"))),
        }))
    });
    let broken = |error: &Error| {
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
        let message = match error.detail() {
            Some(detail) => format!("{}: {detail}{cause}", error.kind()),
            None => format!("{}{cause}", error.kind()),
        };
        TemplateError::Broken { name: template.name.clone(), line: error.line().unwrap_or(1), message }
    };
    env.add_template(&template.name, &template.source).map_err(|e| broken(&e))?;
    let made = env.get_template(&template.name).and_then(|t| t.render(Value::from_serialize(document)));
    made.map_err(|e| broken(&e))
}

fn decoded<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, Error> {
    let plain = serde_json::to_value(&value);
    plain.and_then(serde_json::from_value).map_err(|error| {
        Error::new(minijinja::ErrorKind::InvalidOperation, format!("this is not what the filter takes: {error}"))
    })
}

fn format_value(out: &mut Output<'_>, state: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    if state.auto_escape() == MARKDOWN && !value.is_safe() && !value.is_undefined() {
        let text = if value.is_none() { String::new() } else { value.to_string() };
        return out.write_str(&markdown::plain_text(&text)).map_err(Error::from);
    }
    minijinja::escape_formatter(out, state, value)
}

#[cfg(test)]
mod tests;
