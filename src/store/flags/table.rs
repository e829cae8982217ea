//! Inserting and updating the rows of a flag. The columns of its definition are written where the form is, and only there.

use bytes::Bytes;
use deadpool_postgres::Transaction;
use tokio_postgres::Row;

use super::Flag;
use crate::domain::flag::{Definition, Metadata};
use crate::domain::key;
use crate::store::columns::Variants;
use crate::store::error::Error;
use crate::store::journal::Journal;
use crate::store::lock::Locked;
use crate::store::mutation::Written;
use crate::store::{pipeline, rows};

const INSERT: &str = "
    with counted as (
        update projects set definition_changes = definition_changes + 1 where id = $1 returning definition_changes
    ), flag as (
        insert into flags (
            project_id, key, name, description, tags, owner, form, value_type, off_variant, default_variant, client_visible,
            form_version, created_at, updated_at, lifecycle, expected_removal_at)
        select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, definition_changes, $12, $12, $16, $17 from counted
        returning id, version, form_version
    ), variant as (
        insert into flag_variants (flag_id, position, key, value, description)
        select f.id, v.position, v.key, v.value, v.description
        from flag f, unnest($13::text[], $14::json[], $15::text[]) with ordinality as v (key, value, description, position)
    )
    select id, version, form_version from flag";
const UPDATE: &str = "
    update flags set name = $2, description = $3, tags = $4, owner = $5, version = $6, archived_at = $7, updated_at = $8,
        lifecycle = $9, expected_removal_at = $10
    where id = $1";
const REDEFINE: &str = "
    with counted as (
        update projects set definition_changes = $3 where id = $2
    ), flag as (
        update flags set form_version = $3, form = $4, off_variant = $5, default_variant = $6, client_visible = $7
        where id = $1
    )
    delete from flag_variants where flag_id = $1";
// After the deletion, not joined with it: statements in one would not see what the other did, and keys may have moved.
pub(in crate::store) const INSERT_VARIANTS: &str = "
    insert into flag_variants (flag_id, position, key, value, description)
    select $1, v.position, v.key, v.value, v.description
    from unnest($2::text[], $3::json[], $4::text[]) with ordinality as v (key, value, description, position)";

/// A definition that changed.
pub(super) struct Redefinition {
    /// Of the new definition.
    pub form: Bytes,
    /// The project's next count of definition changes.
    pub form_version: u64,
}

/// Inserts a flag, and answers with its `id`, `version` and `form_version`.
pub(super) async fn insert(
    transaction: &Transaction<'_>,
    locked: &Locked,
    definition: &Definition,
    metadata: &Metadata,
    form: &Bytes,
) -> Result<Row, Error> {
    let Metadata {
        name,
        description,
        tags,
        owner,
        lifecycle,
    } = metadata;
    let variants = Variants::of(definition);
    let insert: pipeline::Query<'_> = (
        INSERT,
        &[
            &locked.project.id,
            &definition.key.as_str(),
            name,
            description,
            tags,
            owner,
            &&**form,
            &definition.value_type.name(),
            &definition.off_variant.as_ref().map(key::Variant::as_str),
            &definition.default_variant.as_ref().map(key::Variant::as_str),
            &definition.client_visible,
            &locked.now,
            &variants.keys,
            &variants.values,
            &variants.descriptions,
            &lifecycle.lifespan().name(),
            &lifecycle.expected_removal(),
        ],
    );
    pipeline::row(transaction, insert).await
}

/// Updates the flag of this id to this version, and writes the journal and `others`. `None`: its definition is what it was.
pub(super) async fn update(
    transaction: &Transaction<'_>,
    journal: Journal<'_>,
    locked: &Locked,
    (id, version): (i64, i64),
    flag: &Flag,
    redefinition: Option<Redefinition>,
    others: &[pipeline::Query<'_>],
) -> Result<Written<()>, Error> {
    let Metadata {
        name,
        description,
        tags,
        owner,
        lifecycle,
    } = &flag.metadata;
    let update: pipeline::Query<'_> = (
        UPDATE,
        &[
            &id,
            name,
            description,
            tags,
            owner,
            &version,
            &flag.archived_at,
            &flag.updated_at,
            &lifecycle.lifespan().name(),
            &lifecycle.expected_removal(),
        ],
    );
    let Some(Redefinition { form, form_version }) = redefinition else {
        return journal.write(transaction, &[&[update], others].concat(), ()).await;
    };
    // The type is not among them: it never changes.
    let definition = &flag.definition;
    let redefine: pipeline::Query<'_> = (
        REDEFINE,
        &[
            &id,
            &locked.project.id,
            &rows::to_sql(form_version),
            &&*form,
            &definition.off_variant.as_ref().map(key::Variant::as_str),
            &definition.default_variant.as_ref().map(key::Variant::as_str),
            &definition.client_visible,
        ],
    );
    let variants = Variants::of(definition);
    let insert: pipeline::Query<'_> = (
        INSERT_VARIANTS,
        &[&id, &variants.keys, &variants.values, &variants.descriptions],
    );
    journal
        .write(transaction, &[&[update, redefine, insert], others].concat(), ())
        .await
}
