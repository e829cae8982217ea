//! What stands between a feed and PostgreSQL: it may swallow notifications as a transaction pooler does, or cut connections, and it
//! remembers what was said.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio_postgres::Config;
use tokio_postgres::config::Host;

/// A proxy that knows the frames of the protocol.
pub struct Proxy {
    folder: TempDir,
    mode: watch::Sender<Mode>,
    said: Arc<Said>,
}

/// What passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Everything,
    NoNotifications,
    Nothing,
}

/// What has passed.
#[derive(Default)]
struct Said {
    statements: Mutex<Vec<Statement>>,
    notifications: Mutex<Vec<String>>,
}

/// A statement as it was asked.
#[derive(Debug, Clone)]
pub struct Statement {
    pub at: Instant,
    pub sql: String,
    /// Where the driver sends them as text.
    pub parameters: Vec<String>,
}

impl Statement {
    /// Whether it is the poll.
    pub fn is_poll(&self) -> bool {
        self.sql.contains("mod_xid >= $1")
    }
}

impl Proxy {
    /// Stands in front of a server.
    pub fn start(server: &Config) -> Self {
        let folder = tempfile::Builder::new().prefix("hp").tempdir_in("/tmp").unwrap();
        let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).unwrap();
        let (mode, said) = (watch::Sender::new(Mode::Everything), Arc::<Said>::default());
        let Host::Unix(server) = &server.get_hosts()[0] else {
            panic!("the server is not on a unix socket");
        };
        let server = server.join(".s.PGSQL.5432");
        tokio::spawn(accept(listener, server, mode.subscribe(), Arc::clone(&said)));
        Self { folder, mode, said }
    }

    /// How to connect through the proxy.
    pub fn config(&self) -> Config {
        let mut config = Config::new();
        config.host_path(self.folder.path()).user("postgres").dbname("postgres");
        config
    }

    /// From now on no notification passes.
    pub fn swallow(&self) {
        self.mode.send_replace(Mode::NoNotifications);
    }

    /// From now on nothing passes, and connections are closed.
    pub fn cut(&self) {
        self.mode.send_replace(Mode::Nothing);
    }

    /// Everything passes again.
    pub fn pass(&self) {
        self.mode.send_replace(Mode::Everything);
    }

    /// What was asked through it, in order.
    pub fn statements(&self) -> Vec<Statement> {
        self.said.statements.lock().unwrap().clone()
    }

    /// The payloads that were notified through it, in order.
    pub fn notifications(&self) -> Vec<String> {
        self.said.notifications.lock().unwrap().clone()
    }
}

async fn accept(listener: UnixListener, server: std::path::PathBuf, mode: watch::Receiver<Mode>, said: Arc<Said>) {
    while let Ok((client, _)) = listener.accept().await {
        if *mode.borrow() == Mode::Nothing {
            continue;
        }
        let Ok(server) = UnixStream::connect(&server).await else {
            continue;
        };
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let (mut closing, mode, said) = (mode.clone(), mode.clone(), Arc::clone(&said));
        tokio::spawn(async move {
            tokio::select! {
                _ = pass_questions(from_client, to_server, &said) => {}
                _ = pass_answers(from_server, to_client, &mode, &said) => {}
                _ = closing.wait_for(|mode| *mode == Mode::Nothing) => {}
            }
        });
    }
}

async fn pass_questions(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, said: &Said) -> Option<()> {
    // The first message has no type.
    let length = from.read_u32().await.ok()?;
    to.write_u32(length).await.ok()?;
    to.write_all(&read_body(&mut from, length).await?).await.ok()?;
    let mut latest = None;
    loop {
        let kind = from.read_u8().await.ok()?;
        let length = from.read_u32().await.ok()?;
        let body = read_body(&mut from, length).await?;
        note(kind, &body, said, &mut latest);
        to.write_u8(kind).await.ok()?;
        to.write_u32(length).await.ok()?;
        to.write_all(&body).await.ok()?;
    }
}

async fn read_body(from: &mut OwnedReadHalf, length: u32) -> Option<Vec<u8>> {
    let mut body = vec![0; usize::try_from(length).ok()?.checked_sub(4)?];
    from.read_exact(&mut body).await.ok()?;
    Some(body)
}

/// Simple queries, and the Parse and Bind of others. `latest` is the place of the connection's latest.
fn note(kind: u8, body: &[u8], said: &Said, latest: &mut Option<usize>) {
    let mut statements = said.statements.lock().unwrap();
    let mut texts = body.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let sql = match kind {
        b'Q' => texts.next(),
        b'P' => texts.nth(1),
        b'B' => {
            if let Some(statement) = latest.and_then(|latest| statements.get_mut(latest)) {
                statement.parameters = parameters(body).unwrap_or_default();
            }
            None
        }
        _ => None,
    };
    if let Some(sql) = sql {
        *latest = Some(statements.len());
        statements.push(Statement {
            at: Instant::now(),
            sql: sql.into_owned(),
            parameters: Vec::new(),
        });
    }
}

/// The parameters of a Bind: after two names and the formats, each with its length before it.
fn parameters(body: &[u8]) -> Option<Vec<String>> {
    let mut rest = body;
    for _name in 0..2 {
        rest = &rest[rest.iter().position(|byte| *byte == 0)? + 1..];
    }
    let mut take = |bytes: usize| {
        let (taken, left) = rest.split_at_checked(bytes)?;
        rest = left;
        Some(taken)
    };
    let formats = u16::from_be_bytes(take(2)?.try_into().ok()?);
    take(usize::from(formats) * 2)?;
    let count = u16::from_be_bytes(take(2)?.try_into().ok()?);
    let mut parameters = Vec::new();
    for _ in 0..count {
        let length = i32::from_be_bytes(take(4)?.try_into().ok()?);
        let value = take(usize::try_from(length).unwrap_or_default())?;
        parameters.push(String::from_utf8_lossy(value).into_owned());
    }
    Some(parameters)
}

async fn pass_answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mode: &watch::Receiver<Mode>,
    said: &Said,
) -> Option<()> {
    loop {
        let kind = from.read_u8().await.ok()?;
        let length = from.read_u32().await.ok()?;
        let body = read_body(&mut from, length).await?;
        if kind == b'A' {
            if *mode.borrow() == Mode::NoNotifications {
                continue;
            }
            // The process that notified, the channel, and the payload.
            let payload = body.get(4..)?.split(|byte| *byte == 0).nth(1)?;
            let payload = String::from_utf8_lossy(payload).into_owned();
            said.notifications.lock().unwrap().push(payload);
        }
        to.write_u8(kind).await.ok()?;
        to.write_u32(length).await.ok()?;
        to.write_all(&body).await.ok()?;
    }
}
