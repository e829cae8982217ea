//! Where traces go, and how many there are.

use http::Uri;

use super::connections::{pair, refuse};
use super::reader::{Noted, Reader};
use super::setting::Setting;
use super::values;
use crate::tls::ClientFiles;

/// Where traces go, and how many there are.
#[derive(Debug, Clone, PartialEq)]
pub struct Traces {
    /// The collector.
    pub endpoint: String,
    /// Whom to trust there and what to show. `None`: in clear.
    pub tls: Option<ClientFiles>,
    /// Which share of the requests that come without a trace begin one, from 0 to 1.
    pub share: f64,
}

pub(super) const ENDPOINT: Setting = Setting::value(
    "otlp-endpoint",
    "URL",
    "The OpenTelemetry collector that traces are sent to, by OTLP over gRPC, such as http://collector:4317; by default none",
)
.also_variable("OTEL_EXPORTER_OTLP_ENDPOINT");
pub(super) const SHARE: Setting = Setting::value(
    "trace-sample-ratio",
    "RATIO",
    "Which share of the requests without a trace of their caller's begin one, from 0 to 1; what a caller samples \
     who shows more than a client key is always traced; by default 0.01",
);
pub(super) const CA: Setting = Setting::value(
    "otlp-ca-file",
    "PATH",
    "The certificates (PEM) of the authorities that an https collector's is to come from; by default those that this machine trusts",
)
.also_variable("OTEL_EXPORTER_OTLP_CERTIFICATE");
pub(super) const CERTIFICATE: Setting = Setting::value(
    "otlp-certificate-file",
    "PATH",
    "The certificate (PEM) to show an https collector that asks for one",
)
.also_variable("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE");
pub(super) const KEY: Setting = Setting::value("otlp-key-file", "PATH", "That certificate's private key (PEM)")
    .also_variable("OTEL_EXPORTER_OTLP_CLIENT_KEY");
/// Enough for somebody who has just given a collector to see something, and too little to be felt.
const USUAL: f64 = 0.01;

/// Reads where traces go. `None`: nowhere.
pub(super) fn read(reader: &mut Reader<'_>) -> Result<Option<Traces>, Noted> {
    let endpoint = reader.optional(ENDPOINT, endpoint);
    let share = reader.optional(SHARE, share);
    let tls = match &endpoint {
        Ok(Some(endpoint)) => trust(reader, endpoint),
        Ok(None) | Err(Noted) => Ok(None),
    };
    let (endpoint, share, tls) = (endpoint?, share?, tls?);
    match (endpoint, share) {
        (Some(endpoint), share) => Ok(Some(Traces {
            endpoint,
            tls,
            share: share.unwrap_or(USUAL),
        })),
        (None, Some(_)) => {
            let description = "means nothing without --otlp-endpoint (or HALYARD_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_ENDPOINT): \
                               give the collector's URL, or leave it out";
            Err(reader.refuse(SHARE.argument(), description))
        }
        (None, None) => Ok(None),
    }
}

/// Reads whom to trust at a collector, and what to show it.
fn trust(reader: &mut Reader<'_>, endpoint: &str) -> Result<Option<ClientFiles>, Noted> {
    let authorities = reader.optional(CA, values::path);
    let certificate = reader.optional(CERTIFICATE, values::path);
    let key = reader.optional(KEY, values::path);
    let (authorities, certificate, key) = (authorities?, certificate?, key?);
    if endpoint.starts_with("https:") {
        let own = pair(reader, (CERTIFICATE, certificate), (KEY, key))?;
        let files = ClientFiles { authorities, own };
        let checked = files.check();
        refuse(reader, checked, [&CERTIFICATE, &KEY, &CA])?;
        return Ok(Some(files));
    }
    for setting in [CA, CERTIFICATE, KEY] {
        // A variable may be there for other programs of the machine.
        if reader.origin(setting).is_some_and(|origin| origin.is_argument()) {
            let description =
                "means nothing where the collector is not asked over TLS; its address begins with http://";
            reader.refuse(setting.argument(), description);
        }
    }
    Ok(None)
}

fn endpoint(text: &str) -> Result<String, String> {
    const DESCRIPTION: &str = "is not a collector's address such as http://collector:4317 or https://collector:4317";
    let uri: Uri = text.parse().map_err(|_| DESCRIPTION.to_owned())?;
    let nothing_behind = matches!(uri.path(), "" | "/") && uri.query().is_none();
    let has_user = uri
        .authority()
        .is_some_and(|authority| authority.as_str().contains('@'));
    let has_scheme = matches!(uri.scheme_str(), Some("http" | "https"));
    if !has_scheme || uri.host().is_none_or(str::is_empty) || !nothing_behind || has_user {
        return Err(DESCRIPTION.to_owned());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "is not a number between 0 and 1".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collectors_have_a_scheme_and_a_host_and_nothing_else() {
        for (text, valid) in [
            ("http://localhost:4317", true),
            ("https://collector.example/", true),
            ("http://[::1]:4317", true),
            ("localhost:4317", false),
            ("http://user:secret@collector:4317", false),
            ("http://collector:4318/v1/traces", false),
            ("unix:///run/otel", false),
            ("", false),
        ] {
            assert_eq!(endpoint(text).is_ok(), valid, "{text}");
        }
    }

    #[test]
    fn shares_lie_between_nothing_and_all() {
        for (text, valid) in [
            ("0", true),
            ("1", true),
            ("0.25", true),
            ("1.1", false),
            ("-0.1", false),
            ("NaN", false),
            ("half", false),
        ] {
            assert_eq!(share(text).is_ok(), valid, "{text}");
        }
    }
}
