//! Reads the two forms of a connection string, strictly: `postgres://user:password@host:5432/database?option=value` and
//! `option=value option='value'`.
//!
//! Programs disagree about strings with unescaped characters: where a password ends, whether an option begins inside of it. A
//! string that two of them could understand differently may lose the option that asks for TLS on its way. So there is one reader,
//! whatever is ambiguous is refused, and the driver is given the rest in one unambiguous form ([`Options::for_driver`]).

use super::malformed::Malformed;

/// What psql calls these options; see `docs/database.md`. Those of TLS are ours, the others the driver's.
const TLS: [&str; 5] = ["sslmode", "sslrootcert", "sslcert", "sslkey", "sslnegotiation"];
const DRIVER: [&str; 16] = [
    "user",
    "password",
    "dbname",
    "options",
    "application_name",
    "host",
    "hostaddr",
    "port",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "target_session_attrs",
    "channel_binding",
];
const BALANCING: &str = "load_balance_hosts";

/// The options of a connection string, each at most once, none with an empty name.
#[derive(Default)]
pub(super) struct Options(Vec<(&'static str, String)>);

impl Options {
    /// Takes an option out.
    pub fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| *known == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// Whether it is there.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| *known == name)
    }

    /// What is left, as the driver reads it: every value in quotes.
    pub fn for_driver(&self) -> String {
        let quoted = |value: &str| value.replace('\\', r"\\").replace('\'', r"\'");
        let options = self.0.iter().map(|(name, value)| format!("{name}='{}'", quoted(value)));
        options.collect::<Vec<_>>().join(" ")
    }

    fn add(&mut self, name: &str, value: String) -> Result<(), Malformed> {
        let all = TLS.iter().chain(&DRIVER).chain([&BALANCING]);
        let known = all.into_iter().find(|known| **known == name).ok_or(Malformed::Option)?;
        if self.0.iter().any(|(given, _)| given == known) {
            return Err(Malformed::Repeated);
        }
        if value.contains('\0') {
            return Err(Malformed::Syntax);
        }
        // `password=a;sslmode=require` is a password for everybody who reads it, and was not meant to be one.
        let lower = value.to_lowercase();
        if TLS.iter().any(|option| lower.contains(option)) && !TLS.contains(known) {
            return Err(Malformed::Swallowed);
        }
        self.0.push((known, value));
        Ok(())
    }
}

/// Reads either form.
pub(super) fn read(text: &str) -> Result<Options, Malformed> {
    let schemes = ["postgres://", "postgresql://"];
    match schemes.iter().find_map(|scheme| text.strip_prefix(scheme)) {
        Some(rest) => url(rest),
        None if is_elsewhere(text) => Err(Malformed::Scheme),
        None => pairs(text),
    }
}

/// Whether it is a URL of something else, or one whose scheme is in capitals, which psql does not know.
fn is_elsewhere(text: &str) -> bool {
    let scheme = text.trim_start().split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)))
}

/// `user:password@host:port,host:port/database?option=value&option=value`, everything percent-encoded that has a meaning of its own.
fn url(text: &str) -> Result<Options, Malformed> {
    if text.chars().any(|c| c == '#' || c.is_whitespace() || c.is_control()) {
        return Err(Malformed::Unencoded);
    }
    let (authority, rest) = text.split_at(text.find(['/', '?']).unwrap_or(text.len()));
    // A password with `/` or `?` in it, the rest of which would be read as the database or as options.
    if rest.contains('@') {
        return Err(Malformed::Unencoded);
    }
    let mut options = Options::default();
    let hosts = match authority.split_once('@') {
        None => authority,
        Some((_, hosts)) if hosts.contains('@') => return Err(Malformed::Unencoded),
        Some((user, hosts)) => {
            credentials(&mut options, user)?;
            hosts
        }
    };
    places(&mut options, hosts)?;
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if let Some(database) = path.strip_prefix('/').filter(|database| !database.is_empty()) {
        if database.contains('/') {
            return Err(Malformed::Unencoded);
        }
        options.add("dbname", decoded(database)?)?;
    }
    if query.contains('?') {
        return Err(Malformed::Unencoded);
    }
    for option in query.split('&').filter(|_| !query.is_empty()) {
        let (name, value) = option.split_once('=').ok_or(Malformed::Syntax)?;
        if value.contains('=') {
            return Err(Malformed::Unencoded);
        }
        match (decoded(name)?.as_str(), decoded(value)?) {
            // As it is written for JDBC, which psql understands too.
            ("ssl", value) if value == "true" => options.add("sslmode", "require".to_owned())?,
            (name, value) => options.add(name, value)?,
        }
    }
    Ok(options)
}

fn credentials(options: &mut Options, text: &str) -> Result<(), Malformed> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    if !user.is_empty() {
        options.add("user", decoded(user)?)?;
    }
    if !password.is_empty() {
        options.add("password", decoded(password)?)?;
    }
    Ok(())
}

/// Hosts with their ports. If one of them has a port, every other has the usual one.
fn places(options: &mut Options, text: &str) -> Result<(), Malformed> {
    if text.is_empty() {
        return Ok(());
    }
    let mut hosts = Vec::new();
    let mut ports = Vec::new();
    for place in text.split(',') {
        let (host, port) = if let Some(address) = place.strip_prefix('[') {
            let (address, rest) = address.split_once(']').ok_or(Malformed::Syntax)?;
            let port = rest.strip_prefix(':');
            if port.is_none() && !rest.is_empty() {
                return Err(Malformed::Syntax);
            }
            (address, port)
        } else {
            match place.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            }
        };
        let host = decoded(host)?;
        if host.is_empty() || host.contains(',') {
            return Err(Malformed::Host);
        }
        hosts.push(host);
        ports.push(port);
    }
    options.add("host", hosts.join(","))?;
    if ports.iter().any(Option::is_some) {
        let ports = ports.into_iter().map(|port| decoded(port.unwrap_or("5432")));
        let ports = ports.collect::<Result<Vec<_>, _>>()?;
        if !ports.iter().all(|port| port.parse::<u16>().is_ok()) {
            return Err(Malformed::Syntax);
        }
        options.add("port", ports.join(","))?;
    }
    Ok(())
}

fn decoded(text: &str) -> Result<String, Malformed> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err(Malformed::Syntax);
        };
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| Malformed::Syntax)?);
    }
    String::from_utf8(bytes).map_err(|_| Malformed::Syntax)
}

/// `option=value option = 'a value'`, with a backslash before quotes and backslashes in values.
fn pairs(text: &str) -> Result<Options, Malformed> {
    // Some readers end a value at such a space, and others do not.
    if text
        .chars()
        .any(|c| (c.is_whitespace() && !c.is_ascii()) || (c.is_control() && !c.is_ascii_whitespace()))
    {
        return Err(Malformed::Syntax);
    }
    let mut options = Options::default();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or(Malformed::Syntax)?;
        let (value, after) = match after.trim_start().strip_prefix('\'') {
            Some(quoted) => unquoted(quoted)?,
            None => bare(after.trim_start())?,
        };
        if !(after.is_empty() || after.starts_with(char::is_whitespace)) {
            return Err(Malformed::Syntax);
        }
        options.add(name.trim_end(), value)?;
        rest = after.trim_start();
    }
    Ok(options)
}

/// A value up to its closing quote, and what comes behind that.
fn unquoted(text: &str) -> Result<(String, &str), Malformed> {
    let mut value = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\'' => return Ok((value, rest.as_str())),
            '\\' => value.push(rest.next().ok_or(Malformed::Syntax)?),
            c => value.push(c),
        }
    }
    Err(Malformed::Syntax)
}

/// A value up to the next space, and what comes behind it.
fn bare(text: &str) -> Result<(String, &str), Malformed> {
    let (value, rest) = text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()));
    // A value that is empty, or half in quotes: psql reads the former as empty, the driver the next option as its value.
    if value.is_empty() || value.contains('\'') {
        return Err(Malformed::Syntax);
    }
    let mut read = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(c) = characters.next() {
        let c = if c == '\\' {
            characters.next().ok_or(Malformed::Syntax)?
        } else {
            c
        };
        read.push(c);
    }
    Ok((read, rest))
}
