-- The last apply of an instance, and all applies of it.
CREATE INDEX steps_applied ON steps (id, run) WHERE id LIKE 'apply:%';
