-- Logins of people. A session's id is the `sid` of its access tokens; its refresh tokens are one family.
create table sessions (
    id uuid not null,
    user_id uuid not null,
    -- Of the part that all refresh tokens of the session have in common: by it a token that was used already is told from a guess,
    -- however often the session was refreshed since. Null: the session has no refresh tokens.
    family_hash bytea,
    -- Of the refresh token that works.
    token_hash bytea,
    -- When it took the place of the one before. Null: it is the first.
    rotated_at timestamptz,
    created_at timestamptz not null,
    last_used_at timestamptz not null,
    expires_at timestamptz not null,
    revoked_at timestamptz,
    constraint sessions_pkey primary key (id),
    constraint sessions_user_fkey foreign key (user_id) references users (id) on delete cascade,
    constraint sessions_hash_check check (
        (family_hash is null) = (token_hash is null)
        and octet_length(coalesce(family_hash, sha256(''))) = 32
        and octet_length(coalesce(token_hash, sha256(''))) = 32)
);
create index sessions_user_idx on sessions (user_id, last_used_at desc);
-- What replicas hold in memory: who was thrown out a moment ago.
create index sessions_revoked_at_idx on sessions (revoked_at) where revoked_at is not null;
create index sessions_expires_at_idx on sessions (expires_at);
