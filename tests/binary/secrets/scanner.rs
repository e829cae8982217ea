//! Finds secrets where they should not be.

/// What must be found nowhere.
#[derive(Default)]
pub struct Secrets(Vec<Secret>);

struct Secret {
    name: String,
    /// How it may look: as it is, or as bytes are written.
    looks: Vec<String>,
}

impl Secrets {
    /// A secret that is secret as a whole.
    pub fn add(&mut self, name: &str, text: &str) {
        assert!(text.len() >= 8, "{name} is too short to be found");
        let mut looks = vec![text.to_owned(), hex::encode(text), escaped(text)];
        // Base64 looks otherwise at each of three places; its first and last letters depend on the neighbours.
        for before in 0..3 {
            let shifted = [&vec![0; before], text.as_bytes()].concat();
            let letters = base64(&shifted);
            let inner = &letters[4.min(letters.len())..letters.len().saturating_sub(4)];
            looks.extend([inner.to_owned(), inner.replace('+', "-").replace('/', "_")]);
        }
        looks.sort();
        looks.dedup();
        self.0.push(Secret {
            name: name.to_owned(),
            looks,
        });
    }

    /// A token of ours: `halyard_<kind>_<id>_<secret…>_<checksum>`, as a whole and by its secret parts.
    pub fn add_token(&mut self, name: &str, token: &str) {
        let parts: Vec<_> = token.split('_').collect();
        let [_, _, _, secrets @ .., _] = parts.as_slice() else {
            panic!("{name} is no token")
        };
        assert!(!secrets.is_empty(), "{name} has no secret part");
        self.add(name, token);
        for part in secrets {
            self.add(&format!("a part of {name}"), part);
        }
    }

    /// A token that is signed: as a whole, and by each of its halves.
    pub fn add_jwt(&mut self, name: &str, token: &str) {
        let [_, claims, signature] = token.split('.').collect::<Vec<_>>()[..] else {
            panic!("{name} has no three parts")
        };
        self.add(name, token);
        self.add(&format!("the claims of {name}"), claims);
        self.add(&format!("the signature of {name}"), signature);
    }

    /// Which of them a text holds.
    pub fn in_text(&self, text: &str) -> Vec<&str> {
        let held = |secret: &&Secret| secret.looks.iter().any(|look| text.contains(look));
        self.0.iter().filter(held).map(|secret| secret.name.as_str()).collect()
    }

    /// Fails if a text holds any of them; `place` says where it was found.
    pub fn must_not_be_in(&self, place: &str, text: &str) {
        let found = self.in_text(text);
        if found.is_empty() {
            return;
        }
        let line = text
            .lines()
            .find(|line| !self.in_text(line).is_empty())
            .unwrap_or_default();
        panic!(
            "{place} holds {found:?}: {}",
            line.chars().take(2_000).collect::<String>()
        );
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }
}

/// As JSON and Rust write text within quotes.
fn escaped(text: &str) -> String {
    let quoted = serde_json::to_string(text).unwrap();
    quoted[1..quoted.len() - 1].to_owned()
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for n in 0..=chunk.len() {
            text.push(LETTERS[((bits >> (18 - 6 * n)) & 63) as usize].into());
        }
    }
    text
}

#[test]
fn what_is_planted_is_found() {
    let mut secrets = Secrets::default();
    secrets.add("password", "a \"horse\" named + battery");
    secrets.add_token("key", "halyard_server_0011223344556677_8899aabbccddeeff_01234567");
    secrets.add_jwt("token", "eyJhbGciOiJI.eyJzdWIiOiJhZGEi.c2lnbmF0dXJl");
    let found = |text: &str| secrets.in_text(text).len();
    for planted in [
        "{\"password\":\"a \\\"horse\\\" named + battery\"}",
        "said a \"horse\" named + battery!",
        &hex::encode("xx a \"horse\" named + battery xx"),
        &base64(b"a \"horse\" named + battery"),
        &base64(b"{\"p\":\"a \"horse\" named + battery\"}"),
        &base64(b"ada:a \"horse\" named + battery"),
        "key=halyard_server_0011223344556677_8899aabbccddeeff_01234567",
        "the half 8899aabbccddeeff of it",
        "eyJzdWIiOiJhZGEi",
        "signature c2lnbmF0dXJl",
    ] {
        assert!(found(planted) > 0, "{planted}");
    }
    // What names a credential is no secret.
    for harmless in [
        "",
        "a horse named battery",
        "0011223344556677",
        "halyard_server_0011223344556677_",
        "eyJhbGciOiJI",
    ] {
        assert_eq!(found(harmless), 0, "{harmless}");
    }
    let planted = std::panic::catch_unwind(|| secrets.must_not_be_in("the log", "one\ntwo 8899aabbccddeeff\n"));
    assert!(planted.is_err());
}
