//! How an attribute compares with a value.

use std::cmp::Ordering;
use std::net::{IpAddr, Ipv6Addr};

use halyard::domain::context::Attribute;
use halyard::domain::rule::{Operand, Operator};
use jiff::Timestamp;

/// Whether an operator can be asked of an attribute at all, by its type and its text.
pub fn can_ask(operator: Operator, attribute: &Attribute, values: &[Operand]) -> bool {
    match operator {
        Operator::Equals | Operator::OneOf => values.iter().any(|value| same_type(value, attribute)),
        Operator::Contains | Operator::StartsWith | Operator::EndsWith | Operator::Matches => text(attribute).is_some(),
        Operator::NumberEqual
        | Operator::NumberNotEqual
        | Operator::NumberLess
        | Operator::NumberLessOrEqual
        | Operator::NumberGreater
        | Operator::NumberGreaterOrEqual => matches!(attribute, Attribute::Number(_)),
        Operator::VersionEqual
        | Operator::VersionNotEqual
        | Operator::VersionLess
        | Operator::VersionLessOrEqual
        | Operator::VersionGreater
        | Operator::VersionGreaterOrEqual
        | Operator::VersionTilde
        | Operator::VersionCaret => text(attribute).and_then(version).is_some(),
        Operator::Before | Operator::After => text(attribute).and_then(moment).is_some(),
        Operator::IpInRange => text(attribute).and_then(address).is_some(),
        Operator::Exists | Operator::InSegment => false,
    }
}

fn same_type(value: &Operand, attribute: &Attribute) -> bool {
    matches!(
        (value, attribute),
        (Operand::Bool(_), Attribute::Bool(_))
            | (Operand::Number(_), Attribute::Number(_))
            | (Operand::String(_), Attribute::String(_))
    )
}

fn text(attribute: &Attribute) -> Option<&str> {
    match attribute {
        Attribute::String(text) => Some(text),
        Attribute::Bool(_) | Attribute::Number(_) | Attribute::List(_) | Attribute::Object(_) => None,
    }
}

/// Whether an attribute that can be asked passes the test of one value.
pub fn compare(operator: Operator, attribute: &Attribute, value: &Operand) -> bool {
    match (attribute, value) {
        (Attribute::Bool(attribute), Operand::Bool(value)) => attribute == value,
        (Attribute::Number(attribute), Operand::Number(value)) => numbers(operator, *attribute, *value),
        (Attribute::String(attribute), Operand::String(value)) => texts(operator, attribute, value),
        _ => false,
    }
}

#[expect(clippy::float_cmp, reason = "people who ask for equality mean equality")]
#[expect(clippy::wildcard_enum_match_arm, reason = "the others compare for equality")]
fn numbers(operator: Operator, attribute: f64, value: f64) -> bool {
    match operator {
        Operator::NumberLess => attribute < value,
        Operator::NumberLessOrEqual => attribute <= value,
        Operator::NumberGreater => attribute > value,
        Operator::NumberGreaterOrEqual => attribute >= value,
        Operator::NumberNotEqual => attribute != value,
        _ => attribute == value,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the others compare for equality")]
fn texts(operator: Operator, attribute: &str, value: &str) -> bool {
    let versions = || version(attribute).unwrap().cmp(&version(value).unwrap());
    let moments = || moment(attribute).unwrap().cmp(&moment(value).unwrap());
    match operator {
        Operator::Contains => attribute.contains(value),
        Operator::StartsWith => attribute.starts_with(value),
        Operator::EndsWith => attribute.ends_with(value),
        Operator::Matches => regex::Regex::new(value).unwrap().is_match(attribute),
        Operator::VersionEqual => versions().is_eq(),
        Operator::VersionNotEqual => versions().is_ne(),
        Operator::VersionLess => versions().is_lt(),
        Operator::VersionLessOrEqual => versions().is_le(),
        Operator::VersionGreater => versions().is_gt(),
        Operator::VersionGreaterOrEqual => versions().is_ge(),
        Operator::VersionTilde => in_range(&version(attribute).unwrap(), &version(value).unwrap(), 2),
        Operator::VersionCaret => {
            let from = version(value).unwrap();
            let zeros = from.numbers.iter().take_while(|number| **number == 0).count();
            in_range(&version(attribute).unwrap(), &from, (zeros + 1).min(3))
        }
        Operator::Before => moments().is_lt(),
        Operator::After => moments().is_gt(),
        Operator::IpInRange => network(value).unwrap().contains(address(attribute).unwrap()),
        _ => attribute == value,
    }
}

/// A semantic version without its build metadata.
#[derive(Debug, PartialEq, Eq)]
pub struct Version {
    numbers: [u64; 3],
    pre: Vec<String>,
}

pub fn version(text: &str) -> Option<Version> {
    let (text, build) = text
        .split_once('+')
        .map_or((text, None), |(text, build)| (text, Some(build)));
    let is_identifier = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if build.is_some_and(|build| !build.split('.').all(is_identifier)) {
        return None;
    }
    let (core, pre) = text
        .split_once('-')
        .map_or((text, None), |(core, pre)| (core, Some(pre)));
    let numbers: Option<Vec<u64>> = core.split('.').map(number).collect();
    let pre: Vec<_> = pre
        .map(|pre| pre.split('.').map(str::to_owned).collect())
        .unwrap_or_default();
    let is_pre = |part: &String| {
        let all_digits = part.chars().all(|c| c.is_ascii_digit());
        is_identifier(part) && (!all_digits || number(part).is_some())
    };
    if !pre.iter().all(is_pre) {
        return None;
    }
    Some(Version {
        numbers: numbers?.try_into().ok()?,
        pre,
    })
}

fn number(text: &str) -> Option<u64> {
    let plain = text.chars().all(|c| c.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

impl Ord for Version {
    /// Precedence, as in section 11 of Semantic Versioning 2.0.0.
    fn cmp(&self, other: &Self) -> Ordering {
        let identifiers = |a: &String, b: &String| match (number(a), number(b)) {
            (Some(a), Some(b)) => a.cmp(&b),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => a.cmp(b),
        };
        self.numbers
            .cmp(&other.numbers)
            .then_with(|| match (self.pre.is_empty(), other.pre.is_empty()) {
                (true, true) => Ordering::Equal,
                (true, false) => Ordering::Greater,
                (false, true) => Ordering::Less,
                (false, false) => {
                    let mut pairs = self.pre.iter().zip(&other.pre);
                    let first = pairs.find_map(|(a, b)| Some(identifiers(a, b)).filter(|order| order.is_ne()));
                    first.unwrap_or_else(|| self.pre.len().cmp(&other.pre.len()))
                }
            })
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Whether a version is at least `from`, with as many of its numbers; pre-releases only those of the same three.
fn in_range(version: &Version, from: &Version, same: usize) -> bool {
    version >= from
        && version.numbers[..same] == from.numbers[..same]
        && (version.pre.is_empty() || (!from.pre.is_empty() && version.numbers == from.numbers))
}

/// For the years that jiff knows.
pub fn moment(text: &str) -> Option<Timestamp> {
    let text = text.to_ascii_uppercase();
    let bytes = text.as_bytes();
    let zone = text.len().checked_sub(if text.ends_with('Z') { 1 } else { 6 })?;
    let shape = |(n, c): (usize, &u8)| match n {
        4 | 7 => *c == b'-',
        10 => *c == b'T',
        13 | 16 => *c == b':',
        19 => *c == b'.',
        _ => c.is_ascii_digit(),
    };
    let offset = |zone: &[u8]| zone == b"Z" || (matches!(zone[0], b'+' | b'-') && zone[3] == b':');
    let well_formed = zone >= 19 && zone != 20 && bytes[..zone].iter().enumerate().all(shape) && offset(&bytes[zone..]);
    if well_formed { text.parse().ok() } else { None }
}

/// Both kinds of addresses as one number of 128 bits: an IPv4 address is the IPv6 address that stands for it.
pub fn address(text: &str) -> Option<Ipv6Addr> {
    Some(match text.parse().ok()? {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    })
}

#[derive(Debug)]
pub struct Network {
    start: Ipv6Addr,
    prefix: u32,
}

pub fn network(text: &str) -> Option<Network> {
    let (start, prefix) = text
        .split_once('/')
        .map_or((text, None), |(start, prefix)| (start, Some(prefix)));
    let is_v4 = start.parse::<IpAddr>().ok()?.is_ipv4();
    let prefix = match prefix {
        Some(prefix) => u32::try_from(number(prefix)?).ok()?,
        None if is_v4 => 32,
        None => 128,
    };
    let longest = if is_v4 { 32 } else { 128 };
    (prefix <= longest).then_some(Network {
        start: address(start)?,
        prefix: 128 - longest + prefix,
    })
}

impl Network {
    fn contains(&self, address: Ipv6Addr) -> bool {
        let is_v4 = |address: Ipv6Addr| address.to_ipv4_mapped().is_some();
        // What holds more than IPv4 addresses holds none of them.
        if is_v4(address) && (self.prefix < 96 || !is_v4(self.start)) {
            return false;
        }
        let differing = address.to_bits() ^ self.start.to_bits();
        differing.checked_shr(128 - self.prefix).unwrap_or(0) == 0
    }
}
