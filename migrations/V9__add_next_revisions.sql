-- The revisions of an environment that follow one, as every replica reads them after nearly every change: no more than so many, and
-- those only whose forms have no more than so many bytes together.
--
-- A function, since its session keeps the plans of what is in it: planning the same query each time takes PostgreSQL longer than
-- everything else about it, and a statement that a client prepares is not safe behind a pooler that gives each transaction another
-- session (docs/decisions/fan-out.md). One revision after another, since each is then found by its key whatever a plan that was
-- made for all environments thinks of how many there are.
create function next_revisions(environment bigint, after bigint, most integer, bytes bigint)
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
declare
    head bigint := coalesce((select max(change.revision) from changes change where change.environment_id = environment), after);
    -- Of the forms so far. Numeric, so that no sum of them is too large.
    size numeric := 0;
begin
    for following in after + 1 .. least(head, after + most) loop
        size := size + (
            select coalesce(sum(octet_length(item.form)), 0)
            from change_items item
            where item.environment_id = environment and item.revision = following
        );
        exit when size > bytes;
        return query
            select change.revision, change.previous_digest, change.digest, change.committed_at, head,
                   item.kind, item.key, item.version, item.form
            from changes change
            left join change_items item on item.environment_id = environment and item.revision = following
            where change.environment_id = environment and change.revision = following
            order by item.kind, item.key;
    end loop;
end
$$;
