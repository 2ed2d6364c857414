//! Two values, nested as they are: what was added, what is gone, what differs.

use super::text;
use crate::effect::{EXACT, UNKNOWN, same_number};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Texts in texts in texts are data so deep.
const TEXT_DEPTH: usize = 3;
/// Pairs of items that are compared to tell which has become which.
const COMPARED: usize = 10_000;
/// Items that have less in common are different things, not one that changed.
const ALIKE: f64 = 0.4;
/// Names whose values tell what an item is.
const NAMING: [&str; 7] = ["name", "id", "key", "Sid", "sid", "device_name", "metadata"];

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    Name(String),
    Index(usize),
    /// The text here is data.
    Text,
}

/// One difference. The last index of what is added counts in the new list; every other index counts in the old one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    pub path: Vec<Step>,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum What {
    Added(Value),
    Removed(Value),
    Changed(Value, Value),
    /// By line.
    Lines(String, String),
    /// The same data, written otherwise: the later text.
    Formatting(String),
}

/// Compares values.
pub(super) struct Comparer<'a> {
    /// Which lists are sets: names on the way, without indices, `*` for any; empty for the value itself.
    pub sets: &'a [String],
    /// In data, `null` is a value; in attributes it is the absence of one.
    pub exact: bool,
    pub out: Vec<Found>,
    path: Vec<Step>,
}

impl<'a> Comparer<'a> {
    pub fn new(sets: &'a [String], exact: bool) -> Self {
        Self { sets, exact, out: Vec::new(), path: Vec::new() }
    }

    pub fn compare(&mut self, before: &Value, after: &Value) {
        match (before, after) {
            (Value::Object(old), Value::Object(new)) => {
                let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
                for name in names {
                    let exact = self.exact;
                    let there = |value: &&Value| exact || !value.is_null();
                    self.path.push(Step::Name(name.clone()));
                    match (old.get(name).filter(there), new.get(name).filter(there)) {
                        (Some(a), Some(b)) => self.compare(a, b),
                        (Some(a), None) => self.add(What::Removed(a.clone())),
                        (None, Some(b)) => self.add(What::Added(b.clone())),
                        (None, None) => {}
                    }
                    self.path.pop();
                }
            }
            (Value::Array(old), Value::Array(new)) => {
                if self.is_set() {
                    self.set(old, new);
                } else {
                    self.list(old, new);
                }
            }
            (Value::String(old), Value::String(new)) => self.texts(old, new),
            (Value::Number(old), Value::Number(new)) if same_number(old, new) => {}
            (before, after) if before == after => {}
            (before, after) => self.add(What::Changed(before.clone(), after.clone())),
        }
    }

    fn add(&mut self, what: What) {
        self.out.push(Found { path: self.path.clone(), what });
    }

    fn at(&mut self, step: Step, what: impl FnOnce(&mut Self)) {
        self.path.push(step);
        what(self);
        self.path.pop();
    }

    fn texts(&mut self, before: &str, after: &str) {
        if before == after {
            return;
        }
        let depth = self.path.iter().filter(|step| **step == Step::Text).count();
        if let Some((old, new)) = (depth < TEXT_DEPTH).then(|| text::data(before, after)).flatten() {
            let known = self.out.len();
            let exact = std::mem::replace(&mut self.exact, true);
            let sets = std::mem::take(&mut self.sets);
            self.at(Step::Text, |this| this.compare(&old, &new));
            (self.exact, self.sets) = (exact, sets);
            if self.out.len() == known {
                self.add(What::Formatting(after.to_owned()));
            }
        } else if [before, after].iter().any(|text| text.trim_end().contains('\n')) {
            self.add(What::Lines(before.to_owned(), after.to_owned()));
        } else {
            self.add(What::Changed(before.into(), after.into()));
        }
    }

    fn is_set(&self) -> bool {
        let names = || {
            self.path.iter().filter_map(|step| match step {
                Step::Name(name) => Some(name.as_str()),
                _ => None,
            })
        };
        self.sets.iter().any(|pattern| {
            let steps = || pattern.split('.').filter(|step| !step.is_empty());
            steps().count() == names().count() && steps().zip(names()).all(|(step, name)| step == "*" || step == name)
        })
    }

    fn list(&mut self, old: &[Value], new: &[Value]) {
        let keys = |items: &[Value]| items.iter().map(|item| self.key(item)).collect::<Vec<_>>();
        let (old_keys, new_keys) = (keys(old), keys(new));
        for (gone, come) in text::gaps(&old_keys, &new_keys) {
            let pairs = aligned(&old[gone.clone()], &new[come.clone()]);
            let pairs: BTreeMap<usize, usize> =
                pairs.into_iter().map(|(a, b)| (a + gone.start, b + come.start)).collect();
            self.items(old, new, gone, come, &pairs);
        }
    }

    fn set(&mut self, old: &[Value], new: &[Value]) {
        let mut same: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, item) in new.iter().enumerate().rev() {
            same.entry(self.key(item)).or_default().push(index);
        }
        let mut gone = Vec::new();
        for (index, item) in old.iter().enumerate() {
            if same.get_mut(&self.key(item)).and_then(Vec::pop).is_none() {
                gone.push(index);
            }
        }
        let mut come: Vec<usize> = same.into_values().flatten().collect();
        come.sort_unstable();
        let pairs = matched(old, &gone, new, &come);
        self.items(old, new, gone.into_iter(), come.into_iter(), &pairs);
    }

    fn items(
        &mut self,
        old: &[Value],
        new: &[Value],
        gone: impl Iterator<Item = usize>,
        come: impl Iterator<Item = usize>,
        pairs: &BTreeMap<usize, usize>,
    ) {
        for index in gone {
            self.at(Step::Index(index), |this| match pairs.get(&index) {
                Some(now) => this.compare(&old[index], &new[*now]),
                None => this.add(What::Removed(old[index].clone())),
            });
        }
        let paired: BTreeSet<usize> = pairs.values().copied().collect();
        for index in come.filter(|index| !paired.contains(index)) {
            self.at(Step::Index(index), |this| this.add(What::Added(new[index].clone())));
        }
    }

    /// A text that is the same for values that are the same.
    fn key(&self, value: &Value) -> String {
        let mut out = String::new();
        write_key(value, self.exact, &mut out);
        out
    }
}

fn write_key(value: &Value, exact: bool, out: &mut String) {
    match value {
        Value::Object(object) => {
            let fields: BTreeMap<&String, &Value> =
                object.iter().filter(|(_, value)| exact || !value.is_null()).collect();
            out.push('{');
            for (name, value) in fields {
                out.push_str(&Value::from(name.as_str()).to_string());
                out.push(':');
                write_key(value, exact, out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for item in items {
                write_key(item, exact, out);
                out.push(',');
            }
            out.push(']');
        }
        Value::Number(number) => match number.as_f64().filter(|value| value.abs() < EXACT) {
            Some(value) => out.push_str(&format!("{value:?}")),
            None => out.push_str(&number.to_string()),
        },
        other => out.push_str(&other.to_string()),
    }
}

/// How much two values have in common: 0 to 1. What says nothing (`false`, `""`, `[]`, …) is not counted where both have it, and
/// what is unknown not at all.
fn likeness(a: &Value, b: &Value, depth: usize) -> f64 {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let (mut common, mut all) = (0.0, 0.0);
            let mut named = None;
            for name in a.keys().chain(b.keys().filter(|name| !a.contains_key(*name))) {
                let (left, right) = (a.get(name).unwrap_or(&Value::Null), b.get(name).unwrap_or(&Value::Null));
                let unknown = |value: &Value| value == UNKNOWN;
                if (left == right && says_nothing(left)) || unknown(left) || unknown(right) {
                    continue;
                }
                let alike =
                    if depth == 0 { f64::from(u8::from(left == right)) } else { likeness(left, right, depth - 1) };
                if NAMING.contains(&name.as_str()) {
                    named = Some(named.unwrap_or(true) && alike >= 0.5);
                }
                common += alike;
                all += 1.0;
            }
            let share = if all == 0.0 { 1.0 } else { common / all };
            match named {
                Some(true) => f64::max(share, 0.6),
                Some(false) => share * 0.5,
                None => share,
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            let most = a.len().max(b.len());
            if most == 0 {
                return 1.0;
            }
            // Long lists are compared at their beginnings: this only decides what is shown beside what.
            let common = a.iter().take(50).filter(|item| b.iter().take(50).any(|other| other == *item)).count();
            common as f64 / most.min(50) as f64
        }
        (Value::Number(a), Value::Number(b)) => f64::from(u8::from(same_number(a, b))),
        (a, b) => f64::from(u8::from(a == b)),
    }
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(object) => object.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Bool(true) => false,
    }
}

fn are_containers(a: &Value, b: &Value) -> bool {
    (a.is_object() && b.is_object()) || (a.is_array() && b.is_array())
}

/// Which item of a gap in a list has become which, in order: indices in both.
fn aligned(old: &[Value], new: &[Value]) -> Vec<(usize, usize)> {
    let even = old.len() == new.len();
    if old.len() * new.len() > COMPARED {
        return if even { (0..old.len()).map(|index| (index, index)).collect() } else { Vec::new() };
    }
    let single = old.len() == 1 && new.len() == 1;
    let score = |a: usize, b: usize| match are_containers(&old[a], &new[b]) {
        true => {
            let alike = likeness(&old[a], &new[b], 2);
            if alike >= ALIKE || single { alike + 0.01 } else { 0.0 }
        }
        false if even && a == b && !old[a].is_object() && !new[b].is_object() => 0.01,
        false => 0.0,
    };
    // best[a][b]: the most that can be had from the items from `a` and from `b` on.
    let mut best = vec![vec![0.0; new.len() + 1]; old.len() + 1];
    let mut scores = vec![vec![0.0; new.len()]; old.len()];
    for a in (0..old.len()).rev() {
        for b in (0..new.len()).rev() {
            scores[a][b] = score(a, b);
            let skip: f64 = f64::max(best[a + 1][b], best[a][b + 1]);
            best[a][b] = f64::max(skip, if scores[a][b] > 0.0 { scores[a][b] + best[a + 1][b + 1] } else { 0.0 });
        }
    }
    let (mut a, mut b, mut out) = (0, 0, Vec::new());
    while a < old.len() && b < new.len() {
        if scores[a][b] > 0.0 && best[a][b] == scores[a][b] + best[a + 1][b + 1] {
            out.push((a, b));
            (a, b) = (a + 1, b + 1);
        } else if best[a][b] == best[a + 1][b] {
            a += 1;
        } else {
            b += 1;
        }
    }
    out
}

/// Which item of a set has become which: the most alike first.
fn matched(old: &[Value], gone: &[usize], new: &[Value], come: &[usize]) -> BTreeMap<usize, usize> {
    let mut pairs: Vec<(f64, usize, usize)> = Vec::new();
    if gone.len() * come.len() <= COMPARED {
        for &a in gone {
            for &b in come.iter().filter(|b| are_containers(&old[a], &new[**b])) {
                pairs.push((likeness(&old[a], &new[b], 2), a, b));
            }
        }
    } else {
        // Too many to compare each with each: those of the same name.
        let name = |item: &Value| NAMING.iter().find_map(|name| Some(format!("{name}={}", item.get(name)?)));
        let by_name: HashMap<String, usize> = come.iter().filter_map(|&b| Some((name(&new[b])?, b))).collect();
        pairs.extend(gone.iter().filter_map(|&a| Some((1.0, a, *by_name.get(&name(&old[a])?)?))));
    }
    pairs.retain(|(alike, ..)| *alike >= ALIKE);
    pairs.sort_by(|x, y| y.0.total_cmp(&x.0).then((x.1, x.2).cmp(&(y.1, y.2))));
    let (mut out, mut taken) = (BTreeMap::new(), BTreeSet::new());
    for (_, a, b) in pairs {
        if !out.contains_key(&a) && taken.insert(b) {
            out.insert(a, b);
        }
    }
    out
}
