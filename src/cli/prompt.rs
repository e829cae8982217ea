//! Asks the person at the terminal for a password, without showing it.

use std::io;

use secrecy::{ExposeSecret as _, SecretString};

/// Asks for a password. Blocks.
pub fn password(prompt: &str) -> io::Result<SecretString> {
    rpassword::prompt_password(prompt).map(SecretString::from)
}

/// Asks for a new password, twice, until both are alike. Blocks.
pub fn new_password(prompt: &str) -> io::Result<SecretString> {
    loop {
        let first = password(prompt)?;
        let again = password("Once more: ")?;
        if first.expose_secret() == again.expose_secret() {
            return Ok(first);
        }
        super::say("These differ; try again.");
    }
}
