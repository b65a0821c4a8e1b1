-- Figures by label, what went at full price, and what makes each figure, so that all of them can be computed again.

ALTER TABLE nightbatch_report.batch_rollup ADD COLUMN realtime_jobs integer NOT NULL DEFAULT 0;
UPDATE nightbatch_report.batch_rollup AS u SET realtime_jobs = u.jobs
FROM nightbatch.batch AS b WHERE b.id = u.batch_id AND b.mode = 'realtime';
CREATE INDEX batch_submitted ON nightbatch.batch (submitted_at);
CREATE INDEX batch_loaded ON nightbatch.batch (closed_at) WHERE state = 'loaded';
CREATE INDEX dismissed_rejected ON nightbatch.dismissed (dismissed_at) WHERE state = 'rejected';
-- The few that a report gives reasons for.
CREATE INDEX result_without_success ON nightbatch.result (batch_id) WHERE outcome <> 'succeeded';

-- A person may have unusable answers asked for again (choice retry): from then on such a job is unfinished once more.
ALTER TABLE nightbatch.decision DROP CONSTRAINT decision_choice_check,
    ADD CONSTRAINT decision_choice_check CHECK (choice IN ('resend', 'drop', 'adopt', 'cancel', 'retry'));
CREATE TABLE nightbatch.retried (
    batch_id bigint NOT NULL REFERENCES nightbatch.batch,
    job_id bigint NOT NULL,
    PRIMARY KEY (batch_id, job_id)
);
GRANT SELECT, INSERT ON nightbatch.retried TO nightbatch_worker;
GRANT ALL ON nightbatch.retried TO nightbatch_owner;

-- Every request of an attempt with what came of it. `requeued`: it was not the job's last word, and nobody had to decide that.
CREATE VIEW nightbatch.request AS
SELECT
    m.batch_id, m.job_id, b.run_id, (b.submitted_at AT TIME ZONE 'UTC')::date AS day, b.provider, b.model, b.mode,
    j.job_type, j.labels, r.outcome, r.billed, r.input_tokens, r.cached_tokens, r.output_tokens,
    r.realtime_cost_usd, r.batch_cost_usd,
    CASE WHEN r.outcome IN ('succeeded', 'duplicate') THEN false ELSE
        NOT EXISTS (SELECT FROM nightbatch.retried AS p WHERE p.batch_id = m.batch_id AND p.job_id = m.job_id)
        AND (EXISTS (SELECT FROM nightbatch.open_job AS o WHERE o.job_id = m.job_id)
            OR EXISTS (SELECT FROM nightbatch.dismissed AS d WHERE d.job_id = m.job_id)
            OR EXISTS (SELECT FROM nightbatch.result AS later JOIN nightbatch.batch AS l ON l.id = later.batch_id
                WHERE later.job_id = m.job_id AND later.batch_id > m.batch_id AND l.duplicate_of IS NULL))
    END AS requeued,
    r.billed AND (r.outcome = 'duplicate' OR EXISTS (
        SELECT FROM nightbatch.result AS earlier WHERE earlier.job_id = m.job_id AND earlier.batch_id < m.batch_id
            AND earlier.billed AND earlier.outcome <> 'duplicate')) AS paid_again
FROM nightbatch.batch_job AS m
JOIN nightbatch.batch AS b ON b.id = m.batch_id
JOIN nightbatch.job AS j ON j.id = m.job_id
JOIN nightbatch.result AS r ON r.job_id = m.job_id AND r.batch_id = m.batch_id;
GRANT SELECT ON nightbatch.request TO nightbatch_worker;
GRANT ALL ON nightbatch.request TO nightbatch_owner;

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
GRANT SELECT, INSERT ON nightbatch_report.label_rollup TO nightbatch_worker;
GRANT SELECT ON nightbatch_report.label_rollup TO nightbatch_reporter;
GRANT ALL ON nightbatch_report.label_rollup TO nightbatch_owner;

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
GRANT SELECT ON nightbatch_report.savings_by_label TO nightbatch_reporter, nightbatch_worker;
GRANT ALL ON nightbatch_report.savings_by_label TO nightbatch_owner;

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
