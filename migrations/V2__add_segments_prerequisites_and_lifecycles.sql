-- Segments, prerequisites, lifecycles, and an index for the history of one item.

alter table flags
    add column lifecycle text not null default 'permanent',
    -- When a temporary flag is expected to be removed. Null: nobody has said.
    add column expected_removal_at timestamptz,
    add constraint flags_lifecycle_check check (lifecycle in ('permanent', 'temporary')),
    add constraint flags_expected_removal_check check (expected_removal_at is null or lifecycle = 'temporary');

alter table flag_configurations
    -- For people, like the columns beside it. JSON as it is in the form.
    add column prerequisites json not null default '[]';

create table segments (
    id bigint generated always as identity,
    project_id bigint not null,
    key text collate "C" not null,
    name text not null,
    description text not null,
    -- Rises with every change of the row.
    version bigint not null default 1,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    constraint segments_pkey primary key (id),
    constraint segments_project_key_key unique (project_id, key),
    -- What configurations refer to, so that nothing of another project can be attached.
    constraint segments_project_id_key unique (project_id, id),
    constraint segments_project_fkey foreign key (project_id) references projects (id) on delete cascade
);

-- Sparse: a segment without a row here contains nobody.
create table segment_configurations (
    project_id bigint not null,
    environment_id bigint not null,
    segment_id bigint not null,
    -- The configuration as it is evaluated, hashed and streamed: written once and never re-encoded. JSON in UTF-8.
    form bytea not null,
    -- The same for people: written with the form, and never read in its place.
    included text[] not null,
    excluded text[] not null,
    conditions json not null,
    -- Null: there is no uploaded list.
    key_list_chunks integer,
    key_list_keys bigint,
    -- The version of the item that is streamed: the environment's revision that wrote the row.
    version bigint not null,
    updated_at timestamptz not null,
    constraint segment_configurations_pkey primary key (environment_id, segment_id),
    constraint segment_configurations_environment_fkey foreign key (project_id, environment_id)
        references environments (project_id, id) on delete cascade,
    constraint segment_configurations_segment_fkey foreign key (project_id, segment_id)
        references segments (project_id, id) on delete cascade,
    constraint segment_configurations_key_list_check check ((key_list_chunks is null) = (key_list_keys is null))
);
create index segment_configurations_segment_idx on segment_configurations (segment_id);

-- The uploaded list of a segment, in chunks: a key is in the chunk that its hash names. A chunk without keys has no row.
create table segment_key_chunks (
    environment_id bigint not null,
    segment_id bigint not null,
    chunk integer not null,
    -- The chunk as it is streamed: written once and never re-encoded. JSON in UTF-8.
    form bytea not null,
    -- The environment's revision that wrote the row.
    version bigint not null,
    constraint segment_key_chunks_pkey primary key (environment_id, segment_id, chunk),
    constraint segment_key_chunks_configuration_fkey foreign key (environment_id, segment_id)
        references segment_configurations (environment_id, segment_id) on delete cascade
);

-- Targeting keys put aside until they are activated; dropped after a day.
create table segment_uploads (
    id uuid not null,
    project_id bigint not null,
    environment_id bigint not null,
    segment_id bigint not null,
    -- Rises with every piece.
    version bigint not null default 1,
    created_at timestamptz not null,
    constraint segment_uploads_pkey primary key (id),
    constraint segment_uploads_environment_fkey foreign key (project_id, environment_id)
        references environments (project_id, id) on delete cascade,
    constraint segment_uploads_segment_fkey foreign key (project_id, segment_id)
        references segments (project_id, id) on delete cascade
);
create index segment_uploads_created_at_idx on segment_uploads (created_at);
create index segment_uploads_environment_idx on segment_uploads (environment_id);
create index segment_uploads_segment_idx on segment_uploads (segment_id);

create table segment_upload_pieces (
    upload_id uuid not null,
    piece integer not null,
    keys text[] not null,
    -- How many keys, and how many bytes they have: so that the whole can be measured without reading it.
    key_count bigint not null,
    key_bytes bigint not null,
    constraint segment_upload_pieces_pkey primary key (upload_id, piece),
    constraint segment_upload_pieces_upload_fkey foreign key (upload_id) references segment_uploads (id) on delete cascade
);

-- Who depends on whom, written with the forms that say so: what is in use cannot be deleted, and nothing of another project can
-- be depended on. That is looked at when a transaction commits, since a project goes with both, and in no certain order.
create table flag_prerequisites (
    project_id bigint not null,
    environment_id bigint not null,
    flag_id bigint not null,
    prerequisite_id bigint not null,
    constraint flag_prerequisites_pkey primary key (environment_id, flag_id, prerequisite_id),
    constraint flag_prerequisites_configuration_fkey foreign key (environment_id, flag_id)
        references flag_configurations (environment_id, flag_id) on delete cascade,
    constraint flag_prerequisites_prerequisite_fkey foreign key (project_id, prerequisite_id) references flags (project_id, id)
        deferrable initially deferred
);
create index flag_prerequisites_prerequisite_idx on flag_prerequisites (prerequisite_id);

create table flag_segments (
    project_id bigint not null,
    environment_id bigint not null,
    flag_id bigint not null,
    segment_id bigint not null,
    constraint flag_segments_pkey primary key (environment_id, flag_id, segment_id),
    constraint flag_segments_configuration_fkey foreign key (environment_id, flag_id)
        references flag_configurations (environment_id, flag_id) on delete cascade,
    constraint flag_segments_segment_fkey foreign key (project_id, segment_id) references segments (project_id, id)
        deferrable initially deferred
);
create index flag_segments_segment_idx on flag_segments (segment_id);

create table segment_parts (
    project_id bigint not null,
    environment_id bigint not null,
    segment_id bigint not null,
    part_id bigint not null,
    constraint segment_parts_pkey primary key (environment_id, segment_id, part_id),
    constraint segment_parts_configuration_fkey foreign key (environment_id, segment_id)
        references segment_configurations (environment_id, segment_id) on delete cascade,
    constraint segment_parts_part_fkey foreign key (project_id, part_id) references segments (project_id, id)
        deferrable initially deferred
);
create index segment_parts_part_idx on segment_parts (part_id);

-- The history of one item, and the state of an environment as of a revision.
create index change_items_item_idx on change_items (environment_id, kind, key, revision desc);
