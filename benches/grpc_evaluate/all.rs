//! All flags of an environment at once, beside the same bytes from a constant.

use halyard::pb::evaluation::v1 as pb;
use prost::Message as _;

use crate::support::flags::question;
use crate::support::floor::Shape;
use crate::support::load::{self, EVALUATE_ALL, Until};
use crate::support::process::{CLIENT, SERVER, SHARED};
use crate::support::world::{World, constant};
use crate::support::{Result, seconds, setting};
use crate::{Contender, print, take_turns};

/// Flags of the environment.
const FLAGS: usize = 100;
/// Connections and requests in flight on each.
const SHAPE: (usize, usize) = (4, 8);

pub fn measure() -> Result<()> {
    let rounds = setting("BENCH_ROUNDS", 5)?;
    let time = Until::Time(seconds("BENCH_SECONDS", 3.0)?);
    let world = World::start()?;
    let mut asked = pb::EvaluateAllRequest {
        context: question().context,
        ..pb::EvaluateAllRequest::default()
    };
    let (key, answer) = {
        let replica = world.serve(SHARED, 1, &[])?;
        let administrator = world.administrator(&replica)?;
        let key = world.furnish(&administrator)?;
        asked.min_revision = world.fill(&administrator, FLAGS)?;
        let contender = Contender::new("", replica, &key).asked(EVALUATE_ALL, &asked);
        (key, load::once(&contender.load((1, 1), Until::Requests(1)))?)
    };
    let answered = pb::EvaluateAllResponse::decode(answer.clone())?.evaluations;
    if answered.len() != FLAGS
        || answered
            .iter()
            .any(|evaluation| evaluation.reason() != pb::Reason::Split)
    {
        return Err("not the answers that were prepared".into());
    }
    let floor = constant(SERVER, Shape::PerCore(1), &answer)?;
    let contenders = [
        Contender::new("constant bytes", floor, &key),
        Contender::new("Halyard", world.serve(SERVER, 1, &[])?, &key),
    ];
    let mut contenders = contenders.map(|contender| contender.asked(EVALUATE_ALL, &asked));
    take_turns(&mut contenders, SHAPE, time, CLIENT, rounds)?;
    let title = format!(
        "EvaluateAll of {FLAGS} flags, {} bytes: server on one core, load on the other, 4 connections × 8 in flight",
        answer.len()
    );
    print(&title, &contenders);
    Ok(())
}
