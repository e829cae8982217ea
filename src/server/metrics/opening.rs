//! The numbers of connections and of what they are served with.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::families::{Families, count, read};
use crate::server::opening::{Counters, Opening};
use crate::tls::Certificates;

/// How connections are opened, asked for its numbers.
pub(super) struct Numbers(pub Opening);

impl fmt::Debug for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the numbers of connections")
    }
}

impl Collector for Numbers {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        let Counters {
            open,
            refused,
            unasked,
            unread,
            handshakes,
            failed_handshakes,
        } = self.0.counters();
        let open = u32::try_from(read(open)).unwrap_or(u32::MAX);
        families.gauge(
            count(
                "connections_open",
                "Connections that are open, those included that have not begun yet",
            ),
            f64::from(open),
        )?;
        for (counter, name, help) in [
            (
                refused,
                "connections_refused",
                "Connections that were closed at once, since as many were open as may be",
            ),
            (
                unasked,
                "connections_unasked",
                "Connections that were closed since they had not begun in time",
            ),
            (
                unread,
                "connections_unread",
                "Connections that were closed since what was answered on them was not read in time",
            ),
            (handshakes, "tls_handshakes", "TLS handshakes that were completed"),
            (
                failed_handshakes,
                "tls_handshakes_failed",
                "TLS handshakes that failed, for want of an accepted certificate for instance, or were not completed in time",
            ),
        ] {
            families.counter(count(name, help), read(counter))?;
        }
        let pot = self.0.unread();
        families.counter(
            count(
                "answers_refused",
                "Answers that were refused when they were ready, since too many others were not read",
            ),
            pot.refused(),
        )?;
        families.gauge(
            count(
                "answers_unread_bytes",
                "Larger answers that are on their way to who asked, or not read, all together",
            ),
            f64::from(u32::try_from(pot.bytes()).unwrap_or(u32::MAX)),
        )?;
        let certificates = self.0.certificates();
        families.counter(
            count("tls_reloads", "Times that changed files of TLS were taken into use"),
            certificates.map_or(0, Certificates::reloads),
        )?;
        let failing = certificates.is_some_and(Certificates::is_failing);
        families.gauge(
            count(
                "tls_reload_failing",
                "1 while the files of TLS cannot be used as they are, and what they held before stays in use; else 0",
            ),
            f64::from(u8::from(failing)),
        )?;
        // Seconds since 1970 are exact in a double for longer than any certificate lasts.
        #[expect(clippy::cast_precision_loss, reason = "see above")]
        let expires = certificates.map_or(f64::INFINITY, |certificates| certificates.expires() as f64);
        families.gauge(
            count(
                "tls_certificate_expiry_timestamp_seconds",
                "When the first of the certificates that are served expires, in seconds since 1970; +Inf without TLS",
            ),
            expires,
        )
    }
}
