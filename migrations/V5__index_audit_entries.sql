-- What the audit log is asked, each answered newest first: who, what was done, to what, when; and whose chain it is.

create index audit_entries_actor_idx on audit_entries (chain, actor, sequence);
create index audit_entries_action_idx on audit_entries (chain, action, sequence);
create index audit_entries_entity_idx on audit_entries (chain, entity, entity_key, sequence);
create index audit_entries_at_idx on audit_entries (chain, at);
-- The first entry of a project's chain names the project, also when it is gone.
create index audit_entries_first_idx on audit_entries (project) where sequence = 1;
