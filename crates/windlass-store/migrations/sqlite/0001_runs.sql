-- Times are microseconds since the Unix epoch, UTC. JSON is TEXT.
CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    plan TEXT NOT NULL,
    state TEXT NOT NULL,
    cancel_requested BOOLEAN NOT NULL DEFAULT FALSE,
    actor TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    ended_at BIGINT,
    reason TEXT
);
CREATE INDEX runs_active ON runs (id) WHERE ended_at IS NULL;

CREATE TABLE steps (
    run TEXT NOT NULL REFERENCES runs (id),
    id TEXT NOT NULL,
    position BIGINT NOT NULL,
    state TEXT NOT NULL,
    attempt BIGINT NOT NULL DEFAULT 0,
    epoch BIGINT NOT NULL DEFAULT 0,
    engine TEXT,
    lease_until BIGINT,
    not_before BIGINT,
    started_at BIGINT,
    ended_at BIGINT,
    output TEXT,
    reason TEXT,
    code TEXT,
    PRIMARY KEY (run, id)
);
CREATE INDEX steps_leased ON steps (engine) WHERE state = 'running';

CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run TEXT,
    step TEXT,
    kind TEXT NOT NULL,
    data TEXT NOT NULL,
    actor TEXT,
    at BIGINT NOT NULL
);
CREATE INDEX events_run ON events (run, id);

CREATE TABLE logs (
    run TEXT NOT NULL,
    step TEXT NOT NULL,
    start BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    bytes BLOB NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (run, step, start)
);

-- A queue per name: the first row whose step lives holds the lock.
CREATE TABLE locks (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    run TEXT NOT NULL,
    step TEXT NOT NULL,
    since BIGINT NOT NULL,
    seen BIGINT NOT NULL,
    UNIQUE (name, run, step)
);

CREATE TABLE engines (
    id TEXT PRIMARY KEY,
    host TEXT NOT NULL,
    boot TEXT NOT NULL,
    pid BIGINT NOT NULL,
    ticks BIGINT NOT NULL,
    started_at BIGINT NOT NULL
);

CREATE TABLE processes (
    run TEXT NOT NULL,
    step TEXT NOT NULL,
    attempt BIGINT NOT NULL,
    pid BIGINT NOT NULL,
    ticks BIGINT NOT NULL,
    host TEXT NOT NULL,
    boot TEXT NOT NULL,
    PRIMARY KEY (run, step, pid)
);

CREATE TABLE reviews (
    run TEXT PRIMARY KEY REFERENCES runs (id),
    state TEXT NOT NULL,
    head TEXT NOT NULL,
    head_commit TEXT NOT NULL,
    effect_digest TEXT NOT NULL,
    document TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE approvals (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    subject TEXT NOT NULL REFERENCES runs (id),
    record TEXT NOT NULL,
    at BIGINT NOT NULL
);

-- Digest and path of every plan file that was handed to an apply.
CREATE TABLE used_plans (
    plan TEXT PRIMARY KEY,
    run TEXT NOT NULL,
    step TEXT NOT NULL,
    at BIGINT NOT NULL
);

CREATE TABLE kv (
    scope TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (scope, name)
);
