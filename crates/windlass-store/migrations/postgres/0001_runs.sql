-- The same as of SQLite but for the types of bytes and of numbers that grow.
-- Times are microseconds since the Unix epoch, UTC. JSON is TEXT.
CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    project TEXT NOT NULL,
    kind TEXT NOT NULL,
    title TEXT NOT NULL,
    plan TEXT NOT NULL,
    state TEXT NOT NULL,
    cancel_requested BOOLEAN NOT NULL DEFAULT FALSE,
    actor TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    ended_at BIGINT,
    reason TEXT
);
CREATE INDEX runs_active ON runs (id) WHERE ended_at IS NULL;
CREATE INDEX runs_project ON runs (project, id);

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
CREATE INDEX steps_waiting ON steps (not_before) WHERE state = 'waiting';

CREATE TABLE events (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project TEXT NOT NULL,
    run TEXT,
    step TEXT,
    -- Its first part is found by a range of bytes.
    kind TEXT COLLATE "C" NOT NULL,
    -- What it is about where that is no run, e.g. a token or a stack.
    subject TEXT,
    data TEXT NOT NULL,
    actor TEXT,
    -- What the actor said.
    reason TEXT,
    -- The same for everything that one request did.
    correlation TEXT,
    at BIGINT NOT NULL
);
CREATE INDEX events_run ON events (run, id);
CREATE INDEX events_project ON events (project, id);
CREATE INDEX events_actor ON events (actor, id);
CREATE INDEX events_subject ON events (subject, id);
CREATE INDEX events_kind ON events (kind, id);

CREATE TABLE logs (
    run TEXT NOT NULL,
    step TEXT NOT NULL,
    start BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    bytes BYTEA NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (run, step, start)
);

-- A queue per name: the first row whose step lives holds the lock.
CREATE TABLE locks (
    position BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    run TEXT NOT NULL,
    step TEXT NOT NULL,
    since BIGINT NOT NULL,
    seen BIGINT NOT NULL,
    UNIQUE (project, name, run, step)
);
CREATE INDEX locks_step ON locks (run, step);

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
    project TEXT NOT NULL,
    state TEXT NOT NULL,
    head TEXT NOT NULL,
    head_commit TEXT NOT NULL,
    effect_digest TEXT NOT NULL,
    document TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE INDEX reviews_head ON reviews (project, head);
CREATE INDEX reviews_state ON reviews (state);

CREATE TABLE approvals (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subject TEXT NOT NULL REFERENCES runs (id),
    record TEXT NOT NULL,
    at BIGINT NOT NULL
);
CREATE INDEX approvals_subject ON approvals (subject);

-- Digest and path of every plan file that was handed to an apply.
CREATE TABLE used_plans (
    plan TEXT PRIMARY KEY,
    run TEXT NOT NULL,
    step TEXT NOT NULL,
    at BIGINT NOT NULL
);

CREATE TABLE kv (
    project TEXT NOT NULL,
    scope TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (project, scope, name)
);

-- What is good for a time: sessions, sign-ins under way, one-time links, tokens that were exchanged, answers to requests that may
-- be sent again. The name is a digest where it is a secret.
CREATE TABLE tickets (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (kind, name)
);
CREATE INDEX tickets_expired ON tickets (expires_at);

CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    -- SHA-256 of the secret; the secret itself is nowhere.
    digest TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    -- Who made it, as recorded; its rights are never more than theirs.
    owner TEXT NOT NULL,
    record TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at BIGINT,
    revoked_at BIGINT
);
CREATE INDEX tokens_owner ON tokens (owner, id);

CREATE TABLE seals (
    number BIGINT PRIMARY KEY,
    first BIGINT NOT NULL,
    last BIGINT NOT NULL,
    body TEXT NOT NULL,
    at BIGINT NOT NULL
);
