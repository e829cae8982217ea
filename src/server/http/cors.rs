//! From which pages browsers may call, surface by surface: the administrative services, and those of applications.
//!
//! Health and reflection are not for pages and have no origins. What a page may not read is answered as to anyone else, without a word
//! for its browser, which then keeps the answer from it: who may do what is decided by credentials, which no browser adds by itself.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tonic::body::Body;

use crate::config::Origins;

/// What a page may send: credentials, what gRPC-Web and its clients say, our own, and what traces are continued by.
const ALLOWED: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, grpc-timeout, grpc-encoding, grpc-accept-encoding, x-grpc-web, x-user-agent, \
     x-halyard-reason, traceparent, tracestate, baggage",
);
/// What a page may read: how a call ended, should that not be in the trailers, and our own.
const EXPOSED: HeaderValue =
    HeaderValue::from_static("grpc-status, grpc-message, grpc-status-details-bin, grpc-encoding, x-request-id");
/// How long a browser need not ask again. Most take two hours at most.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");
const ANY: HeaderValue = HeaderValue::from_static("*");
const BY_ORIGIN: HeaderValue = HeaderValue::from_static("origin");

/// Which origins may call what.
pub(super) struct Cors {
    admin: Origins,
    evaluation: Origins,
}

/// What an answer says to the browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rules {
    /// Nothing: no page may call this.
    Silent,
    /// This page may not; another may.
    Foreign,
    /// This page may.
    Allowed(HeaderValue),
}

impl Cors {
    pub fn new(admin: Origins, evaluation: Origins) -> Self {
        Self { admin, evaluation }
    }

    /// What an answer to a request says to the browser.
    pub fn rules(&self, path: &str, headers: &HeaderMap) -> Rules {
        let origins = if path.starts_with("/halyard.admin.v1.") {
            &self.admin
        } else if path.starts_with("/halyard.evaluation.v1.") {
            &self.evaluation
        } else {
            &Origins::None
        };
        let origin = headers.get(ORIGIN);
        match origins {
            Origins::None => Rules::Silent,
            Origins::Any => Rules::Allowed(ANY),
            Origins::Listed(listed) => match origin {
                Some(origin) if origin.to_str().is_ok_and(|origin| listed.contains(origin)) => {
                    Rules::Allowed(origin.clone())
                }
                _ => Rules::Foreign,
            },
        }
    }

    /// Answers a browser that asks whether a page may call, before any credential is shown. `None`: that is not what is asked, or no
    /// page may.
    pub fn preflight<B>(&self, request: &Request<B>) -> Option<Response<Body>> {
        let headers = request.headers();
        if !headers.contains_key(ORIGIN) || !headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
            return None;
        }
        let rules = self.rules(request.uri().path(), headers);
        let mut response = Response::new(Body::empty());
        match rules {
            Rules::Silent => return None,
            Rules::Foreign => *response.status_mut() = StatusCode::FORBIDDEN,
            Rules::Allowed(_) => {
                *response.status_mut() = StatusCode::NO_CONTENT;
                let headers = response.headers_mut();
                headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
                headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED);
                headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
            }
        }
        rules.apply(&mut response);
        Some(response)
    }
}

impl Rules {
    /// Says it.
    pub fn apply<B>(self, response: &mut Response<B>) {
        let headers = response.headers_mut();
        match self {
            Self::Silent => {}
            Self::Foreign => {
                headers.append(VARY, BY_ORIGIN);
            }
            Self::Allowed(origin) => {
                if origin != ANY {
                    headers.append(VARY, BY_ORIGIN);
                }
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
                headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVALUATE: &str = "/halyard.evaluation.v1.EvaluationService/Evaluate";
    const LOGIN: &str = "/halyard.admin.v1.AuthService/Login";
    const CHECK: &str = "/grpc.health.v1.Health/Check";
    const SHOP: &str = "https://shop.example";
    const CONSOLE: &str = "https://console.example";

    fn listed(origin: &str) -> Origins {
        Origins::Listed([origin.to_owned()].into())
    }

    fn headers(origin: &str) -> HeaderMap {
        [(ORIGIN, HeaderValue::from_str(origin).unwrap())].into_iter().collect()
    }

    #[test]
    fn each_surface_has_its_own_origins_and_what_is_for_no_page_has_none() {
        let cors = Cors::new(listed(CONSOLE), listed(SHOP));
        let allowed = |origin| Rules::Allowed(HeaderValue::from_static(origin));
        assert_eq!(cors.rules(EVALUATE, &headers(SHOP)), allowed(SHOP));
        assert_eq!(cors.rules(EVALUATE, &headers(CONSOLE)), Rules::Foreign);
        assert_eq!(cors.rules(LOGIN, &headers(CONSOLE)), allowed(CONSOLE));
        assert_eq!(cors.rules(LOGIN, &headers(SHOP)), Rules::Foreign);
        assert_eq!(cors.rules(CHECK, &headers(SHOP)), Rules::Silent);
        assert_eq!(cors.rules("/halyard.evaluation.v1x", &headers(SHOP)), Rules::Silent);
        // Nobody's page: another answer would be kept for a page.
        assert_eq!(cors.rules(EVALUATE, &HeaderMap::new()), Rules::Foreign);
    }

    #[test]
    fn origins_are_compared_whole() {
        let cors = Cors::new(Origins::None, listed(SHOP));
        for origin in [
            "https://shop.example.evil",
            "https://evil-shop.example",
            "http://shop.example",
            "https://shop.example:8443",
            "null",
            "",
        ] {
            assert_eq!(cors.rules(EVALUATE, &headers(origin)), Rules::Foreign, "{origin}");
        }
    }

    #[test]
    fn without_origins_nothing_is_said() {
        let cors = Cors::new(Origins::None, Origins::None);
        assert_eq!(cors.rules(EVALUATE, &headers(SHOP)), Rules::Silent);
        let mut response = Response::new(());
        Rules::Silent.apply(&mut response);
        assert!(response.headers().is_empty());
    }

    #[test]
    fn what_is_for_all_pages_does_not_vary() {
        let cors = Cors::new(Origins::None, Origins::Any);
        let mut response = Response::new(());
        cors.rules(EVALUATE, &headers(SHOP)).apply(&mut response);
        assert_eq!(response.headers()[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert!(!response.headers().contains_key(VARY));
    }
}
