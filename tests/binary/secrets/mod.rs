//! That no secret is told: every kind is used, rightly and wrongly, with everything logged that can be, and then looked for in the
//! log, in what callers were answered, in reflection, and in every column of the database.

mod scanner;

use halyard::pb::admin::v1 as pb;
use halyard::pb::admin::v1::auth_service_client::AuthServiceClient;
use halyard::pb::admin::v1::environment_service_client::EnvironmentServiceClient;
use halyard::pb::admin::v1::flag_service_client::FlagServiceClient;
use halyard::pb::admin::v1::project_service_client::ProjectServiceClient;
use halyard::pb::admin::v1::service_token_service_client::ServiceTokenServiceClient;
use halyard::pb::admin::v1::user_service_client::UserServiceClient;
use halyard::pb::evaluation::v1 as evaluation;
use halyard::pb::evaluation::v1::evaluation_service_client::EvaluationServiceClient;
use halyard::pb::evaluation::v1::watch_service_client::WatchServiceClient;
use rustix::process::Signal;
use scanner::Secrets;
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::{ServerReflectionRequest, server_reflection_response::MessageResponse};
use uuid::Uuid;

use crate::serve::free_address;
use crate::support::program::{Program, halyard, run_halyard};
use crate::support::{Database, database, eventually};

const ADMINISTRATOR: &str = "ada@example.com";
const SIGNING_KEY: &str = "signing-key-of-forty-letters-and-no-less";
const PREVIOUS_SIGNING_KEY: &str = "the-signing-key-before-of-forty-letters.";
const DATABASE_PASSWORD: &str = "swordfish-of-the-database";

/// Metadata of one's own.
#[derive(Clone)]
struct Shows(&'static str, AsciiMetadataValue);

impl Interceptor for Shows {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert(self.0, self.1.clone());
        Ok(request)
    }
}

type Client = InterceptedService<Channel, Shows>;

/// Somebody who uses secrets, and writes down what was said.
struct User {
    channel: Channel,
    secrets: Secrets,
    /// Every error, with its details and trailers, and every answer that should not tell.
    heard: String,
    passwords: usize,
}

impl User {
    fn showing(&self, metadata: &'static str, value: &str) -> Client {
        InterceptedService::new(self.channel.clone(), Shows(metadata, value.parse().unwrap()))
    }

    fn bearer(&self, credential: &str) -> Client {
        self.showing("authorization", &format!("Bearer {credential}"))
    }

    fn anyone(&self) -> AuthServiceClient<Channel> {
        AuthServiceClient::new(self.channel.clone())
    }

    /// Nobody else's password, and one that no answer may hold.
    fn password(&mut self, name: &str) -> String {
        self.passwords += 1;
        let password = format!("pass phrase {} of {}", self.passwords, Uuid::new_v4().simple());
        self.secrets.add(name, &password);
        password
    }

    /// An answer that tells a secret to whom it belongs.
    fn told<T>(answer: Result<Response<T>, Status>) -> T {
        answer.unwrap().into_inner()
    }

    /// An answer that should tell none.
    fn hear<T: std::fmt::Debug>(&mut self, answer: Result<Response<T>, Status>) -> Option<T> {
        match answer {
            Ok(response) => {
                self.heard.push_str(&format!("{response:?}\n"));
                Some(response.into_inner())
            }
            Err(status) => {
                let details = String::from_utf8_lossy(status.details());
                self.heard.push_str(&format!(
                    "{status:?} {} {details} {:?}\n",
                    status.message(),
                    status.metadata()
                ));
                None
            }
        }
    }

    fn done<T: std::fmt::Debug>(&mut self, answer: Result<Response<T>, Status>) -> T {
        self.hear(answer).expect("it should have been done")
    }

    fn fails<T: std::fmt::Debug>(&mut self, answer: Result<Response<T>, Status>) {
        assert!(self.hear(answer).is_none(), "it should have failed");
    }

    async fn log_in(&mut self, email: &str, password: &str) -> pb::LoginResponse {
        let login = Self::told(self.anyone().login(login(email, password)).await);
        self.secrets.add_jwt("an access token", &login.access_token);
        self.secrets.add_token("a refresh token", &login.refresh_token);
        login
    }
}

fn login(email: &str, password: &str) -> pb::LoginRequest {
    pb::LoginRequest {
        email: email.into(),
        password: password.into(),
        access_only: false,
    }
}

fn sign_up(email: &str, password: &str) -> pb::SignUpRequest {
    pb::SignUpRequest {
        email: email.into(),
        password: password.into(),
        password_confirmation: password.into(),
    }
}

fn request_id() -> String {
    Uuid::new_v4().to_string()
}

/// A service that logs all it can.
struct Service {
    program: Program,
    database: Database,
    user: User,
    administrators_password: String,
}

async fn start() -> Service {
    let database = database().await;
    let url = format!("{}&password={DATABASE_PASSWORD}", database.url);
    let mut secrets = Secrets::default();
    secrets.add("the database's password", DATABASE_PASSWORD);
    secrets.add("the signing key", SIGNING_KEY);
    secrets.add("the signing key before", PREVIOUS_SIGNING_KEY);
    let administrators_password = format!("the first administrator's {}", Uuid::new_v4().simple());
    secrets.add("the first administrator's password", &administrators_password);
    let variables = [
        ("DATABASE_URL", url.as_str()),
        ("HALYARD_ADMIN_PASSWORD", &administrators_password),
    ];
    let created = run_halyard(
        &["create-admin", "--email", ADMINISTRATOR, "--log", "trace"],
        &variables,
    );
    secrets.must_not_be_in("create-admin", &created.stderr);
    created.done();

    let address = free_address();
    let mut command = halyard();
    command.args([
        "serve",
        "--sign-up",
        "--log",
        "trace",
        "--drain-window",
        "0s",
        "--listen",
        &address,
    ]);
    command.env("DATABASE_URL", &url);
    command.env("HALYARD_SIGNING_KEY", SIGNING_KEY);
    command.env("HALYARD_PREVIOUS_SIGNING_KEY", PREVIOUS_SIGNING_KEY);
    let program = Program::start(command);
    let channel = eventually("the server", async || {
        Channel::from_shared(format!("http://{address}"))
            .unwrap()
            .connect()
            .await
            .ok()
    })
    .await;
    let user = User {
        channel,
        secrets,
        heard: String::new(),
        passwords: 0,
    };
    Service {
        program,
        database,
        user,
        administrators_password,
    }
}

/// Signing up, logging in, refreshing, changing passwords; the right ones and wrong ones. Returns an administrator's access token.
async fn accounts(user: &mut User, administrators_password: &str) -> String {
    let first = user.log_in(ADMINISTRATOR, administrators_password).await;
    let token = first.access_token.clone();

    let (eves, next, wrong) = (
        user.password("Eve's"),
        user.password("Eve's next"),
        user.password("a wrong one"),
    );
    let answer = user.anyone().sign_up(sign_up("eve@example.com", &eves)).await;
    user.done(answer);
    let answer = user.anyone().sign_up(sign_up("eve@example.com", &wrong)).await;
    user.done(answer);
    let mismatch = pb::SignUpRequest {
        password_confirmation: next.clone(),
        ..sign_up("mia@example.com", &wrong)
    };
    let answer = user.anyone().sign_up(mismatch).await;
    user.fails(answer);
    for (email, password) in [
        ("eve@example.com", &wrong),
        ("nobody@example.com", &wrong),
        (ADMINISTRATOR, &eves),
    ] {
        let answer = user.anyone().login(login(email, password)).await;
        user.fails(answer);
    }
    let eve = user.log_in("eve@example.com", &eves).await;
    let refresh = |token: &str| pb::RefreshRequest {
        refresh_token: token.into(),
    };
    let refreshed = User::told(user.anyone().refresh(refresh(&eve.refresh_token)).await);
    user.secrets
        .add_jwt("a refreshed access token", &refreshed.access_token);
    user.secrets
        .add_token("a refreshed refresh token", &refreshed.refresh_token);
    let answer = user.anyone().refresh(refresh(&eve.refresh_token)).await;
    user.fails(answer);
    let answer = user.anyone().refresh(refresh(&refreshed.refresh_token[1..])).await;
    user.fails(answer);

    let change = |current: &str, new: &str| pb::ChangePasswordRequest {
        current_password: current.into(),
        new_password: new.into(),
        password_confirmation: new.into(),
    };
    let mut own = AuthServiceClient::new(user.bearer(&refreshed.access_token));
    for (current, new) in [(&wrong, &next), (&eves, &"short".to_owned())] {
        let answer = own.change_password(change(current, new)).await;
        user.fails(answer);
    }
    let answer = own.change_password(change(&eves, &next)).await;
    user.done(answer);
    let answer = own.who_am_i(pb::WhoAmIRequest {}).await;
    user.done(answer);
    let answer = own.logout(pb::LogoutRequest {}).await;
    user.done(answer);

    let (bobs, bobs_next) = (user.password("Bob's"), user.password("Bob's next"));
    let mut users = UserServiceClient::new(user.bearer(&token));
    let create = pb::CreateUserRequest {
        user: Some(pb::User {
            email: "bob@example.com".into(),
            ..Default::default()
        }),
        password: bobs.clone(),
        request_id: request_id(),
        ..Default::default()
    };
    let mut bob = None;
    for _ in 0..2 {
        let answer = users.create_user(create.clone()).await;
        bob = user.done(answer).user;
    }
    let update = pb::UpdateUserRequest {
        user: bob,
        password: bobs_next.clone(),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["password".into()],
        }),
        request_id: request_id(),
        ..Default::default()
    };
    for _ in 0..2 {
        let answer = users.update_user(update.clone()).await;
        user.done(answer);
    }
    user.log_in("bob@example.com", &bobs_next).await;
    token
}

/// What machines and newcomers are given: environment keys of both kinds, before and after a rotation; service tokens;
/// invitations. Returns them all.
async fn credentials(user: &mut User, token: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut projects = ProjectServiceClient::new(user.bearer(token));
    let mut environments = EnvironmentServiceClient::new(user.bearer(token));
    let mut tokens = ServiceTokenServiceClient::new(user.bearer(token));
    let project = Some(pb::Project {
        key: "shop".into(),
        ..Default::default()
    });
    let answer = projects
        .create_project(pb::CreateProjectRequest {
            project,
            ..Default::default()
        })
        .await;
    user.done(answer);

    let create = pb::CreateEnvironmentRequest {
        environment: Some(pb::Environment {
            project: "shop".into(),
            key: "dev".into(),
            ..Default::default()
        }),
        request_id: request_id(),
        ..Default::default()
    };
    let made = User::told(environments.create_environment(create.clone()).await);
    let replayed = environments.create_environment(create).await;
    user.done(replayed);
    for key in made.keys {
        all.push(key.secret);
        for overlap in [60, 0] {
            let rotate = pb::RotateKeyRequest {
                project: "shop".into(),
                environment: "dev".into(),
                key_id: key.key.as_ref().unwrap().id.clone(),
                overlap: Some(prost_types::Duration {
                    seconds: overlap,
                    nanos: 0,
                }),
                request_id: request_id(),
                ..Default::default()
            };
            let rotated = User::told(environments.rotate_key(rotate.clone()).await);
            all.push(rotated.key.unwrap().secret);
            let replayed = environments.rotate_key(rotate).await;
            user.done(replayed);
        }
    }
    let create = pb::CreateKeyRequest {
        project: "shop".into(),
        environment: "dev".into(),
        kind: pb::KeyKind::Server.into(),
        request_id: request_id(),
        ..Default::default()
    };
    all.push(
        User::told(environments.create_key(create.clone()).await)
            .key
            .unwrap()
            .secret,
    );
    let replayed = environments.create_key(create).await;
    user.done(replayed);

    let create = pb::CreateServiceTokenRequest {
        project: "shop".into(),
        role: pb::ProjectRole::Admin.into(),
        request_id: request_id(),
        ..Default::default()
    };
    all.push(User::told(tokens.create_service_token(create.clone()).await).secret);
    let replayed = tokens.create_service_token(create).await;
    user.done(replayed);

    let create = pb::CreateInvitationRequest {
        project: "shop".into(),
        role: pb::ProjectRole::Viewer.into(),
        request_id: request_id(),
        ..Default::default()
    };
    for _ in 0..2 {
        let create = pb::CreateInvitationRequest {
            request_id: request_id(),
            ..create.clone()
        };
        all.push(User::told(projects.create_invitation(create.clone()).await).token);
        let replayed = projects.create_invitation(create).await;
        user.done(replayed);
    }
    for (n, token) in all.iter().enumerate() {
        user.secrets.add_token(&format!("credential {n}"), token);
    }
    all
}

/// Uses what there is as it is meant, and has it listed.
async fn rightly(user: &mut User, token: &str, credentials: &[String]) {
    let invitations: Vec<_> = credentials
        .iter()
        .filter(|it| it.starts_with("halyard_invitation_"))
        .collect();
    let (password, late) = (user.password("a newcomer's"), user.password("a late newcomer's"));
    let accept = |email: &str, password: &str| pb::AcceptInvitationRequest {
        token: invitations[0].clone(),
        email: email.into(),
        password: password.into(),
    };
    for (email, password, works) in [
        ("new@example.com", "short", false),
        ("new@example.com", &password, true),
        ("late@example.com", &late, false),
    ] {
        let answer = user.anyone().accept_invitation(accept(email, password)).await;
        assert_eq!(user.hear(answer).is_some(), works, "{email}");
    }
    let newcomer = user.log_in("new@example.com", &password).await;
    let mut own = AuthServiceClient::new(user.bearer(&newcomer.access_token));
    let answer = own
        .accept_invitation(pb::AcceptInvitationRequest {
            token: invitations[1].clone(),
            ..Default::default()
        })
        .await;
    user.fails(answer);

    for credential in credentials {
        let evaluate = evaluation::EvaluateAllRequest::default();
        let answer = EvaluationServiceClient::new(user.bearer(credential))
            .evaluate_all(evaluate)
            .await;
        user.hear(answer);
        let watch = evaluation::WatchRequest::default();
        let answer = WatchServiceClient::new(user.bearer(credential)).watch(watch).await;
        user.hear(answer.map(|stream| stream.map(|_| "a stream")));
        let answer = AuthServiceClient::new(user.bearer(credential))
            .who_am_i(pb::WhoAmIRequest {})
            .await;
        user.hear(answer);
    }
    let mut environments = EnvironmentServiceClient::new(user.bearer(token));
    let list = pb::ListKeysRequest {
        project: "shop".into(),
        environment: "dev".into(),
        ..Default::default()
    };
    let answer = environments.list_keys(list).await;
    user.done(answer);
    let list = pb::ListServiceTokensRequest {
        project: "shop".into(),
        ..Default::default()
    };
    let answer = ServiceTokenServiceClient::new(user.bearer(token))
        .list_service_tokens(list)
        .await;
    user.done(answer);
    let list = pb::ListInvitationsRequest {
        project: "shop".into(),
        ..Default::default()
    };
    let answer = ProjectServiceClient::new(user.bearer(token))
        .list_invitations(list)
        .await;
    user.done(answer);
    let answer = UserServiceClient::new(user.bearer(token))
        .list_users(pb::ListUsersRequest::default())
        .await;
    user.done(answer);
}

/// Shows each secret where it does not belong: in the wrong metadata, as another kind, as an address, an id, a key.
async fn wrongly(user: &mut User, token: &str, secrets: &[String]) {
    let mistyped = user.password("a password for an address");
    for secret in secrets.iter().chain([&token.to_owned(), &mistyped]) {
        let halves = [&secret[..secret.len() / 2], &secret[1..]];
        for (name, value) in [
            ("authorization", secret.clone()),
            ("authorization", format!("Bearer{secret}")),
            ("authorization", format!("Bearer  {secret}")),
            ("authorization", format!("Token {secret}")),
            ("authorization", format!("Basic {secret}")),
            ("authorization", format!("Bearer {}", halves[0])),
            ("authorization", format!("Bearer {}", halves[1])),
            ("authorization", format!("Bearer {secret}x")),
            ("x-api-key", secret.clone()),
            ("cookie", format!("session={secret}")),
            ("grpc-timeout", secret.clone()),
            ("traceparent", secret.clone()),
            ("user-agent", secret.clone()),
        ] {
            let answer = AuthServiceClient::new(user.showing(name, &value))
                .who_am_i(pb::WhoAmIRequest {})
                .await;
            user.fails(answer);
            let evaluate = evaluation::EvaluateAllRequest::default();
            let answer = EvaluationServiceClient::new(user.showing(name, &value))
                .evaluate_all(evaluate)
                .await;
            user.fails(answer);
        }
        let answer = user.anyone().login(login(secret, "a password of theirs")).await;
        user.fails(answer);
        let answer = user
            .anyone()
            .login(login(&format!("{}@example.com", secret.replace(' ', "")), secret))
            .await;
        user.fails(answer);
        let answer = user.anyone().sign_up(sign_up(secret, secret)).await;
        user.fails(answer);
        let refresh = pb::RefreshRequest {
            refresh_token: format!("{secret}x"),
        };
        let answer = user.anyone().refresh(refresh).await;
        user.fails(answer);
        let accept = pb::AcceptInvitationRequest {
            token: format!("{secret}x"),
            email: "x@example.com".into(),
            password: mistyped.clone(),
        };
        let answer = user.anyone().accept_invitation(accept).await;
        user.fails(answer);
        in_fields(user, token, secret).await;
    }
}

/// In fields for something else, by whoever may write them.
async fn in_fields(user: &mut User, token: &str, secret: &str) {
    let project = || {
        Some(pb::Project {
            key: "new".into(),
            ..Default::default()
        })
    };
    let mut projects = ProjectServiceClient::new(user.bearer(token));
    let create = pb::CreateProjectRequest {
        project: project(),
        request_id: secret.into(),
        ..Default::default()
    };
    let answer = projects.create_project(create).await;
    user.fails(answer);
    let get = pb::GetProjectRequest { project: secret.into() };
    let answer = projects.get_project(get).await;
    user.fails(answer);
    let set = pb::SetMemberRequest {
        project: "shop".into(),
        user: secret.into(),
        role: pb::ProjectRole::Viewer.into(),
        ..Default::default()
    };
    let answer = projects.set_member(set).await;
    user.fails(answer);
    let revoke = pb::RevokeInvitationRequest {
        project: "shop".into(),
        invitation_id: secret.into(),
        ..Default::default()
    };
    let answer = projects.revoke_invitation(revoke).await;
    user.fails(answer);
    let list = pb::ListProjectsRequest {
        page_token: secret.into(),
        ..Default::default()
    };
    let answer = projects.list_projects(list).await;
    user.fails(answer);
    let mut environments = EnvironmentServiceClient::new(user.bearer(token));
    let revoke = pb::RevokeKeyRequest {
        project: "shop".into(),
        environment: "dev".into(),
        key_id: secret.into(),
        ..Default::default()
    };
    let answer = environments.revoke_key(revoke).await;
    user.fails(answer);
    let rotate = pb::RotateKeyRequest {
        project: "shop".into(),
        environment: "dev".into(),
        key_id: secret.into(),
        ..Default::default()
    };
    let answer = environments.rotate_key(rotate).await;
    user.fails(answer);
    let revoke = pb::RevokeServiceTokenRequest {
        project: "shop".into(),
        service_token_id: secret.into(),
        ..Default::default()
    };
    let answer = ServiceTokenServiceClient::new(user.bearer(token))
        .revoke_service_token(revoke)
        .await;
    user.fails(answer);
    let mut users = UserServiceClient::new(user.bearer(token));
    for (id, email) in [(secret, ""), ("", secret)] {
        let get = pb::GetUserRequest {
            id: id.into(),
            email: email.into(),
        };
        let answer = users.get_user(get).await;
        user.fails(answer);
    }
    let get = pb::GetFlagRequest {
        project: "shop".into(),
        flag: secret.into(),
    };
    let answer = FlagServiceClient::new(user.bearer(token)).get_flag(get).await;
    user.fails(answer);
}

/// All that reflection tells.
async fn reflected(channel: &Channel) -> String {
    let ask = async |request: MessageRequest| {
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(request),
        };
        let mut client = ServerReflectionClient::new(channel.clone());
        let answers = client
            .server_reflection_info(tokio_stream::once(request))
            .await
            .unwrap();
        answers
            .into_inner()
            .message()
            .await
            .unwrap()
            .unwrap()
            .message_response
            .unwrap()
    };
    let MessageResponse::ListServicesResponse(listed) = ask(MessageRequest::ListServices(String::new())).await else {
        panic!("services are listed")
    };
    let mut told = String::new();
    for service in listed.service {
        let answer = ask(MessageRequest::FileContainingSymbol(service.name)).await;
        let MessageResponse::FileDescriptorResponse(files) = answer else {
            panic!("{answer:?}")
        };
        let files = files.file_descriptor_proto;
        assert!(!files.is_empty());
        files
            .iter()
            .for_each(|file| told.push_str(&String::from_utf8_lossy(file)));
    }
    told
}

/// Every row of every table, and the statements that PostgreSQL remembers; bytes in hexadecimal digits.
async fn stored(database: &Database) -> Vec<(String, String)> {
    let client = database.client().await;
    let tables = "select tablename::text from pg_tables where schemaname = 'public' order by 1";
    let tables = client.query(tables, &[]).await.unwrap();
    let mut stored = Vec::new();
    for table in tables
        .iter()
        .map(|row| row.get::<_, String>(0))
        .chain(["pg_stat_activity".to_owned()])
    {
        let rows = format!("select coalesce(string_agg(to_jsonb(t)::text, e'\\n'), '') from {table} t");
        stored.push((table, client.query_one(&rows, &[]).await.unwrap().get(0)));
    }
    stored
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_told_anywhere() {
    let Service {
        mut program,
        database,
        mut user,
        administrators_password,
    } = start().await;
    let token = accounts(&mut user, &administrators_password).await;
    let all = credentials(&mut user, &token).await;
    rightly(&mut user, &token, &all).await;
    wrongly(&mut user, &token, &all).await;
    let reflected = reflected(&user.channel).await;
    let User {
        channel,
        mut secrets,
        heard,
        ..
    } = user;
    drop(channel);
    program.signal(Signal::TERM);
    let (status, log) = program.ends();
    assert_eq!(status.code(), Some(0));
    assert!(secrets.count() > 60, "{}", secrets.count());

    // Things were looked at that could have held them.
    assert!(
        log.lines().count() > 1_000 && log.contains("\"TRACE\"") && log.contains("Login"),
        "{log}"
    );
    assert!(heard.contains("INVALID_CREDENTIAL") && heard.contains("secret_omitted: true"));
    assert!(reflected.contains("LoginRequest"));
    let stored = stored(&database).await;
    let rows_of = |table: &str| stored.iter().find(|(name, _)| name == table).unwrap().1.lines().count();
    for table in [
        "users",
        "sessions",
        "audit_entries",
        "request_records",
        "environment_keys",
        "service_tokens",
        "invitations",
    ] {
        assert!(rows_of(table) > 0, "{table} is empty");
    }
    secrets.must_not_be_in("reflection", &reflected);
    secrets.must_not_be_in("an answer", &heard);
    for (table, rows) in &stored {
        secrets.must_not_be_in(table, rows);
    }
    secrets.must_not_be_in("the log", &log);

    // Nor is what they could be guessed from told to who reads the log.
    let sql = database.client().await;
    let hashes = "select password_hash from users where password_hash is not null
        union all select encode(secret_hash, 'hex') from environment_keys
        union all select encode(secret_hash, 'hex') from service_tokens
        union all select encode(secret_hash, 'hex') from invitations";
    for row in sql.query(hashes, &[]).await.unwrap() {
        secrets.add("a stored hash", row.get(0));
    }
    secrets.must_not_be_in("the log", &log);
    secrets.must_not_be_in("an answer", &heard);
}
