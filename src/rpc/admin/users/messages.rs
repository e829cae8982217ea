//! Accounts in messages.

use uuid::Uuid;

use crate::domain::access::InstanceRole;
use crate::domain::email::Email;
use crate::domain::identity::IdentityKey;
use crate::domain::invalid::Violations;
use crate::domain::limits;
use crate::pb::admin::v1 as pb;
use crate::rpc::admin::roles::write_instance_role;
use crate::rpc::convert::common::timestamp;
use crate::store::users::{Linked, User};

/// What a request says of an account.
pub(super) struct Described {
    pub id: String,
    pub email: String,
    /// `None`: it is no role, which has been noted.
    pub role: Option<AskedRole>,
    pub active: bool,
    pub identities: Vec<pb::Identity>,
}

/// A role in the installation, or none.
#[derive(Clone, Copy)]
pub(super) enum AskedRole {
    Unspecified,
    Given(InstanceRole),
}

impl AskedRole {
    pub fn into_option(self) -> Option<InstanceRole> {
        match self {
            Self::Unspecified => None,
            Self::Given(role) => Some(role),
        }
    }
}

impl Described {
    pub fn read(violations: &mut Violations, user: pb::User) -> Self {
        let pb::User {
            id,
            email,
            role,
            active,
            create_time: _,
            update_time: _,
            etag: _,
            identities,
        } = user;
        let role = match pb::InstanceRole::try_from(role) {
            Ok(pb::InstanceRole::Unspecified) => Some(AskedRole::Unspecified),
            Ok(pb::InstanceRole::Administrator) => Some(AskedRole::Given(InstanceRole::Administrator)),
            Err(_) => {
                violations.add("user.role", "is not a role that this version knows");
                None
            }
        };
        Self {
            id,
            email,
            role,
            active,
            identities,
        }
    }

    pub fn read_identities(&self, violations: &mut Violations) -> Option<Vec<IdentityKey>> {
        if self.identities.len() > limits::IDENTITIES {
            violations.add("user.identities", format!("are more than {}", limits::IDENTITIES));
            return None;
        }
        let mut keys = Vec::new();
        for (n, identity) in self.identities.iter().enumerate() {
            let pb::Identity {
                issuer,
                subject,
                email: _,
            } = identity;
            keys.push(violations.take(&format!("user.identities[{n}]"), IdentityKey::new(issuer, subject)));
        }
        keys.into_iter().collect()
    }

    pub fn read_email(&self, violations: &mut Violations) -> Option<Email> {
        violations.take("user.email", Email::new(&self.email))
    }
}

pub(super) fn read_id(violations: &mut Violations, field: &str, text: &str) -> Option<Uuid> {
    let id = Uuid::try_parse(text).ok();
    if id.is_none() {
        violations.add(field, "is not the id of an account, a UUID");
    }
    id
}

/// An account, as it is stored.
pub(in crate::rpc::admin) fn write_user(user: &User) -> pb::User {
    let User {
        id,
        email,
        role,
        active,
        created_at,
        updated_at,
        etag,
        identities,
    } = user;
    let identities = identities.iter().map(|Linked { key, email }| pb::Identity {
        issuer: key.issuer.clone(),
        subject: key.subject.clone(),
        email: email.clone(),
    });
    pb::User {
        identities: identities.collect(),
        id: id.to_string(),
        email: email.clone(),
        role: write_instance_role(*role).into(),
        active: *active,
        create_time: Some(timestamp(*created_at)),
        update_time: Some(timestamp(*updated_at)),
        etag: etag.clone(),
    }
}
