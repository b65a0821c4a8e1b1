-- total: of a range of days
SELECT coalesce(sum(jobs), 0)::bigint, coalesce(sum(succeeded), 0)::bigint, coalesce(sum(failed), 0)::bigint,
    coalesce(sum(requeued), 0)::bigint, coalesce(sum(from_cache), 0)::bigint, coalesce(sum(realtime_jobs), 0)::bigint,
    coalesce(sum(paid_again), 0)::bigint, coalesce(sum(unpriced), 0)::bigint, coalesce(sum(input_tokens), 0)::bigint,
    coalesce(sum(cached_tokens), 0)::bigint, coalesce(sum(output_tokens), 0)::bigint, coalesce(sum(realtime_cost_usd), 0),
    coalesce(sum(batch_cost_usd), 0), coalesce(sum(wasted_cost_usd), 0), coalesce(sum(savings_usd), 0)
FROM nightbatch_report.savings_daily WHERE day BETWEEN %(since)s AND %(until)s;

-- slices: the same by day, provider, model and job type, all in one pass
SELECT CASE WHEN grouping(day) = 0 THEN 'day' WHEN grouping(job_type) = 0 THEN 'job_type'
        WHEN grouping(model) = 0 THEN 'model' ELSE 'provider' END AS kind,
    coalesce(day::text, job_type, provider || coalesce('/' || model, '')) AS key,
    sum(jobs)::bigint, sum(succeeded)::bigint, sum(failed)::bigint, sum(requeued)::bigint, sum(from_cache)::bigint,
    sum(realtime_jobs)::bigint, sum(paid_again)::bigint, sum(unpriced)::bigint, sum(input_tokens)::bigint,
    sum(cached_tokens)::bigint, sum(output_tokens)::bigint, sum(realtime_cost_usd), sum(batch_cost_usd), sum(wasted_cost_usd),
    sum(savings_usd)
FROM nightbatch_report.savings_daily WHERE day BETWEEN %(since)s AND %(until)s
GROUP BY GROUPING SETS ((day), (provider), (provider, model), (job_type)) ORDER BY kind, key;

-- by_label: at most so many, those that saved the most
SELECT label, sum(jobs)::bigint, sum(succeeded)::bigint, sum(failed)::bigint, sum(requeued)::bigint, sum(from_cache)::bigint,
    sum(realtime_jobs)::bigint, sum(paid_again)::bigint, sum(unpriced)::bigint, sum(input_tokens)::bigint,
    sum(cached_tokens)::bigint, sum(output_tokens)::bigint, sum(realtime_cost_usd), sum(batch_cost_usd), sum(wasted_cost_usd),
    sum(savings_usd)
FROM nightbatch_report.savings_by_label WHERE day BETWEEN %(since)s AND %(until)s
GROUP BY label ORDER BY sum(savings_usd) DESC, label LIMIT %(limit)s;

-- turnaround: of batches that were sent on these days and have ended. Providers tell the end in whole seconds, so that it may
-- come before the beginning
SELECT provider, model, count(*), percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds),
    percentile_cont(0.9) WITHIN GROUP (ORDER BY seconds), percentile_cont(0.99) WITHIN GROUP (ORDER BY seconds), max(seconds)
FROM (
    SELECT provider, model, greatest(extract(epoch FROM ended_at - submitted_at), 0)::double precision AS seconds
    FROM nightbatch.batch
    WHERE submitted_at >= %(begin)s AND submitted_at < %(end)s
        AND state = 'loaded' AND mode = 'batch' AND ended_at IS NOT NULL
) AS ended
GROUP BY provider, model ORDER BY provider, model;

-- rejected: jobs that could not be sent, by the day on which they were looked at
SELECT count(*) FROM nightbatch.dismissed
WHERE state = 'rejected' AND dismissed_at >= %(begin)s AND dismissed_at < %(end)s;

-- reasons: why jobs did not succeed, the most frequent first
SELECT provider, job_type, outcome, reason, count(*) AS jobs
FROM (
    SELECT j.provider, j.job_type, r.outcome, left(coalesce(r.error, 'no reason given'), 200) AS reason
    FROM nightbatch.batch AS b
    JOIN nightbatch.result AS r ON r.batch_id = b.id
    JOIN nightbatch.job AS j ON j.id = r.job_id
    WHERE b.state = 'loaded' AND b.submitted_at >= %(begin)s AND b.submitted_at < %(end)s AND r.outcome <> 'succeeded'
    UNION ALL
    SELECT j.provider, j.job_type, 'rejected', left(d.reason, 200)
    FROM nightbatch.dismissed AS d JOIN nightbatch.job AS j ON j.id = d.job_id
    WHERE d.state = 'rejected' AND d.dismissed_at >= %(begin)s AND d.dismissed_at < %(end)s
) AS parts
GROUP BY provider, job_type, outcome, reason ORDER BY jobs DESC, provider, job_type, outcome, reason LIMIT 30;

-- prices: what these days' batches were priced with, and the models without a price
SELECT DISTINCT provider, model, price_source FROM nightbatch.batch
WHERE state = 'loaded' AND submitted_at >= %(begin)s AND submitted_at < %(end)s
ORDER BY provider, model, price_source;

-- first_day: on which anything was sent
SELECT min(day) FROM (
    SELECT min(day) AS day FROM nightbatch_report.batch_rollup UNION ALL SELECT min(day) FROM nightbatch_report.cache_rollup
) AS days;

-- runs: the latest first
SELECT run_id, planned_at, batches, open_batches, jobs, succeeded, failed, requeued, rejected, from_cache, unpriced, paid_again,
    realtime_cost_usd, batch_cost_usd, wasted_cost_usd, savings_usd
FROM nightbatch_report.run_summary WHERE run_id = ANY (
    SELECT id FROM nightbatch.run ORDER BY planned_at DESC LIMIT %(limit)s
) ORDER BY planned_at DESC;

-- progress: the run's own attempts and all that are open, with what their model took lately
WITH shown AS (
    SELECT * FROM nightbatch.batch WHERE closed_at IS NULL OR run_id = %(run_id)s
), typical AS (
    SELECT provider, model, percentile_cont(0.5) WITHIN GROUP (
        ORDER BY greatest(extract(epoch FROM ended_at - submitted_at), 0)) AS seconds
    FROM nightbatch.batch
    WHERE state = 'loaded' AND mode = 'batch' AND submitted_at > now() - interval '30 days' AND ended_at IS NOT NULL
    GROUP BY provider, model
)
SELECT b.id, b.run_id, b.provider, b.model, b.state, b.mode, b.job_count,
    (SELECT coalesce(sum(u.succeeded), 0)::bigint FROM nightbatch_report.batch_rollup AS u WHERE u.batch_id = b.id),
    (SELECT coalesce(sum(u.failed), 0)::bigint FROM nightbatch_report.batch_rollup AS u WHERE u.batch_id = b.id),
    b.provider_batch_id, b.planned_at, b.submitted_at, b.ended_at, b.closed_at, b.cancel_wanted_at, b.error,
    typical.seconds::double precision
FROM shown AS b LEFT JOIN typical ON typical.provider = b.provider AND typical.model = b.model
ORDER BY b.id;

-- outcomes: the latest results, without their payload
SELECT r.job_id, r.batch_id, j.job_type, b.provider, b.model, r.outcome, r.billed, r.batch_cost_usd, r.realtime_cost_usd,
    r.finished_at
FROM (
    SELECT id, provider, model, closed_at FROM nightbatch.batch WHERE state = 'loaded' ORDER BY closed_at DESC LIMIT %(limit)s
) AS b
CROSS JOIN LATERAL (
    SELECT job_id FROM nightbatch.batch_job WHERE batch_id = b.id ORDER BY job_id DESC LIMIT %(limit)s
) AS m
JOIN nightbatch.result AS r ON r.job_id = m.job_id AND r.batch_id = b.id
JOIN nightbatch.job AS j ON j.id = m.job_id
ORDER BY b.closed_at DESC, r.job_id DESC LIMIT %(limit)s;

-- any_job: whether a job was ever inserted
SELECT EXISTS (SELECT FROM nightbatch.job);
