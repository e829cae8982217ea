//! Hides our own secrets in text that goes back to who sent it, and on to logs that are not ours: people put a credential where a
//! key belongs.

use std::borrow::Cow;

/// What every credential of ours begins with.
const MARK: &str = "halyard_";
/// So many hexadecimal digits in a row are a secret; fewer are an id or a checksum. An id of a session is hidden too.
const SECRET_CHARS: usize = 32;

/// The text, with `…` for the secret parts of our credentials.
pub fn masked(text: &str) -> Cow<'_, str> {
    if !text.contains(MARK) {
        return text.into();
    }
    let mut masked = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_hexdigit()) {
        let (before, run) = rest.split_at(at);
        let end = run.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(run.len());
        let (digits, after) = run.split_at(end);
        masked.push_str(before);
        masked.push_str(if digits.len() < SECRET_CHARS { digits } else { "…" });
        rest = after;
    }
    masked.push_str(rest);
    masked.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::auth::{invitations, keys, refresh, service_tokens};
    use crate::domain::access::KeyKind;

    fn check(text: &str, expected: &str) {
        assert_eq!(masked(text), expected);
    }

    #[test]
    fn the_secret_part_goes_and_the_rest_stays() {
        let secret = "3c".repeat(32);
        check(
            &format!("is no flag: halyard_server_a5a5a5a5a5a5a5a5_{secret}_103440c4, see"),
            "is no flag: halyard_server_a5a5a5a5a5a5a5a5_…_103440c4, see",
        );
        check(&format!("halyard_server_{}", secret.to_uppercase()), "halyard_server_…");
        // What is not ours may be anything.
        check(&secret, &secret);
        check("grün", "grün");
        check("", "");
    }

    #[test]
    fn every_credential_is_masked() {
        let texts = [
            keys::generate(KeyKind::Server).unwrap().secret,
            keys::generate(KeyKind::Client).unwrap().secret,
            service_tokens::generate().unwrap().secret,
            invitations::generate().unwrap().secret,
            refresh::begin(uuid::Uuid::from_u128(7)).unwrap().token,
        ];
        for text in texts {
            let text = text.expose_secret();
            let masked = masked(text);
            let long = |part: &&str| part.len() >= SECRET_CHARS;
            assert!(
                text.split('_').any(|part| long(&part)) && !masked.split('_').any(|part| long(&part)),
                "{masked}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,60}(halyard_)?[0-9a-fg_é]{0,90}") {
            let masked = masked(&text);
            prop_assert_eq!(masked.contains(MARK), text.contains(MARK));
        }
    }
}
