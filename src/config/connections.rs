//! How connections are opened: how many, how fast, and with which certificates.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use super::reader::{Noted, Reader};
use super::setting::Setting;
use super::sidecar::Listen;
use super::values;
use crate::tls::{ClientCertificates, Demand, Part, ServerFiles};

/// How connections are opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connections {
    /// How many may be open.
    pub most: NonZeroUsize,
    /// How long one may take until its first request has begun.
    pub opening: Duration,
    /// What it shows and takes. `None`: connections are in clear.
    pub tls: Option<ServerFiles>,
}

const CERTIFICATE: Setting = Setting::value(
    "tls-certificate-file",
    "PATH",
    "Serve over TLS with this certificate (PEM), those between it and its authority behind it; read again when it changes",
);
const KEY: Setting = Setting::value("tls-key-file", "PATH", "The certificate's private key (PEM)");
const CLIENT_CA: Setting = Setting::value(
    "tls-client-ca-file",
    "PATH",
    "The certificates (PEM) of the authorities whose client certificates are taken",
);
const CLIENT_CERTIFICATES: Setting = Setting::value(
    "tls-client-certificates",
    "optional|required",
    "Whether callers must show a client certificate; required unless said otherwise, with --tls-client-ca-file",
);
const MAX_CONNECTIONS: Setting = Setting::value(
    "max-connections",
    "COUNT",
    "How many connections may be open; a further one is closed at once",
)
.default("20000");
const OPENING_TIMEOUT: Setting = Setting::value(
    "opening-timeout",
    "DURATION",
    "How long a connection may take until it has begun, with a request or HTTP/2's greeting, the TLS handshake included",
)
.default("10s");

/// The settings of everything that serves.
pub(super) const CONNECTIONS: &[Setting] = &[
    CERTIFICATE,
    KEY,
    CLIENT_CA,
    CLIENT_CERTIFICATES,
    MAX_CONNECTIONS,
    OPENING_TIMEOUT,
];

const MOST: usize = 10_000_000;
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_mins(10);

pub(super) fn read(reader: &mut Reader<'_>) -> Result<Connections, Noted> {
    let most = reader.required(MAX_CONNECTIONS, values::count(MOST));
    let opening = reader.required(OPENING_TIMEOUT, values::duration(SHORTEST..=LONGEST));
    let tls = tls(reader);
    Ok(Connections {
        most: most?,
        opening: opening?,
        tls: tls?,
    })
}

/// The same of what may listen on a unix socket, which nobody can listen in on.
pub(super) fn of_sidecar(reader: &mut Reader<'_>, listen: &Result<Listen, Noted>) -> Result<Connections, Noted> {
    let connections = read(reader)?;
    if connections.tls.is_some() && matches!(listen, Ok(Listen::Unix { .. })) {
        let description = "means nothing on a unix socket, which is always in clear; leave it out, or listen on a port";
        return Err(reader.refuse(CERTIFICATE.argument(), description));
    }
    Ok(connections)
}

fn tls(reader: &mut Reader<'_>) -> Result<Option<ServerFiles>, Noted> {
    let certificate = reader.optional(CERTIFICATE, values::path);
    let key = reader.optional(KEY, values::path);
    let authorities = reader.optional(CLIENT_CA, values::path);
    let demand = reader.optional(CLIENT_CERTIFICATES, |text| match text {
        "optional" => Ok(Demand::Optional),
        "required" => Ok(Demand::Required),
        _ => Err("is neither optional nor required".to_owned()),
    });
    let (certificate, key, authorities, demand) = (certificate?, key?, authorities?, demand?);
    let clients = clients(reader, authorities, demand);
    let own = pair(reader, (CERTIFICATE, certificate), (KEY, key));
    let (clients, own) = (clients?, own?);
    let Some((certificate, key)) = own else {
        if clients.is_none() {
            return Ok(None);
        }
        return Err(reader.refuse(
            CLIENT_CA.argument(),
            "means nothing without TLS: give --tls-certificate-file and --tls-key-file too",
        ));
    };
    let files = ServerFiles {
        certificate,
        key,
        clients,
    };
    let checked = files.check();
    refuse(reader, checked, [&CERTIFICATE, &KEY, &CLIENT_CA])?;
    Ok(Some(files))
}

fn clients(
    reader: &mut Reader<'_>,
    authorities: Option<PathBuf>,
    demand: Option<Demand>,
) -> Result<Option<ClientCertificates>, Noted> {
    match (authorities, demand) {
        (Some(authorities), demand) => Ok(Some(ClientCertificates {
            authorities,
            demand: demand.unwrap_or(Demand::Required),
        })),
        (None, Some(_)) => Err(reader.refuse(
            CLIENT_CERTIFICATES.argument(),
            "means nothing without --tls-client-ca-file, the authorities whose certificates are taken",
        )),
        (None, None) => Ok(None),
    }
}

/// A certificate and its key: both or neither.
pub(super) fn pair(
    reader: &mut Reader<'_>,
    (certificate_setting, certificate): (Setting, Option<PathBuf>),
    (key_setting, key): (Setting, Option<PathBuf>),
) -> Result<Option<(PathBuf, PathBuf)>, Noted> {
    let (given, missing) = match (certificate, key) {
        (Some(certificate), Some(key)) => return Ok(Some((certificate, key))),
        (None, None) => return Ok(None),
        (Some(_), None) => (certificate_setting, key_setting),
        (None, Some(_)) => (key_setting, certificate_setting),
    };
    let variables = missing.variables().join(", ");
    let description = format!("is missing (or {variables}): {} needs it", given.argument());
    Err(reader.refuse(missing.argument(), description))
}

/// Notes what is wrong with files, each under the setting that names it.
pub(super) fn refuse(
    reader: &mut Reader<'_>,
    checked: Result<(), crate::tls::Refused>,
    [certificate, key, authorities]: [&Setting; 3],
) -> Result<(), Noted> {
    let Err(refused) = checked else {
        return Ok(());
    };
    for error in refused.0 {
        let setting = match error.part {
            Part::Certificate => certificate,
            Part::Key => key,
            Part::Authorities => authorities,
        };
        reader.refuse(setting.argument(), format!("names {error}"));
    }
    Err(Noted)
}
