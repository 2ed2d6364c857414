//! Address ranges. Texts are read as Go's `net.ParseCIDR` reads them: no leading zeros, a prefix length is needed unless said
//! otherwise.

use super::{Answer, Builtin, BuiltinError, elements, text, type_name};
use regorus::Value;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(super) const FUNCTIONS: &[Builtin] = &[
    ("net.cidr_contains", 2, cidr_contains),
    ("net.cidr_contains_matches", 2, cidr_contains_matches),
    ("net.cidr_expand", 1, cidr_expand),
    ("net.cidr_intersects", 2, cidr_intersects),
    ("net.cidr_merge", 1, cidr_merge),
    ("net.cidr_overlap", 2, cidr_contains),
    ("net.lookup_ip_addr", 1, lookup),
];

/// Addresses of one family from first to last, as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Range {
    /// 32 or 128.
    bits: u32,
    first: u128,
    last: u128,
}

impl Range {
    fn of(address: IpAddr, prefix: u32) -> Self {
        let (bits, number) = match address {
            IpAddr::V4(address) => (32, u128::from(u32::from(address))),
            IpAddr::V6(address) => (128, u128::from(address)),
        };
        let host = low_ones(bits - prefix);
        Self { bits, first: number & !host, last: number | host }
    }

    fn covers(&self, other: &Self) -> bool {
        self.bits == other.bits && self.first <= other.first && other.last <= self.last
    }

    fn address(&self, number: u128) -> IpAddr {
        if self.bits == 32 { Ipv4Addr::from(number as u32).into() } else { Ipv6Addr::from(number).into() }
    }
}

/// A number whose lowest bits are set.
fn low_ones(count: u32) -> u128 {
    1_u128.checked_shl(count).map_or(u128::MAX, |power| power - 1)
}

fn parse_cidr(text: &str) -> Result<Range, BuiltinError> {
    let invalid = || BuiltinError::failed(format!("invalid CIDR address: {text}"));
    let (address, prefix) = text.split_once('/').ok_or_else(invalid)?;
    let address = parse_address(address).ok_or_else(invalid)?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let digits = !prefix.is_empty() && prefix.len() <= 3 && prefix.bytes().all(|byte| byte.is_ascii_digit());
    let prefix = prefix.parse::<u32>().ok().filter(|prefix| digits && *prefix <= bits).ok_or_else(invalid)?;
    let short = unmapped(address);
    if short != address && prefix >= 96 {
        return Ok(Range::of(short, prefix - 96));
    }
    Ok(Range::of(address, prefix))
}

fn parse_address(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

/// `::ffff:10.0.0.1` is an IPv4 address to OPA.
fn unmapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(long) => long.to_ipv4_mapped().map_or(address, IpAddr::V4),
        short => short,
    }
}

/// An address, or a range by its prefix length.
fn parse_address_or_cidr(text: &str) -> Result<Range, BuiltinError> {
    match parse_address(text) {
        Some(address) => {
            let address = unmapped(address);
            Ok(Range::of(address, if address.is_ipv4() { 32 } else { 128 }))
        }
        None => parse_cidr(text),
    }
}

fn cidr_contains(operands: &[Value]) -> Answer {
    let whole = parse_cidr(text(operands, 0)?)?;
    Ok(whole.covers(&parse_address_or_cidr(text(operands, 1)?)?).into())
}

fn cidr_intersects(operands: &[Value]) -> Answer {
    let (a, b) = (parse_cidr(text(operands, 0)?)?, parse_cidr(text(operands, 1)?)?);
    Ok((a.bits == b.bits && a.first <= b.last && b.first <= a.last).into())
}

/// A set of texts expands to memory without a step of the policy in between, where limits are looked at.
const LARGEST_EXPANSION: u128 = 1 << 20;

fn cidr_expand(operands: &[Value]) -> Answer {
    let range = parse_cidr(text(operands, 0)?)?;
    if range.last - range.first >= LARGEST_EXPANSION {
        return Err(BuiltinError::Refused("the range has more than a million addresses"));
    }
    let addresses: BTreeSet<Value> =
        (range.first..=range.last).map(|number| Value::from(range.address(number).to_string())).collect();
    Ok(addresses.into())
}

/// `[key, member]` for every range of the first operand that covers one of the second; keys of arrays are places, of objects
/// keys, of sets the elements themselves.
fn cidr_contains_matches(operands: &[Value]) -> Answer {
    let (wholes, parts) = (keyed(operands, 0)?, keyed(operands, 1)?);
    let mut found = BTreeSet::new();
    for (whole_key, whole) in &wholes {
        let whole = parse_cidr(whole)?;
        for (part_key, part) in &parts {
            if whole.covers(&parse_address_or_cidr(part)?) {
                found.insert(Value::from(vec![whole_key.clone(), part_key.clone()]));
            }
        }
    }
    Ok(found.into())
}

fn keyed(operands: &[Value], index: usize) -> Result<Vec<(Value, &str)>, BuiltinError> {
    let element = |value| {
        member(value).ok_or_else(|| {
            BuiltinError::failed(format!("operand {}: element must be string or non-empty array", index + 1))
        })
    };
    match &operands[index] {
        Value::String(text) => Ok(vec![(operands[index].clone(), text)]),
        Value::Array(items) => {
            items.iter().enumerate().map(|(place, item)| Ok((Value::from(place), element(item)?))).collect()
        }
        Value::Set(items) => items.iter_sorted().map(|item| Ok((item.clone(), element(item)?))).collect(),
        Value::Object(fields) => fields.iter_sorted().map(|(key, item)| Ok((key.clone(), element(item)?))).collect(),
        other => Err(BuiltinError::Operand {
            place: index + 1,
            wanted: "one of {string, array, set, object}",
            found: type_name(other),
        }),
    }
}

/// The text itself, or the first element of a tuple.
fn member(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => Some(text),
        Value::Array(items) => match items.first() {
            Some(Value::String(text)) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

/// The fewest ranges that cover the same addresses. A bare IPv4 address means the whole range of its old class, and is shown as
/// it was written when nothing joins it.
fn cidr_merge(operands: &[Value]) -> Answer {
    let mut ranges = Vec::new();
    for item in elements(operands, 0)? {
        let Value::String(text) = item else {
            return Err(BuiltinError::failed("operand 1: must be string array or set"));
        };
        let address = parse_address(text);
        if address.or_else(|| parse_address(text.split('/').next()?)).is_some_and(|a| unmapped(a) != a) {
            return Err(BuiltinError::Refused("IPv4 addresses in IPv6 notation are not merged here"));
        }
        ranges.push(match address {
            Some(IpAddr::V4(address)) => {
                let prefix = class_prefix(address);
                (Range::of(address.into(), prefix), Some(format!("{address}/{prefix}")))
            }
            Some(IpAddr::V6(_)) => return Err(BuiltinError::failed("IPv6 invalid: needs prefix length")),
            None => (parse_cidr(text)?, None),
        });
    }
    ranges.sort_unstable();
    let mut merged: Vec<(Range, Option<String>)> = Vec::new();
    // Go keeps IPv4 addresses as IPv6 ones: a range that holds all of those takes the IPv4 ranges in.
    if ranges.iter().any(|(range, _)| range.bits == 128 && range.first <= MAPPED.0 && MAPPED.1 <= range.last) {
        ranges.retain(|(range, _)| range.bits == 128);
    }
    for (range, written) in ranges {
        match merged.last_mut() {
            Some((last, as_written))
                if last.bits == range.bits && last.last.checked_add(1).is_none_or(|next| range.first <= next) =>
            {
                last.last = last.last.max(range.last);
                *as_written = None;
            }
            _ => merged.push((range, written)),
        }
    }
    let shown: BTreeSet<Value> = merged
        .into_iter()
        .flat_map(|(range, written)| written.map_or_else(|| blocks(&range), |written| vec![written]))
        .map(Value::from)
        .collect();
    Ok(shown.into())
}

/// The IPv6 addresses that stand for IPv4 ones, `::ffff:0:0/96`.
const MAPPED: (u128, u128) = (0xffff_0000_0000, 0xffff_ffff_ffff);

/// The prefix length of the class that an address had before there were prefix lengths.
fn class_prefix(address: Ipv4Addr) -> u32 {
    match address.octets()[0] {
        0..128 => 8,
        128..192 => 16,
        192.. => 24,
    }
}

/// The ranges with a prefix length that make up a range.
fn blocks(range: &Range) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut at = range.first;
    loop {
        // The largest block that starts here and ends in the range.
        let mut host = at.trailing_zeros().min(range.bits);
        while host > 0 && (at | low_ones(host)) > range.last {
            host -= 1;
        }
        blocks.push(format!("{}/{}", range.address(at), range.bits - host));
        match (at | low_ones(host)).checked_add(1) {
            Some(next) if next <= range.last => at = next,
            _ => return blocks,
        }
    }
}

/// An address is itself; a name would need the network, on which no decision may depend.
fn lookup(operands: &[Value]) -> Answer {
    let name = text(operands, 0)?;
    match parse_address(name) {
        Some(address) => Ok(BTreeSet::from([Value::from(address.to_string())]).into()),
        None => Err(BuiltinError::Refused("names are not looked up: a decision must not depend on the network")),
    }
}
