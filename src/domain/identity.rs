//! People as an OpenID Connect issuer knows them: who they are there, and which roles their tokens claim.
//!
//! An identity is (issuer, subject) and nothing else. Its e-mail address is for people to read: no account is ever found by it.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use jiff::Timestamp;
use uuid::Uuid;

use super::access::{Role, User};
use super::invalid::Violations;
use super::{key, limits};

/// Names a person at an issuer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdentityKey {
    /// The issuer's URL, exactly as its tokens have it.
    pub issuer: String,
    /// Who, among the issuer's people.
    pub subject: String,
}

/// The roles that a claim gives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claimed {
    /// Whether it makes an administrator of the installation.
    pub administrator: bool,
    /// The roles in projects, whether or not these exist.
    pub projects: BTreeMap<key::Project, Role>,
}

/// What a verified token says of who shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presented {
    /// Who.
    pub key: IdentityKey,
    /// The e-mail address, unless the issuer says that it is unproven. Empty: none.
    pub email: String,
    /// What people are to read: the e-mail address, else a name, else the subject.
    pub shown: String,
    /// The roles that it claims.
    pub claimed: Claimed,
    /// When the token was made.
    pub issued_at: Timestamp,
    /// When it stops working.
    pub expires_at: Timestamp,
    /// Names the token, or the key that signed it, for the audit log. Not secret; empty: neither has a name.
    pub credential: String,
}

/// What a replica knows of an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Whose account it opens.
    pub user: Uuid,
    /// The e-mail address that its last synchronised token had. Empty: none.
    pub email: String,
    /// Whether it was its claim that made the account an administrator.
    pub administrator: bool,
    /// The roles in projects that its claim gave, and that nobody has changed since.
    pub given: BTreeMap<key::Project, Role>,
    /// When the token was made whose claim was last looked at. `None`: none was.
    pub synced_at: Option<Timestamp>,
}

impl IdentityKey {
    /// Checks what an administrator links; the violations' fields are `issuer` and `subject`.
    pub fn new(issuer: &str, subject: &str) -> Result<Self, Violations> {
        let mut violations = Violations::new();
        let limits = [
            ("issuer", issuer, limits::ISSUER_BYTES),
            ("subject", subject, limits::SUBJECT_BYTES),
        ];
        for (field, text, bytes) in limits {
            if text.is_empty() {
                violations.add(field, "is empty; an identity is an issuer and a subject");
            } else if text.len() > bytes {
                violations.add(field, format!("is longer than {bytes} bytes"));
            } else if text.chars().any(char::is_control) {
                violations.add(field, "must not hold control characters");
            }
        }
        violations.or(Self {
            issuer: issuer.to_owned(),
            subject: subject.to_owned(),
        })
    }
}

impl fmt::Display for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.subject, self.issuer)
    }
}

impl Claimed {
    /// Adds a role in a project. Of several in one project the mightiest counts.
    pub fn add(&mut self, project: &key::Project, role: Role) {
        let rank = |role| Role::ALL.iter().position(|other| *other == role);
        let held = self.projects.entry(project.clone()).or_insert(role);
        if rank(role) < rank(*held) {
            *held = role;
        }
    }
}

impl Presented {
    /// How audit entries name the token.
    pub fn audited_credential(&self) -> String {
        format!("oidc:{}", self.credential)
    }
}

impl Identity {
    /// Whether a token was made after the one whose claim was last looked at: an older one changes nothing.
    pub fn is_older_than(&self, presented: &Presented) -> bool {
        self.synced_at.is_none_or(|synced_at| synced_at < presented.issued_at)
    }

    /// Whether a token asks for anything to be written: it is newer than what was last looked at, and says something else than
    /// what there is. Roles in projects that do not exist wait until they do.
    pub fn is_behind(&self, presented: &Presented, user: &User, projects: &HashSet<key::Project>) -> bool {
        let claimed = &presented.claimed;
        let administrator = match (claimed.administrator, user.role) {
            (true, None) => true,
            (false, Some(_)) => self.administrator,
            (true, Some(_)) | (false, None) => false,
        };
        let missing = claimed
            .projects
            .iter()
            .any(|(project, role)| projects.contains(project) && user.memberships.get(project) != Some(role));
        let lost = self.given.keys().any(|project| !claimed.projects.contains_key(project));
        let differs = administrator || missing || lost || self.email != presented.email;
        differs && self.is_older_than(presented)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::access::InstanceRole;

    fn project(key: &str) -> key::Project {
        key::Project::new(key).unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn presented(projects: &[(&str, Role)]) -> Presented {
        let mut claimed = Claimed::default();
        for (key, role) in projects {
            claimed.add(&project(key), *role);
        }
        Presented {
            key: IdentityKey::new("https://issuer.example", "ada").unwrap(),
            email: String::new(),
            shown: "ada".to_owned(),
            claimed,
            issued_at: at(100),
            expires_at: at(200),
            credential: String::new(),
        }
    }

    fn identity() -> Identity {
        Identity {
            user: Uuid::nil(),
            email: String::new(),
            administrator: false,
            given: BTreeMap::new(),
            synced_at: Some(at(99)),
        }
    }

    fn user(memberships: &[(&str, Role)]) -> User {
        let memberships = memberships.iter().map(|(key, role)| (project(key), *role));
        User {
            email: String::new(),
            role: None,
            created_at: at(0),
            memberships: memberships.collect(),
        }
    }

    fn shop() -> HashSet<key::Project> {
        HashSet::from([project("shop")])
    }

    #[test]
    fn the_mightiest_role_of_a_project_counts() {
        let both = presented(&[("shop", Role::Viewer), ("shop", Role::Admin), ("shop", Role::Developer)]);
        assert_eq!(both.claimed.projects[&project("shop")], Role::Admin);
    }

    #[test]
    fn only_what_differs_is_written() {
        let claims = presented(&[("shop", Role::Admin)]);
        assert!(identity().is_behind(&claims, &user(&[]), &shop()));
        assert!(identity().is_behind(&claims, &user(&[("shop", Role::Viewer)]), &shop()));
        assert!(!identity().is_behind(&claims, &user(&[("shop", Role::Admin)]), &shop()));
        assert!(!identity().is_behind(&claims, &user(&[]), &HashSet::new()));
        let renamed = Presented {
            email: "ada@example.com".to_owned(),
            ..presented(&[])
        };
        assert!(identity().is_behind(&renamed, &user(&[]), &shop()));
    }

    #[test]
    fn what_the_claim_gave_is_taken_back_and_what_people_gave_is_not() {
        let nothing = presented(&[]);
        let people = user(&[("shop", Role::Admin)]);
        assert!(!identity().is_behind(&nothing, &people, &shop()));
        let by_claim = Identity {
            given: [(project("shop"), Role::Admin)].into(),
            ..identity()
        };
        assert!(by_claim.is_behind(&nothing, &people, &shop()));
        let administrator = User {
            role: Some(InstanceRole::Administrator),
            ..user(&[])
        };
        assert!(!identity().is_behind(&nothing, &administrator, &shop()));
        let by_claim = Identity {
            administrator: true,
            ..identity()
        };
        assert!(by_claim.is_behind(&nothing, &administrator, &shop()));
    }

    #[test]
    fn a_token_that_is_not_newer_changes_nothing() {
        let claims = presented(&[("shop", Role::Admin)]);
        for (synced_at, behind) in [(None, true), (Some(99), true), (Some(100), false), (Some(101), false)] {
            let identity = Identity {
                synced_at: synced_at.map(at),
                ..identity()
            };
            assert_eq!(
                identity.is_behind(&claims, &user(&[]), &shop()),
                behind,
                "{synced_at:?}"
            );
        }
    }

    #[test]
    fn identities_have_both_parts() {
        for (issuer, subject, violations) in [("", "", 2), ("https://a", "", 1), ("https://a", "b\n", 1)] {
            let refused = IdentityKey::new(issuer, subject).unwrap_err();
            assert_eq!(refused.iter().count(), violations, "{issuer:?} {subject:?}");
        }
    }
}
