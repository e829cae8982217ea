//! Values of conditions that are more than text: patterns, versions, ranges, moments and networks.
//!
//! The one place where they are parsed: by `check` when rules are written, by `evaluate` when they are compiled and, as far as
//! attributes are of the same kind, when they are compared. What is refused here was never accepted there.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};
use regex::{Regex, RegexBuilder};
use semver::{Comparator, Op, Version};

use super::limits;

pub use super::moment::Moment;

/// Why a text is not what the operator compares with: a sentence about the text, with what to do.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Unfit {
    /// The pattern is too long to be looked at.
    #[error(
        "is a regular expression of more than {} bytes; shorten it, or share it out over several values",
        limits::PATTERN_BYTES
    )]
    PatternLong,
    /// The pattern has a mistake.
    #[error("is not a regular expression: {}", reason(.0))]
    Pattern(#[source] regex::Error),
    /// The pattern compiles to too much.
    #[error(
        "is a regular expression that takes more than {} bytes when it is compiled; repeat less, or match fewer kinds of characters",
        limits::PATTERN_COMPILED_BYTES
    )]
    PatternLarge,
    /// Not a version.
    #[error("is not a semantic version 2.0.0; write one with all three numbers and no v, such as 1.4.0 or 2.0.0-rc.1")]
    Version,
    /// Not a moment.
    #[error("is not a date and time of RFC 3339; write one with its offset, such as 2026-01-31T09:30:00Z")]
    Moment,
    /// Neither a network nor an address.
    #[error("is neither a network nor an address; write one such as 10.0.0.0/8, 2001:db8::/32 or 192.0.2.1")]
    Network,
}

/// What is wrong with a pattern, on one line: the library draws the pattern and a caret above it.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default().trim();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

/// The two kinds of ranges of versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// `~1.2.3`: at least that, with its major and minor number.
    Tilde,
    /// `^1.2.3`: at least that, with the same numbers up to its first that is not zero.
    Caret,
}

/// Parses a regular expression of the RE2 kind, bounded in size. It is searched for, not anchored.
pub fn pattern(text: &str) -> Result<Regex, Unfit> {
    if text.len() > limits::PATTERN_BYTES {
        return Err(Unfit::PatternLong);
    }
    let built = RegexBuilder::new(text)
        .size_limit(limits::PATTERN_COMPILED_BYTES)
        .dfa_size_limit(limits::PATTERN_COMPILED_BYTES)
        .build();
    built.map_err(|error| {
        if matches!(error, regex::Error::CompiledTooBig(_)) {
            Unfit::PatternLarge
        } else {
            Unfit::Pattern(error)
        }
    })
}

/// Parses a semantic version 2.0.0, strictly as it is written there. Compare with `cmp_precedence`: build metadata does not count.
pub fn version(text: &str) -> Result<Version, Unfit> {
    Version::parse(text).map_err(|_| Unfit::Version)
}

/// Parses the version that begins a range. What is in it is what the comparator `matches`: a pre-release only if the range begins
/// with a pre-release of the same three numbers.
pub fn range(kind: Range, text: &str) -> Result<Comparator, Unfit> {
    let Version {
        major,
        minor,
        patch,
        pre,
        build: _,
    } = version(text)?;
    let op = match kind {
        Range::Tilde => Op::Tilde,
        Range::Caret => Op::Caret,
    };
    Ok(Comparator {
        op,
        major,
        minor: Some(minor),
        patch: Some(patch),
        pre,
    })
}

/// Parses a date and time of RFC 3339; see [`Moment`].
pub fn instant(text: &str) -> Result<Moment, Unfit> {
    Moment::parse(text).ok_or(Unfit::Moment)
}

/// Parses an address. An IPv4 address written as IPv6 (`::ffff:10.0.0.1`) is the IPv4 address.
pub fn address(text: &str) -> Result<IpAddr, Unfit> {
    // Longer than any spelling of an address: not worth a look.
    const LONGEST: usize = 45;
    if text.len() > LONGEST {
        return Err(Unfit::Network);
    }
    let address: IpAddr = text.parse().map_err(|_| Unfit::Network)?;
    Ok(address.to_canonical())
}

/// Parses a network in CIDR notation, or an address: the network of it alone. Bits beyond the prefix do not count:
/// `10.1.2.3/8` is `10.0.0.0/8`. A network of IPv4 addresses written as IPv6 (`::ffff:10.0.0.0/104`) is the IPv4 network.
pub fn network(text: &str) -> Result<IpNet, Unfit> {
    written(text).map(|network| network.trunc())
}

/// The network that a text is read as, if that leaves bits out that were written.
pub fn rounded(text: &str) -> Option<IpNet> {
    let written = written(text).ok()?;
    let network = written.trunc();
    (network != written).then_some(network)
}

/// With the bits beyond the prefix.
fn written(text: &str) -> Result<IpNet, Unfit> {
    let Some((start, prefix)) = text.split_once('/') else {
        return address(text).map(IpNet::from);
    };
    let prefix = prefix_length(prefix).ok_or(Unfit::Network)?;
    let start: IpAddr = start.parse().map_err(|_| Unfit::Network)?;
    let network = IpNet::new(start, prefix).map_err(|_| Unfit::Network)?;
    Ok(canonical(network))
}

/// Digits without a sign or leading zeros, as CIDR notation has them.
fn prefix_length(text: &str) -> Option<u8> {
    let plain = text.bytes().all(|c| c.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten()
}

fn canonical(network: IpNet) -> IpNet {
    /// How many bits of an IPv6 address say that it is an IPv4 address.
    const MAPPED_BITS: u8 = 96;
    let IpNet::V6(mapped) = network else {
        return network;
    };
    let short = mapped.prefix_len().checked_sub(MAPPED_BITS);
    let start = Ipv6Addr::to_ipv4_mapped(&mapped.addr());
    match start.zip(short).map(|(start, prefix)| Ipv4Net::new(start, prefix)) {
        Some(Ok(network)) => IpNet::V4(network),
        Some(Err(_)) | None => IpNet::V6(mapped),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn patterns_are_searched_for() {
        let check = |text: &str, attribute: &str, expected: bool| {
            assert_eq!(pattern(text).unwrap().is_match(attribute), expected, "{text}");
        };
        check("b+", "abbc", true);
        check("^b+$", "abbc", false);
        check("^$", "", true);
        check("", "anything", true);
        check("(?i)straße", "STRAßE", true);
        check(r"^\p{Greek}+$", "λόγος", true);
        // Not of RE2's kind, but harmless: `$` is the end of the text, not of a line.
        check("^a$", "a\n", false);
    }

    #[test]
    fn patterns_with_mistakes_say_which() {
        let check = |text: &str, expected: &str| {
            let error = pattern(text).unwrap_err();
            assert_eq!(error.to_string(), expected, "{text}");
        };
        check("a(b", "is not a regular expression: unclosed group");
        check(
            r"(a)\1",
            "is not a regular expression: backreferences are not supported",
        );
        check(
            "(?=a)",
            "is not a regular expression: look-around, including look-ahead and look-behind, is not supported",
        );
        let long = "a".repeat(limits::PATTERN_BYTES + 1);
        assert_eq!(pattern(&long).unwrap_err(), Unfit::PatternLong);
        assert!(pattern(&long[1..]).is_ok());
        assert_eq!(pattern(r"\w{500}").unwrap_err(), Unfit::PatternLarge);
        assert_eq!(
            pattern("((((a{100}){100}){100}){100}){100}").unwrap_err(),
            Unfit::PatternLarge
        );
    }

    #[test]
    fn no_pattern_takes_long_to_refuse() {
        let began = Instant::now();
        for text in [r"\pL{400}", "(a{999}){999}", &"(".repeat(1_000), &"(?:".repeat(300)] {
            assert!(pattern(text).is_err(), "{text}");
        }
        // Milliseconds; the bound is for a busy machine.
        assert!(began.elapsed().as_secs() < 5);
    }

    #[test]
    fn versions_are_those_of_the_standard() {
        for good in [
            "0.0.0",
            "1.2.3",
            "1.2.3-rc.1+build.5",
            "1.2.3--.-",
            "1.0.0+001",
            "18446744073709551615.0.0",
        ] {
            assert!(version(good).is_ok(), "{good}");
        }
        let bad = [
            "",
            "1",
            "1.2",
            "v1.2.3",
            "1.2.3.4",
            " 1.2.3",
            "1.2.3 ",
            "01.2.3",
            "1.2.3-01",
            "1.2.3-",
            "1.2.3+",
            "1.2.3-a..b",
            "18446744073709551616.0.0",
            "1.2.x",
            "=1.2.3",
            "1.2.3-ä",
        ];
        for bad in bad {
            assert_eq!(version(bad), Err(Unfit::Version), "{bad}");
        }
    }

    #[test]
    fn ranges_are_those_of_cargo() {
        let check = |kind: Range, from: &str, inside: &[&str], outside: &[&str]| {
            let range = range(kind, from).unwrap();
            for text in inside {
                assert!(range.matches(&version(text).unwrap()), "{text} in {range}");
            }
            for text in outside {
                assert!(!range.matches(&version(text).unwrap()), "{text} not in {range}");
            }
        };
        check(
            Range::Tilde,
            "1.2.3",
            &["1.2.3", "1.2.9", "1.2.3+b"],
            &["1.2.2", "1.3.0", "1.2.4-a", "1.2.3-a"],
        );
        check(
            Range::Caret,
            "1.2.3",
            &["1.2.3", "1.9.0"],
            &["1.2.2", "2.0.0", "1.3.0-a", "2.0.0-a"],
        );
        check(Range::Caret, "0.2.3", &["0.2.3", "0.2.9"], &["0.3.0", "0.2.2"]);
        check(Range::Caret, "0.0.3", &["0.0.3"], &["0.0.4", "0.0.2"]);
        check(Range::Caret, "0.0.0", &["0.0.0"], &["0.0.1"]);
        check(
            Range::Tilde,
            "1.2.3-beta.2+x",
            &["1.2.3-beta.2", "1.2.3-beta.10", "1.2.3", "1.2.4"],
            &["1.2.3-beta.1", "1.2.4-beta.3"],
        );
        for kind in [Range::Tilde, Range::Caret] {
            for bad in ["1", "1.2", "*", "^1.2.3", ">=1.2.3", ""] {
                assert_eq!(range(kind, bad), Err(Unfit::Version), "{bad}");
            }
        }
    }

    #[test]
    fn networks_and_addresses_are_canonical() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(
                network(text).ok().map(|network| network.to_string()).as_deref(),
                expected,
                "{text}"
            );
        };
        check("10.0.0.0/8", Some("10.0.0.0/8"));
        check("10.1.2.3/8", Some("10.0.0.0/8"));
        check("10.1.2.3", Some("10.1.2.3/32"));
        check("0.0.0.0/0", Some("0.0.0.0/0"));
        check("2001:DB8::1/32", Some("2001:db8::/32"));
        check("::1", Some("::1/128"));
        check("::ffff:10.1.2.3", Some("10.1.2.3/32"));
        check("::ffff:10.1.2.3/104", Some("10.0.0.0/8"));
        check("::ffff:0:0/96", Some("0.0.0.0/0"));
        check("::/0", Some("::/0"));
        check("::ffff:0:0/95", Some("::fffe:0:0/95"));
        check("::ffff:10.1.2.3/95", Some("::fffe:0:0/95"));
        assert_eq!(rounded("10.1.2.3/8"), network("10.0.0.0/8").ok());
        assert_eq!(
            (rounded("10.0.0.0/8"), rounded("10.1.2.3"), rounded("::/0")),
            (None, None, None)
        );
        for bad in [
            "",
            "10.0.0.0/33",
            "10.0.0/8",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/08",
            "10.0.0.0/255.0.0.0",
            "010.0.0.1",
            "::1/129",
            "fe80::1%eth0",
            "10.0.0.0/8/8",
            " 10.0.0.1",
            "10.0.0.1:80",
            "[::1]",
            "localhost",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn addresses_are_canonical() {
        assert_eq!(address("::ffff:10.0.0.1"), address("10.0.0.1"));
        assert_ne!(address("::10.0.0.1"), address("10.0.0.1"));
        let longest = "0000:0000:0000:0000:0000:ffff:255.255.255.255";
        assert_eq!(address(longest), address("255.255.255.255"));
        assert_eq!(address("10.0.0.0/8"), Err(Unfit::Network));
    }
}
