-- Earlier results that answer later jobs, payloads that do not stay for ever, and the ids of jobs that are known by a key.

-- A producer who knows a key may know its job's id, without reading the keys of others.
CREATE FUNCTION nightbatch.jobs_of_keys(keys text[]) RETURNS TABLE (dedup_key text, job_id bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT j.dedup_key, j.id FROM nightbatch.job AS j WHERE j.dedup_key = ANY (keys)
$$;
REVOKE ALL ON FUNCTION nightbatch.jobs_of_keys(text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION nightbatch.jobs_of_keys(text[]) TO nightbatch_producer, nightbatch_worker, nightbatch_owner;

-- The cache ---------------------------------------------------------------------------------------------------------------

-- Answer the job from the result of an equal one that is at most so many days old. Empty: it is always sent.
ALTER TABLE nightbatch.job ADD COLUMN cache_days smallint
    CONSTRAINT cache_days_is_1_to_3650 CHECK (cache_days BETWEEN 1 AND 3650);
GRANT INSERT (cache_days) ON nightbatch.job TO nightbatch_producer;
-- Empty where nobody asks, so that a plan knows at once that there is nothing to look for.
CREATE INDEX job_asks_the_cache ON nightbatch.job (id) WHERE cache_days IS NOT NULL;

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

GRANT SELECT, INSERT ON nightbatch.cache_entry, nightbatch.cache_read TO nightbatch_worker;
GRANT SELECT, INSERT, UPDATE ON nightbatch.cached TO nightbatch_worker;
GRANT SELECT, INSERT ON nightbatch_report.cache_rollup TO nightbatch_worker;
GRANT SELECT ON nightbatch_report.cache_rollup TO nightbatch_reporter;
GRANT ALL ON nightbatch.cache_entry, nightbatch.cache_read, nightbatch.cached, nightbatch_report.cache_rollup TO nightbatch_owner;

-- A job that the cache answers counts as one that succeeded, at no cost.
CREATE OR REPLACE VIEW nightbatch_report.savings_daily AS
SELECT
    day, provider, model, job_type,
    sum(jobs)::bigint AS jobs, sum(succeeded)::bigint AS succeeded, sum(failed)::bigint AS failed,
    sum(input_tokens)::bigint AS input_tokens, sum(cached_tokens)::bigint AS cached_tokens,
    sum(output_tokens)::bigint AS output_tokens,
    sum(realtime_cost_usd) AS realtime_cost_usd, sum(batch_cost_usd) AS batch_cost_usd,
    sum(wasted_cost_usd) AS wasted_cost_usd,
    sum(realtime_cost_usd - batch_cost_usd - wasted_cost_usd) AS savings_usd,
    sum(unpriced)::bigint AS unpriced,
    sum(from_cache)::bigint AS from_cache
FROM (
    SELECT day, provider, model, job_type, jobs, succeeded, failed, input_tokens, cached_tokens, output_tokens,
        realtime_cost_usd, batch_cost_usd, wasted_cost_usd, unpriced, 0 AS from_cache
    FROM nightbatch_report.batch_rollup
    UNION ALL
    SELECT day, provider, model, job_type, jobs, jobs, 0, 0, 0, 0, realtime_cost_usd, 0, 0, unpriced, jobs
    FROM nightbatch_report.cache_rollup
) AS parts
GROUP BY day, provider, model, job_type;

CREATE OR REPLACE VIEW nightbatch_report.run_summary AS
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

-- Retention ---------------------------------------------------------------------------------------------------------------

-- An erased input is the JSON null, which no job type takes, so that nothing can be sent from it by mistake.
ALTER TABLE nightbatch.job ADD COLUMN input_sha256 bytea, ADD COLUMN erased_at timestamptz,
    ADD CONSTRAINT an_erased_input_leaves_its_hash CHECK ((erased_at IS NULL) = (input_sha256 IS NULL));
ALTER TABLE nightbatch.result ADD COLUMN erased_at timestamptz,
    DROP CONSTRAINT a_success_has_an_output,
    ADD CONSTRAINT a_success_has_an_output CHECK (outcome <> 'succeeded' OR output IS NOT NULL OR erased_at IS NOT NULL),
    ADD CONSTRAINT what_is_erased_is_gone CHECK (erased_at IS NULL OR output IS NULL);
ALTER TABLE nightbatch.reject ADD COLUMN erased_at timestamptz, ALTER COLUMN raw DROP NOT NULL,
    ADD CONSTRAINT what_is_erased_is_gone CHECK ((erased_at IS NULL) = (raw IS NOT NULL));
ALTER TABLE nightbatch.dismissed ADD COLUMN erased boolean NOT NULL DEFAULT false;
CREATE INDEX dismissed_not_erased ON nightbatch.dismissed (dismissed_at) WHERE NOT erased;
CREATE INDEX cached_not_erased ON nightbatch.cached (answered_at) WHERE NOT erased;

-- Which loaded attempts are done with, by job type.
CREATE TABLE nightbatch.batch_erased (
    batch_id bigint NOT NULL REFERENCES nightbatch.batch,
    job_type text NOT NULL,
    erased_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (batch_id, job_type)
);
GRANT SELECT, INSERT ON nightbatch.batch_erased TO nightbatch_worker;
GRANT ALL ON nightbatch.batch_erased TO nightbatch_owner;
GRANT UPDATE (input, input_sha256, erased_at) ON nightbatch.job TO nightbatch_worker;
GRANT UPDATE (output, erased_at) ON nightbatch.result TO nightbatch_worker;
GRANT UPDATE (raw, erased_at) ON nightbatch.reject TO nightbatch_worker;

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
DROP TRIGGER job_is_immutable ON nightbatch.job;
CREATE TRIGGER job_is_not_deleted BEFORE DELETE ON nightbatch.job
    FOR EACH STATEMENT EXECUTE FUNCTION nightbatch.refuse_change();
CREATE TRIGGER job_is_immutable BEFORE UPDATE ON nightbatch.job
    FOR EACH ROW EXECUTE FUNCTION nightbatch.allow_erasure();

-- A job that the cache answered was never sent.
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
    FROM nightbatch.result AS l WHERE l.job_id = j.id AND l.outcome <> 'duplicate' ORDER BY l.batch_id DESC LIMIT 1
) AS r ON true;
