-- What people read: states, costs and savings. No payload stands in nightbatch_report.

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
    coalesce(o.attempts, r.attempts, 0)::integer AS attempts,
    coalesce(o.batch_id, r.batch_id) AS batch_id,
    coalesce(d.reason, CASE WHEN o.batch_id IS NULL THEN r.error END, b.error) AS error,
    coalesce(d.dismissed_at, b.submitted_at, b.planned_at, r.finished_at, j.created_at) AS updated_at
FROM nightbatch.job AS j
LEFT JOIN nightbatch.open_job AS o ON o.job_id = j.id
LEFT JOIN nightbatch.batch AS b ON b.id = o.batch_id
LEFT JOIN nightbatch.dismissed AS d ON d.job_id = j.id
LEFT JOIN LATERAL (
    SELECT l.outcome, l.error, l.finished_at, l.batch_id, count(*) OVER () AS attempts
    FROM nightbatch.result AS l WHERE l.job_id = j.id ORDER BY l.batch_id DESC LIMIT 1
) AS r ON true;

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
    PRIMARY KEY (batch_id, job_type)
);
CREATE INDEX batch_rollup_day ON nightbatch_report.batch_rollup (day);
CREATE INDEX batch_rollup_run ON nightbatch_report.batch_rollup (run_id);

-- jobs: requests that were sent and accounted for on that day; those that go again (neither succeeded nor failed) included.
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
    sum(unpriced)::bigint AS unpriced
FROM nightbatch_report.batch_rollup
GROUP BY day, provider, model, job_type;

CREATE VIEW nightbatch_report.run_summary AS
SELECT
    r.id AS run_id, r.planned_at, r.reported_at, r.queued_before, r.params,
    b.batches, b.open_batches, b.loaded_batches, d.rejected,
    coalesce(u.jobs, 0) AS jobs, coalesce(u.succeeded, 0) AS succeeded, coalesce(u.failed, 0) AS failed,
    coalesce(u.requeued, 0) AS requeued, coalesce(u.unpriced, 0) AS unpriced, coalesce(u.paid_again, 0) AS paid_again,
    coalesce(u.realtime_cost_usd, 0) AS realtime_cost_usd, coalesce(u.batch_cost_usd, 0) AS batch_cost_usd,
    coalesce(u.wasted_cost_usd, 0) AS wasted_cost_usd,
    coalesce(u.realtime_cost_usd - u.batch_cost_usd - u.wasted_cost_usd, 0) AS savings_usd
FROM nightbatch.run AS r
CROSS JOIN LATERAL (
    SELECT count(*) AS batches, count(*) FILTER (WHERE closed_at IS NULL) AS open_batches,
        count(*) FILTER (WHERE state = 'loaded') AS loaded_batches
    FROM nightbatch.batch WHERE run_id = r.id
) AS b
CROSS JOIN LATERAL (SELECT count(*) AS rejected FROM nightbatch.dismissed WHERE run_id = r.id AND state = 'rejected') AS d
LEFT JOIN LATERAL (
    SELECT sum(jobs)::bigint AS jobs, sum(succeeded)::bigint AS succeeded, sum(failed)::bigint AS failed,
        sum(requeued)::bigint AS requeued, sum(unpriced)::bigint AS unpriced, sum(paid_again)::bigint AS paid_again,
        sum(realtime_cost_usd) AS realtime_cost_usd, sum(batch_cost_usd) AS batch_cost_usd,
        sum(wasted_cost_usd) AS wasted_cost_usd
    FROM nightbatch_report.batch_rollup WHERE run_id = r.id
) AS u ON true;
CREATE INDEX dismissed_run ON nightbatch.dismissed (run_id);

CREATE VIEW nightbatch_report.queue_depth AS
SELECT q.provider, q.job_type, q.priority, count(*) AS jobs, min(q.created_at) AS oldest
FROM (
    SELECT j.provider, j.job_type, j.priority, j.created_at
    FROM nightbatch.job AS j
    WHERE j.id > (SELECT up_to FROM nightbatch.gathered)
        AND NOT EXISTS (SELECT FROM nightbatch.open_job AS o WHERE o.job_id = j.id)
        AND NOT EXISTS (SELECT FROM nightbatch.dismissed AS d WHERE d.job_id = j.id)
        AND NOT EXISTS (SELECT FROM nightbatch.result AS r WHERE r.job_id = j.id)
    UNION ALL
    SELECT j.provider, j.job_type, j.priority, j.created_at
    FROM nightbatch.open_job AS o JOIN nightbatch.job AS j ON j.id = o.job_id
    WHERE o.batch_id IS NULL
) AS q
GROUP BY q.provider, q.job_type, q.priority;

CREATE VIEW nightbatch_report.batch_turnaround AS
SELECT
    b.id AS batch_id, b.run_id, b.provider, b.model, b.endpoint, b.state, b.job_count,
    b.submitted_at, b.ended_at, b.closed_at, b.ended_at - b.submitted_at AS turnaround
FROM nightbatch.batch AS b
WHERE b.submitted_at IS NOT NULL;
