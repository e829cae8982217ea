//! Every method that is served, and what a caller needs for it: one table. A method without a row is not served.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use foldhash::fast::RandomState;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use prost_types::method_options::IdempotencyLevel;

use crate::domain::access::Permission;

/// What a caller must show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// Nothing, or an access token of an active user.
    MaybeUser,
    /// An access token of an active user. A service token does not do.
    User,
    /// An access token of an active user, or a service token.
    Principal,
    /// One of these with this permission, in the project that the request names.
    Permission(Permission),
    /// An environment key of either kind.
    AnyKey,
    /// A server key.
    ServerKey,
}

/// Where a method runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// On the runtime that the connection belongs to: it reads memory only.
    Connection,
    /// On the runtime for administration: it may hash passwords and ask PostgreSQL.
    Administration,
}

/// What kind of load a call is: each kind has its own share of what may be in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// A question of an application's.
    Evaluation,
    /// Events of experiments, which are stored.
    Events,
    /// Administration by somebody who is known.
    Administration,
    /// Logins and the like: anybody may call them.
    Login,
    /// None that has such a share. Streams have bounds of their own, and whether a server lives is to be told whatever its load.
    Unbounded,
}

/// A method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method {
    /// As it stands in the request: `/package.Service/Method`.
    pub path: &'static str,
    /// What a caller must show.
    pub needs: Needs,
    /// Whether its response is a stream, which outlives any deadline.
    pub streams: bool,
    /// Its place in the table, by which it is counted.
    pub ordinal: usize,
}

/// The methods that the proto files mark as ones that only read.
static READING: LazyLock<HashSet<String>> = LazyLock::new(|| {
    // What cannot be read marks nothing: then all methods count as writing.
    let set = FileDescriptorSet::decode(crate::pb::DESCRIPTORS).unwrap_or_default();
    let mut reading = HashSet::new();
    for file in &set.file {
        for service in &file.service {
            for method in &service.method {
                let level = method
                    .options
                    .as_ref()
                    .map(prost_types::MethodOptions::idempotency_level);
                if level == Some(IdempotencyLevel::NoSideEffects) {
                    reading.insert(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
                }
            }
        }
    }
    reading
});

impl Method {
    /// Whether it changes nothing, as the proto files have it.
    pub fn only_reads(&self) -> bool {
        READING.contains(self.path)
    }

    /// Whether anybody may call it who shows no credential.
    pub fn is_open(&self) -> bool {
        match self.needs {
            Needs::Nothing | Needs::MaybeUser => true,
            Needs::User | Needs::Principal | Needs::Permission(_) | Needs::AnyKey | Needs::ServerKey => false,
        }
    }

    /// Whether it may take minutes: it deletes what has years of history, or reads all of it.
    pub fn is_long(&self) -> bool {
        const LONG: [&str; 7] = [
            "/halyard.admin.v1.ProjectService/DeleteProject",
            "/halyard.admin.v1.EnvironmentService/DeleteEnvironment",
            "/halyard.admin.v1.FlagService/DeleteFlag",
            "/halyard.admin.v1.SegmentService/DeleteSegment",
            "/halyard.admin.v1.SegmentService/ActivateSegmentUpload",
            "/halyard.admin.v1.ExperimentService/GetResults",
            "/halyard.admin.v1.AuditService/VerifyChain",
        ];
        LONG.contains(&self.path)
    }

    /// What kind of load it is.
    pub fn load(&self) -> Load {
        if self.streams {
            return Load::Unbounded;
        }
        match (self.place(), self.is_open()) {
            (Place::Administration, true) => Load::Login,
            (Place::Administration, false) => Load::Administration,
            (Place::Connection, true) => Load::Unbounded,
            (Place::Connection, false) if self.path.ends_with("/Track") => Load::Events,
            (Place::Connection, false) => Load::Evaluation,
        }
    }

    /// Where it runs.
    pub fn place(&self) -> Place {
        if self.path.starts_with("/halyard.admin.") {
            Place::Administration
        } else {
            Place::Connection
        }
    }
}

const fn unary(path: &'static str, needs: Needs) -> Method {
    Method {
        path,
        needs,
        streams: false,
        ordinal: 0,
    }
}

const fn streaming(path: &'static str, needs: Needs) -> Method {
    Method {
        path,
        needs,
        streams: true,
        ordinal: 0,
    }
}

/// The rows, each with its place.
const fn numbered<const N: usize>(mut rows: [Method; N]) -> [Method; N] {
    let mut n = 0;
    while n < N {
        rows[n].ordinal = n;
        n += 1;
    }
    rows
}

/// The table.
pub const METHODS: &[Method] = {
    use Needs::{AnyKey, MaybeUser, Nothing, Permission as May, Principal, ServerKey, User};
    use Permission::{
        Change, CreateProjects, Delete, DeleteProject, ManageEnvironments, ManageInstance, ManageMembers, Read,
        ReadAudit,
    };
    const ROWS: &[Method] = &numbered([
        unary("/halyard.admin.v1.AuthService/SignUp", Nothing),
        unary("/halyard.admin.v1.AuthService/Login", Nothing),
        unary("/halyard.admin.v1.AuthService/Refresh", Nothing),
        unary("/halyard.admin.v1.AuthService/Logout", User),
        unary("/halyard.admin.v1.AuthService/ChangePassword", User),
        unary("/halyard.admin.v1.AuthService/WhoAmI", Principal),
        unary("/halyard.admin.v1.AuthService/AcceptInvitation", MaybeUser),
        unary("/halyard.admin.v1.UserService/CreateUser", May(ManageInstance)),
        unary("/halyard.admin.v1.UserService/GetUser", May(ManageInstance)),
        unary("/halyard.admin.v1.UserService/ListUsers", May(ManageInstance)),
        unary("/halyard.admin.v1.UserService/UpdateUser", May(ManageInstance)),
        unary("/halyard.admin.v1.UserService/DeleteUser", May(ManageInstance)),
        unary("/halyard.admin.v1.ProjectService/CreateProject", May(CreateProjects)),
        unary("/halyard.admin.v1.ProjectService/GetProject", May(Read)),
        unary("/halyard.admin.v1.ProjectService/ListProjects", Principal),
        unary(
            "/halyard.admin.v1.ProjectService/UpdateProject",
            May(ManageEnvironments),
        ),
        unary("/halyard.admin.v1.ProjectService/DeleteProject", May(DeleteProject)),
        unary("/halyard.admin.v1.ProjectService/ListMembers", May(Read)),
        unary("/halyard.admin.v1.ProjectService/SetMember", May(ManageMembers)),
        // Whoever may read may leave; removing others asks for more, and is the store's to refuse.
        unary("/halyard.admin.v1.ProjectService/RemoveMember", May(Read)),
        unary("/halyard.admin.v1.ProjectService/CreateInvitation", May(ManageMembers)),
        unary("/halyard.admin.v1.ProjectService/ListInvitations", May(ManageMembers)),
        unary("/halyard.admin.v1.ProjectService/RevokeInvitation", May(ManageMembers)),
        unary(
            "/halyard.admin.v1.ServiceTokenService/CreateServiceToken",
            May(ManageMembers),
        ),
        unary("/halyard.admin.v1.ServiceTokenService/ListServiceTokens", May(Read)),
        unary(
            "/halyard.admin.v1.ServiceTokenService/RevokeServiceToken",
            May(ManageMembers),
        ),
        unary(
            "/halyard.admin.v1.EnvironmentService/CreateEnvironment",
            May(ManageEnvironments),
        ),
        unary("/halyard.admin.v1.EnvironmentService/GetEnvironment", May(Read)),
        unary("/halyard.admin.v1.EnvironmentService/ListEnvironments", May(Read)),
        unary(
            "/halyard.admin.v1.EnvironmentService/UpdateEnvironment",
            May(ManageEnvironments),
        ),
        unary(
            "/halyard.admin.v1.EnvironmentService/DeleteEnvironment",
            May(ManageEnvironments),
        ),
        unary(
            "/halyard.admin.v1.EnvironmentService/CreateKey",
            May(ManageEnvironments),
        ),
        unary("/halyard.admin.v1.EnvironmentService/ListKeys", May(Read)),
        unary("/halyard.admin.v1.EnvironmentService/GetPropagation", May(Read)),
        unary(
            "/halyard.admin.v1.EnvironmentService/RotateKey",
            May(ManageEnvironments),
        ),
        unary(
            "/halyard.admin.v1.EnvironmentService/RevokeKey",
            May(ManageEnvironments),
        ),
        unary("/halyard.admin.v1.FlagService/CreateFlag", May(Change)),
        unary("/halyard.admin.v1.FlagService/GetFlag", May(Read)),
        unary("/halyard.admin.v1.FlagService/ListFlags", May(Read)),
        unary("/halyard.admin.v1.FlagService/UpdateFlag", May(Change)),
        unary("/halyard.admin.v1.FlagService/ArchiveFlag", May(Change)),
        unary("/halyard.admin.v1.FlagService/DeleteFlag", May(Delete)),
        unary("/halyard.admin.v1.FlagService/GetFlagConfiguration", May(Read)),
        unary("/halyard.admin.v1.FlagService/UpdateFlagConfiguration", May(Change)),
        unary("/halyard.admin.v1.FlagService/ToggleFlags", May(Change)),
        unary("/halyard.admin.v1.FlagService/RestoreFlag", May(Change)),
        unary("/halyard.admin.v1.FlagService/ListRevisions", May(Read)),
        unary("/halyard.admin.v1.FlagService/RollbackFlagConfiguration", May(Change)),
        unary("/halyard.admin.v1.FlagService/TestEvaluate", May(Read)),
        unary("/halyard.admin.v1.FlagService/EvaluateAt", May(Read)),
        unary("/halyard.admin.v1.SegmentService/CreateSegment", May(Change)),
        unary("/halyard.admin.v1.SegmentService/GetSegment", May(Read)),
        unary("/halyard.admin.v1.SegmentService/ListSegments", May(Read)),
        unary("/halyard.admin.v1.SegmentService/UpdateSegment", May(Change)),
        unary("/halyard.admin.v1.SegmentService/DeleteSegment", May(Delete)),
        unary("/halyard.admin.v1.SegmentService/GetSegmentConfiguration", May(Read)),
        unary(
            "/halyard.admin.v1.SegmentService/UpdateSegmentConfiguration",
            May(Change),
        ),
        unary("/halyard.admin.v1.SegmentService/CreateSegmentUpload", May(Change)),
        unary("/halyard.admin.v1.SegmentService/UploadSegmentKeys", May(Change)),
        unary("/halyard.admin.v1.SegmentService/ActivateSegmentUpload", May(Change)),
        unary("/halyard.admin.v1.SegmentService/ListSegmentKeys", May(Read)),
        unary("/halyard.admin.v1.ExperimentService/CreateExperiment", May(Change)),
        unary("/halyard.admin.v1.ExperimentService/GetExperiment", May(Read)),
        unary("/halyard.admin.v1.ExperimentService/ListExperiments", May(Read)),
        unary("/halyard.admin.v1.ExperimentService/UpdateExperiment", May(Change)),
        unary("/halyard.admin.v1.ExperimentService/StartExperiment", May(Change)),
        unary("/halyard.admin.v1.ExperimentService/PauseExperiment", May(Change)),
        unary("/halyard.admin.v1.ExperimentService/ResumeExperiment", May(Change)),
        unary("/halyard.admin.v1.ExperimentService/StopExperiment", May(Change)),
        unary("/halyard.admin.v1.ExperimentService/CreateLayer", May(Change)),
        unary("/halyard.admin.v1.ExperimentService/ListLayers", May(Read)),
        unary("/halyard.admin.v1.ExperimentService/DeleteLayer", May(Delete)),
        unary("/halyard.admin.v1.ExperimentService/ListUnitAssignments", May(Read)),
        unary("/halyard.admin.v1.ExperimentService/DeleteUnitAssignments", May(Delete)),
        streaming("/halyard.admin.v1.ExperimentService/ExportAssignments", May(Read)),
        unary("/halyard.admin.v1.ExperimentService/GetResults", May(Read)),
        unary("/halyard.admin.v1.AuditService/ListEntries", May(ReadAudit)),
        unary("/halyard.admin.v1.AuditService/GetEntry", May(ReadAudit)),
        unary("/halyard.admin.v1.AuditService/VerifyChain", May(ReadAudit)),
        unary("/halyard.admin.v1.AuditService/ListChains", May(ManageInstance)),
        unary("/halyard.evaluation.v1.EvaluationService/Evaluate", AnyKey),
        unary("/halyard.evaluation.v1.EvaluationService/EvaluateAll", AnyKey),
        unary("/halyard.evaluation.v1.EvaluationService/GetAssignment", AnyKey),
        unary("/halyard.evaluation.v1.EvaluationService/Track", AnyKey),
        streaming("/halyard.evaluation.v1.WatchService/Watch", ServerKey),
        streaming("/halyard.evaluation.v1.WatchService/WatchEvaluations", AnyKey),
        unary("/halyard.evaluation.v1.WatchService/Acknowledge", AnyKey),
        unary("/grpc.health.v1.Health/Check", Nothing),
        streaming("/grpc.health.v1.Health/Watch", Nothing),
        streaming("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Nothing),
        streaming(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            Nothing,
        ),
    ]);
    ROWS
};

/// The table by path.
#[derive(Debug)]
pub struct Methods(HashMap<&'static str, &'static Method, RandomState>);

impl Default for Methods {
    fn default() -> Self {
        Self(METHODS.iter().map(|method| (method.path, method)).collect())
    }
}

impl Methods {
    /// Those that are not administration.
    pub fn of_applications() -> Self {
        let methods = METHODS.iter().filter(|method| method.place() != Place::Administration);
        Self(methods.map(|method| (method.path, method)).collect())
    }

    /// The method of a path.
    pub fn get(&self, path: &str) -> Option<&'static Method> {
        self.0.get(path).copied()
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    /// Every method of our own proto files, with whether its response is a stream.
    fn described() -> Vec<(String, bool)> {
        let files = prost_types::FileDescriptorSet::decode(crate::pb::DESCRIPTORS)
            .unwrap()
            .file;
        let ours = files.into_iter().filter(|file| file.package().starts_with("halyard."));
        ours.flat_map(|file| {
            let package = file.package().to_owned();
            file.service.into_iter().flat_map(move |service| {
                let prefix = format!("/{package}.{}", service.name());
                let methods = service.method.into_iter();
                methods.map(move |method| (format!("{prefix}/{}", method.name()), method.server_streaming()))
            })
        })
        .collect()
    }

    #[test]
    fn what_may_take_minutes_is_there() {
        assert_eq!(METHODS.iter().filter(|method| method.is_long()).count(), 7);
    }

    #[test]
    fn every_method_has_a_row_and_every_row_a_method() {
        let methods = Methods::default();
        let described = described();
        for (path, streams) in &described {
            let row = methods.get(path).unwrap_or_else(|| panic!("{path} has no row"));
            assert_eq!(row.streams, *streams, "{path}");
        }
        for (n, row) in METHODS.iter().enumerate() {
            assert_eq!(row.ordinal, n, "{}", row.path);
        }
        let ours = METHODS.iter().filter(|method| method.path.starts_with("/halyard."));
        assert_eq!(ours.count(), described.len());
    }

    #[test]
    fn every_call_is_the_load_that_it_is() {
        let of = |load: Load| {
            let methods = METHODS.iter().filter(|method| method.load() == load);
            let names = methods.map(|method| method.path.rsplit('/').next().unwrap());
            names.collect::<Vec<_>>()
        };
        assert_eq!(of(Load::Login), ["SignUp", "Login", "Refresh", "AcceptInvitation"]);
        assert_eq!(of(Load::Events), ["Track"]);
        assert_eq!(
            of(Load::Evaluation),
            ["Evaluate", "EvaluateAll", "GetAssignment", "Acknowledge"]
        );
        let mut unbounded = METHODS.iter().filter(|method| method.load() == Load::Unbounded);
        assert!(unbounded.all(|method| method.streams || method.path == "/grpc.health.v1.Health/Check"));
    }

    #[test]
    fn only_administration_leaves_the_connections_runtime() {
        for method in METHODS {
            let administration = method.place() == Place::Administration;
            assert_eq!(administration, method.path.contains(".admin."), "{}", method.path);
            if administration {
                assert!(
                    !matches!(method.needs, Needs::AnyKey | Needs::ServerKey),
                    "{}",
                    method.path
                );
            }
        }
    }
}
