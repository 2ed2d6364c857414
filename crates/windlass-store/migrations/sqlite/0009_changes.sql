-- Changes of forges: a row for each that was looked at.
CREATE TABLE changes (
    project TEXT NOT NULL,
    number BIGINT NOT NULL,
    -- open, merged or closed
    state TEXT NOT NULL DEFAULT 'open',
    -- Merged, and not applied.
    unapplied BOOLEAN NOT NULL DEFAULT FALSE,
    -- What is known of it.
    document TEXT NOT NULL DEFAULT '{}',
    -- The commit of its head, and the branch where that is one of the repository itself.
    head TEXT NOT NULL DEFAULT '',
    branch TEXT,
    -- When it is to be looked at; unset where nothing asks for that.
    due BIGINT,
    -- Something happened at the forge since the last look began, and whether the look under way asks it first. Where neither is so, only
    -- the record moved.
    touched BOOLEAN NOT NULL DEFAULT FALSE,
    asks BOOLEAN NOT NULL DEFAULT FALSE,
    -- Who looks at it, and until when nobody else does.
    holder TEXT,
    lease_until BIGINT NOT NULL DEFAULT 0,
    -- The run and the review whose state it follows, and how both were at the last look.
    run TEXT,
    review TEXT,
    looked TEXT NOT NULL DEFAULT '',
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (project, number)
);
CREATE INDEX changes_due ON changes (due);
CREATE INDEX changes_followed ON changes (run) WHERE run IS NOT NULL;
CREATE INDEX changes_list ON changes (project, state, number);
CREATE INDEX changes_branch ON changes (project, branch) WHERE branch IS NOT NULL;
CREATE INDEX changes_unapplied ON changes (project, number) WHERE unapplied;

-- The queues of stack instances: the first change has the place until it gives it back.
CREATE TABLE change_places (
    project TEXT NOT NULL,
    instance TEXT NOT NULL,
    number BIGINT NOT NULL,
    since BIGINT NOT NULL,
    PRIMARY KEY (project, instance, number)
);
CREATE INDEX change_places_of ON change_places (project, number);
