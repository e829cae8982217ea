//! What access tokens are signed with, and may have been.

use super::reader::{Noted, Reader};
use super::setting::Setting;
use crate::auth::jwt::SigningKey;

pub(super) const KEY: Setting = Setting::secret(
    "signing-key",
    "KEY",
    "What access tokens are signed with, at least 32 bytes",
);
pub(super) const PREVIOUS_KEYS: Setting = Setting::secret(
    "previous-signing-key",
    "KEYS",
    "Further keys whose access tokens are accepted while keys are changed, one a line",
);

pub(super) fn key(reader: &mut Reader<'_>) -> Result<Option<SigningKey>, Noted> {
    let Some(secret) = reader.secret(KEY)? else {
        return Ok(None);
    };
    SigningKey::new(secret.expose().as_bytes()).map(Some).map_err(|error| {
        let description = format!("is too short: {error}; make one with: openssl rand -base64 48");
        reader.refuse(KEY.argument(), description)
    })
}

pub(super) fn previous_keys(reader: &mut Reader<'_>) -> Result<Vec<SigningKey>, Noted> {
    let Some(secret) = reader.secret(PREVIOUS_KEYS)? else {
        return Ok(Vec::new());
    };
    let lines = secret.expose().lines().map(str::trim_end);
    let keys = lines
        .filter(|line| !line.is_empty())
        .map(|line| SigningKey::new(line.as_bytes()));
    keys.collect::<Result<_, _>>().map_err(|error| {
        let description = format!("holds a line that is too short: {error}");
        reader.refuse(PREVIOUS_KEYS.argument(), description)
    })
}
