//! Builtins of the engine that are right but for their edges: asked with operands that it answers rightly, and told as OPA tells.

use super::{Answer, Builtin, BuiltinError, text, wrong};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use regorus::{Engine, Value};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

pub(super) const FUNCTIONS: &[Builtin] = &[
    ("json.marshal", 1, marshal),
    ("json.marshal_with_options", 2, marshal_with_options),
    ("json.patch", 2, patch),
    ("semver.compare", 2, semver_compare),
    ("time.add_date", 4, add_date),
    ("time.format", 1, time_format),
    ("to_number", 1, to_number),
    ("units.parse", 1, |operands| units("units.parse", operands)),
    ("units.parse_bytes", 1, |operands| units("units.parse_bytes", operands)),
];

thread_local! {
    /// An engine for each builtin, which knows nothing but a rule that calls it.
    static ENGINES: RefCell<HashMap<&'static str, Engine>> = RefCell::default();
}

/// The engine's own answer; undefined is an error.
fn ask(name: &'static str, operands: &[Value]) -> Answer {
    ENGINES.with_borrow_mut(|engines| {
        let engine = match engines.entry(name) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                let mut engine = Engine::new();
                engine.set_strict_builtin_errors(true);
                let operands: Vec<String> = (0..operands.len()).map(|place| format!("input[{place}]")).collect();
                let rule = format!("package windlass\nanswer := {name}({})\n", operands.join(", "));
                engine
                    .add_policy("windlass.rego".into(), rule)
                    .map_err(|error| BuiltinError::failed(error.to_string()))?;
                entry.insert(engine)
            }
        };
        engine.set_input(operands.to_vec().into());
        let answer = engine.eval_rule("data.windlass.answer".into());
        engine.set_input(Value::Null);
        match answer {
            Ok(Value::Undefined) => Err(BuiltinError::failed("the operands do not fit")),
            Ok(value) => Ok(value),
            Err(error) => {
                let error = error.to_string();
                let line = error.lines().rev().find_map(|line| line.trim().strip_prefix("error: ")).unwrap_or(&error);
                Err(BuiltinError::failed(line))
            }
        }
    })
}

/// As Go does, so that the text can stand in a page. These characters stand in texts only.
fn escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

fn marshal(operands: &[Value]) -> Answer {
    let json = serde_json::to_string(&operands[0]).map_err(|error| BuiltinError::failed(error.to_string()))?;
    Ok(escaped(&json).into())
}

fn marshal_with_options(operands: &[Value]) -> Answer {
    let Value::Object(options) = &operands[1] else { return Err(wrong(operands, 1, "object")) };
    // What is put before each line is no JSON, and stays as it is. These characters stand in no JSON text.
    let mut given = Vec::new();
    let options: BTreeMap<Value, Value> = options
        .iter()
        .map(|(name, value)| {
            let place = match (name, value) {
                (Value::String(name), Value::String(_)) if &**name == "prefix" => "\u{1}",
                (Value::String(name), Value::String(_)) if &**name == "indent" => "\u{2}",
                _ => return (name.clone(), value.clone()),
            };
            given.push((place, value.as_string().map_or("", |text| text)));
            (name.clone(), place.into())
        })
        .collect();
    let Value::String(json) = ask("json.marshal_with_options", &[operands[0].clone(), options.into()])? else {
        return Err(BuiltinError::failed("the engine gave no text"));
    };
    let mut json = escaped(&json);
    for (place, text) in given {
        json = json.replace(place, text);
    }
    Ok(json.into())
}

/// The engine makes a patch that does not apply undefined in both modes.
fn patch(operands: &[Value]) -> Answer {
    if !matches!(operands[1], Value::Array(_)) {
        return Err(wrong(operands, 1, "array"));
    }
    let patched = ask("json.patch", operands).map_err(|_| BuiltinError::failed("the patch does not apply"))?;
    if crate::engine::is_deeper(&patched, DEEPEST) {
        return Err(BuiltinError::failed(format!("the value is nested deeper than {DEEPEST} levels")));
    }
    Ok(patched)
}

/// Levels of nesting. Nothing else nests a value as often as it likes, and what handles values uses the stack for each level.
const DEEPEST: usize = 20_000;

/// A leading `v` means nothing.
fn semver_compare(operands: &[Value]) -> Answer {
    let bare = |index| -> Result<Value, BuiltinError> {
        let version = text(operands, index)?;
        Ok(version.strip_prefix('v').unwrap_or(version).into())
    };
    ask("semver.compare", &[bare(0)?, bare(1)?])
}

fn to_number(operands: &[Value]) -> Answer {
    match &operands[0] {
        Value::String(number) if number.trim().len() != number.len() => {
            Err(BuiltinError::failed(format!("parsing {number:?}: invalid syntax")))
        }
        _ => ask("to_number", operands),
    }
}

fn units(name: &'static str, operands: &[Value]) -> Answer {
    let amount = text(operands, 0)?;
    if amount.contains('_') {
        return Err(BuiltinError::failed(format!("{amount:?} is no amount")));
    }
    // `1.K` is `1K`.
    let plain = match amount.split_once('.') {
        Some((whole, rest)) if !whole.is_empty() && !rest.starts_with(|c: char| c.is_ascii_digit()) => {
            format!("{whole}{rest}")
        }
        _ => amount.to_owned(),
    };
    ask(name, &[plain.into()])
}

/// Nanoseconds since 1970, alone or first of an array, and the zone's name that may follow them.
fn moment(operands: &[Value]) -> Result<(i64, TimeZone), BuiltinError> {
    let (nanoseconds, zone) = match &operands[0] {
        Value::Array(items) => (items.first(), items.get(1)),
        alone => (Some(alone), None),
    };
    let nanoseconds = match nanoseconds {
        Some(Value::Number(number)) => number.as_i64().ok_or_else(|| BuiltinError::failed("timestamp too big"))?,
        _ => return Err(wrong(operands, 0, "either number (ns) or [number (ns), string (tz)]")),
    };
    let zone = match zone {
        None => TimeZone::UTC,
        Some(Value::String(name)) if name.is_empty() || &**name == "UTC" => TimeZone::UTC,
        Some(Value::String(name)) if &**name == "Local" => TimeZone::system(),
        Some(Value::String(name)) => TimeZone::get(name).map_err(|error| BuiltinError::failed(error.to_string()))?,
        Some(_) => return Err(wrong(operands, 0, "either number (ns) or [number (ns), string (tz)]")),
    };
    Ok((nanoseconds, zone))
}

/// Years, months and days later; a day that the month lacks runs over into the next one.
fn add_date(operands: &[Value]) -> Answer {
    let (nanoseconds, zone) = moment(operands)?;
    let mut amounts = [0_i64; 3];
    for (index, amount) in amounts.iter_mut().enumerate() {
        let Value::Number(number) = &operands[index + 1] else { return Err(wrong(operands, index + 1, "number")) };
        *amount = number
            .as_i64()
            .filter(|number| number.abs() < 1_000_000)
            .ok_or_else(|| BuiltinError::failed("time arguments out of allowed range"))?;
    }
    let [years, months, days] = amounts;
    let out_of_range = |_| BuiltinError::failed("time outside of valid range");
    let timestamp = Timestamp::from_nanosecond(i128::from(nanoseconds)).map_err(out_of_range)?;
    let now = timestamp.to_zoned(zone.clone()).datetime();
    let month = i64::from(now.year()) * 12 + i64::from(now.month()) - 1 + years * 12 + months;
    let year = i16::try_from(month.div_euclid(12)).map_err(|_| BuiltinError::failed("time outside of valid range"))?;
    let first = jiff::civil::Date::new(year, month.rem_euclid(12) as i8 + 1, 1).map_err(out_of_range)?;
    let date =
        first.checked_add(SignedDuration::from_hours(24 * (i64::from(now.day()) - 1 + days))).map_err(out_of_range)?;
    let later = date.to_datetime(now.time()).to_zoned(zone).map_err(out_of_range)?.timestamp();
    let later =
        i64::try_from(later.as_nanosecond()).map_err(|_| BuiltinError::failed("time outside of valid range"))?;
    Ok(later.into())
}

/// A zone is shown by its abbreviation where the layout says `MST`.
fn time_format(operands: &[Value]) -> Answer {
    let Value::Array(items) = &operands[0] else { return ask("time.format", operands) };
    let Some(Value::String(layout)) = items.get(2) else { return ask("time.format", operands) };
    // Go's names of layouts that have the abbreviation in them.
    let layout = match &**layout {
        "UnixDate" => "Mon Jan _2 15:04:05 MST 2006",
        "RFC822" => "02 Jan 06 15:04 MST",
        "RFC850" => "Monday, 02-Jan-06 15:04:05 MST",
        "RFC1123" => "Mon, 02 Jan 2006 15:04:05 MST",
        other => other,
    };
    if !layout.contains("MST") {
        return ask("time.format", operands);
    }
    let (nanoseconds, zone) = moment(operands)?;
    let timestamp = Timestamp::from_nanosecond(i128::from(nanoseconds))
        .map_err(|_| BuiltinError::failed("time outside of valid range"))?;
    let abbreviation = zone.to_offset_info(timestamp).abbreviation().to_owned();
    const PLACE: &str = "\u{1}";
    let mut plain: Vec<Value> = items.to_vec();
    plain[2] = layout.replace("MST", PLACE).into();
    match ask("time.format", &[plain.into()])? {
        Value::String(formatted) => Ok(formatted.replace(PLACE, &abbreviation).into()),
        other => Ok(other),
    }
}
