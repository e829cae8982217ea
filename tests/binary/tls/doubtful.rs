//! Certificates that can be served and that callers will not have: what the log and the callers say.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{BasicConstraints, CertificateParams, IsCa};
use rustix::process::Signal;

use super::{HOSTS, Secure};
use crate::support::eventually;

const SOON: &str = "the certificate expires soon";
const PAST: &str = "the certificate has expired";

fn ends_in(seconds: u64) -> impl FnOnce(&mut CertificateParams) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let end = rcgen::date_time_ymd(1970, 1, 1) + now + Duration::from_secs(seconds);
    move |params| params.not_after = end
}

#[tokio::test]
async fn that_a_certificate_ends_is_said_when_it_is_read_and_when_it_has_ended() {
    let mut secure = Secure::start(&[]).await;
    let (certificate, key) = secure.authority.issue(HOSTS, ends_in(8));
    secure.own.write(&(certificate, key));
    eventually("the end", async || {
        let health = secure.health("localhost", &secure.trust());
        let said = health.stderr.contains("the certificate of localhost has expired");
        said.then_some(())
    })
    .await;
    // Two looks find that these cannot be used; so there was one at least since the end.
    fs::write(&secure.own.key, "no key").unwrap();
    eventually("a look", async || {
        (secure.scrape().await.count("halyard_tls_reload_failing") == 1).then_some(())
    })
    .await;
    secure.served.program.signal(Signal::TERM);
    let (status, log) = secure.served.program.ends();
    assert_eq!(status.code(), Some(0), "{log}");
    let told = [SOON, PAST].map(|words| log.matches(words).count());
    assert_eq!(told, [1, 1], "{log}");
    assert!(log.find(SOON) < log.find(PAST), "{log}");
}

#[tokio::test]
async fn clients_say_what_to_do_when_a_server_shows_the_certificate_of_an_authority() {
    let secure = Secure::start(&[]).await;
    let authoritys = secure.authority.issue(HOSTS, |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    secure.own.write(&authoritys);
    let said = eventually("the refusal", async || {
        let health = secure.health("localhost", &secure.trust());
        (health.code == Some(69)).then_some(health.stderr)
    })
    .await;
    let words = "the certificate of localhost is marked as an authority's, which no server may show";
    assert!(said.contains(words), "{said}");
}
