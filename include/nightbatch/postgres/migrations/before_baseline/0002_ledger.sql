-- What was planned, sent and is still open. Only narrow rows change state here.

CREATE TABLE nightbatch.run (
    id text PRIMARY KEY,
    queued_before timestamptz,
    params jsonb NOT NULL DEFAULT '{}',
    planned_at timestamptz NOT NULL DEFAULT now(),
    reported_at timestamptz
);

-- One row per submission attempt of one provider batch.
CREATE TABLE nightbatch.batch (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id text NOT NULL REFERENCES nightbatch.run,
    provider text NOT NULL CHECK (provider IN ('openai', 'anthropic', 'gemini')),
    model text NOT NULL,
    endpoint text NOT NULL CHECK (endpoint IN ('chat', 'responses', 'embeddings')),
    part integer NOT NULL CHECK (part > 0),
    replaces bigint UNIQUE REFERENCES nightbatch.batch,
    tag text NOT NULL UNIQUE DEFAULT 'nb-' || replace(gen_random_uuid()::text, '-', ''),
    state text NOT NULL DEFAULT 'planned' CHECK (state IN
        ('planned', 'uploaded', 'submitting', 'held', 'submitted', 'loaded', 'refused', 'abandoned')),
    epoch integer NOT NULL DEFAULT 0 CHECK (epoch >= 0),
    job_count integer NOT NULL CHECK (job_count > 0),
    account_fingerprint text,
    payload_sha256 text,
    input_file text,
    provider_batch_id text,
    provider_status text,
    price_source text,
    error text,
    planned_at timestamptz NOT NULL DEFAULT now(),
    uploaded_at timestamptz,
    intent_at timestamptz,
    fenced_at timestamptz,
    submitted_at timestamptz,
    ended_at timestamptz,
    closed_at timestamptz,
    UNIQUE (provider, provider_batch_id),
    CONSTRAINT an_upload_has_a_hash_and_an_account
        CHECK (uploaded_at IS NULL OR (payload_sha256 IS NOT NULL AND account_fingerprint IS NOT NULL)),
    CONSTRAINT an_intent_comes_before_a_submission
        CHECK (state NOT IN ('submitting', 'held', 'submitted', 'loaded') OR intent_at IS NOT NULL),
    CONSTRAINT a_submission_has_an_id
        CHECK ((state IN ('submitted', 'loaded')) <= (provider_batch_id IS NOT NULL AND submitted_at IS NOT NULL)),
    CONSTRAINT a_closed_attempt_says_when
        CHECK ((state IN ('loaded', 'refused', 'abandoned')) = (closed_at IS NOT NULL))
);
-- A run planned again finds its batches instead of cutting new ones.
CREATE UNIQUE INDEX batch_of_a_run ON nightbatch.batch (run_id, provider, model, endpoint, part) WHERE replaces IS NULL;
CREATE INDEX batch_open ON nightbatch.batch (provider, state) WHERE closed_at IS NULL;
-- Anthropic carries no tag: two creates in doubt at once could not be told apart in its list.
CREATE UNIQUE INDEX one_create_in_doubt_per_anthropic_workspace ON nightbatch.batch (account_fingerprint)
    WHERE provider = 'anthropic' AND state IN ('submitting', 'held');

-- What an attempt was made of. No foreign keys: a check per row would halve the speed of a plan, which reads the ids
-- from the job table in the same statement.
CREATE TABLE nightbatch.batch_job (
    batch_id bigint NOT NULL,
    job_id bigint NOT NULL,
    PRIMARY KEY (batch_id, job_id)
);

-- Every unfinished job that a plan has seen. The primary key is the promise that a job is in at most one open attempt;
-- batch_id is empty while the job waits for the next run.
CREATE TABLE nightbatch.open_job (
    job_id bigint PRIMARY KEY,
    batch_id bigint,
    attempts smallint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

-- Jobs that ended without ever being answered.
CREATE TABLE nightbatch.dismissed (
    job_id bigint PRIMARY KEY,
    state text NOT NULL CHECK (state IN ('rejected', 'cancelled')),
    reason text NOT NULL,
    run_id text REFERENCES nightbatch.run,
    dismissed_at timestamptz NOT NULL DEFAULT now()
);

-- Jobs up to this id have a row in open_job, dismissed or result. Only a shortcut: plans look at the rest one by one.
CREATE TABLE nightbatch.gathered (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    up_to bigint NOT NULL DEFAULT 0
);
INSERT INTO nightbatch.gathered DEFAULT VALUES;

-- The highest job id below which no insert is still under way, or NULL when a producer's open transaction keeps it from
-- being known. Ids come from a sequence, so a lower one may be committed after a higher one: the lock waits for those.
CREATE FUNCTION nightbatch.settled_job_id() RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog SET lock_timeout = '500ms' AS $$
BEGIN
    LOCK TABLE nightbatch.job IN SHARE MODE;
    RETURN (SELECT coalesce(max(id), 0) FROM nightbatch.job);
EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
    RETURN NULL;
END
$$;
