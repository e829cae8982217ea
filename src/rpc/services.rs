//! All services, by the path of a request.

use std::convert::Infallible;
use std::task::{Context, Poll};

use futures_util::future::{BoxFuture, Either};
use http::{Request, Response};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tower_service::Service;

use super::evaluation::Evaluation;
use crate::pb::evaluation::v1::evaluation_service_server::EvaluationServiceServer;

/// All services. Evaluation is known by the path alone: the table of routes would box the request and its answer once more, and keep
/// what the path consists of, for each of a hundred thousand requests a second.
#[derive(Clone)]
pub struct Services {
    evaluation: EvaluationServiceServer<Evaluation>,
    others: Routes,
}

impl Services {
    /// Evaluation, and what else there is.
    pub fn new(evaluation: EvaluationServiceServer<Evaluation>, others: Routes) -> Self {
        Self {
            evaluation,
            // As tonic's own server has it: routes are found faster.
            others: others.prepare(),
        }
    }
}

impl Service<Request<Body>> for Services {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future =
        Either<BoxFuture<'static, Result<Response<Body>, Infallible>>, <Routes as Service<Request<Body>>>::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Evaluation is always ready.
        Service::<Request<Body>>::poll_ready(&mut self.others, context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if is_evaluation(request.uri().path()) {
            Either::Left(self.evaluation.call(request))
        } else {
            Either::Right(self.others.call(request))
        }
    }
}

/// Whether a path is one of the service's methods.
fn is_evaluation(path: &str) -> bool {
    let rest = path
        .strip_prefix('/')
        .and_then(|path| path.strip_prefix(EvaluationServiceServer::<Evaluation>::NAME));
    rest.is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evaluation_is_known_by_its_path() {
        for (path, expected) in [
            ("/halyard.evaluation.v1.EvaluationService/Evaluate", true),
            ("/halyard.evaluation.v1.EvaluationService/", true),
            ("/halyard.evaluation.v1.EvaluationService", false),
            ("/halyard.evaluation.v1.EvaluationServices/Evaluate", false),
            ("/halyard.evaluation.v1.WatchService/Watch", false),
            ("halyard.evaluation.v1.EvaluationService/Evaluate", false),
            ("/", false),
        ] {
            assert_eq!(is_evaluation(path), expected, "{path}");
        }
    }
}
