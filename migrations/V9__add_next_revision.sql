-- One revision of an environment as every replica reads it after nearly every change: nothing if it is not there yet.
--
-- A function, since its session keeps the plan of what is in it: planning the same query each time takes PostgreSQL longer than
-- everything else about it, and a statement that a client prepares is not safe behind a pooler that gives each transaction another
-- session (docs/decisions/fan-out.md).
create function next_revision(environment bigint, after bigint)
returns table (
    revision bigint,
    previous_digest bytea,
    digest bytea,
    committed_at timestamptz,
    -- The newest that there is.
    newest bigint,
    -- Null: the revision has no items.
    kind text,
    key text,
    version bigint,
    form bytea
) language plpgsql stable as $$
begin
    return query
        select change.revision, change.previous_digest, change.digest, change.committed_at,
               (select max(other.revision) from changes other where other.environment_id = environment),
               item.kind, item.key, item.version, item.form
        from changes change
        left join change_items item on item.environment_id = environment and item.revision = change.revision
        where change.environment_id = environment and change.revision = after + 1
        order by item.kind, item.key;
end
$$;
