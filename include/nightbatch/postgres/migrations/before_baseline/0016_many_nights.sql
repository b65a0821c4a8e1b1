-- The highest job id below which no insert is still under way, or NULL when a producer's open transaction keeps it from
-- being known. Ids come from a sequence, so a lower one may be committed after a higher one. Whoever drew a lower id held the
-- inserter's lock before the highest was committed, and holds it until its own rows are there: it is seen here, or it is done.
-- A transaction that is prepared for two phases keeps its number.
-- A lock of our own told the same, but Postgres gives none while autovacuum reads the table, for many minutes at its size.
CREATE OR REPLACE FUNCTION nightbatch.settled_job_id() RETURNS bigint LANGUAGE plpgsql SECURITY INVOKER
SET search_path = pg_catalog AS $$
DECLARE
    up_to bigint := (SELECT coalesce(max(id), 0) FROM nightbatch.job);
    inserting text[];
BEGIN
    FOR look IN 1..25 LOOP
        inserting := ARRAY(
            SELECT virtualtransaction FROM pg_locks
            WHERE locktype = 'relation' AND relation = 'nightbatch.job'::regclass AND mode = 'RowExclusiveLock' AND granted
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                AND pid IS DISTINCT FROM pg_backend_pid()
                AND (inserting IS NULL OR virtualtransaction = ANY (inserting)));
        IF inserting = '{}' THEN
            RETURN up_to;
        END IF;
        PERFORM pg_sleep(0.02);
    END LOOP;
    RETURN NULL;
END
$$;

-- LIMIT 1 says what the primary key does. While the statistics lag behind, Postgres expects many results of a job, and makes
-- a bitmap for each that it looks up, at ten times the price.
CREATE OR REPLACE VIEW nightbatch.request AS
SELECT
    m.batch_id, m.job_id, b.run_id, (b.submitted_at AT TIME ZONE 'UTC')::date AS day, b.provider, b.model, b.mode,
    j.job_type, j.labels, r.outcome, r.billed, r.input_tokens, r.cached_tokens, r.output_tokens,
    r.realtime_cost_usd, r.batch_cost_usd,
    CASE WHEN r.outcome IN ('succeeded', 'duplicate') THEN false ELSE
        NOT EXISTS (SELECT FROM nightbatch.retried AS p WHERE p.batch_id = m.batch_id AND p.job_id = m.job_id OFFSET 0)
        AND (EXISTS (SELECT FROM nightbatch.open_job AS o WHERE o.job_id = m.job_id OFFSET 0)
            OR EXISTS (SELECT FROM nightbatch.dismissed AS d WHERE d.job_id = m.job_id OFFSET 0)
            OR EXISTS (SELECT FROM nightbatch.result AS later JOIN nightbatch.batch AS l ON l.id = later.batch_id
                WHERE later.job_id = m.job_id AND later.batch_id > m.batch_id AND l.duplicate_of IS NULL OFFSET 0))
    END AS requeued,
    r.billed AND (r.outcome = 'duplicate' OR EXISTS (
        SELECT FROM nightbatch.result AS earlier WHERE earlier.job_id = m.job_id AND earlier.batch_id < m.batch_id
            AND earlier.billed AND earlier.outcome <> 'duplicate' OFFSET 0)) AS paid_again
FROM nightbatch.batch_job AS m
JOIN nightbatch.batch AS b ON b.id = m.batch_id
CROSS JOIN LATERAL (SELECT job_type, labels FROM nightbatch.job WHERE id = m.job_id LIMIT 1) AS j
CROSS JOIN LATERAL (
    SELECT outcome, billed, input_tokens, cached_tokens, output_tokens, realtime_cost_usd, batch_cost_usd
    FROM nightbatch.result WHERE job_id = m.job_id AND batch_id = m.batch_id LIMIT 1
) AS r;
