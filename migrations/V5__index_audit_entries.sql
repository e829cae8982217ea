-- What the audit log is asked, each answered newest first: when, who, what was done, and to what; and whose chain it is.

create index audit_entries_at_idx on audit_entries (chain, at, sequence);
create index audit_entries_actor_idx on audit_entries (chain, actor, at, sequence);
create index audit_entries_action_idx on audit_entries (chain, action, at, sequence);
create index audit_entries_entity_idx on audit_entries (chain, entity, at, sequence);
create index audit_entries_entity_key_idx on audit_entries (chain, entity_key, at, sequence);
-- The first entry of a project's chain names the project, also when it is gone.
create index audit_entries_first_idx on audit_entries (project) where sequence = 1;
