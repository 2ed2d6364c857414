-- Where messages go, as far as they did: a row for each notifier that ever had one.
CREATE TABLE notifiers (
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    -- Who sends its messages, and until when nobody else does.
    holder TEXT,
    lease_until BIGINT NOT NULL DEFAULT 0,
    -- Attempts that failed, one after another, and when the next may be made.
    failures BIGINT NOT NULL DEFAULT 0,
    not_before BIGINT NOT NULL DEFAULT 0,
    failure TEXT,
    failed_at BIGINT,
    sent_at BIGINT,
    -- So many since the beginning.
    sent BIGINT NOT NULL DEFAULT 0,
    given_up BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (project, name)
);

CREATE TABLE messages (
    id TEXT PRIMARY KEY,
    project TEXT NOT NULL,
    notifier TEXT NOT NULL,
    -- What it is about: messages of one thread are one message where the channel can change it.
    thread TEXT NOT NULL,
    position BIGINT NOT NULL,
    body TEXT NOT NULL,
    -- queued, sent, left_out or given_up
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0,
    -- Where the first of the thread is in the channel.
    reference TEXT,
    reason TEXT,
    created_at BIGINT NOT NULL,
    ended_at BIGINT
);
CREATE INDEX messages_queue ON messages (project, notifier, position) WHERE state = 'queued';
CREATE INDEX messages_list ON messages (project, notifier, position);
CREATE INDEX messages_thread ON messages (thread, notifier);
CREATE INDEX messages_position ON messages (position);
CREATE INDEX messages_ended ON messages (ended_at) WHERE ended_at IS NOT NULL;
