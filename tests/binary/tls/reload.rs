//! Certificates are replaced while calls go on: no request fails, new connections have the new one, and a broken pair changes nothing.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::process::Signal;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::{HOSTS, Secure};
use crate::support::tls::connect;
use crate::support::{eventually, within};

async fn check(channel: Channel) {
    let request = HealthCheckRequest::default();
    let answer = within("health", HealthClient::new(channel).check(request)).await;
    assert_eq!(answer.unwrap().into_inner().status, 1);
}

/// Waits until a new connection is shown this certificate.
async fn shows(secure: &Secure, pem: &str) {
    let wanted = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    eventually("the new certificate", async || {
        let stream = secure.handshake(&["h2"]).await;
        let shown = stream.get_ref().1.peer_certificates().unwrap();
        (shown[0] == wanted).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_replaced_without_one_failed_request() {
    let mut secure = Secure::start(&[]).await;
    let secured = Arc::new(AtomicBool::new(true));
    let calls = Arc::new(AtomicU64::new(0));
    let mut load = JoinSet::new();
    for n in 0..6 {
        let (secured, calls) = (secured.clone(), calls.clone());
        let kept = connect(&secure.served.address, &secure.authority, None).await.unwrap();
        let (address, authority) = (secure.served.address.clone(), secure.authority.file.clone());
        load.spawn(async move {
            while secured.load(Ordering::Relaxed) {
                if n % 2 == 0 {
                    check(kept.clone()).await;
                } else {
                    let files = halyard::tls::ClientFiles {
                        authorities: Some(authority.clone()),
                        own: None,
                    };
                    let connector = halyard::tls::Connector::new(files);
                    let address = format!("https://{address}").parse().unwrap();
                    let endpoint = halyard::tls::endpoint(address, Some(&connector));
                    check(endpoint.connect_with_connector(connector).await.unwrap()).await;
                }
                calls.fetch_add(1, Ordering::Relaxed);
            }
        });
    }

    // In place, one file after the other.
    let second = secure.authority.issue(HOSTS, |_| ());
    secure.own.write(&second);
    shows(&secure, &second.0).await;
    // As Kubernetes does: the files are links through a link, which is swapped.
    let third = secure.authority.issue(HOSTS, |_| ());
    let folder = &secure.folder.path;
    for (name, (certificate, key)) in [("one", &second), ("two", &third)] {
        fs::create_dir(folder.join(name)).unwrap();
        fs::write(folder.join(name).join("crt"), certificate).unwrap();
        fs::write(folder.join(name).join("key"), key).unwrap();
    }
    symlink("one", folder.join("data")).unwrap();
    for (file, name) in [(&secure.own.certificate, "crt"), (&secure.own.key, "key")] {
        symlink(format!("data/{name}"), folder.join("link")).unwrap();
        fs::rename(folder.join("link"), file).unwrap();
    }
    symlink("two", folder.join("new")).unwrap();
    fs::rename(folder.join("new"), folder.join("data")).unwrap();
    shows(&secure, &third.0).await;

    secured.store(false, Ordering::Relaxed);
    while let Some(ended) = load.join_next().await {
        ended.unwrap();
    }
    assert!(calls.load(Ordering::Relaxed) > 20, "{calls:?}");
    assert!(secure.scrape().await.count("halyard_tls_reloads_total") >= 2);

    // A key of another certificate.
    let fourth = secure.authority.issue(HOSTS, |_| ());
    fs::write(folder.join("two/key"), &fourth.1).unwrap();
    eventually("the failure", async || {
        (secure.scrape().await.count("halyard_tls_reload_failing") == 1).then_some(())
    })
    .await;
    shows(&secure, &third.0).await;
    fs::write(folder.join("two/crt"), &fourth.0).unwrap();
    shows(&secure, &fourth.0).await;
    assert_eq!(secure.scrape().await.count("halyard_tls_reload_failing"), 0);

    // One that has expired is shown all the same, and said to be so; and clients say it too.
    let expired = secure.authority.issue(HOSTS, |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    fs::write(folder.join("two/crt"), &expired.0).unwrap();
    fs::write(folder.join("two/key"), &expired.1).unwrap();
    let said = eventually("the expiry", async || {
        let health = secure.health("localhost", &secure.trust());
        (health.code == Some(69)).then_some(health.stderr)
    })
    .await;
    assert!(said.contains("the certificate of localhost has expired"), "{said}");

    secure.served.program.signal(Signal::TERM);
    let (status, log) = secure.served.program.ends();
    assert_eq!(status.code(), Some(0), "{log}");
    assert_eq!(
        log.matches("the files of TLS have changed and cannot be used").count(),
        1,
        "{log}"
    );
    assert!(log.contains("does not belong to the certificate in"), "{log}");
    assert!(log.contains("the certificate has expired"), "{log}");
    assert!(!log.contains("PRIVATE KEY"), "{log}");
}
