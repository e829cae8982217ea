//! A transaction pooler in front of PostgreSQL: PgBouncer, as people run it.

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use deadpool_postgres::{Manager, Pool};
use tempfile::TempDir;
use tokio_postgres::config::Host;
use tokio_postgres::{Config, NoTls};

use crate::cluster::Cluster;
use crate::support::server::{as_owner, own};

const SOCKET: &str = ".s.PGSQL.6432";

/// A path to PostgreSQL that leads through the pooler, until it is taken out of the way.
pub struct Pooler {
    folder: TempDir,
    process: Option<Child>,
    server: PathBuf,
}

impl Pooler {
    /// Stands in front of a cluster, and hands out its connections for one transaction at a time.
    pub async fn before(cluster: &Cluster) -> Self {
        let folder = tempfile::Builder::new().prefix("hb").tempdir_in("/tmp").unwrap();
        let Host::Unix(server) = cluster.config().get_hosts()[0].clone() else {
            panic!("the server is not on a unix socket");
        };
        let configuration = format!(
            "[databases]\n\
             postgres = host={} port=5432 user=postgres\n\
             [pgbouncer]\n\
             listen_addr =\n\
             listen_port = 6432\n\
             unix_socket_dir = {}\n\
             auth_type = any\n\
             pool_mode = transaction\n\
             default_pool_size = 5\n\
             ignore_startup_parameters = options,extra_float_digits\n",
            server.display(),
            folder.path().display()
        );
        std::fs::write(folder.path().join("pgbouncer.ini"), configuration).unwrap();
        own(folder.path());
        let process = as_owner("pgbouncer", folder.path())
            .args(["-q", "pgbouncer.ini"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the tests need PgBouncer; `make test` installs it");
        let pooler = Self {
            folder,
            process: Some(process),
            server,
        };
        let deadline = Instant::now() + Duration::from_mins(1);
        while pooler.config().connect(NoTls).await.is_err() {
            assert!(Instant::now() < deadline, "PgBouncer does not start");
            // Its start is an event of another process that nothing else announces.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        pooler
    }

    /// How to connect along the path.
    pub fn config(&self) -> Config {
        let mut config = Config::new();
        config.host_path(self.folder.path()).port(6432);
        config.user("postgres").dbname("postgres");
        config
    }

    /// A pool whose connections take the same path.
    pub fn pool(&self) -> Pool {
        Pool::builder(Manager::new(self.config(), NoTls))
            .max_size(6)
            .build()
            .unwrap()
    }

    /// The path becomes direct.
    pub fn step_aside(&mut self) {
        self.end();
        let socket = self.folder.path().join(SOCKET);
        let _gone = std::fs::remove_file(&socket);
        std::os::unix::fs::symlink(self.server.join(".s.PGSQL.5432"), socket).unwrap();
    }

    fn end(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.end();
    }
}
