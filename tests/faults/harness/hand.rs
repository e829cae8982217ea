//! Somebody with psql, who edits rows past the service.

use std::time::{Duration, Instant};

use halyard::domain::form::Kind as ItemKind;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::template::{self, FLAGS, GROUP};
use super::world::World;
use crate::evidence::{Content, Name};
use crate::support::eventually;

/// What is edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Edit {
    /// The form of a configuration that a writer writes anew all the time: the name of its rule.
    Form,
    /// The same in the column beside it.
    Columns,
    /// The row of that configuration is deleted.
    Removal,
    /// A column of a configuration that is toggled all the time, and of which a toggle must leave it alone.
    Salt,
    /// The form of a flag's definition.
    Definition,
    /// A variant of a flag, beside its definition.
    Variant,
}

impl Edit {
    pub const ALL: [Self; 6] = [
        Self::Form,
        Self::Columns,
        Self::Removal,
        Self::Salt,
        Self::Definition,
        Self::Variant,
    ];

    /// Without a row where there is nothing of the kind to be edited yet. `$1` is the flag, `$2` the environment, `$3` the marker.
    fn sql(self) -> &'static str {
        match self {
            Self::Form => {
                r#"with p as (select $1::text as flag, $2::text as environment, $3::text as marker)
                update flag_configurations c
                set form = convert_to(regexp_replace(convert_from(c.form, 'UTF8'), '"key":"[^"]*"', '"key":"' || p.marker || '"'), 'UTF8')
                from p join flags f on f.key = p.flag join environments e on e.key = p.environment
                where c.flag_id = f.id and c.environment_id = e.id and convert_from(c.form, 'UTF8') ~ '"key":"'"#
            }
            Self::Columns => {
                "with p as (select $1::text as flag, $2::text as environment, $3::text as marker)
                update flag_configurations c
                set rules = jsonb_set(c.rules::jsonb, '{0,key}', to_jsonb(p.marker))::json
                from p join flags f on f.key = p.flag join environments e on e.key = p.environment
                where c.flag_id = f.id and c.environment_id = e.id and json_array_length(c.rules) > 0"
            }
            Self::Removal => {
                "with p as (select $1::text as flag, $2::text as environment, $3::text as marker)
                delete from flag_configurations c using p, flags f, environments e
                where f.key = p.flag and e.key = p.environment and c.flag_id = f.id and c.environment_id = e.id"
            }
            Self::Salt => {
                "with p as (select $1::text as flag, $2::text as environment, $3::text as marker)
                update flag_configurations c set salt = p.marker
                from p join flags f on f.key = p.flag join environments e on e.key = p.environment
                where c.flag_id = f.id and c.environment_id = e.id"
            }
            Self::Definition => {
                "with p as (select $1::text as flag, $2::text as environment, $3::text as marker)
                update flags f
                set form = convert_to(
                    jsonb_set(convert_from(f.form, 'UTF8')::jsonb, '{variants,0,description}', to_jsonb(p.marker))::text, 'UTF8')
                from p where f.key = p.flag"
            }
            Self::Variant => {
                "with p as (select $1::text as flag, $2::text as environment, $3::text as marker)
                update flag_variants v set description = p.marker
                from p join flags f on f.key = p.flag where v.flag_id = f.id and v.position = 1"
            }
        }
    }

    /// Whether it is in every environment.
    fn is_everywhere(self) -> bool {
        matches!(self, Self::Definition | Self::Variant)
    }
}

/// Who edits.
pub struct Hand {
    client: Client,
    edits: usize,
}

impl Hand {
    pub async fn of(world: &World) -> Self {
        let client = world.sql().await;
        client.batch_execute("set application_name = 'psql'").await.unwrap();
        Self { client, edits: 0 }
    }

    /// Makes the first of these edits of which there is a row, and returns which that was.
    pub async fn edits_any(&mut self, world: &mut World, edits: &[Edit], open: Duration) -> Edit {
        loop {
            for edit in edits {
                if self.edits(world, *edit, open).await {
                    return *edit;
                }
            }
            // Before the first toggle, or after a deletion, until somebody writes.
            assert!(self.edits < 10_000, "there is no row for any of {edits:?}");
        }
    }

    /// Edits one row in a transaction that stays open for a while, so that writes of the same row wait for it. Returns whether there
    /// was such a row. It may have to begin again, as anybody whom PostgreSQL chooses to end a deadlock.
    async fn edits(&mut self, world: &mut World, edit: Edit, open: Duration) -> bool {
        let environments = world.furniture.environments.clone();
        let environment = &environments[world.rng.usize(..environments.len())].key;
        let flag = match edit {
            Edit::Form | Edit::Columns | Edit::Removal => template::flag(world.rng.usize(..world.setup.writers)),
            Edit::Salt => GROUP[world.rng.usize(..GROUP.len())].to_owned(),
            Edit::Definition | Edit::Variant => template::flag(world.rng.usize(..FLAGS)),
        };
        self.edits += 1;
        let marker = format!("hand.{}", self.edits);
        let began = Instant::now();
        let rows = eventually("an edit", async || {
            self.commit(edit, &flag, environment, &marker, open).await
        })
        .await;
        assert!(rows <= 1, "{edit:?} of {flag} in {environment} touched {rows} rows");
        if rows == 0 {
            return false;
        }
        let kind = if edit.is_everywhere() {
            ItemKind::FlagDefinition
        } else {
            ItemKind::FlagConfiguration
        };
        let item: Name = (kind.name().to_owned(), flag);
        let content = match edit {
            Edit::Removal => Content::Removed { item },
            Edit::Form | Edit::Columns | Edit::Salt | Edit::Definition | Edit::Variant => {
                Content::Edited { item, marker }
            }
        };
        for there in &environments {
            if edit.is_everywhere() || there.key == *environment {
                world.keep_edit(&there.key, content.clone(), began);
            }
        }
        true
    }

    /// How many rows there were. `None`: it was ended, and nothing is done.
    async fn commit(&self, edit: Edit, flag: &str, environment: &str, marker: &str, open: Duration) -> Option<u64> {
        self.client.batch_execute("begin").await.unwrap();
        match self.client.execute(edit.sql(), &[&flag, &environment, &marker]).await {
            Ok(rows) => {
                tokio::time::sleep(open).await;
                self.client.batch_execute("commit").await.unwrap();
                Some(rows)
            }
            Err(error) => {
                assert_eq!(
                    error.code(),
                    Some(&SqlState::T_R_DEADLOCK_DETECTED),
                    "{edit:?}: {error:?}"
                );
                self.client.batch_execute("rollback").await.unwrap();
                None
            }
        }
    }

    /// Waits until whatever was edited is in the history.
    pub async fn adopted(&self) {
        eventually("the adoption of an edit", async || {
            let note = self.client.query_opt("select from hand_edits limit 1", &[]).await;
            note.unwrap().is_none().then_some(())
        })
        .await;
    }

    /// How many rows say something else than the history. To be asked while nobody writes.
    pub async fn strays(&self) -> i64 {
        let sql = "
            with newest as (
                select distinct on (environment_id, kind, key) environment_id, kind, key, form
                from change_items order by environment_id, kind, key, revision desc
            ), kept as (
                select c.environment_id, 'flag_configuration' as kind, f.key, c.form
                from flag_configurations c join flags f on f.id = c.flag_id
                union all
                select e.id, 'flag_definition', f.key, f.form
                from flags f join environments e on e.project_id = f.project_id
            )
            select count(*) from newest full join kept using (environment_id, kind, key)
            where newest.form is distinct from kept.form";
        self.client.query_one(sql, &[]).await.unwrap().get(0)
    }
}
