//! Texts: as data where they are JSON or YAML and nothing is lost by reading them so, by line where they have several.

use super::Line;
use crate::effect::without_marks;
use serde_json::{Map, Value};
use similar::{Algorithm, DiffOp, capture_diff_slices};
use std::collections::HashMap;
use std::hash::Hash;
use std::ops::Range;

/// Unchanged lines shown before and after a change.
const CONTEXT: usize = 2;
/// Lists that have more in common than this, together and between what is the same at both ends, are not aligned: it takes time
/// quadratic in the changes.
const ALIGNED: usize = 8_000;
/// Digits that a floating-point number keeps.
const EXACT_DIGITS: usize = 15;
/// Digits that a whole number of 64 bits keeps.
const EXACT_WHOLE_DIGITS: usize = 18;

/// Both texts as data (objects or lists), when both are the same notation of it and whatever differs between the texts beyond
/// their data is formatting.
pub(super) fn data(before: &str, after: &str) -> Option<(Value, Value)> {
    let both = |read: fn(&str) -> Option<Value>| Some((read(before)?, read(after)?));
    both(json).or_else(|| {
        if comments(before).ne(comments(after)) {
            return None;
        }
        let (old, new) = both(yaml)?;
        // Quotes and the like are no mere formatting to every reader of YAML.
        let written = |text: &str| text.split_whitespace().collect::<String>();
        (old != new || written(before) == written(after)).then_some((old, new))
    })
}

pub(super) fn json(text: &str) -> Option<Value> {
    let trimmed = text.trim();
    if !trimmed.starts_with(['{', '[']) || !trimmed.ends_with(['}', ']']) {
        return None;
    }
    let value: Value = serde_json::from_str(trimmed).ok()?;
    (keys_written(trimmed)? == keys(&value)).then_some(value)
}

/// How many keys objects have in the text; `None` when a number in it has more digits than can be compared.
fn keys_written(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut at, mut found) = (0, 0);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at += 1;
                while *bytes.get(at)? != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
            }
            // Outside of texts it stands behind keys only.
            b':' => found += 1,
            b'0'..=b'9' => {
                let number =
                    bytes[at..].iter().take_while(|b| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
                let (mut length, mut digits) = (0, 0);
                for byte in number {
                    length += 1;
                    digits += usize::from(byte.is_ascii_digit());
                }
                if digits > if digits == length { EXACT_WHOLE_DIGITS } else { EXACT_DIGITS } {
                    return None;
                }
                at += length - 1;
            }
            _ => {}
        }
        at += 1;
    }
    Some(found)
}

fn keys(value: &Value) -> usize {
    match value {
        Value::Object(object) => object.len() + object.values().map(keys).sum::<usize>(),
        Value::Array(items) => items.iter().map(keys).sum(),
        _ => 0,
    }
}

/// Several documents are a list of them.
fn yaml(text: &str) -> Option<Value> {
    // What looks like JSON was not read as such for a reason.
    if !text.contains('\n') || text.trim_start().starts_with(['{', '[']) || is_ambiguous(text) {
        return None;
    }
    let mut documents = Vec::new();
    for document in yaml_serde::Deserializer::from_str(text) {
        let document: yaml_serde::Value = serde::Deserialize::deserialize(document).ok()?;
        documents.push(plain(document, text)?);
    }
    let whole = if documents.len() == 1 { documents.pop()? } else { Value::Array(documents) };
    let container = |value: &Value| value.is_object() || value.is_array();
    match &whole {
        Value::Array(items) if items.is_empty() => None,
        value => container(value).then_some(whole),
    }
}

/// Without what JSON cannot say: tags, keys that are no texts, numbers that are written in another way than they would be here.
fn plain(value: yaml_serde::Value, text: &str) -> Option<Value> {
    Some(match value {
        yaml_serde::Value::Null => Value::Null,
        yaml_serde::Value::Bool(value) => value.into(),
        yaml_serde::Value::String(value) => value.into(),
        yaml_serde::Value::Number(number) => {
            let value = number.as_i64().map(Value::from).or_else(|| number.as_u64().map(Value::from))?;
            text.contains(&value.to_string()).then_some(value)?
        }
        yaml_serde::Value::Sequence(items) => {
            Value::Array(items.into_iter().map(|item| plain(item, text)).collect::<Option<_>>()?)
        }
        yaml_serde::Value::Mapping(mapping) => {
            let mut out = Map::new();
            for (key, value) in mapping {
                let yaml_serde::Value::String(key) = key else { return None };
                out.insert(key, plain(value, text)?);
            }
            Value::Object(out)
        }
        yaml_serde::Value::Tagged(_) => return None,
    })
}

/// Has words that are one thing to readers of YAML 1.1 and another to those of 1.2.
fn is_ambiguous(text: &str) -> bool {
    text.split(|c: char| c.is_whitespace() || ",[]{}".contains(c)).any(|word| {
        matches!(word.to_ascii_lowercase().as_str(), "yes" | "no" | "on" | "off")
            || (word.len() > 1 && word.starts_with('0') && word.bytes().all(|b| b.is_ascii_digit() || b == b'_'))
            || (word.contains(':') && word.bytes().all(|b| b.is_ascii_digit() || b == b':'))
    })
}

/// Data does not have them, and they can matter: `#cloud-config`.
fn comments(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let line = line.trim();
        if line.starts_with('#') { Some(line) } else { line.find(" #").map(|at| &line[at..]) }
    })
}

/// What is the same, in order, in two lists: ranges of each that differ, between items that do not.
pub(super) fn gaps<T: Hash + Eq>(before: &[T], after: &[T]) -> Vec<(Range<usize>, Range<usize>)> {
    let head = before.iter().zip(after).take_while(|(a, b)| a == b).count();
    let most = before.len().min(after.len()) - head;
    let tail = before.iter().rev().zip(after.iter().rev()).take(most).take_while(|(a, b)| a == b).count();
    let (old, new) = (head..before.len() - tail, head..after.len() - tail);
    let mut numbers: HashMap<&T, (usize, bool)> = HashMap::new();
    for item in &before[old.clone()] {
        let next = numbers.len();
        numbers.entry(item).or_insert((next, false));
    }
    let mut shared = |item| numbers.get_mut(item).map(|known| (known.1 = true, known.0).1);
    // Only what both have can be aligned.
    let new_shared: Vec<(usize, usize)> =
        new.clone().filter_map(|index| Some((index, shared(&after[index])?))).collect();
    let of_old = |index: usize| numbers.get(&before[index]).filter(|known| known.1).map(|known| (index, known.0));
    let old_shared: Vec<(usize, usize)> = old.clone().filter_map(of_old).collect();
    let mut same: Vec<(usize, usize)> = Vec::new();
    if old_shared.len() + new_shared.len() <= ALIGNED {
        let numbers = |list: &[(usize, usize)]| list.iter().map(|(_, number)| *number).collect::<Vec<_>>();
        for op in capture_diff_slices(Algorithm::Myers, &numbers(&old_shared), &numbers(&new_shared)) {
            if let DiffOp::Equal { old_index, new_index, len } = op {
                let (a, b) = (&old_shared[old_index..old_index + len], &new_shared[new_index..new_index + len]);
                same.extend(a.iter().zip(b).map(|((a, _), (b, _))| (*a, *b)));
            }
        }
    }
    let (mut out, mut at) = (Vec::new(), (head, head));
    for (a, b) in same.into_iter().chain([(old.end, new.end)]) {
        if a > at.0 || b > at.1 {
            out.push((at.0..a, at.1..b));
        }
        at = (a + 1, b + 1);
    }
    out
}

/// Two texts line by line, unchanged lines but a few left out.
pub(super) fn lines(before: &str, after: &str) -> Vec<Line> {
    let old: Vec<&str> = before.split_inclusive('\n').collect();
    let new: Vec<&str> = after.split_inclusive('\n').collect();
    let mut all = Vec::new();
    let mut at = 0;
    let last = |lines: &[&str], index: usize| index + 1 == lines.len();
    for (gone, come) in gaps(&old, &new) {
        all.extend(old[at..gone.start].iter().map(|line| Line::Same(shown(line, false))));
        all.extend(gone.clone().map(|index| Line::Removed(shown(old[index], last(&old, index)))));
        all.extend(come.clone().map(|index| Line::Added(shown(new[index], last(&new, index)))));
        at = gone.end;
    }
    all.extend(old[at..].iter().map(|line| Line::Same(shown(line, false))));
    folded(all)
}

/// A line without its end, which is told where it is not the usual one.
fn shown(line: &str, last: bool) -> String {
    let (text, end) = match line.strip_suffix('\n') {
        Some(text) => (text, ""),
        None if last => (line, " (no newline at the end)"),
        None => (line, ""),
    };
    let (text, carriage) = text.strip_suffix('\r').map_or((text, ""), |text| (text, "␍"));
    format!("{}{carriage}{end}", without_marks(text))
}

fn folded(lines: Vec<Line>) -> Vec<Line> {
    let changed = |line: &Line| !matches!(line, Line::Same(_));
    // How far the next change is, behind and ahead.
    let mut near = vec![usize::MAX; lines.len()];
    for order in [(0..lines.len()).collect::<Vec<_>>(), (0..lines.len()).rev().collect()] {
        let mut distance = usize::MAX;
        for index in order {
            distance = if changed(&lines[index]) { 0 } else { distance.saturating_add(1) };
            near[index] = near[index].min(distance);
        }
    }
    let mut out: Vec<Line> = Vec::new();
    let mut hidden: Vec<Line> = Vec::new();
    let mut show = |hidden: &mut Vec<Line>, next: Option<Line>| {
        match hidden.len() {
            0 => {}
            // A fold takes a line itself.
            1 => out.append(hidden),
            count => out.push(Line::Folded(count)),
        }
        hidden.clear();
        out.extend(next);
    };
    for (line, near) in lines.into_iter().zip(near) {
        if near > CONTEXT {
            hidden.push(line);
        } else {
            show(&mut hidden, Some(line));
        }
    }
    show(&mut hidden, None);
    out
}
