-- What it is a run of among those of its kind: the name of an operation.
ALTER TABLE runs ADD COLUMN subject TEXT;
-- Nothing is taken back, and what runs ends at once.
ALTER TABLE runs ADD COLUMN kill_requested BOOLEAN NOT NULL DEFAULT FALSE;
-- When what is left of it is cancelled.
ALTER TABLE runs ADD COLUMN deadline BIGINT;
CREATE INDEX runs_subject ON runs (project, subject, id) WHERE subject IS NOT NULL;
CREATE INDEX runs_deadline ON runs (deadline) WHERE ended_at IS NULL AND deadline IS NOT NULL;

-- Steps that a step has added to its run, as JSON.
CREATE TABLE expansions (
    run TEXT NOT NULL,
    step TEXT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (run, step)
);

-- Who stands in which queue: of those that have not ended, the first so many are admitted.
CREATE TABLE admissions (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    run TEXT NOT NULL,
    at BIGINT NOT NULL,
    UNIQUE (project, name, run)
);
CREATE INDEX admissions_run ON admissions (run);

-- What people said to a step: approvals, answers to questions, ticks.
CREATE TABLE answers (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run TEXT NOT NULL,
    step TEXT NOT NULL,
    -- JSON.
    actor TEXT NOT NULL,
    value TEXT NOT NULL,
    reason TEXT,
    at BIGINT NOT NULL
);
CREATE INDEX answers_run ON answers (run, step, id);
