-- How far the streams of each replica have come, so that any replica can say of all how far a change has spread.
--
-- One row per replica and environment, written once a second where something has changed. Nothing is lost with it: it is rewritten
-- within seconds. So it is not logged, refers to nothing (rows of deleted environments expire with all others), and no write of
-- anybody waits for it. Keeping it apart from the environments' rows keeps those from being updated every second.
create unlogged table propagation (
    environment bigint not null,
    replica uuid not null,
    written_at timestamptz not null,
    -- What the replica's streams stand at; `store::propagation` says how it is written.
    report jsonb not null,
    -- What clients of other replicas' streams acknowledged here: their replicas take it from here.
    elsewhere jsonb not null,
    constraint propagation_pkey primary key (environment, replica)
);

-- Every replica looks for these once a second.
create index propagation_elsewhere_idx on propagation (replica) where elsewhere <> '[]'::jsonb;
