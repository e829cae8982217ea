//! Putting an uploaded list in force: all of it at once, as one revision.

use bytes::Bytes;
use deadpool_postgres::Transaction;
use serde::Serialize;
use uuid::Uuid;

use super::configurations::{
    self, Columns, ConfigurationRow, SegmentConfiguration, chunk_item, configuration_item, found, record,
};
use super::preparation::{Content, Prepared, prepare};
use super::uploads;
use crate::domain::access::Permission;
use crate::domain::change::Digest;
use crate::domain::invalid::Violations;
use crate::domain::segment::Configuration;
use crate::domain::{form, key};
use crate::store::audit;
use crate::store::environments::Address;
use crate::store::error::{Entity, Error};
use crate::store::journal::Journal;
use crate::store::lock::{self, Locked, LockedEnvironment, Scope};
use crate::store::mutation::{Mutation, Outcome, Written};
use crate::store::page::check_etag;
use crate::store::{Store, pipeline, rows};

/// How often a list is prepared, if others change what it was prepared from.
const ATTEMPTS: usize = 3;
const DELETE_CHUNKS: &str = "
    delete from segment_key_chunks where environment_id = $1 and segment_id = $2 and chunk = any($3::integer[])";
const DELETE_UPLOAD: &str = "delete from segment_uploads where id = $1";
/// From the change log, which has them already: megabytes that need not be sent and compressed a second time.
const PUT_CHUNKS: &str = "
    insert into segment_key_chunks (environment_id, segment_id, chunk, form, version)
    select i.environment_id, $2, split_part(i.key, '/', 2)::integer, i.form, i.version
    from change_items i
    where i.environment_id = $1 and i.revision = $3 and i.kind = 'segment_keys' and i.form is not null
    on conflict (environment_id, segment_id, chunk) do update
    set form = excluded.form, version = excluded.version";

/// What an upload does to the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadMode {
    /// The list becomes what was uploaded.
    Replace,
    /// What was uploaded is added to the list.
    Add,
    /// What was uploaded is taken off the list.
    Remove,
}

/// An upload to activate.
#[derive(Debug, Clone, Copy)]
pub struct Activation<'a> {
    /// Which one.
    pub upload: Uuid,
    /// What it does to the list.
    pub mode: UploadMode,
    /// How many pieces it must have. `None`: as many as it has.
    pub pieces: Option<u32>,
    /// Of the segment's configuration. Empty: whatever it is.
    pub etag: &'a str,
}

impl UploadMode {
    fn name(self) -> &'static str {
        match self {
            Self::Replace => "replace",
            Self::Add => "add",
            Self::Remove => "remove",
        }
    }
}

impl Store {
    /// Activates an upload, which is gone afterwards. A list that stays the same makes no revision.
    ///
    /// A million keys take a while to sort and to cut. That is done before any lock is taken, with what the upload and the list
    /// were then; under the locks it only has to be seen that they still are. If not, it is done again.
    pub async fn activate_segment_upload(
        &self,
        mutation: &Mutation,
        project: &key::Project,
        activation: Activation<'_>,
        respond: impl Fn(&Written<SegmentConfiguration>) -> Vec<u8>,
    ) -> Result<Outcome<SegmentConfiguration>, Error> {
        let mut attempts = 1;
        loop {
            let outcome = self.try_to_activate(mutation, project, activation, &respond).await;
            match outcome {
                Err(Error::Stale {
                    entity: Entity::SegmentUpload,
                    ..
                }) if attempts < ATTEMPTS => attempts += 1,
                outcome => return outcome,
            }
        }
    }

    async fn try_to_activate(
        &self,
        mutation: &Mutation,
        project: &key::Project,
        activation: Activation<'_>,
        respond: impl FnOnce(&Written<SegmentConfiguration>) -> Vec<u8>,
    ) -> Result<Outcome<SegmentConfiguration>, Error> {
        // `None` is not the end: it may be a request that is sent again, after it was carried out.
        let prepared = prepare(&self.reader().await?, project, activation).await?;
        self.mutate(mutation, respond, async |transaction| match prepared {
            Some(prepared) => activate(transaction, mutation, project, activation, prepared).await,
            None => {
                lock::authorise(transaction, &mutation.caller, project, [], |_| Ok(Permission::Read)).await?;
                Err(Error::not_found(Entity::SegmentUpload, activation.upload))
            }
        })
        .await
    }
}

async fn activate(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    project: &key::Project,
    activation: Activation<'_>,
    prepared: Prepared,
) -> Result<Written<SegmentConfiguration>, Error> {
    let (environment, segment) = (&prepared.environment, &prepared.segment);
    let (at, of) = (Address { project, environment }, project.as_str());
    let reads: [pipeline::Query<'_>; 2] = [
        (configurations::FIND, &[&of, &environment.as_str(), &segment.as_str()]),
        (uploads::HOLD, &[&of, &activation.upload]),
    ];
    let (locked, [found, upload]) = lock::acquire(transaction, &mutation.caller, Scope::Environment(at), reads).await?;
    locked.require_change()?;
    let upload = upload
        .first()
        .ok_or_else(|| Error::not_found(Entity::SegmentUpload, activation.upload))?;
    let environment = locked.environment(environment)?;
    let before = self::found(&found, &environment.environment, segment)?;
    let etag = &before.configuration.etag;
    check_etag(activation.etag, etag, Entity::SegmentConfiguration, segment.as_str())?;
    if (rows::number(upload, "version")?, before.version) != prepared.made_of {
        return Err(Error::Stale {
            entity: Entity::SegmentUpload,
            key: activation.upload.to_string(),
        });
    }
    check_pieces(activation.pieces, prepared.pieces)?;
    let place = Place {
        locked: &locked,
        environment,
        before,
    };
    place.write(transaction, mutation, activation, prepared.content?).await
}

fn check_pieces(expected: Option<u32>, found: usize) -> Result<(), Violations> {
    match expected {
        Some(expected) if expected as usize != found => Err(Violations::one(
            "pieces",
            format!("is {expected}; the upload has {found}"),
        )),
        Some(_) | None => Ok(()),
    }
}

/// Where a list is put in force.
struct Place<'a> {
    locked: &'a Locked,
    environment: &'a LockedEnvironment,
    before: ConfigurationRow,
}

/// What an audit entry keeps of an activation: never the keys.
#[derive(Serialize)]
struct Audited<'a> {
    #[serde(flatten)]
    configuration: &'a SegmentConfiguration,
    mode: &'static str,
    /// Of the whole list after it, as `LC_ALL=C sort | sha256sum` has it of one key a line.
    keys_sha256: String,
}

impl Place<'_> {
    async fn write(
        self,
        transaction: &Transaction<'_>,
        mutation: &Mutation,
        activation: Activation<'_>,
        content: Content,
    ) -> Result<Written<SegmentConfiguration>, Error> {
        let Self {
            locked,
            environment,
            before,
        } = self;
        let Content { list, put, gone, hash } = content;
        let was = &before.configuration.configuration;
        let delete_upload: pipeline::Query<'_> = (DELETE_UPLOAD, &[&activation.upload]);
        if was.key_list == list && put.is_empty() && gone.is_empty() {
            pipeline::one(transaction, delete_upload).await?;
            return Ok(Written::unchanged(before.configuration));
        }
        let is = Configuration {
            key_list: list,
            ..was.clone()
        };
        let form = Bytes::from(form::write_segment(&is));
        let after = before.written(is, environment, locked.now);
        let (segment, revision) = (&after.configuration.segment, environment.next_revision());

        let mut items = vec![configuration_item(segment, revision, Some(form.clone()))];
        items.extend(
            put.into_iter()
                .map(|(chunk, form)| chunk_item(segment, chunk, revision, Some(form))),
        );
        let deleted = gone
            .iter()
            .map(|&(chunk, version)| chunk_item(segment, chunk, version, None));
        items.extend(deleted);
        let mut journal = Journal::new(mutation, locked);
        journal.change(environment, items);
        journal.record(audited(&before, &after, activation.mode, hash)?);

        let (project, id, columns) = (
            locked.project.id,
            environment.environment.id.0,
            Columns::of(&after, &form),
        );
        let gone: Vec<_> = gone
            .iter()
            .filter_map(|&(chunk, _)| i32::try_from(chunk).ok())
            .collect();
        let writes: [pipeline::Query<'_>; 4] = [
            pipeline::LONG,
            (configurations::UPSERT, &columns.parameters(&project, &id)),
            (DELETE_CHUNKS, &[&id, &after.segment_id, &gone]),
            delete_upload,
        ];
        let written = journal.write(transaction, &writes, after.configuration.clone()).await?;
        let put: pipeline::Query<'_> = (PUT_CHUNKS, &[&id, &after.segment_id, &rows::to_sql(revision)]);
        pipeline::one(transaction, put).await?;
        Ok(written)
    }
}

fn audited(
    before: &ConfigurationRow,
    after: &ConfigurationRow,
    mode: UploadMode,
    hash: Digest,
) -> Result<audit::Record, Error> {
    let is = audit::json(&Audited {
        configuration: &after.configuration,
        mode: mode.name(),
        keys_sha256: hex::encode(hash.0),
    })?;
    let was = before.audited().map(audit::json).transpose()?;
    Ok(record("segment_configuration.activate", after, was, is))
}
