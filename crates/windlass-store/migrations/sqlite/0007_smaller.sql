-- Most events are of steps: nobody's, about nothing else, beginning and ending. What nobody looks them up by is not kept of them.
DROP INDEX events_actor;
DROP INDEX events_subject;
DROP INDEX events_kind;
CREATE INDEX events_actor ON events (actor, id) WHERE actor IS NOT NULL;
CREATE INDEX events_subject ON events (subject, id) WHERE subject IS NOT NULL;
CREATE INDEX events_kind ON events (kind, id) WHERE kind NOT IN ('step.started', 'step.succeeded');

-- Small rows with one key: a second tree for the key is only more to write.
CREATE TABLE processes_smaller (
    run TEXT NOT NULL,
    step TEXT NOT NULL,
    attempt BIGINT NOT NULL,
    pid BIGINT NOT NULL,
    ticks BIGINT NOT NULL,
    host TEXT NOT NULL,
    boot TEXT NOT NULL,
    PRIMARY KEY (run, step, pid)
) WITHOUT ROWID;
INSERT INTO processes_smaller (run, step, attempt, pid, ticks, host, boot)
SELECT run, step, attempt, pid, ticks, host, boot FROM processes;
DROP TABLE processes;
ALTER TABLE processes_smaller RENAME TO processes;

CREATE TABLE used_plans_smaller (
    plan TEXT PRIMARY KEY,
    run TEXT NOT NULL,
    step TEXT NOT NULL,
    at BIGINT NOT NULL
) WITHOUT ROWID;
INSERT INTO used_plans_smaller (plan, run, step, at) SELECT plan, run, step, at FROM used_plans;
DROP TABLE used_plans;
ALTER TABLE used_plans_smaller RENAME TO used_plans;
