//! Who may do what: roles, the permission matrix, and what every replica knows of callers.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use super::change::{Digest, EnvironmentId};
use super::identity::{Identity, IdentityKey};
use super::key;

/// A role in the whole installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InstanceRole {
    /// Manages users, sees and may do everything in every project.
    Administrator,
}

/// A role in one project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Everything.
    Owner,
    /// Everything but deleting the project and setting owners.
    Admin,
    /// Changes where no protected environment is touched.
    Developer,
    /// Reads.
    Viewer,
}

/// A key as a server of its own configuration knows it: by its id and hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedKey {
    /// Names the key; not secret.
    pub id: Arc<str>,
    /// What it may do.
    pub kind: KeyKind,
    /// SHA-256 of its secret.
    pub secret_hash: Digest,
}

/// What one may be permitted to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Permission {
    /// Create projects.
    CreateProjects,
    /// Manage users and other things of the installation.
    ManageInstance,
    /// Read everything in the project but its audit log.
    Read,
    /// Create, change and archive flags, segments and experiments.
    Change,
    /// The same where it can alter an answer of a protected environment.
    ChangeProtected,
    /// Delete flags, segments and experiments.
    Delete,
    /// Create, change and delete environments and their keys, and change the project itself.
    ManageEnvironments,
    /// Manage members up to admin, and invitations.
    ManageMembers,
    /// Read the audit log.
    ReadAudit,
    /// Set and remove owners.
    SetOwners,
    /// Delete the project.
    DeleteProject,
}

/// What a caller is at the moment at which it is asked: in the installation, and in the project at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// The role in the installation.
    pub instance: Option<InstanceRole>,
    /// The role in the project at hand; `None` also when there is no project at hand.
    pub project: Option<Role>,
    /// Whether it is a machine: one is bound to its project, and creates none.
    pub machine: bool,
}

/// Names a service token; not secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenId(u64);

/// Whose credential it is that administrates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Principal {
    /// A person, by the account.
    User(Uuid),
    /// A machine.
    ServiceToken(TokenId),
}

/// How long a credential lets its bearer in. The shorter is the smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Term {
    /// Until this moment, which is not part of it.
    Until(jiff::Timestamp),
    /// For as long as it is not taken away.
    Endless,
}

impl From<Option<jiff::Timestamp>> for Term {
    /// `None`: it does not expire.
    fn from(expires_at: Option<jiff::Timestamp>) -> Self {
        expires_at.map_or(Self::Endless, Self::Until)
    }
}

impl Term {
    /// Whether it has ended.
    pub fn is_over(self, now: jiff::Timestamp) -> bool {
        match self {
            Self::Until(end) => end <= now,
            Self::Endless => false,
        }
    }
}

impl TokenId {
    const DIGITS: usize = 16;

    /// Reads an id: 16 hexadecimal digits in lower case.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (text.len() == Self::DIGITS && digits)
            .then(|| u64::from_str_radix(text, 16).ok())
            .flatten()
            .map(Self)
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Permission {
    /// Every permission.
    pub const ALL: [Self; 11] = [
        Self::CreateProjects,
        Self::ManageInstance,
        Self::Read,
        Self::Change,
        Self::ChangeProtected,
        Self::Delete,
        Self::ManageEnvironments,
        Self::ManageMembers,
        Self::ReadAudit,
        Self::SetOwners,
        Self::DeleteProject,
    ];

    /// The name that callers see.
    pub fn name(self) -> &'static str {
        match self {
            Self::CreateProjects => "projects.create",
            Self::ManageInstance => "instance.manage",
            Self::Read => "project.read",
            Self::Change => "project.change",
            Self::ChangeProtected => "project.change_protected",
            Self::Delete => "project.delete_entities",
            Self::ManageEnvironments => "environments.manage",
            Self::ManageMembers => "members.manage",
            Self::ReadAudit => "audit.read",
            Self::SetOwners => "owners.set",
            Self::DeleteProject => "project.delete",
        }
    }

    /// The permission matrix: whether a standing includes this permission. Any active user may create a project; a machine has
    /// nothing outside of its own.
    pub fn granted_to(self, standing: Standing) -> bool {
        if standing.instance == Some(InstanceRole::Administrator) {
            return true;
        }
        if self == Self::CreateProjects {
            return !standing.machine;
        }
        let Some(role) = standing.project else {
            return false;
        };
        let (owner, admin, developer, viewer) = match self {
            Self::CreateProjects | Self::Read => (true, true, true, true),
            Self::ManageInstance => (false, false, false, false),
            Self::Change => (true, true, true, false),
            Self::ChangeProtected | Self::Delete | Self::ManageEnvironments | Self::ManageMembers | Self::ReadAudit => {
                (true, true, false, false)
            }
            Self::SetOwners | Self::DeleteProject => (true, false, false, false),
        };
        match role {
            Role::Owner => owner,
            Role::Admin => admin,
            Role::Developer => developer,
            Role::Viewer => viewer,
        }
    }
}

impl Role {
    /// Every role, the mightiest first.
    pub const ALL: [Self; 4] = [Self::Owner, Self::Admin, Self::Developer, Self::Viewer];

    /// The name, as it is stored and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Developer => "developer",
            Self::Viewer => "viewer",
        }
    }

    /// The role of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

impl InstanceRole {
    /// The name, as it is stored and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Administrator => "administrator",
        }
    }

    /// The role of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        (name == Self::Administrator.name()).then_some(Self::Administrator)
    }
}

/// What an environment key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// Evaluate and Watch.
    Server,
    /// Evaluate what is visible to clients.
    Client,
}

impl KeyKind {
    /// The name, as it is stored.
    pub fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }

    /// The kind of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Server, Self::Client]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

/// What a replica knows of an environment key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentKey {
    /// The environment that it opens.
    pub environment: EnvironmentId,
    /// What it may do there.
    pub kind: KeyKind,
    /// SHA-256 of its secret.
    pub secret_hash: Digest,
    /// When it stops working. `None`: never.
    pub expires_at: Option<jiff::Timestamp>,
    /// The secret that was replaced last. `None`: there was none before.
    pub previous: Option<PreviousSecret>,
}

/// A secret that was replaced, and works on for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreviousSecret {
    /// SHA-256 of it.
    pub secret_hash: Digest,
    /// When it stops working.
    pub expires_at: jiff::Timestamp,
}

/// What a replica knows of a service token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceToken {
    /// For people.
    pub name: String,
    /// Its project.
    pub project: key::Project,
    /// Its role there.
    pub role: Role,
    /// SHA-256 of its secret.
    pub secret_hash: Digest,
    /// When it stops working. `None`: never.
    pub expires_at: Option<jiff::Timestamp>,
}

impl ServiceToken {
    /// What the token is, in a project or outside of any.
    pub fn standing(&self, project: Option<&key::Project>) -> Standing {
        Standing {
            instance: None,
            project: (project == Some(&self.project)).then_some(self.role),
            machine: true,
        }
    }
}

/// What a replica knows of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// As it was given; of an account without an address of its own what its identity is called.
    pub email: String,
    /// The role in the installation.
    pub role: Option<InstanceRole>,
    /// When the account was made.
    pub created_at: jiff::Timestamp,
    /// The roles in projects.
    pub memberships: BTreeMap<key::Project, Role>,
}

impl User {
    /// What the user is, in a project or outside of any.
    pub fn standing(&self, project: Option<&key::Project>) -> Standing {
        Standing {
            instance: self.role,
            project: project.and_then(|project| self.memberships.get(project).copied()),
            machine: false,
        }
    }
}

/// An environment, as far as callers are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// Its project.
    pub project: key::Project,
    /// Its key.
    pub key: key::Environment,
    /// Whether only admins and owners may change what it answers.
    pub protected: bool,
}

/// What access depends on, as of one revision of the installation's `access` head. Immutable; every replica holds the newest.
///
/// What is revoked is not in it, nor are inactive users. Revoked sessions are, for as long as an access token of theirs could work.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directory {
    /// The revision of the `access` head.
    pub revision: u64,
    /// Every environment.
    pub environments: HashMap<EnvironmentId, Environment>,
    /// Environment keys by their id.
    pub keys: HashMap<Arc<str>, EnvironmentKey>,
    /// Active users.
    pub users: HashMap<Uuid, User>,
    /// Logins that were ended lately: their access tokens have not run out yet.
    pub revoked_sessions: HashSet<Uuid>,
    /// Service tokens.
    pub tokens: HashMap<TokenId, ServiceToken>,
    /// Whose account an identity opens; those of inactive users too.
    pub identities: HashMap<IdentityKey, Identity>,
    /// Every project, those without environments too.
    pub projects: HashSet<key::Project>,
}

impl Directory {
    /// What a principal is, in a project or outside of any. `None`: it is not known.
    pub fn standing(&self, principal: Principal, project: Option<&key::Project>) -> Option<Standing> {
        match principal {
            Principal::User(id) => self.users.get(&id).map(|user| user.standing(project)),
            Principal::ServiceToken(id) => self.tokens.get(&id).map(|token| token.standing(project)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of the design, cell by cell.
    #[test]
    fn the_matrix_is_the_designed_one() {
        let rows = [
            (Permission::Read, "oadv"),
            (Permission::Change, "oad"),
            (Permission::ChangeProtected, "oa"),
            (Permission::Delete, "oa"),
            (Permission::ManageEnvironments, "oa"),
            (Permission::ManageMembers, "oa"),
            (Permission::ReadAudit, "oa"),
            (Permission::SetOwners, "o"),
            (Permission::DeleteProject, "o"),
            (Permission::CreateProjects, "oadv"),
            (Permission::ManageInstance, ""),
        ];
        assert_eq!(rows.len(), Permission::ALL.len());
        for (permission, granted) in rows {
            for role in Role::ALL {
                let standing = Standing {
                    project: Some(role),
                    ..Standing::default()
                };
                let initial = role.name().get(..1).unwrap();
                assert_eq!(
                    permission.granted_to(standing),
                    granted.contains(initial),
                    "{permission:?} {role:?}"
                );
            }
        }
    }

    #[test]
    fn strangers_may_only_create_projects_and_administrators_anything() {
        for permission in Permission::ALL {
            let stranger = permission.granted_to(Standing::default());
            assert_eq!(stranger, permission == Permission::CreateProjects, "{permission:?}");
            let administrator = Standing {
                instance: Some(InstanceRole::Administrator),
                ..Standing::default()
            };
            assert!(permission.granted_to(administrator), "{permission:?}");
        }
    }

    fn shop() -> key::Project {
        key::Project::new("shop").unwrap()
    }

    #[test]
    fn a_service_token_may_in_its_project_what_a_member_may_but_make_no_other() {
        let other = key::Project::new("other").unwrap();
        for role in Role::ALL {
            let token = ServiceToken {
                name: String::new(),
                project: shop(),
                role,
                secret_hash: Digest::default(),
                expires_at: None,
            };
            for permission in Permission::ALL {
                let person = Standing {
                    project: Some(role),
                    ..Standing::default()
                };
                let expected = permission != Permission::CreateProjects && permission.granted_to(person);
                assert_eq!(
                    permission.granted_to(token.standing(Some(&shop()))),
                    expected,
                    "{permission:?}"
                );
                assert!(!permission.granted_to(token.standing(Some(&other))), "{permission:?}");
                assert!(!permission.granted_to(token.standing(None)), "{permission:?}");
            }
        }
    }

    #[test]
    fn ids_of_tokens_are_read_as_they_are_written() {
        let check = |text: &str, valid: bool| {
            let read = TokenId::parse(text);
            assert_eq!(read.map(|id| id.to_string()).as_deref(), valid.then_some(text));
        };
        check("00000000000000ff", true);
        check("ffffffffffffffff", true);
        check("ff", false);
        check("00000000000000FF", false);
        check("+0000000000000ff", false);
        check("00000000000000ff0", false);
    }

    #[test]
    fn the_shorter_term_is_the_smaller_and_ends_at_its_moment() {
        let (now, later) = (jiff::Timestamp::UNIX_EPOCH, jiff::Timestamp::MAX);
        assert!(Term::Until(now) < Term::Until(later) && Term::Until(later) < Term::Endless);
        assert!(Term::Until(now).is_over(now) && !Term::Until(later).is_over(now));
        assert!(!Term::from(None).is_over(later));
    }
}
