-- Where a request's job stands now is looked up for the few that did not succeed. Without OFFSET 0 Postgres may read the whole
-- of open_job for it, once for every batch: a night of many batches took the longer, the more of it was still to be loaded.
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
JOIN nightbatch.job AS j ON j.id = m.job_id
JOIN nightbatch.result AS r ON r.job_id = m.job_id AND r.batch_id = m.batch_id;
