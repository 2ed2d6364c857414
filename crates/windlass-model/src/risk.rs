//! How much can go wrong when an effect is applied: a rank with the reasons a reviewer should read. Pure; [`types`] says which
//! resource types hold data, decide who may do what, or decide what can be reached.

pub mod types;

use crate::effect::{Action, Effect, ResourceChange, Shown};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use types::{Class, Holds, class_of};

/// What is known about an instance besides the effect.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// The stack is declared `protect`.
    pub protected: bool,
    /// Instances that read from it, directly or through others.
    pub dependants: usize,
    /// Resources that earlier applies of this instance touched ([`touched`]), oldest first.
    pub history: Vec<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Low,
    Medium,
    High,
    Critical,
}

/// The rank of one effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Risk {
    pub level: Level,
    /// 0 to 100: the points of all reasons. Medium from 20, high from 50, critical from 80.
    pub score: u32,
    /// The weightiest first.
    pub reasons: Vec<Reason>,
}

/// One thing a reviewer should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    pub code: ReasonCode,
    /// One sentence, e.g. `destroys aws_db_instance.main: data in it is lost unless restored`.
    pub text: String,
    /// Of the resources it is about, sorted; empty when it is about the instance.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// What it adds to the score.
    pub points: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasonCode {
    /// Something that holds data is destroyed.
    DataDestroyed,
    /// Something that holds data is destroyed and made anew.
    DataReplaced,
    /// Every address is let in.
    OpenToAll,
    /// Who may do what changes.
    Access,
    /// What can be reached changes.
    Network,
    /// Other resources are destroyed or replaced.
    Destroyed,
    ManyResources,
    UnexpectedlyLarge,
    Protected,
    Dependants,
    ChecksFail,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// The level of a score.
    pub fn of(score: u32) -> Self {
        match score {
            0..20 => Self::Low,
            20..50 => Self::Medium,
            50..80 => Self::High,
            _ => Self::Critical,
        }
    }
}

/// An effect much larger than what is usual for its instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnexpectedlyLarge {
    pub touched: usize,
    /// The 95th percentile of the applies that were looked at.
    pub usual: usize,
    /// How many applies were looked at.
    pub applies: usize,
}

impl std::fmt::Display for UnexpectedlyLarge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { touched, usual, applies } = self;
        write!(f, "touches {touched} resources; its last {applies} applies touched at most {usual} (95th percentile)")
    }
}

/// How many applies are looked back at.
const HISTORY: usize = 20;
/// With fewer applies nothing can be said about what is usual.
const HISTORY_MIN: usize = 3;
/// Fewer resources are never unexpectedly many.
const LARGE_MIN: usize = 10;
/// How many times the usual size an effect must exceed.
const LARGE_FACTOR: usize = 3;

/// Resources that an apply would create, update, replace or destroy. What only the state learns (moves, imports, forgotten
/// resources) does not count.
pub fn touched(effect: &Effect) -> usize {
    effect.changes.iter().filter(|change| touches(change.action)).count()
}

fn touches(action: Action) -> bool {
    !matches!(action, Action::Move | Action::Import | Action::Forget)
}

/// Whether touching so many resources is out of proportion to the earlier applies (`history`, oldest first): at least 10, and
/// more than three times the 95th percentile (nearest rank) of the last 20. With fewer than three applies it is `None`: nothing
/// is known. Such an effect asks for one approval more than its environment does.
pub fn unexpectedly_large(touched: usize, history: &[usize]) -> Option<UnexpectedlyLarge> {
    let mut last: Vec<usize> = history.iter().rev().take(HISTORY).copied().collect();
    if last.len() < HISTORY_MIN {
        return None;
    }
    last.sort_unstable();
    let usual = last[(last.len() * 95).div_ceil(100) - 1];
    (touched >= LARGE_MIN && touched > usual.saturating_mul(LARGE_FACTOR)).then_some(UnexpectedlyLarge {
        touched,
        usual,
        applies: last.len(),
    })
}

/// The rank of an effect. An effect that does nothing is low without a reason, unless its checks fail.
pub fn rank(effect: &Effect, context: &Context) -> Risk {
    let mut reasons = of_changes(effect);
    let touched = touched(effect);
    if let Some(large) = unexpectedly_large(touched, &context.history) {
        reasons.push(Reason {
            code: ReasonCode::UnexpectedlyLarge,
            text: large.to_string(),
            addresses: Vec::new(),
            points: 30,
        });
    } else if touched >= 10 {
        reasons.push(Reason {
            code: ReasonCode::ManyResources,
            text: format!("touches {touched} resources"),
            addresses: Vec::new(),
            points: match touched {
                10..50 => 5,
                50..100 => 15,
                _ => 25,
            },
        });
    }
    if context.protected && !effect.is_empty() {
        reasons.push(Reason {
            code: ReasonCode::Protected,
            text: "the stack is protected".into(),
            addresses: Vec::new(),
            points: 20,
        });
    }
    if context.dependants > 0 && (touched > 0 || !effect.outputs.is_empty()) {
        reasons.push(Reason {
            code: ReasonCode::Dependants,
            text: match context.dependants {
                1 => "1 other instance reads from it".into(),
                n => format!("{n} other instances read from it, directly or through others"),
            },
            addresses: Vec::new(),
            points: match context.dependants {
                1..5 => 5,
                5..20 => 15,
                _ => 25,
            },
        });
    }
    let failing: Vec<String> = effect
        .checks
        .iter()
        .filter(|(_, check)| matches!(check.status.as_str(), "fail" | "error"))
        .map(|(address, _)| address.clone())
        .collect();
    if !failing.is_empty() {
        let verb = if failing.len() == 1 { "fails" } else { "fail" };
        reasons.push(Reason {
            code: ReasonCode::ChecksFail,
            text: format!("{} {verb}", named(&failing, "checks")),
            addresses: failing,
            points: 30,
        });
    }
    reasons.sort_by(|a, b| (b.points, a.code, &a.addresses).cmp(&(a.points, b.code, &b.addresses)));
    let score = reasons.iter().map(|reason| reason.points).sum::<u32>().min(100);
    Risk { level: Level::of(score), score, reasons }
}

/// The reasons that lie in single resources, like ones together.
fn of_changes(effect: &Effect) -> Vec<Reason> {
    let mut data: BTreeMap<(Holds, Action), Vec<String>> = BTreeMap::new();
    let (mut access, mut network, mut open, mut destroyed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for change in effect.changes.iter().filter(|change| touches(change.action)) {
        let address = change.address.clone();
        let gone = matches!(change.action, Action::Destroy | Action::Replace | Action::ReplaceCreateFirst);
        match class_of(&change.resource_type) {
            Some(Class::Data(holds)) if gone => data.entry((holds, change.action)).or_default().push(address),
            Some(Class::Access) => access.push(address),
            Some(Class::Network) => {
                if lets_all_in(change) {
                    open.push(address.clone());
                }
                network.push(address);
            }
            _ if gone => destroyed.push(address),
            _ => {}
        }
    }
    let mut reasons: Vec<Reason> = data
        .into_iter()
        .map(|((holds, action), addresses)| Reason {
            code: if action == Action::Destroy { ReasonCode::DataDestroyed } else { ReasonCode::DataReplaced },
            text: data_text(holds, action, &addresses),
            points: holds.points() + 5 * u32::try_from(addresses.len() - 1).unwrap_or(u32::MAX).min(4),
            addresses,
        })
        .collect();
    let mut add = |code, addresses: Vec<String>, points, text: &dyn Fn(&str) -> String| {
        if !addresses.is_empty() {
            let text = text(&named(&addresses, "resources"));
            reasons.push(Reason { code, text, addresses, points });
        }
    };
    add(ReasonCode::OpenToAll, open, 40, &|what| format!("opens to every address: {what}"));
    add(ReasonCode::Access, access, 20, &|what| format!("changes who may do what: {what}"));
    add(ReasonCode::Network, network, 20, &|what| format!("changes what can be reached over the network: {what}"));
    let points = if destroyed.len() >= 10 { 20 } else { 5 };
    add(ReasonCode::Destroyed, destroyed, points, &|what| format!("destroys or replaces {what}"));
    reasons
}

/// Addresses of everybody appear among the new values, where these are not known to be about outgoing traffic.
fn lets_all_in(change: &ResourceChange) -> bool {
    fn everybody(value: &serde_json::Value, path: &str) -> bool {
        match value {
            serde_json::Value::String(text) => match text.as_str() {
                "0.0.0.0/0" | "::/0" => true,
                // Azure's words for it.
                "*" | "Internet" => path.contains("source_address_prefix"),
                _ => false,
            },
            serde_json::Value::Array(items) => items.iter().any(|item| everybody(item, path)),
            serde_json::Value::Object(object) => {
                object.iter().any(|(name, item)| !is_outward(name) && everybody(item, &format!("{path}.{name}")))
            }
            _ => false,
        }
    }
    let shows = |shown: &Shown, path: &str| matches!(shown, Shown::Value(value) if everybody(value, path));
    let says_outward = ["type", "direction"].iter().any(|name| match change.attributes.get(*name).map(|c| &c.after) {
        Some(Shown::Value(serde_json::Value::String(text))) => {
            matches!(text.to_ascii_lowercase().as_str(), "egress" | "outbound")
        }
        _ => false,
    });
    change.action != Action::Destroy
        && !says_outward
        && !change.resource_type.contains("egress")
        && !change.resource_type.contains("route")
        && change
            .attributes
            .iter()
            .any(|(path, c)| !is_outward(path) && shows(&c.after, path) && !shows(&c.before, path))
}

fn is_outward(path: &str) -> bool {
    ["egress", "outbound", "destination"].iter().any(|word| path.starts_with(word))
}

fn data_text(holds: Holds, action: Action, addresses: &[String]) -> String {
    let words = holds.words();
    let one = addresses.len() == 1;
    let what = named(addresses, words.many);
    let loss = if one { words.loss_one } else { words.loss_many };
    let (noun, is) = if one { (words.one, "is") } else { (words.many, "are") };
    match action {
        Action::Replace => format!("replaces {what}: the {noun} {is} destroyed first, {loss}"),
        Action::ReplaceCreateFirst => {
            let (new, old) = if one { ("a new one is", "the old one") } else { ("new ones are", "the old ones") };
            format!("replaces {what}: {new} made, then {old} destroyed, {loss}")
        }
        _ => format!("destroys {what}: {loss}"),
    }
}

/// `a`, `2 tables (a, b)`, `9 tables (a, b, c and 6 more)`.
fn named(addresses: &[String], many: &str) -> String {
    match addresses {
        [single] => single.clone(),
        _ if addresses.len() <= 3 => format!("{} {many} ({})", addresses.len(), addresses.join(", ")),
        _ => format!("{} {many} ({} and {} more)", addresses.len(), addresses[..3].join(", "), addresses.len() - 3),
    }
}

#[cfg(test)]
mod tests;
