//! Reads single values. What is wrong is said so that it goes on after the setting's name: "is not …".

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use jiff::SignedDuration;
use tracing_subscriber::EnvFilter;

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "is not an IP address and a port, such as 0.0.0.0:50051 or [::]:50051".to_owned())
}

pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("is empty; a path is required".to_owned());
    }
    Ok(text.into())
}

/// What a switch may be set to.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("is neither true nor false".to_owned()),
    }
}

/// A duration within bounds, such as `30s`, `1m 30s` or `500ms`.
pub(super) fn duration(bounds: RangeInclusive<Duration>) -> impl Fn(&str) -> Result<Duration, String> {
    move |text| {
        let duration = text
            .parse::<SignedDuration>()
            .ok()
            .and_then(|duration| Duration::try_from(duration).ok())
            .ok_or("is not a duration, such as 30s or 1m30s")?;
        if !bounds.contains(&duration) {
            let (least, most) = (plain(*bounds.start()), plain(*bounds.end()));
            return Err(format!("must lie between {least} and {most}"));
        }
        Ok(duration)
    }
}

/// A duration as people write it.
pub(super) fn plain(duration: Duration) -> String {
    SignedDuration::try_from(duration).map_or_else(|_| format!("{duration:?}"), |duration| format!("{duration:#}"))
}

/// A count of at least one.
pub(super) fn count(most: usize) -> impl Fn(&str) -> Result<NonZeroUsize, String> {
    move |text| {
        text.parse()
            .ok()
            .filter(|count: &NonZeroUsize| count.get() <= most)
            .ok_or_else(|| format!("is not a whole number between 1 and {most}"))
    }
}

/// Where a server is.
pub(super) fn endpoint(text: &str) -> Result<Uri, String> {
    let uri: Uri = text
        .parse()
        .map_err(|_| "is not an address such as http://127.0.0.1:50051 or https://flags.example.com".to_owned())?;
    let nothing_behind = matches!(uri.path(), "" | "/") && uri.query().is_none();
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) || !nothing_behind {
        return Err("is not an address such as http://127.0.0.1:50051 or https://flags.example.com".to_owned());
    }
    if uri
        .authority()
        .is_some_and(|authority| authority.as_str().contains('@'))
    {
        return Err("names a user, who would not be asked for; leave out what is before the @".to_owned());
    }
    Ok(uri)
}

/// What to log. It is read again, for good, when logging begins.
pub(super) fn log_filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text)
        .map(|_| text.to_owned())
        .map_err(|_| "is not a filter such as info,halyard::watch=debug".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_port() {
        for (text, valid) in [
            ("127.0.0.1:50051", true),
            ("[::1]:0", true),
            ("127.0.0.1", false),
            (":50051", false),
            ("localhost:50051", false),
            ("127.0.0.1:70000", false),
        ] {
            assert_eq!(address(text).is_ok(), valid, "{text}");
        }
    }

    #[test]
    fn durations_have_a_unit_and_keep_their_bounds() {
        let read = duration(Duration::from_secs(1)..=Duration::from_mins(1));
        for (text, milliseconds) in [
            ("1s", Some(1_000)),
            ("1500ms", Some(1_500)),
            ("1m", Some(60_000)),
            ("0m 30s", Some(30_000)),
            ("30", None),
            ("", None),
            ("-5s", None),
            ("999ms", None),
            ("61s", None),
            ("99999999999h", None),
        ] {
            assert_eq!(read(text).ok(), milliseconds.map(Duration::from_millis), "{text}");
        }
        assert_eq!(read("2m").unwrap_err(), "must lie between 1s and 1m");
    }

    #[test]
    fn counts_begin_at_one() {
        for (text, valid) in [
            ("1", true),
            ("8", true),
            ("9", false),
            ("0", false),
            ("-1", false),
            ("", false),
        ] {
            assert_eq!(count(8)(text).is_ok(), valid, "{text}");
        }
    }

    #[test]
    fn endpoints_are_a_host_and_how_it_is_asked() {
        for (text, valid) in [
            ("http://127.0.0.1:50051", true),
            ("http://halyard.example:80/", true),
            ("http://[::1]:50051", true),
            ("https://halyard.example", true),
            ("ftp://halyard.example", false),
            ("127.0.0.1:50051", false),
            ("halyard", false),
            ("http://halyard/path", false),
            ("http://halyard/?a=b", false),
            ("http://ada:hunter2@halyard", false),
            ("", false),
        ] {
            assert_eq!(endpoint(text).is_ok(), valid, "{text}");
        }
    }

    #[test]
    fn filters_can_be_read() {
        for (text, valid) in [("info", true), ("info,halyard::watch=debug", true), ("a=b=c", false)] {
            assert_eq!(log_filter(text).is_ok(), valid, "{text}");
        }
    }
}
