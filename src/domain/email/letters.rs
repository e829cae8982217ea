//! Which characters an address may hold, and when two texts are one address.

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;
use unicode_security::{GeneralSecurityProfile as _, RestrictionLevel, RestrictionLevelDetection as _};

/// Small letters, and in the composed spelling: two texts that become the same are one address.
///
/// Letter by letter, in no language: both small sigmas become one, since which is written depends on where it stands.
pub fn fold(text: &str) -> String {
    let small = text.chars().flat_map(char::to_lowercase);
    small
        .map(|c| if c == '\u{3c2}' { '\u{3c3}' } else { c })
        .nfc()
        .collect()
}

/// What makes people, or another system, take the address for one that it is not. `None`: nothing.
///
/// This is the profile for identifiers of Unicode Technical Standard 39, with scripts mixed no further than Latin with those of
/// Chinese, Japanese or Korean.
pub(super) fn mistakable(address: &str) -> Option<&'static str> {
    if address.is_ascii() {
        return None;
    }
    let is_letter = |c: char| c.is_ascii() || ((c.is_alphanumeric() || is_combining_mark(c)) && c.identifier_allowed());
    // As it is given, and as it is kept.
    if !address.chars().chain(fold(address).chars()).all(is_letter) {
        return Some("holds a character that is no letter or stands for another one, such as a full-width one");
    }
    let (local, domain) = address.split_once('@').unwrap_or((address, ""));
    let parts = || std::iter::once(local).chain(domain.split('.'));
    if parts().any(mixes_scripts) {
        return Some("mixes scripts in one part, so that it can be mistaken for another");
    }
    parts()
        .any(has_stray_marks)
        .then_some("holds a mark over or under a letter where none can be seen")
}

fn mixes_scripts(part: &str) -> bool {
    let letters: String = part
        .chars()
        .filter(|c| !c.is_ascii() || c.is_ascii_alphanumeric())
        .collect();
    !letters
        .as_str()
        .check_restriction_level(RestrictionLevel::HighlyRestrictive)
}

/// Whether a mark has no letter to stand at, stands there twice, or is the dot over a letter that has one.
fn has_stray_marks(part: &str) -> bool {
    let folded: Vec<char> = fold(part).nfd().collect();
    let dotted = ['i', 'j', 'l', '\u{131}', '\u{237}'];
    let stray = |pair: &[char]| match *pair {
        [letter, '\u{307}'] if dotted.contains(&letter) => true,
        [before, mark] if is_combining_mark(mark) => {
            before == mark || !before.is_alphanumeric() && !is_combining_mark(before)
        }
        _ => false,
    };
    folded.first().is_some_and(|&c| is_combining_mark(c)) || folded.windows(2).any(stray)
}

/// Whether a character shows nothing of itself, so that two addresses which differ in it alone look the same: soft hyphens, zero
/// widths, marks of direction, invisible operators, variation selectors, tags.
pub(super) fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}
