-- The staging table, and the roles that share the database.

-- Roles belong to the whole server: another database may have made them already, maybe in this very moment.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['nightbatch_owner', 'nightbatch_worker', 'nightbatch_producer', 'nightbatch_reporter'] LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN', name);
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END LOOP;
END
$$;

CREATE SCHEMA nightbatch;
CREATE SCHEMA nightbatch_report;

CREATE TABLE nightbatch.job (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_type text NOT NULL CHECK (length(job_type) BETWEEN 1 AND 100),
    provider text NOT NULL
        CONSTRAINT provider_is_openai_anthropic_or_gemini CHECK (provider IN ('openai', 'anthropic', 'gemini')),
    model text CHECK (length(model) BETWEEN 1 AND 200),
    priority smallint NOT NULL DEFAULT 5 CONSTRAINT priority_is_1_to_10 CHECK (priority BETWEEN 1 AND 10),
    input json NOT NULL,
    dedup_key text CHECK (length(dedup_key) BETWEEN 1 AND 500),
    labels jsonb NOT NULL DEFAULT '{}' CONSTRAINT labels_are_an_object CHECK (jsonb_typeof(labels) = 'object'),
    not_before timestamptz,
    deadline timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT anthropic_has_no_embeddings CHECK (NOT (provider = 'anthropic' AND job_type = 'embedding_generation'))
);
-- Payloads of a few kB stay in the row or beside it: lz4 costs a third of pglz at the same size.
DO $$
BEGIN
    ALTER TABLE nightbatch.job ALTER COLUMN input SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    RAISE NOTICE 'this server was built without lz4; the job inputs are compressed with pglz';
END
$$;
CREATE UNIQUE INDEX job_dedup_key ON nightbatch.job (dedup_key) WHERE dedup_key IS NOT NULL;

-- A job's row never changes: a state change would rewrite its payload (52,000 rows a second instead of 516,000).
CREATE FUNCTION nightbatch.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of nightbatch.% never change; insert a new job instead', TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER job_is_immutable BEFORE UPDATE OR DELETE ON nightbatch.job
    FOR EACH STATEMENT EXECUTE FUNCTION nightbatch.refuse_change();
