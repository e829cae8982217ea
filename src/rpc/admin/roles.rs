//! Roles, and who has them, in messages.

use uuid::Uuid;

use crate::domain::access::{InstanceRole, Permission, Role, Standing};
use crate::domain::email::Email;
use crate::domain::invalid::Violations;
use crate::pb::admin::v1 as pb;
use crate::store::members::Account;

/// Reads a role that must be said.
pub(super) fn read_role(violations: &mut Violations, role: i32) -> Option<Role> {
    match pb::ProjectRole::try_from(role) {
        Ok(pb::ProjectRole::Owner) => Some(Role::Owner),
        Ok(pb::ProjectRole::Admin) => Some(Role::Admin),
        Ok(pb::ProjectRole::Developer) => Some(Role::Developer),
        Ok(pb::ProjectRole::Viewer) => Some(Role::Viewer),
        Ok(pb::ProjectRole::Unspecified) | Err(_) => {
            violations.add("role", "is none of OWNER, ADMIN, DEVELOPER and VIEWER");
            None
        }
    }
}

/// Reads which account is meant: a UUID, or an address.
pub(super) fn read_account(violations: &mut Violations, text: &str) -> Option<Account> {
    if text.is_empty() {
        violations.add("user", "is empty; name an account by its id or its e-mail address");
        return None;
    }
    match Uuid::parse_str(text) {
        Ok(id) => Some(Account::Id(id)),
        Err(_) => violations.take("user", Email::new(text)).map(Account::Email),
    }
}

pub(super) fn write_role(role: Role) -> pb::ProjectRole {
    match role {
        Role::Owner => pb::ProjectRole::Owner,
        Role::Admin => pb::ProjectRole::Admin,
        Role::Developer => pb::ProjectRole::Developer,
        Role::Viewer => pb::ProjectRole::Viewer,
    }
}

pub(super) fn write_instance_role(role: Option<InstanceRole>) -> pb::InstanceRole {
    match role {
        Some(InstanceRole::Administrator) => pb::InstanceRole::Administrator,
        None => pb::InstanceRole::Unspecified,
    }
}

/// The names of what a standing includes, sorted.
pub(super) fn write_permissions(standing: Standing) -> Vec<String> {
    let granted = Permission::ALL
        .into_iter()
        .filter(|permission| permission.granted_to(standing));
    let mut names: Vec<_> = granted.map(|permission| permission.name().to_owned()).collect();
    names.sort();
    names
}
