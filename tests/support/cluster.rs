//! The cluster: started when the first test asks, gone with the test program however it ends.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use halyard::embedded::{Cluster, Durability, Options};
use halyard::store;
use tokio::sync::Mutex;
use tokio_postgres::{Client, Config, NoTls};

const TEMPLATE: &str = "halyard_template";

/// A database of a test's own, with the newest schema and nothing in it.
pub struct Database {
    /// How to connect to it.
    pub config: Config,
    /// The same for programs.
    pub url: String,
}

impl Database {
    /// A connection, for looking at what the service wrote and for breaking things.
    pub async fn client(&self) -> Client {
        client(&self.config).await
    }
}

/// A new database with the newest schema and nothing in it.
pub async fn database() -> Database {
    copy(TEMPLATE).await
}

/// A new database without a schema.
pub async fn blank_database() -> Database {
    copy("template0").await
}

async fn copy(template: &str) -> Database {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    static COPYING: Mutex<()> = Mutex::const_new(());
    let shared = tokio::task::spawn_blocking(|| &*SHARED).await.unwrap();
    let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let copying = COPYING.lock().await;
    let statement = format!("create database {name} template {template}");
    client(&shared.config).await.batch_execute(&statement).await.unwrap();
    drop(copying);
    Database {
        config: named(&shared.config, &name),
        url: shared.url.replacen("/halyard?", &format!("/{name}?"), 1),
    }
}

/// A cluster of a test's own, for tests that harm it.
pub async fn own_cluster() -> (Cluster, Folder) {
    own_cluster_with(&[]).await
}

/// One with further settings.
pub async fn own_cluster_with(settings: &[(&str, &str)]) -> (Cluster, Folder) {
    let folder = Folder::new();
    let cluster = start(&folder, settings).await;
    store::migrate::run(&cluster.config()).await.unwrap();
    (cluster, folder)
}

async fn start(folder: &Folder, settings: &[(&str, &str)]) -> Cluster {
    let mut options = Options::new(folder.path.join("data"));
    options.durability = Durability::Volatile;
    options.max_connections = 400;
    options.supervisor = Some(env!("CARGO_BIN_EXE_halyard").into());
    let settings = settings
        .iter()
        .map(|&(name, value)| (name.to_owned(), value.to_owned()));
    options.settings = settings.collect();
    Cluster::start(options)
        .await
        .expect("the tests need PostgreSQL's programs; `make test` installs them")
}

/// A connection.
pub async fn client(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

fn named(config: &Config, database: &str) -> Config {
    let mut config = config.clone();
    config.dbname(database);
    config
}

struct Shared {
    config: Config,
    url: String,
}

/// The cluster lives on a thread of its own, since each test has its own runtime and the first to end must not take it along.
static SHARED: LazyLock<Shared> = LazyLock::new(|| {
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let folder = Folder::new();
            let cluster = start(&folder, &[]).await;
            let statement = format!("create database {TEMPLATE}");
            client(&cluster.config()).await.batch_execute(&statement).await.unwrap();
            store::migrate::run(&named(&cluster.config(), TEMPLATE)).await.unwrap();
            let shared = Shared {
                config: cluster.config(),
                url: cluster.url(),
            };
            send.send(shared).unwrap();
            std::future::pending::<()>().await;
            drop((cluster, folder));
        });
    });
    receive.recv().expect("the cluster could not be started")
});

/// A folder that PostgreSQL's user can reach, removed when this or the test program ends.
pub struct Folder {
    pub path: PathBuf,
    /// Waits for the end of its input, which comes with ours, and then removes the folder.
    _broom: std::process::Child,
}

impl Folder {
    pub fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let n = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = Path::new("/tmp").join(format!("halyard-test-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        let mut broom = Command::new("sh")
            .args(["-c", r#"read -r folder; cat >/dev/null; for n in 1 2 3 4 5; do rm -rf "$folder" 2>/dev/null && break; sleep 1; done"#])
            .stdin(Stdio::piped())
            .process_group_of_its_own()
            .spawn()
            .unwrap();
        writeln!(broom.stdin.as_mut().unwrap(), "{}", path.display()).unwrap();
        Self { path, _broom: broom }
    }
}

trait OwnGroup {
    fn process_group_of_its_own(&mut self) -> &mut Self;
}

impl OwnGroup for Command {
    /// So that an interrupt at the terminal does not reach it before it has swept.
    fn process_group_of_its_own(&mut self) -> &mut Self {
        std::os::unix::process::CommandExt::process_group(self, 0)
    }
}
