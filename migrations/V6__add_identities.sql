-- People of OpenID Connect issuers.

alter table users
    -- Null: the account has no address of its own, so nobody finds it by one or logs in with one. Its `email` is then what its
    -- identity is called, for people to read, and need not be unique.
    alter column email_normalized drop not null,
    -- What nobody could log in with is not kept.
    add constraint users_password_check check (email_normalized is not null or password_hash is null);

-- Who opens which account. Whatever an issuer says of a person's address, it never leads to another's account.
create table identities (
    issuer text collate "C" not null,
    subject text collate "C" not null,
    user_id uuid not null,
    -- As the last synchronised token had it. Empty: none.
    email text not null,
    -- Whether its claim made the account an administrator, and nobody has changed that since.
    administrator boolean not null default false,
    -- When the token was made whose claim was last looked at. Null: none was.
    synced_at timestamptz,
    created_at timestamptz not null,
    constraint identities_pkey primary key (issuer, subject),
    constraint identities_user_fkey foreign key (user_id) references users (id) on delete cascade
);
create index identities_user_idx on identities (user_id);

alter table members
    -- The identity whose claim gave the role. Null: people did.
    add column claimed_issuer text collate "C",
    add column claimed_subject text collate "C",
    add constraint members_identity_check check ((claimed_issuer is null) = (claimed_subject is null)),
    add constraint members_identity_fkey foreign key (claimed_issuer, claimed_subject)
        references identities (issuer, subject) on delete set null;
create index members_identity_idx on members (claimed_issuer, claimed_subject) where claimed_issuer is not null;
