-- What a plan expects of its jobs, what it may spend, what an account takes at once, and who does not wait for a batch.

-- Whether the job may go to the realtime API, at full price, once no batch can meet its deadline. Empty: as its type says.
ALTER TABLE nightbatch.job ADD COLUMN fallback boolean;

-- A realtime attempt sends one job by itself; its provider_batch_id is the id of the answer.
ALTER TABLE nightbatch.batch ADD COLUMN mode text NOT NULL DEFAULT 'batch' CHECK (mode IN ('batch', 'realtime'));
ALTER TABLE nightbatch.batch ADD CONSTRAINT a_realtime_attempt_has_one_job CHECK (mode = 'batch' OR job_count = 1);
-- Input tokens, as the plan reckons them; what an account has enqueued is the sum over its open attempts.
ALTER TABLE nightbatch.batch ADD COLUMN estimated_tokens bigint CHECK (estimated_tokens >= 0);
-- Set when the provider, or the ledger for it, said that the account's queue has no room.
ALTER TABLE nightbatch.batch ADD COLUMN lacked_room boolean NOT NULL DEFAULT false;

-- A realtime call in doubt stands in no list of batches, so it cannot be mistaken for one.
DROP INDEX nightbatch.one_create_in_doubt_per_anthropic_workspace;
CREATE UNIQUE INDEX one_create_in_doubt_per_anthropic_workspace ON nightbatch.batch (account_fingerprint)
    WHERE provider = 'anthropic' AND mode = 'batch' AND state IN ('submitting', 'held');

-- What was expected of an attempt, before any correction: beside the roll-up of what came, it teaches the next estimate.
CREATE TABLE nightbatch.batch_estimate (
    batch_id bigint NOT NULL REFERENCES nightbatch.batch,
    job_type text NOT NULL,
    jobs integer NOT NULL CHECK (jobs > 0),
    input_tokens double precision NOT NULL CHECK (input_tokens >= 0),
    PRIMARY KEY (batch_id, job_type)
);

-- What a plan set aside of a budget, in USD at the high end of its estimate; nothing of an attempt that was never accepted.
CREATE TABLE nightbatch.reserved (
    batch_id bigint NOT NULL REFERENCES nightbatch.batch,
    budget_id bigint NOT NULL REFERENCES nightbatch.budget ON DELETE CASCADE,
    usd numeric NOT NULL CHECK (usd >= 0),
    PRIMARY KEY (batch_id, budget_id)
);
CREATE INDEX reserved_budget ON nightbatch.reserved (budget_id);

-- At most so many input tokens in a provider's queue at once. An empty account means each, an empty model all together.
-- Learned ones hold until the next night, a person's until it is deleted; the smallest counts.
CREATE TABLE nightbatch.token_limit (
    provider text NOT NULL CHECK (provider IN ('openai', 'anthropic', 'gemini')),
    account_fingerprint text NOT NULL DEFAULT '',
    model text NOT NULL DEFAULT '',
    learned boolean NOT NULL DEFAULT false,
    tokens bigint NOT NULL CHECK (tokens > 0),
    noted_at timestamptz NOT NULL DEFAULT now(),
    note text NOT NULL,
    PRIMARY KEY (provider, account_fingerprint, model, learned)
);

CREATE FUNCTION nightbatch.has_label(labels jsonb, label text) RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN CASE WHEN position('=' IN label) = 0 THEN labels ? label
    ELSE labels ->> split_part(label, '=', 1) = substr(label, position('=' IN label) + 1) END;
COMMENT ON COLUMN nightbatch.budget.label IS 'name=value, or a name alone for whatever value';

CREATE OR REPLACE VIEW nightbatch_report.batch_turnaround AS
SELECT
    b.id AS batch_id, b.run_id, b.provider, b.model, b.endpoint, b.state, b.job_count,
    b.submitted_at, b.ended_at, b.closed_at, b.ended_at - b.submitted_at AS turnaround, b.mode
FROM nightbatch.batch AS b
WHERE b.submitted_at IS NOT NULL;

GRANT SELECT, INSERT, UPDATE, DELETE ON nightbatch.batch_estimate, nightbatch.reserved, nightbatch.token_limit TO nightbatch_worker;
GRANT ALL ON nightbatch.batch_estimate, nightbatch.reserved, nightbatch.token_limit TO nightbatch_owner;
GRANT EXECUTE ON FUNCTION nightbatch.has_label(jsonb, text) TO nightbatch_worker, nightbatch_owner;
GRANT INSERT (fallback) ON nightbatch.job TO nightbatch_producer;
