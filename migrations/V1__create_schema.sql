-- Everything that the first version stores. Tables are the truth; the change log is their history.

-- Names this installation. One row.
create table store_identity (
    singleton boolean not null default true,
    store_id uuid not null default gen_random_uuid(),
    -- Rises when the history was found to be another than before (a restored or promoted copy).
    generation bigint not null default 1,
    created_at timestamptz not null default now(),
    constraint store_identity_pkey primary key (singleton),
    constraint store_identity_singleton check (singleton)
);
insert into store_identity default values;

create table users (
    id uuid not null,
    email text not null,
    -- Lower case: two accounts that differ in case alone cannot exist.
    email_normalized text not null,
    password_hash text,
    instance_role text,
    active boolean not null default true,
    version bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint users_pkey primary key (id),
    constraint users_email_key unique (email_normalized),
    constraint users_instance_role_check check (instance_role in ('administrator'))
);

create table projects (
    id bigint generated always as identity,
    key text collate "C" not null,
    name text not null,
    description text not null,
    version bigint not null default 1,
    -- Counts the changes of flag definitions: a definition's form takes its version from here, so that a flag deleted and
    -- created anew under the same key never repeats one.
    definition_changes bigint not null default 0,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    constraint projects_pkey primary key (id),
    constraint projects_key_key unique (key)
);

create table members (
    project_id bigint not null,
    user_id uuid not null,
    role text not null,
    constraint members_pkey primary key (project_id, user_id),
    constraint members_project_fkey foreign key (project_id) references projects (id) on delete cascade,
    constraint members_user_fkey foreign key (user_id) references users (id) on delete cascade,
    constraint members_role_check check (role in ('owner', 'admin', 'developer', 'viewer'))
);
create index members_user_idx on members (user_id);

create table environments (
    id bigint generated always as identity,
    project_id bigint not null,
    key text collate "C" not null,
    name text not null,
    description text not null,
    protected boolean not null,
    version bigint not null default 1,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    constraint environments_pkey primary key (id),
    constraint environments_project_key_key unique (project_id, key),
    -- What rows of one environment refer to, so that nothing of another project can be attached.
    constraint environments_project_id_key unique (project_id, id),
    constraint environments_project_fkey foreign key (project_id) references projects (id) on delete cascade
);

-- Where each environment stands. A row lock here, held to the commit, is what makes revision order commit order.
create table environment_heads (
    environment_id bigint not null,
    revision bigint not null,
    digest bytea not null,
    committed_at timestamptz not null,
    -- Watch no longer resumes at or below this revision.
    compacted_revision bigint not null default 0,
    -- The transaction that wrote the row last: what polling looks for.
    mod_xid xid8 not null default pg_current_xact_id(),
    constraint environment_heads_pkey primary key (environment_id),
    constraint environment_heads_environment_fkey foreign key (environment_id) references environments (id) on delete cascade,
    constraint environment_heads_digest_check check (octet_length(digest) = 32)
);
create index environment_heads_mod_xid_idx on environment_heads (mod_xid);

-- What access depends on (users, members, environments, keys) has one counter for the installation. One row.
create table access_head (
    singleton boolean not null default true,
    revision bigint not null,
    constraint access_head_pkey primary key (singleton),
    constraint access_head_singleton check (singleton)
);
insert into access_head (revision) values (1);

create table environment_keys (
    id text not null,
    environment_id bigint not null,
    kind text not null,
    name text not null,
    secret_hash bytea not null,
    created_at timestamptz not null,
    expires_at timestamptz,
    revoked_at timestamptz,
    constraint environment_keys_pkey primary key (id),
    constraint environment_keys_environment_fkey foreign key (environment_id) references environments (id) on delete cascade,
    constraint environment_keys_kind_check check (kind in ('server', 'client')),
    constraint environment_keys_secret_hash_check check (octet_length(secret_hash) = 32)
);
create index environment_keys_environment_idx on environment_keys (environment_id, created_at desc, id);

create table flags (
    id bigint generated always as identity,
    project_id bigint not null,
    key text collate "C" not null,
    name text not null,
    description text not null,
    tags text[] not null,
    owner text not null,
    archived_at timestamptz,
    -- The definition as it is evaluated, hashed and streamed: written once and never re-encoded. JSON in UTF-8.
    form bytea not null,
    -- The same for people, with flag_variants: written with the form, and never read in its place.
    value_type text not null,
    -- Null: no value while the flag is off.
    off_variant text collate "C",
    -- Null: the off variant.
    default_variant text collate "C",
    client_visible boolean not null,
    -- Rises with every change of the row.
    version bigint not null default 1,
    -- The version of the item that is streamed: the count of the project's definition changes when the form last changed.
    form_version bigint not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    constraint flags_pkey primary key (id),
    constraint flags_project_key_key unique (project_id, key),
    -- What configurations refer to, so that nothing of another project can be attached.
    constraint flags_project_id_key unique (project_id, id),
    constraint flags_project_fkey foreign key (project_id) references projects (id) on delete cascade,
    constraint flags_value_type_check check (value_type in ('bool', 'string', 'integer', 'double', 'object'))
);

-- The variants of a flag, for people: written with the flag's form, and never read in its place.
create table flag_variants (
    flag_id bigint not null,
    -- In the written order, from 1.
    position integer not null,
    key text collate "C" not null,
    -- The bare value, of the flag's type: true, "text", 5, 0.1, {"a": 1}. Not jsonb, which would lose the order of keys and the
    -- spelling of numbers.
    value json not null,
    description text not null,
    constraint flag_variants_pkey primary key (flag_id, position),
    constraint flag_variants_flag_key_key unique (flag_id, key),
    constraint flag_variants_flag_fkey foreign key (flag_id) references flags (id) on delete cascade
);

-- Sparse: a flag without a row here is off.
create table flag_configurations (
    project_id bigint not null,
    environment_id bigint not null,
    flag_id bigint not null,
    -- The configuration as it is evaluated, hashed and streamed: written once and never re-encoded. JSON in UTF-8.
    form bytea not null,
    -- The same for people: written with the form, and never read in its place. JSON as it is in the form.
    enabled boolean not null,
    rules json not null,
    -- Null: the flag's default variant.
    default_serve json,
    -- Null: the flag's key.
    salt text,
    -- The version of the item that is streamed: the environment's revision that wrote the row.
    version bigint not null,
    updated_at timestamptz not null,
    constraint flag_configurations_pkey primary key (environment_id, flag_id),
    constraint flag_configurations_environment_fkey foreign key (project_id, environment_id)
        references environments (project_id, id) on delete cascade,
    constraint flag_configurations_flag_fkey foreign key (project_id, flag_id)
        references flags (project_id, id) on delete cascade
);
create index flag_configurations_flag_idx on flag_configurations (flag_id);

-- The change log: every revision of every environment, with every form that ever was.
create table changes (
    environment_id bigint not null,
    revision bigint not null,
    previous_digest bytea not null,
    digest bytea not null,
    committed_at timestamptz not null,
    actor text not null,
    constraint changes_pkey primary key (environment_id, revision),
    constraint changes_environment_fkey foreign key (environment_id) references environments (id) on delete cascade,
    constraint changes_digest_check check (octet_length(previous_digest) = 32 and octet_length(digest) = 32)
);

create table change_items (
    environment_id bigint not null,
    revision bigint not null,
    kind text collate "C" not null,
    key text collate "C" not null,
    version bigint not null,
    -- Absent: the item was deleted.
    form bytea,
    constraint change_items_pkey primary key (environment_id, revision, kind, key),
    constraint change_items_change_fkey foreign key (environment_id, revision)
        references changes (environment_id, revision) on delete cascade
);

-- The audit log: a hash chain per project, named by the project's id, and `instance` for the installation. No foreign keys:
-- entries outlive what they are about, and a project made anew under an old key has a chain of its own.
create table audit_heads (
    chain text collate "C" not null,
    sequence bigint not null,
    hash bytea not null,
    constraint audit_heads_pkey primary key (chain),
    constraint audit_heads_hash_check check (octet_length(hash) = 32)
);
insert into audit_heads (chain, sequence, hash) values ('instance', 0, decode(repeat('00', 32), 'hex'));

create table audit_entries (
    chain text collate "C" not null,
    sequence bigint not null,
    id uuid not null,
    at timestamptz not null,
    actor text not null,
    actor_name text not null,
    credential text not null,
    action text not null,
    entity text not null,
    entity_key text not null,
    project text not null,
    environment text not null,
    before text,
    after text,
    request_id text not null,
    peer text not null,
    reason text not null,
    previous_hash bytea not null,
    hash bytea not null,
    constraint audit_entries_pkey primary key (chain, sequence),
    constraint audit_entries_id_key unique (id),
    constraint audit_entries_hash_check check (octet_length(previous_hash) = 32 and octet_length(hash) = 32)
);

-- Responses of mutations that carried a request id, for 24 hours.
create table request_records (
    principal text not null,
    request_id uuid not null,
    method text not null,
    request_hash bytea not null,
    response bytea not null,
    created_at timestamptz not null default now(),
    constraint request_records_pkey primary key (principal, request_id)
);
create index request_records_created_at_idx on request_records (created_at);
