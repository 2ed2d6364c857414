//! Files of many kinds as the documents that policies judge, in the shapes that Conftest gives them.

mod dockerfile;
mod dotenv;
mod hcl;
mod ini;
mod json;
mod lists;
mod properties;
mod toml;
mod xml;
mod yaml;

use serde_json::Value;
use std::sync::Arc;
use windlass_model::diagnostic::{Diagnostic, Span, position};

/// How a text is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Parser {
    Codeowners,
    Cyclonedx,
    Dockerfile,
    Dotenv,
    Hcl1,
    Hcl2,
    Ignore,
    Ini,
    Json,
    Jsonc,
    Properties,
    Spdx,
    Toml,
    Xml,
    Yaml,
}

/// Parsers by the name that `--parser` and `parse_config` take, sorted.
const NAMES: [(&str, Parser); 15] = [
    ("codeowners", Parser::Codeowners),
    ("cyclonedx", Parser::Cyclonedx),
    ("dockerfile", Parser::Dockerfile),
    ("dotenv", Parser::Dotenv),
    ("hcl1", Parser::Hcl1),
    ("hcl2", Parser::Hcl2),
    ("ignore", Parser::Ignore),
    ("ini", Parser::Ini),
    ("json", Parser::Json),
    ("jsonc", Parser::Jsonc),
    ("properties", Parser::Properties),
    ("spdx", Parser::Spdx),
    ("toml", Parser::Toml),
    ("xml", Parser::Xml),
    ("yaml", Parser::Yaml),
];

/// Kinds that Conftest reads and we do not, with what makes JSON of them.
const ABSENT: [(&str, &str); 8] = [
    ("cue", "`cue export FILE`"),
    ("edn", "a converter such as `jet --to json`"),
    ("groovy", "a converter of your own"),
    ("hocon", "`hocon -i FILE get . --json` (pyhocon)"),
    ("jsonnet", "`jsonnet FILE`"),
    ("nginx", "`crossplane parse FILE`"),
    ("textproto", "`buf convert --to json`"),
    ("vcl", "a converter of your own"),
];

impl Parser {
    /// The parser of this name, e.g. `hcl2`.
    ///
    /// # Errors
    /// A sentence that says which there are, or for a kind that Conftest has and we do not, how to get JSON.
    pub fn named(name: &str) -> Result<Self, String> {
        if let Some((_, parser)) = NAMES.iter().find(|(known, _)| *known == name) {
            return Ok(*parser);
        }
        if let Some((_, tool)) = ABSENT.iter().find(|(known, _)| *known == name) {
            return Err(format!("{name} is not read here: make JSON of it with {tool} and pass that"));
        }
        let known: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
        Err(format!("there is no parser `{name}`; there are: {}", known.join(", ")))
    }

    /// The parser for a path, by name and extension; `-` and names without an extension are YAML, of which JSON is a part.
    ///
    /// # Errors
    /// As [`Parser::named`], for the extension.
    pub fn of_path(path: &str) -> Result<Self, String> {
        let name = path.rsplit(['/', '\\']).next().unwrap_or(path).to_lowercase();
        let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
        Ok(match () {
            () if name == "dockerfile" || name.starts_with("dockerfile.") || extension == "dockerfile" => {
                Self::Dockerfile
            }
            () if name == "containerfile" || name.starts_with("containerfile.") => Self::Dockerfile,
            () if name == "codeowners" => Self::Codeowners,
            () if name == "jenkinsfile" || name.starts_with("jenkinsfile.") => return Self::named("groovy"),
            () if name == "nginx.conf" => return Self::named("nginx"),
            () if extension.ends_with("ignore") && name.starts_with('.') => Self::Ignore,
            () => match extension {
                "" | "yml" | "yaml" => Self::Yaml,
                "env" => Self::Dotenv,
                "tf" | "hcl" | "tfvars" | "tofu" => Self::Hcl2,
                "tfstate" => Self::Json,
                "cfg" => Self::Ini,
                other => return Self::named(other),
            },
        })
    }

    /// Its name, e.g. `hcl2`.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, parser)| *parser == self).map_or("json", |(name, _)| name)
    }
}

/// What is wrong in a text: where (byte offset) and what.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mistake {
    at: usize,
    what: String,
}

impl Mistake {
    fn new(at: usize, what: impl Into<String>) -> Self {
        Self { at, what: what.into() }
    }

    /// At a line and column, both counted from 1, the column in bytes.
    fn at_line(text: &str, line: usize, column: usize, what: impl Into<String>) -> Self {
        let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
        Self::new((start + column.saturating_sub(1)).min(text.len()), what)
    }
}

/// The text of a file: UTF-8, or UTF-16 with its mark.
///
/// # Errors
/// WL430 with the line of what is neither.
pub fn decode(path: &str, bytes: Vec<u8>) -> Result<String, Box<Diagnostic>> {
    let wide = |unit: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes[2..].chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
        String::from_utf16(&units).ok().filter(|_| bytes.len().is_multiple_of(2))
    };
    let decoded = match bytes.as_slice() {
        [0xff, 0xfe, ..] => wide(u16::from_le_bytes),
        [0xfe, 0xff, ..] => wide(u16::from_be_bytes),
        _ => None,
    };
    if let Some(text) = decoded {
        return Ok(text);
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() as u32 + 1;
        let span = Span { line, end_line: line, ..Span::file(path) };
        Box::new(Diagnostic::error("WL430", format!("{path} is not UTF-8 text")).at(span))
    })
}

/// Reads `text`, the content of `path`. A YAML stream of several documents is an array of them.
///
/// # Errors
/// WL430 with the place of the first mistake and its line.
pub fn parse(parser: Parser, path: &Arc<str>, text: &str) -> Result<Value, Box<Diagnostic>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let parsed = match parser {
        Parser::Json => json::parse(text),
        Parser::Jsonc => json::parse_with_comments(text),
        Parser::Cyclonedx | Parser::Spdx => json::parse_bill(parser, text),
        Parser::Yaml => yaml::parse(text),
        Parser::Toml => toml::parse(text),
        Parser::Hcl2 => hcl::parse(text),
        Parser::Hcl1 => hcl::parse_old(text),
        Parser::Dockerfile => dockerfile::parse(text),
        Parser::Dotenv => dotenv::parse(text),
        Parser::Ini => ini::parse(text),
        Parser::Properties => properties::parse(text),
        Parser::Xml => xml::parse(text),
        Parser::Ignore => Ok(lists::ignore(text)),
        Parser::Codeowners => Ok(lists::codeowners(text)),
    };
    parsed.map_err(|mistake| {
        let (line, column) = position(text, mistake.at);
        let span = Span { file: path.clone(), line, column, end_line: line, end_column: column + 1 };
        Box::new(
            Diagnostic::error("WL430", format!("{path} cannot be read as {}: {}", parser.name(), mistake.what))
                .at_source(span, text, "here"),
        )
    })
}

/// Whether the text says nothing of its kind: read as YAML because no name says otherwise, it is one plain text. Policies would find
/// nothing in it, and pass.
pub fn is_guess(path: &str, contents: &Value) -> bool {
    let name = path.rsplit(['/', '\\']).next().unwrap_or(path);
    !name.contains('.') && Parser::of_path(path) == Ok(Parser::Yaml) && contents.is_string()
}

/// The file as one document for `--combine`.
pub fn combined(path: &str, contents: Value) -> Value {
    let mut object = serde_json::Map::new();
    object.insert("path".into(), path.into());
    object.insert("contents".into(), contents);
    Value::Object(object)
}

/// A number as JSON has it: whole numbers without a fraction.
fn number(value: f64) -> Option<Value> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= EXACT {
        return Some(Value::from(value as i64));
    }
    serde_json::Number::from_f64(value).map(Value::Number)
}

#[cfg(test)]
mod tests;
