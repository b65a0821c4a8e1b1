-- Past jobs again, and which prompt asked for what.

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
REVOKE ALL ON FUNCTION nightbatch.past_job(json) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION nightbatch.past_job(json) TO nightbatch_worker, nightbatch_owner;

-- The prompt version in use when an attempt was rendered, by job type.
CREATE TABLE nightbatch.batch_prompt (
    batch_id bigint NOT NULL REFERENCES nightbatch.batch,
    job_type text NOT NULL,
    prompt_version text NOT NULL,
    PRIMARY KEY (batch_id, job_type)
);
GRANT SELECT, INSERT ON nightbatch.batch_prompt TO nightbatch_worker;
GRANT ALL ON nightbatch.batch_prompt TO nightbatch_owner;

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
    SELECT found.id AS job_id, past_job_id, CASE WHEN past_job_id IS NOT NULL THEN input ->> 'prompt_version' END AS prompt_version
    FROM (
        SELECT j.id, j.input, nightbatch.past_job(j.input) AS past_job_id
        FROM nightbatch.job AS j WHERE j.job_type = 'historical_reprocessing'
    ) AS found
) AS n
JOIN nightbatch.job AS p ON p.id = n.past_job_id
LEFT JOIN answered AS o ON o.job_id = p.id
LEFT JOIN answered AS a ON a.job_id = n.job_id;
GRANT SELECT ON nightbatch.reprocessed TO nightbatch_worker;
GRANT ALL ON nightbatch.reprocessed TO nightbatch_owner;
CREATE INDEX job_reprocessing ON nightbatch.job (id) WHERE job_type = 'historical_reprocessing';
