-- What was saved is computed in one place: whoever changes the formula changes it here, and all figures follow.

-- Without a SET clause, so that Postgres writes the expression in the place of the call.
CREATE FUNCTION nightbatch_report.savings(realtime_usd numeric, batch_usd numeric, wasted_usd numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN realtime_usd - batch_usd - wasted_usd;
GRANT EXECUTE ON FUNCTION nightbatch_report.savings(numeric, numeric, numeric)
    TO nightbatch_reporter, nightbatch_worker, nightbatch_owner;

CREATE OR REPLACE VIEW nightbatch_report.savings_daily AS
SELECT
    day, provider, model, job_type,
    sum(jobs)::bigint AS jobs, sum(succeeded)::bigint AS succeeded, sum(failed)::bigint AS failed,
    sum(input_tokens)::bigint AS input_tokens, sum(cached_tokens)::bigint AS cached_tokens,
    sum(output_tokens)::bigint AS output_tokens,
    sum(realtime_cost_usd) AS realtime_cost_usd, sum(batch_cost_usd) AS batch_cost_usd,
    sum(wasted_cost_usd) AS wasted_cost_usd,
    nightbatch_report.savings(sum(realtime_cost_usd), sum(batch_cost_usd), sum(wasted_cost_usd)) AS savings_usd,
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

CREATE OR REPLACE VIEW nightbatch_report.savings_by_label AS
SELECT
    day, label, sum(jobs)::bigint AS jobs, sum(succeeded)::bigint AS succeeded, sum(failed)::bigint AS failed,
    sum(input_tokens)::bigint AS input_tokens, sum(cached_tokens)::bigint AS cached_tokens,
    sum(output_tokens)::bigint AS output_tokens,
    sum(realtime_cost_usd) AS realtime_cost_usd, sum(batch_cost_usd) AS batch_cost_usd,
    sum(wasted_cost_usd) AS wasted_cost_usd,
    nightbatch_report.savings(sum(realtime_cost_usd), sum(batch_cost_usd), sum(wasted_cost_usd)) AS savings_usd,
    sum(unpriced)::bigint AS unpriced, sum(from_cache)::bigint AS from_cache, sum(requeued)::bigint AS requeued,
    sum(paid_again)::bigint AS paid_again, sum(realtime_jobs)::bigint AS realtime_jobs
FROM nightbatch_report.label_rollup
GROUP BY day, label;

CREATE OR REPLACE VIEW nightbatch_report.run_summary AS
SELECT
    r.id AS run_id, r.planned_at, r.reported_at, r.queued_before, r.params,
    b.batches, b.open_batches, b.loaded_batches, d.rejected,
    coalesce(u.jobs, 0) + c.jobs AS jobs, coalesce(u.succeeded, 0) + c.jobs AS succeeded, coalesce(u.failed, 0) AS failed,
    coalesce(u.requeued, 0) AS requeued, coalesce(u.unpriced, 0) + c.unpriced AS unpriced,
    coalesce(u.paid_again, 0) AS paid_again,
    coalesce(u.realtime_cost_usd, 0) + c.realtime_cost_usd AS realtime_cost_usd,
    coalesce(u.batch_cost_usd, 0) AS batch_cost_usd, coalesce(u.wasted_cost_usd, 0) AS wasted_cost_usd,
    nightbatch_report.savings(
        coalesce(u.realtime_cost_usd, 0) + c.realtime_cost_usd, coalesce(u.batch_cost_usd, 0), coalesce(u.wasted_cost_usd, 0)
    ) AS savings_usd,
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

