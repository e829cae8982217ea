//! Addresses that an issuer may be asked at: with TLS, or without it on the machine itself.

use std::fmt;
use std::net::IpAddr;

use http::Uri;

use crate::domain::limits;

/// The address of an issuer, or of something of an issuer's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    text: String,
    secure: bool,
}

impl Address {
    /// Reads an address. What is wrong is said so that it goes on after the setting's name.
    pub fn new(text: &str) -> Result<Self, String> {
        const FORM: &str = "is not a URL such as https://login.example.com/realms/main";
        if text.len() > limits::ISSUER_BYTES {
            return Err(format!("is longer than {} bytes", limits::ISSUER_BYTES));
        }
        let uri: Uri = text.parse().map_err(|_| FORM.to_owned())?;
        let authority = uri.authority().ok_or(FORM)?;
        if text.contains(['#', '\\']) || uri.host().is_none_or(str::is_empty) {
            return Err(FORM.to_owned());
        }
        if authority.as_str().contains('@') {
            return Err("holds a user name; leave it out".to_owned());
        }
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if uri.host().is_some_and(is_loopback) => false,
            Some("http") => {
                return Err("is not https, which only an issuer on a loopback address may do without".to_owned());
            }
            Some(_) | None => return Err(FORM.to_owned()),
        };
        let text = text.to_owned();
        Ok(Self { text, secure })
    }

    /// As an issuer's own address, which has no query.
    pub fn issuer(text: &str) -> Result<Self, String> {
        if text.contains('?') {
            return Err("holds a query; an issuer's URL has none".to_owned());
        }
        Self::new(text)
    }

    /// The address exactly as it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is asked with TLS.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Whether one may be led from this address to another: never away from TLS.
    pub fn may_lead_to(&self, other: &Self) -> bool {
        other.secure || !self.secure
    }

    /// Where an issuer says what is to be known of it.
    pub fn discovery(&self) -> String {
        format!("{}/.well-known/openid-configuration", self.text.trim_end_matches('/'))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn is_loopback(host: &str) -> bool {
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || literal.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_machine_itself_is_asked_without_tls() {
        for (text, valid) in [
            ("https://login.example.com", true),
            ("https://login.example.com/realms/main/", true),
            ("https://login.example.com:8443", true),
            ("http://127.0.0.1:8080", true),
            ("http://127.8.9.1", true),
            ("http://[::1]:8080/realm", true),
            ("http://localhost:8080", true),
            ("http://login.example.com", false),
            ("http://10.0.0.1", false),
            ("http://127.0.0.1.example.com", false),
            ("http://localhost.example.com", false),
            ("http://127.0.0.1@example.com", false),
            ("https://user:secret@example.com", false),
            ("https://", false),
            ("https:///path", false),
            ("ftp://example.com", false),
            ("login.example.com", false),
            ("https://example.com/#part", false),
            ("", false),
        ] {
            assert_eq!(Address::new(text).is_ok(), valid, "{text}");
        }
    }

    #[test]
    fn the_way_leads_never_away_from_tls() {
        let (tls, plain) = (
            Address::new("https://a").unwrap(),
            Address::new("http://127.0.0.1").unwrap(),
        );
        assert!(tls.may_lead_to(&tls) && plain.may_lead_to(&tls) && plain.may_lead_to(&plain));
        assert!(!tls.may_lead_to(&plain));
    }

    #[test]
    fn discovery_lies_behind_the_issuer_with_or_without_a_slash() {
        for text in ["https://a/b", "https://a/b/"] {
            assert_eq!(
                Address::issuer(text).unwrap().discovery(),
                "https://a/b/.well-known/openid-configuration"
            );
        }
        assert!(Address::issuer("https://a/b?c=d").is_err());
    }
}
