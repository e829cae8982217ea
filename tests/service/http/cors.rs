//! From which pages browsers may call.

use halyard::config::Origins;

use super::{EVALUATE, WEB};
use crate::app::App;
use crate::support::database;
use crate::support::plain::{Answer, Frames, http1, http2};

const LOGIN: &str = "/halyard.admin.v1.AuthService/Login";
const CHECK: &str = "/grpc.health.v1.Health/Check";
const SHOP: &str = "https://shop.example";
const CONSOLE: &str = "https://console.example";

async fn with_origins(admin: &str, evaluation: &str) -> App {
    let read = |text: &str| match text {
        "" => Origins::None,
        "*" => Origins::Any,
        text => Origins::Listed([text.to_owned()].into()),
    };
    App::start_with(database().await, |options| {
        options.http.cors_admin = read(admin);
        options.http.cors_evaluation = read(evaluation);
    })
    .await
}

async fn preflight(app: &App, path: &str, origin: &str) -> Answer {
    let headers = format!(
        "origin: {origin}\r\naccess-control-request-method: POST\r\n\
         access-control-request-headers: authorization,content-type,x-grpc-web\r\n"
    );
    http1(app.server.address(), &format!("OPTIONS {path}"), &headers, b"").await
}

/// A call without a credential.
async fn call(app: &App, path: &str, origin: &str) -> Answer {
    let headers = format!("{WEB}origin: {origin}\r\n");
    http1(app.server.address(), &format!("POST {path}"), &headers, &[0; 5]).await
}

/// Whether a browser is told anything.
fn is_silent(answer: &Answer) -> bool {
    !answer
        .headers
        .keys()
        .any(|name| name.starts_with("access-control-") || name == "vary")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_surface_has_its_own_pages() {
    let app = with_origins(CONSOLE, SHOP).await;
    for (path, own, other) in [(EVALUATE, SHOP, CONSOLE), (LOGIN, CONSOLE, SHOP)] {
        let allowed = preflight(&app, path, own).await;
        assert_eq!(allowed.status, 204);
        assert_eq!(allowed.header("access-control-allow-origin"), own);
        assert_eq!(allowed.header("access-control-allow-methods"), "POST");
        assert_eq!(allowed.header("access-control-max-age"), "7200");
        assert_eq!(allowed.header("vary"), "origin");
        for name in [
            "authorization",
            "content-type",
            "x-grpc-web",
            "grpc-timeout",
            "x-halyard-reason",
        ] {
            assert!(
                allowed.header("access-control-allow-headers").contains(name),
                "{allowed:?}"
            );
        }
        let foreign = preflight(&app, path, other).await;
        assert_eq!(
            (foreign.status, foreign.header("access-control-allow-origin")),
            (403, "")
        );
        assert_eq!(foreign.header("vary"), "origin");

        let answer = call(&app, path, own).await;
        assert_eq!(answer.header("access-control-allow-origin"), own);
        for name in ["grpc-status", "grpc-message", "grpc-status-details-bin"] {
            assert!(
                answer.header("access-control-expose-headers").contains(name),
                "{answer:?}"
            );
        }
        assert_eq!(answer.header("vary"), "origin");
        assert_ne!(Frames::read(&answer.body).status(), "0");
        let answer = call(&app, path, other).await;
        assert_eq!(answer.header("access-control-allow-origin"), "");
        assert_eq!(answer.header("vary"), "origin");
    }
    // Credentials are shown, not sent along by the browser.
    let allowed = preflight(&app, EVALUATE, SHOP).await;
    assert_eq!(allowed.header("access-control-allow-credentials"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_for_no_page_says_nothing_to_browsers() {
    let app = with_origins("", "*").await;
    for path in [LOGIN, CHECK] {
        let asked = preflight(&app, path, SHOP).await;
        assert!(asked.status == 405 && is_silent(&asked), "{asked:?}");
        assert!(is_silent(&call(&app, path, SHOP).await));
    }
    for path in ["/healthz", "/readyz"] {
        let asked = preflight(&app, path, SHOP).await;
        assert!(asked.status == 405 && is_silent(&asked), "{asked:?}");
        let read = http1(
            app.server.address(),
            &format!("GET {path}"),
            &format!("origin: {SHOP}\r\n"),
            b"",
        )
        .await;
        assert!(read.status == 200 && is_silent(&read), "{read:?}");
    }
    let none = with_origins("", "").await;
    assert!(is_silent(&call(&none, EVALUATE, SHOP).await));
    assert!(is_silent(&preflight(&none, EVALUATE, SHOP).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn evaluation_may_be_for_all_pages() {
    let app = with_origins("", "*").await;
    let allowed = preflight(&app, EVALUATE, "https://anywhere.example").await;
    assert_eq!(
        (allowed.status, allowed.header("access-control-allow-origin")),
        (204, "*")
    );
    let answer = call(&app, EVALUATE, "https://anywhere.example").await;
    assert_eq!(answer.header("access-control-allow-origin"), "*");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_may_read_that_it_asks_in_the_wrong_way() {
    let app = with_origins("", SHOP).await;
    let ask = async |method: &str, kind: &str, origin: &str| {
        let headers = format!("content-type: {kind}\r\norigin: {origin}\r\n");
        http1(app.server.address(), &format!("{method} {EVALUATE}"), &headers, &[0; 5]).await
    };
    for (method, kind, status) in [
        ("POST", "application/json", 415),
        ("GET", "application/json", 405),
        ("POST", "application/grpc", 505),
    ] {
        let told = ask(method, kind, SHOP).await;
        assert_eq!(
            (told.status, told.header("access-control-allow-origin")),
            (status, SHOP)
        );
        let kept = ask(method, kind, CONSOLE).await;
        assert_eq!((kept.status, kept.header("access-control-allow-origin")), (status, ""));
        assert_eq!(kept.header("vary"), "origin");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_alone_opens_nothing() {
    let app = with_origins(CONSOLE, SHOP).await;
    // No preflight: what a form of a foreign page could send is no call.
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        let headers = format!("origin: {SHOP}\r\ncontent-type: {kind}\r\n");
        let answer = http1(app.server.address(), &format!("POST {EVALUATE}"), &headers, &[0; 5]).await;
        assert_eq!(answer.status, 415, "{kind}");
    }
    // Over HTTP/2 as over HTTP/1.1.
    let headers = [("origin", SHOP), ("access-control-request-method", "POST")];
    let allowed = http2(app.server.address(), "OPTIONS", EVALUATE, &headers, b"").await;
    assert_eq!(
        (allowed.status, allowed.header("access-control-allow-origin")),
        (204, SHOP)
    );
}
