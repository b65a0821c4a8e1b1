CREATE SCHEMA nightbatch;

CREATE SCHEMA nightbatch_report;

CREATE FUNCTION nightbatch.allow_erasure() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog'
    AS $$
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

CREATE FUNCTION nightbatch.are_unit_prices(prices jsonb) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog'
    AS $$
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

CREATE FUNCTION nightbatch.cache_key(job_type text, provider text, model text, prompt_version text, input json) RETURNS bytea
    LANGUAGE sql STABLE
    RETURN sha256(convert_to((((json_build_array(job_type, provider, model, prompt_version))::text || '
'::text) || (input)::text), 'UTF8'::name));

CREATE FUNCTION nightbatch.displaced() RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog'
    AS $$
    SELECT nullif(concat_ws('; ',
        CASE WHEN i.known_at IS NULL THEN NULL
            WHEN m.system_identifier IS DISTINCT FROM i.system_identifier THEN 'it is on another server than before'
            WHEN m.database_oid IS DISTINCT FROM i.database_oid THEN 'it is another database of its server than before'
            WHEN m.timeline IS DISTINCT FROM i.timeline THEN 'its server was restored from a backup, or a standby took over'
        END, i.doubted_because), '')
    FROM nightbatch.installation AS i, nightbatch.server_marks() AS m
$$;

CREATE FUNCTION nightbatch.enforce_closing() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog'
    AS $$
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

CREATE FUNCTION nightbatch.enforce_coming() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog'
    AS $$
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

CREATE FUNCTION nightbatch.enforce_home() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog'
    AS $$
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

CREATE FUNCTION nightbatch.enforce_leaving() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog'
    AS $$
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

CREATE FUNCTION nightbatch.enforce_members() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog'
    AS $$
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

CREATE FUNCTION nightbatch.enforce_new_attempt() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog'
    AS $$
BEGIN
    IF NEW.epoch <> 0 OR NOT (NEW.state = 'planned' AND NEW.payload_sha256 IS NULL
            OR NEW.state = 'submitted' AND NEW.duplicate_of IS NOT NULL) THEN
        RAISE EXCEPTION 'an attempt begins as planned, and a duplicate as submitted, not as %', NEW.state
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END
$$;

CREATE FUNCTION nightbatch.enforce_transition() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog'
    AS $$
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

CREATE FUNCTION nightbatch.has_label(labels jsonb, label text) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    RETURN CASE WHEN (POSITION(('='::text) IN (label)) = 0) THEN (labels ? label) ELSE ((labels ->> split_part(label, '='::text, 1)) = substr(label, (POSITION(('='::text) IN (label)) + 1))) END;

CREATE FUNCTION nightbatch.jobs_of_keys(keys text[]) RETURNS TABLE(dedup_key text, job_id bigint)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog'
    AS $$
    SELECT j.dedup_key, j.id FROM nightbatch.job AS j WHERE j.dedup_key = ANY (keys)
$$;

CREATE FUNCTION nightbatch.keep_results() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF OLD.outcome = 'missing' AND OLD.output IS NULL AND OLD.batch_cost_usd IS NULL THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'the result of job % in batch % was read and stays', OLD.job_id, OLD.batch_id
        USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TABLE nightbatch.installation (
    only_row boolean DEFAULT true NOT NULL,
    id text DEFAULT "left"(replace((gen_random_uuid())::text, '-'::text, ''::text), 8) NOT NULL,
    system_identifier bigint,
    timeline bigint,
    database_oid oid,
    known_at timestamp with time zone,
    doubted_because text,
    said text,
    said_at timestamp with time zone,
    CONSTRAINT an_id_has_8_hex_digits CHECK ((id ~ '^[0-9a-f]{8}$'::text)),
    CONSTRAINT installation_only_row_check CHECK (only_row),
    CONSTRAINT installation_said_check CHECK ((said = ANY (ARRAY['moved'::text, 'restored'::text])))
);

CREATE FUNCTION nightbatch.new_tag() RETURNS text
    LANGUAGE sql
    RETURN ((('nb-'::text || (SELECT i.id FROM nightbatch.installation i)) || '-'::text) || "right"(replace((gen_random_uuid())::text, '-'::text, ''::text), 23));

CREATE FUNCTION nightbatch.number_in(output json, name text) RETURNS numeric
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog'
    AS $$
BEGIN
    RETURN (output ->> name)::numeric;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END
$$;

CREATE FUNCTION nightbatch.past_job(reference json) RETURNS bigint
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog'
    AS $$
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

CREATE FUNCTION nightbatch.providers() RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN '{openai,anthropic,gemini}'::text[];

CREATE FUNCTION nightbatch.raw_endpoint(provider text, input json) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path TO 'pg_catalog'
    RETURN CASE WHEN (provider = 'gemini'::text) THEN CASE WHEN (((input #> '{body,contents}'::text[]) IS NULL) AND ((input #> '{body,content}'::text[]) IS NOT NULL)) THEN 'embeddings'::text ELSE 'chat'::text END WHEN (provider <> 'openai'::text) THEN 'chat'::text ELSE CASE (input ->> 'url'::text) WHEN '/v1/chat/completions'::text THEN 'chat'::text WHEN '/v1/responses'::text THEN 'responses'::text WHEN '/v1/embeddings'::text THEN 'embeddings'::text WHEN '/v1/completions'::text THEN 'completions'::text WHEN '/v1/moderations'::text THEN 'moderations'::text WHEN '/v1/images/generations'::text THEN 'images'::text WHEN '/v1/images/edits'::text THEN 'image_edits'::text WHEN '/v1/videos'::text THEN 'videos'::text ELSE CASE WHEN ((input #> '{body,messages}'::text[]) IS NOT NULL) THEN 'chat'::text WHEN (((input #>> '{body,model}'::text[]) ~ 'embedding'::text) OR ((input #> '{body,encoding_format}'::text[]) IS NOT NULL)) THEN 'embeddings'::text WHEN ((input #>> '{body,model}'::text[]) ~ 'moderation'::text) THEN 'moderations'::text WHEN ((input #> '{body,input}'::text[]) IS NOT NULL) THEN 'responses'::text WHEN ((input #>> '{body,model}'::text[]) ~ '^(gpt-image|chatgpt-image|dall-e)'::text) THEN 'images'::text WHEN ((input #>> '{body,model}'::text[]) ~ '^sora'::text) THEN 'videos'::text WHEN (((input #> '{body,prompt}'::text[]) IS NOT NULL) AND (json_typeof((input #> '{body,prompt}'::text[])) <> 'object'::text)) THEN 'completions'::text WHEN (((input #> '{body,prompt}'::text[]) IS NOT NULL) OR ((input #> '{body,instructions}'::text[]) IS NOT NULL)) THEN 'responses'::text ELSE 'chat'::text END END END;

CREATE FUNCTION nightbatch.refuse_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION 'rows of nightbatch.% never change; insert a new job instead', TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END
$$;

CREATE FUNCTION nightbatch.register_provider(name text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog'
    AS $$
BEGIN
    IF name <> ALL (nightbatch.providers()) THEN
        EXECUTE format('CREATE OR REPLACE FUNCTION nightbatch.providers() RETURNS text[]'
            ' LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN %L::text[]', nightbatch.providers() || name);
    END IF;
END
$$;

CREATE FUNCTION nightbatch.rejected_of_keys(keys text[]) RETURNS TABLE(job_id bigint)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog'
    AS $$
    SELECT j.id FROM nightbatch.job AS j JOIN nightbatch.dismissed AS d ON d.job_id = j.id
    WHERE j.dedup_key = ANY (keys) AND d.state = 'rejected'
$$;

CREATE FUNCTION nightbatch.seen_before() RETURNS xid8
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog'
    AS $$
    SELECT CASE WHEN g.seen_before <= pg_snapshot_xmin(pg_current_snapshot()) THEN g.seen_before ELSE '0'::xid8 END
    FROM nightbatch.gathered AS g
$$;

CREATE FUNCTION nightbatch.server_marks(OUT system_identifier bigint, OUT timeline bigint, OUT database_oid oid) RETURNS record
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog'
    AS $$
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

CREATE FUNCTION nightbatch."similar"(of_jobs bigint[], at_most integer DEFAULT 10) RETURNS TABLE(of_job bigint, of_position integer, job_id bigint, "position" integer, similarity double precision)
    LANGUAGE sql STABLE
    AS $$
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
        $$;

CREATE FUNCTION nightbatch_report.savings(realtime_usd numeric, batch_usd numeric, wasted_usd numeric) RETURNS numeric
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ((realtime_usd - batch_usd) - wasted_usd);

CREATE TABLE nightbatch.account_walk (
    provider text NOT NULL,
    account_fingerprint text NOT NULL,
    walked_at timestamp with time zone,
    looked_at timestamp with time zone,
    CONSTRAINT account_walk_provider_check CHECK ((provider = ANY (nightbatch.providers())))
);

CREATE TABLE nightbatch.alert (
    id bigint NOT NULL,
    kind text NOT NULL,
    subject text NOT NULL,
    message text NOT NULL,
    raised_at timestamp with time zone DEFAULT now() NOT NULL,
    resolved_at timestamp with time zone,
    acknowledged_at timestamp with time zone,
    acknowledged_by text,
    CONSTRAINT alert_check CHECK (((acknowledged_at IS NULL) = (acknowledged_by IS NULL)))
);

ALTER TABLE nightbatch.alert ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME nightbatch.alert_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE nightbatch.alert_sent (
    alert_id bigint NOT NULL,
    notifier text NOT NULL,
    sent_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE nightbatch.answer (
    job_id bigint NOT NULL,
    batch_id bigint NOT NULL,
    rest json NOT NULL
);

CREATE TABLE nightbatch.batch (
    id bigint NOT NULL,
    run_id text NOT NULL,
    provider text NOT NULL,
    model text NOT NULL,
    endpoint text NOT NULL,
    part integer NOT NULL,
    replaces bigint,
    tag text DEFAULT nightbatch.new_tag() NOT NULL,
    state text DEFAULT 'planned'::text NOT NULL,
    epoch integer DEFAULT 0 NOT NULL,
    job_count integer NOT NULL,
    account_fingerprint text,
    payload_sha256 text,
    input_file text,
    provider_batch_id text,
    provider_status text,
    price_source text,
    error text,
    planned_at timestamp with time zone DEFAULT now() NOT NULL,
    uploaded_at timestamp with time zone,
    intent_at timestamp with time zone,
    fenced_at timestamp with time zone,
    submitted_at timestamp with time zone,
    ended_at timestamp with time zone,
    closed_at timestamp with time zone,
    duplicate_of bigint,
    cancel_wanted_at timestamp with time zone,
    mode text DEFAULT 'batch'::text NOT NULL,
    estimated_tokens bigint,
    lacked_room boolean DEFAULT false NOT NULL,
    nonce text,
    load_wanted_at timestamp with time zone,
    sent_as bigint,
    tagged boolean DEFAULT false NOT NULL,
    CONSTRAINT a_closed_attempt_says_when CHECK (((state = ANY (ARRAY['loaded'::text, 'refused'::text, 'abandoned'::text])) = (closed_at IS NOT NULL))),
    CONSTRAINT a_nonce_comes_with_the_hash CHECK (((nonce IS NULL) OR (payload_sha256 IS NOT NULL))),
    CONSTRAINT a_nonce_has_16_hex_digits CHECK ((nonce ~ '^[0-9a-f]{16}$'::text)),
    CONSTRAINT a_realtime_attempt_has_one_job CHECK (((mode = 'batch'::text) OR (job_count = 1))),
    CONSTRAINT a_submission_has_an_id CHECK (((state = ANY (ARRAY['submitted'::text, 'loaded'::text])) <= ((provider_batch_id IS NOT NULL) AND (submitted_at IS NOT NULL)))),
    CONSTRAINT an_intent_comes_before_a_submission CHECK (((state <> ALL (ARRAY['submitting'::text, 'held'::text, 'submitted'::text, 'loaded'::text])) OR (intent_at IS NOT NULL))),
    CONSTRAINT an_upload_has_a_hash_and_an_account CHECK (((uploaded_at IS NULL) OR ((payload_sha256 IS NOT NULL) AND (account_fingerprint IS NOT NULL)))),
    CONSTRAINT batch_endpoint_check CHECK ((endpoint = ANY (ARRAY['chat'::text, 'responses'::text, 'embeddings'::text, 'completions'::text, 'moderations'::text, 'images'::text, 'image_edits'::text, 'videos'::text]))),
    CONSTRAINT batch_epoch_check CHECK ((epoch >= 0)),
    CONSTRAINT batch_estimated_tokens_check CHECK ((estimated_tokens >= 0)),
    CONSTRAINT batch_job_count_check CHECK ((job_count > 0)),
    CONSTRAINT batch_mode_check CHECK ((mode = ANY (ARRAY['batch'::text, 'realtime'::text]))),
    CONSTRAINT batch_part_check CHECK ((part > 0)),
    CONSTRAINT batch_provider_check CHECK ((provider = ANY (nightbatch.providers()))),
    CONSTRAINT batch_state_check CHECK ((state = ANY (ARRAY['planned'::text, 'uploaded'::text, 'submitting'::text, 'held'::text, 'submitted'::text, 'loaded'::text, 'refused'::text, 'abandoned'::text])))
);

CREATE TABLE nightbatch.batch_erased (
    batch_id bigint NOT NULL,
    job_type text NOT NULL,
    erased_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE nightbatch.batch_estimate (
    batch_id bigint NOT NULL,
    job_type text NOT NULL,
    jobs integer NOT NULL,
    input_tokens double precision NOT NULL,
    CONSTRAINT batch_estimate_input_tokens_check CHECK ((input_tokens >= (0)::double precision)),
    CONSTRAINT batch_estimate_jobs_check CHECK ((jobs > 0))
);

ALTER TABLE nightbatch.batch ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME nightbatch.batch_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE nightbatch.batch_job (
    batch_id bigint NOT NULL,
    job_id bigint NOT NULL
);

CREATE TABLE nightbatch.batch_prompt (
    batch_id bigint NOT NULL,
    job_type text NOT NULL,
    prompt_version text NOT NULL
);

CREATE TABLE nightbatch.budget (
    id bigint NOT NULL,
    job_type text,
    model text,
    label text,
    usd_per_night numeric NOT NULL,
    note text,
    CONSTRAINT budget_usd_per_night_check CHECK ((usd_per_night >= (0)::numeric))
);

COMMENT ON COLUMN nightbatch.budget.label IS 'name=value, or a name alone for whatever value';

ALTER TABLE nightbatch.budget ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME nightbatch.budget_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE nightbatch.cache_entry (
    key bytea NOT NULL,
    job_id bigint NOT NULL,
    batch_id bigint NOT NULL,
    finished_at timestamp with time zone NOT NULL
);

CREATE TABLE nightbatch.cache_read (
    batch_id bigint NOT NULL,
    job_type text NOT NULL
);

CREATE TABLE nightbatch.cached (
    job_id bigint NOT NULL,
    from_job_id bigint NOT NULL,
    run_id text NOT NULL,
    realtime_cost_usd numeric,
    answered_at timestamp with time zone DEFAULT now() NOT NULL,
    erased boolean DEFAULT false NOT NULL,
    CONSTRAINT cached_realtime_cost_usd_check CHECK ((realtime_cost_usd >= (0)::numeric))
);

CREATE TABLE nightbatch.connection_seen (
    provider text NOT NULL,
    account_fingerprint text NOT NULL,
    tags_shown_at timestamp with time zone,
    silent_tries integer DEFAULT 0 NOT NULL,
    same_as text,
    CONSTRAINT connection_seen_provider_check CHECK ((provider = ANY (nightbatch.providers()))),
    CONSTRAINT connection_seen_silent_tries_check CHECK ((silent_tries >= 0))
);

CREATE TABLE nightbatch.dismissed (
    job_id bigint NOT NULL,
    state text NOT NULL,
    reason text NOT NULL,
    run_id text,
    dismissed_at timestamp with time zone DEFAULT now() NOT NULL,
    erased boolean DEFAULT false NOT NULL,
    CONSTRAINT dismissed_state_check CHECK ((state = ANY (ARRAY['rejected'::text, 'cancelled'::text])))
);

CREATE TABLE nightbatch.job (
    id bigint NOT NULL,
    job_type text NOT NULL,
    provider text NOT NULL,
    model text,
    priority smallint DEFAULT 5 NOT NULL,
    input json NOT NULL,
    dedup_key text,
    labels jsonb DEFAULT '{}'::jsonb NOT NULL,
    not_before timestamp with time zone,
    deadline timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    cache_days smallint,
    input_sha256 bytea,
    erased_at timestamp with time zone,
    fallback boolean,
    inserted_by xid8 DEFAULT pg_current_xact_id(),
    CONSTRAINT an_erased_input_leaves_its_hash CHECK (((erased_at IS NULL) = (input_sha256 IS NULL))),
    CONSTRAINT anthropic_has_no_embeddings CHECK ((NOT ((provider = 'anthropic'::text) AND (job_type = 'embedding_generation'::text)))),
    CONSTRAINT cache_days_is_1_to_3650 CHECK (((cache_days >= 1) AND (cache_days <= 3650))),
    CONSTRAINT job_dedup_key_check CHECK (((length(dedup_key) >= 1) AND (length(dedup_key) <= 500))),
    CONSTRAINT job_job_type_check CHECK (((length(job_type) >= 1) AND (length(job_type) <= 100))),
    CONSTRAINT job_model_check CHECK (((length(model) >= 1) AND (length(model) <= 200))),
    CONSTRAINT labels_are_an_object CHECK ((jsonb_typeof(labels) = 'object'::text)),
    CONSTRAINT priority_is_1_to_10 CHECK (((priority >= 1) AND (priority <= 10)))
);

COMMENT ON COLUMN nightbatch.job.inserted_by IS 'the inserting transaction; empty for jobs that an earlier release had seen';

CREATE TABLE nightbatch.open_job (
    job_id bigint NOT NULL,
    batch_id bigint,
    attempts smallint DEFAULT 0 NOT NULL
)
WITH (fillfactor='50');

CREATE TABLE nightbatch.result (
    job_id bigint NOT NULL,
    batch_id bigint NOT NULL,
    outcome text NOT NULL,
    billed boolean NOT NULL,
    output json,
    finish_reason text,
    input_tokens integer,
    cached_tokens integer,
    output_tokens integer,
    realtime_cost_usd numeric,
    batch_cost_usd numeric,
    price_source text,
    error text,
    finished_at timestamp with time zone DEFAULT now() NOT NULL,
    erased_at timestamp with time zone,
    units json,
    CONSTRAINT a_cost_has_a_source CHECK ((((batch_cost_usd IS NULL) = (price_source IS NULL)) AND ((batch_cost_usd IS NULL) = (realtime_cost_usd IS NULL)))),
    CONSTRAINT a_success_has_an_output CHECK (((outcome <> 'succeeded'::text) OR (output IS NOT NULL) OR (erased_at IS NOT NULL))),
    CONSTRAINT only_what_is_billed_costs CHECK ((billed OR (batch_cost_usd IS NULL))),
    CONSTRAINT result_batch_cost_usd_check CHECK ((batch_cost_usd >= (0)::numeric)),
    CONSTRAINT result_check CHECK (((cached_tokens >= 0) AND (cached_tokens <= input_tokens))),
    CONSTRAINT result_input_tokens_check CHECK ((input_tokens >= 0)),
    CONSTRAINT result_outcome_check CHECK ((outcome = ANY (ARRAY['succeeded'::text, 'failed'::text, 'errored'::text, 'refused'::text, 'truncated'::text, 'expired'::text, 'cancelled'::text, 'missing'::text, 'duplicate'::text]))),
    CONSTRAINT result_output_tokens_check CHECK ((output_tokens >= 0)),
    CONSTRAINT result_realtime_cost_usd_check CHECK ((realtime_cost_usd >= (0)::numeric)),
    CONSTRAINT what_is_erased_is_gone CHECK (((erased_at IS NULL) OR (output IS NULL)))
);

CREATE VIEW nightbatch.job_status AS
 SELECT j.id AS job_id,
        CASE
            WHEN (d.job_id IS NOT NULL) THEN d.state
            WHEN (o.batch_id IS NOT NULL) THEN
            CASE
                WHEN (b.state = 'held'::text) THEN 'held'::text
                ELSE 'batched'::text
            END
            WHEN ((o.job_id IS NOT NULL) OR (r.outcome IS NULL)) THEN 'queued'::text
            WHEN (r.outcome = 'succeeded'::text) THEN 'succeeded'::text
            WHEN (r.outcome = 'cancelled'::text) THEN 'cancelled'::text
            ELSE 'failed'::text
        END AS state,
    (
        CASE
            WHEN (c.job_id IS NOT NULL) THEN (0)::bigint
            ELSE COALESCE((o.attempts)::bigint, r.attempts, (0)::bigint)
        END)::integer AS attempts,
    COALESCE(o.batch_id, r.batch_id) AS batch_id,
    COALESCE(d.reason,
        CASE
            WHEN (o.batch_id IS NULL) THEN r.error
            ELSE NULL::text
        END, b.error) AS error,
    COALESCE(d.dismissed_at, b.submitted_at, b.planned_at, r.finished_at, j.created_at) AS updated_at
   FROM (((((nightbatch.job j
     LEFT JOIN nightbatch.open_job o ON ((o.job_id = j.id)))
     LEFT JOIN nightbatch.batch b ON ((b.id = o.batch_id)))
     LEFT JOIN nightbatch.dismissed d ON ((d.job_id = j.id)))
     LEFT JOIN nightbatch.cached c ON ((c.job_id = j.id)))
     LEFT JOIN LATERAL ( SELECT l.outcome,
            l.error,
            l.finished_at,
            l.batch_id,
            count(*) OVER () AS attempts
           FROM nightbatch.result l
          WHERE ((l.job_id = j.id) AND (l.outcome <> 'duplicate'::text))
          ORDER BY l.finished_at DESC
         LIMIT 1) r ON (true));

CREATE VIEW nightbatch.council AS
 WITH scored AS (
         SELECT (j.labels ->> 'council'::text) AS council,
            j.id,
            s.state,
            (j.provider || COALESCE((' '::text || b.model), ''::text)) AS member,
            r.overall
           FROM (((nightbatch.job j
             JOIN nightbatch.job_status s ON ((s.job_id = j.id)))
             LEFT JOIN nightbatch.batch b ON ((b.id = s.batch_id)))
             LEFT JOIN LATERAL ( SELECT nightbatch.number_in(l.output, 'overall'::text) AS overall
                   FROM nightbatch.result l
                  WHERE ((l.job_id = j.id) AND (l.outcome = 'succeeded'::text))
                  ORDER BY l.batch_id DESC
                 LIMIT 1) r ON (true))
          WHERE (j.labels ? 'council'::text)
        ), middle AS (
         SELECT scored_1.council,
            (percentile_cont((0.5)::double precision) WITHIN GROUP (ORDER BY ((scored_1.overall)::double precision)))::numeric AS overall
           FROM scored scored_1
          GROUP BY scored_1.council
        )
 SELECT scored.council,
    count(*) AS members,
    count(scored.overall) AS answered,
    bool_and((scored.state = ANY (ARRAY['succeeded'::text, 'failed'::text, 'rejected'::text, 'cancelled'::text]))) AS complete,
    middle.overall,
    (max(scored.overall) - min(scored.overall)) AS spread,
    round(stddev_pop(scored.overall), 1) AS deviation,
    (array_agg(scored.member ORDER BY (abs((scored.overall - middle.overall))) DESC NULLS LAST, scored.id))[1] AS dissenter,
    max(abs((scored.overall - middle.overall))) AS dissent
   FROM (scored
     JOIN middle USING (council))
  GROUP BY scored.council, middle.overall;

CREATE TABLE nightbatch.decision (
    id bigint NOT NULL,
    batch_id bigint,
    choice text NOT NULL,
    provider_batch_id text,
    decided_by text NOT NULL,
    reason text NOT NULL,
    decided_at timestamp with time zone DEFAULT now() NOT NULL,
    asked text,
    CONSTRAINT a_decision_says_about_what CHECK (((batch_id IS NULL) = (asked IS NOT NULL))),
    CONSTRAINT decision_asked_check CHECK (((length(asked) >= 1) AND (length(asked) <= 2000))),
    CONSTRAINT decision_choice_check CHECK ((choice = ANY (ARRAY['resend'::text, 'drop'::text, 'adopt'::text, 'cancel'::text, 'retry'::text, 'load'::text, 'moved'::text, 'restored'::text, 'copy'::text]))),
    CONSTRAINT decision_decided_by_check CHECK (((length(decided_by) >= 1) AND (length(decided_by) <= 200))),
    CONSTRAINT decision_reason_check CHECK (((length(reason) >= 1) AND (length(reason) <= 2000))),
    CONSTRAINT only_an_adoption_names_a_batch CHECK (((choice = 'adopt'::text) = (provider_batch_id IS NOT NULL)))
);

ALTER TABLE nightbatch.decision ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME nightbatch.decision_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE nightbatch.embedding (
    job_id bigint NOT NULL,
    "position" integer NOT NULL,
    batch_id bigint NOT NULL,
    embedding public.vector NOT NULL,
    CONSTRAINT embedding_position_check CHECK (("position" >= 0))
);

CREATE TABLE nightbatch.gathered (
    only_row boolean DEFAULT true NOT NULL,
    seen_before xid8 DEFAULT '0'::xid8 NOT NULL,
    CONSTRAINT gathered_only_row_check CHECK (only_row)
);

ALTER TABLE nightbatch.job ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME nightbatch.job_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE nightbatch.media (
    id bigint NOT NULL,
    provider text NOT NULL,
    account_fingerprint text NOT NULL,
    sha256 text NOT NULL,
    mime_type text NOT NULL,
    bytes bigint NOT NULL,
    file_name text NOT NULL,
    uri text NOT NULL,
    uploaded_at timestamp with time zone DEFAULT now() NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    deleted_at timestamp with time zone,
    CONSTRAINT media_bytes_check CHECK ((bytes >= 0)),
    CONSTRAINT media_provider_check CHECK ((provider = ANY (nightbatch.providers()))),
    CONSTRAINT media_sha256_check CHECK ((sha256 ~ '^[0-9a-f]{64}$'::text))
);

ALTER TABLE nightbatch.media ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME nightbatch.media_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE nightbatch.media_use (
    media_id bigint NOT NULL,
    batch_id bigint NOT NULL
);

CREATE TABLE nightbatch.named_lock (
    name text NOT NULL
);

CREATE TABLE nightbatch.price_factor (
    id bigint NOT NULL,
    provider text NOT NULL,
    term text NOT NULL,
    valid_from date DEFAULT CURRENT_DATE NOT NULL,
    valid_to date,
    factor numeric NOT NULL,
    note text NOT NULL,
    CONSTRAINT price_factor_check CHECK ((valid_to >= valid_from)),
    CONSTRAINT price_factor_factor_check CHECK ((factor > (0)::numeric)),
    CONSTRAINT price_factor_provider_check CHECK ((provider = ANY (nightbatch.providers())))
);

ALTER TABLE nightbatch.price_factor ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME nightbatch.price_factor_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE nightbatch.price_override (
    id bigint NOT NULL,
    provider text NOT NULL,
    model text NOT NULL,
    valid_from date DEFAULT CURRENT_DATE NOT NULL,
    valid_to date,
    input_usd numeric,
    cached_input_usd numeric,
    output_usd numeric,
    batch_input_usd numeric,
    batch_cached_input_usd numeric,
    batch_output_usd numeric,
    note text NOT NULL,
    other_usd jsonb,
    batch_other_usd jsonb,
    CONSTRAINT batch_other_usd_are_prices_of_units CHECK (nightbatch.are_unit_prices(batch_other_usd)),
    CONSTRAINT other_usd_are_prices_of_units CHECK (nightbatch.are_unit_prices(other_usd)),
    CONSTRAINT price_override_batch_cached_input_usd_check CHECK ((batch_cached_input_usd >= (0)::numeric)),
    CONSTRAINT price_override_batch_input_usd_check CHECK ((batch_input_usd >= (0)::numeric)),
    CONSTRAINT price_override_batch_output_usd_check CHECK ((batch_output_usd >= (0)::numeric)),
    CONSTRAINT price_override_cached_input_usd_check CHECK ((cached_input_usd >= (0)::numeric)),
    CONSTRAINT price_override_check CHECK ((valid_to >= valid_from)),
    CONSTRAINT price_override_input_usd_check CHECK ((input_usd >= (0)::numeric)),
    CONSTRAINT price_override_output_usd_check CHECK ((output_usd >= (0)::numeric)),
    CONSTRAINT price_override_provider_check CHECK ((provider = ANY (nightbatch.providers())))
);

ALTER TABLE nightbatch.price_override ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME nightbatch.price_override_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE nightbatch.reject (
    id bigint NOT NULL,
    batch_id bigint NOT NULL,
    reason text NOT NULL,
    raw bytea,
    seen_at timestamp with time zone DEFAULT now() NOT NULL,
    erased_at timestamp with time zone,
    CONSTRAINT what_is_erased_is_gone CHECK (((erased_at IS NULL) = (raw IS NOT NULL)))
);

ALTER TABLE nightbatch.reject ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME nightbatch.reject_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE nightbatch.reopened (
    decision_id bigint NOT NULL,
    job_id bigint NOT NULL,
    reason text NOT NULL
);

CREATE VIEW nightbatch.reprocessed AS
 WITH answered AS (
         SELECT DISTINCT ON (r.job_id) r.job_id,
            b.provider,
            b.model,
            r.outcome,
            r.output,
            r.realtime_cost_usd,
            r.batch_cost_usd,
            r.batch_id,
            r.finished_at
           FROM (nightbatch.result r
             JOIN nightbatch.batch b ON ((b.id = r.batch_id)))
          WHERE (r.outcome <> 'duplicate'::text)
          ORDER BY r.job_id, r.batch_id DESC
        )
 SELECT n.job_id,
    p.id AS past_job_id,
    p.job_type,
    n.prompt_version,
    o.provider AS old_provider,
    o.model AS old_model,
    o.outcome AS old_outcome,
    o.output AS old_output,
    o.batch_cost_usd AS old_batch_cost_usd,
    o.finished_at AS old_finished_at,
    a.provider AS new_provider,
    a.model AS new_model,
    a.outcome AS new_outcome,
    a.output AS new_output,
    a.batch_cost_usd AS new_batch_cost_usd,
    a.finished_at AS new_finished_at
   FROM (((( SELECT found.id AS job_id,
            found.past_job_id,
                CASE
                    WHEN (found.past_job_id IS NOT NULL) THEN (found.input ->> 'prompt_version'::text)
                    ELSE NULL::text
                END AS prompt_version
           FROM ( SELECT j.id,
                    j.input,
                    nightbatch.past_job(j.input) AS past_job_id
                   FROM nightbatch.job j
                  WHERE (j.job_type = 'historical_reprocessing'::text)) found) n
     JOIN nightbatch.job p ON ((p.id = n.past_job_id)))
     LEFT JOIN answered o ON ((o.job_id = p.id)))
     LEFT JOIN answered a ON ((a.job_id = n.job_id)));

CREATE TABLE nightbatch.retried (
    batch_id bigint NOT NULL,
    job_id bigint NOT NULL
);

CREATE VIEW nightbatch.request AS
 SELECT m.batch_id,
    m.job_id,
    b.run_id,
    ((b.submitted_at AT TIME ZONE 'UTC'::text))::date AS day,
    b.provider,
    b.model,
    b.mode,
    j.job_type,
    j.labels,
    r.outcome,
    r.billed,
    r.input_tokens,
    r.cached_tokens,
    r.output_tokens,
    r.realtime_cost_usd,
    r.batch_cost_usd,
        CASE
            WHEN (r.outcome = ANY (ARRAY['succeeded'::text, 'duplicate'::text])) THEN false
            ELSE ((NOT (EXISTS ( SELECT
               FROM nightbatch.retried p
              WHERE ((p.batch_id = m.batch_id) AND (p.job_id = m.job_id))
             OFFSET 0))) AND ((EXISTS ( SELECT
               FROM nightbatch.open_job o
              WHERE (o.job_id = m.job_id)
             OFFSET 0)) OR (EXISTS ( SELECT
               FROM nightbatch.dismissed d
              WHERE (d.job_id = m.job_id)
             OFFSET 0)) OR (EXISTS ( SELECT
               FROM (nightbatch.result later
                 JOIN nightbatch.batch l ON ((l.id = later.batch_id)))
              WHERE ((later.job_id = m.job_id) AND (later.finished_at > r.finished_at) AND (l.duplicate_of IS NULL))
             OFFSET 0))))
        END AS requeued,
    (r.billed AND ((r.outcome = 'duplicate'::text) OR (EXISTS ( SELECT
           FROM nightbatch.result earlier
          WHERE ((earlier.job_id = m.job_id) AND (earlier.finished_at < r.finished_at) AND earlier.billed AND (earlier.outcome <> 'duplicate'::text))
         OFFSET 0)))) AS paid_again
   FROM (((nightbatch.batch_job m
     JOIN nightbatch.batch b ON ((b.id = m.batch_id)))
     CROSS JOIN LATERAL ( SELECT job.job_type,
            job.labels
           FROM nightbatch.job
          WHERE (job.id = m.job_id)
         LIMIT 1) j)
     CROSS JOIN LATERAL ( SELECT result.outcome,
            result.billed,
            result.finished_at,
            result.input_tokens,
            result.cached_tokens,
            result.output_tokens,
            result.realtime_cost_usd,
            result.batch_cost_usd
           FROM nightbatch.result
          WHERE ((result.job_id = m.job_id) AND (result.batch_id = m.batch_id))
         LIMIT 1) r);

CREATE TABLE nightbatch.request_hash (
    batch_id bigint NOT NULL,
    hashes bytea NOT NULL,
    CONSTRAINT eight_bytes_a_request CHECK (((octet_length(hashes) > 0) AND ((octet_length(hashes) % 8) = 0)))
);
ALTER TABLE ONLY nightbatch.request_hash ALTER COLUMN hashes SET STORAGE EXTERNAL;

CREATE TABLE nightbatch.reserved (
    batch_id bigint NOT NULL,
    budget_id bigint NOT NULL,
    usd numeric NOT NULL,
    CONSTRAINT reserved_usd_check CHECK ((usd >= (0)::numeric))
);

CREATE TABLE nightbatch.run (
    id text NOT NULL,
    queued_before timestamp with time zone,
    params jsonb DEFAULT '{}'::jsonb NOT NULL,
    planned_at timestamp with time zone DEFAULT now() NOT NULL,
    reported_at timestamp with time zone
);

CREATE TABLE nightbatch.token_limit (
    provider text NOT NULL,
    account_fingerprint text DEFAULT ''::text NOT NULL,
    model text DEFAULT ''::text NOT NULL,
    learned boolean DEFAULT false NOT NULL,
    tokens bigint NOT NULL,
    noted_at timestamp with time zone DEFAULT now() NOT NULL,
    note text NOT NULL,
    CONSTRAINT token_limit_provider_check CHECK ((provider = ANY (nightbatch.providers()))),
    CONSTRAINT token_limit_tokens_check CHECK ((tokens > 0))
);

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
    requeued integer NOT NULL,
    input_tokens bigint NOT NULL,
    cached_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    realtime_cost_usd numeric NOT NULL,
    batch_cost_usd numeric NOT NULL,
    wasted_cost_usd numeric NOT NULL,
    unpriced integer NOT NULL,
    paid_again integer NOT NULL,
    realtime_jobs integer DEFAULT 0 NOT NULL,
    CONSTRAINT batch_rollup_check CHECK ((requeued = ((jobs - succeeded) - failed)))
);

CREATE VIEW nightbatch_report.batch_turnaround AS
 SELECT id AS batch_id,
    run_id,
    provider,
    model,
    endpoint,
    state,
    job_count,
    submitted_at,
    ended_at,
    closed_at,
    (ended_at - submitted_at) AS turnaround,
    mode
   FROM nightbatch.batch b
  WHERE (submitted_at IS NOT NULL);

CREATE TABLE nightbatch_report.cache_rollup (
    run_id text NOT NULL,
    provider text NOT NULL,
    model text NOT NULL,
    job_type text NOT NULL,
    day date NOT NULL,
    jobs integer NOT NULL,
    realtime_cost_usd numeric NOT NULL,
    unpriced integer NOT NULL
);

CREATE TABLE nightbatch_report.label_rollup (
    batch_id bigint,
    run_id text NOT NULL,
    label text NOT NULL,
    day date NOT NULL,
    jobs integer NOT NULL,
    succeeded integer NOT NULL,
    failed integer NOT NULL,
    requeued integer NOT NULL,
    from_cache integer DEFAULT 0 NOT NULL,
    realtime_jobs integer NOT NULL,
    paid_again integer NOT NULL,
    unpriced integer NOT NULL,
    input_tokens bigint NOT NULL,
    cached_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    realtime_cost_usd numeric NOT NULL,
    batch_cost_usd numeric NOT NULL,
    wasted_cost_usd numeric NOT NULL,
    CONSTRAINT label_rollup_check CHECK ((requeued = ((jobs - succeeded) - failed)))
);

CREATE VIEW nightbatch_report.queue_depth AS
 SELECT provider,
    job_type,
    priority,
    count(*) AS jobs,
    min(created_at) AS oldest
   FROM ( SELECT j.provider,
            j.job_type,
            j.priority,
            j.created_at
           FROM nightbatch.job j
          WHERE ((j.inserted_by >= nightbatch.seen_before()) AND (NOT (EXISTS ( SELECT
                   FROM nightbatch.open_job o
                  WHERE (o.job_id = j.id)))) AND (NOT (EXISTS ( SELECT
                   FROM nightbatch.dismissed d
                  WHERE (d.job_id = j.id)))) AND (NOT (EXISTS ( SELECT
                   FROM nightbatch.result r
                  WHERE (r.job_id = j.id)))))
        UNION ALL
         SELECT j.provider,
            j.job_type,
            j.priority,
            j.created_at
           FROM (nightbatch.open_job o
             JOIN nightbatch.job j ON ((j.id = o.job_id)))
          WHERE (o.batch_id IS NULL)) q
  GROUP BY provider, job_type, priority;

CREATE VIEW nightbatch_report.run_summary AS
 SELECT r.id AS run_id,
    r.planned_at,
    r.reported_at,
    r.queued_before,
    r.params,
    b.batches,
    b.open_batches,
    b.loaded_batches,
    d.rejected,
    (COALESCE(u.jobs, (0)::bigint) + c.jobs) AS jobs,
    (COALESCE(u.succeeded, (0)::bigint) + c.jobs) AS succeeded,
    COALESCE(u.failed, (0)::bigint) AS failed,
    COALESCE(u.requeued, (0)::bigint) AS requeued,
    (COALESCE(u.unpriced, (0)::bigint) + c.unpriced) AS unpriced,
    COALESCE(u.paid_again, (0)::bigint) AS paid_again,
    (COALESCE(u.realtime_cost_usd, (0)::numeric) + c.realtime_cost_usd) AS realtime_cost_usd,
    COALESCE(u.batch_cost_usd, (0)::numeric) AS batch_cost_usd,
    COALESCE(u.wasted_cost_usd, (0)::numeric) AS wasted_cost_usd,
    nightbatch_report.savings((COALESCE(u.realtime_cost_usd, (0)::numeric) + c.realtime_cost_usd), COALESCE(u.batch_cost_usd, (0)::numeric), COALESCE(u.wasted_cost_usd, (0)::numeric)) AS savings_usd,
    c.jobs AS from_cache
   FROM ((((nightbatch.run r
     CROSS JOIN LATERAL ( SELECT count(*) AS batches,
            count(*) FILTER (WHERE (batch.closed_at IS NULL)) AS open_batches,
            count(*) FILTER (WHERE (batch.state = 'loaded'::text)) AS loaded_batches
           FROM nightbatch.batch
          WHERE (batch.run_id = r.id)) b)
     CROSS JOIN LATERAL ( SELECT count(*) AS rejected
           FROM nightbatch.dismissed
          WHERE ((dismissed.run_id = r.id) AND (dismissed.state = 'rejected'::text))) d)
     CROSS JOIN LATERAL ( SELECT COALESCE(sum(cache_rollup.jobs), (0)::bigint) AS jobs,
            COALESCE(sum(cache_rollup.realtime_cost_usd), (0)::numeric) AS realtime_cost_usd,
            COALESCE(sum(cache_rollup.unpriced), (0)::bigint) AS unpriced
           FROM nightbatch_report.cache_rollup
          WHERE (cache_rollup.run_id = r.id)) c)
     LEFT JOIN LATERAL ( SELECT sum(batch_rollup.jobs) AS jobs,
            sum(batch_rollup.succeeded) AS succeeded,
            sum(batch_rollup.failed) AS failed,
            sum(batch_rollup.requeued) AS requeued,
            sum(batch_rollup.unpriced) AS unpriced,
            sum(batch_rollup.paid_again) AS paid_again,
            sum(batch_rollup.realtime_cost_usd) AS realtime_cost_usd,
            sum(batch_rollup.batch_cost_usd) AS batch_cost_usd,
            sum(batch_rollup.wasted_cost_usd) AS wasted_cost_usd
           FROM nightbatch_report.batch_rollup
          WHERE (batch_rollup.run_id = r.id)) u ON (true));

CREATE VIEW nightbatch_report.savings_by_label AS
 SELECT day,
    label,
    sum(jobs) AS jobs,
    sum(succeeded) AS succeeded,
    sum(failed) AS failed,
    (sum(input_tokens))::bigint AS input_tokens,
    (sum(cached_tokens))::bigint AS cached_tokens,
    (sum(output_tokens))::bigint AS output_tokens,
    sum(realtime_cost_usd) AS realtime_cost_usd,
    sum(batch_cost_usd) AS batch_cost_usd,
    sum(wasted_cost_usd) AS wasted_cost_usd,
    nightbatch_report.savings(sum(realtime_cost_usd), sum(batch_cost_usd), sum(wasted_cost_usd)) AS savings_usd,
    sum(unpriced) AS unpriced,
    sum(from_cache) AS from_cache,
    sum(requeued) AS requeued,
    sum(paid_again) AS paid_again,
    sum(realtime_jobs) AS realtime_jobs
   FROM nightbatch_report.label_rollup
  GROUP BY day, label;

CREATE VIEW nightbatch_report.savings_daily AS
 SELECT day,
    provider,
    model,
    job_type,
    sum(jobs) AS jobs,
    sum(succeeded) AS succeeded,
    sum(failed) AS failed,
    (sum(input_tokens))::bigint AS input_tokens,
    (sum(cached_tokens))::bigint AS cached_tokens,
    (sum(output_tokens))::bigint AS output_tokens,
    sum(realtime_cost_usd) AS realtime_cost_usd,
    sum(batch_cost_usd) AS batch_cost_usd,
    sum(wasted_cost_usd) AS wasted_cost_usd,
    nightbatch_report.savings(sum(realtime_cost_usd), sum(batch_cost_usd), sum(wasted_cost_usd)) AS savings_usd,
    sum(unpriced) AS unpriced,
    sum(from_cache) AS from_cache,
    sum(requeued) AS requeued,
    sum(paid_again) AS paid_again,
    sum(realtime_jobs) AS realtime_jobs
   FROM ( SELECT batch_rollup.day,
            batch_rollup.provider,
            batch_rollup.model,
            batch_rollup.job_type,
            batch_rollup.jobs,
            batch_rollup.succeeded,
            batch_rollup.failed,
            batch_rollup.requeued,
            batch_rollup.input_tokens,
            batch_rollup.cached_tokens,
            batch_rollup.output_tokens,
            batch_rollup.realtime_cost_usd,
            batch_rollup.batch_cost_usd,
            batch_rollup.wasted_cost_usd,
            batch_rollup.unpriced,
            0 AS from_cache,
            batch_rollup.paid_again,
            batch_rollup.realtime_jobs
           FROM nightbatch_report.batch_rollup
        UNION ALL
         SELECT cache_rollup.day,
            cache_rollup.provider,
            cache_rollup.model,
            cache_rollup.job_type,
            cache_rollup.jobs,
            cache_rollup.jobs,
            0,
            0,
            0,
            0,
            0,
            cache_rollup.realtime_cost_usd,
            0,
            0,
            cache_rollup.unpriced,
            cache_rollup.jobs,
            0,
            0
           FROM nightbatch_report.cache_rollup) parts
  GROUP BY day, provider, model, job_type;

ALTER TABLE ONLY nightbatch.account_walk
    ADD CONSTRAINT account_walk_pkey PRIMARY KEY (provider, account_fingerprint);

ALTER TABLE ONLY nightbatch.alert
    ADD CONSTRAINT alert_pkey PRIMARY KEY (id);

ALTER TABLE ONLY nightbatch.alert_sent
    ADD CONSTRAINT alert_sent_pkey PRIMARY KEY (alert_id, notifier);

ALTER TABLE ONLY nightbatch.answer
    ADD CONSTRAINT answer_pkey PRIMARY KEY (job_id, batch_id);

ALTER TABLE ONLY nightbatch.batch_erased
    ADD CONSTRAINT batch_erased_pkey PRIMARY KEY (batch_id, job_type);

ALTER TABLE ONLY nightbatch.batch_estimate
    ADD CONSTRAINT batch_estimate_pkey PRIMARY KEY (batch_id, job_type);

ALTER TABLE ONLY nightbatch.batch_job
    ADD CONSTRAINT batch_job_pkey PRIMARY KEY (batch_id, job_id);

ALTER TABLE ONLY nightbatch.batch
    ADD CONSTRAINT batch_pkey PRIMARY KEY (id);

ALTER TABLE ONLY nightbatch.batch_prompt
    ADD CONSTRAINT batch_prompt_pkey PRIMARY KEY (batch_id, job_type);

ALTER TABLE ONLY nightbatch.batch
    ADD CONSTRAINT batch_provider_provider_batch_id_key UNIQUE (provider, provider_batch_id);

ALTER TABLE ONLY nightbatch.batch
    ADD CONSTRAINT batch_replaces_key UNIQUE (replaces);

ALTER TABLE ONLY nightbatch.batch
    ADD CONSTRAINT batch_tag_key UNIQUE (tag);

ALTER TABLE ONLY nightbatch.budget
    ADD CONSTRAINT budget_pkey PRIMARY KEY (id);

ALTER TABLE ONLY nightbatch.cache_read
    ADD CONSTRAINT cache_read_pkey PRIMARY KEY (batch_id, job_type);

ALTER TABLE ONLY nightbatch.cached
    ADD CONSTRAINT cached_pkey PRIMARY KEY (job_id);

ALTER TABLE ONLY nightbatch.connection_seen
    ADD CONSTRAINT connection_seen_pkey PRIMARY KEY (provider, account_fingerprint);

ALTER TABLE ONLY nightbatch.decision
    ADD CONSTRAINT decision_pkey PRIMARY KEY (id);

ALTER TABLE ONLY nightbatch.dismissed
    ADD CONSTRAINT dismissed_pkey PRIMARY KEY (job_id);

ALTER TABLE ONLY nightbatch.embedding
    ADD CONSTRAINT embedding_pkey PRIMARY KEY (job_id, "position");

ALTER TABLE ONLY nightbatch.gathered
    ADD CONSTRAINT gathered_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY nightbatch.installation
    ADD CONSTRAINT installation_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY nightbatch.job
    ADD CONSTRAINT job_pkey PRIMARY KEY (id);

ALTER TABLE ONLY nightbatch.media
    ADD CONSTRAINT media_pkey PRIMARY KEY (id);

ALTER TABLE ONLY nightbatch.media
    ADD CONSTRAINT media_provider_account_fingerprint_file_name_key UNIQUE (provider, account_fingerprint, file_name);

ALTER TABLE ONLY nightbatch.media_use
    ADD CONSTRAINT media_use_pkey PRIMARY KEY (media_id, batch_id);

ALTER TABLE nightbatch.job
    ADD CONSTRAINT model_is_a_name CHECK ((btrim(model, ' 	

'::text) ~ '^[^\u0001-\u0020\u007f-\u00a0\u00ad\u2000-\u206f\u3000\ufeff"''`]+$'::text)) NOT VALID;

ALTER TABLE ONLY nightbatch.named_lock
    ADD CONSTRAINT named_lock_pkey PRIMARY KEY (name);

ALTER TABLE ONLY nightbatch.open_job
    ADD CONSTRAINT open_job_pkey PRIMARY KEY (job_id);

ALTER TABLE ONLY nightbatch.price_factor
    ADD CONSTRAINT price_factor_pkey PRIMARY KEY (id);

ALTER TABLE ONLY nightbatch.price_override
    ADD CONSTRAINT price_override_pkey PRIMARY KEY (id);

ALTER TABLE nightbatch.job
    ADD CONSTRAINT provider_is_registered CHECK ((provider = ANY (nightbatch.providers()))) NOT VALID;

ALTER TABLE ONLY nightbatch.reject
    ADD CONSTRAINT reject_pkey PRIMARY KEY (id);

ALTER TABLE ONLY nightbatch.reopened
    ADD CONSTRAINT reopened_pkey PRIMARY KEY (decision_id, job_id);

ALTER TABLE ONLY nightbatch.request_hash
    ADD CONSTRAINT request_hash_pkey PRIMARY KEY (batch_id);

ALTER TABLE ONLY nightbatch.reserved
    ADD CONSTRAINT reserved_pkey PRIMARY KEY (batch_id, budget_id);

ALTER TABLE ONLY nightbatch.result
    ADD CONSTRAINT result_pkey PRIMARY KEY (job_id, batch_id);

ALTER TABLE ONLY nightbatch.retried
    ADD CONSTRAINT retried_pkey PRIMARY KEY (batch_id, job_id);

ALTER TABLE ONLY nightbatch.run
    ADD CONSTRAINT run_pkey PRIMARY KEY (id);

ALTER TABLE ONLY nightbatch.token_limit
    ADD CONSTRAINT token_limit_pkey PRIMARY KEY (provider, account_fingerprint, model, learned);

ALTER TABLE ONLY nightbatch_report.batch_rollup
    ADD CONSTRAINT batch_rollup_pkey PRIMARY KEY (batch_id, job_type);

ALTER TABLE ONLY nightbatch_report.cache_rollup
    ADD CONSTRAINT cache_rollup_pkey PRIMARY KEY (run_id, provider, model, job_type);

CREATE UNIQUE INDEX alert_is_raised_once ON nightbatch.alert USING btree (kind, subject) WHERE (resolved_at IS NULL);

CREATE INDEX batch_account ON nightbatch.batch USING btree (provider, account_fingerprint, submitted_at);

CREATE INDEX batch_load_wanted ON nightbatch.batch USING btree (id) WHERE (load_wanted_at IS NOT NULL);

CREATE INDEX batch_loaded ON nightbatch.batch USING btree (closed_at) WHERE (state = 'loaded'::text);

CREATE UNIQUE INDEX batch_of_a_run ON nightbatch.batch USING btree (run_id, provider, model, endpoint, part) WHERE ((replaces IS NULL) AND (duplicate_of IS NULL));

CREATE INDEX batch_open ON nightbatch.batch USING btree (provider, state) WHERE (closed_at IS NULL);

CREATE INDEX batch_submitted ON nightbatch.batch USING btree (submitted_at);

CREATE INDEX cache_entry_key ON nightbatch.cache_entry USING btree (key, finished_at);

CREATE INDEX cached_not_erased ON nightbatch.cached USING btree (answered_at) WHERE (NOT erased);

CREATE INDEX decision_batch ON nightbatch.decision USING btree (batch_id);

CREATE INDEX dismissed_not_erased ON nightbatch.dismissed USING btree (dismissed_at) WHERE (NOT erased);

CREATE INDEX dismissed_rejected ON nightbatch.dismissed USING btree (dismissed_at) WHERE (state = 'rejected'::text);

CREATE INDEX dismissed_run ON nightbatch.dismissed USING btree (run_id);

CREATE INDEX job_asks_the_cache ON nightbatch.job USING btree (id) WHERE (cache_days IS NOT NULL);

CREATE UNIQUE INDEX job_dedup_key ON nightbatch.job USING btree (dedup_key) WHERE (dedup_key IS NOT NULL);

CREATE INDEX job_inserted_by ON nightbatch.job USING btree (inserted_by);

CREATE INDEX job_reprocessing ON nightbatch.job USING btree (id) WHERE (job_type = 'historical_reprocessing'::text);

CREATE INDEX media_content ON nightbatch.media USING btree (provider, account_fingerprint, sha256) WHERE (deleted_at IS NULL);

CREATE UNIQUE INDEX one_untagged_create_under_way_per_account ON nightbatch.batch USING btree (provider, account_fingerprint) WHERE ((NOT tagged) AND (mode = 'batch'::text) AND (state = 'submitting'::text));

CREATE INDEX reserved_budget ON nightbatch.reserved USING btree (budget_id);

CREATE INDEX result_without_success ON nightbatch.result USING btree (batch_id) WHERE (outcome <> 'succeeded'::text);

CREATE INDEX batch_rollup_day ON nightbatch_report.batch_rollup USING btree (day);

CREATE INDEX batch_rollup_run ON nightbatch_report.batch_rollup USING btree (run_id);

CREATE INDEX cache_rollup_day ON nightbatch_report.cache_rollup USING btree (day);

CREATE UNIQUE INDEX label_rollup_batch ON nightbatch_report.label_rollup USING btree (batch_id, label) WHERE (batch_id IS NOT NULL);

CREATE UNIQUE INDEX label_rollup_cache ON nightbatch_report.label_rollup USING btree (run_id, label) WHERE (batch_id IS NULL);

CREATE INDEX label_rollup_day ON nightbatch_report.label_rollup USING btree (day);

CREATE CONSTRAINT TRIGGER a_closed_attempt_holds_no_job AFTER UPDATE ON nightbatch.batch DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (((old.closed_at IS NULL) AND (new.closed_at IS NOT NULL))) EXECUTE FUNCTION nightbatch.enforce_closing();

CREATE TRIGGER a_job_ends_with_a_closed_attempt AFTER DELETE ON nightbatch.open_job REFERENCING OLD TABLE AS leaving FOR EACH STATEMENT EXECUTE FUNCTION nightbatch.enforce_leaving();

CREATE TRIGGER a_job_stays_with_a_live_attempt AFTER UPDATE ON nightbatch.open_job REFERENCING OLD TABLE AS leaving FOR EACH STATEMENT EXECUTE FUNCTION nightbatch.enforce_leaving();

CREATE TRIGGER a_known_job_comes_into_a_planned_attempt AFTER UPDATE ON nightbatch.open_job REFERENCING NEW TABLE AS coming FOR EACH STATEMENT EXECUTE FUNCTION nightbatch.enforce_coming();

CREATE TRIGGER a_new_job_comes_into_a_planned_attempt AFTER INSERT ON nightbatch.open_job REFERENCING NEW TABLE AS coming FOR EACH STATEMENT EXECUTE FUNCTION nightbatch.enforce_coming();

CREATE TRIGGER a_result_stays BEFORE DELETE ON nightbatch.result FOR EACH ROW EXECUTE FUNCTION nightbatch.keep_results();

CREATE TRIGGER an_attempt_begins_as_planned BEFORE INSERT ON nightbatch.batch FOR EACH ROW EXECUTE FUNCTION nightbatch.enforce_new_attempt();

CREATE TRIGGER an_attempt_follows_the_protocol BEFORE UPDATE ON nightbatch.batch FOR EACH ROW EXECUTE FUNCTION nightbatch.enforce_transition();

CREATE TRIGGER an_attempt_is_sent_from_home BEFORE UPDATE ON nightbatch.batch FOR EACH ROW WHEN (((new.state = 'submitting'::text) AND (old.state <> 'submitting'::text))) EXECUTE FUNCTION nightbatch.enforce_home();

CREATE TRIGGER job_is_immutable BEFORE UPDATE ON nightbatch.job FOR EACH ROW EXECUTE FUNCTION nightbatch.allow_erasure();

CREATE TRIGGER job_is_not_deleted BEFORE DELETE ON nightbatch.job FOR EACH STATEMENT EXECUTE FUNCTION nightbatch.refuse_change();

CREATE TRIGGER members_come_before_the_hash AFTER INSERT ON nightbatch.batch_job REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION nightbatch.enforce_members();

CREATE TRIGGER members_leave_before_the_hash AFTER DELETE ON nightbatch.batch_job REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION nightbatch.enforce_members();

CREATE TRIGGER members_never_change BEFORE UPDATE ON nightbatch.batch_job FOR EACH STATEMENT EXECUTE FUNCTION nightbatch.refuse_change();

ALTER TABLE ONLY nightbatch.alert_sent
    ADD CONSTRAINT alert_sent_alert_id_fkey FOREIGN KEY (alert_id) REFERENCES nightbatch.alert(id);

ALTER TABLE ONLY nightbatch.batch
    ADD CONSTRAINT batch_duplicate_of_fkey FOREIGN KEY (duplicate_of) REFERENCES nightbatch.batch(id);

ALTER TABLE ONLY nightbatch.batch_erased
    ADD CONSTRAINT batch_erased_batch_id_fkey FOREIGN KEY (batch_id) REFERENCES nightbatch.batch(id);

ALTER TABLE ONLY nightbatch.batch_estimate
    ADD CONSTRAINT batch_estimate_batch_id_fkey FOREIGN KEY (batch_id) REFERENCES nightbatch.batch(id);

ALTER TABLE ONLY nightbatch.batch_prompt
    ADD CONSTRAINT batch_prompt_batch_id_fkey FOREIGN KEY (batch_id) REFERENCES nightbatch.batch(id);

ALTER TABLE ONLY nightbatch.batch
    ADD CONSTRAINT batch_replaces_fkey FOREIGN KEY (replaces) REFERENCES nightbatch.batch(id);

ALTER TABLE ONLY nightbatch.batch
    ADD CONSTRAINT batch_run_id_fkey FOREIGN KEY (run_id) REFERENCES nightbatch.run(id);

ALTER TABLE ONLY nightbatch.cache_read
    ADD CONSTRAINT cache_read_batch_id_fkey FOREIGN KEY (batch_id) REFERENCES nightbatch.batch(id);

ALTER TABLE ONLY nightbatch.cached
    ADD CONSTRAINT cached_run_id_fkey FOREIGN KEY (run_id) REFERENCES nightbatch.run(id);

ALTER TABLE ONLY nightbatch.decision
    ADD CONSTRAINT decision_batch_id_fkey FOREIGN KEY (batch_id) REFERENCES nightbatch.batch(id);

ALTER TABLE ONLY nightbatch.dismissed
    ADD CONSTRAINT dismissed_run_id_fkey FOREIGN KEY (run_id) REFERENCES nightbatch.run(id);

ALTER TABLE ONLY nightbatch.media_use
    ADD CONSTRAINT media_use_batch_id_fkey FOREIGN KEY (batch_id) REFERENCES nightbatch.batch(id);

ALTER TABLE ONLY nightbatch.media_use
    ADD CONSTRAINT media_use_media_id_fkey FOREIGN KEY (media_id) REFERENCES nightbatch.media(id);

ALTER TABLE ONLY nightbatch.reject
    ADD CONSTRAINT reject_batch_id_fkey FOREIGN KEY (batch_id) REFERENCES nightbatch.batch(id);

ALTER TABLE ONLY nightbatch.reopened
    ADD CONSTRAINT reopened_decision_id_fkey FOREIGN KEY (decision_id) REFERENCES nightbatch.decision(id);

ALTER TABLE ONLY nightbatch.request_hash
    ADD CONSTRAINT request_hash_batch_id_fkey FOREIGN KEY (batch_id) REFERENCES nightbatch.batch(id);

ALTER TABLE ONLY nightbatch.reserved
    ADD CONSTRAINT reserved_batch_id_fkey FOREIGN KEY (batch_id) REFERENCES nightbatch.batch(id);

ALTER TABLE ONLY nightbatch.reserved
    ADD CONSTRAINT reserved_budget_id_fkey FOREIGN KEY (budget_id) REFERENCES nightbatch.budget(id) ON DELETE CASCADE;

ALTER TABLE ONLY nightbatch.retried
    ADD CONSTRAINT retried_batch_id_fkey FOREIGN KEY (batch_id) REFERENCES nightbatch.batch(id);

GRANT ALL ON SCHEMA nightbatch TO nightbatch_owner;
GRANT USAGE ON SCHEMA nightbatch TO nightbatch_producer;
GRANT USAGE ON SCHEMA nightbatch TO nightbatch_reporter;
GRANT USAGE ON SCHEMA nightbatch TO nightbatch_worker;

GRANT ALL ON SCHEMA nightbatch_report TO nightbatch_owner;
GRANT USAGE ON SCHEMA nightbatch_report TO nightbatch_reporter;
GRANT USAGE ON SCHEMA nightbatch_report TO nightbatch_worker;

GRANT ALL ON FUNCTION nightbatch.displaced() TO nightbatch_owner;
GRANT ALL ON FUNCTION nightbatch.displaced() TO nightbatch_worker;

GRANT ALL ON FUNCTION nightbatch.has_label(labels jsonb, label text) TO nightbatch_owner;
GRANT ALL ON FUNCTION nightbatch.has_label(labels jsonb, label text) TO nightbatch_worker;

REVOKE ALL ON FUNCTION nightbatch.jobs_of_keys(keys text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION nightbatch.jobs_of_keys(keys text[]) TO nightbatch_owner;
GRANT ALL ON FUNCTION nightbatch.jobs_of_keys(keys text[]) TO nightbatch_producer;
GRANT ALL ON FUNCTION nightbatch.jobs_of_keys(keys text[]) TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch.installation TO nightbatch_owner;
GRANT SELECT,UPDATE ON TABLE nightbatch.installation TO nightbatch_worker;

GRANT ALL ON FUNCTION nightbatch.new_tag() TO nightbatch_owner;
GRANT ALL ON FUNCTION nightbatch.new_tag() TO nightbatch_worker;

GRANT ALL ON FUNCTION nightbatch.number_in(output json, name text) TO nightbatch_worker;

REVOKE ALL ON FUNCTION nightbatch.past_job(reference json) FROM PUBLIC;
GRANT ALL ON FUNCTION nightbatch.past_job(reference json) TO nightbatch_owner;
GRANT ALL ON FUNCTION nightbatch.past_job(reference json) TO nightbatch_worker;

GRANT ALL ON FUNCTION nightbatch.raw_endpoint(provider text, input json) TO nightbatch_owner;
GRANT ALL ON FUNCTION nightbatch.raw_endpoint(provider text, input json) TO nightbatch_worker;

REVOKE ALL ON FUNCTION nightbatch.register_provider(name text) FROM PUBLIC;

REVOKE ALL ON FUNCTION nightbatch.rejected_of_keys(keys text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION nightbatch.rejected_of_keys(keys text[]) TO nightbatch_owner;
GRANT ALL ON FUNCTION nightbatch.rejected_of_keys(keys text[]) TO nightbatch_producer;
GRANT ALL ON FUNCTION nightbatch.rejected_of_keys(keys text[]) TO nightbatch_worker;

GRANT ALL ON FUNCTION nightbatch.seen_before() TO nightbatch_owner;
GRANT ALL ON FUNCTION nightbatch.seen_before() TO nightbatch_reporter;
GRANT ALL ON FUNCTION nightbatch.seen_before() TO nightbatch_worker;

GRANT ALL ON FUNCTION nightbatch.server_marks(OUT system_identifier bigint, OUT timeline bigint, OUT database_oid oid) TO nightbatch_owner;
GRANT ALL ON FUNCTION nightbatch.server_marks(OUT system_identifier bigint, OUT timeline bigint, OUT database_oid oid) TO nightbatch_worker;

GRANT ALL ON FUNCTION nightbatch."similar"(of_jobs bigint[], at_most integer) TO nightbatch_worker;

GRANT ALL ON FUNCTION nightbatch_report.savings(realtime_usd numeric, batch_usd numeric, wasted_usd numeric) TO nightbatch_owner;
GRANT ALL ON FUNCTION nightbatch_report.savings(realtime_usd numeric, batch_usd numeric, wasted_usd numeric) TO nightbatch_reporter;
GRANT ALL ON FUNCTION nightbatch_report.savings(realtime_usd numeric, batch_usd numeric, wasted_usd numeric) TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch.account_walk TO nightbatch_owner;
GRANT SELECT,INSERT,UPDATE ON TABLE nightbatch.account_walk TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch.alert TO nightbatch_owner;
GRANT SELECT,INSERT,UPDATE ON TABLE nightbatch.alert TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch.alert_sent TO nightbatch_owner;
GRANT SELECT,INSERT ON TABLE nightbatch.alert_sent TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch.answer TO nightbatch_owner;
GRANT SELECT,INSERT,DELETE ON TABLE nightbatch.answer TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch.batch TO nightbatch_owner;
GRANT SELECT,INSERT,UPDATE ON TABLE nightbatch.batch TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch.batch_erased TO nightbatch_owner;
GRANT SELECT,INSERT ON TABLE nightbatch.batch_erased TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch.batch_estimate TO nightbatch_owner;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE nightbatch.batch_estimate TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch.batch_job TO nightbatch_owner;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE nightbatch.batch_job TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch.batch_prompt TO nightbatch_owner;
GRANT SELECT,INSERT ON TABLE nightbatch.batch_prompt TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch.budget TO nightbatch_owner;
GRANT SELECT ON TABLE nightbatch.budget TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch.cache_entry TO nightbatch_owner;
GRANT SELECT,INSERT ON TABLE nightbatch.cache_entry TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch.cache_read TO nightbatch_owner;
GRANT SELECT,INSERT ON TABLE nightbatch.cache_read TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch.cached TO nightbatch_owner;
GRANT SELECT,INSERT,UPDATE ON TABLE nightbatch.cached TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch.connection_seen TO nightbatch_owner;
GRANT SELECT,INSERT,UPDATE ON TABLE nightbatch.connection_seen TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch.dismissed TO nightbatch_owner;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE nightbatch.dismissed TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch.job TO nightbatch_owner;
GRANT SELECT,INSERT ON TABLE nightbatch.job TO nightbatch_worker;

GRANT SELECT(id) ON TABLE nightbatch.job TO nightbatch_producer;

GRANT INSERT(job_type) ON TABLE nightbatch.job TO nightbatch_producer;

GRANT INSERT(provider) ON TABLE nightbatch.job TO nightbatch_producer;

GRANT INSERT(model) ON TABLE nightbatch.job TO nightbatch_producer;

GRANT INSERT(priority) ON TABLE nightbatch.job TO nightbatch_producer;

GRANT INSERT(input) ON TABLE nightbatch.job TO nightbatch_producer;
GRANT UPDATE(input) ON TABLE nightbatch.job TO nightbatch_worker;

GRANT INSERT(dedup_key) ON TABLE nightbatch.job TO nightbatch_producer;

GRANT INSERT(labels) ON TABLE nightbatch.job TO nightbatch_producer;

GRANT INSERT(not_before) ON TABLE nightbatch.job TO nightbatch_producer;

GRANT INSERT(deadline) ON TABLE nightbatch.job TO nightbatch_producer;

GRANT INSERT(cache_days) ON TABLE nightbatch.job TO nightbatch_producer;

GRANT UPDATE(input_sha256) ON TABLE nightbatch.job TO nightbatch_worker;

GRANT UPDATE(erased_at) ON TABLE nightbatch.job TO nightbatch_worker;

GRANT INSERT(fallback) ON TABLE nightbatch.job TO nightbatch_producer;

GRANT ALL ON TABLE nightbatch.open_job TO nightbatch_owner;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE nightbatch.open_job TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch.result TO nightbatch_owner;
GRANT SELECT,INSERT,DELETE ON TABLE nightbatch.result TO nightbatch_worker;

GRANT UPDATE(output) ON TABLE nightbatch.result TO nightbatch_worker;

GRANT UPDATE(finished_at) ON TABLE nightbatch.result TO nightbatch_worker;

GRANT UPDATE(erased_at) ON TABLE nightbatch.result TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch.job_status TO nightbatch_owner;
GRANT SELECT ON TABLE nightbatch.job_status TO nightbatch_reporter;
GRANT SELECT ON TABLE nightbatch.job_status TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch.council TO nightbatch_owner;
GRANT SELECT ON TABLE nightbatch.council TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch.decision TO nightbatch_owner;
GRANT SELECT,INSERT ON TABLE nightbatch.decision TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch.embedding TO nightbatch_owner;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE nightbatch.embedding TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch.gathered TO nightbatch_owner;
GRANT SELECT ON TABLE nightbatch.gathered TO nightbatch_reporter;
GRANT SELECT,INSERT,UPDATE ON TABLE nightbatch.gathered TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch.media TO nightbatch_owner;
GRANT SELECT,INSERT,UPDATE ON TABLE nightbatch.media TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch.media_use TO nightbatch_owner;
GRANT SELECT,INSERT ON TABLE nightbatch.media_use TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch.named_lock TO nightbatch_owner;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE nightbatch.named_lock TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch.price_factor TO nightbatch_owner;
GRANT SELECT ON TABLE nightbatch.price_factor TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch.price_override TO nightbatch_owner;
GRANT SELECT ON TABLE nightbatch.price_override TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch.reject TO nightbatch_owner;
GRANT SELECT,INSERT ON TABLE nightbatch.reject TO nightbatch_worker;

GRANT UPDATE(raw) ON TABLE nightbatch.reject TO nightbatch_worker;

GRANT UPDATE(erased_at) ON TABLE nightbatch.reject TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch.reopened TO nightbatch_owner;
GRANT SELECT,INSERT ON TABLE nightbatch.reopened TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch.reprocessed TO nightbatch_owner;
GRANT SELECT ON TABLE nightbatch.reprocessed TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch.retried TO nightbatch_owner;
GRANT SELECT,INSERT ON TABLE nightbatch.retried TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch.request TO nightbatch_owner;
GRANT SELECT ON TABLE nightbatch.request TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch.request_hash TO nightbatch_owner;
GRANT SELECT,INSERT ON TABLE nightbatch.request_hash TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch.reserved TO nightbatch_owner;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE nightbatch.reserved TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch.run TO nightbatch_owner;
GRANT SELECT,INSERT,UPDATE ON TABLE nightbatch.run TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch.token_limit TO nightbatch_owner;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE nightbatch.token_limit TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch_report.batch_rollup TO nightbatch_owner;
GRANT SELECT ON TABLE nightbatch_report.batch_rollup TO nightbatch_reporter;
GRANT SELECT,INSERT,DELETE ON TABLE nightbatch_report.batch_rollup TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch_report.batch_turnaround TO nightbatch_owner;
GRANT SELECT ON TABLE nightbatch_report.batch_turnaround TO nightbatch_reporter;
GRANT SELECT,INSERT ON TABLE nightbatch_report.batch_turnaround TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch_report.cache_rollup TO nightbatch_owner;
GRANT SELECT ON TABLE nightbatch_report.cache_rollup TO nightbatch_reporter;
GRANT SELECT,INSERT ON TABLE nightbatch_report.cache_rollup TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch_report.label_rollup TO nightbatch_owner;
GRANT SELECT ON TABLE nightbatch_report.label_rollup TO nightbatch_reporter;
GRANT SELECT,INSERT,DELETE ON TABLE nightbatch_report.label_rollup TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch_report.queue_depth TO nightbatch_owner;
GRANT SELECT ON TABLE nightbatch_report.queue_depth TO nightbatch_reporter;
GRANT SELECT,INSERT ON TABLE nightbatch_report.queue_depth TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch_report.run_summary TO nightbatch_owner;
GRANT SELECT ON TABLE nightbatch_report.run_summary TO nightbatch_reporter;
GRANT SELECT,INSERT ON TABLE nightbatch_report.run_summary TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch_report.savings_by_label TO nightbatch_owner;
GRANT SELECT ON TABLE nightbatch_report.savings_by_label TO nightbatch_reporter;
GRANT SELECT ON TABLE nightbatch_report.savings_by_label TO nightbatch_worker;

GRANT ALL ON TABLE nightbatch_report.savings_daily TO nightbatch_owner;
GRANT SELECT ON TABLE nightbatch_report.savings_daily TO nightbatch_reporter;
GRANT SELECT,INSERT ON TABLE nightbatch_report.savings_daily TO nightbatch_worker;
