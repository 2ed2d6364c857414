-- The step that added it, `main`, `undo` or `handler`, and what the plan says of it where that was added.
ALTER TABLE steps ADD COLUMN added_by TEXT;
ALTER TABLE steps ADD COLUMN phase TEXT NOT NULL DEFAULT 'main';
ALTER TABLE steps ADD COLUMN spec TEXT;
CREATE INDEX steps_order ON steps (run, position);
CREATE INDEX runs_state ON runs (project, state, id);
