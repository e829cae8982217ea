//! Where PostgreSQL is, as whom, and how encrypted: a connection string, understood.

use std::fmt;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio_postgres::config::{Host, SslMode, SslNegotiation};
use tokio_postgres::{Client, Config, Connection, Socket};

use super::attempt;
use super::malformed::Malformed;
use super::text::{self, Options};
use super::tls::{Authorities, Mode, Stream, Tls};
use super::{PATIENCE, UNACKNOWLEDGED};

/// Where PostgreSQL is, as whom, and how connections to it are encrypted. The two belong together: there is no connecting with
/// the one and without the other.
#[derive(Debug, Clone)]
pub struct Target {
    config: Box<Config>,
    said: Said,
    mode: Mode,
    tls: Tls,
}

/// How long is waited for what, unless the connection string says so.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Waits {
    /// For a connection, at each address.
    pub connect: Duration,
    /// For an answer to what was sent.
    pub unacknowledged: Duration,
    /// For anything, before the other end is asked whether it is there.
    pub idle: Duration,
}

/// What the connection string says of connections: whoever runs the network knows it best.
#[derive(Debug, Clone, Copy, Default)]
struct Said {
    connect: bool,
    unacknowledged: bool,
    idle: bool,
}

impl Target {
    /// Reads a connection string, `postgres://…` or `key=value …`, and adds what a service needs: a name, timeouts, keepalives.
    /// Reads the files that it names.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let mut options = text::read(text)?;
        let negotiation = options.take("sslnegotiation");
        let mut wanted = wanted(&mut options)?;
        let mut config: Config = options.for_driver().parse().map_err(|_| Malformed::Syntax)?;
        let said = Said {
            // Zero is for ever, which is no answer to whoever asks for a connection.
            connect: config.get_connect_timeout().is_some(),
            unacknowledged: options.has("tcp_user_timeout"),
            idle: options.has("keepalives_idle"),
        };
        if check_hosts(&mut config)? == Hosts::Sockets {
            // As for psql, there is no TLS there, whatever is asked for.
            wanted.mode = Mode::Disable;
        } else if has_socket(&config) && wanted.mode > Mode::Prefer {
            return Err(Malformed::Mixed);
        }
        match negotiation.as_deref() {
            None | Some("postgres") => {}
            Some("direct") if wanted.mode > Mode::Prefer => {
                config.ssl_negotiation(SslNegotiation::Direct);
            }
            Some(_) => return Err(Malformed::Negotiation),
        }
        config.ssl_mode(wanted.mode.for_driver());
        if config.get_application_name().is_none() {
            config.application_name("halyard");
        }
        if !options.has("keepalives_interval") {
            config.keepalives_interval(Duration::from_secs(5));
        }
        if !options.has("keepalives_retries") {
            config.keepalives_retries(3);
        }
        let target = Self {
            tls: Tls::new(wanted.mode, wanted.authorities, wanted.identity)?,
            config: Box::new(config),
            said,
            mode: wanted.mode,
        };
        Ok(target.unless_said(Waits {
            connect: PATIENCE,
            unacknowledged: UNACKNOWLEDGED,
            idle: Duration::from_secs(10),
        }))
    }

    /// The same with a password that was given beside it. It may be in the string too, but not another one.
    pub fn with_password(mut self, password: &str) -> Result<Self, Malformed> {
        match self.config.get_password() {
            Some(given) if !given.is_empty() && given != password.as_bytes() => return Err(Malformed::Passwords),
            _ => self.config.password(password),
        };
        Ok(self)
    }

    /// The same, as which PostgreSQL lists its connections.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.config.application_name(name);
        self
    }

    /// The same, with other times where the connection string leaves them to us.
    #[must_use]
    pub(in crate::store) fn unless_said(mut self, waits: Waits) -> Self {
        if !self.said.connect {
            self.config.connect_timeout(waits.connect);
        }
        if !self.said.unacknowledged {
            self.config.tcp_user_timeout(waits.unacknowledged);
        }
        if !self.said.idle {
            self.config.keepalives_idle(waits.idle);
        }
        self
    }

    /// The driver's part.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How connections are encrypted.
    pub fn tls(&self) -> &Tls {
        &self.tls
    }

    /// What is asked of connections, as `sslmode` has it: `disable` also on a socket.
    pub fn mode(&self) -> &'static str {
        self.mode.name()
    }

    /// The driver's part, to be changed. How connections are encrypted is none of its business.
    pub(in crate::store) fn config_mut(&mut self) -> &mut Config {
        &mut self.config
    }

    /// A new connection. The second part has to be polled for the first to work. Nobody is waited for longer than the connection
    /// string says, at each address of each host.
    pub async fn connect(&self) -> Result<(Client, Connection<Socket, Stream>), tokio_postgres::Error> {
        attempt::connect(&self.config, &self.tls).await
    }
}

/// As it is, and without TLS.
impl From<Config> for Target {
    fn from(mut config: Config) -> Self {
        config.ssl_mode(SslMode::Disable);
        Self {
            config: Box::new(config),
            said: Said::default(),
            mode: Mode::Disable,
            tls: Tls::off(),
        }
    }
}

impl From<&Config> for Target {
    fn from(config: &Config) -> Self {
        config.clone().into()
    }
}

impl From<&Self> for Target {
    fn from(target: &Self) -> Self {
        target.clone()
    }
}

/// What to call it in messages; its password is not in it.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = &self.config;
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let host = match config.get_hosts().first() {
            Some(Host::Tcp(host)) => format!("{host}:{port}"),
            Some(Host::Unix(folder)) => format!("{}/.s.PGSQL.{port}", folder.display()),
            None => String::new(),
        };
        let user = config.get_user().unwrap_or_default();
        let database = config.get_dbname().unwrap_or(user);
        write!(f, "PostgreSQL at {host}, database {database}, user {user}")
    }
}

/// What is asked of connections.
struct Wanted {
    mode: Mode,
    authorities: Option<Authorities>,
    /// A certificate and its key.
    identity: Option<(String, String)>,
}

/// Takes the options of TLS out. Nothing that was asked for is left undone: what has no effect is refused.
fn wanted(options: &mut Options) -> Result<Wanted, Malformed> {
    let mode = options.take("sslmode").map(|mode| Mode::read(&mode)).transpose()?;
    let (mode, authorities) = match (mode, options.take("sslrootcert").as_deref()) {
        (None | Some(Mode::VerifyFull), Some("system")) => (Mode::VerifyFull, Some(Authorities::System)),
        (Some(_), Some("system")) => return Err(Malformed::WeakSystem),
        (None | Some(Mode::Disable | Mode::Prefer), Some(_)) => return Err(Malformed::UnusedAuthority),
        // As for psql: whoever names an authority wants it asked.
        (Some(Mode::Require), Some(path)) => (Mode::VerifyCa, Some(Authorities::File(path.to_owned()))),
        (Some(mode), Some(path)) => (mode, Some(Authorities::File(path.to_owned()))),
        (Some(Mode::VerifyCa | Mode::VerifyFull), None) => return Err(Malformed::NoAuthority),
        (mode, None) => (mode.unwrap_or(Mode::Prefer), None),
    };
    let identity = match (options.take("sslcert"), options.take("sslkey")) {
        (None, None) => None,
        (Some(certificate), Some(key)) if mode > Mode::Disable => Some((certificate, key)),
        _ => return Err(Malformed::Identity),
    };
    Ok(Wanted {
        mode,
        authorities,
        identity,
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hosts {
    Sockets,
    Others,
}

/// Refuses hosts that cannot be: a name that no certificate could hold is a part of something else.
fn check_hosts(config: &mut Config) -> Result<Hosts, Malformed> {
    let addresses = config.get_hostaddrs().to_vec();
    if config.get_hosts().is_empty() {
        // A certificate may be for an address as well as for a name.
        for address in &addresses {
            config.host(address.to_string());
        }
    }
    let hosts = config.get_hosts();
    let is_possible = |host: &Host| match host {
        Host::Tcp(name) => ServerName::try_from(name.as_str()).is_ok(),
        Host::Unix(_) => addresses.is_empty(),
    };
    if hosts.is_empty() || !hosts.iter().all(is_possible) {
        return Err(Malformed::Host);
    }
    let as_many = |count: usize| count == hosts.len();
    let ports = config.get_ports().len();
    if !(ports <= 1 || as_many(ports)) || !(addresses.is_empty() || as_many(addresses.len())) {
        return Err(Malformed::Counts);
    }
    let sockets_only = hosts.iter().all(|host| matches!(host, Host::Unix(_)));
    Ok(if sockets_only { Hosts::Sockets } else { Hosts::Others })
}

fn has_socket(config: &Config) -> bool {
    config.get_hosts().iter().any(|host| matches!(host, Host::Unix(_)))
}
