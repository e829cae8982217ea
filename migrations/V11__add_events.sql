-- Exposures and metric events of experiments, each counted once (docs/events.md, docs/decisions/events.md).
--
-- All three tables are partitioned by the day, in UTC, on which the server received the event. Partitions are made a day ahead by
-- the server (`store::events::days`), and dropped whole when they are beyond the retention. There are no foreign keys: every event
-- would pay for them, and events of an experiment that is gone go with their day.

-- The day that events are received on. One row. It moves only when no batch is being written (an advisory lock, held shared by
-- every transaction that writes events and alone by the one that moves the day), so that all events of a day are there to be seen
-- before the first of the next is written. That is what makes an id count once across midnight.
create table event_day (
    singleton boolean not null default true,
    day date not null,
    -- Exposures and metric events received before this day were dropped by the retention. Null: none was.
    kept_since date,
    -- Ids of events received before this day were dropped, perhaps by a server with a shorter window than another's: whether an event of
    -- then was counted cannot be told any more. Null: none was.
    ids_since date,
    constraint event_day_pkey primary key (singleton),
    constraint event_day_singleton check (singleton)
);
-- Long ago: the first server that looks moves it.
insert into event_day (day) values ('2000-01-01');

-- Which events were received. Kept for as long as anybody may send one again, which is shorter than events are kept.
create table event_ids (
    day date not null,
    environment_id bigint not null,
    id uuid not null,
    -- Holds within a day; between days see `event_day`.
    constraint event_ids_pkey primary key (environment_id, id, day)
) partition by range (day);

create table exposures (
    day date not null,
    experiment_id bigint not null,
    iteration integer not null,
    -- False: the answer was not a stored assignment, though the experiment stores them. Kept out of the results.
    counts boolean not null,
    received_at timestamptz not null,
    occurred_at timestamptz not null,
    arm text collate "C" not null,
    -- As in `experiment_assignments`.
    unit text collate "C" not null
) partition by range (day);
create index exposures_experiment_idx on exposures (experiment_id);

create table metric_events (
    day date not null,
    environment_id bigint not null,
    -- 1: conversion, 2: value, 3: count.
    measure smallint not null,
    received_at timestamptz not null,
    occurred_at timestamptz not null,
    -- Exactly what was sent, so that a sum does not depend on its order. 1 of a conversion.
    value numeric not null,
    metric text collate "C" not null,
    -- The attribute of the context that the unit is. Null: the targeting key.
    attribute text collate "C",
    unit text collate "C" not null
) partition by range (day);
create index metric_events_metric_idx on metric_events (environment_id, metric);
