//! What can go wrong in the store, by what the caller can do about it; and the one place that reads SQLSTATEs.

use std::fmt;

use deadpool_postgres::PoolError;
use tokio_postgres::error::{DbError, SqlState};

use super::connect::Failure;
use crate::domain::form;
use crate::domain::invalid::Violations;

/// Kinds of things that the store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Entity {
    /// A project.
    Project,
    /// An environment.
    Environment,
    /// An environment key.
    Key,
    /// A flag.
    Flag,
    /// A flag's configuration in an environment.
    FlagConfiguration,
    /// A segment.
    Segment,
    /// A segment's configuration in an environment.
    SegmentConfiguration,
    /// An upload of targeting keys.
    SegmentUpload,
    /// An experiment.
    Experiment,
    /// A layer of experiments.
    Layer,
    /// Stored assignments of a unit.
    Assignment,
    /// A revision of an environment.
    Revision,
    /// A user.
    User,
    /// A member of a project.
    Member,
    /// An invitation to a project.
    Invitation,
    /// A service token.
    ServiceToken,
    /// A login.
    Session,
    /// A person as an OpenID Connect issuer knows them.
    Identity,
    /// A chain of the audit log.
    AuditChain,
    /// An entry of the audit log.
    AuditEntry,
    /// A method of the service.
    Method,
}

impl Entity {
    /// The name, as audit entries and callers see it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Project => "project",
            Self::Environment => "environment",
            Self::Key => "key",
            Self::Flag => "flag",
            Self::FlagConfiguration => "flag_configuration",
            Self::Segment => "segment",
            Self::SegmentConfiguration => "segment_configuration",
            Self::SegmentUpload => "segment_upload",
            Self::Experiment => "experiment",
            Self::Layer => "layer",
            Self::Assignment => "assignment",
            Self::Revision => "revision",
            Self::User => "user",
            Self::Member => "member",
            Self::Invitation => "invitation",
            Self::ServiceToken => "service_token",
            Self::Session => "session",
            Self::Identity => "identity",
            Self::AuditChain => "audit_chain",
            Self::AuditEntry => "audit_entry",
            Self::Method => "method",
        }
    }
}

impl fmt::Display for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why the store did not do what it was asked. Except where said, nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request makes no sense. Paths begin at the request: `flag.variants[2].key`.
    #[error("the request is invalid: {0}")]
    Invalid(Violations),
    /// It does not exist, and the caller may know that.
    #[error("there is no {entity} {key}")]
    NotFound {
        /// What kind of thing.
        entity: Entity,
        /// Its key.
        key: String,
    },
    /// The key is taken.
    #[error("{entity} {key} exists already")]
    AlreadyExists {
        /// What kind of thing.
        entity: Entity,
        /// Its key.
        key: String,
    },
    /// It was changed since the caller read it: read again.
    #[error("{entity} {key} was changed since it was read")]
    Stale {
        /// What kind of thing.
        entity: Entity,
        /// Its key.
        key: String,
    },
    /// The caller may not, or may not know whether the thing exists.
    #[error("the caller may not do this")]
    Denied,
    /// The state forbids it; something else has to be changed first.
    #[error("{entity} {key}: {description}")]
    Blocked {
        /// What kind of thing cannot be changed.
        entity: Entity,
        /// Its key.
        key: String,
        /// What blocks, a sentence without its subject.
        description: String,
    },
    /// There are as many as there may be.
    #[error("there are {limit} entities of kind {entity} already, the limit")]
    LimitReached {
        /// Of what.
        entity: Entity,
        /// How many there may be.
        limit: usize,
    },
    /// Others are doing what few may do at a time: the same request may be tried again, a little later.
    #[error("others are doing what few may do at a time")]
    Busy,
    /// So many wait for a connection that there is no room for more: the same request may be tried again, a little later.
    #[error("too many wait for the database")]
    Crowded,
    /// The caller's deadline was over before there was anything to commit.
    #[error("the deadline is over")]
    Late,
    /// The request id belongs to another request of the same caller.
    #[error("the request id was used for another request")]
    RequestIdReused,
    /// Another transaction was in the way: the same request may be tried again at once.
    #[error("another transaction was in the way")]
    Conflict(#[source] tokio_postgres::Error),
    /// What was to be written was edited by hand in the database at the same moment: the same request may be tried again at once.
    #[error("the rows were edited in the database at the same time")]
    HandEdited,
    /// It took longer than a statement may: usually a lock that someone holds.
    #[error("a statement took too long")]
    Timeout(#[source] tokio_postgres::Error),
    /// PostgreSQL cannot be asked now.
    #[error("the database is not available")]
    Unavailable(#[source] Cause),
    /// PostgreSQL went away during the commit: the write may have been made. A request id makes trying again safe.
    #[error("the database went away during a commit")]
    Unanswered(#[source] Cause),
    /// A row breaks an invariant: it was edited by hand, or written by a newer version.
    #[error("the stored {column} cannot be read")]
    Corrupt {
        /// Which column.
        column: &'static str,
        /// What is wrong with it.
        #[source]
        flaw: Flaw,
    },
    /// PostgreSQL refused what the code should never ask.
    #[error("the database refused a statement")]
    Bug(#[source] Cause),
}

/// Where a failure came from.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// A statement or a connection.
    #[error(transparent)]
    Postgres(#[from] tokio_postgres::Error),
    /// The connection must be encrypted, and there is nobody to do it with.
    #[error(
        "PostgreSQL there does not speak TLS, which sslmode asks for: set ssl = on there, or write sslmode=disable for a path that \
         nobody else can reach"
    )]
    NoTls(#[source] tokio_postgres::Error),
    /// The pool had no connection to give.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The pool could not be made.
    #[error(transparent)]
    Build(#[from] deadpool_postgres::BuildError),
    /// The server is older than what is supported; its `server_version_num`.
    #[error("PostgreSQL 14 or newer is needed; this is {0}")]
    Version(i32),
    /// The database's clock is far ahead of ours.
    #[error("the database's clock says that it is {database}, and ours {here}")]
    Clock {
        /// The database's day.
        database: jiff::civil::Date,
        /// Our day.
        here: jiff::civil::Date,
    },
    /// Work was given up before it began: the process is ending.
    #[error(transparent)]
    GivenUp(#[from] tokio::task::JoinError),
    /// A statement that always answers with a row answered with none.
    #[error("a statement returned no row")]
    NoRow,
    /// An entity that the audit log cannot keep.
    #[error("an audited entity cannot be serialised")]
    Unserialisable(#[source] serde_json::Error),
}

/// What is wrong with a stored value.
#[derive(Debug, thiserror::Error)]
pub enum Flaw {
    /// It is not of the type that the schema gives it.
    #[error(transparent)]
    Column(#[from] tokio_postgres::Error),
    /// It breaks a rule of the domain.
    #[error(transparent)]
    Rule(#[from] Violations),
    /// A form that cannot be read.
    #[error(transparent)]
    Form(#[from] form::Unreadable),
    /// It is out of its range.
    #[error("the value is out of range")]
    Range,
}

/// What the violation of a constraint means to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// The thing exists already.
    Taken(Entity),
    /// The thing it refers to went away meanwhile.
    Gone(Entity),
    /// Locks and checks should have made it impossible.
    Impossible,
}

/// Every named constraint of the schema that a statement of ours could violate.
const CONSTRAINTS: &[(&str, Meaning)] = &[
    ("store_identity_pkey", Meaning::Impossible),
    ("store_identity_singleton", Meaning::Impossible),
    ("users_pkey", Meaning::Taken(Entity::User)),
    ("users_email_key", Meaning::Taken(Entity::User)),
    ("users_instance_role_check", Meaning::Impossible),
    ("users_password_check", Meaning::Impossible),
    ("identities_pkey", Meaning::Taken(Entity::Identity)),
    ("identities_user_fkey", Meaning::Gone(Entity::User)),
    ("members_identity_check", Meaning::Impossible),
    ("members_identity_fkey", Meaning::Gone(Entity::Identity)),
    ("sessions_pkey", Meaning::Impossible),
    ("sessions_user_fkey", Meaning::Gone(Entity::User)),
    ("sessions_hash_check", Meaning::Impossible),
    ("projects_pkey", Meaning::Impossible),
    ("projects_key_key", Meaning::Taken(Entity::Project)),
    ("members_pkey", Meaning::Impossible),
    ("members_project_fkey", Meaning::Gone(Entity::Project)),
    ("members_user_fkey", Meaning::Gone(Entity::User)),
    ("members_role_check", Meaning::Impossible),
    ("environments_pkey", Meaning::Impossible),
    ("environments_project_key_key", Meaning::Taken(Entity::Environment)),
    ("environments_project_id_key", Meaning::Impossible),
    ("environments_project_fkey", Meaning::Gone(Entity::Project)),
    ("environment_heads_pkey", Meaning::Impossible),
    ("environment_heads_environment_fkey", Meaning::Gone(Entity::Environment)),
    ("environment_heads_digest_check", Meaning::Impossible),
    ("access_head_pkey", Meaning::Impossible),
    ("access_head_singleton", Meaning::Impossible),
    ("environment_keys_pkey", Meaning::Taken(Entity::Key)),
    ("environment_keys_environment_fkey", Meaning::Gone(Entity::Environment)),
    ("environment_keys_kind_check", Meaning::Impossible),
    ("environment_keys_secret_hash_check", Meaning::Impossible),
    ("environment_keys_previous_check", Meaning::Impossible),
    ("service_tokens_pkey", Meaning::Taken(Entity::ServiceToken)),
    ("service_tokens_project_fkey", Meaning::Gone(Entity::Project)),
    ("service_tokens_role_check", Meaning::Impossible),
    ("service_tokens_secret_hash_check", Meaning::Impossible),
    ("service_tokens_created_by_check", Meaning::Impossible),
    ("invitations_pkey", Meaning::Taken(Entity::Invitation)),
    ("invitations_project_fkey", Meaning::Gone(Entity::Project)),
    ("invitations_role_check", Meaning::Impossible),
    ("invitations_secret_hash_check", Meaning::Impossible),
    ("invitations_accepted_check", Meaning::Impossible),
    ("invitations_spent_check", Meaning::Impossible),
    ("invitations_created_by_check", Meaning::Impossible),
    ("credential_uses_pkey", Meaning::Impossible),
    ("credential_uses_kind_check", Meaning::Impossible),
    ("propagation_pkey", Meaning::Impossible),
    ("hand_edits_pkey", Meaning::Impossible),
    ("hand_edits_item_check", Meaning::Impossible),
    ("flags_pkey", Meaning::Impossible),
    ("flags_project_key_key", Meaning::Taken(Entity::Flag)),
    ("flags_project_id_key", Meaning::Impossible),
    ("flags_project_fkey", Meaning::Gone(Entity::Project)),
    ("flags_value_type_check", Meaning::Impossible),
    ("flags_lifecycle_check", Meaning::Impossible),
    ("flags_expected_removal_check", Meaning::Impossible),
    ("flag_variants_pkey", Meaning::Impossible),
    ("flag_variants_flag_key_key", Meaning::Impossible),
    ("flag_variants_flag_fkey", Meaning::Gone(Entity::Flag)),
    ("flag_configurations_pkey", Meaning::Impossible),
    (
        "flag_configurations_environment_fkey",
        Meaning::Gone(Entity::Environment),
    ),
    ("flag_configurations_flag_fkey", Meaning::Gone(Entity::Flag)),
    ("segments_pkey", Meaning::Impossible),
    ("segments_project_key_key", Meaning::Taken(Entity::Segment)),
    ("segments_project_id_key", Meaning::Impossible),
    ("segments_project_fkey", Meaning::Gone(Entity::Project)),
    ("segment_configurations_pkey", Meaning::Impossible),
    (
        "segment_configurations_environment_fkey",
        Meaning::Gone(Entity::Environment),
    ),
    ("segment_configurations_segment_fkey", Meaning::Gone(Entity::Segment)),
    ("segment_configurations_key_list_check", Meaning::Impossible),
    ("segment_key_chunks_pkey", Meaning::Impossible),
    ("segment_key_chunks_configuration_fkey", Meaning::Impossible),
    ("segment_uploads_pkey", Meaning::Impossible),
    ("segment_uploads_environment_fkey", Meaning::Gone(Entity::Environment)),
    ("segment_uploads_segment_fkey", Meaning::Gone(Entity::Segment)),
    ("segment_upload_pieces_pkey", Meaning::Impossible),
    (
        "segment_upload_pieces_upload_fkey",
        Meaning::Gone(Entity::SegmentUpload),
    ),
    ("flag_prerequisites_pkey", Meaning::Impossible),
    ("flag_prerequisites_configuration_fkey", Meaning::Impossible),
    ("flag_prerequisites_prerequisite_fkey", Meaning::Impossible),
    ("flag_segments_pkey", Meaning::Impossible),
    ("flag_segments_configuration_fkey", Meaning::Impossible),
    ("flag_segments_segment_fkey", Meaning::Impossible),
    ("segment_parts_pkey", Meaning::Impossible),
    ("segment_parts_configuration_fkey", Meaning::Impossible),
    ("segment_parts_part_fkey", Meaning::Impossible),
    ("layers_pkey", Meaning::Impossible),
    ("layers_environment_key_key", Meaning::Taken(Entity::Layer)),
    ("layers_salt_key", Meaning::Impossible),
    ("layers_environment_id_key", Meaning::Impossible),
    ("layers_environment_fkey", Meaning::Gone(Entity::Environment)),
    ("experiments_pkey", Meaning::Impossible),
    ("experiments_environment_key_key", Meaning::Taken(Entity::Experiment)),
    ("experiments_salt_key", Meaning::Impossible),
    ("experiments_environment_id_key", Meaning::Impossible),
    ("experiments_environment_fkey", Meaning::Gone(Entity::Environment)),
    ("experiments_flag_fkey", Meaning::Gone(Entity::Flag)),
    ("experiments_layer_fkey", Meaning::Impossible),
    ("experiments_state_check", Meaning::Impossible),
    ("experiments_allocation_check", Meaning::Impossible),
    ("experiments_layer_check", Meaning::Impossible),
    ("experiments_form_check", Meaning::Impossible),
    ("experiments_stopped_check", Meaning::Impossible),
    ("experiment_arms_pkey", Meaning::Impossible),
    ("experiment_arms_variant_key", Meaning::Impossible),
    ("experiment_arms_experiment_fkey", Meaning::Gone(Entity::Experiment)),
    ("experiment_arms_weight_check", Meaning::Impossible),
    ("experiment_iterations_pkey", Meaning::Impossible),
    (
        "experiment_iterations_experiment_fkey",
        Meaning::Gone(Entity::Experiment),
    ),
    ("experiment_assignments_pkey", Meaning::Impossible),
    ("experiment_assignments_arm_fkey", Meaning::Gone(Entity::Experiment)),
    ("experiment_segments_pkey", Meaning::Impossible),
    ("experiment_segments_experiment_fkey", Meaning::Gone(Entity::Experiment)),
    ("experiment_segments_segment_fkey", Meaning::Impossible),
    ("changes_pkey", Meaning::Impossible),
    ("changes_environment_fkey", Meaning::Gone(Entity::Environment)),
    ("changes_digest_check", Meaning::Impossible),
    ("change_items_pkey", Meaning::Impossible),
    ("change_items_change_fkey", Meaning::Impossible),
    ("audit_heads_pkey", Meaning::Impossible),
    ("audit_heads_hash_check", Meaning::Impossible),
    ("audit_entries_pkey", Meaning::Impossible),
    ("audit_entries_id_key", Meaning::Impossible),
    ("audit_entries_hash_check", Meaning::Impossible),
    ("request_records_pkey", Meaning::Impossible),
    ("event_day_pkey", Meaning::Impossible),
    ("event_day_singleton", Meaning::Impossible),
    ("event_ids_pkey", Meaning::Impossible),
];

/// The names of the constraints that the store knows how to answer for.
pub fn known_constraints() -> impl Iterator<Item = &'static str> {
    CONSTRAINTS.iter().map(|&(name, _)| name)
}

impl Error {
    /// Something of this kind and key that does not exist.
    pub(super) fn not_found(entity: Entity, key: impl fmt::Display) -> Self {
        let key = key.to_string();
        Self::NotFound { entity, key }
    }

    /// What came of a commit, which may have been made if PostgreSQL did not refuse it.
    pub(super) fn of_commit(error: tokio_postgres::Error) -> Self {
        let error = Self::from(error);
        if let Self::Unavailable(cause) = error {
            return Self::Unanswered(cause);
        }
        error
    }

    /// What the state forbids; the description is a sentence without its subject.
    pub(super) fn blocked(entity: Entity, key: impl fmt::Display, description: impl Into<String>) -> Self {
        Self::Blocked {
            entity,
            key: key.to_string(),
            description: description.into(),
        }
    }

    /// The whole story for the log: what went wrong and why, but of a refusal of PostgreSQL's only what tells where. Its detail
    /// shows the failing row, which may hold the hash of a password.
    pub fn summary(&self) -> String {
        let mut summary = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            summary.push_str(": ");
            match cause.downcast_ref::<DbError>() {
                Some(refusal) => summary.push_str(&without_row(refusal)),
                None => summary.push_str(&cause.to_string()),
            }
            source = cause.source();
        }
        summary
    }

    /// The same, saying which thing it was about: PostgreSQL names a constraint, not the key that broke it.
    pub(super) fn about(self, subject: &str) -> Self {
        let key = subject.to_owned();
        match self {
            Self::AlreadyExists { entity, .. } => Self::AlreadyExists { entity, key },
            Self::NotFound { entity, .. } => Self::NotFound { entity, key },
            other @ (Self::Invalid(_)
            | Self::Stale { .. }
            | Self::Denied
            | Self::Blocked { .. }
            | Self::LimitReached { .. }
            | Self::Busy
            | Self::Crowded
            | Self::Late
            | Self::RequestIdReused
            | Self::Conflict(_)
            | Self::HandEdited
            | Self::Timeout(_)
            | Self::Unavailable(_)
            | Self::Unanswered(_)
            | Self::Corrupt { .. }
            | Self::Bug(_)) => other,
        }
    }
}

impl From<Violations> for Error {
    fn from(violations: Violations) -> Self {
        Self::Invalid(violations)
    }
}

impl From<PoolError> for Error {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => error.into(),
            PoolError::Timeout(_) | PoolError::Closed => Self::Unavailable(error.into()),
            PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => Self::Bug(error.into()),
        }
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(refusal) = error.as_db_error() else {
            return if is_without_tls(&error) {
                Self::Unavailable(Cause::NoTls(error))
            } else if is_lost(&error) {
                Self::Unavailable(error.into())
            } else {
                Self::Bug(error.into())
            };
        };
        match classify(refusal.code(), refusal.constraint()) {
            Class::Constraint(Meaning::Taken(entity)) => Self::AlreadyExists {
                entity,
                key: String::new(),
            },
            Class::Constraint(Meaning::Gone(entity)) => Self::NotFound {
                entity,
                key: String::new(),
            },
            Class::Conflict => Self::Conflict(error),
            Class::Timeout => Self::Timeout(error),
            Class::Unavailable => Self::Unavailable(error.into()),
            Class::Constraint(Meaning::Impossible) | Class::Bug => Self::Bug(error.into()),
        }
    }
}

fn without_row(refusal: &DbError) -> String {
    let named = |name: &str, value: Option<&str>| value.map(|value| format!(", {name} {value}")).unwrap_or_default();
    format!(
        "{} (SQLSTATE {}{}{})",
        refusal.message(),
        refusal.code().code(),
        named("table", refusal.table()),
        named("constraint", refusal.constraint())
    )
}

/// Whether an error that PostgreSQL did not send is the connection's end, rather than our mistake (such as a parameter of another
/// type than the statement's).
fn is_lost(error: &tokio_postgres::Error) -> bool {
    let source = std::error::Error::source(error);
    error.is_closed() || source.is_some_and(|source| source.is::<std::io::Error>() || source.is::<Failure>())
}

/// Whether the other side knows nothing of TLS. The driver has only words for it.
fn is_without_tls(error: &tokio_postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.to_string() == "server does not support TLS")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Constraint(Meaning),
    Conflict,
    Timeout,
    Unavailable,
    Bug,
}

/// What a SQLSTATE, and the constraint if one was violated, mean.
fn classify(state: &SqlState, constraint: Option<&str>) -> Class {
    if let Some(constraint) = constraint {
        let known = CONSTRAINTS.iter().find(|&&(name, _)| name == constraint);
        return known.map_or(Class::Bug, |&(_, meaning)| Class::Constraint(meaning));
    }
    match state.code() {
        // Serialization failure, deadlock.
        "40001" | "40P01" => Class::Conflict,
        // Statement timeout or cancelled; lock timeout.
        "57014" | "55P03" => Class::Timeout,
        // Shutting down, crashed, starting, database dropped; a standby; an idle transaction cut off.
        "57P01" | "57P02" | "57P03" | "57P04" | "25006" | "25P03" => Class::Unavailable,
        // Connection exceptions; refused log-ins; the database does not exist; insufficient resources.
        code if ["08", "28", "3D", "53"].iter().any(|class| code.starts_with(class)) => Class::Unavailable,
        _ => Class::Bug,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(code: &str, constraint: Option<&str>, expected: Class) {
        assert_eq!(classify(&SqlState::from_code(code), constraint), expected, "{code}");
    }

    #[test]
    fn states_say_what_the_caller_can_do() {
        check("40001", None, Class::Conflict);
        check("40P01", None, Class::Conflict);
        check("57014", None, Class::Timeout);
        check("57P01", None, Class::Unavailable);
        check("57P03", None, Class::Unavailable);
        check("53300", None, Class::Unavailable);
        check("08006", None, Class::Unavailable);
        check("42601", None, Class::Bug);
    }

    #[test]
    fn constraints_say_what_was_in_the_way() {
        let taken = Class::Constraint(Meaning::Taken(Entity::Project));
        check("23505", Some("projects_key_key"), taken);
        check("23505", Some("unheard_of"), Class::Bug);
        let gone = Class::Constraint(Meaning::Gone(Entity::User));
        check("23503", Some("members_user_fkey"), gone);
    }
}
