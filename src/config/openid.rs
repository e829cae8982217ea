//! Whose tokens let people in beside our own.

use super::reader::{Noted, Reader};
use super::setting::Setting;
use crate::auth::openid::{Address, ClaimPath, Expectations, RoleMap};

pub(super) const ISSUER: Setting = Setting::value(
    "oidc-issuer",
    "URL",
    "The OpenID Connect issuer whose tokens let people in, exactly as its tokens name it; by default none",
);
pub(super) const AUDIENCE: Setting = Setting::value(
    "oidc-audience",
    "TEXT",
    "Whom the issuer's tokens must be meant for, usually the client id given out for Halyard",
);
pub(super) const ROLES_CLAIM: Setting = Setting::value(
    "oidc-roles-claim",
    "NAME",
    "The claim of the issuer's tokens that tells roles, a text or a list; dots reach into objects; by default groups",
);
pub(super) const ROLES: Setting = Setting::value(
    "oidc-roles",
    "TEXT",
    "What that claim's values mean, one a line or between commas: ops=administrator, web-team=shop:developer",
);
const DEFAULT_ROLES_CLAIM: &str = "groups";

/// Reads an issuer with all that belongs to it. `None`: there is none.
pub(super) fn read(reader: &mut Reader<'_>) -> Result<Option<Expectations>, Noted> {
    let issuer = reader.optional(ISSUER, Address::issuer);
    let audience = reader.optional(AUDIENCE, audience);
    let roles_claim = reader.optional(ROLES_CLAIM, ClaimPath::new);
    let roles = reader.optional(ROLES, RoleMap::parse);
    let (issuer, audience, roles_claim, roles) = (issuer?, audience?, roles_claim?, roles?);
    let (Some(issuer), Some(audience)) = (&issuer, &audience) else {
        return incomplete(
            reader,
            issuer.is_some(),
            audience.is_some(),
            roles_claim.is_some() || roles.is_some(),
        );
    };
    let roles_claim = match roles_claim {
        Some(claim) => claim,
        None => {
            ClaimPath::new(DEFAULT_ROLES_CLAIM).map_err(|problem| reader.refuse(ROLES_CLAIM.argument(), problem))?
        }
    };
    Ok(Some(Expectations {
        issuer: issuer.clone(),
        audience: audience.clone(),
        roles_claim,
        roles: roles.unwrap_or_default(),
    }))
}

/// Nothing at all is fine; some of it is not.
fn incomplete(
    reader: &mut Reader<'_>,
    issuer: bool,
    audience: bool,
    roles: bool,
) -> Result<Option<Expectations>, Noted> {
    if issuer {
        let description = "is missing beside --oidc-issuer: a token that was made for another application must not be accepted; \
                           give the client id or audience that the issuer knows Halyard by (or HALYARD_OIDC_AUDIENCE)";
        return Err(reader.refuse(AUDIENCE.argument(), description));
    }
    if audience || roles {
        let description = "is missing beside the other --oidc options: give the issuer's URL (or HALYARD_OIDC_ISSUER), or leave \
                           them all out";
        return Err(reader.refuse(ISSUER.argument(), description));
    }
    Ok(None)
}

fn audience(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("is empty".to_owned());
    }
    Ok(text.to_owned())
}
