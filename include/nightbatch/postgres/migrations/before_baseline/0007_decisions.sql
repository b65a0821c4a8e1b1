-- What a person decides about an attempt, and what is known of a batch that exists twice.

-- A provider batch that was created besides the one that an attempt uses. It is loaded like any other, and every line of it
-- is waste: nobody may overlook what it cost.
ALTER TABLE nightbatch.batch ADD COLUMN duplicate_of bigint REFERENCES nightbatch.batch;
ALTER TABLE nightbatch.batch ADD COLUMN cancel_wanted_at timestamptz;
DROP INDEX nightbatch.batch_of_a_run;
CREATE UNIQUE INDEX batch_of_a_run ON nightbatch.batch (run_id, provider, model, endpoint, part)
    WHERE replaces IS NULL AND duplicate_of IS NULL;

ALTER TABLE nightbatch.result DROP CONSTRAINT result_outcome_check;
ALTER TABLE nightbatch.result ADD CONSTRAINT result_outcome_check CHECK (outcome IN
    ('succeeded', 'failed', 'errored', 'refused', 'truncated', 'expired', 'cancelled', 'missing', 'duplicate'));

-- Who decided what, and why. Insert-only.
CREATE TABLE nightbatch.decision (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    batch_id bigint NOT NULL REFERENCES nightbatch.batch,
    choice text NOT NULL CHECK (choice IN ('resend', 'drop', 'adopt', 'cancel')),
    provider_batch_id text,
    decided_by text NOT NULL CHECK (length(decided_by) BETWEEN 1 AND 200),
    reason text NOT NULL CHECK (length(reason) BETWEEN 1 AND 2000),
    decided_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT only_an_adoption_names_a_batch CHECK ((choice = 'adopt') = (provider_batch_id IS NOT NULL))
);
CREATE INDEX decision_batch ON nightbatch.decision (batch_id);
GRANT SELECT, INSERT ON nightbatch.decision TO nightbatch_worker;
GRANT ALL ON nightbatch.decision TO nightbatch_owner;

-- A duplicate's line says nothing about its job: only the attempt's own does.
CREATE OR REPLACE VIEW nightbatch.job_status AS
SELECT
    j.id AS job_id,
    CASE
        WHEN d.job_id IS NOT NULL THEN d.state
        WHEN o.batch_id IS NOT NULL THEN CASE WHEN b.state = 'held' THEN 'held' ELSE 'batched' END
        WHEN o.job_id IS NOT NULL OR r.outcome IS NULL THEN 'queued'
        WHEN r.outcome = 'succeeded' THEN 'succeeded'
        WHEN r.outcome = 'cancelled' THEN 'cancelled'
        ELSE 'failed'
    END AS state,
    coalesce(o.attempts, r.attempts, 0)::integer AS attempts,
    coalesce(o.batch_id, r.batch_id) AS batch_id,
    coalesce(d.reason, CASE WHEN o.batch_id IS NULL THEN r.error END, b.error) AS error,
    coalesce(d.dismissed_at, b.submitted_at, b.planned_at, r.finished_at, j.created_at) AS updated_at
FROM nightbatch.job AS j
LEFT JOIN nightbatch.open_job AS o ON o.job_id = j.id
LEFT JOIN nightbatch.batch AS b ON b.id = o.batch_id
LEFT JOIN nightbatch.dismissed AS d ON d.job_id = j.id
LEFT JOIN LATERAL (
    SELECT l.outcome, l.error, l.finished_at, l.batch_id, count(*) OVER () AS attempts
    FROM nightbatch.result AS l WHERE l.job_id = j.id AND l.outcome <> 'duplicate' ORDER BY l.batch_id DESC LIMIT 1
) AS r ON true;
