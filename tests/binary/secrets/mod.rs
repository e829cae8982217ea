//! That no secret is told: every kind is used, rightly and wrongly, with everything logged that can be, and then looked for in the
//! log, in what callers were answered, in reflection, and in every column of the database.

mod misuses;
mod scanner;
mod user;
mod uses;

use rustix::process::Signal;
use tonic::transport::Channel;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::{ServerReflectionRequest, server_reflection_response::MessageResponse};
use uuid::Uuid;

use self::misuses::wrongly;
use self::scanner::Secrets;
use self::user::User;
use self::uses::{accounts, credentials, rightly};
use crate::serve::free_address;
use crate::support::program::{Program, halyard, run_halyard};
use crate::support::{Database, database, eventually};

const ADMINISTRATOR: &str = "ada@example.com";
const SIGNING_KEY: &str = "signing-key-of-forty-letters-and-no-less";
const PREVIOUS_SIGNING_KEY: &str = "the-signing-key-before-of-forty-letters.";
const DATABASE_PASSWORD: &str = "swordfish-of-the-database";

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
        told.extend(files.iter().map(|file| String::from_utf8_lossy(file)));
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
