-- run_totals: one run, or several together, as the reporting schema tells it
SELECT string_agg(run_id, ' + ' ORDER BY planned_at), min(planned_at), sum(batches)::bigint, sum(open_batches)::bigint,
    sum(jobs)::bigint, sum(succeeded)::bigint, sum(failed)::bigint, sum(requeued)::bigint, sum(rejected)::bigint,
    sum(unpriced)::bigint, sum(paid_again)::bigint, sum(realtime_cost_usd), sum(batch_cost_usd), sum(wasted_cost_usd),
    sum(savings_usd), sum(from_cache)::bigint
FROM nightbatch_report.run_summary WHERE run_id = ANY (%(run_ids)s) HAVING count(*) > 0;

-- latest_run: the last one that was planned
SELECT run_id FROM nightbatch_report.run_summary ORDER BY planned_at DESC LIMIT 1;

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

-- beyond_text: calls of functions, tokens written into caches and read from them, and thoughts
SELECT count(*) FILTER (WHERE j.job_type = 'raw' AND r.output -> 'message' IS NOT NULL),
    coalesce(sum((r.units ->> 'cache_write_tokens')::bigint), 0)::bigint, coalesce(sum(r.cached_tokens), 0)::bigint,
    coalesce(sum((r.units ->> 'output_reasoning_tokens')::bigint), 0)::bigint
FROM nightbatch.result AS r JOIN nightbatch.job AS j ON j.id = r.job_id;

-- queue: what waits, the largest piles first
SELECT provider, job_type, priority, jobs, oldest FROM nightbatch_report.queue_depth ORDER BY jobs DESC, provider, job_type;

-- results: the newest first
SELECT r.job_id, r.batch_id, b.run_id, j.job_type, b.provider, b.model, r.outcome, r.output, r.finish_reason,
    r.input_tokens, r.cached_tokens, r.output_tokens, r.units, r.realtime_cost_usd, r.batch_cost_usd, r.price_source, r.error,
    r.finished_at
FROM nightbatch.batch AS b
JOIN nightbatch.batch_job AS m ON m.batch_id = b.id
JOIN nightbatch.result AS r ON r.job_id = m.job_id AND r.batch_id = b.id
JOIN nightbatch.job AS j ON j.id = m.job_id
WHERE b.state = 'loaded' AND (%(run_id)s::text IS NULL OR b.run_id = %(run_id)s)
    AND (%(job_type)s::text IS NULL OR j.job_type = %(job_type)s)
ORDER BY b.closed_at DESC, r.job_id DESC LIMIT %(limit)s;

-- councils: how many verdicts are in, the widest spread, and who dissented in it
SELECT count(*), max(spread), (array_agg(dissenter ORDER BY spread DESC NULLS LAST))[1] FROM nightbatch.council WHERE complete;

-- reprocessed: answers that stand beside a new one, and what both cost
SELECT count(*), coalesce(sum(old_batch_cost_usd), 0), coalesce(sum(new_batch_cost_usd), 0) FROM nightbatch.reprocessed
WHERE new_outcome IS NOT NULL;

-- vectors: of all embedding jobs
SELECT count(*) FROM nightbatch.embedding;
