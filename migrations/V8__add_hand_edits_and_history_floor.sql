-- Rows of what is evaluated that somebody changed by hand (docs/decisions/hand-edits.md), and from where on history is whole
-- (docs/decisions/compaction.md).

-- What has to be compared with the change log, one row for each row that was edited. Nearly always empty. No foreign keys: a note
-- must not be in the way of the edit that it is about. A table of its own, and not a mark on the environment's head: whoever
-- edits by hand would hold the head's lock until the commit, against the order in which everyone else locks.
create table hand_edits (
    id bigint generated always as identity,
    project_id bigint not null,
    -- Null: every environment of the project.
    environment_id bigint,
    -- The item. Null: whatever there is must be looked at.
    kind text collate "C",
    key text collate "C",
    -- The role that logged in, whatever it then became.
    edited_by text collate "C" not null,
    -- As the connection calls itself. Empty: it does not.
    application text not null,
    -- Empty: it came by a socket of the machine.
    address text not null,
    -- When the transaction began.
    edited_at timestamptz not null default now(),
    constraint hand_edits_pkey primary key (id),
    constraint hand_edits_item_check check ((kind is null) = (key is null))
);
create index hand_edits_project_idx on hand_edits (project_id, id);

-- Notes an edit. Whoever may edit the row need not be allowed to write the note, hence the definer's rights; and so names are
-- looked up nowhere but in the schema of the table that was edited.
create function note_hand_edit() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    is_past boolean;
    edited record;
    project bigint;
    environment bigint;
    item_kind text;
    item_key text;
    -- What was noted of the row as it was, and what is to be.
    noted jsonb;
    noting jsonb;
begin
    if tg_op = 'TRUNCATE' then
        execute format(
            'insert into %1$I.hand_edits (project_id, edited_by, application, address)
             select id, session_user, current_setting(''application_name''), coalesce(host(inet_client_addr()), '''')
             from %1$I.projects', tg_table_schema);
        return null;
    end if;
    -- The row as it was, and as it is: an edit may have moved it from one item to another.
    foreach is_past in array array[true, false] loop
        continue when tg_op = (case when is_past then 'INSERT' else 'DELETE' end);
        if is_past then
            edited := old;
        else
            edited := new;
        end if;
        project := null;
        environment := null;
        item_kind := null;
        item_key := null;
        case tg_table_name
            when 'flags' then
                project := edited.project_id;
                item_key := edited.key;
                item_kind := 'flag_definition';
                -- What else becomes of a flag concerns its configurations too.
                if tg_op = 'UPDATE' then
                    if (old.id, old.project_id, old.key, old.archived_at)
                        is distinct from (new.id, new.project_id, new.key, new.archived_at)
                    then
                        item_kind := null;
                    end if;
                end if;
            when 'flag_variants' then
                execute format('select project_id, key from %I.flags where id = $1', tg_table_schema)
                    into project, item_key using edited.flag_id;
                item_kind := 'flag_definition';
            when 'flag_configurations' then
                environment := edited.environment_id;
                execute format('select key from %I.flags where id = $1', tg_table_schema) into item_key using edited.flag_id;
                item_kind := 'flag_configuration';
            when 'segments' then
                project := edited.project_id;
            when 'segment_configurations' then
                environment := edited.environment_id;
                execute format('select key from %I.segments where id = $1', tg_table_schema)
                    into item_key using edited.segment_id;
                item_kind := 'segment_configuration';
            when 'segment_key_chunks' then
                environment := edited.environment_id;
                execute format('select key || ''/'' || $2 from %I.segments where id = $1', tg_table_schema)
                    into item_key using edited.segment_id, edited.chunk;
                item_kind := 'segment_keys';
        end case;
        -- The flag or segment is gone with its key, or everything of it is to be looked at.
        if item_kind is null or item_key is null then
            item_kind := null;
            item_key := null;
        end if;
        noting := jsonb_build_array(project, environment, item_kind, item_key);
        continue when noting is not distinct from noted;
        noted := noting;
        -- Of what goes with its project or environment nothing is left to be compared.
        execute format(
            'insert into %1$I.hand_edits (project_id, environment_id, kind, key, edited_by, application, address)
             select p.id, $2, $3, $4, session_user, current_setting(''application_name''), coalesce(host(inet_client_addr()), '''')
             from %1$I.projects p
             where p.id = coalesce($1, (select e.project_id from %1$I.environments e where e.id = $2))', tg_table_schema)
            using project, environment, item_kind, item_key;
    end loop;
    return null;
end
$$;

-- Halyard's own transactions say so (`store::lock`), and the condition is all that a row of theirs costs. They leave the rows as
-- the change log has them, so a transaction that forgot to say it costs a comparison and no more.
create trigger flags_by_hand
    after insert or delete or update of id, project_id, key, archived_at, form, value_type, off_variant, default_variant,
        client_visible, form_version
    on flags for each row when (coalesce(current_setting('halyard.journal', true), '') <> 'on')
    execute function note_hand_edit();
create trigger flag_variants_by_hand
    after insert or delete or update
    on flag_variants for each row when (coalesce(current_setting('halyard.journal', true), '') <> 'on')
    execute function note_hand_edit();
create trigger flag_configurations_by_hand
    after insert or delete or update of project_id, environment_id, flag_id, form, enabled, rules, default_serve, salt,
        prerequisites, version
    on flag_configurations for each row when (coalesce(current_setting('halyard.journal', true), '') <> 'on')
    execute function note_hand_edit();
create trigger segments_by_hand
    after update of id, project_id, key
    on segments for each row when (coalesce(current_setting('halyard.journal', true), '') <> 'on')
    execute function note_hand_edit();
create trigger segment_configurations_by_hand
    after insert or delete or update of project_id, environment_id, segment_id, form, included, excluded, conditions,
        key_list_chunks, key_list_keys, version
    on segment_configurations for each row when (coalesce(current_setting('halyard.journal', true), '') <> 'on')
    execute function note_hand_edit();
create trigger segment_key_chunks_by_hand
    after insert or delete or update
    on segment_key_chunks for each row when (coalesce(current_setting('halyard.journal', true), '') <> 'on')
    execute function note_hand_edit();

create trigger flags_truncated after truncate on flags
    for each statement when (coalesce(current_setting('halyard.journal', true), '') <> 'on') execute function note_hand_edit();
create trigger flag_variants_truncated after truncate on flag_variants
    for each statement when (coalesce(current_setting('halyard.journal', true), '') <> 'on') execute function note_hand_edit();
create trigger flag_configurations_truncated after truncate on flag_configurations
    for each statement when (coalesce(current_setting('halyard.journal', true), '') <> 'on') execute function note_hand_edit();
create trigger segment_configurations_truncated after truncate on segment_configurations
    for each statement when (coalesce(current_setting('halyard.journal', true), '') <> 'on') execute function note_hand_edit();
create trigger segment_key_chunks_truncated after truncate on segment_key_chunks
    for each statement when (coalesce(current_setting('halyard.journal', true), '') <> 'on') execute function note_hand_edit();

alter table environment_heads
    -- What the change log says of earlier revisions is no longer whole: a retention has taken rows away. 0: all of it is there.
    add column history_revision bigint not null default 0;
