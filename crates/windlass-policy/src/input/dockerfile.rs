//! Dockerfiles: instructions in order, each with its flags, values and stage.

use super::Mistake;
use serde_json::{Value, json};

pub fn parse(text: &str) -> Result<Value, Mistake> {
    let mut commands = Vec::new();
    let mut stage = 0;
    let mut seen_from = false;
    for line in logical_lines(text) {
        let mut command = instruction(&line.text).map_err(|what| Mistake::new(line.at, what))?;
        if command.name == "from" {
            stage += usize::from(seen_from);
            seen_from = true;
        }
        for comment in &line.comments {
            commands.push(json!({
                "Cmd": "comment", "SubCmd": "", "Flags": null, "Value": [comment], "JSON": false, "Stage": stage,
            }));
        }
        let sub = command.child.take();
        let (sub_name, body) = match sub {
            Some(child) => (child.original.clone(), *child),
            None => (String::new(), Command { child: None, ..command.clone() }),
        };
        let values = if body.values.is_empty() { Value::Null } else { json!(body.values) };
        commands.push(json!({
            "Cmd": command.name, "SubCmd": sub_name, "Flags": command.flags, "Value": values, "JSON": body.json,
            "Stage": stage,
        }));
    }
    if commands.is_empty() {
        return Err(Mistake::new(0, "the file has no instructions"));
    }
    // A top-level list would be one document per instruction.
    Ok(json!([commands]))
}

struct Line {
    at: usize,
    /// Those above it, since the last empty one.
    comments: Vec<String>,
    text: String,
}

#[derive(Clone)]
struct Command {
    name: String,
    original: String,
    flags: Vec<String>,
    values: Vec<String>,
    json: bool,
    /// What ONBUILD does.
    child: Option<Box<Command>>,
}

/// Instructions with continued lines joined, and without what stands in heredocs.
fn logical_lines(text: &str) -> Vec<Line> {
    let (escape, directives) = directives(text);
    let mut out: Vec<Line> = Vec::new();
    let mut current: Option<Line> = None;
    let mut comments: Vec<String> = Vec::new();
    let mut lines = text.lines();
    lines.by_ref().take(directives).for_each(drop);
    while let Some(raw) = lines.next() {
        let at = raw.as_ptr() as usize - text.as_ptr() as usize;
        let trimmed = raw.trim();
        if trimmed.starts_with('#') {
            if current.is_none() {
                // The first character goes, whatever it is; an empty comment ends those before it.
                match raw.get(1..).unwrap_or_default().trim() {
                    "" => comments.clear(),
                    comment => comments.push(comment.to_owned()),
                }
            }
            continue;
        }
        if trimmed.is_empty() {
            continue;
        }
        let ended = raw.trim_end();
        // An escaped one does not carry on.
        let (piece, goes_on) = match ended.strip_suffix(escape) {
            Some(piece) if !piece.ends_with(escape) => (piece, true),
            _ => (ended, false),
        };
        match &mut current {
            Some(line) => line.text.push_str(piece),
            None => {
                let at = at + (raw.len() - raw.trim_start().len());
                let comments = std::mem::take(&mut comments);
                current = Some(Line { at, comments, text: piece.trim_start().into() });
            }
        }
        if !goes_on && let Some(line) = current.take() {
            for end in heredocs(&line.text) {
                for body in lines.by_ref() {
                    let body = if end.1 { body.trim_start_matches('\t') } else { body };
                    if body == end.0 {
                        break;
                    }
                }
            }
            out.push(line);
        }
    }
    out.extend(current);
    out
}

/// The character that carries on a line, and how many lines of directives there are at the top.
fn directives(text: &str) -> (char, usize) {
    let mut escape = '\\';
    let mut count = 0;
    for line in text.lines().map(str::trim) {
        let Some((key, value)) = line.strip_prefix('#').and_then(|directive| directive.split_once('=')) else { break };
        match key.trim().to_lowercase().as_str() {
            "escape" => escape = value.trim().chars().next().unwrap_or(escape),
            "syntax" | "check" => {}
            _ => break,
        }
        count += 1;
    }
    (escape, count)
}

/// Delimiters of the heredocs that an instruction opens, and whether leading tabs are taken off.
fn heredocs(line: &str) -> Vec<(String, bool)> {
    let word = line.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    if !matches!(word.as_str(), "run" | "copy" | "add") {
        return Vec::new();
    }
    let mut found = Vec::new();
    for word in line.split_whitespace() {
        let Some(rest) = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<") else { continue };
        let (rest, tabs) = rest.strip_prefix('-').map_or((rest, false), |rest| (rest, true));
        let name = rest.trim_matches(['"', '\'']);
        if name.starts_with(|c: char| c.is_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_alphanumeric() || c == '_')
        {
            found.push((name.to_owned(), tabs));
        }
    }
    found
}

fn instruction(line: &str) -> Result<Command, String> {
    let line = line.trim();
    let end = line.find(char::is_whitespace).unwrap_or(line.len());
    let original = line[..end].to_owned();
    let name = original.to_lowercase();
    let (flags, rest) = flags(line[end..].trim());
    let mut command = Command { name, original, flags, values: Vec::new(), json: false, child: None };
    let words = || rest.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    match command.name.as_str() {
        "run" | "cmd" | "entrypoint" | "shell" => match json_list(rest)? {
            Some(values) => (command.json, command.values) = (true, values),
            None if rest.is_empty() => {}
            None => command.values = vec![rest.to_owned()],
        },
        "add" | "copy" | "volume" => match json_list(rest)? {
            Some(values) => (command.json, command.values) = (true, values),
            None => command.values = words(),
        },
        "from" | "expose" => command.values = words(),
        "arg" => command.values = quoted_words(rest),
        "env" | "label" => command.values = pairs(rest)?,
        "healthcheck" if rest.is_empty() => return Err("HEALTHCHECK without an argument".into()),
        "healthcheck" => {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            command.values.push(rest[..end].to_uppercase());
            let body = rest[end..].trim();
            if let Some(values) = json_list(body)? {
                command.json = true;
                command.values.extend(values);
            } else if !body.is_empty() {
                command.values.push(body.to_owned());
            }
        }
        "onbuild" => {
            if rest.is_empty() {
                return Err("ONBUILD without an instruction".into());
            }
            command.child = Some(Box::new(instruction(rest)?));
        }
        "maintainer" | "stopsignal" | "user" | "workdir" => {
            command.values = Some(rest.to_owned()).filter(|rest| !rest.is_empty()).into_iter().collect();
        }
        _ => return Err(format!("there is no instruction `{}`", command.original)),
    }
    Ok(command)
}

/// Leading words that begin with `--`, and the rest.
fn flags(mut rest: &str) -> (Vec<String>, &str) {
    let mut flags = Vec::new();
    while rest.starts_with("--") {
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let word = &rest[..end];
        rest = rest[end..].trim_start();
        if word == "--" {
            break;
        }
        flags.push(word.to_owned());
    }
    (flags, rest)
}

/// The words of a list in JSON; `None` when it is none, and so a text for the shell.
fn json_list(text: &str) -> Result<Option<Vec<String>>, String> {
    if !text.starts_with('[') {
        return Ok(None);
    }
    let Ok(items) = serde_json::from_str::<Vec<Value>>(text) else { return Ok(None) };
    let words: Option<Vec<String>> = items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
    words.map(Some).ok_or_else(|| "a list in JSON may hold strings only".to_owned())
}

/// Words that blanks part, unless they are quoted or escaped; quotes stay.
fn quoted_words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' if quote != Some('\'') => {
                word.push(c);
                word.extend(chars.next());
            }
            '"' | '\'' => {
                match quote {
                    Some(open) if open == c => quote = None,
                    None => quote = Some(c),
                    Some(_) => {}
                }
                word.push(c);
            }
            c if c.is_whitespace() && quote.is_none() => {
                words.extend((!word.is_empty()).then(|| std::mem::take(&mut word)))
            }
            c => word.push(c),
        }
    }
    words.extend((!word.is_empty()).then_some(word));
    words
}

/// `NAME=VALUE …` or the old form `NAME VALUE`, as name, value and what stood between.
fn pairs(text: &str) -> Result<Vec<String>, String> {
    let words = quoted_words(text);
    let Some(first) = words.first() else { return Ok(Vec::new()) };
    if !first.contains('=') {
        let Some((name, value)) = text.split_once(char::is_whitespace) else {
            return Err(format!("`{first}` has no value"));
        };
        return Ok(vec![name.to_owned(), value.trim().to_owned(), String::new()]);
    }
    let mut values = Vec::new();
    for word in &words {
        let (name, value) =
            word.split_once('=').ok_or_else(|| format!("`{word}` has no `=`; it must be NAME=VALUE"))?;
        values.extend([name.to_owned(), value.to_owned(), "=".to_owned()]);
    }
    Ok(values)
}
