-- The schema at the first release, in one piece. A new database begins here; the files after this one go on from it.
--
-- A database that was made earlier came to the same schema by the 27 files of before_baseline/, and skips this one:
-- tests/postgres/test_baseline.py holds that both ways end alike. So this file never changes; a change is a new file.
--
--    1  Roles and schemas               8  Decisions of a person
--    2  Jobs: the staging table         9  Alerts
--    3  Installation and home          10  Locks
--    4  Runs and batches: the ledger   11  The submit protocol, as triggers
--    5  Results and kept answers       12  Erasure: how long payloads stay
--    6  Prices and budgets             13  Views of the ledger
--    7  Accounts and uploads           14  Roll-ups and reports
--                                      15  Rights


-- 1  Roles and schemas ----------------------------------------------------------------------------------------------------

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
-- What people read: costs and savings. No payload stands here.
CREATE SCHEMA nightbatch_report;


-- 2  Jobs: the staging table ----------------------------------------------------------------------------------------------

-- A job's row never changes: a state change would rewrite its payload (52,000 rows a second instead of 516,000). The one
-- exception is its erasure (12).
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
    -- Answer the job from the result of an equal one that is at most so many days old. Empty: it is always sent.
    cache_days smallint CONSTRAINT cache_days_is_1_to_3650 CHECK (cache_days BETWEEN 1 AND 3650),
    -- An erased input is the JSON null, which no job type takes, so that nothing can be sent from it by mistake.
    input_sha256 bytea,
    erased_at timestamptz,
    -- Whether the job may go to the realtime API, at full price, once no batch can meet its deadline. Empty: as its type says.
    fallback boolean,
    -- A session that draws fifty ids at once, or a producer who brings ids along, commits a lower id after a higher one. So a
    -- plan knows new jobs by the transaction that inserted them (see gathered).
    inserted_by xid8 DEFAULT pg_current_xact_id(),
    CONSTRAINT anthropic_has_no_embeddings CHECK (NOT (provider = 'anthropic' AND job_type = 'embedding_generation')),
    CONSTRAINT an_erased_input_leaves_its_hash CHECK ((erased_at IS NULL) = (input_sha256 IS NULL))
);
COMMENT ON COLUMN nightbatch.job.inserted_by IS 'the inserting transaction; empty for jobs that an earlier release had seen';
-- A model's name holds no white space, no quotes, no control characters and no punctuation that only text has: what is copied
-- from a page may. White space around it is taken off when a job is planned. NOT VALID, since a database of before the first
-- release may hold other rows, which stay as they are.
ALTER TABLE nightbatch.job ADD CONSTRAINT model_is_a_name
    CHECK (btrim(model, E' \t\n\r') ~ '^[^\u0001-\u0020\u007f-\u00a0\u00ad\u2000-\u206f\u3000\ufeff"''`]+$') NOT VALID;
CREATE UNIQUE INDEX job_dedup_key ON nightbatch.job (dedup_key) WHERE dedup_key IS NOT NULL;
CREATE INDEX job_inserted_by ON nightbatch.job (inserted_by);
-- Empty where nobody asks, so that a plan knows at once that there is nothing to look for.
CREATE INDEX job_asks_the_cache ON nightbatch.job (id) WHERE cache_days IS NOT NULL;
CREATE INDEX job_reprocessing ON nightbatch.job (id) WHERE job_type = 'historical_reprocessing';

CREATE FUNCTION nightbatch.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of nightbatch.% never change; insert a new job instead', TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER job_is_not_deleted BEFORE DELETE ON nightbatch.job
    FOR EACH STATEMENT EXECUTE FUNCTION nightbatch.refuse_change();

-- A producer who knows a key may know its job's id, without reading the keys of others.
CREATE FUNCTION nightbatch.jobs_of_keys(keys text[]) RETURNS TABLE (dedup_key text, job_id bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT j.dedup_key, j.id FROM nightbatch.job AS j WHERE j.dedup_key = ANY (keys)
$$;

-- A label that is asked for, as name=value, or as a name alone for whatever value.
CREATE FUNCTION nightbatch.has_label(labels jsonb, label text) RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN CASE WHEN position('=' IN label) = 0 THEN labels ? label
    ELSE labels ->> split_part(label, '=', 1) = substr(label, position('=' IN label) + 1) END;

-- The endpoint of a raw job: what its url says, else what its body looks like. Text is compared, so that any JSON passes.
CREATE FUNCTION nightbatch.raw_endpoint(provider text, input json) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog
RETURN CASE
    WHEN provider = 'gemini' THEN
        CASE WHEN input #> '{body,contents}' IS NULL AND input #> '{body,content}' IS NOT NULL THEN 'embeddings' ELSE 'chat' END
    WHEN provider <> 'openai' THEN 'chat'
    ELSE CASE input ->> 'url'
        WHEN '/v1/chat/completions' THEN 'chat'
        WHEN '/v1/responses' THEN 'responses'
        WHEN '/v1/embeddings' THEN 'embeddings'
        WHEN '/v1/completions' THEN 'completions'
        WHEN '/v1/moderations' THEN 'moderations'
        WHEN '/v1/images/generations' THEN 'images'
        WHEN '/v1/images/edits' THEN 'image_edits'
        WHEN '/v1/videos' THEN 'videos'
        ELSE CASE
            WHEN input #> '{body,messages}' IS NOT NULL THEN 'chat'
            WHEN input #>> '{body,model}' ~ 'embedding' OR input #> '{body,encoding_format}' IS NOT NULL THEN 'embeddings'
            WHEN input #>> '{body,model}' ~ 'moderation' THEN 'moderations'
            WHEN input #> '{body,input}' IS NOT NULL THEN 'responses'
            WHEN input #>> '{body,model}' ~ '^(gpt-image|chatgpt-image|dall-e)' THEN 'images'
            WHEN input #>> '{body,model}' ~ '^sora' THEN 'videos'
            WHEN input #> '{body,prompt}' IS NOT NULL AND json_typeof(input #> '{body,prompt}') <> 'object' THEN 'completions'
            WHEN input #> '{body,prompt}' IS NOT NULL OR input #> '{body,instructions}' IS NOT NULL THEN 'responses'
            ELSE 'chat'
        END
    END
END;

-- The job that a reference ends at, through references to references; NULL when there is none, or no such job. In a function
-- of its own because a hostile input (an id that is no number, a character that text cannot hold) must cost its job only.
CREATE FUNCTION nightbatch.past_job(reference json) RETURNS bigint LANGUAGE plpgsql STABLE
SET search_path = pg_catalog AS $$
DECLARE
    past bigint;
    kind text;
    next json;
BEGIN
    past := (reference ->> 'job_id')::bigint;  -- not above: what the declarations raise is not caught below
    FOR step IN 1..20 LOOP
        SELECT j.job_type, j.input INTO kind, next FROM nightbatch.job AS j WHERE j.id = past;
        IF NOT FOUND THEN
            RETURN NULL;
        ELSIF kind <> 'historical_reprocessing' THEN
            RETURN past;
        END IF;
        past := (next ->> 'job_id')::bigint;
    END LOOP;
    RETURN NULL;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END
$$;


-- 3  Installation and home ------------------------------------------------------------------------------------------------
-- A database that is copied, restored from a backup or failed over brings its identity along, and with it a past that may not
-- be its own: jobs look queued that were sent since. What the server tells of itself is kept, and while it tells something
-- else nothing is sent, until a person says what happened.

-- The installation that this database belongs to: another one may use the same account, and numbers its jobs and attempts
-- alike. Beside its id stands what the server told of itself when it was last known to be the right one.
CREATE TABLE nightbatch.installation (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    id text NOT NULL DEFAULT left(replace(gen_random_uuid()::text, '-', ''), 8)
        CONSTRAINT an_id_has_8_hex_digits CHECK (id ~ '^[0-9a-f]{8}$'),
    system_identifier bigint,
    timeline bigint,
    database_oid oid,
    known_at timestamptz,
    -- Batches of this installation at a provider that the ledger does not know: so it looks after a disk snapshot was put
    -- back, which changes nothing that a server tells of itself.
    doubted_because text,
    -- What a person says happened; the hourly recovery reads the providers' lists and carries it out.
    said text CHECK (said IN ('moved', 'restored')),
    said_at timestamptz
);

-- What cannot be read, since a managed server forbids it or is no Postgres inside, is empty, and stays so.
CREATE FUNCTION nightbatch.server_marks(OUT system_identifier bigint, OUT timeline bigint, OUT database_oid oid)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog AS $$
BEGIN
    SELECT d.oid INTO database_oid FROM pg_database AS d WHERE d.datname = current_database();
    BEGIN
        SELECT s.system_identifier INTO system_identifier FROM pg_control_system() AS s;
    EXCEPTION WHEN insufficient_privilege OR undefined_function OR feature_not_supported THEN
        system_identifier := NULL;
    END;
    BEGIN
        -- Not pg_control_checkpoint: it tells the old timeline until the first checkpoint after a promotion.
        timeline := ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint;
    EXCEPTION WHEN insufficient_privilege OR undefined_function OR feature_not_supported OR object_not_in_prerequisite_state THEN
        timeline := NULL;
    END;
END
$$;
INSERT INTO nightbatch.installation (system_identifier, timeline, database_oid, known_at)
SELECT m.system_identifier, m.timeline, m.database_oid, now() FROM nightbatch.server_marks() AS m;

-- Why this database is not known to be the right one, in words; empty when it is.
CREATE FUNCTION nightbatch.displaced() RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog AS $$
    SELECT nullif(concat_ws('; ',
        CASE WHEN i.known_at IS NULL THEN NULL
            WHEN m.system_identifier IS DISTINCT FROM i.system_identifier THEN 'it is on another server than before'
            WHEN m.database_oid IS DISTINCT FROM i.database_oid THEN 'it is another database of its server than before'
            WHEN m.timeline IS DISTINCT FROM i.timeline THEN 'its server was restored from a backup, or a standby took over'
        END, i.doubted_because), '')
    FROM nightbatch.installation AS i, nightbatch.server_marks() AS m
$$;

-- A tag is unique beyond this database, and says whose it is. 35 characters: with five more it names a file of Gemini's.
CREATE FUNCTION nightbatch.new_tag() RETURNS text LANGUAGE sql VOLATILE
RETURN 'nb-' || (SELECT i.id FROM nightbatch.installation AS i) || '-' || right(replace(gen_random_uuid()::text, '-', ''), 23);


-- 4  Runs and batches: the ledger -----------------------------------------------------------------------------------------
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
    -- A file of OpenAI's holds requests to one endpoint.
    endpoint text NOT NULL CHECK (endpoint IN
        ('chat', 'responses', 'embeddings', 'completions', 'moderations', 'images', 'image_edits', 'videos')),
    part integer NOT NULL CHECK (part > 0),
    replaces bigint UNIQUE REFERENCES nightbatch.batch,
    tag text NOT NULL UNIQUE DEFAULT nightbatch.new_tag(),
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
    -- A provider batch that was created besides the one that an attempt uses. It is loaded like any other, and every line of it
    -- is waste: nobody may overlook what it cost.
    duplicate_of bigint REFERENCES nightbatch.batch,
    cancel_wanted_at timestamptz,
    -- A realtime attempt sends one job by itself; its provider_batch_id is the id of the answer.
    mode text NOT NULL DEFAULT 'batch' CHECK (mode IN ('batch', 'realtime')),
    -- Input tokens, as the plan reckons them; what an account has enqueued is the sum over its open attempts.
    estimated_tokens bigint CHECK (estimated_tokens >= 0),
    -- Set when the provider, or the ledger for it, said that the account's queue has no room.
    lacked_room boolean NOT NULL DEFAULT false,
    -- What the custom_ids of an attempt end with: 16 digits of its tag. It is set together with the hash of the requests, so it
    -- says what was rendered. Empty where an earlier release did that: its custom_ids have none.
    nonce text CONSTRAINT a_nonce_has_16_hex_digits CHECK (nonce ~ '^[0-9a-f]{16}$'),
    -- A person wants a loaded batch to be read once more.
    load_wanted_at timestamptz,
    -- The number in the custom_ids of an attempt that a restored ledger adopted: it may have been given again since the backup.
    sent_as bigint,
    UNIQUE (provider, provider_batch_id),
    CONSTRAINT an_upload_has_a_hash_and_an_account
        CHECK (uploaded_at IS NULL OR (payload_sha256 IS NOT NULL AND account_fingerprint IS NOT NULL)),
    CONSTRAINT an_intent_comes_before_a_submission
        CHECK (state NOT IN ('submitting', 'held', 'submitted', 'loaded') OR intent_at IS NOT NULL),
    CONSTRAINT a_submission_has_an_id
        CHECK ((state IN ('submitted', 'loaded')) <= (provider_batch_id IS NOT NULL AND submitted_at IS NOT NULL)),
    CONSTRAINT a_closed_attempt_says_when
        CHECK ((state IN ('loaded', 'refused', 'abandoned')) = (closed_at IS NOT NULL)),
    CONSTRAINT a_realtime_attempt_has_one_job CHECK (mode = 'batch' OR job_count = 1),
    CONSTRAINT a_nonce_comes_with_the_hash CHECK (nonce IS NULL OR payload_sha256 IS NOT NULL)
);
-- A run planned again finds its batches instead of cutting new ones.
CREATE UNIQUE INDEX batch_of_a_run ON nightbatch.batch (run_id, provider, model, endpoint, part)
    WHERE replaces IS NULL AND duplicate_of IS NULL;
CREATE INDEX batch_open ON nightbatch.batch (provider, state) WHERE closed_at IS NULL;
-- Anthropic carries no tag: two creates under way at once could not be told apart in its list. A realtime call stands in no
-- list of batches, so it cannot be mistaken for one. A held attempt stops nobody: requests carry a nonce, so whose batch it is
-- shows at the latest in its results, and while two attempts may own an unknown one nobody adopts it before.
CREATE UNIQUE INDEX one_create_under_way_per_anthropic_workspace ON nightbatch.batch (account_fingerprint)
    WHERE provider = 'anthropic' AND mode = 'batch' AND state = 'submitting';
CREATE INDEX batch_submitted ON nightbatch.batch (submitted_at);
CREATE INDEX batch_loaded ON nightbatch.batch (closed_at) WHERE state = 'loaded';
CREATE INDEX batch_load_wanted ON nightbatch.batch (id) WHERE load_wanted_at IS NOT NULL;
CREATE INDEX batch_account ON nightbatch.batch (provider, account_fingerprint, submitted_at);

-- What an attempt was made of. No foreign keys: a check per row would halve the speed of a plan, which reads the ids
-- from the job table in the same statement.
CREATE TABLE nightbatch.batch_job (
    batch_id bigint NOT NULL,
    job_id bigint NOT NULL,
    PRIMARY KEY (batch_id, job_id)
);

-- The prompt version in use when an attempt was rendered, by job type.
CREATE TABLE nightbatch.batch_prompt (
    batch_id bigint NOT NULL REFERENCES nightbatch.batch,
    job_type text NOT NULL,
    prompt_version text NOT NULL,
    PRIMARY KEY (batch_id, job_type)
);

-- What was expected of an attempt, before any correction: beside the roll-up of what came, it teaches the next estimate.
CREATE TABLE nightbatch.batch_estimate (
    batch_id bigint NOT NULL REFERENCES nightbatch.batch,
    job_type text NOT NULL,
    jobs integer NOT NULL CHECK (jobs > 0),
    input_tokens double precision NOT NULL CHECK (input_tokens >= 0),
    PRIMARY KEY (batch_id, job_type)
);

-- The request as it was sent: eight bytes of each, so that one rendered later can be told from the one that was paid for. One
-- row for an attempt, written with its payload_sha256: the XXH3-64 of each line of its input, in the order of its jobs. No
-- attempt of an earlier release has one. A hash is no payload: it stays when the input is erased, as payload_sha256 does.
CREATE TABLE nightbatch.request_hash (
    batch_id bigint PRIMARY KEY REFERENCES nightbatch.batch,
    hashes bytea NOT NULL,
    CONSTRAINT eight_bytes_a_request CHECK (octet_length(hashes) > 0 AND octet_length(hashes) % 8 = 0)
);
-- Nothing in it can be compressed; stored as it is, one hash is read without the others. (Postgres before 16 cannot say so in
-- CREATE TABLE.)
ALTER TABLE nightbatch.request_hash ALTER COLUMN hashes SET STORAGE EXTERNAL;

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
    dismissed_at timestamptz NOT NULL DEFAULT now(),
    erased boolean NOT NULL DEFAULT false
);
CREATE INDEX dismissed_run ON nightbatch.dismissed (run_id);
CREATE INDEX dismissed_rejected ON nightbatch.dismissed (dismissed_at) WHERE state = 'rejected';
CREATE INDEX dismissed_not_erased ON nightbatch.dismissed (dismissed_at) WHERE NOT erased;

-- Of these keys, the jobs that ended as rejected: who inserts such a key again is told. Like jobs_of_keys it tells a producer
-- ids only.
CREATE FUNCTION nightbatch.rejected_of_keys(keys text[]) RETURNS TABLE (job_id bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT j.id FROM nightbatch.job AS j JOIN nightbatch.dismissed AS d ON d.job_id = j.id
    WHERE j.dedup_key = ANY (keys) AND d.state = 'rejected'
$$;

-- How far plans have looked. What a transaction below `seen_before` inserted had been committed when an earlier plan looked, and
-- has a row in open_job, dismissed or result.
CREATE TABLE nightbatch.gathered (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    seen_before xid8 NOT NULL DEFAULT '0'
);
INSERT INTO nightbatch.gathered DEFAULT VALUES;

-- A dump that was restored into another cluster has numbers of transactions that are not this one's. There, where the number
-- lies in the future, everything is looked at once.
CREATE FUNCTION nightbatch.seen_before() RETURNS xid8 LANGUAGE sql STABLE SET search_path = pg_catalog AS $$
    SELECT CASE WHEN g.seen_before <= pg_snapshot_xmin(pg_current_snapshot()) THEN g.seen_before ELSE '0'::xid8 END
    FROM nightbatch.gathered AS g
$$;


-- 5  Results and kept answers ---------------------------------------------------------------------------------------------

-- What came back: a row for every request of every loaded attempt.
CREATE TABLE nightbatch.result (
    job_id bigint NOT NULL,
    batch_id bigint NOT NULL,
    outcome text NOT NULL CHECK (outcome IN
        ('succeeded', 'failed', 'errored', 'refused', 'truncated', 'expired', 'cancelled', 'missing', 'duplicate')),
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
    erased_at timestamptz,
    -- Units beside the three of the token columns, by their names in genai-prices: {"cache_write_tokens": 1800}. Empty for most.
    units json,
    PRIMARY KEY (job_id, batch_id),
    CONSTRAINT a_success_has_an_output CHECK (outcome <> 'succeeded' OR output IS NOT NULL OR erased_at IS NOT NULL),
    CONSTRAINT a_cost_has_a_source
        CHECK ((batch_cost_usd IS NULL) = (price_source IS NULL) AND (batch_cost_usd IS NULL) = (realtime_cost_usd IS NULL)),
    CONSTRAINT only_what_is_billed_costs CHECK (billed OR batch_cost_usd IS NULL),
    CONSTRAINT what_is_erased_is_gone CHECK (erased_at IS NULL OR output IS NULL)
);
-- The few that a report gives reasons for.
CREATE INDEX result_without_success ON nightbatch.result (batch_id) WHERE outcome <> 'succeeded';

-- Reading a loaded batch once more: only the mark that a line is missing gives way, and the sums are made anew.
CREATE FUNCTION nightbatch.keep_results() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.outcome = 'missing' AND OLD.output IS NULL AND OLD.batch_cost_usd IS NULL THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'the result of job % in batch % was read and stays', OLD.job_id, OLD.batch_id
        USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER a_result_stays BEFORE DELETE ON nightbatch.result FOR EACH ROW EXECUTE FUNCTION nightbatch.keep_results();

-- What of an answer its output does not hold: calls of functions, images, further choices, thoughts, signatures, sources, the
-- reasons of a refusal, in the provider's own words. Kept as long as the output, and erased with it.
CREATE TABLE nightbatch.answer (
    job_id bigint NOT NULL,
    batch_id bigint NOT NULL,
    rest json NOT NULL,
    PRIMARY KEY (job_id, batch_id)
);

-- Lines that could not be matched or read, as they came.
CREATE TABLE nightbatch.reject (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    batch_id bigint NOT NULL REFERENCES nightbatch.batch,
    reason text NOT NULL,
    raw bytea,
    seen_at timestamptz NOT NULL DEFAULT now(),
    erased_at timestamptz,
    CONSTRAINT what_is_erased_is_gone CHECK ((erased_at IS NULL) = (raw IS NOT NULL))
);

-- Payloads of a few kB stay in the row or beside it: lz4 costs a third of pglz at the same size. Not in CREATE TABLE, since a
-- server may have been built without it.
DO $$
BEGIN
    ALTER TABLE nightbatch.job ALTER COLUMN input SET COMPRESSION lz4;
    ALTER TABLE nightbatch.result ALTER COLUMN output SET COMPRESSION lz4;
    ALTER TABLE nightbatch.answer ALTER COLUMN rest SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    RAISE NOTICE 'this server was built without lz4; inputs, outputs and answers are compressed with pglz';
END
$$;

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

-- For each vector of the given jobs, its nearest neighbours by cosine similarity (1: the same direction): exact, and only
-- among vectors of the same model and size, since others cannot be compared.
DO $$
BEGIN
    IF to_regtype('public.vector') IS NULL THEN
        CREATE FUNCTION nightbatch.similar(of_jobs bigint[], at_most integer DEFAULT 10)
        RETURNS TABLE (of_job bigint, of_position integer, job_id bigint, "position" integer, similarity double precision)
        LANGUAGE plpgsql STABLE AS $body$
        BEGIN
            RAISE EXCEPTION 'pgvector is not installed on this server: nightbatch.embedding holds arrays, without a search'
                USING ERRCODE = 'feature_not_supported', HINT = 'Install pgvector, then load the embeddings anew.';
        END
        $body$;
    ELSE
        CREATE FUNCTION nightbatch.similar(of_jobs bigint[], at_most integer DEFAULT 10)
        RETURNS TABLE (of_job bigint, of_position integer, job_id bigint, "position" integer, similarity double precision)
        LANGUAGE sql STABLE AS $body$
            SELECT q.job_id, q.position, n.job_id, n.position, 1 - n.distance
            FROM nightbatch.embedding AS q
            JOIN nightbatch.batch AS qb ON qb.id = q.batch_id
            CROSS JOIN LATERAL (
                SELECT e.job_id, e.position, e.embedding OPERATOR(public.<=>) q.embedding AS distance
                FROM nightbatch.embedding AS e
                JOIN nightbatch.batch AS b ON b.id = e.batch_id
                WHERE b.provider = qb.provider AND b.model = qb.model
                    AND public.vector_dims(e.embedding) = public.vector_dims(q.embedding)
                    AND (e.job_id, e.position) <> (q.job_id, q.position)
                ORDER BY distance, e.job_id, e.position LIMIT at_most
            ) AS n
            WHERE q.job_id = ANY (of_jobs)
            ORDER BY q.job_id, q.position, n.distance, n.job_id
        $body$;
    END IF;
END
$$;

-- Earlier results that answer later jobs.

-- What makes two jobs equal. The bytes of the input, since jsonb refuses some and takes others for the same.
CREATE FUNCTION nightbatch.cache_key(job_type text, provider text, model text, prompt_version text, input json) RETURNS bytea
LANGUAGE sql STABLE
RETURN sha256(convert_to(json_build_array(job_type, provider, model, prompt_version)::text || E'\n' || input::text, 'UTF8'));

-- Results that may answer: made by plans, of loaded attempts, for the models and job types that some job has asked for.
CREATE TABLE nightbatch.cache_entry (
    key bytea NOT NULL,
    job_id bigint NOT NULL,
    batch_id bigint NOT NULL,
    finished_at timestamptz NOT NULL
);
CREATE INDEX cache_entry_key ON nightbatch.cache_entry (key, finished_at);

-- Which attempts have their entries.
CREATE TABLE nightbatch.cache_read (
    batch_id bigint NOT NULL REFERENCES nightbatch.batch,
    job_type text NOT NULL,
    PRIMARY KEY (batch_id, job_type)
);

-- Jobs that were answered by an earlier job's result. Their own result is a copy of it, which was not billed.
CREATE TABLE nightbatch.cached (
    job_id bigint PRIMARY KEY,
    from_job_id bigint NOT NULL,
    run_id text NOT NULL REFERENCES nightbatch.run,
    -- What the earlier answer would have cost in realtime; empty where its price was not known.
    realtime_cost_usd numeric CHECK (realtime_cost_usd >= 0),
    answered_at timestamptz NOT NULL DEFAULT now(),
    erased boolean NOT NULL DEFAULT false
);
CREATE INDEX cached_not_erased ON nightbatch.cached (answered_at) WHERE NOT erased;


-- 6  Prices and budgets ---------------------------------------------------------------------------------------------------

-- Prices of units by genai-prices' names for them, each in USD for as much as the name says. A test holds that the library has
-- no other, so that a new one is added here.
CREATE FUNCTION nightbatch.are_unit_prices(prices jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog AS $$
    SELECT CASE WHEN jsonb_typeof(prices) <> 'object' THEN false ELSE NOT EXISTS (
        SELECT FROM jsonb_each(prices) AS price (key, value)
        WHERE CASE WHEN jsonb_typeof(value) = 'number' THEN value::numeric < 0 ELSE true END
            OR key <> ALL (ARRAY[
                'cache_write_mtok', 'cache_write_5m_mtok', 'cache_write_1h_mtok', 'input_text_mtok', 'output_text_mtok',
                'cache_text_read_mtok', 'cache_text_write_mtok', 'cache_text_write_5m_mtok', 'cache_text_write_1h_mtok',
                'input_audio_mtok', 'output_audio_mtok', 'cache_audio_read_mtok', 'cache_audio_write_mtok',
                'cache_audio_write_5m_mtok', 'cache_audio_write_1h_mtok', 'input_image_mtok', 'output_image_mtok',
                'cache_image_read_mtok', 'cache_image_write_mtok', 'cache_image_write_5m_mtok', 'cache_image_write_1h_mtok',
                'input_video_mtok', 'output_video_mtok', 'cache_video_read_mtok', 'cache_video_write_mtok',
                'cache_video_write_5m_mtok', 'cache_video_write_1h_mtok', 'input_tool_mtok', 'input_text_tool_mtok',
                'input_audio_tool_mtok', 'input_image_tool_mtok', 'input_video_tool_mtok', 'output_reasoning_mtok',
                'output_text_reasoning_mtok', 'output_audio_reasoning_mtok', 'output_image_reasoning_mtok',
                'output_video_reasoning_mtok', 'output_citation_mtok', 'output_text_citation_mtok',
                'output_audio_citation_mtok', 'output_image_citation_mtok', 'output_video_citation_mtok', 'input_mchars',
                'input_text_messages_kcount', 'audio_hours', 'input_audio_hours', 'output_audio_hours', 'input_gpixels',
                'input_document_kpages', 'input_annotated_document_kpages', 'rerank_searches_kcount', 'web_searches_kcount',
                'social_searches_kcount', 'storage_searches_kcount', 'code_executions_kcount', 'requests_kcount'
            ])
    ) END
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
    note text NOT NULL,
    other_usd jsonb CONSTRAINT other_usd_are_prices_of_units CHECK (nightbatch.are_unit_prices(other_usd)),
    batch_other_usd jsonb CONSTRAINT batch_other_usd_are_prices_of_units CHECK (nightbatch.are_unit_prices(batch_other_usd))
);
-- Batch prices that the providers publish and genai-prices 0.2.3 lacks, in USD per million tokens. Standard prices stay the
-- library's. Sources: platform.openai.com/docs/pricing (batch tab) and ai.google.dev/gemini-api/docs/pricing (batch column).
INSERT INTO nightbatch.price_override
    (provider, model, valid_from, valid_to, batch_input_usd, batch_cached_input_usd, batch_output_usd, note)
VALUES
    ('openai', 'text-embedding-3-small', '2026-10-14', NULL, 0.01, NULL, NULL, 'OpenAI Batch API price list'),
    ('openai', 'text-embedding-3-large', '2026-10-14', NULL, 0.065, NULL, NULL, 'OpenAI Batch API price list'),
    ('openai', 'text-embedding-ada-002', '2026-10-14', NULL, 0.05, NULL, NULL, 'OpenAI Batch API price list'),
    ('gemini', 'gemini-embedding-001', '2026-10-14', NULL, 0.075, NULL, NULL, 'Gemini Batch API price list'),
    ('gemini', 'gemini-3.5-flash', '2026-10-14', NULL, 0.75, 0.15, 4.5, 'Gemini Batch API price list'),
    ('gemini', 'gemini-3.7-flash', '2026-10-14', '2026-12-31', 0.375, 0.075, 1.875, 'Gemini Batch API price list'),
    ('gemini', 'gemini-3.7-flash', '2027-01-01', NULL, 0.75, 0.15, 3.75, 'Gemini Batch API price list');

-- What all tokens of a request cost more under a term of its answer that genai-prices does not know. A term without a row
-- leaves the request without a price.
CREATE TABLE nightbatch.price_factor (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    provider text NOT NULL CHECK (provider IN ('openai', 'anthropic', 'gemini')),
    term text NOT NULL,
    valid_from date NOT NULL DEFAULT current_date,
    valid_to date CHECK (valid_to >= valid_from),
    factor numeric NOT NULL CHECK (factor > 0),
    note text NOT NULL
);
INSERT INTO nightbatch.price_factor (provider, term, valid_from, factor, note) VALUES
    ('anthropic', 'inference_geo=us', '2026-02-01', 1.1, 'docs.claude.com/en/docs/about-claude/pricing, data residency');

-- At most this much a night, for what matches; an empty column matches everything.
CREATE TABLE nightbatch.budget (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_type text,
    model text,
    label text,
    usd_per_night numeric NOT NULL CHECK (usd_per_night >= 0),
    note text
);
COMMENT ON COLUMN nightbatch.budget.label IS 'name=value, or a name alone for whatever value';

-- What a plan set aside of a budget, in USD at the high end of its estimate; nothing of an attempt that was never accepted.
CREATE TABLE nightbatch.reserved (
    batch_id bigint NOT NULL REFERENCES nightbatch.batch,
    budget_id bigint NOT NULL REFERENCES nightbatch.budget ON DELETE CASCADE,
    usd numeric NOT NULL CHECK (usd >= 0),
    PRIMARY KEY (batch_id, budget_id)
);
CREATE INDEX reserved_budget ON nightbatch.reserved (budget_id);


-- 7  Accounts and uploads -------------------------------------------------------------------------------------------------

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

-- After a night each account's list is read once for batches of ours that the ledger does not have: something on the way may
-- have sent a create twice. It is also read before the first create of a night, and once in a night is enough.
CREATE TABLE nightbatch.account_walk (
    provider text NOT NULL CHECK (provider IN ('openai', 'anthropic', 'gemini')),
    account_fingerprint text NOT NULL,
    walked_at timestamptz,
    looked_at timestamptz,
    PRIMARY KEY (provider, account_fingerprint)
);

-- What the ledger knows of a provider's connection, by the account that it bills. An absence proves that a batch was never
-- created only where the connection has shown a tag of ours before: a gateway may drop them. The account '' stands for all.
CREATE TABLE nightbatch.connection_seen (
    provider text NOT NULL CHECK (provider IN ('openai', 'anthropic', 'gemini')),
    account_fingerprint text NOT NULL,
    tags_shown_at timestamptz,
    -- Tries in a row without a sign from the provider: neither an id nor a word of its own.
    silent_tries integer NOT NULL DEFAULT 0 CHECK (silent_tries >= 0),
    -- A key that was rotated: the account of the key before it, proven by a batch that both can see.
    same_as text,
    PRIMARY KEY (provider, account_fingerprint)
);

-- Videos and images that were uploaded to a provider for requests to refer to: once per account and content.
CREATE TABLE nightbatch.media (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    provider text NOT NULL CHECK (provider IN ('openai', 'anthropic', 'gemini')),
    account_fingerprint text NOT NULL,
    sha256 text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    mime_type text NOT NULL,
    bytes bigint NOT NULL CHECK (bytes >= 0),
    file_name text NOT NULL,
    uri text NOT NULL,
    uploaded_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    -- Set before the provider is asked to delete it, so that no request refers to it from then on.
    deleted_at timestamptz,
    UNIQUE (provider, account_fingerprint, file_name)
);
CREATE INDEX media_content ON nightbatch.media (provider, account_fingerprint, sha256) WHERE deleted_at IS NULL;

-- Which attempts refer to it; it is deleted when none of them is open any more.
CREATE TABLE nightbatch.media_use (
    media_id bigint NOT NULL REFERENCES nightbatch.media,
    batch_id bigint NOT NULL REFERENCES nightbatch.batch,
    PRIMARY KEY (media_id, batch_id)
);


-- 8  Decisions of a person ------------------------------------------------------------------------------------------------

-- Who decided what, and why. Insert-only. About one attempt, or about jobs of no batch, or of many: then `asked` says which.
CREATE TABLE nightbatch.decision (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    batch_id bigint REFERENCES nightbatch.batch,
    choice text NOT NULL CHECK (choice IN
        ('resend', 'drop', 'adopt', 'cancel', 'retry', 'load', 'moved', 'restored', 'copy')),
    provider_batch_id text,
    decided_by text NOT NULL CHECK (length(decided_by) BETWEEN 1 AND 200),
    reason text NOT NULL CHECK (length(reason) BETWEEN 1 AND 2000),
    decided_at timestamptz NOT NULL DEFAULT now(),
    asked text CHECK (length(asked) BETWEEN 1 AND 2000),
    CONSTRAINT only_an_adoption_names_a_batch CHECK ((choice = 'adopt') = (provider_batch_id IS NOT NULL)),
    CONSTRAINT a_decision_says_about_what CHECK ((batch_id IS NULL) = (asked IS NOT NULL))
);
CREATE INDEX decision_batch ON nightbatch.decision (batch_id);

-- A person may have unusable answers asked for again (choice retry): from then on such a job is unfinished once more.
CREATE TABLE nightbatch.retried (
    batch_id bigint NOT NULL REFERENCES nightbatch.batch,
    job_id bigint NOT NULL,
    PRIMARY KEY (batch_id, job_id)
);

-- Jobs that a person had asked again beyond a batch. What stood against each of them is kept.
CREATE TABLE nightbatch.reopened (
    decision_id bigint NOT NULL REFERENCES nightbatch.decision,
    job_id bigint NOT NULL,
    reason text NOT NULL,
    PRIMARY KEY (decision_id, job_id)
);


-- 9  Alerts ---------------------------------------------------------------------------------------------------------------

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

-- Which notifier has sent which alert. A row each, not a column of the alert: of two notifiers one may fail for ever, and the
-- other must neither wait for it nor send the same again. Alerts of before have no row, so those that are still open are sent
-- once when notifiers are set up: nobody was told of them yet. What is resolved or acknowledged is never sent.
CREATE TABLE nightbatch.alert_sent (
    alert_id bigint NOT NULL REFERENCES nightbatch.alert,
    notifier text NOT NULL,
    sent_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (alert_id, notifier)
);


-- 10  Locks ---------------------------------------------------------------------------------------------------------------

-- Locks that only the worker's role can take. Advisory locks are there for everybody who may connect: a reporter or a producer
-- could stop every plan. A lock is a row that a transaction has written, and ends with the transaction.
CREATE TABLE nightbatch.named_lock (
    name text PRIMARY KEY
);


-- 11  The submit protocol, as triggers ------------------------------------------------------------------------------------
-- Held by the database: a wrong statement fails here instead of costing money.

-- Attempts.

CREATE FUNCTION nightbatch.enforce_new_attempt() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    IF NEW.epoch <> 0 OR NOT (NEW.state = 'planned' AND NEW.payload_sha256 IS NULL
            OR NEW.state = 'submitted' AND NEW.duplicate_of IS NOT NULL) THEN
        RAISE EXCEPTION 'an attempt begins as planned, and a duplicate as submitted, not as %', NEW.state
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER an_attempt_begins_as_planned BEFORE INSERT ON nightbatch.batch
    FOR EACH ROW EXECUTE FUNCTION nightbatch.enforce_new_attempt();

-- The transitions are those of the diagram in docs/architecture.md.
CREATE FUNCTION nightbatch.enforce_transition() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    intends boolean := NEW.state = 'submitting' AND OLD.state <> 'submitting';
    wrong text := CASE
        WHEN (NEW.id, NEW.run_id, NEW.provider, NEW.model, NEW.endpoint, NEW.part, NEW.tag, NEW.mode)
                <> (OLD.id, OLD.run_id, OLD.provider, OLD.model, OLD.endpoint, OLD.part, OLD.tag, OLD.mode)
            OR NEW.replaces IS DISTINCT FROM OLD.replaces OR NEW.duplicate_of IS DISTINCT FROM OLD.duplicate_of
            THEN 'what it is never changes'
        WHEN NEW.state <> OLD.state AND OLD.state || ' ' || NEW.state <> ALL (ARRAY[
                'planned uploaded', 'planned refused', 'planned abandoned',
                'uploaded submitting', 'uploaded submitted', 'uploaded held', 'uploaded refused', 'uploaded abandoned',
                'submitting uploaded', 'submitting held', 'submitting submitted', 'submitting refused', 'submitting abandoned',
                'held submitted', 'held abandoned',
                'submitted loaded', 'submitted refused', 'submitted uploaded'])
            THEN format('it does not go from %s to %s', OLD.state, NEW.state)
        WHEN NEW.epoch < OLD.epoch THEN 'its epoch only grows'
        WHEN intends AND NEW.epoch <> OLD.epoch + 1 THEN 'an intent moves its epoch on'
        WHEN (NEW.intent_at IS NULL) <> (OLD.intent_at IS NULL) AND NOT intends THEN 'only an intent says that it was intended'
        WHEN OLD.fenced_at IS NOT NULL AND NEW.fenced_at IS NULL AND NOT intends THEN 'only an intent takes its fence away'
        WHEN OLD.payload_sha256 IS NOT NULL
                AND (NEW.payload_sha256 IS DISTINCT FROM OLD.payload_sha256 OR NEW.nonce IS DISTINCT FROM OLD.nonce)
            THEN 'its requests are fixed once'
        WHEN NEW.job_count <> OLD.job_count AND OLD.payload_sha256 IS NOT NULL THEN 'its requests are fixed once'
        WHEN OLD.account_fingerprint IS NOT NULL AND NEW.account_fingerprint IS DISTINCT FROM OLD.account_fingerprint
            THEN 'its account is fixed once'
        WHEN OLD.provider_batch_id IS NOT NULL AND NEW.provider_batch_id IS DISTINCT FROM OLD.provider_batch_id
                AND NOT (OLD.state = 'submitted' AND NEW.state = 'uploaded' AND NEW.provider_batch_id IS NULL)
            THEN 'the provider''s id of it is never replaced'
    END;
BEGIN
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'attempt %: %', OLD.id, wrong USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER an_attempt_follows_the_protocol BEFORE UPDATE ON nightbatch.batch
    FOR EACH ROW EXECUTE FUNCTION nightbatch.enforce_transition();

-- Nothing is sent from a database that is not known to be at home (3).
CREATE FUNCTION nightbatch.enforce_home() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    why text := nightbatch.displaced();
BEGIN
    IF why IS NOT NULL THEN
        RAISE EXCEPTION 'attempt %: nothing is sent from this database: %', NEW.id, why
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER an_attempt_is_sent_from_home BEFORE UPDATE ON nightbatch.batch
    FOR EACH ROW WHEN (NEW.state = 'submitting' AND OLD.state <> 'submitting') EXECUTE FUNCTION nightbatch.enforce_home();

-- Members. By statement, since rows come by the million. The attempts are locked before they are judged (MATERIALIZED keeps the
-- order), so that none is fixed or closed meanwhile.

-- What an attempt is made of changes only before its requests are fixed.
CREATE FUNCTION nightbatch.enforce_members() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    fixed bigint;
BEGIN
    WITH b AS MATERIALIZED (
        SELECT id, duplicate_of, payload_sha256, state FROM nightbatch.batch WHERE id IN (SELECT c.batch_id FROM changed AS c) FOR SHARE
    )
    SELECT b.id INTO fixed FROM b
    WHERE NOT (b.state = 'planned' AND b.payload_sha256 IS NULL) AND NOT (TG_OP = 'INSERT' AND b.duplicate_of IS NOT NULL);
    IF FOUND THEN
        RAISE EXCEPTION 'attempt %: its requests are fixed, so its jobs never change', fixed
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER members_come_before_the_hash AFTER INSERT ON nightbatch.batch_job REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION nightbatch.enforce_members();
CREATE TRIGGER members_leave_before_the_hash AFTER DELETE ON nightbatch.batch_job REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION nightbatch.enforce_members();
CREATE TRIGGER members_never_change BEFORE UPDATE ON nightbatch.batch_job
    FOR EACH STATEMENT EXECUTE FUNCTION nightbatch.refuse_change();

-- A job leaves an attempt before its requests are fixed, or once it is closed; a job comes into one that is still planned.
CREATE FUNCTION nightbatch.enforce_leaving() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    live bigint;
BEGIN
    WITH b AS MATERIALIZED (
        SELECT id, payload_sha256, state, closed_at FROM nightbatch.batch WHERE id IN (SELECT l.batch_id FROM leaving AS l) FOR SHARE
    )
    SELECT b.id INTO live FROM b
    WHERE b.closed_at IS NULL AND NOT (b.state = 'planned' AND b.payload_sha256 IS NULL);
    IF FOUND THEN
        RAISE EXCEPTION 'attempt %: it may have been sent, so its jobs stay with it until it is closed', live
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END
$$;
CREATE FUNCTION nightbatch.enforce_coming() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    fixed bigint;
BEGIN
    WITH b AS MATERIALIZED (
        SELECT id, payload_sha256, state FROM nightbatch.batch WHERE id IN (SELECT c.batch_id FROM coming AS c) FOR SHARE
    )
    SELECT b.id INTO fixed FROM b
    WHERE NOT (b.state = 'planned' AND b.payload_sha256 IS NULL);
    IF FOUND THEN
        RAISE EXCEPTION 'attempt %: its requests are fixed, so no job comes in', fixed
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER a_job_stays_with_a_live_attempt AFTER UPDATE ON nightbatch.open_job REFERENCING OLD TABLE AS leaving
    FOR EACH STATEMENT EXECUTE FUNCTION nightbatch.enforce_leaving();
CREATE TRIGGER a_job_ends_with_a_closed_attempt AFTER DELETE ON nightbatch.open_job REFERENCING OLD TABLE AS leaving
    FOR EACH STATEMENT EXECUTE FUNCTION nightbatch.enforce_leaving();
CREATE TRIGGER a_new_job_comes_into_a_planned_attempt AFTER INSERT ON nightbatch.open_job REFERENCING NEW TABLE AS coming
    FOR EACH STATEMENT EXECUTE FUNCTION nightbatch.enforce_coming();
CREATE TRIGGER a_known_job_comes_into_a_planned_attempt AFTER UPDATE ON nightbatch.open_job REFERENCING NEW TABLE AS coming
    FOR EACH STATEMENT EXECUTE FUNCTION nightbatch.enforce_coming();

-- No job is left under a closed attempt. At the end of the transaction, since closing comes first.
CREATE FUNCTION nightbatch.enforce_closing() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    IF EXISTS (
        SELECT FROM nightbatch.batch_job AS m JOIN nightbatch.open_job AS o ON o.job_id = m.job_id AND o.batch_id = m.batch_id
        WHERE m.batch_id = NEW.id
    ) THEN
        RAISE EXCEPTION 'attempt %: it is closed, and jobs are left under it', NEW.id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER a_closed_attempt_holds_no_job AFTER UPDATE ON nightbatch.batch DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.closed_at IS NULL AND NEW.closed_at IS NOT NULL)
    EXECUTE FUNCTION nightbatch.enforce_closing();


-- 12  Erasure: how long payloads stay -------------------------------------------------------------------------------------

-- Which loaded attempts are done with, by job type.
CREATE TABLE nightbatch.batch_erased (
    batch_id bigint NOT NULL REFERENCES nightbatch.batch,
    job_type text NOT NULL,
    erased_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (batch_id, job_type)
);

-- The one change that a job's row may see: its input gives way to its hash, once, after the job has ended.
CREATE FUNCTION nightbatch.allow_erasure() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    rest nightbatch.job := NEW;
BEGIN
    rest.input := OLD.input;
    rest.input_sha256 := OLD.input_sha256;
    rest.erased_at := OLD.erased_at;
    IF rest *= OLD AND OLD.erased_at IS NULL AND NEW.erased_at IS NOT NULL AND NEW.input::text = 'null'
        AND NEW.input_sha256 = sha256(convert_to(OLD.input::text, 'UTF8'))
        AND NOT EXISTS (SELECT FROM nightbatch.open_job AS o WHERE o.job_id = OLD.id)
        AND (EXISTS (SELECT FROM nightbatch.result AS r WHERE r.job_id = OLD.id)
            OR EXISTS (SELECT FROM nightbatch.dismissed AS d WHERE d.job_id = OLD.id)) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'rows of nightbatch.% never change; insert a new job instead', TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER job_is_immutable BEFORE UPDATE ON nightbatch.job
    FOR EACH ROW EXECUTE FUNCTION nightbatch.allow_erasure();


-- 13  Views of the ledger -------------------------------------------------------------------------------------------------

-- Where each job stands. A duplicate's line says nothing about its job: only the attempt's own does. A job that the cache
-- answered was never sent. What came later is told by its time: the ids of attempts come from a sequence, and a lower one may be
-- committed after a higher one.
CREATE VIEW nightbatch.job_status AS
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
    CASE WHEN c.job_id IS NOT NULL THEN 0 ELSE coalesce(o.attempts, r.attempts, 0) END::integer AS attempts,
    coalesce(o.batch_id, r.batch_id) AS batch_id,
    coalesce(d.reason, CASE WHEN o.batch_id IS NULL THEN r.error END, b.error) AS error,
    coalesce(d.dismissed_at, b.submitted_at, b.planned_at, r.finished_at, j.created_at) AS updated_at
FROM nightbatch.job AS j
LEFT JOIN nightbatch.open_job AS o ON o.job_id = j.id
LEFT JOIN nightbatch.batch AS b ON b.id = o.batch_id
LEFT JOIN nightbatch.dismissed AS d ON d.job_id = j.id
LEFT JOIN nightbatch.cached AS c ON c.job_id = j.id
LEFT JOIN LATERAL (
    SELECT l.outcome, l.error, l.finished_at, l.batch_id, count(*) OVER () AS attempts
    FROM nightbatch.result AS l WHERE l.job_id = j.id AND l.outcome <> 'duplicate' ORDER BY l.finished_at DESC LIMIT 1
) AS r ON true;

-- Every request of an attempt with what came of it. `requeued`: it was not the job's last word, and nobody had to decide that.
-- Where a request's job stands now is looked up for the few that did not succeed. Without OFFSET 0 Postgres may read the whole
-- of open_job for it, once for every batch: a night of many batches took the longer, the more of it was still to be loaded.
-- LIMIT 1 says what the primary key does. While the statistics lag behind, Postgres expects many results of a job, and makes
-- a bitmap for each that it looks up, at ten times the price.
CREATE VIEW nightbatch.request AS
SELECT
    m.batch_id, m.job_id, b.run_id, (b.submitted_at AT TIME ZONE 'UTC')::date AS day, b.provider, b.model, b.mode,
    j.job_type, j.labels, r.outcome, r.billed, r.input_tokens, r.cached_tokens, r.output_tokens,
    r.realtime_cost_usd, r.batch_cost_usd,
    CASE WHEN r.outcome IN ('succeeded', 'duplicate') THEN false ELSE
        NOT EXISTS (SELECT FROM nightbatch.retried AS p WHERE p.batch_id = m.batch_id AND p.job_id = m.job_id OFFSET 0)
        AND (EXISTS (SELECT FROM nightbatch.open_job AS o WHERE o.job_id = m.job_id OFFSET 0)
            OR EXISTS (SELECT FROM nightbatch.dismissed AS d WHERE d.job_id = m.job_id OFFSET 0)
            OR EXISTS (SELECT FROM nightbatch.result AS later JOIN nightbatch.batch AS l ON l.id = later.batch_id
                WHERE later.job_id = m.job_id AND later.finished_at > r.finished_at AND l.duplicate_of IS NULL OFFSET 0))
    END AS requeued,
    r.billed AND (r.outcome = 'duplicate' OR EXISTS (
        SELECT FROM nightbatch.result AS earlier WHERE earlier.job_id = m.job_id AND earlier.finished_at < r.finished_at
            AND earlier.billed AND earlier.outcome <> 'duplicate' OFFSET 0)) AS paid_again
FROM nightbatch.batch_job AS m
JOIN nightbatch.batch AS b ON b.id = m.batch_id
CROSS JOIN LATERAL (SELECT job_type, labels FROM nightbatch.job WHERE id = m.job_id LIMIT 1) AS j
CROSS JOIN LATERAL (
    SELECT outcome, billed, finished_at, input_tokens, cached_tokens, output_tokens, realtime_cost_usd, batch_cost_usd
    FROM nightbatch.result WHERE job_id = m.job_id AND batch_id = m.batch_id LIMIT 1
) AS r;

-- Old beside new: the latest result of the past job, and that of its reprocessing.
CREATE VIEW nightbatch.reprocessed AS
WITH answered AS (
    SELECT DISTINCT ON (r.job_id) r.job_id, b.provider, b.model, r.outcome, r.output, r.realtime_cost_usd, r.batch_cost_usd,
        r.batch_id, r.finished_at
    FROM nightbatch.result AS r JOIN nightbatch.batch AS b ON b.id = r.batch_id
    WHERE r.outcome <> 'duplicate' ORDER BY r.job_id, r.batch_id DESC
)
SELECT
    n.job_id, p.id AS past_job_id, p.job_type, n.prompt_version,
    o.provider AS old_provider, o.model AS old_model, o.outcome AS old_outcome, o.output AS old_output,
    o.batch_cost_usd AS old_batch_cost_usd, o.finished_at AS old_finished_at,
    a.provider AS new_provider, a.model AS new_model, a.outcome AS new_outcome, a.output AS new_output,
    a.batch_cost_usd AS new_batch_cost_usd, a.finished_at AS new_finished_at
FROM (
    SELECT found.id AS job_id, past_job_id,
        CASE WHEN past_job_id IS NOT NULL THEN input ->> 'prompt_version' END AS prompt_version
    FROM (
        SELECT j.id, j.input, nightbatch.past_job(j.input) AS past_job_id
        FROM nightbatch.job AS j WHERE j.job_type = 'historical_reprocessing'
    ) AS found
) AS n
JOIN nightbatch.job AS p ON p.id = n.past_job_id
LEFT JOIN answered AS o ON o.job_id = p.id
LEFT JOIN answered AS a ON a.job_id = n.job_id;

-- A number of an output; NULL where there is none, or where the output holds what text cannot.
CREATE FUNCTION nightbatch.number_in(output json, name text) RETURNS numeric LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog AS $$
BEGIN
    RETURN (output ->> name)::numeric;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END
$$;

-- The same creative before several models: jobs that share the label `council`. The verdict stands once all are in; the
-- dissenter is the member that is furthest from the middle.
CREATE VIEW nightbatch.council AS
WITH scored AS (
    SELECT
        j.labels ->> 'council' AS council, j.id, s.state, j.provider || coalesce(' ' || b.model, '') AS member, r.overall
    FROM nightbatch.job AS j
    JOIN nightbatch.job_status AS s ON s.job_id = j.id
    LEFT JOIN nightbatch.batch AS b ON b.id = s.batch_id
    LEFT JOIN LATERAL (
        SELECT nightbatch.number_in(l.output, 'overall') AS overall
        FROM nightbatch.result AS l WHERE l.job_id = j.id AND l.outcome = 'succeeded' ORDER BY l.batch_id DESC LIMIT 1
    ) AS r ON true
    WHERE j.labels ? 'council'
), middle AS (
    SELECT council, percentile_cont(0.5) WITHIN GROUP (ORDER BY overall::double precision)::numeric AS overall
    FROM scored GROUP BY council
)
SELECT
    council, count(*) AS members, count(scored.overall) AS answered,
    bool_and(state IN ('succeeded', 'failed', 'rejected', 'cancelled')) AS complete,
    middle.overall AS overall, max(scored.overall) - min(scored.overall) AS spread,
    round(stddev_pop(scored.overall), 1) AS deviation,
    (array_agg(member ORDER BY abs(scored.overall - middle.overall) DESC NULLS LAST, id))[1] AS dissenter,
    max(abs(scored.overall - middle.overall)) AS dissent
FROM scored JOIN middle USING (council)
GROUP BY council, middle.overall;


-- 14  Roll-ups and reports ------------------------------------------------------------------------------------------------

-- One row per loaded attempt and job type, written in the transaction that loads it: all figures below add these up.
CREATE TABLE nightbatch_report.batch_rollup (
    batch_id bigint NOT NULL,
    job_type text NOT NULL,
    run_id text NOT NULL,
    day date NOT NULL,
    provider text NOT NULL,
    model text NOT NULL,
    jobs integer NOT NULL,
    succeeded integer NOT NULL,
    failed integer NOT NULL,
    requeued integer NOT NULL CHECK (requeued = jobs - succeeded - failed),
    input_tokens bigint NOT NULL,
    cached_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    realtime_cost_usd numeric NOT NULL,
    batch_cost_usd numeric NOT NULL,
    wasted_cost_usd numeric NOT NULL,
    unpriced integer NOT NULL,
    paid_again integer NOT NULL,
    -- What went at full price.
    realtime_jobs integer NOT NULL DEFAULT 0,
    PRIMARY KEY (batch_id, job_type)
);
CREATE INDEX batch_rollup_day ON nightbatch_report.batch_rollup (day);
CREATE INDEX batch_rollup_run ON nightbatch_report.batch_rollup (run_id);

-- What a run saved by the cache, added up in the transaction that answers.
CREATE TABLE nightbatch_report.cache_rollup (
    run_id text NOT NULL,
    provider text NOT NULL,
    model text NOT NULL,
    job_type text NOT NULL,
    day date NOT NULL,
    jobs integer NOT NULL,
    realtime_cost_usd numeric NOT NULL,
    unpriced integer NOT NULL,
    PRIMARY KEY (run_id, provider, model, job_type)
);
CREATE INDEX cache_rollup_day ON nightbatch_report.cache_rollup (day);

-- A row per attempt and label; of what the cache answered, per run and label (batch_id is empty there). A job counts once for
-- each of its labels. Labels with more than 100 values in one attempt name jobs rather than kinds of them, and are left out.
CREATE TABLE nightbatch_report.label_rollup (
    batch_id bigint,
    run_id text NOT NULL,
    label text NOT NULL,
    day date NOT NULL,
    jobs integer NOT NULL,
    succeeded integer NOT NULL,
    failed integer NOT NULL,
    requeued integer NOT NULL CHECK (requeued = jobs - succeeded - failed),
    from_cache integer NOT NULL DEFAULT 0,
    realtime_jobs integer NOT NULL,
    paid_again integer NOT NULL,
    unpriced integer NOT NULL,
    input_tokens bigint NOT NULL,
    cached_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    realtime_cost_usd numeric NOT NULL,
    batch_cost_usd numeric NOT NULL,
    wasted_cost_usd numeric NOT NULL
);
CREATE UNIQUE INDEX label_rollup_batch ON nightbatch_report.label_rollup (batch_id, label) WHERE batch_id IS NOT NULL;
CREATE UNIQUE INDEX label_rollup_cache ON nightbatch_report.label_rollup (run_id, label) WHERE batch_id IS NULL;
CREATE INDEX label_rollup_day ON nightbatch_report.label_rollup (day);

-- jobs: requests that were sent and accounted for on that day; those that go again (neither succeeded nor failed) included. A job
-- that the cache answers counts as one that succeeded, at no cost.
-- unpriced: billed requests whose price or usage is not known; they are in no cost column.
CREATE VIEW nightbatch_report.savings_daily AS
SELECT
    day, provider, model, job_type,
    sum(jobs)::bigint AS jobs, sum(succeeded)::bigint AS succeeded, sum(failed)::bigint AS failed,
    sum(input_tokens)::bigint AS input_tokens, sum(cached_tokens)::bigint AS cached_tokens,
    sum(output_tokens)::bigint AS output_tokens,
    sum(realtime_cost_usd) AS realtime_cost_usd, sum(batch_cost_usd) AS batch_cost_usd,
    sum(wasted_cost_usd) AS wasted_cost_usd,
    sum(realtime_cost_usd - batch_cost_usd - wasted_cost_usd) AS savings_usd,
    sum(unpriced)::bigint AS unpriced,
    sum(from_cache)::bigint AS from_cache,
    sum(requeued)::bigint AS requeued, sum(paid_again)::bigint AS paid_again, sum(realtime_jobs)::bigint AS realtime_jobs
FROM (
    SELECT day, provider, model, job_type, jobs, succeeded, failed, requeued, input_tokens, cached_tokens, output_tokens,
        realtime_cost_usd, batch_cost_usd, wasted_cost_usd, unpriced, 0 AS from_cache, paid_again, realtime_jobs
    FROM nightbatch_report.batch_rollup
    UNION ALL
    SELECT day, provider, model, job_type, jobs, jobs, 0, 0, 0, 0, 0, realtime_cost_usd, 0, 0, unpriced, jobs, 0, 0
    FROM nightbatch_report.cache_rollup
) AS parts
GROUP BY day, provider, model, job_type;

CREATE VIEW nightbatch_report.savings_by_label AS
SELECT
    day, label, sum(jobs)::bigint AS jobs, sum(succeeded)::bigint AS succeeded, sum(failed)::bigint AS failed,
    sum(input_tokens)::bigint AS input_tokens, sum(cached_tokens)::bigint AS cached_tokens,
    sum(output_tokens)::bigint AS output_tokens,
    sum(realtime_cost_usd) AS realtime_cost_usd, sum(batch_cost_usd) AS batch_cost_usd,
    sum(wasted_cost_usd) AS wasted_cost_usd,
    sum(realtime_cost_usd - batch_cost_usd - wasted_cost_usd) AS savings_usd,
    sum(unpriced)::bigint AS unpriced, sum(from_cache)::bigint AS from_cache, sum(requeued)::bigint AS requeued,
    sum(paid_again)::bigint AS paid_again, sum(realtime_jobs)::bigint AS realtime_jobs
FROM nightbatch_report.label_rollup
GROUP BY day, label;

CREATE VIEW nightbatch_report.run_summary AS
SELECT
    r.id AS run_id, r.planned_at, r.reported_at, r.queued_before, r.params,
    b.batches, b.open_batches, b.loaded_batches, d.rejected,
    coalesce(u.jobs, 0) + c.jobs AS jobs, coalesce(u.succeeded, 0) + c.jobs AS succeeded, coalesce(u.failed, 0) AS failed,
    coalesce(u.requeued, 0) AS requeued, coalesce(u.unpriced, 0) + c.unpriced AS unpriced,
    coalesce(u.paid_again, 0) AS paid_again,
    coalesce(u.realtime_cost_usd, 0) + c.realtime_cost_usd AS realtime_cost_usd,
    coalesce(u.batch_cost_usd, 0) AS batch_cost_usd, coalesce(u.wasted_cost_usd, 0) AS wasted_cost_usd,
    coalesce(u.realtime_cost_usd - u.batch_cost_usd - u.wasted_cost_usd, 0) + c.realtime_cost_usd AS savings_usd,
    c.jobs AS from_cache
FROM nightbatch.run AS r
CROSS JOIN LATERAL (
    SELECT count(*) AS batches, count(*) FILTER (WHERE closed_at IS NULL) AS open_batches,
        count(*) FILTER (WHERE state = 'loaded') AS loaded_batches
    FROM nightbatch.batch WHERE run_id = r.id
) AS b
CROSS JOIN LATERAL (SELECT count(*) AS rejected FROM nightbatch.dismissed WHERE run_id = r.id AND state = 'rejected') AS d
CROSS JOIN LATERAL (
    SELECT coalesce(sum(jobs), 0)::bigint AS jobs, coalesce(sum(realtime_cost_usd), 0) AS realtime_cost_usd,
        coalesce(sum(unpriced), 0)::bigint AS unpriced
    FROM nightbatch_report.cache_rollup WHERE run_id = r.id
) AS c
LEFT JOIN LATERAL (
    SELECT sum(jobs)::bigint AS jobs, sum(succeeded)::bigint AS succeeded, sum(failed)::bigint AS failed,
        sum(requeued)::bigint AS requeued, sum(unpriced)::bigint AS unpriced, sum(paid_again)::bigint AS paid_again,
        sum(realtime_cost_usd) AS realtime_cost_usd, sum(batch_cost_usd) AS batch_cost_usd,
        sum(wasted_cost_usd) AS wasted_cost_usd
    FROM nightbatch_report.batch_rollup WHERE run_id = r.id
) AS u ON true;

CREATE VIEW nightbatch_report.queue_depth AS
SELECT provider, job_type, priority, count(*) AS jobs, min(created_at) AS oldest
FROM (
    SELECT j.provider, j.job_type, j.priority, j.created_at
    FROM nightbatch.job AS j
    WHERE j.inserted_by >= nightbatch.seen_before()
        AND NOT EXISTS (SELECT FROM nightbatch.open_job AS o WHERE o.job_id = j.id)
        AND NOT EXISTS (SELECT FROM nightbatch.dismissed AS d WHERE d.job_id = j.id)
        AND NOT EXISTS (SELECT FROM nightbatch.result AS r WHERE r.job_id = j.id)
    UNION ALL
    SELECT j.provider, j.job_type, j.priority, j.created_at
    FROM nightbatch.open_job AS o JOIN nightbatch.job AS j ON j.id = o.job_id
    WHERE o.batch_id IS NULL
) AS q
GROUP BY provider, job_type, priority;

CREATE VIEW nightbatch_report.batch_turnaround AS
SELECT
    b.id AS batch_id, b.run_id, b.provider, b.model, b.endpoint, b.state, b.job_count,
    b.submitted_at, b.ended_at, b.closed_at, b.ended_at - b.submitted_at AS turnaround, b.mode
FROM nightbatch.batch AS b
WHERE b.submitted_at IS NOT NULL;


-- 15  Rights --------------------------------------------------------------------------------------------------------------
-- Who may do what. Give a person or service one of these roles: GRANT nightbatch_producer TO etl;

-- Everybody may execute a new function. These tell of other people's jobs, or read inputs.
REVOKE ALL ON FUNCTION nightbatch.past_job(json), nightbatch.jobs_of_keys(text[]), nightbatch.rejected_of_keys(text[])
    FROM PUBLIC;

-- A producer inserts; reading the id back lets INSERT ... RETURNING id work, and shows no payload.
GRANT USAGE ON SCHEMA nightbatch TO nightbatch_producer;
GRANT INSERT (job_type, provider, model, priority, input, dedup_key, labels, not_before, deadline, cache_days, fallback)
    ON nightbatch.job TO nightbatch_producer;
GRANT SELECT (id) ON nightbatch.job TO nightbatch_producer;
GRANT EXECUTE ON FUNCTION nightbatch.jobs_of_keys(text[]), nightbatch.rejected_of_keys(text[]) TO nightbatch_producer;

-- A reporter sees states and figures, and no payload. The last two are what queue_depth asks.
GRANT USAGE ON SCHEMA nightbatch, nightbatch_report TO nightbatch_reporter;
GRANT SELECT ON nightbatch.job_status TO nightbatch_reporter;
GRANT SELECT ON ALL TABLES IN SCHEMA nightbatch_report TO nightbatch_reporter;
GRANT SELECT ON nightbatch.gathered TO nightbatch_reporter;
GRANT EXECUTE ON FUNCTION nightbatch.seen_before() TO nightbatch_reporter;

-- A worker does what a night needs. What was decided, sent, paid or erased it only adds to.
GRANT USAGE ON SCHEMA nightbatch, nightbatch_report TO nightbatch_worker;
GRANT SELECT ON
    nightbatch.job_status, nightbatch.request, nightbatch.reprocessed, nightbatch.council,
    nightbatch.price_override, nightbatch.price_factor, nightbatch.budget
    TO nightbatch_worker;
GRANT SELECT, INSERT ON
    nightbatch.job, nightbatch.batch_prompt, nightbatch.request_hash, nightbatch.result, nightbatch.reject, nightbatch.answer,
    nightbatch.cache_entry, nightbatch.cache_read, nightbatch.media_use, nightbatch.decision, nightbatch.retried,
    nightbatch.reopened, nightbatch.alert_sent, nightbatch.batch_erased
    TO nightbatch_worker;
GRANT SELECT, UPDATE ON nightbatch.installation TO nightbatch_worker;
GRANT SELECT, INSERT, UPDATE ON
    nightbatch.run, nightbatch.batch, nightbatch.gathered, nightbatch.cached, nightbatch.account_walk, nightbatch.connection_seen,
    nightbatch.media, nightbatch.alert
    TO nightbatch_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON
    nightbatch.batch_job, nightbatch.open_job, nightbatch.dismissed, nightbatch.embedding, nightbatch.batch_estimate,
    nightbatch.reserved, nightbatch.token_limit, nightbatch.named_lock
    TO nightbatch_worker;
-- Erasure.
GRANT UPDATE (input, input_sha256, erased_at) ON nightbatch.job TO nightbatch_worker;
GRANT UPDATE (output, erased_at) ON nightbatch.result TO nightbatch_worker;
GRANT UPDATE (raw, erased_at) ON nightbatch.reject TO nightbatch_worker;
GRANT DELETE ON nightbatch.answer TO nightbatch_worker;
-- A batch that is read once more.
GRANT DELETE, UPDATE (finished_at) ON nightbatch.result TO nightbatch_worker;
GRANT DELETE ON nightbatch_report.batch_rollup, nightbatch_report.label_rollup TO nightbatch_worker;
GRANT SELECT, INSERT ON
    nightbatch_report.batch_rollup, nightbatch_report.cache_rollup, nightbatch_report.label_rollup,
    -- Views: nothing inserts through them. Databases of before have this grant too.
    nightbatch_report.savings_daily, nightbatch_report.run_summary, nightbatch_report.queue_depth,
    nightbatch_report.batch_turnaround
    TO nightbatch_worker;
GRANT SELECT ON nightbatch_report.savings_by_label TO nightbatch_worker;
GRANT EXECUTE ON FUNCTION
    nightbatch.jobs_of_keys(text[]), nightbatch.rejected_of_keys(text[]), nightbatch.past_job(json), nightbatch.seen_before(),
    nightbatch.has_label(jsonb, text), nightbatch.raw_endpoint(text, json), nightbatch.server_marks(), nightbatch.displaced(),
    nightbatch.new_tag(), nightbatch.similar(bigint[], integer), nightbatch.number_in(json, text)
    TO nightbatch_worker;

-- An owner changes the schema.
GRANT USAGE, CREATE ON SCHEMA nightbatch, nightbatch_report TO nightbatch_owner;
GRANT ALL ON ALL TABLES IN SCHEMA nightbatch, nightbatch_report TO nightbatch_owner;
GRANT EXECUTE ON FUNCTION
    nightbatch.jobs_of_keys(text[]), nightbatch.rejected_of_keys(text[]), nightbatch.past_job(json), nightbatch.seen_before(),
    nightbatch.has_label(jsonb, text), nightbatch.raw_endpoint(text, json), nightbatch.server_marks(), nightbatch.displaced(),
    nightbatch.new_tag()
    TO nightbatch_owner;
