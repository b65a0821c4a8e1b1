-- run_totals: one run, or several together, as the reporting schema tells it
SELECT string_agg(run_id, ' + ' ORDER BY planned_at), min(planned_at), sum(batches)::bigint, sum(open_batches)::bigint,
    sum(jobs)::bigint, sum(succeeded)::bigint, sum(failed)::bigint, sum(requeued)::bigint, sum(rejected)::bigint,
    sum(from_cache)::bigint, sum(unpriced)::bigint, sum(paid_again)::bigint, sum(realtime_cost_usd), sum(batch_cost_usd),
    sum(wasted_cost_usd), sum(savings_usd)
FROM nightbatch_report.run_summary WHERE run_id = ANY (%(run_ids)s) HAVING count(*) > 0;

-- run_breakdown: the same figures by provider and job type; rejected jobs have no batch, so they are counted beside it
SELECT provider, job_type, sum(jobs)::bigint, sum(succeeded)::bigint, sum(failed)::bigint, sum(requeued)::bigint,
    sum(rejected)::bigint, sum(unpriced)::bigint, sum(realtime_cost_usd), sum(batch_cost_usd), sum(wasted_cost_usd),
    nightbatch_report.savings(sum(realtime_cost_usd), sum(batch_cost_usd), sum(wasted_cost_usd))
FROM (
    SELECT provider, job_type, jobs, succeeded, failed, requeued, 0 AS rejected, unpriced,
        realtime_cost_usd, batch_cost_usd, wasted_cost_usd
    FROM nightbatch_report.batch_rollup WHERE run_id = ANY (%(run_ids)s)
    UNION ALL
    SELECT provider, job_type, jobs, jobs, 0, 0, 0, unpriced, realtime_cost_usd, 0, 0
    FROM nightbatch_report.cache_rollup WHERE run_id = ANY (%(run_ids)s)
    UNION ALL
    SELECT j.provider, j.job_type, 0, 0, 0, 0, 1, 0, 0, 0, 0
    FROM nightbatch.dismissed AS d JOIN nightbatch.job AS j ON j.id = d.job_id
    WHERE d.run_id = ANY (%(run_ids)s) AND d.state = 'rejected'
) AS parts
GROUP BY provider, job_type ORDER BY provider, job_type;

-- run_reasons: why jobs did not succeed, the most frequent first
SELECT provider, job_type, outcome, reason, count(*) AS jobs
FROM (
    SELECT j.provider, j.job_type, r.outcome, left(coalesce(r.error, 'no reason given'), 200) AS reason
    FROM nightbatch.batch AS b
    JOIN nightbatch.batch_job AS m ON m.batch_id = b.id
    JOIN nightbatch.result AS r ON r.job_id = m.job_id AND r.batch_id = b.id
    JOIN nightbatch.job AS j ON j.id = m.job_id
    WHERE b.run_id = ANY (%(run_ids)s) AND r.outcome <> 'succeeded'
    UNION ALL
    SELECT j.provider, j.job_type, 'rejected', left(d.reason, 200)
    FROM nightbatch.dismissed AS d JOIN nightbatch.job AS j ON j.id = d.job_id
    WHERE d.run_id = ANY (%(run_ids)s) AND d.state = 'rejected'
) AS parts
GROUP BY provider, job_type, outcome, reason ORDER BY jobs DESC, provider, job_type, outcome, reason LIMIT 30;

-- run_prices: the prices that the figures were made with, and the models without one
SELECT DISTINCT provider, model, price_source FROM nightbatch.batch
WHERE run_id = ANY (%(run_ids)s) AND state = 'loaded' ORDER BY provider, model;

-- queue: what waits, the largest piles first
SELECT provider, job_type, priority, jobs, oldest FROM nightbatch_report.queue_depth ORDER BY jobs DESC, provider, job_type;
