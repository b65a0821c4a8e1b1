-- What came back: a row for every request of every loaded attempt.

CREATE TABLE nightbatch.result (
    job_id bigint NOT NULL,
    batch_id bigint NOT NULL,
    outcome text NOT NULL CHECK (outcome IN
        ('succeeded', 'failed', 'errored', 'refused', 'truncated', 'expired', 'cancelled', 'missing')),
    billed boolean NOT NULL,
    output json,
    finish_reason text,
    input_tokens integer CHECK (input_tokens >= 0),
    cached_tokens integer CHECK (cached_tokens BETWEEN 0 AND input_tokens),
    output_tokens integer CHECK (output_tokens >= 0),
    realtime_cost_usd numeric CHECK (realtime_cost_usd >= 0),
    batch_cost_usd numeric CHECK (batch_cost_usd >= 0),
    price_source text,
    error text,
    finished_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (job_id, batch_id),
    CONSTRAINT a_success_has_an_output CHECK (outcome <> 'succeeded' OR output IS NOT NULL),
    CONSTRAINT a_cost_has_a_source
        CHECK ((batch_cost_usd IS NULL) = (price_source IS NULL) AND (batch_cost_usd IS NULL) = (realtime_cost_usd IS NULL)),
    CONSTRAINT only_what_is_billed_costs CHECK (billed OR batch_cost_usd IS NULL)
);
DO $$
BEGIN
    ALTER TABLE nightbatch.result ALTER COLUMN output SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    RAISE NOTICE 'this server was built without lz4; the outputs are compressed with pglz';
END
$$;

-- Lines that could not be matched or read, as they came.
CREATE TABLE nightbatch.reject (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    batch_id bigint NOT NULL REFERENCES nightbatch.batch,
    reason text NOT NULL,
    raw bytea NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT now()
);

-- Vectors of embedding jobs; arrays on a server without pgvector.
DO $$
DECLARE
    vector_type text := 'real[]';
BEGIN
    IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector') THEN
        CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public;
        vector_type := 'public.vector';
    ELSE
        RAISE NOTICE 'pgvector is not installed on this server: nightbatch.embedding holds arrays, without an index';
    END IF;
    EXECUTE format('CREATE TABLE nightbatch.embedding (
        job_id bigint NOT NULL,
        position integer NOT NULL CHECK (position >= 0),
        batch_id bigint NOT NULL,
        embedding %s NOT NULL,
        PRIMARY KEY (job_id, position)
    )', vector_type);
END
$$;

-- USD per million tokens; an empty price means the one in genai-prices. The newest row in force wins.
CREATE TABLE nightbatch.price_override (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    provider text NOT NULL CHECK (provider IN ('openai', 'anthropic', 'gemini')),
    model text NOT NULL,
    valid_from date NOT NULL DEFAULT current_date,
    valid_to date CHECK (valid_to >= valid_from),
    input_usd numeric CHECK (input_usd >= 0),
    cached_input_usd numeric CHECK (cached_input_usd >= 0),
    output_usd numeric CHECK (output_usd >= 0),
    batch_input_usd numeric CHECK (batch_input_usd >= 0),
    batch_cached_input_usd numeric CHECK (batch_cached_input_usd >= 0),
    batch_output_usd numeric CHECK (batch_output_usd >= 0),
    note text NOT NULL
);

-- At most this much a night, for what matches; an empty column matches everything.
CREATE TABLE nightbatch.budget (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_type text,
    model text,
    label text,
    usd_per_night numeric NOT NULL CHECK (usd_per_night >= 0),
    note text
);

CREATE TABLE nightbatch.alert (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL,
    subject text NOT NULL,
    message text NOT NULL,
    raised_at timestamptz NOT NULL DEFAULT now(),
    resolved_at timestamptz,
    acknowledged_at timestamptz,
    acknowledged_by text,
    CHECK ((acknowledged_at IS NULL) = (acknowledged_by IS NULL))
);
-- An alert is raised once, until it is resolved.
CREATE UNIQUE INDEX alert_is_raised_once ON nightbatch.alert (kind, subject) WHERE resolved_at IS NULL;
