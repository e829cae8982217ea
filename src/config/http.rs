//! What is served over HTTP beside gRPC, from which pages browsers may call, and what a connection and a request may take.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::reader::{Noted, Reader};
use super::setting::Setting;
use super::values;

/// What is served over HTTP beside gRPC, and within which bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Pages of which origins may call the administrative services.
    pub cors_admin: Origins,
    /// Pages of which origins may call the services of applications.
    pub cors_evaluation: Origins,
    /// Whether metrics are served there too.
    pub metrics: bool,
    /// What a connection and a request may take.
    pub limits: HttpLimits,
}

/// Origins of pages, as browsers tell them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Origins {
    /// No pages.
    #[default]
    None,
    /// Those of these origins, such as `https://app.example.com`.
    Listed(BTreeSet<String>),
    /// All pages.
    Any,
}

/// What a connection and a request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpLimits {
    /// Streams of one connection at a time.
    pub connection_streams: NonZeroUsize,
    /// The largest message of a request.
    pub request_bytes: NonZeroUsize,
    /// What the headers of a request may take.
    pub header_bytes: NonZeroUsize,
    /// How long the message of a request may take to arrive.
    pub request_timeout: Duration,
}

pub(super) const CORS_ADMIN: Setting = Setting::value(
    "cors-admin-origins",
    "ORIGINS",
    "Pages of which origins may call the administrative services, such as https://console.example.com, separated by commas; by default \
     none",
);
pub(super) const CORS_EVALUATION: Setting = Setting::value(
    "cors-evaluation-origins",
    "ORIGINS",
    "Pages of which origins may evaluate and watch, separated by commas, or * for all; by default none",
);
pub(super) const METRICS_ON_LISTEN: Setting = Setting::switch(
    "metrics-on-listen",
    "Serve metrics at /metrics on the port of --listen too, to everyone who reaches it",
);
pub(super) const MAX_CONNECTION_STREAMS: Setting = Setting::value(
    "max-connection-streams",
    "COUNT",
    "How many streams, calls included, one connection may have at a time; further ones wait in the client",
)
.default("2000");
pub(super) const MAX_REQUEST_BYTES: Setting = Setting::value(
    "max-request-bytes",
    "BYTES",
    "How large the message of a request may be",
)
.default("4194304");
pub(super) const MAX_HEADER_BYTES: Setting =
    Setting::value("max-header-bytes", "BYTES", "What the headers of a request may take").default("32768");
pub(super) const REQUEST_TIMEOUT: Setting = Setting::value(
    "request-timeout",
    "DURATION",
    "How long the message of a request may take to arrive",
)
.default("30s");

const MOST_STREAMS: usize = 1_000_000;
/// Below that what clients send today does not fit; above it a message is nothing for a request.
const REQUEST_BYTES: RangeInclusive<usize> = 64 * 1024..=64 * 1024 * 1024;
/// Less does not hold a service token with its metadata.
const HEADER_BYTES: RangeInclusive<usize> = 8 * 1024..=1024 * 1024;
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_hours(1);

/// Reads a server's.
pub(super) fn serve(reader: &mut Reader<'_>) -> Result<Http, Noted> {
    let admin = reader.optional(CORS_ADMIN, origins);
    let admin = admin.and_then(|origins| match origins {
        Some(Origins::Any) => Err(reader.refuse(
            CORS_ADMIN.argument(),
            "does not take *: any page that somebody opens could then try passwords and use whatever token it gets hold of; name the \
             origins of your pages, such as https://console.example.com",
        )),
        origins => Ok(origins.unwrap_or_default()),
    });
    let rest = sidecar(reader);
    Ok(Http {
        cors_admin: admin?,
        ..rest?
    })
}

/// Reads a sidecar's, which administrates nothing.
pub(super) fn sidecar(reader: &mut Reader<'_>) -> Result<Http, Noted> {
    let evaluation = reader.optional(CORS_EVALUATION, origins);
    let metrics = reader.switch(METRICS_ON_LISTEN);
    let streams = reader.required(MAX_CONNECTION_STREAMS, values::count(MOST_STREAMS));
    let request_bytes = reader.required(MAX_REQUEST_BYTES, bytes(REQUEST_BYTES));
    let header_bytes = reader.required(MAX_HEADER_BYTES, bytes(HEADER_BYTES));
    let request_timeout = reader.required(REQUEST_TIMEOUT, values::duration(TIMEOUTS));
    Ok(Http {
        cors_admin: Origins::None,
        cors_evaluation: evaluation?.unwrap_or_default(),
        metrics: metrics?,
        limits: HttpLimits {
            connection_streams: streams?,
            request_bytes: request_bytes?,
            header_bytes: header_bytes?,
            request_timeout: request_timeout?,
        },
    })
}

fn bytes(bounds: RangeInclusive<usize>) -> impl Fn(&str) -> Result<NonZeroUsize, String> {
    move |text| {
        let (least, most) = (bounds.start(), bounds.end());
        let read = text
            .parse()
            .ok()
            .filter(|bytes: &NonZeroUsize| bounds.contains(&bytes.get()));
        read.ok_or_else(|| format!("is not a whole number of bytes between {least} and {most}"))
    }
}

fn origins(text: &str) -> Result<Origins, String> {
    let listed: Vec<_> = text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    if listed.contains(&"*") {
        return match listed[..] {
            ["*"] => Ok(Origins::Any),
            _ => Err("names origins beside *, which is all of them".to_owned()),
        };
    }
    let listed: BTreeSet<_> = listed
        .into_iter()
        .map(|part| origin(part).map(|()| part.to_owned()))
        .collect::<Result<_, _>>()?;
    if listed.is_empty() {
        return Ok(Origins::None);
    }
    Ok(Origins::Listed(listed))
}

/// Checks that this is what a browser would say: it is compared as it is.
fn origin(text: &str) -> Result<(), String> {
    let wrong = |why: &str, right: &str| Err(format!("holds {text:?}, which {why}; write {right}"));
    if text == "null" {
        return wrong(
            "any page can take for its own",
            "the origin of the page, such as https://app.example.com",
        );
    }
    let Some((scheme, authority)) = text.split_once("://") else {
        return wrong("has no scheme", "it as in https://app.example.com");
    };
    if let Some((host, _)) = authority.split_once(['/', '?', '#']) {
        return wrong("goes on behind the host", &format!("{scheme}://{host}"));
    }
    let lower = text.to_ascii_lowercase();
    if text != lower {
        return wrong("is not in lower case, as browsers have it", &lower);
    }
    let (host, port) = match authority.rsplit_once(':') {
        // The colons of an IPv6 address are inside of its brackets.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    if !is_scheme || !is_host(host) {
        return wrong("is no origin", "it as in https://app.example.com");
    }
    match (scheme, port) {
        ("https", Some("443")) | ("http", Some("80")) => {
            wrong("names the port that browsers leave out", &format!("{scheme}://{host}"))
        }
        (_, Some(port)) if port.starts_with('0') || port.parse::<u16>().is_err() => {
            wrong("has no port behind the colon", "it as in https://app.example.com:8443")
        }
        _ => Ok(()),
    }
}

/// A name, without characters that browsers would write in another way, or an address.
fn is_host(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(text: &str) -> Result<Origins, String> {
        origins(text)
    }

    #[test]
    fn origins_are_what_browsers_say() {
        for text in [
            "https://app.example.com",
            "http://localhost:5173",
            "http://127.0.0.1:3000",
            "http://[::1]:3000",
            "https://[2001:db8::1]",
            "https://xn--bcher-kva.example",
            "capacitor://localhost",
            "chrome-extension://abcdefghijklmnop",
        ] {
            assert_eq!(origin(text), Ok(()), "{text}");
        }
        let both = BTreeSet::from(["https://a.example".to_owned(), "https://b.example".to_owned()]);
        assert_eq!(
            listed("https://a.example, https://b.example,"),
            Ok(Origins::Listed(both))
        );
        assert_eq!(listed("*"), Ok(Origins::Any));
        assert_eq!(listed(" , "), Ok(Origins::None));
    }

    #[test]
    fn what_browsers_never_say_is_refused_with_what_they_do() {
        for (text, words) in [
            ("https://app.example.com/", "write https://app.example.com"),
            ("https://app.example.com/console", "write https://app.example.com"),
            ("https://app.example.com?x", "write https://app.example.com"),
            ("https://App.example.com", "write https://app.example.com"),
            ("https://app.example.com:443", "write https://app.example.com"),
            ("http://app.example.com:80", "write http://app.example.com"),
            ("app.example.com", "has no scheme"),
            ("null", "any page can take"),
            ("https://", "is no origin"),
            ("https://user@app.example.com", "is no origin"),
            ("https://*.example.com", "is no origin"),
            ("https://bücher.example", "is no origin"),
            ("https://app.example.com:", "has no port"),
            ("https://app.example.com:0443", "has no port"),
            ("https://app.example.com:99999", "has no port"),
            ("https://a b", "is no origin"),
            ("*,https://a.example", "beside *"),
        ] {
            let said = listed(text).unwrap_err();
            assert!(said.contains(words), "{text}: {said}");
        }
    }
}
