-- Most events are of steps: nobody's, about nothing else, beginning and ending. What nobody looks them up by is not kept of them.
DROP INDEX events_actor;
DROP INDEX events_subject;
DROP INDEX events_kind;
CREATE INDEX events_actor ON events (actor, id) WHERE actor IS NOT NULL;
CREATE INDEX events_subject ON events (subject, id) WHERE subject IS NOT NULL;
CREATE INDEX events_kind ON events (kind, id) WHERE kind NOT IN ('step.started', 'step.succeeded');
