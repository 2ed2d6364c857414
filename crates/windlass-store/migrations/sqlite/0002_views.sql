-- The last apply of an instance, and all applies of it.
CREATE INDEX steps_applied ON steps (id, run) WHERE id LIKE 'apply:%';
CREATE INDEX steps_later ON steps (not_before) WHERE state = 'pending' AND not_before IS NOT NULL;
