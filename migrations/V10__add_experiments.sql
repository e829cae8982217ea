-- Experiments: layers, arms, iterations, stored assignments (docs/decisions/experiments.md).

-- Experiments of one layer exclude one another: each owns a part of the layer's space.
create table layers (
    id bigint generated always as identity,
    project_id bigint not null,
    environment_id bigint not null,
    key text collate "C" not null,
    name text not null,
    description text not null,
    -- The attribute of the context that is the unit, of every experiment of the layer. Null: the targeting key.
    attribute text,
    -- What units are hashed with to find their place in the layer's space.
    salt uuid not null,
    -- Rises with every change of the row.
    version bigint not null default 1,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    constraint layers_pkey primary key (id),
    constraint layers_environment_key_key unique (environment_id, key),
    constraint layers_salt_key unique (salt),
    -- What experiments refer to, so that nothing of another environment can be attached.
    constraint layers_environment_id_key unique (environment_id, id),
    constraint layers_environment_fkey foreign key (project_id, environment_id)
        references environments (project_id, id) on delete cascade
);

create table experiments (
    id bigint generated always as identity,
    project_id bigint not null,
    environment_id bigint not null,
    flag_id bigint not null,
    key text collate "C" not null,
    name text not null,
    description text not null,
    hypothesis text not null,
    owner text not null,
    state text not null,
    -- Conditions that must all hold for a unit to be asked, JSON as it is in the form.
    audience json not null,
    -- Millionths of the audience that take part.
    allocation integer not null,
    -- The largest allocation that it ever ran with: no unit outside it has an assignment.
    largest_allocation integer not null default 0,
    -- The attribute of the context that is the unit. Null: the targeting key.
    attribute text,
    -- Whether assignments are stored. Otherwise they are what the hash says, and move when weights do.
    sticky boolean not null,
    layer_id bigint,
    -- Millionths of the layer's space.
    layer_share integer,
    -- Its part of the layer's space, in millionths: from here to below there. Null once it is stopped: others may have it.
    layer_start integer,
    layer_end integer,
    -- It is asked before this rule of the flag's configuration. Null: after all of them.
    before_rule text collate "C",
    -- {"key": …, "kind": …, "goal": …}. Null: none.
    primary_metric json,
    -- A list of the same.
    guardrail_metrics json not null,
    -- What units are hashed with, and what tells the experiment from another that had its key before.
    salt uuid not null,
    -- The iteration that goes on, or was the last. 0: it never ran.
    iteration integer not null default 0,
    -- The variant that won. Null: it is not stopped, or nobody said.
    winner text collate "C",
    -- The experiment as it is evaluated, hashed and streamed: written once and never re-encoded. JSON in UTF-8. Null: it is not
    -- running.
    form bytea,
    -- The version of the item that is streamed: the environment's revision that wrote the form.
    form_version bigint not null default 0,
    -- Rises with every change of the row.
    version bigint not null default 1,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    -- When it was started first. Null: never.
    started_at timestamptz,
    stopped_at timestamptz,
    constraint experiments_pkey primary key (id),
    constraint experiments_environment_key_key unique (environment_id, key),
    constraint experiments_salt_key unique (salt),
    -- What rows of one experiment refer to, so that nothing of another environment can be attached.
    constraint experiments_environment_id_key unique (environment_id, id),
    constraint experiments_environment_fkey foreign key (project_id, environment_id)
        references environments (project_id, id) on delete cascade,
    constraint experiments_flag_fkey foreign key (project_id, flag_id) references flags (project_id, id) on delete cascade,
    -- Looked at when a transaction commits, since an environment goes with both, and in no certain order.
    constraint experiments_layer_fkey foreign key (environment_id, layer_id) references layers (environment_id, id)
        deferrable initially deferred,
    constraint experiments_state_check check (state in ('draft', 'running', 'paused', 'stopped')),
    constraint experiments_allocation_check check (
        allocation between 0 and 1000000 and largest_allocation between 0 and 1000000),
    constraint experiments_layer_check check (
        (layer_id is null) = (layer_share is null)
        and (layer_start is null) = (layer_end is null)
        and (layer_start is null or layer_id is not null)
        and (layer_start is null or (layer_start >= 0 and layer_start < layer_end and layer_end <= 1000000))),
    constraint experiments_form_check check (form is null or state = 'running'),
    constraint experiments_stopped_check check ((stopped_at is null) = (state <> 'stopped'))
);
create index experiments_flag_idx on experiments (flag_id);
create index experiments_layer_idx on experiments (layer_id) where layer_id is not null;

-- What an experiment compares: variants of its flag. Not referring to them, since a flag may lose a variant when the experiment
-- that used it is over.
create table experiment_arms (
    experiment_id bigint not null,
    -- In the written order, from 1: what buckets are shared out in.
    position integer not null,
    variant text collate "C" not null,
    -- Relative to the sum of the weights.
    weight integer not null,
    -- What the others are compared with.
    control boolean not null,
    constraint experiment_arms_pkey primary key (experiment_id, position),
    -- What assignments refer to: an arm always belongs to its experiment.
    constraint experiment_arms_variant_key unique (experiment_id, variant),
    constraint experiment_arms_experiment_fkey foreign key (experiment_id) references experiments (id) on delete cascade,
    constraint experiment_arms_weight_check check (weight > 0)
);

-- Times in which an experiment ran with the same weights, allocation and audience: results keep them apart.
create table experiment_iterations (
    experiment_id bigint not null,
    -- From 1, without gaps.
    number integer not null,
    -- One for each arm, in their order.
    weights integer[] not null,
    -- Millionths.
    allocation integer not null,
    audience json not null,
    started_at timestamptz not null,
    -- Null: it goes on, or is paused.
    ended_at timestamptz,
    constraint experiment_iterations_pkey primary key (experiment_id, number),
    constraint experiment_iterations_experiment_fkey foreign key (experiment_id) references experiments (id) on delete cascade
);

-- The arm of each unit that was ever asked for.
create table experiment_assignments (
    experiment_id bigint not null,
    -- The unit's text, or its hash where that cannot be kept as it is (`domain::experiment::stored_unit`).
    unit text collate "C" not null,
    arm text collate "C" not null,
    -- The iteration that assigned it: without a reference, which every first answer would pay for.
    iteration integer not null,
    assigned_at timestamptz not null,
    constraint experiment_assignments_pkey primary key (experiment_id, unit),
    constraint experiment_assignments_arm_fkey foreign key (experiment_id, arm)
        references experiment_arms (experiment_id, variant) on delete cascade
);

-- The segments that the audiences of experiments ask about which are not stopped: what is in use cannot be deleted.
create table experiment_segments (
    project_id bigint not null,
    environment_id bigint not null,
    experiment_id bigint not null,
    segment_id bigint not null,
    constraint experiment_segments_pkey primary key (experiment_id, segment_id),
    constraint experiment_segments_experiment_fkey foreign key (environment_id, experiment_id)
        references experiments (environment_id, id) on delete cascade,
    constraint experiment_segments_segment_fkey foreign key (project_id, segment_id) references segments (project_id, id)
        deferrable initially deferred
);
create index experiment_segments_segment_idx on experiment_segments (segment_id);

-- Notes an edit, as before, and of experiments too.
create or replace function note_hand_edit() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
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
            when 'experiments' then
                -- What is evaluated of it is its form alone.
                environment := edited.environment_id;
                execute format('select key || ''/'' || $2 from %I.flags where id = $1', tg_table_schema)
                    into item_key using edited.flag_id, edited.key;
                item_kind := 'experiment';
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

create trigger experiments_by_hand
    after insert or delete or update of id, project_id, environment_id, flag_id, key, form, form_version
    on experiments for each row when (coalesce(current_setting('halyard.journal', true), '') <> 'on')
    execute function note_hand_edit();
create trigger experiments_truncated after truncate on experiments
    for each statement when (coalesce(current_setting('halyard.journal', true), '') <> 'on') execute function note_hand_edit();
