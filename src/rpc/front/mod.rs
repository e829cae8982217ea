//! What every request passes through, in this order: which method it is, who is calling, by when it must be answered, on which
//! runtime it runs, that a panic harms nobody else, and the line in the log. What there is too much of is refused on the way.

mod admit;
mod anybody;
mod bounds;
mod caller;
mod deadline;
mod denials;
mod log;
mod openid;
mod tally;
mod trace;
mod uses;
mod whole;

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use futures_util::{FutureExt as _, poll};
use http::{HeaderName, Request, Response};
use tokio::runtime::Handle;
use tonic::body::Body;
use tonic::{Code, Status};
use tower_layer::Layer;
use tower_service::Service;
use tracing::Instrument as _;

pub use admit::Authenticator;
use admit::Who;
pub use bounds::{Bounds, Limits, Share, Waiting};
pub use caller::{Application, Caller, Peer, REASON, reason};
pub use deadline::Deadline;
pub use denials::Denials;
pub use openid::OpenId;
pub use tally::{BOUNDS as DURATION_BOUNDS, CODES, Counted, Tallies};
pub use uses::{Used, Uses};

use super::methods::{Method, Methods, Place};
use super::{Refusal, status};
use crate::store;
use crate::trace::{Tracer, carry};
use tally::Tally;

/// In the headers of a response: it was refused before it began.
const STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Puts the front before the services.
#[derive(Clone)]
pub struct FrontLayer {
    desk: Arc<Desk>,
    tallies: Arc<Tallies>,
    tally: Arc<Tally>,
}

/// What the front needs to know.
struct Desk {
    methods: Methods,
    authenticator: Authenticator,
    administration: Handle,
    denials: Arc<Denials>,
    bounds: Arc<Bounds>,
    tracer: Option<Tracer>,
}

impl FrontLayer {
    /// A front that lets in applications, and knows of no administration.
    pub fn for_applications(authenticator: Authenticator, runtime: Handle, bounds: Arc<Bounds>) -> Self {
        Self::of(Desk {
            methods: Methods::of_applications(),
            authenticator,
            administration: runtime,
            denials: Arc::default(),
            bounds,
            tracer: None,
        })
    }

    /// A front that runs administrative methods on `administration`, and notes who was denied one.
    pub fn new(
        authenticator: Authenticator,
        administration: Handle,
        denials: Arc<Denials>,
        bounds: Arc<Bounds>,
    ) -> Self {
        Self::of(Desk {
            methods: Methods::default(),
            authenticator,
            administration,
            denials,
            bounds,
            tracer: None,
        })
    }

    /// Traces requests. To be called before the front is shared.
    #[must_use]
    pub fn traced(mut self, tracer: Option<Tracer>) -> Self {
        if let Some(desk) = Arc::get_mut(&mut self.desk) {
            desk.tracer = tracer;
        }
        self
    }

    fn of(desk: Desk) -> Self {
        let tallies = Arc::<Tallies>::default();
        Self {
            desk: Arc::new(desk),
            tally: tallies.of_worker(),
            tallies,
        }
    }

    /// The same front, counting in cells of its own: one for each worker.
    #[must_use]
    pub fn of_worker(&self) -> Self {
        Self {
            desk: self.desk.clone(),
            tally: self.tallies.of_worker(),
            tallies: self.tallies.clone(),
        }
    }

    /// What is counted of requests.
    pub fn tallies(&self) -> Arc<Tallies> {
        self.tallies.clone()
    }
}

impl<S> Layer<S> for FrontLayer {
    type Service = Front<S>;

    fn layer(&self, services: S) -> Front<S> {
        Front {
            desk: self.desk.clone(),
            tally: self.tally.clone(),
            services,
        }
    }
}

/// The services behind the front.
#[derive(Clone)]
pub struct Front<S> {
    desk: Arc<Desk>,
    tally: Arc<Tally>,
    services: S,
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<S> Service<Request<Body>> for Front<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.services.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.answer(request)
    }
}

impl<S> Front<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    /// Has the services answer, which are always ready: they refuse what is too much.
    pub fn answer(&self, mut request: Request<Body>) -> BoxFuture<Result<Response<Body>, Infallible>> {
        let Self { desk, tally, services } = self.clone();
        let method = desk.methods.get(request.uri().path());
        match trace::begin(&desk, method, &mut request) {
            None => Box::pin(async move { Ok(desk.serve(method, services, request, &tally).await) }),
            Some(traced) => {
                Box::pin(async move { Ok(traced.answer(desk.serve(method, services, request, &tally)).await) })
            }
        }
    }
}

impl Desk {
    async fn serve<S>(
        &self,
        method: Option<&'static Method>,
        services: S,
        mut request: Request<Body>,
        tally: &Arc<Tally>,
    ) -> Response<Body>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Send + 'static,
        S::Future: Send + 'static,
    {
        let started = Instant::now();
        let Some(method) = method else {
            tally.unknown();
            return Status::from(Refusal::Unimplemented).into_http();
        };
        let begun = tally.begin(method, started);
        let address = caller::address(&request);
        let trace_id = trace::id(method, request.headers());
        let deadline = self.bounds.cut(Deadline::of(request.headers()), started, method);
        if method.place() == Place::Administration {
            // Of an application it is with the rest that is known of it: one more insertion would be seen in what an evaluation costs.
            request.extensions_mut().insert(deadline);
        }
        let mut who = Who::default();
        let result = {
            let mut work = pin!(self.answer(method, services, request, deadline, &mut who));
            match (poll!(work.as_mut()), method.place()) {
                // Most evaluations are answered at once, and need no timer.
                (Poll::Ready(result), _) => result,
                // Of a stream this is about its beginning; whoever streams looks at the deadline for the rest.
                (Poll::Pending, Place::Connection) => within(deadline, work).await,
                // It looks at the deadline itself, and may have to finish what it is committing.
                (Poll::Pending, Place::Administration) => work.await,
            }
        };
        let (code, response) = complete(result);
        let took = started.elapsed();
        log::request(method, code, address, &who, trace_id, took);
        begun.answered(code, took, response)
    }

    /// Lets the caller in, and runs the method where it belongs.
    async fn answer<S>(
        &self,
        method: &'static Method,
        mut services: S,
        mut request: Request<Body>,
        deadline: Deadline,
        who: &mut Who,
    ) -> Result<Response<Body>, Refusal>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Send + 'static,
        S::Future: Send + 'static,
    {
        let admitted = {
            let mut admission = pin!(self.authenticator.admit(method, &mut request, deadline));
            match poll!(admission.as_mut()) {
                Poll::Ready(admitted) => admitted,
                Poll::Pending => {
                    let _slot = Share::enter(&*self.bounds.strangers)?;
                    within(deadline, admission).await
                }
            }
        };
        if let (Err(Refusal::Denied), Some(caller)) = (&admitted, request.extensions().get::<Caller>()) {
            let peer = Peer::of(request.extensions());
            self.denials.note(caller, &peer, caller::reason(request.headers()));
            who.principal = Some(caller.principal);
        }
        *who = admitted?;
        self.bounds.count(who, self.authenticator.hub())?;
        match (method.place(), method.is_open()) {
            (Place::Connection, false) => {
                let mut work = pin!(AssertUnwindSafe(async move { services.call(request).await }).catch_unwind());
                let finished = match poll!(work.as_mut()) {
                    // What has come whole by now and waits for nothing takes nobody's place: others who hold theirs cannot keep it out.
                    // A message in a packet behind that of its headers may not be here yet, and does take one.
                    Poll::Ready(finished) => finished,
                    Poll::Pending => {
                        let share = self.bounds.share(method.load());
                        let _slot = share
                            .map(|share| Share::enter_with(&**share, who.key.as_ref()))
                            .transpose()?;
                        work.await
                    }
                };
                let Ok(response) = finished.map_err(|_| Refusal::Internal)?;
                Ok(response)
            }
            (Place::Connection, true) => Box::pin(self.answer_anybody(method, services, request)).await,
            (Place::Administration, _) => Box::pin(self.administrate(method, services, request, deadline)).await,
        }
    }

    /// Runs an administrative method until its deadline, and notes whoever is denied it. It has a place from when its message has come
    /// whole until the work has ended.
    async fn administrate<S>(
        &self,
        method: &'static Method,
        mut services: S,
        request: Request<Body>,
        deadline: Deadline,
    ) -> Result<Response<Body>, Refusal>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Send + 'static,
        S::Future: Send + 'static,
    {
        let request = match within(deadline, whole::whole(request, self.bounds.arriving(method))).await? {
            Ok(request) => request,
            Err(status) => return Ok(status.into_http()),
        };
        let slot = self
            .bounds
            .share(method.load())
            .cloned()
            .map(Share::enter)
            .transpose()?;
        let caller = request.extensions().get::<Caller>().cloned();
        let peer = Peer::of(request.extensions());
        let reason = caller::reason(request.headers()).to_owned();
        let work = AssertUnwindSafe(async move { services.call(request).await }).catch_unwind();
        let work = carry(async move {
            let finished = store::deadline::by(deadline.instant(), work).await;
            drop(slot);
            finished
        });
        let finished = match spawn(&self.administration, work.in_current_span()).await {
            Ok(Ok(finished)) => finished.map_err(|_| Refusal::Internal),
            Ok(Err(over)) => Err(over.into()),
            // The runtime is shutting down.
            Err(_) => Err(Refusal::database_away()),
        };
        let Ok(response) = finished?;
        if let Some(caller) = caller
            && Status::from_header_map(response.headers()).is_some_and(|status| status.code() == Code::PermissionDenied)
        {
            self.denials.note(&caller, &peer, &reason);
        }
        Ok(response)
    }
}

/// What becomes of it before the deadline.
async fn within<T>(deadline: Deadline, work: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
    match deadline.instant() {
        // What only some requests need is boxed: the others would carry its size around.
        Some(end) => Box::pin(tokio::time::timeout_at(end.into(), work))
            .await
            .unwrap_or(Err(Refusal::DeadlineExceeded)),
        None => work.await,
    }
}

/// Runs on another runtime; dropping the future stops the work.
async fn spawn<T: Send + 'static>(
    runtime: &Handle,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, tokio::task::JoinError> {
    struct StopOnDrop<T>(tokio::task::JoinHandle<T>);
    impl<T> Drop for StopOnDrop<T> {
        fn drop(&mut self) {
            self.0.abort();
        }
    }
    let mut task = StopOnDrop(runtime.spawn(work));
    (&mut task.0).await
}

/// The response, and its code. A refusal that the transport made is given details.
fn complete(result: Result<Response<Body>, Refusal>) -> (Code, Response<Body>) {
    let refused = match result {
        Ok(response) if !response.headers().contains_key(STATUS) => return (Code::Ok, response),
        Ok(response) => match Status::from_header_map(response.headers()) {
            Some(refused) if refused.code() != Code::Ok => status::complete(refused),
            _ => return (Code::Ok, response),
        },
        Err(refusal) => Status::from(refusal),
    };
    (refused.code(), refused.into_http())
}

#[cfg(test)]
mod tests {
    use std::future::Ready;

    use super::*;
    use crate::auth::jwt::{SigningKey, Tokens};
    use crate::domain::change::EnvironmentId;
    use crate::watch::Hub;
    use crate::watch::source::{Answer, Head, Source, Unreachable};

    /// A source that cannot be asked.
    struct Away;

    impl Source for Away {
        fn confirm_head(&self, _: EnvironmentId) -> Answer<'_, Option<Head>> {
            Box::pin(async { Err(Unreachable) })
        }

        fn confirm_access(&self) -> Answer<'_, u64> {
            Box::pin(async { Err(Unreachable) })
        }
    }

    /// A service with a bug.
    #[derive(Clone)]
    pub(super) struct Panics;

    impl Service<Request<Body>> for Panics {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = Ready<Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            panic!("on purpose")
        }
    }

    /// A service that waits for what does not come.
    #[derive(Clone)]
    struct Waits;

    impl Service<Request<Body>> for Waits {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = std::future::Pending<Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            std::future::pending()
        }
    }

    pub(super) fn front<S>(service: S) -> Front<S> {
        let hub = Hub::new(Arc::new(Away), crate::watch::Options::default());
        let tokens = Arc::new(Tokens::new(&SigningKey::new(&[7; 32]).unwrap(), &[]));
        let bounds = Arc::new(Bounds::new(Limits::default()));
        FrontLayer::new(
            Authenticator::new(hub, tokens),
            Handle::current(),
            Arc::default(),
            bounds,
        )
        .layer(service)
    }

    const LOGIN: &str = "/halyard.admin.v1.AuthService/Login";

    async fn call<S>(front: &mut Front<S>, path: &str) -> Code
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send + 'static,
    {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        let response = front.call(request).await.unwrap();
        Status::from_header_map(response.headers()).unwrap().code()
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_given_back_however_a_call_ends() {
        let mut panicking = front(Panics);
        assert_eq!(call(&mut panicking, LOGIN).await, Code::Internal);
        assert_eq!(panicking.desk.bounds.logins.taken(), 0);

        let mut waiting = front(Waits);
        let bounds = waiting.desk.bounds.clone();
        assert_eq!(call(&mut waiting, LOGIN).await, Code::DeadlineExceeded);
        assert_eq!(bounds.logins.taken(), 0);

        {
            let mut given_up = pin!(call(&mut waiting, LOGIN));
            assert!(poll!(given_up.as_mut()).is_pending());
            assert_eq!(bounds.logins.taken(), 1);
        }
        while bounds.logins.taken() > 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_place_is_refused_at_once_until_there_is_one() {
        let mut front = front(Waits);
        let bounds = front.desk.bounds.clone();
        let most = bounds.logins.most();
        let taken: Vec<_> = (0..most).map(|_| Share::enter(&*bounds.logins).unwrap()).collect();
        assert_eq!(call(&mut front, LOGIN).await, Code::Unavailable);
        // Whether it lives is told all the same, and other kinds of calls have places of their own.
        assert_eq!(
            call(&mut front, "/grpc.health.v1.Health/Check").await,
            Code::DeadlineExceeded
        );
        assert_eq!((bounds.logins.refused(), bounds.administration.taken()), (1, 0));
        drop(taken);
        assert_eq!(call(&mut front, LOGIN).await, Code::DeadlineExceeded);
    }

    async fn code(path: &str, credential: Option<&str>) -> Code {
        code_of(Panics, path, credential).await
    }

    async fn code_of<S>(service: S, path: &str, credential: Option<&str>) -> Code
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send + 'static,
    {
        let mut front = front(service);
        let mut request = Request::builder().uri(path);
        if let Some(credential) = credential {
            request = request.header("authorization", format!("Bearer {credential}"));
        }
        let response = front.call(request.body(Body::empty()).unwrap()).await.unwrap();
        let status = Status::from_header_map(response.headers()).unwrap();
        assert!(!status.message().contains("on purpose"), "{status:?}");
        status.code()
    }

    #[tokio::test]
    async fn a_panic_is_an_internal_error_wherever_the_method_runs() {
        assert_eq!(code("/grpc.health.v1.Health/Check", None).await, Code::Internal);
        assert_eq!(code("/halyard.admin.v1.AuthService/Login", None).await, Code::Internal);
    }

    #[tokio::test(start_paused = true)]
    async fn who_shows_nothing_is_not_waited_for_for_ever() {
        for path in [
            "/grpc.health.v1.Health/Check",
            "/halyard.admin.v1.AuthService/Login",
            "/halyard.admin.v1.AuthService/AcceptInvitation",
        ] {
            assert_eq!(code_of(Waits, path, None).await, Code::DeadlineExceeded, "{path}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_has_not_begun_by_the_deadline_is_answered_so() {
        let mut front = front(Waits);
        let request = Request::builder()
            .uri("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
            .header("grpc-timeout", "1S");
        let response = front.call(request.body(Body::empty()).unwrap()).await.unwrap();
        let status = Status::from_header_map(response.headers()).unwrap();
        assert_eq!(status.code(), Code::DeadlineExceeded);
    }

    #[tokio::test]
    async fn who_is_not_let_in_does_not_reach_the_service() {
        let evaluate = "/halyard.evaluation.v1.EvaluationService/Evaluate";
        assert_eq!(code(evaluate, None).await, Code::Unauthenticated);
        assert_eq!(
            code("/halyard.admin.v1.FlagService/ToggleFlags", Some("x")).await,
            Code::Unauthenticated
        );
        assert_eq!(
            code("/halyard.admin.v1.FlagService/Nothing", None).await,
            Code::Unimplemented
        );
    }

    #[tokio::test]
    async fn a_credential_that_may_only_be_new_is_not_called_wrong_while_nobody_can_be_asked() {
        use secrecy::ExposeSecret as _;
        let key = crate::auth::keys::generate(crate::domain::access::KeyKind::Server).unwrap();
        let evaluate = "/halyard.evaluation.v1.EvaluationService/Evaluate";
        assert_eq!(
            code(evaluate, Some(key.secret.expose_secret())).await,
            Code::Unavailable
        );
    }
}
