-- Logs of runs that have ended, packed: bytes `start` to `next` of the log of a step, here or in an artefact.
CREATE TABLE log_blocks (
    run TEXT NOT NULL,
    step TEXT NOT NULL,
    start BIGINT NOT NULL,
    next BIGINT NOT NULL,
    bytes BYTEA,
    artefact TEXT,
    -- Length of what is kept.
    size BIGINT NOT NULL,
    run_ended_at BIGINT NOT NULL,
    -- A sentence stands where the log was.
    removed BOOLEAN NOT NULL DEFAULT FALSE,
    PRIMARY KEY (run, step, start)
);
-- All that is asked of many at once: blocks themselves are large.
CREATE INDEX log_blocks_due ON log_blocks (run_ended_at, run, artefact, size) WHERE NOT removed;

-- What steps leave beside the record, by the digest of what it is of and of its content.
CREATE TABLE artefacts (
    id TEXT PRIMARY KEY,
    project TEXT NOT NULL,
    kind TEXT NOT NULL,
    run TEXT NOT NULL,
    subject TEXT NOT NULL,
    number BIGINT NOT NULL,
    size BIGINT NOT NULL,
    place TEXT NOT NULL,
    state TEXT NOT NULL,
    note TEXT,
    at BIGINT NOT NULL
);
CREATE INDEX artefacts_subject ON artefacts (project, kind, subject, run);
CREATE INDEX artefacts_run ON artefacts (run, kind);
CREATE INDEX artefacts_age ON artefacts (kind, at, size) WHERE state = 'kept';
CREATE INDEX artefacts_unfinished ON artefacts (at) WHERE state IN ('writing', 'removing');

-- Of artefacts that are kept in the database itself.
CREATE TABLE artefact_contents (
    id TEXT PRIMARY KEY,
    bytes BYTEA NOT NULL
);
