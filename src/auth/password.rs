//! Passwords: argon2id, kept as PHC strings.
//!
//! Hashing takes tens of milliseconds and 19 MiB on purpose. These functions block: call them on a thread for blocking work, and
//! only so many at a time.
//!
//! The bundled passwords are from `@zxcvbn-ts/language-common` 4.1.3 (MIT; Dan Wheeler, Dropbox and the zxcvbn-ts authors): all
//! with twelve characters or more, and the two thousand commonest shorter ones that begin and end with a letter.

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use secrecy::{ExposeSecret as _, SecretString};

use super::Error;
use crate::domain::email::Email;
use crate::domain::invalid::Violations;
use crate::domain::limits;

/// KiB of memory, passes and lanes: the OWASP password storage cheat sheet's first choice for argon2id with one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Verified against when there is nothing to verify against, so that an unknown user takes as long as a wrong password. Nobody
/// knows a password for it, and [`verify`] would not believe them.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$F5imxxM4gSRa/ZDbnX+0Iw$5VTzcPUkqpjdBBSxQwqqYj4u0jK/NVbc3+lIiGKcev0";

/// What too many people chose already, in lower case, sorted, one a line.
const COMMON: &str = include_str!("common_passwords.txt");

/// Hashes a password with a salt of its own. Blocks.
pub fn hash(password: &SecretString) -> Result<String, Error> {
    let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters()?);
    let hash = hasher.hash_password(password.expose_secret().as_bytes())?;
    Ok(hash.to_string())
}

/// Whether a password is the one that was hashed. `None`: there is no such user, or no password; never true, after as long a
/// time. A stored hash that cannot be read is never true either. Blocks.
pub fn verify(password: &SecretString, stored: Option<&str>) -> bool {
    let password = password.expose_secret().as_bytes();
    if password.len() > limits::PASSWORD_BYTES {
        return false;
    }
    let readable = stored.and_then(|stored| PasswordHash::new(stored).ok());
    let known = readable.is_some();
    let Some(hash) = readable.or_else(|| PasswordHash::new(NOBODY).ok()) else {
        return false;
    };
    // The parameters are the hash's own; these serve passwords hashed under older ones too.
    let matches = Argon2::default().verify_password(password, &hash).is_ok();
    known && matches
}

/// Checks a password that somebody chose. The violations' field is empty, for the caller to name.
pub fn check_new(password: &SecretString, email: &Email) -> Result<(), Violations> {
    let password = password.expose_secret();
    let mut violations = Violations::new();
    if password.chars().count() < limits::PASSWORD_MIN_CHARS {
        violations.add(
            "",
            format!("must have at least {} characters", limits::PASSWORD_MIN_CHARS),
        );
    }
    if password.len() > limits::PASSWORD_BYTES {
        violations.add("", format!("must have at most {} bytes", limits::PASSWORD_BYTES));
    }
    let plain = password.trim().to_lowercase();
    if plain == email.normalized() || plain == email.local() {
        violations.add("", "must not be the e-mail address or the part before its @");
    }
    if password.chars().count() >= limits::PASSWORD_MIN_CHARS && is_common(&plain) {
        violations.add("", "is one of those that are tried first; choose another");
    }
    violations.or(())
}

/// Whether a password in lower case is a common one, a common one again and again, or a common word that hides behind digits and
/// punctuation no longer than itself.
fn is_common(password: &str) -> bool {
    let word = password.trim_matches(|c: char| !c.is_alphabetic());
    let hides = 2 * word.len() >= password.len();
    // A text of some period is the same when it is moved by the period.
    let period = password
        .char_indices()
        .skip(1)
        .map(|(at, _)| at)
        .find(|&at| password.len().is_multiple_of(at) && password.get(at..) == password.get(..password.len() - at));
    let once = period.and_then(|at| password.get(..at));
    let is_listed = |text: &str| COMMON.lines().any(|common| common == text);
    is_listed(password) || (hides && is_listed(word)) || once.is_some_and(|once| is_listed(once) || once.len() < 4)
}

fn parameters() -> Result<Params, Error> {
    Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|error| Error::Hashing(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> SecretString {
        text.to_owned().into()
    }

    #[test]
    fn a_password_is_verified_against_its_own_hash_alone() {
        let hash = hash(&secret("correct horse battery")).unwrap();
        assert!(verify(&secret("correct horse battery"), Some(&hash)));
        assert!(!verify(&secret("correct horse battery "), Some(&hash)));
        assert!(!verify(&secret(""), Some(&hash)));
    }

    #[test]
    fn hashes_are_salted_and_name_their_parameters() {
        let (one, other) = (hash(&secret("the same")).unwrap(), hash(&secret("the same")).unwrap());
        assert_ne!(one, other);
        assert!(one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{one}");
    }

    #[test]
    fn hashes_of_older_parameters_are_still_verified() {
        let older = Argon2::new(
            Algorithm::Argon2id,
            Version::V0x13,
            Params::new(8 * 1024, 1, 1, None).unwrap(),
        );
        let hash = older.hash_password(b"long ago").unwrap().to_string();
        assert!(verify(&secret("long ago"), Some(&hash)));
    }

    #[test]
    fn nobody_is_nobody() {
        assert!(!verify(&secret(""), None));
        assert!(!verify(&secret("anything"), None));
        assert!(!verify(&secret("anything"), Some("not a hash")));
    }

    /// Otherwise the time would tell whether an account exists.
    #[test]
    fn an_unknown_user_costs_as_much_as_a_known_one() {
        let nobody = PasswordHash::new(NOBODY).unwrap();
        let known = hash(&secret("anything")).unwrap();
        let known = PasswordHash::new(&known).unwrap();
        assert_eq!(nobody.algorithm, known.algorithm);
        assert_eq!(nobody.version, known.version);
        assert_eq!(nobody.params, known.params);
        assert_eq!(nobody.salt.unwrap().len(), known.salt.unwrap().len());
        assert_eq!(nobody.hash.unwrap().len(), known.hash.unwrap().len());
    }

    #[test]
    fn overlong_passwords_are_not_hashed() {
        let long = "a".repeat(limits::PASSWORD_BYTES + 1);
        let hash = hash(&secret(&long)).unwrap();
        assert!(!verify(&secret(&long), Some(&hash)));
    }

    #[test]
    fn new_passwords_follow_the_policy() {
        fn check(password: &str, violations: usize) {
            let email = Email::new("Ada.Lovelace@example.com").unwrap();
            let found = check_new(&secret(password), &email).map_or_else(|found| found.iter().count(), |()| 0);
            assert_eq!(found, violations, "{password:?}");
        }
        check("correct horse battery", 0);
        check("twelve chars", 0);
        check("eleven char", 1);
        check("ünïcödé pаß", 1);
        check("ünïcödé pаßw", 0);
        check("", 1);
        check(&"ünïcödé ".repeat(limits::PASSWORD_BYTES / 12), 0);
        check(&"ünïcödé ".repeat(limits::PASSWORD_BYTES / 11), 1);
        check("ada.lovelace@example.com", 1);
        check(" ADA.LOVELACE@EXAMPLE.COM ", 1);
        check("Ada.Lovelace", 1);
    }

    #[test]
    fn common_passwords_are_refused_in_their_usual_disguises() {
        let is_refused = |password: &str| {
            let email = Email::new("ada@example.com").unwrap();
            check_new(&secret(password), &email).is_err()
        };
        for password in [
            "1qaz2wsx3edc",
            "Administrator",
            "Password1234",
            "!!password!!",
            "123iloveyou321",
            "passwordpassword",
            "monkeymonkeymonkey",
            "aaaaaaaaaaaa",
            "121212121212",
        ] {
            assert!(is_refused(password), "{password}");
        }
        for password in [
            "correct horse battery staple",
            "monkey-8392018475635",
            "passwort für Ada",
            "3.14159265358",
            "überlänge überlänge",
        ] {
            assert!(!is_refused(password), "{password}");
        }
    }

    #[test]
    fn the_bundled_list_can_be_compared_with() {
        assert!(COMMON.lines().count() > 2_000);
        assert!(COMMON.lines().is_sorted_by(|a, b| a < b));
        assert!(
            COMMON
                .lines()
                .all(|line| line == line.trim().to_lowercase() && line.len() >= 4)
        );
    }

    #[test]
    fn a_short_address_as_password_is_wrong_twice() {
        let email = Email::new("a@b.c").unwrap();
        let violations = check_new(&secret("a@b.c"), &email).unwrap_err();
        assert_eq!(violations.iter().count(), 2);
    }
}
