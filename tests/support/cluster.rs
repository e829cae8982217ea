//! A PostgreSQL of the test run's own, made from the machine's binaries: one cluster, a migrated template database, and a copy of
//! it for each test. Without the binaries the tests fail.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use halyard::store::{connect, migrate};
use tokio_postgres::{Client, Config};

/// Runs until its input ends, which it does when the test process does, however that ends.
const GUARD: &str = r#"
set -eu
trap '' INT
bin=$(ls -d /usr/lib/postgresql/*/bin /usr/pgsql-*/bin 2>/dev/null | sort -V | tail -n 1)
[ -n "$bin" ] || bin=$(pg_config --bindir)
folder=$(mktemp -d /tmp/halyard-XXXXXX)
"$bin/initdb" -D "$folder/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >"$folder/log" 2>&1
"$bin/pg_ctl" -D "$folder/data" -l "$folder/log" -w -o "-k $folder -c listen_addresses='' -c fsync=off \
    -c synchronous_commit=off -c full_page_writes=off -c max_connections=300" start >>"$folder/log" 2>&1
echo "$folder"
read -r _ || true
"$bin/pg_ctl" -D "$folder/data" -m immediate stop >>"$folder/log" 2>&1
rm -rf "$folder"
"#;
const TEMPLATE: &str = "template_halyard";

static CLUSTER: OnceLock<Cluster> = OnceLock::new();
static DATABASES: AtomicUsize = AtomicUsize::new(0);

struct Cluster {
    folder: String,
    // What keeps the guard waiting.
    _input: Option<ChildStdin>,
    _guard: Child,
}

/// The configuration of a new, migrated, empty database.
pub async fn database() -> Config {
    copy(Some(TEMPLATE)).await
}

/// The configuration of a new database without a schema.
pub async fn blank_database() -> Config {
    copy(None).await
}

async fn copy(template: Option<&str>) -> Config {
    let cluster = CLUSTER.get_or_init(start);
    let name = format!("test_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
    let template = template.unwrap_or("template0");
    let client = client(&cluster.config("postgres")).await;
    let statement = format!("create database {name} template {template}");
    client
        .batch_execute(&statement)
        .await
        .expect("a database can be created");
    cluster.config(&name)
}

/// A connection that lives until the client is dropped.
pub async fn client(config: &Config) -> Client {
    let (client, connection) = connect::dedicated(config).await.expect("the cluster answers");
    tokio::spawn(connection);
    client
}

impl Cluster {
    fn config(&self, database: &str) -> Config {
        let text = format!("host={} user=postgres dbname={database}", self.folder);
        connect::parse(&text).expect("a connection string")
    }
}

/// PostgreSQL refuses to run as root.
fn guard() -> Command {
    let is_root = Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|id| id.stdout == b"0\n");
    if is_root {
        let mut command = Command::new("su");
        command.args(["postgres", "-s", "/bin/sh", "-c", GUARD]);
        command
    } else {
        let mut command = Command::new("sh");
        command.args(["-c", GUARD]);
        command
    }
}

fn start() -> Cluster {
    let mut guard = guard()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a shell can be started");
    let mut folder = String::new();
    let output = guard.stdout.take().expect("piped");
    BufReader::new(output)
        .read_line(&mut folder)
        .expect("the guard speaks UTF-8");
    assert!(
        !folder.is_empty(),
        "PostgreSQL did not start: are its server programs installed?"
    );
    let cluster = Cluster {
        folder: folder.trim().to_owned(),
        _input: guard.stdin.take(),
        _guard: guard,
    };
    make_template(&cluster);
    cluster
}

/// On a thread of its own: whoever came first is in the middle of its own runtime.
fn make_template(cluster: &Cluster) {
    let (postgres, template) = (cluster.config("postgres"), cluster.config(TEMPLATE));
    let work = async move {
        let statement = format!("create database {TEMPLATE} template template0");
        client(&postgres)
            .await
            .batch_execute(&statement)
            .await
            .expect("a database can be created");
        migrate::run(&template).await.expect("the migrations apply");
    };
    let thread = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(work);
    });
    thread.join().expect("the template database can be made");
}
