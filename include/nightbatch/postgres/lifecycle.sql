-- lock_planning: the same lock as a plan's, so that a job is either sent or taken out, never both; ends with the transaction
INSERT INTO nightbatch.named_lock (name) VALUES ('plan') ON CONFLICT (name) DO UPDATE SET name = EXCLUDED.name;

-- asks_the_cache: whether any candidate may ask; one look into an index that is empty where nobody does
SELECT newest.id IS NOT NULL AND EXISTS (SELECT FROM candidate WHERE job_id <= newest.id)
FROM (SELECT max(id) AS id FROM nightbatch.job WHERE cache_days IS NOT NULL) AS newest;

-- make_asking: the due candidates that ask. What was sent before goes its own way; a reprocessing wants a new answer
CREATE TEMPORARY TABLE asking ON COMMIT DROP AS
SELECT c.job_id, j.job_type, route.provider, c.model, j.cache_days,
    nightbatch.cache_key(j.job_type, route.provider, c.model, route.prompt_version, j.input) AS key
FROM nightbatch.job AS j
JOIN candidate AS c ON c.job_id = j.id
JOIN unnest(%(lane_numbers)s::integer[], %(lane_providers)s::text[], %(lane_versions)s::text[])
    AS route (number, provider, prompt_version) ON route.number = c.route
WHERE j.cache_days IS NOT NULL AND c.due AND c.reason IS NULL AND j.job_type = ANY (%(job_types)s)
    AND NOT EXISTS (SELECT FROM nightbatch.result AS r WHERE r.job_id = j.id);

-- read_batches: entries for what was loaded since the last time that somebody asked, so that a night reads each input once
WITH asked AS (
    SELECT provider, model, job_type, max(cache_days) AS days FROM asking GROUP BY provider, model, job_type
), fresh AS (
    INSERT INTO nightbatch.cache_read (batch_id, job_type)
    SELECT b.id, asked.job_type FROM nightbatch.batch AS b JOIN asked USING (provider, model)
    WHERE b.state = 'loaded' AND b.duplicate_of IS NULL AND b.closed_at > now() - make_interval(days => asked.days)
    ORDER BY b.id, asked.job_type
    ON CONFLICT DO NOTHING RETURNING batch_id, job_type
)
INSERT INTO nightbatch.cache_entry (key, job_id, batch_id, finished_at)
SELECT nightbatch.cache_key(j.job_type, b.provider, b.model, p.prompt_version, j.input), r.job_id, r.batch_id, r.finished_at
FROM fresh
JOIN nightbatch.batch AS b ON b.id = fresh.batch_id
JOIN nightbatch.batch_job AS m ON m.batch_id = b.id
JOIN nightbatch.job AS j ON j.id = m.job_id AND j.job_type = fresh.job_type
JOIN nightbatch.result AS r ON r.job_id = m.job_id AND r.batch_id = m.batch_id
LEFT JOIN nightbatch.batch_prompt AS p ON p.batch_id = b.id AND p.job_type = j.job_type
WHERE r.outcome = 'succeeded' AND r.billed AND j.erased_at IS NULL;

-- make_answered: the latest result of an equal job, for each that asks
CREATE TEMPORARY TABLE answered ON COMMIT DROP AS
SELECT a.job_id, a.job_type, a.provider, a.model, e.job_id AS from_job_id, e.batch_id, e.realtime_cost_usd
FROM asking AS a
CROSS JOIN LATERAL (
    SELECT e.job_id, e.batch_id, r.realtime_cost_usd
    FROM nightbatch.cache_entry AS e
    JOIN nightbatch.result AS r ON r.job_id = e.job_id AND r.batch_id = e.batch_id
    WHERE e.key = a.key AND e.finished_at > now() - make_interval(days => a.cache_days) AND r.erased_at IS NULL
    ORDER BY e.finished_at DESC LIMIT 1
) AS e;

-- leave_out: what is answered is no candidate any more
DELETE FROM candidate USING answered WHERE candidate.job_id = answered.job_id;

-- copy_answers: an answer is a result of its own, under the attempt that paid for it; nothing is billed
WITH copied AS (
    INSERT INTO nightbatch.result (job_id, batch_id, outcome, billed, output, finish_reason)
    SELECT a.job_id, a.batch_id, r.outcome, false, r.output, r.finish_reason
    FROM answered AS a JOIN nightbatch.result AS r ON r.job_id = a.from_job_id AND r.batch_id = a.batch_id
), kept_beside AS (
    INSERT INTO nightbatch.answer (job_id, batch_id, rest)
    SELECT a.job_id, a.batch_id, k.rest
    FROM answered AS a JOIN nightbatch.answer AS k ON k.job_id = a.from_job_id AND k.batch_id = a.batch_id
), vectors AS (
    INSERT INTO nightbatch.embedding (job_id, position, batch_id, embedding)
    SELECT a.job_id, e.position, a.batch_id, e.embedding
    FROM answered AS a JOIN nightbatch.embedding AS e ON e.job_id = a.from_job_id AND e.batch_id = a.batch_id
), closed AS (
    DELETE FROM nightbatch.open_job AS o USING answered AS a WHERE o.job_id = a.job_id
), kept AS (
    INSERT INTO nightbatch.cached (job_id, from_job_id, run_id, realtime_cost_usd)
    SELECT job_id, from_job_id, %(run_id)s, realtime_cost_usd FROM answered
), labelled AS (
    SELECT a.realtime_cost_usd, pair.name, pair.name || '=' || (pair.value #>> '{}') AS label
    FROM answered AS a JOIN nightbatch.job AS j ON j.id = a.job_id
    CROSS JOIN LATERAL jsonb_each(j.labels) AS pair (name, value)
    WHERE jsonb_typeof(pair.value) IN ('string', 'number', 'boolean')
), by_label AS (
    INSERT INTO nightbatch_report.label_rollup (run_id, label, day, jobs, succeeded, failed, requeued, from_cache, realtime_jobs,
        paid_again, unpriced, input_tokens, cached_tokens, output_tokens, realtime_cost_usd, batch_cost_usd, wasted_cost_usd)
    SELECT %(run_id)s, label, (now() AT TIME ZONE 'UTC')::date, count(*), count(*), 0, 0, count(*), 0, 0,
        count(*) FILTER (WHERE realtime_cost_usd IS NULL), 0, 0, 0, coalesce(sum(realtime_cost_usd), 0), 0, 0
    FROM labelled
    WHERE name IN (SELECT name FROM labelled GROUP BY name HAVING count(DISTINCT label) <= 100)
    GROUP BY label
)
INSERT INTO nightbatch_report.cache_rollup (run_id, provider, model, job_type, day, jobs, realtime_cost_usd, unpriced)
SELECT %(run_id)s, provider, model, job_type, (now() AT TIME ZONE 'UTC')::date, count(*),
    coalesce(sum(realtime_cost_usd), 0), count(*) FILTER (WHERE realtime_cost_usd IS NULL)
FROM answered GROUP BY provider, model, job_type;

-- cancel_jobs: those that no attempt holds end here
WITH waiting AS (
    DELETE FROM nightbatch.open_job WHERE job_id = ANY (%(job_ids)s) AND batch_id IS NULL RETURNING job_id
), new AS (
    SELECT j.id AS job_id FROM nightbatch.job AS j WHERE j.id = ANY (%(job_ids)s)
        AND NOT EXISTS (SELECT FROM nightbatch.open_job AS o WHERE o.job_id = j.id)
        AND NOT EXISTS (SELECT FROM nightbatch.dismissed AS d WHERE d.job_id = j.id)
        AND NOT EXISTS (SELECT FROM nightbatch.result AS r WHERE r.job_id = j.id)
)
INSERT INTO nightbatch.dismissed (job_id, state, reason)
SELECT job_id, 'cancelled', %(reason)s FROM (SELECT job_id FROM waiting UNION ALL SELECT job_id FROM new) AS ended
RETURNING job_id;

-- states_of: what keeps the others from being cancelled
SELECT job_id, state, batch_id FROM nightbatch.job_status WHERE job_id = ANY (%(job_ids)s) ORDER BY job_id;

-- due_batches: loaded attempts whose payloads of a type have had their time
SELECT b.id, u.job_type, coalesce(t.days, %(default_days)s)
FROM nightbatch_report.batch_rollup AS u
JOIN nightbatch.batch AS b ON b.id = u.batch_id
LEFT JOIN unnest(%(job_types)s::text[], %(days)s::integer[]) AS t (job_type, days) ON t.job_type = u.job_type
WHERE b.closed_at < now() - make_interval(days => nullif(coalesce(t.days, %(default_days)s), 0))
    AND NOT EXISTS (SELECT FROM nightbatch.batch_erased AS e WHERE e.batch_id = u.batch_id AND e.job_type = u.job_type)
ORDER BY b.id, u.job_type;

-- erase_members: a page of an attempt's jobs; where it ends, or nothing after the last. A job that goes again, or was answered
-- later, is left to that later attempt. The reference of a reprocessing is no payload, and tells old from new
WITH page AS (
    SELECT job_id FROM nightbatch.batch_job WHERE batch_id = %(batch_id)s AND job_id > %(after)s ORDER BY job_id LIMIT %(size)s
), due AS (
    SELECT j.id FROM page JOIN nightbatch.job AS j ON j.id = page.job_id
    WHERE j.job_type = %(job_type)s
        AND NOT EXISTS (SELECT FROM nightbatch.open_job AS o WHERE o.job_id = j.id)
        AND NOT EXISTS (SELECT FROM nightbatch.result AS r
            WHERE r.job_id = j.id AND r.finished_at > now() - make_interval(days => %(days)s))
        AND NOT EXISTS (SELECT FROM nightbatch.dismissed AS d WHERE d.job_id = j.id)
), inputs AS (
    UPDATE nightbatch.job AS j
    SET input = 'null', input_sha256 = sha256(convert_to(j.input::text, 'UTF8')), erased_at = now()
    FROM due WHERE j.id = due.id AND j.erased_at IS NULL AND j.job_type <> 'historical_reprocessing'
), outputs AS (
    UPDATE nightbatch.result AS r SET output = NULL, erased_at = now() FROM due WHERE r.job_id = due.id AND r.erased_at IS NULL
), kept_beside AS (
    DELETE FROM nightbatch.answer AS k USING due WHERE k.job_id = due.id
), vectors AS (
    DELETE FROM nightbatch.embedding AS e USING due WHERE e.job_id = due.id
)
SELECT max(page.job_id), count(due.id) FROM page LEFT JOIN due ON due.id = page.job_id HAVING count(*) > 0;

-- finish_batch: its jobs of this type are done with
INSERT INTO nightbatch.batch_erased (batch_id, job_type) VALUES (%(batch_id)s, %(job_type)s) ON CONFLICT DO NOTHING;

-- erase_rejects: raw lines stay as long as the longest of the attempt's types
UPDATE nightbatch.reject SET raw = NULL, erased_at = now()
WHERE batch_id = %(batch_id)s AND erased_at IS NULL AND NOT EXISTS (
    SELECT FROM nightbatch_report.batch_rollup AS u WHERE u.batch_id = %(batch_id)s AND NOT EXISTS (
        SELECT FROM nightbatch.batch_erased AS e WHERE e.batch_id = u.batch_id AND e.job_type = u.job_type));

-- erase_others: a page of the jobs that ended without an attempt of their own, dismissed or answered by the cache
WITH ended AS (
    SELECT job_id, dismissed_at AS at FROM nightbatch.dismissed WHERE NOT erased
    UNION ALL
    SELECT job_id, answered_at FROM nightbatch.cached WHERE NOT erased
), due AS (
    SELECT j.id FROM ended JOIN nightbatch.job AS j ON j.id = ended.job_id
    LEFT JOIN unnest(%(job_types)s::text[], %(days)s::integer[]) AS t (job_type, days) ON t.job_type = j.job_type
    WHERE ended.at < now() - make_interval(days => nullif(coalesce(t.days, %(default_days)s), 0))
    LIMIT %(size)s
), inputs AS (
    UPDATE nightbatch.job AS j
    SET input = 'null', input_sha256 = sha256(convert_to(j.input::text, 'UTF8')), erased_at = now()
    FROM due WHERE j.id = due.id AND j.erased_at IS NULL AND j.job_type <> 'historical_reprocessing'
), outputs AS (
    UPDATE nightbatch.result AS r SET output = NULL, erased_at = now() FROM due WHERE r.job_id = due.id AND r.erased_at IS NULL
), kept_beside AS (
    DELETE FROM nightbatch.answer AS k USING due WHERE k.job_id = due.id
), vectors AS (
    DELETE FROM nightbatch.embedding AS e USING due WHERE e.job_id = due.id
), dismissals AS (
    UPDATE nightbatch.dismissed AS d SET erased = true FROM due WHERE d.job_id = due.id
), answers AS (
    UPDATE nightbatch.cached AS c SET erased = true FROM due WHERE c.job_id = due.id
)
SELECT count(*) FROM due;

-- unanswered: jobs of a loaded attempt whose last word it was, and that have no usable answer. Erased ones cannot be asked again
SELECT r.job_id, r.billed, r.batch_cost_usd
FROM nightbatch.batch_job AS m
JOIN nightbatch.result AS r ON r.job_id = m.job_id AND r.batch_id = m.batch_id
JOIN nightbatch.job AS j ON j.id = m.job_id
WHERE m.batch_id = %(batch_id)s AND r.outcome NOT IN ('succeeded', 'duplicate') AND j.erased_at IS NULL
    AND NOT EXISTS (SELECT FROM nightbatch.open_job AS o WHERE o.job_id = m.job_id)
    AND NOT EXISTS (SELECT FROM nightbatch.dismissed AS d WHERE d.job_id = m.job_id)
    AND NOT EXISTS (SELECT FROM nightbatch.result AS later JOIN nightbatch.batch AS l ON l.id = later.batch_id
        WHERE later.job_id = m.job_id AND later.finished_at > r.finished_at AND l.duplicate_of IS NULL);

-- reopen: they are unfinished again, and it is known that a person wanted that
WITH again AS (
    INSERT INTO nightbatch.open_job (job_id, attempts)
    SELECT job_id, (SELECT count(*) FROM nightbatch.result AS r WHERE r.job_id = mine.job_id AND r.outcome <> 'duplicate')
    FROM unnest(%(job_ids)s::bigint[]) AS mine (job_id)
    ON CONFLICT DO NOTHING RETURNING job_id
)
INSERT INTO nightbatch.retried (batch_id, job_id) SELECT %(batch_id)s, job_id FROM again;

-- ended: jobs that ended without a usable answer, rejected or with their last result, and that could be asked again; by their ids,
-- the run that they ended in, and words of the reason, as far as these are given. Neither erased ones nor those under way
WITH rejected AS (
    SELECT d.job_id, NULL::bigint AS batch_id, d.run_id, d.reason, false AS billed, NULL::numeric AS usd
    FROM nightbatch.dismissed AS d WHERE d.state = 'rejected' AND (%(job_ids)s::bigint[] = '{}' OR d.job_id = ANY (%(job_ids)s))
), unusable AS (
    SELECT r.job_id, r.batch_id, b.run_id, coalesce(r.error, r.outcome) AS reason, r.billed, r.batch_cost_usd AS usd
    FROM nightbatch.result AS r JOIN nightbatch.batch AS b ON b.id = r.batch_id AND b.state = 'loaded' AND b.duplicate_of IS NULL
    WHERE r.outcome NOT IN ('succeeded', 'duplicate') AND (%(job_ids)s::bigint[] = '{}' OR r.job_id = ANY (%(job_ids)s))
        AND NOT EXISTS (SELECT FROM nightbatch.dismissed AS d WHERE d.job_id = r.job_id)
        AND NOT EXISTS (SELECT FROM nightbatch.result AS later JOIN nightbatch.batch AS l ON l.id = later.batch_id
            WHERE later.job_id = r.job_id AND later.finished_at > r.finished_at AND l.duplicate_of IS NULL)
)
SELECT e.job_id, e.batch_id, e.reason, e.billed, e.usd
FROM (SELECT * FROM rejected UNION ALL SELECT * FROM unusable) AS e JOIN nightbatch.job AS j ON j.id = e.job_id
WHERE j.erased_at IS NULL AND NOT EXISTS (SELECT FROM nightbatch.open_job AS o WHERE o.job_id = e.job_id)
    AND (%(run_id)s::text IS NULL OR e.run_id = %(run_id)s)
    AND (%(words)s::text IS NULL OR position(lower(%(words)s) IN lower(e.reason)) > 0)
ORDER BY e.job_id;

-- decide_about_jobs: who wanted which jobs asked again, and why
INSERT INTO nightbatch.decision (choice, decided_by, reason, asked) VALUES ('retry', %(by)s, %(reason)s, %(asked)s) RETURNING id;

-- reopen_ended: they are unfinished again, with all their attempts before them; what stood against them is kept
WITH mine AS (
    SELECT * FROM unnest(%(job_ids)s::bigint[], %(batch_ids)s::bigint[], %(reasons)s::text[]) AS m (job_id, batch_id, reason)
), undone AS (
    DELETE FROM nightbatch.dismissed AS d USING mine WHERE d.job_id = mine.job_id
), again AS (
    INSERT INTO nightbatch.open_job (job_id) SELECT job_id FROM mine ON CONFLICT DO NOTHING RETURNING job_id
), wanted AS (
    INSERT INTO nightbatch.retried (batch_id, job_id)
    SELECT mine.batch_id, job_id FROM again JOIN mine USING (job_id) WHERE mine.batch_id IS NOT NULL ON CONFLICT DO NOTHING
)
INSERT INTO nightbatch.reopened (decision_id, job_id, reason) SELECT %(decision_id)s, job_id, reason FROM again JOIN mine USING (job_id);
