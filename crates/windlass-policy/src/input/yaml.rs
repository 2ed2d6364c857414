//! YAML with the scalars of version 1.1, as the tools around Kubernetes and Conftest read them: `yes` and `on` are true, `017` is
//! octal, keys become strings.

use super::{Mistake, number};
use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Values that aliases may expand to; more is an attack or an accident.
const MOST: usize = 5_000_000;
const DEEPEST: usize = 512;

/// One document as itself, several as an array; none is null.
pub fn parse(text: &str) -> Result<Value, Mistake> {
    let mut documents = Vec::new();
    // A last line without its end; no text is that long.
    let open_end = if text.ends_with('\n') { usize::MAX } else { text.chars().count() };
    let mut reader =
        Reader { open_end, text, parser: Parser::new_from_str(text), anchors: HashMap::new(), values: 0, depth: 0 };
    loop {
        let (event, _) = reader.next()?;
        match event {
            Event::StreamEnd => break,
            Event::DocumentStart(_) => {
                let (event, span) = reader.next()?;
                documents.push(reader.node(event, span)?);
                reader.anchors.clear();
            }
            _ => {}
        }
    }
    Ok(match documents.len() {
        0 => Value::Null,
        1 => documents.remove(0),
        _ => Value::Array(documents),
    })
}

struct Reader<'a> {
    text: &'a str,
    /// Where the text ends, in characters, when that is within a line.
    open_end: usize,
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    anchors: HashMap<usize, (Value, usize)>,
    values: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Mistake> {
        match self.parser.next() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => {
                let mark = error.marker();
                Err(self.mistake(mark.line(), mark.col(), error.info()))
            }
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    /// At a line from 1 and a column from 0, in characters.
    fn mistake(&self, line: usize, column: usize, what: impl Into<String>) -> Mistake {
        let start: usize = self.text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
        let rest = self.text.get(start..).unwrap_or_default();
        let within = rest.char_indices().nth(column).map_or(rest.len(), |(at, _)| at);
        Mistake::new(start + within, what)
    }

    fn at(&self, span: &Span, what: impl Into<String>) -> Mistake {
        self.mistake(span.start.line(), span.start.col(), what)
    }

    fn node(&mut self, event: Event<'a>, span: Span) -> Result<Value, Mistake> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.at(&span, format!("nested deeper than {DEEPEST} levels")));
        }
        let before = self.values;
        self.values += 1;
        let (value, anchor) = match event {
            Event::Alias(id) => {
                let Some((value, size)) = self.anchors.get(&id) else {
                    return Err(self.at(&span, "an alias to what is not defined yet"));
                };
                let value = value.clone();
                self.values += size;
                (value, 0)
            }
            Event::Scalar(text, style, anchor, tag) => {
                let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
                let cut = block && span.end.index() >= self.open_end;
                let text = if cut { text.strip_suffix('\n').unwrap_or(&text) } else { &text };
                let value = scalar(text, style, tag.as_deref()).map_err(|what| self.at(&span, what))?;
                (value, anchor)
            }
            Event::SequenceStart(anchor, _) => {
                let mut items = Vec::new();
                loop {
                    let (event, span) = self.next()?;
                    if event == Event::SequenceEnd {
                        break;
                    }
                    items.push(self.node(event, span)?);
                }
                (Value::Array(items), anchor)
            }
            Event::MappingStart(anchor, _) => (self.mapping()?, anchor),
            _ => return Err(self.at(&span, "a value is missing")),
        };
        if self.values > MOST {
            return Err(self.at(&span, format!("aliases expand to more than {MOST} values")));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, (value.clone(), self.values - before));
        }
        self.depth -= 1;
        Ok(value)
    }

    fn mapping(&mut self) -> Result<Value, Mistake> {
        let mut own = Map::new();
        let mut merged = Map::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let merges = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, _) if text == "<<");
            let place = span;
            let key = match self.node(event, span)? {
                Value::String(text) => text,
                Value::Bool(bool) => bool.to_string(),
                Value::Number(number) => number.to_string(),
                Value::Null => return Err(self.at(&place, "a key is null")),
                _ => return Err(self.at(&place, "a key is neither a string nor a number (quote `{{ … }}`)")),
            };
            let (event, span) = self.next()?;
            let value = self.node(event, span)?;
            if merges {
                let sources = match value {
                    Value::Array(items) => items,
                    other => vec![other],
                };
                for source in sources {
                    let Value::Object(object) = source else {
                        return Err(self.at(&place, "only a mapping can be merged with `<<`"));
                    };
                    for (name, value) in object {
                        merged.entry(name).or_insert(value);
                    }
                }
            } else {
                own.insert(key, value);
            }
        }
        for (name, value) in merged {
            own.entry(name).or_insert(value);
        }
        Ok(Value::Object(own))
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    if let Some(tag) = tag.filter(|tag| tag.is_yaml_core_schema()) {
        return match tag.suffix.as_str() {
            "binary" => Ok(binary(text)?.into()),
            "int" | "float" | "bool" | "null" => plain(text),
            _ => Ok(text.into()),
        };
    }
    if style == ScalarStyle::Plain { plain(text) } else { Ok(text.into()) }
}

fn binary(text: &str) -> Result<String, String> {
    use base64::Engine;
    let packed: String = text.split_whitespace().collect();
    let bytes = base64::engine::general_purpose::STANDARD.decode(packed);
    let bytes = bytes.map_err(|error| format!("`!!binary` without base64: {error}"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn plain(text: &str) -> Result<Value, String> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Ok(true.into()),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Ok(false.into());
        }
        ".inf" | ".Inf" | ".INF" | "+.inf" | "-.inf" | ".nan" | ".NaN" | ".NAN" => {
            return Err(format!("`{text}` is no number that JSON has"));
        }
        _ => {}
    }
    Ok(numeric(text).unwrap_or_else(|| text.into()))
}

fn numeric(text: &str) -> Option<Value> {
    let first = text.trim_start_matches(['+', '-']).chars().next()?;
    if !(first.is_ascii_digit() || first == '.') {
        return None;
    }
    let digits = text.replace('_', "");
    let (negative, body) = match digits.strip_prefix('-') {
        Some(body) => (true, body),
        None => (false, digits.strip_prefix('+').unwrap_or(&digits)),
    };
    let based = |digits: &str, base: u32| {
        let value = i128::from(u64::from_str_radix(digits, base).ok()?);
        Some(if negative { -value } else { value })
    };
    let whole = match () {
        () if body.starts_with("0x") => based(&body[2..], 16),
        () if body.starts_with("0b") => based(&body[2..], 2),
        () if body.starts_with("0o") => based(&body[2..], 8),
        () if body.len() > 1 && body.starts_with('0') && body.bytes().all(|b| b.is_ascii_digit()) => {
            based(&body[1..], 8).or_else(|| based(body, 10))
        }
        () if body.bytes().all(|b| b.is_ascii_digit()) => based(body, 10),
        () => None,
    };
    if let Some(whole) = whole {
        return i64::try_from(whole).map(Value::from).or_else(|_| u64::try_from(whole).map(Value::from)).ok();
    }
    let allowed = body.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    if !allowed {
        return None;
    }
    digits.parse::<f64>().ok().and_then(number)
}
