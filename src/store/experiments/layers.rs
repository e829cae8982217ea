//! Layers: experiments of one exclude one another, since each has a part of its space of its own.

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;
use uuid::Uuid;

use super::rows::{self as stored, columns, small};
use super::write;
use crate::domain::access::Permission;
use crate::domain::experiment::WHOLE;
use crate::domain::{key, limits};
use crate::store::audit::{self, Record};
use crate::store::environments::Address;
use crate::store::error::{Entity, Error};
use crate::store::journal::Journal;
use crate::store::lock::{self, Scope};
use crate::store::mutation::{Mutation, Outcome, Versioned, Written};
use crate::store::page::{Page, PageRequest, check_etag, etag};
use crate::store::{Store, pipeline, rows};

/// Layers, each row with a part that is taken; one that nobody has a part of has a row without.
const LIST: &str = "
    select p.key as project, v.key as environment, l.id, l.key, l.name, l.description, l.attribute, l.salt, l.version, l.created_at,
        e.key as experiment, e.layer_start, e.layer_end
    from projects p
    join environments v on v.project_id = p.id
    join (
        select l.* from layers l
        join environments v on v.id = l.environment_id
        join projects p on p.id = v.project_id
        where p.key = $1 and v.key = $2 and l.key > $3 and ($5::text is null or l.key = $5)
        order by l.key limit $4
    ) l on l.environment_id = v.id
    left join experiments e on e.environment_id = v.id and e.layer_id = l.id and e.layer_start is not null
    where p.key = $1 and v.key = $2
    order by l.key, e.layer_start";
const COUNT: &str = "
    select count(*) as layers from layers l
    join environments v on v.id = l.environment_id
    join projects p on p.id = v.project_id
    where p.key = $1 and v.key = $2";
const INSERT: &str = "
    insert into layers (project_id, environment_id, key, name, description, attribute, salt, created_at, updated_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $8)
    returning id, version";
/// Those that are over need it no more.
const OVER: &str = concat!(
    columns!(),
    "where p.key = $1 and v.key = $2 and l.key = $3 and e.state = 'stopped' order by e.key"
);
const LEAVE: &str = "
    update experiments set layer_id = null, layer_share = null, version = version + 1, updated_at = $2
    where layer_id = $1 and state = 'stopped'";
const DELETE: &str = "delete from layers where id = $1";

/// How many experiments of a layer are named to who wants to delete it.
const NAMED: usize = 10;

/// A layer. What serialises is what audit entries keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Layer {
    /// Its project.
    #[serde(skip)]
    pub project: key::Project,
    /// Its environment.
    #[serde(skip)]
    pub environment: key::Environment,
    /// Its key.
    pub key: key::Layer,
    /// A name.
    pub name: String,
    /// For people. Empty: none.
    pub description: String,
    /// The attribute that is the unit of all its experiments. `None`: the targeting key.
    pub attribute: Option<String>,
    /// What units are hashed with.
    pub salt: Uuid,
    /// Who has which part, by its place.
    #[serde(skip)]
    pub parts: Vec<Part>,
    /// When it was created.
    #[serde(skip)]
    pub created_at: Timestamp,
    /// Changes with every change. Empty: nothing was written, only validated.
    #[serde(skip)]
    pub etag: String,
}

/// A part of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Whose it is.
    pub experiment: key::Experiment,
    /// The first place that is its own.
    pub start: u32,
    /// The first place that is no longer its own.
    pub end: u32,
}

/// A layer to be.
#[derive(Debug, Clone)]
pub struct NewLayer {
    /// Its key.
    pub key: key::Layer,
    /// A name.
    pub name: String,
    /// For people.
    pub description: String,
    /// The unit.
    pub attribute: Option<String>,
}

impl Versioned for Layer {
    fn forget_etag(&mut self) {
        self.etag.clear();
    }
}

impl Layer {
    /// Millionths that nobody has.
    pub fn free(&self) -> u32 {
        let taken: u32 = self.parts.iter().map(|part| part.end - part.start).sum();
        WHOLE.saturating_sub(taken)
    }
}

impl Store {
    /// Creates a layer. No answer depends on it until an experiment of it runs.
    pub async fn create_layer(
        &self,
        mutation: &Mutation,
        at: Address<'_>,
        new: NewLayer,
        respond: impl FnOnce(&Written<Layer>) -> Vec<u8>,
    ) -> Result<Outcome<Layer>, Error> {
        self.mutate(mutation, respond, async |transaction| {
            create(transaction, mutation, at, new).await
        })
        .await
    }

    /// Deletes a layer; refused while an experiment that is not stopped has a part of it.
    pub async fn delete_layer(
        &self,
        mutation: &Mutation,
        at: Address<'_>,
        layer: &key::Layer,
        etag: &str,
        respond: impl FnOnce(&Written<Layer>) -> Vec<u8>,
    ) -> Result<Outcome<Layer>, Error> {
        self.mutate(mutation, respond, async |transaction| {
            delete(transaction, mutation, at, layer, etag).await
        })
        .await
    }

    /// Lists the layers of an environment by key.
    pub async fn list_layers(&self, at: Address<'_>, page: &PageRequest) -> Result<Page<Layer>, Error> {
        self.get_environment(at).await?;
        let client = self.reader().await?;
        let every: Option<&str> = None;
        let list: pipeline::Query<'_> = (
            LIST,
            &[
                &at.project.as_str(),
                &at.environment.as_str(),
                &page.after,
                &page.limit(),
                &every,
            ],
        );
        let listed = read(&pipeline::one(&*client, list).await?)?;
        Ok(page.page(listed, |layer: &Layer| layer.key.to_string()))
    }
}

async fn create(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    at: Address<'_>,
    new: NewLayer,
) -> Result<Written<Layer>, Error> {
    let NewLayer {
        key,
        name,
        description,
        attribute,
    } = new;
    let (project, environment, own) = (at.project.as_str(), at.environment.as_str(), Some(key.as_str()));
    let reads: [pipeline::Query<'_>; 2] = [
        (LIST, &[&project, &environment, &"", &1_i64, &own]),
        (COUNT, &[&project, &environment]),
    ];
    let (locked, [existing, counted]) =
        lock::acquire(transaction, &mutation.caller, Scope::Environment(at), reads).await?;
    locked.require_change()?;
    let environment = locked.environment(at.environment)?;
    if !existing.is_empty() {
        let (entity, key) = (Entity::Layer, key.to_string());
        return Err(Error::AlreadyExists { entity, key });
    }
    let layers = counted.first().map(|row| rows::number(row, "layers")).transpose()?;
    if layers >= Some(limits::LAYERS as u64) {
        let (entity, limit) = (Entity::Layer, limits::LAYERS);
        return Err(Error::LimitReached { entity, limit });
    }
    let (now, salt) = (locked.now, Uuid::new_v4());
    let insert: pipeline::Query<'_> = (
        INSERT,
        &[
            &locked.project.id,
            &environment.environment.id.0,
            &key.as_str(),
            &name,
            &description,
            &attribute,
            &salt,
            &now,
        ],
    );
    let row = pipeline::row(transaction, insert).await?;
    let layer = Layer {
        project: at.project.clone(),
        environment: at.environment.clone(),
        key,
        name,
        description,
        attribute,
        salt,
        parts: Vec::new(),
        created_at: now,
        etag: etag([rows::get(&row, "id")?, rows::get(&row, "version")?]),
    };
    let mut journal = Journal::new(mutation, &locked);
    journal.record(record("layer.create", None, Some(&layer))?);
    journal.write(transaction, &[], layer).await
}

async fn delete(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    at: Address<'_>,
    layer: &key::Layer,
    given: &str,
) -> Result<Written<Layer>, Error> {
    let (project, environment, own) = (at.project.as_str(), at.environment.as_str(), Some(layer.as_str()));
    let reads: [pipeline::Query<'_>; 2] = [
        (LIST, &[&project, &environment, &"", &1_i64, &own]),
        (OVER, &[&project, &environment, &own]),
    ];
    let (locked, [found, over]) = lock::acquire(transaction, &mutation.caller, Scope::Environment(at), reads).await?;
    locked.require(Permission::Delete)?;
    locked.environment(at.environment)?;
    let id: i64 = match found.first() {
        Some(row) => rows::get(row, "id")?,
        None => return Err(Error::not_found(Entity::Layer, layer)),
    };
    let before = read(&found)?
        .pop()
        .ok_or_else(|| Error::not_found(Entity::Layer, layer))?;
    check_etag(given, &before.etag, Entity::Layer, layer.as_str())?;
    if !before.parts.is_empty() {
        let mut named: Vec<_> = before
            .parts
            .iter()
            .take(NAMED)
            .map(|part| part.experiment.as_str())
            .collect();
        if before.parts.len() > NAMED {
            named.push("others");
        }
        let description = format!("is used by experiments that are not stopped: {}", named.join(", "));
        return Err(Error::blocked(Entity::Layer, layer, description));
    }
    let mut journal = Journal::new(mutation, &locked);
    for row in &over {
        let experiment = stored::from_row(row)?.experiment;
        let mut after = experiment.clone();
        after.design.layer = None;
        let left = write::record("experiment.update", Some(&experiment), Some(&after))?;
        journal.record(left);
    }
    journal.record(record("layer.delete", Some(&before), None)?);
    let writes: [pipeline::Query<'_>; 2] = [(LEAVE, &[&id, &locked.now]), (DELETE, &[&id])];
    journal.write(transaction, &writes, before).await
}

/// Layers of rows that are sorted by them.
fn read(found: &[Row]) -> Result<Vec<Layer>, Error> {
    let mut layers: Vec<Layer> = Vec::new();
    for row in found {
        let key = rows::parsed(row, "key", key::Layer::new)?;
        if layers.last().is_none_or(|last| last.key != key) {
            layers.push(Layer {
                project: rows::parsed(row, "project", key::Project::new)?,
                environment: rows::parsed(row, "environment", key::Environment::new)?,
                key,
                name: rows::get(row, "name")?,
                description: rows::get(row, "description")?,
                attribute: rows::get(row, "attribute")?,
                salt: rows::get(row, "salt")?,
                parts: Vec::new(),
                created_at: rows::get(row, "created_at")?,
                etag: etag([rows::get(row, "id")?, rows::get(row, "version")?]),
            });
        }
        if let (Some(experiment), Some(layer)) = (rows::get::<Option<&str>>(row, "experiment")?, layers.last_mut()) {
            layer.parts.push(Part {
                experiment: key::Experiment::new(experiment)
                    .map_err(|violations| rows::corrupt("experiment", violations))?,
                start: small(row, "layer_start")?,
                end: small(row, "layer_end")?,
            });
        }
    }
    Ok(layers)
}

fn record(action: &'static str, before: Option<&Layer>, after: Option<&Layer>) -> Result<Record, Error> {
    let named = before.or(after);
    Ok(Record {
        action,
        entity: Entity::Layer,
        key: named.map(|it| it.key.to_string()).unwrap_or_default(),
        project: named.map(|it| it.project.to_string()).unwrap_or_default(),
        environment: named.map(|it| it.environment.to_string()).unwrap_or_default(),
        before: before.map(audit::json).transpose()?,
        after: after.map(audit::json).transpose()?,
    })
}
