-- Teams, invitations, service tokens, keys with two secrets, and when credentials were last used.

-- Where the versions of memberships come from, so that one made anew never repeats an etag.
create sequence member_versions;

alter table members
    -- Rises with every change of the row.
    add column version bigint not null default nextval('member_versions');

alter table environment_keys
    -- While a rotation's overlap lasts, the secret before works too.
    add column previous_secret_hash bytea,
    add column previous_expires_at timestamptz,
    -- When the secret was last replaced. Null: never.
    add column rotated_at timestamptz,
    add constraint environment_keys_previous_check check (
        (previous_secret_hash is null) = (previous_expires_at is null) and octet_length(previous_secret_hash) = 32);

-- The credentials of machines that administrate: each has a role in one project.
create table service_tokens (
    id text not null,
    project_id bigint not null,
    name text not null,
    role text not null,
    secret_hash bytea not null,
    created_at timestamptz not null,
    expires_at timestamptz,
    revoked_at timestamptz,
    -- Who made it: a user, or a service token. No foreign keys: the record outlives both. Null: whoever runs the installation.
    created_by_user uuid,
    created_by_token text,
    constraint service_tokens_pkey primary key (id),
    constraint service_tokens_project_fkey foreign key (project_id) references projects (id) on delete cascade,
    constraint service_tokens_role_check check (role in ('owner', 'admin', 'developer', 'viewer')),
    constraint service_tokens_secret_hash_check check (octet_length(secret_hash) = 32),
    constraint service_tokens_created_by_check check (created_by_user is null or created_by_token is null)
);
create index service_tokens_project_idx on service_tokens (project_id, created_at desc, id);

-- Links that make whoever shows one a member. Kept when they are spent, for people to see what became of them.
create table invitations (
    id text not null,
    project_id bigint not null,
    name text not null,
    role text not null,
    secret_hash bytea not null,
    created_at timestamptz not null,
    expires_at timestamptz not null,
    revoked_at timestamptz,
    accepted_at timestamptz,
    -- Whose account became a member. No foreign key: the record outlives the account.
    accepted_by uuid,
    -- Who made it, and must still be allowed to when it is accepted: a user, or a service token. No foreign keys: the record
    -- outlives both. Null: whoever runs the installation.
    created_by_user uuid,
    created_by_token text,
    constraint invitations_pkey primary key (id),
    constraint invitations_project_fkey foreign key (project_id) references projects (id) on delete cascade,
    constraint invitations_role_check check (role in ('owner', 'admin', 'developer', 'viewer')),
    constraint invitations_secret_hash_check check (octet_length(secret_hash) = 32),
    constraint invitations_accepted_check check ((accepted_at is null) = (accepted_by is null)),
    constraint invitations_spent_check check (accepted_at is null or revoked_at is null),
    constraint invitations_created_by_check check (created_by_user is null or created_by_token is null)
);
create index invitations_project_idx on invitations (project_id, created_at desc, id);

-- When credentials were last used, to the minute. No foreign keys: it is written from memory, a minute late, and must wait for
-- nobody; rows of credentials that are gone are swept away now and then.
create table credential_uses (
    kind text not null,
    id text not null,
    used_at timestamptz not null,
    constraint credential_uses_pkey primary key (kind, id),
    constraint credential_uses_kind_check check (kind in ('key', 'service_token'))
);
