//! The floor: bare binary COPY into the same tables.

use std::pin::pin;

use jiff::Timestamp;
use tokio_postgres::Client;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};

use crate::events::Event;
use crate::place::Place;
use crate::support::Result;

/// Batches of a transaction: what Halyard writes at once, at most.
const GROUP: usize = 10;

/// Writes ids, exposures and values, as they are, without a question whether they are new.
pub async fn copy(sql: &mut Client, place: &Place, batches: &[Vec<Event>]) -> Result<()> {
    let today: jiff::civil::Date = sql
        .query_one("select (now() at time zone 'utc')::date", &[])
        .await?
        .try_get(0)?;
    for group in batches.chunks(GROUP) {
        let events = || group.iter().flatten();
        let now = Timestamp::now();
        let transaction = sql.transaction().await?;
        let sink = transaction
            .copy_in("copy event_ids (day, environment_id, id) from stdin (format binary)")
            .await?;
        let mut ids = pin!(BinaryCopyInWriter::new(sink, &[Type::DATE, Type::INT8, Type::UUID]));
        for event in events() {
            let row: [&(dyn ToSql + Sync); 3] = [&today, &place.environment, &event.id];
            ids.as_mut().write(&row).await?;
        }
        ids.finish().await?;
        let sink = transaction
            .copy_in(
                "copy exposures (day, experiment_id, iteration, counts, received_at, occurred_at, arm, unit)
                 from stdin (format binary)",
            )
            .await?;
        let types = [
            Type::DATE,
            Type::INT8,
            Type::INT4,
            Type::BOOL,
            Type::TIMESTAMPTZ,
            Type::TIMESTAMPTZ,
            Type::TEXT,
            Type::TEXT,
        ];
        let mut exposures = pin!(BinaryCopyInWriter::new(sink, &types));
        for event in events().filter(|event| event.cents.is_none()) {
            let row: [&(dyn ToSql + Sync); 8] = [
                &today,
                &place.experiment,
                &1_i32,
                &true,
                &now,
                &event.at,
                &"on",
                &event.unit,
            ];
            exposures.as_mut().write(&row).await?;
        }
        exposures.finish().await?;
        let sink = transaction
            .copy_in(
                "copy metric_events (day, environment_id, measure, received_at, occurred_at, value, metric, attribute, unit)
                 from stdin (format binary)",
            )
            .await?;
        let types = [
            Type::DATE,
            Type::INT8,
            Type::INT2,
            Type::TIMESTAMPTZ,
            Type::TIMESTAMPTZ,
            Type::NUMERIC,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT,
        ];
        let mut values = pin!(BinaryCopyInWriter::new(sink, &types));
        for event in events() {
            let Some(cents) = event.cents else { continue };
            let row: [&(dyn ToSql + Sync); 9] = [
                &today,
                &place.environment,
                &2_i16,
                &now,
                &event.at,
                &Cents(cents),
                &"revenue",
                &None::<&str>,
                &event.unit,
            ];
            values.as_mut().write(&row).await?;
        }
        values.finish().await?;
        transaction.commit().await?;
    }
    Ok(())
}

/// Hundredths as a `numeric`: one digit to the base of 10 000 before the point, one behind it.
#[derive(Debug)]
struct Cents(u32);

impl ToSql for Cents {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut bytes::BytesMut,
    ) -> std::result::Result<tokio_postgres::types::IsNull, Box<dyn std::error::Error + Sync + Send>> {
        use bytes::BufMut as _;
        let digit = |number: u32| u16::try_from(number % 10_000).unwrap_or_default();
        for word in [2, 0, 0, 2, digit(self.0 / 100), digit(self.0 % 100 * 100)] {
            out.put_u16(word);
        }
        Ok(tokio_postgres::types::IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::NUMERIC
    }

    tokio_postgres::types::to_sql_checked!();
}
