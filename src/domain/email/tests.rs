//! Which addresses there are, and which are the same.

use std::collections::BTreeMap;

use proptest::prelude::*;
use unicode_normalization::UnicodeNormalization as _;

use super::*;

fn check(text: &str, valid: bool) {
    assert_eq!(Email::new(text).is_ok(), valid, "{text:?}");
}

#[test]
fn addresses_have_one_at_sign_with_something_on_both_sides() {
    check("ada@example.com", true);
    check("ada+flags@localhost", true);
    check("grüße@exämple.de", true);
    check("", false);
    check("  ", false);
    check("ada", false);
    check("@example.com", false);
    check("ada@", false);
    check("ada@b@c", false);
    check("ada lovelace@example.com", false);
    check("ada@exa\u{7}mple.com", false);
    check("ada\u{a0}@example.com", false);
    check("ada\u{200b}@example.com", false);
    check("\u{202e}ada@example.com", false);
}

#[test]
fn length_is_limited_in_bytes() {
    check(&format!("{}@example.com", "a".repeat(242)), true);
    check(&format!("{}@example.com", "a".repeat(243)), false);
    check(&format!("{}@example.com", "ä".repeat(122)), false);
}

#[test]
fn case_and_surrounding_space_make_no_other_account() {
    let email = Email::new("  Ada@Example.COM\n").unwrap();
    assert_eq!(email.given(), "Ada@Example.COM");
    assert_eq!(email.normalized(), "ada@example.com");
    assert_eq!(email.normalized(), Email::new("ada@example.com").unwrap().normalized());
}

#[test]
fn all_violations_come_at_once() {
    let violations = Email::new(&"a ".repeat(200)).unwrap_err();
    assert_eq!(violations.iter().count(), 3);
}

fn folded(text: &str) -> String {
    Email::new(text).unwrap().normalized().to_owned()
}

#[test]
fn what_stands_for_another_character_is_refused() {
    for (looks, like) in [
        ("\u{212a}ate@example.com", "kate@example.com"),
        ("\u{212b}sa@example.com", "åsa@example.com"),
        ("ada@example.\u{ff43}om", "ada@example.com"),
        ("\u{ff41}da@example.com", "ada@example.com"),
        ("ada\u{ff20}example.com", "ada@example.com"),
        ("\u{fb01}n@example.com", "fin@example.com"),
        ("\u{17f}am@example.com", "sam@example.com"),
        ("\u{1d5ba}da@example.com", "ada@example.com"),
        ("ada@example\u{3002}com", "ada@example.com"),
        ("o\u{2019}neil@example.com", "o'neil@example.com"),
        ("well\u{2010}known@example.com", "well-known@example.com"),
        // Small, it is an i with two dots, one over the other.
        ("\u{130}da@example.com", "ida@example.com"),
        ("i\u{307}da@example.com", "ida@example.com"),
        ("a\u{301}\u{301}da@example.com", "ada@example.com"),
        ("\u{301}ada@example.com", "ada@example.com"),
        ("ada@\u{301}example.com", "ada@example.com"),
    ] {
        check(looks, false);
        check(like, true);
    }
}

#[test]
fn scripts_are_not_mixed_in_a_part() {
    check("\u{430}da@example.com", false);
    check("ada@ex\u{430}mple.com", false);
    check("p\u{3b1}ul@example.com", false);
    check("иван@example.com", true);
    check("иван.2@пример.рф", true);
    check("γιώργος@παράδειγμα.ελ", true);
    check("li李@例え.jp", true);
    check("grüße+o'neil@exämple.de", true);
}

#[test]
fn a_letter_of_another_alphabet_is_another_letter() {
    for (one, other) in [
        ("irmak@example.com", "\u{131}rmak@example.com"),
        ("ycp@example.com", "уср@example.com"),
        ("strasse@example.com", "straße@example.com"),
        ("ada@example.com", "ada@exämple.com"),
    ] {
        assert_ne!(folded(one), folded(other));
    }
}

#[test]
fn one_text_in_two_spellings_is_one_address() {
    for (one, other) in [
        ("zo\u{eb}@example.com", "ZOE\u{308}@example.com"),
        ("γιώργος@example.com", "ΓΙΏΡΓΟΣ@example.com"),
        ("γιώργοσ@example.com", "ΓΙΏΡΓΟΣ@example.com"),
    ] {
        assert_eq!(folded(one), folded(other));
    }
}

/// Of all there are: two characters that are accepted and become the same are the capital and the small one of a letter, except
/// for the sigmas.
#[test]
fn folding_joins_nothing_but_cases() {
    let mut joined: BTreeMap<String, Vec<char>> = BTreeMap::new();
    for c in '\0'..=char::MAX {
        if let Ok(email) = Email::new(&format!("{c}@example.com")) {
            joined.entry(email.local().to_owned()).or_default().push(c);
        }
    }
    let pairs: Vec<_> = joined
        .into_iter()
        .filter(|(_, characters)| characters.len() > 1)
        .collect();
    assert!(pairs.len() > 400, "{}", pairs.len());
    for (small, characters) in pairs {
        let sigma = characters == ['Σ', 'ς', 'σ'];
        let of_one_letter = characters.len() == 2 && characters.iter().any(|c| c.to_string() == small);
        assert!(sigma || of_one_letter, "{small} {characters:?}");
    }
}

/// Words of one script, with marks.
const WORD: &str = "([a-zA-ZÀ-žẞ][\u{300}-\u{304}]?){1,4}|([α-ωΑ-Ωά-ώ]\u{301}?){1,4}|([а-яА-ЯёЁ]\u{308}?){1,4}";

/// The capital of a letter, if that is the letter's own: ß grows when it is written large, and ı takes the capital of i.
fn capital(c: char) -> char {
    let mut upper = c.to_uppercase();
    let own = upper.len() == 1 && upper.clone().flat_map(char::to_lowercase).eq([c]);
    if own { upper.next().unwrap_or(c) } else { c }
}

proptest! {
    #[test]
    fn neither_case_nor_spelling_makes_another(local in WORD, domain in WORD) {
        let email = Email::new(&format!("{local}@{domain}.org"));
        // Many are refused, and no more than proptest puts up with.
        prop_assume!(email.is_ok());
        let email = email.unwrap();
        let given = email.given();
        let capitals: String = given.chars().map(capital).collect();
        let spellings = [given.nfd().collect(), given.nfc().collect(), given.to_lowercase(), capitals];
        for other in spellings {
            // Spelled otherwise, it is refused or the same: never somebody else's.
            if let Ok(other) = Email::new(&other) {
                prop_assert_eq!(other.normalized(), email.normalized(), "{:?}", other);
            }
        }
        let again = Email::new(email.normalized()).unwrap();
        prop_assert_eq!(again.normalized(), email.normalized());
    }

    #[test]
    fn whatever_is_accepted_is_accepted_as_it_is_kept(text in ".{1,3}@.{1,3}|.{0,9}") {
        if let Ok(email) = Email::new(&text) {
            let again = Email::new(email.normalized()).unwrap();
            prop_assert_eq!(again.normalized(), email.normalized());
        }
    }
}
