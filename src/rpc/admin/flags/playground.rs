//! Trying a flag out: answers for people, explained, also from a configuration that is not saved.

use tonic::{Request, Response};

use super::Flags;
use crate::domain::access::KeyKind;
use crate::domain::flag::Configuration;
use crate::domain::form::{self, ItemId, Kind};
use crate::domain::invalid::Violations;
use crate::domain::key;
use crate::evaluate::Snapshot;
use crate::pb::admin::v1 as pb;
use crate::rpc::admin::{Call, at};
use crate::rpc::convert::common::{finish, key, place};
use crate::rpc::convert::{context, evaluation, explanation};
use crate::rpc::{Answer, Refusal};
use crate::watch::State;

impl Flags {
    pub(super) async fn test(&self, request: Request<pb::TestEvaluateRequest>) -> Answer<pb::TestEvaluateResponse> {
        let (call, message) = Call::open(request)?;
        let pb::TestEvaluateRequest {
            project,
            environment,
            flag,
            context,
            draft,
            min_revision,
        } = message;
        let mut violations = Violations::new();
        let place = place(&mut violations, &project, &environment);
        call.authorise(place.as_ref().map(|(project, _)| project))?;
        let flag = key(&mut violations, "flag", &flag);
        let context = violations.take("", context::read(context));
        let asked = finish(violations, place.zip(flag).zip(context)).map_err(Refusal::Invalid)?;
        let (((project, environment), flag), context): (((_, _), key::Flag), _) = asked;
        let at = at(&project, &environment);
        todo!()
    }
}
