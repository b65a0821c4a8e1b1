-- batch_results: a page of what came back for one attempt, in the order of the jobs
SELECT r.job_id, r.batch_id, b.run_id, j.job_type, b.provider, b.model, r.outcome, r.output, r.finish_reason,
    r.input_tokens, r.cached_tokens, r.output_tokens, r.units, r.realtime_cost_usd, r.batch_cost_usd, r.price_source, r.error,
    r.finished_at
FROM nightbatch.batch_job AS m
JOIN nightbatch.batch AS b ON b.id = m.batch_id
JOIN nightbatch.result AS r ON r.job_id = m.job_id AND r.batch_id = m.batch_id
JOIN nightbatch.job AS j ON j.id = m.job_id
WHERE m.batch_id = %(batch_id)s AND m.job_id > %(after)s
ORDER BY m.job_id LIMIT %(limit)s;

-- job: a job as it was inserted, and where it stands
SELECT j.id, j.job_type, j.provider, j.model, j.priority, j.input, j.dedup_key, j.labels, j.not_before, j.deadline,
    j.created_at, s.state, s.attempts, s.batch_id, s.error, s.updated_at
FROM nightbatch.job AS j JOIN nightbatch.job_status AS s ON s.job_id = j.id WHERE j.id = %(job_id)s;

-- job_results: every answer that a job ever had, the newest first
SELECT r.job_id, r.batch_id, b.run_id, j.job_type, b.provider, b.model, r.outcome, r.output, r.finish_reason,
    r.input_tokens, r.cached_tokens, r.output_tokens, r.units, r.realtime_cost_usd, r.batch_cost_usd, r.price_source, r.error,
    r.finished_at
FROM nightbatch.result AS r
JOIN nightbatch.batch AS b ON b.id = r.batch_id
JOIN nightbatch.job AS j ON j.id = r.job_id
WHERE r.job_id = %(job_id)s ORDER BY r.batch_id DESC;

-- sent_request: what a job's request in an attempt, or in its last one, was rendered from: the attempt whose requests these are, the
-- input and the version of the prompt (of a reprocessing those of the past job), and its hash by its place among the members
SELECT m.batch_id, b.id, m.job_id, coalesce(p.job_type, j.job_type), convert_to(coalesce(p.input, j.input)::text, 'UTF8'),
    coalesce(CASE WHEN p.id IS NOT NULL THEN j.input ->> 'prompt_version' END, used.prompt_version),
    (SELECT substring(h.hashes FROM 8 * count(earlier.job_id)::integer + 1 FOR 8) FROM nightbatch.request_hash AS h
        LEFT JOIN nightbatch.batch_job AS earlier ON earlier.batch_id = h.batch_id AND earlier.job_id < m.job_id
        WHERE h.batch_id = b.id GROUP BY h.batch_id)
FROM nightbatch.batch_job AS m
JOIN nightbatch.batch AS sent ON sent.id = m.batch_id
JOIN nightbatch.batch AS b ON b.id = coalesce(sent.duplicate_of, sent.id)
JOIN nightbatch.job AS j ON j.id = m.job_id
LEFT JOIN nightbatch.job AS p
    ON p.id = CASE WHEN j.job_type = 'historical_reprocessing' THEN nightbatch.past_job(j.input) END
LEFT JOIN nightbatch.batch_prompt AS used ON used.batch_id = b.id AND used.job_type = coalesce(p.job_type, j.job_type)
WHERE m.job_id = %(job_id)s AND m.batch_id = coalesce(%(batch_id)s::bigint,
    (SELECT s.batch_id FROM nightbatch.job_status AS s WHERE s.job_id = %(job_id)s));

-- job_types_of: what an attempt is made of
SELECT j.job_type, count(*) FROM nightbatch.batch_job AS m JOIN nightbatch.job AS j ON j.id = m.job_id
WHERE m.batch_id = %(batch_id)s GROUP BY j.job_type ORDER BY j.job_type;

-- alerts: newest first
SELECT id, kind, subject, message, raised_at, acknowledged_at, acknowledged_by, resolved_at FROM nightbatch.alert
WHERE id < %(before)s AND (%(resolved)s OR resolved_at IS NULL) ORDER BY id DESC LIMIT %(limit)s;

-- models: those that were asked in the last 30 days
SELECT DISTINCT provider, model FROM nightbatch.batch WHERE planned_at > now() - interval '30 days' ORDER BY provider, model;

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
