//! Events counted once from one day to the next, and days that come and go.

use halyard::domain::event::Window;
use halyard::pb::evaluation::v1 as pb;
use halyard::pb::evaluation::v1::EventOutcome::{Accepted, Duplicate, Late};
use halyard::store::events::Kept;

use halyard::server::Server;
use tonic::Code;
use uuid::Uuid;

use super::{World, at, conversion, exposure, track, within_a_day};
use crate::app::{App, connect, options};
use crate::refusals::refused;
use crate::support::{database, eventually, within};

/// Names of the partitions that there are, by their distance from today in days.
async fn partitions(world: &World, table: &str) -> Vec<i32> {
    let names = "
        select to_date(right(c.relname, 8), 'YYYYMMDD') - (now() at time zone 'utc')::date
        from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = $1::text::regclass order by 1";
    let rows = world.sql.query(names, &[&table]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Makes the partitions of a day that is over, as they were made when it was not.
async fn past_day(world: &World, days_ago: i32) {
    let day = format!("(now() at time zone 'utc')::date - {days_ago}");
    for table in ["event_ids", "exposures", "metric_events"] {
        let make = format!(
            "do $$ begin
                execute format('create table {table}_%s partition of {table} for values from (%L) to (%L)',
                    to_char({day}, 'YYYYMMDD'), {day}, {day} + 1);
            end $$"
        );
        world.sql.batch_execute(&make).await.unwrap();
    }
}

/// Moves all that was received today to a day that is over.
async fn age(world: &World, days: i32) {
    for table in ["event_ids", "exposures", "metric_events"] {
        let sql = format!("update {table} set day = day - $1::integer");
        world.sql.execute(&sql, &[&days]).await.unwrap();
    }
}

fn with_id(id: Uuid, event: pb::Event) -> pb::Event {
    pb::Event {
        id: id.to_string(),
        ..event
    }
}

/// An id of version 7 that was made so many days ago, at this time of the day.
fn made(days_ago: i32) -> Uuid {
    let milliseconds = jiff::Timestamp::now().as_millisecond() - i64::from(days_ago) * 24 * 60 * 60 * 1000;
    let milliseconds = u128::try_from(milliseconds).unwrap();
    Uuid::from_u128(milliseconds << 80 | 0x7000_8000_0000_0000_0000 | u128::from(fastrand::u64(..)))
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_partitions_for_today_and_tomorrow() {
    within_a_day(async || {
        let world = World::new().await;
        assert_eq!(world.track(vec![exposure("u")]).await, [Accepted]);
        for table in ["event_ids", "exposures", "metric_events"] {
            assert_eq!(partitions(&world, table).await, [0, 1], "{table}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_a_day_before_is_known_within_the_window() {
    within_a_day(async || {
        for (days, expected) in [(1, Duplicate), (4, Duplicate), (5, Accepted)] {
            let world = World::new().await;
            // One id says nothing of its age; the other tells that it was made on the day on which it was received.
            let events: Vec<_> = [Uuid::new_v4(), made(days)].map(|id| with_id(id, exposure("u"))).into();
            assert_eq!(world.track(events.clone()).await, [Accepted; 2]);
            past_day(&world, days).await;
            age(&world, days).await;
            assert_eq!(world.track(events).await, [expected; 2], "after {days} days");
        }
    })
    .await;
}

/// A transaction on another replica still writes to yesterday when midnight has passed here. Its copy of the event must be seen.
#[tokio::test(flavor = "multi_thread")]
async fn copies_on_both_sides_of_midnight_count_once() {
    within_a_day(async || {
        let world = World::new().await;
        world.track(vec![exposure("somebody")]).await;
        past_day(&world, 1).await;
        let yesterday = "update event_day set day = day - 1";
        world.sql.execute(yesterday, &[]).await.unwrap();
        let event = with_id(Uuid::new_v4(), exposure("u"));
        let mut other = world.app.database.client().await;
        let transaction = other.transaction().await.unwrap();
        let write = "
            with gate as materialized (select pg_advisory_xact_lock_shared(x'6576656e74646179'::bigint))
            insert into event_ids (day, environment_id, id)
            select day, (select environment_id from experiments), $1::text::uuid from event_day, gate";
        transaction.execute(write, &[&event.id]).await.unwrap();

        let (channel, key) = (world.app.channel.clone(), world.keys.server.clone());
        let copy = tokio::spawn({
            let event = event.clone();
            async move { track(&channel, &key, vec![event]).await }
        });
        let waiting = "select from pg_locks where locktype = 'advisory' and not granted";
        eventually("the day to be waited for", async || {
            (!world.sql.query(waiting, &[]).await.unwrap().is_empty()).then_some(())
        })
        .await;
        assert!(!copy.is_finished());
        transaction.commit().await.unwrap();
        assert_eq!(within("an answer", copy).await.unwrap().unwrap(), [Duplicate]);
        let today = "select day = (now() at time zone 'utc')::date from event_day";
        assert!(world.sql.query_one(today, &[]).await.unwrap().get::<_, bool>(0));
    })
    .await;
}

/// A standby whose clock is behind took over: days do not go back.
#[tokio::test(flavor = "multi_thread")]
async fn a_day_that_has_begun_goes_on_though_the_clock_was_set_back() {
    within_a_day(async || {
        let world = World::new().await;
        world.track(vec![exposure("u")]).await;
        let tomorrow = "update event_day set day = day + 1";
        world.sql.execute(tomorrow, &[]).await.unwrap();
        assert_eq!(world.track(vec![exposure("v")]).await, [Accepted]);
        let days = world
            .rows("exposures where day = (now() at time zone 'utc')::date + 1")
            .await;
        assert_eq!(days, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn days_beyond_what_is_kept_are_dropped_whole() {
    within_a_day(async || {
        let world = World::new().await;
        world.track(vec![exposure("u"), conversion("u", "bought")]).await;
        // The last is overdue for more than a day.
        for days in [4, 5, 10, 11, 12] {
            past_day(&world, days).await;
        }
        let kept = Kept {
            window: Window { days: 3 },
            days: Some(10),
        };
        let store = world.app.server.store();
        // Somebody reads: it goes the next time.
        let mut reader = world.app.database.client().await;
        let reading = reader.transaction().await.unwrap();
        reading.query("select from exposures", &[]).await.unwrap();
        assert_eq!(store.keep_event_days(&kept).await.unwrap(), 6);
        assert_eq!(partitions(&world, "exposures").await, [-12, -11, -10, -5, -4, 0, 1]);
        reading.commit().await.unwrap();
        assert_eq!(store.keep_event_days(&kept).await.unwrap(), 2);
        assert_eq!(partitions(&world, "exposures").await, [-10, -5, -4, 0, 1]);
        assert_eq!(partitions(&world, "metric_events").await, [-10, -5, -4, 0, 1]);
        assert_eq!(partitions(&world, "event_ids").await, [-4, 0, 1]);
        assert_eq!(world.track(vec![exposure("v")]).await, [Accepted]);
    })
    .await;
}

/// A replica with a shorter window has dropped ids, or this one had one before: what cannot be told from a copy any more is late.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_id_may_be_forgotten_is_late_whatever_the_window() {
    within_a_day(async || {
        let app = App::start_with(database().await, |options| {
            options.events.kept.window = Window { days: 30 };
        })
        .await;
        let world = World::on(app).await;
        past_day(&world, 10).await;
        let ten_days = -10 * 24 * 60 * 60;
        let old = at(with_id(Uuid::new_v4(), exposure("u")), ten_days);
        assert_eq!(world.track(vec![old.clone()]).await, [Accepted]);
        age(&world, 10).await;
        assert_eq!(world.track(vec![old.clone()]).await, [Duplicate]);

        let shorter = Kept {
            window: Window { days: 3 },
            days: None,
        };
        assert_eq!(world.app.server.store().keep_event_days(&shorter).await.unwrap(), 1);
        let made_today = at(exposure("u"), ten_days);
        let outcomes = world.track(vec![old, made_today, at(exposure("u"), -60)]).await;
        assert_eq!(outcomes, [Late, Accepted, Accepted]);
    })
    .await;
}

/// The database's clock jumps for those who connect from now on.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_far_ahead_moves_no_day_and_drops_none() {
    within_a_day(async || {
        let world = World::new().await;
        assert_eq!(world.track(vec![exposure("u")]).await, [Accepted]);
        past_day(&world, 10).await;
        let jump = "
            create function public.clock_timestamp() returns timestamptz language sql volatile
                as $$ select pg_catalog.clock_timestamp() + interval '100 days' $$;
            do $$ begin execute format('alter database %I set search_path = public, pg_catalog', current_database()); end $$";
        world.sql.batch_execute(jump).await.unwrap();
        let replica = Server::start(options(&world.app.database)).await.unwrap();
        within("the first state", replica.ready()).await;
        let channel = connect(&replica).await;
        let kept = Kept {
            window: Window { days: 3 },
            days: Some(3),
        };
        let error = replica.store().keep_event_days(&kept).await.unwrap_err();
        assert!(error.summary().contains("clock"), "{}", error.summary());
        refused(track(&channel, &world.keys.server, vec![exposure("v")]).await, Code::Unavailable);
        for table in ["event_ids", "exposures", "metric_events"] {
            assert_eq!(partitions(&world, table).await, [-10, 0, 1], "{table}");
        }
        // Whose clock is right goes on.
        assert_eq!(world.track(vec![exposure("w")]).await, [Accepted]);
        assert_eq!(world.rows("exposures").await, 2);
        replica.stop().await.unwrap();
    })
    .await;
}
