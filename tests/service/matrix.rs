//! The matrix: every method of the descriptor set × everyone who may call it × where they call it, each cell asserted from one
//! table. A method without a row fails, and so does a row without a method.
//!
//! What is asserted is who passes the gate, by the code: `UNAUTHENTICATED`, `PERMISSION_DENIED`, or anything else. So a request
//! need be no more than one that comes so far: [`request`] makes it from the description of its message, naming the flag `f` and
//! the segment `s`, which exist, and only validating. A row whose gate lies deeper has a request of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use halyard::auth::keys;
use halyard::pb::admin::v1 as pb;
use halyard::pb::admin::v1::ProjectRole::{self, Admin, Developer, Owner, Viewer};
use halyard::pb::admin::v1::segment_service_client::SegmentServiceClient;
use prost::Message as _;
use prost_types::field_descriptor_proto::Type;
use prost_types::method_options::IdempotencyLevel;
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use tonic::{Code, Status};

use crate::app::{App, bool_flag};
use crate::people::{Person, service_token, showing};
use crate::raw;
use crate::support::{database, eventually, within};

/// Who passes the gate of a method.
#[derive(Debug, Clone, Copy)]
enum Gate {
    /// Whoever calls, whatever they show.
    Open,
    /// Who shows nothing, and people.
    PeopleAndStrangers,
    /// People.
    People,
    /// People, and service tokens.
    Administrating,
    /// Instance administrators.
    Administrators,
    /// Who has one of these roles in the project: `o`wner, `a`dmin, `d`eveloper, `v`iewer. Where the environment is protected, or
    /// the project has one that is: the second.
    Roles(&'static str, &'static str),
    /// Environment keys: `s`erver, `c`lient.
    Keys(&'static str),
}

const READ: Gate = Gate::Roles("oadv", "oadv");
const CHANGE: Gate = Gate::Roles("oad", "oa");
/// What alters no answer by itself.
const PREPARE: Gate = Gate::Roles("oad", "oad");
const MANAGE: Gate = Gate::Roles("oa", "oa");
const OWN: Gate = Gate::Roles("o", "o");

/// The table.
const ROWS: &[(&str, Gate)] = &[
    ("admin.v1.AuthService/SignUp", Gate::Open),
    ("admin.v1.AuthService/Login", Gate::Open),
    ("admin.v1.AuthService/Refresh", Gate::Open),
    ("admin.v1.AuthService/Logout", Gate::People),
    ("admin.v1.AuthService/ChangePassword", Gate::People),
    ("admin.v1.AuthService/WhoAmI", Gate::Administrating),
    ("admin.v1.AuthService/AcceptInvitation", Gate::PeopleAndStrangers),
    ("admin.v1.UserService/CreateUser", Gate::Administrators),
    ("admin.v1.UserService/GetUser", Gate::Administrators),
    ("admin.v1.UserService/ListUsers", Gate::Administrators),
    ("admin.v1.UserService/UpdateUser", Gate::Administrators),
    ("admin.v1.UserService/DeleteUser", Gate::Administrators),
    ("admin.v1.ProjectService/CreateProject", Gate::People),
    ("admin.v1.ProjectService/GetProject", READ),
    ("admin.v1.ProjectService/ListProjects", Gate::Administrating),
    ("admin.v1.ProjectService/UpdateProject", MANAGE),
    ("admin.v1.ProjectService/DeleteProject", OWN),
    ("admin.v1.ProjectService/ListMembers", READ),
    ("admin.v1.ProjectService/SetMember", MANAGE),
    ("admin.v1.ProjectService/RemoveMember", READ),
    ("admin.v1.ProjectService/CreateInvitation", MANAGE),
    ("admin.v1.ProjectService/ListInvitations", MANAGE),
    ("admin.v1.ProjectService/RevokeInvitation", MANAGE),
    ("admin.v1.ServiceTokenService/CreateServiceToken", MANAGE),
    ("admin.v1.ServiceTokenService/ListServiceTokens", READ),
    ("admin.v1.ServiceTokenService/RevokeServiceToken", MANAGE),
    ("admin.v1.EnvironmentService/CreateEnvironment", MANAGE),
    ("admin.v1.EnvironmentService/GetEnvironment", READ),
    ("admin.v1.EnvironmentService/ListEnvironments", READ),
    ("admin.v1.EnvironmentService/UpdateEnvironment", MANAGE),
    ("admin.v1.EnvironmentService/DeleteEnvironment", MANAGE),
    ("admin.v1.EnvironmentService/CreateKey", MANAGE),
    ("admin.v1.EnvironmentService/ListKeys", READ),
    ("admin.v1.EnvironmentService/GetPropagation", READ),
    ("admin.v1.EnvironmentService/RotateKey", MANAGE),
    ("admin.v1.EnvironmentService/RevokeKey", MANAGE),
    ("admin.v1.FlagService/CreateFlag", CHANGE),
    ("admin.v1.FlagService/GetFlag", READ),
    ("admin.v1.FlagService/ListFlags", READ),
    ("admin.v1.FlagService/UpdateFlag", CHANGE),
    ("admin.v1.FlagService/ArchiveFlag", CHANGE),
    ("admin.v1.FlagService/RestoreFlag", CHANGE),
    ("admin.v1.FlagService/DeleteFlag", MANAGE),
    ("admin.v1.FlagService/GetFlagConfiguration", READ),
    ("admin.v1.FlagService/UpdateFlagConfiguration", CHANGE),
    ("admin.v1.FlagService/ToggleFlags", CHANGE),
    ("admin.v1.FlagService/ListRevisions", READ),
    ("admin.v1.FlagService/RollbackFlagConfiguration", CHANGE),
    ("admin.v1.FlagService/TestEvaluate", READ),
    ("admin.v1.FlagService/EvaluateAt", READ),
    ("admin.v1.SegmentService/CreateSegment", PREPARE),
    ("admin.v1.SegmentService/GetSegment", READ),
    ("admin.v1.SegmentService/ListSegments", READ),
    ("admin.v1.SegmentService/UpdateSegment", PREPARE),
    ("admin.v1.SegmentService/DeleteSegment", MANAGE),
    ("admin.v1.SegmentService/GetSegmentConfiguration", READ),
    ("admin.v1.SegmentService/UpdateSegmentConfiguration", CHANGE),
    ("admin.v1.SegmentService/CreateSegmentUpload", CHANGE),
    ("admin.v1.SegmentService/UploadSegmentKeys", CHANGE),
    ("admin.v1.SegmentService/ActivateSegmentUpload", CHANGE),
    ("admin.v1.SegmentService/ListSegmentKeys", READ),
    ("admin.v1.ExperimentService/CreateExperiment", CHANGE),
    ("admin.v1.ExperimentService/GetExperiment", READ),
    ("admin.v1.ExperimentService/ListExperiments", READ),
    ("admin.v1.ExperimentService/UpdateExperiment", CHANGE),
    ("admin.v1.ExperimentService/StartExperiment", CHANGE),
    ("admin.v1.ExperimentService/PauseExperiment", CHANGE),
    ("admin.v1.ExperimentService/ResumeExperiment", CHANGE),
    ("admin.v1.ExperimentService/StopExperiment", CHANGE),
    ("admin.v1.ExperimentService/CreateLayer", CHANGE),
    ("admin.v1.ExperimentService/ListLayers", READ),
    ("admin.v1.ExperimentService/DeleteLayer", MANAGE),
    ("admin.v1.ExperimentService/ListUnitAssignments", READ),
    ("admin.v1.ExperimentService/DeleteUnitAssignments", MANAGE),
    ("admin.v1.ExperimentService/ExportAssignments", READ),
    ("admin.v1.ExperimentService/GetResults", READ),
    ("admin.v1.AuditService/ListEntries", MANAGE),
    ("admin.v1.AuditService/GetEntry", MANAGE),
    ("admin.v1.AuditService/VerifyChain", MANAGE),
    ("admin.v1.AuditService/ListChains", Gate::Administrators),
    ("evaluation.v1.EvaluationService/Evaluate", Gate::Keys("sc")),
    ("evaluation.v1.EvaluationService/EvaluateAll", Gate::Keys("sc")),
    ("evaluation.v1.EvaluationService/GetAssignment", Gate::Keys("sc")),
    ("evaluation.v1.EvaluationService/Track", Gate::Keys("sc")),
    ("evaluation.v1.WatchService/Watch", Gate::Keys("s")),
    ("evaluation.v1.WatchService/WatchEvaluations", Gate::Keys("sc")),
    ("evaluation.v1.WatchService/Acknowledge", Gate::Keys("sc")),
];

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    /// Shows nothing.
    Nobody,
    /// Shows what is no credential.
    Gibberish,
    Administrator,
    /// Has an account, and no role in the project.
    Stranger,
    Member(ProjectRole),
    Machine(ProjectRole),
    /// An owner whose access token has run out.
    ExpiredPerson,
    ExpiredMachine,
    RevokedMachine,
    ServerKey,
    ClientKey,
    ExpiredKey,
    RevokedKey,
}

const ROLES: [ProjectRole; 4] = [Owner, Admin, Developer, Viewer];

/// Where they call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In their project, in an environment like any other.
    Own,
    /// In their project that has a protected environment, and there.
    Protected,
    /// In a project where they have no role.
    Other,
    /// In a project that does not exist.
    Nowhere,
}

/// What comes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Passes,
    Denied,
    Unauthenticated,
}

impl Place {
    const ALL: [Self; 4] = [Self::Own, Self::Protected, Self::Other, Self::Nowhere];

    fn project(self) -> &'static str {
        match self {
            Self::Own => "shop",
            Self::Protected => "vault",
            Self::Other => "other",
            Self::Nowhere => "nowhere",
        }
    }

    fn environment(self) -> &'static str {
        match self {
            Self::Own | Self::Other | Self::Nowhere => "dev",
            Self::Protected => "prod",
        }
    }
}

/// The table's word on a cell.
fn expected(gate: Gate, who: Who, place: Place) -> Class {
    use Class::{Denied, Passes, Unauthenticated};
    let passes_if = |passes| if passes { Passes } else { Denied };
    match (gate, who) {
        (Gate::Open, _) | (Gate::PeopleAndStrangers, Who::Nobody) => Passes,
        (Gate::Keys(kinds), Who::ServerKey) => passes_if(kinds.contains('s')),
        (Gate::Keys(kinds), Who::ClientKey) => passes_if(kinds.contains('c')),
        // Of a credential of the other kind, of a dead one and of none, nothing more is said.
        (Gate::Keys(_), _)
        | (
            _,
            Who::Nobody
            | Who::Gibberish
            | Who::ExpiredPerson
            | Who::ExpiredMachine
            | Who::RevokedMachine
            | Who::ServerKey
            | Who::ClientKey
            | Who::ExpiredKey
            | Who::RevokedKey,
        ) => Unauthenticated,
        (Gate::PeopleAndStrangers | Gate::People, Who::Machine(_)) => Denied,
        (Gate::PeopleAndStrangers | Gate::People, Who::Administrator | Who::Stranger | Who::Member(_))
        | (Gate::Administrating, _)
        | (_, Who::Administrator) => Passes,
        (Gate::Administrators, Who::Stranger | Who::Member(_) | Who::Machine(_)) | (Gate::Roles(..), Who::Stranger) => {
            Denied
        }
        (Gate::Roles(plain, protected), Who::Member(role) | Who::Machine(role)) => passes_if(match place {
            Place::Own => plain.contains(letter(role)),
            Place::Protected => protected.contains(letter(role)),
            Place::Other | Place::Nowhere => false,
        }),
    }
}

fn letter(role: ProjectRole) -> char {
    match role {
        Owner => 'o',
        Admin => 'a',
        Developer => 'd',
        Viewer => 'v',
        ProjectRole::Unspecified => panic!("nobody has no role"),
    }
}

/// Everyone, with a role in `shop` and `vault` where they have one.
struct World {
    app: App,
    administrator: Person,
    stranger: Person,
    members: Vec<Person>,
    /// By project and role.
    machines: BTreeMap<(&'static str, char), String>,
    dead: BTreeMap<&'static str, String>,
    keys: crate::app::Keys,
    uploads: Uploads,
}

/// An upload of the segment's keys by project, in the environment that is called there.
type Uploads = BTreeMap<&'static str, String>;

impl World {
    async fn new() -> Self {
        Self::on(App::start().await).await
    }

    async fn on(app: App) -> Self {
        let keys = app.shop().await;
        for project in ["vault", "other"] {
            app.project(project).await;
            app.environment(project, "dev").await;
        }
        protected(&app).await;
        for project in ["shop", "vault", "other"] {
            furnish(&app, project).await;
        }
        let mut members = Vec::new();
        let mut machines = BTreeMap::new();
        for role in ROLES {
            let email = format!("{}@example.com", letter(role));
            let person = Person::member(&app, &email, "shop", role).await;
            person.becomes(&app, "vault", role).await;
            members.push(person);
            for project in ["shop", "vault"] {
                let (_, secret) = service_token(&app, project, role).await;
                machines.insert((project, letter(role)), secret);
            }
        }
        let mut world = Self {
            administrator: Person::administrator(&app).await,
            stranger: Person::new(&app, "eve@example.com").await,
            members,
            machines,
            dead: BTreeMap::new(),
            keys,
            uploads: Uploads::new(),
            app,
        };
        for place in [Place::Own, Place::Protected] {
            let upload = upload(&world.app, place).await;
            world.uploads.insert(place.project(), upload);
        }
        world.kill().await;
        world
    }

    /// Makes credentials that are good for nothing any more.
    async fn kill(&mut self) {
        let (expired, secret) = service_token(&self.app, "shop", Owner).await;
        self.dead.insert("expired machine", secret);
        let (revoked, secret) = service_token(&self.app, "shop", Owner).await;
        self.dead.insert("revoked machine", secret);
        let expired_key = self.key().await;
        let revoked_key = self.key().await;
        let kill = format!(
            "update service_tokens set expires_at = now() where id = '{expired}';
             update service_tokens set revoked_at = now() where id = '{revoked}';
             update environment_keys set expires_at = now() where id = '{}';
             update environment_keys set revoked_at = now() where id = '{}';
             update access_head set revision = revision + 1",
            keys::parse(&expired_key).unwrap().id,
            keys::parse(&revoked_key).unwrap().id,
        );
        self.app.database.client().await.batch_execute(&kill).await.unwrap();
        self.dead.insert("expired key", expired_key);
        self.dead.insert("revoked key", revoked_key);
        within("the news", self.app.server.hub().confirm_access())
            .await
            .unwrap();
    }

    async fn key(&self) -> String {
        let request = pb::CreateKeyRequest {
            project: "shop".into(),
            environment: "dev".into(),
            kind: pb::KeyKind::Server.into(),
            ..Default::default()
        };
        let made = self.app.environments().create_key(request).await.unwrap().into_inner();
        made.key.unwrap().secret
    }

    /// What somebody shows, made anew for every call: some end a session.
    fn credential(&self, who: Who, place: Place) -> Option<String> {
        let member = |role| &self.members[ROLES.iter().position(|it| *it == role).unwrap()];
        let dead = |what| Some(self.dead[what].clone());
        // Elsewhere, a machine of their own project.
        let project = match place {
            Place::Own | Place::Other | Place::Nowhere => "shop",
            Place::Protected => "vault",
        };
        match who {
            Who::Nobody => None,
            Who::Gibberish => Some("gibberish".into()),
            Who::Administrator => Some(self.administrator.token()),
            Who::Stranger => Some(self.stranger.token()),
            Who::Member(role) => Some(member(role).token()),
            Who::Machine(role) => Some(self.machines[&(project, letter(role))].clone()),
            Who::ExpiredPerson => Some(member(Owner).expired_token()),
            Who::ExpiredMachine => dead("expired machine"),
            Who::RevokedMachine => dead("revoked machine"),
            Who::ServerKey => Some(self.keys.server.clone()),
            Who::ClientKey => Some(self.keys.client.clone()),
            Who::ExpiredKey => dead("expired key"),
            Who::RevokedKey => dead("revoked key"),
        }
    }

    /// What comes of one call.
    async fn call(&self, method: &Method, who: Who, place: Place) -> Result<(), Status> {
        let credential = self.credential(who, place);
        let request = method.request(place, &self.uploads);
        raw::call(&self.app.channel, &method.path, credential.as_deref(), request)
            .await
            .map(drop)
    }
}

/// An environment of `vault` that only admins change.
async fn protected(app: &App) {
    let environment = pb::Environment {
        project: "vault".into(),
        key: "prod".into(),
        protected: true,
        ..Default::default()
    };
    let request = pb::CreateEnvironmentRequest {
        environment: Some(environment),
        ..Default::default()
    };
    app.environments().create_environment(request).await.unwrap();
}

/// A flag `f` and a segment `s`.
async fn furnish(app: &App, project: &str) {
    let flag = pb::Flag {
        project: project.into(),
        ..bool_flag("f")
    };
    app.create_flag(flag).await;
    let segment = pb::Segment {
        project: project.into(),
        key: "s".into(),
        ..Default::default()
    };
    let request = pb::CreateSegmentRequest {
        segment: Some(segment),
        ..Default::default()
    };
    let mut segments = SegmentServiceClient::new(showing(&app.channel, &app.token));
    segments.create_segment(request).await.unwrap();
}

async fn upload(app: &App, place: Place) -> String {
    let request = pb::CreateSegmentUploadRequest {
        project: place.project().into(),
        environment: place.environment().into(),
        segment: "s".into(),
    };
    let mut segments = SegmentServiceClient::new(showing(&app.channel, &app.token));
    let created = segments.create_segment_upload(request).await.unwrap();
    created.into_inner().upload
}

/// Fields that say what a request is about.
const NESTED: [&str; 7] = [
    "project",
    "environment",
    "flag",
    "segment",
    "configuration",
    "experiment",
    "layer",
];

/// A method, and the messages that its request is made of.
struct Method {
    path: String,
    name: String,
    input: String,
    only_reads: bool,
    messages: BTreeMap<String, DescriptorProto>,
}

/// Every method of our own proto files.
fn methods() -> Vec<Method> {
    let set = FileDescriptorSet::decode(halyard::pb::DESCRIPTORS).unwrap();
    let messages: BTreeMap<_, _> = set
        .file
        .iter()
        .flat_map(|file| {
            let package = file.package();
            file.message_type
                .iter()
                .map(move |message| (format!(".{package}.{}", message.name()), message.clone()))
        })
        .collect();
    let mut methods = Vec::new();
    for file in set.file.iter().filter(|file| file.package().starts_with("halyard.")) {
        for service in &file.service {
            for method in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                methods.push(Method {
                    name: path["/halyard.".len()..].to_owned(),
                    path,
                    input: method.input_type().to_owned(),
                    only_reads: method
                        .options
                        .as_ref()
                        .map(prost_types::MethodOptions::idempotency_level)
                        == Some(IdempotencyLevel::NoSideEffects),
                    messages: messages.clone(),
                });
            }
        }
    }
    methods
}

impl Method {
    /// A request that comes as far as the gate, and harms nothing if it passes.
    fn request(&self, place: Place, uploads: &Uploads) -> Vec<u8> {
        let (project, environment) = (place.project().to_owned(), place.environment().to_owned());
        match self.name.as_str() {
            // Whether answers change is what counts.
            "admin.v1.FlagService/UpdateFlag" => pb::UpdateFlagRequest {
                flag: Some(pb::Flag {
                    project,
                    client_visible: false,
                    ..bool_flag("f")
                }),
                update_mask: Some(prost_types::FieldMask {
                    paths: vec!["client_visible".into()],
                }),
                validate_only: true,
                ..Default::default()
            }
            .encode_to_vec(),
            "admin.v1.FlagService/ToggleFlags" => pb::ToggleFlagsRequest {
                project,
                environment,
                toggles: vec![pb::Toggle {
                    flag: "f".into(),
                    enabled: true,
                }],
                validate_only: true,
                ..Default::default()
            }
            .encode_to_vec(),
            _ => self.message(&self.input, place, uploads),
        }
    }

    fn message(&self, name: &str, place: Place, uploads: &Uploads) -> Vec<u8> {
        let mut bytes = Vec::new();
        let Some(message) = self.messages.get(name) else {
            return bytes;
        };
        for field in &message.field {
            self.field(field, place, uploads, &mut bytes);
        }
        bytes
    }

    fn field(&self, field: &FieldDescriptorProto, place: Place, uploads: &Uploads, bytes: &mut Vec<u8>) {
        let number = u32::try_from(field.number()).unwrap();
        let create = self.name.contains("/Create");
        let text = match field.name() {
            "environment" => place.environment(),
            "flag" => "f",
            "segment" => "s",
            "experiment" => "x",
            "layer" => "l",
            "unit" => "u",
            "upload" => uploads.get(place.project()).map_or("", String::as_str),
            "key" if create => "new",
            "key" if self.name.contains("Environment") => place.environment(),
            "key" if self.name.contains("Flag") => "f",
            "key" if self.name.contains("Segment") => "s",
            "project" | "key" => place.project(),
            _ => "",
        };
        let kind = field.r#type();
        if kind == Type::String && !text.is_empty() {
            prost::encoding::string::encode(number, &text.to_owned(), bytes);
        } else if kind == Type::Bool && field.name() == "validate_only" {
            prost::encoding::bool::encode(number, &true, bytes);
        } else if kind == Type::Uint64 {
            prost::encoding::uint64::encode(number, &1, bytes);
        } else if kind == Type::Enum {
            // Of roles the second is that of admins, whom admins may make.
            let is_role = field.type_name().ends_with("ProjectRole");
            prost::encoding::int32::encode(number, &if is_role { Admin.into() } else { 1 }, bytes);
        } else if kind == Type::Message && NESTED.contains(&field.name()) {
            let nested = self.message(field.type_name(), place, uploads);
            prost::encoding::bytes::encode(number, &nested, bytes);
        }
    }
}

fn everyone() -> Vec<Who> {
    let mut everyone = vec![
        Who::Nobody,
        Who::Gibberish,
        Who::Administrator,
        Who::Stranger,
        Who::ExpiredPerson,
        Who::ExpiredMachine,
        Who::RevokedMachine,
        Who::ServerKey,
        Who::ClientKey,
        Who::ExpiredKey,
        Who::RevokedKey,
    ];
    everyone.extend(ROLES.map(Who::Member));
    everyone.extend(ROLES.map(Who::Machine));
    everyone
}

#[test]
fn every_method_has_a_row_and_every_row_a_method() {
    let methods: Vec<_> = methods().into_iter().map(|method| method.name).collect();
    let rows: Vec<_> = ROWS.iter().map(|(name, _)| *name).collect();
    for method in &methods {
        assert!(rows.contains(&method.as_str()), "{method} has no row");
    }
    for (n, row) in rows.iter().enumerate() {
        assert!(methods.iter().any(|method| method == row), "{row} is no method");
        assert!(!rows[..n].contains(row), "{row} has two rows");
    }
}

/// What comes of a call that nobody can say more of.
fn class(answer: &Result<(), Status>) -> Class {
    match answer.as_ref().err().map(Status::code) {
        Some(Code::Unauthenticated) => Class::Unauthenticated,
        Some(Code::PermissionDenied) => Class::Denied,
        _ => Class::Passes,
    }
}

/// What a method that lets somebody in may answer: these say that it did not come to an answer.
fn is_broken(answer: &Result<(), Status>) -> bool {
    let code = answer.as_ref().err().map(Status::code);
    matches!(
        code,
        Some(Code::Internal | Code::Unimplemented | Code::Unavailable | Code::Unknown | Code::DeadlineExceeded)
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn every_cell_of_the_matrix_is_as_the_table_says() {
    let world = World::new().await;
    let mut wrong = Vec::new();
    for method in methods() {
        let Some(&(_, gate)) = ROWS.iter().find(|(name, _)| *name == method.name) else {
            continue;
        };
        let cells = everyone().into_iter().map(async |who| {
            let answers = join_all(Place::ALL.map(|place| world.call(&method, who, place))).await;
            let mut wrong = Vec::new();
            for (place, answer) in Place::ALL.into_iter().zip(&answers) {
                let expected = expected(gate, who, place);
                if class(answer) != expected || is_broken(answer) {
                    wrong.push(format!(
                        "{} {who:?} {place:?}: {expected:?}, not {answer:?}",
                        method.name
                    ));
                }
            }
            // Who is denied hears the same of what exists and of what does not.
            let told = |answer: &Result<(), Status>| {
                let status = answer.as_ref().err();
                status.map(|status| (status.message().to_owned(), status.details().to_vec()))
            };
            let [_, _, other, nowhere] = &answers[..] else {
                panic!("four places");
            };
            if expected(gate, who, Place::Other) == Class::Denied && told(other) != told(nowhere) {
                wrong.push(format!(
                    "{} {who:?} learns what exists: {other:?} {nowhere:?}",
                    method.name
                ));
            }
            wrong
        });
        let found: Vec<Vec<String>> = stream::iter(cells).buffer_unordered(8).collect().await;
        wrong.extend(found.into_iter().flatten());
    }
    assert!(wrong.is_empty(), "{} cells:\n{}", wrong.len(), wrong.join("\n"));
}

/// Whoever is denied something may have wanted to change it.
#[tokio::test(flavor = "multi_thread")]
async fn of_what_is_denied_the_mutations_are_told() {
    let app = App::start_with(database().await, |options| {
        options.denials_every = Duration::from_millis(10);
    })
    .await;
    let world = World::on(app).await;
    let mut told = Vec::new();
    for method in methods() {
        let answer = world.call(&method, Who::Stranger, Place::Own).await;
        if class(&answer) == Class::Denied && !method.only_reads {
            told.push(method.path[1..].to_owned());
        }
    }
    assert!(told.len() > 30, "{told:?}");
    told.sort_unstable();
    let sql = world.app.database.client().await;
    let entries = "select entity_key from audit_entries where action = 'method.denied' order by 1";
    let entries = eventually("as many entries", async || {
        let rows = sql.query(entries, &[]).await.unwrap();
        let entries: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        (entries.len() >= told.len()).then_some(entries)
    })
    .await;
    assert_eq!(entries, told);
}
