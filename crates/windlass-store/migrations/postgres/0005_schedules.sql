-- Up to when the due times of a schedule were looked at, and whether somebody paused it.
CREATE TABLE schedule_states (
    project TEXT NOT NULL,
    operation TEXT NOT NULL,
    schedule TEXT NOT NULL,
    -- Of pattern and zone: times of another one were not missed.
    digest TEXT NOT NULL,
    since BIGINT NOT NULL,
    seen BIGINT NOT NULL,
    paused_until BIGINT,
    paused_by TEXT,
    reason TEXT,
    -- The last success, or the beginning, after which it was told that none came for too long.
    overdue_since BIGINT,
    PRIMARY KEY (project, operation, schedule)
);

-- What is to start an operation, or has: due times of schedules, deliveries to triggers, and starts at a time. The id is made of what
-- it is, so that it is here once.
CREATE TABLE starts (
    id TEXT PRIMARY KEY,
    project TEXT NOT NULL,
    operation TEXT NOT NULL,
    kind TEXT NOT NULL,
    -- Of the schedule or trigger.
    name TEXT NOT NULL,
    -- What it starts with, by kind.
    request TEXT NOT NULL,
    actor TEXT NOT NULL,
    due BIGINT NOT NULL,
    -- When it begins at the earliest.
    at BIGINT NOT NULL,
    -- Of a backfill: its id, and how many of it are under way at once.
    series TEXT,
    width BIGINT,
    state TEXT NOT NULL,
    -- The run it becomes, chosen by whoever took it first.
    run TEXT,
    taken_until BIGINT,
    note TEXT,
    ended_at BIGINT
);
CREATE INDEX starts_open ON starts (at) WHERE state IN ('waiting', 'taken');
CREATE INDEX starts_series ON starts (series, id) WHERE series IS NOT NULL;
CREATE INDEX starts_operation ON starts (project, operation, kind, due);
CREATE INDEX starts_ended ON starts (ended_at) WHERE ended_at IS NOT NULL;
