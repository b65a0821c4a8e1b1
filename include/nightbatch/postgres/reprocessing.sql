-- make_past: what was answered in an interval, and what it would be sent as; gone with the transaction. Jobs in the order in
-- which they count, so that asking twice for a part of a day finds the same part
CREATE TEMPORARY TABLE past ON COMMIT DROP AS
SELECT DISTINCT ON (j.priority, j.id)
    j.id AS job_id, j.job_type, j.priority, j.labels, b.provider AS old_provider, b.model AS old_model,
    to_kind.provider, coalesce(%(to_model)s, CASE WHEN to_kind.provider = b.provider THEN b.model ELSE to_kind.default_model END) AS model,
    coalesce(%(prompt_version)s, to_kind.prompt_version) AS prompt_version, p.prompt_version AS old_prompt_version,
    r.input_tokens, r.output_tokens
FROM nightbatch.batch AS b
JOIN nightbatch.batch_job AS m ON m.batch_id = b.id
JOIN nightbatch.result AS r ON r.job_id = m.job_id AND r.batch_id = b.id
JOIN nightbatch.job AS j ON j.id = m.job_id
JOIN unnest(%(job_types)s::text[], %(providers)s::text[], %(default_models)s::text[], %(prompt_versions)s::text[])
    AS to_kind (job_type, provider, default_model, prompt_version)
    ON to_kind.job_type = j.job_type AND to_kind.provider = coalesce(%(to_provider)s, b.provider)
LEFT JOIN nightbatch.batch_prompt AS p ON p.batch_id = b.id AND p.job_type = j.job_type
WHERE b.closed_at >= %(since)s AND b.closed_at < %(until)s AND b.state = 'loaded' AND b.duplicate_of IS NULL
    AND (%(from_model)s::text IS NULL OR b.model = %(from_model)s)
    AND NOT EXISTS (SELECT FROM nightbatch.open_job AS o WHERE o.job_id = j.id)
ORDER BY j.priority DESC, j.id, b.id DESC;

-- drop_unchanged: the same question to the same model would only be paid for once more
DELETE FROM past WHERE provider = old_provider AND model = old_model
    AND prompt_version IS NOT DISTINCT FROM coalesce(old_prompt_version, prompt_version);

-- keep_first: at most so many, the highest priority first
DELETE FROM past WHERE job_id NOT IN (SELECT job_id FROM past ORDER BY priority DESC, job_id LIMIT %(max_jobs)s);

-- drop_erased: what retention has taken the input of cannot be asked again
DELETE FROM past USING nightbatch.job AS j WHERE j.id = past.job_id AND j.erased_at IS NOT NULL;

-- expected: what the same usage comes to elsewhere
SELECT job_type, provider, model, count(*)::integer, coalesce(sum(input_tokens), 0)::bigint, coalesce(sum(output_tokens), 0)::bigint,
    count(*) FILTER (WHERE input_tokens IS NULL)::integer, bool_or(provider <> old_provider)
FROM past GROUP BY job_type, provider, model ORDER BY job_type, provider, model;

-- insert_again: once for each past job, target and prompt version, however often it is asked for
INSERT INTO nightbatch.job (job_type, provider, model, priority, input, labels, dedup_key)
SELECT 'historical_reprocessing', provider, model, priority,
    json_strip_nulls(json_build_object('job_id', job_id, 'prompt_version', %(prompt_version)s::text)), labels,
    concat_ws(':', 'reprocess', job_id, provider, model, coalesce(prompt_version, '-'))
FROM past ORDER BY priority DESC, job_id
ON CONFLICT (dedup_key) WHERE dedup_key IS NOT NULL DO NOTHING;
