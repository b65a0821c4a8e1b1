-- copy_results: the way in for a whole batch
COPY nightbatch.result (job_id, batch_id, outcome, billed, output, finish_reason, input_tokens, cached_tokens, output_tokens,
    realtime_cost_usd, batch_cost_usd, price_source, units, error) FROM STDIN;

-- copy_answers: what the outputs of a batch do not hold
COPY nightbatch.answer (job_id, batch_id, rest) FROM STDIN;

-- copy_embeddings: a job loaded again under another attempt replaces its vectors (see forget_embeddings)
COPY nightbatch.embedding (job_id, position, batch_id, embedding) FROM STDIN;

-- embedding_is_vector: or an array, on a server without pgvector
SELECT atttypid = to_regtype('public.vector') FROM pg_attribute
WHERE attrelid = 'nightbatch.embedding'::regclass AND attname = 'embedding';

-- date_submission: when the provider says that it created the batch, as far as that lies between the intent and the time at which
-- its id was written down. An adopted batch is older than that time by as much as it took to find it
UPDATE nightbatch.batch SET submitted_at = greatest(intent_at, least(%(created_at)s, submitted_at))
WHERE id = %(batch_id)s AND state = 'submitted' RETURNING *;

-- disown: the batch was somebody else's; its id is free for its owner, before this attempt is held (see hold_disowned)
UPDATE nightbatch.batch SET state = 'uploaded', provider_batch_id = NULL, submitted_at = NULL, error = %(error)s
WHERE id = %(batch_id)s AND state = 'submitted' RETURNING id;

-- hold_disowned: the attempt is in doubt as before
UPDATE nightbatch.batch SET state = 'held' WHERE id = %(batch_id)s AND state = 'uploaded';

-- forget_embeddings: vectors of earlier attempts of the same jobs
DELETE FROM nightbatch.embedding AS e USING nightbatch.batch_job AS m
WHERE m.batch_id = %(batch_id)s AND e.job_id = m.job_id AND e.batch_id <> m.batch_id;

-- insert_rejects: raw lines that could not be matched or read
INSERT INTO nightbatch.reject (batch_id, reason, raw) SELECT %(batch_id)s, reason, raw
FROM unnest(%(reasons)s::text[], %(raws)s::bytea[]) AS line (reason, raw);

-- insert_missing: members of the batch for which no line came back
INSERT INTO nightbatch.result (job_id, batch_id, outcome, billed, error)
SELECT gone.job_id, b.id, CASE WHEN b.duplicate_of IS NULL THEN 'missing' ELSE 'duplicate' END, %(billed)s, %(error)s
FROM nightbatch.batch AS b, unnest(%(job_ids)s::bigint[]) AS gone (job_id)
WHERE b.id = %(batch_id)s;

-- requeue: what was not billed and is worth another try goes again, until the type's attempts are used up. Without a number none
-- was used up: it failed for the account, not for itself
UPDATE nightbatch.open_job AS o SET batch_id = NULL, attempts = o.attempts - (again.allowed IS NULL)::integer
FROM unnest(%(job_ids)s::bigint[], %(allowed)s::integer[]) AS again (job_id, allowed)
WHERE o.job_id = again.job_id AND o.batch_id = %(batch_id)s AND (again.allowed IS NULL OR o.attempts < again.allowed);

-- close_jobs: all others of the batch have their last word
DELETE FROM nightbatch.open_job AS o USING nightbatch.batch_job AS m
WHERE m.batch_id = %(batch_id)s AND o.job_id = m.job_id AND o.batch_id = m.batch_id;

-- close_loaded: together with the results, or not at all
UPDATE nightbatch.batch SET state = 'loaded', closed_at = now(), ended_at = greatest(submitted_at, coalesce(%(ended_at)s, ended_at, now())),
    provider_status = %(status)s, price_source = %(price_source)s, error = %(error)s
WHERE id = %(batch_id)s AND state = 'submitted' RETURNING id;

-- roll_up: the figures of one attempt, once. Waste is what was paid for and cannot be used; a duplicate, against which no realtime
-- price stands, is taken off the savings by its price already. What is the same for the whole
-- attempt is joined to the sums.
WITH done AS MATERIALIZED (
    SELECT job_type, labels, mode, outcome, billed, requeued, paid_again, input_tokens, cached_tokens, output_tokens,
        realtime_cost_usd, batch_cost_usd
    FROM nightbatch.request WHERE batch_id = %(batch_id)s
), attempt AS (
    SELECT id AS batch_id, run_id, (submitted_at AT TIME ZONE 'UTC')::date AS day, provider, model
    FROM nightbatch.batch WHERE id = %(batch_id)s
), by_type AS (
    SELECT job_type,
        count(*) AS jobs, count(*) FILTER (WHERE outcome = 'succeeded') AS succeeded,
        count(*) FILTER (WHERE outcome <> 'succeeded' AND NOT requeued) AS failed,
        count(*) FILTER (WHERE requeued) AS requeued,
        coalesce(sum(input_tokens), 0) AS input_tokens, coalesce(sum(cached_tokens), 0) AS cached_tokens,
        coalesce(sum(output_tokens), 0) AS output_tokens,
        coalesce(sum(realtime_cost_usd), 0) AS realtime_cost_usd, coalesce(sum(batch_cost_usd), 0) AS batch_cost_usd,
        coalesce(sum(batch_cost_usd) FILTER (WHERE outcome NOT IN ('succeeded', 'duplicate')), 0) AS wasted_cost_usd,
        count(*) FILTER (WHERE billed AND batch_cost_usd IS NULL) AS unpriced,
        count(*) FILTER (WHERE paid_again) AS paid_again, count(*) FILTER (WHERE mode = 'realtime') AS realtime_jobs
    FROM done GROUP BY job_type
), rolled AS (
    INSERT INTO nightbatch_report.batch_rollup (batch_id, job_type, run_id, day, provider, model, jobs, succeeded, failed,
        requeued, input_tokens, cached_tokens, output_tokens, realtime_cost_usd, batch_cost_usd, wasted_cost_usd, unpriced,
        paid_again, realtime_jobs)
    SELECT batch_id, job_type, run_id, day, provider, model, jobs, succeeded, failed, requeued, input_tokens, cached_tokens,
        output_tokens, realtime_cost_usd, batch_cost_usd, wasted_cost_usd, unpriced, paid_again, realtime_jobs
    FROM by_type, attempt
), labelled AS (
    SELECT done.*, pair.name, pair.name || '=' || (pair.value #>> '{}') AS label
    FROM done CROSS JOIN LATERAL jsonb_each(labels) AS pair (name, value)
    WHERE labels <> '{}' AND jsonb_typeof(pair.value) IN ('string', 'number', 'boolean')
)
INSERT INTO nightbatch_report.label_rollup (batch_id, run_id, label, day, jobs, succeeded, failed, requeued, realtime_jobs,
    paid_again, unpriced, input_tokens, cached_tokens, output_tokens, realtime_cost_usd, batch_cost_usd, wasted_cost_usd)
SELECT batch_id, run_id, label, day,
    count(*), count(*) FILTER (WHERE outcome = 'succeeded'),
    count(*) FILTER (WHERE outcome <> 'succeeded' AND NOT requeued), count(*) FILTER (WHERE requeued),
    count(*) FILTER (WHERE mode = 'realtime'), count(*) FILTER (WHERE paid_again),
    count(*) FILTER (WHERE billed AND batch_cost_usd IS NULL),
    coalesce(sum(input_tokens), 0), coalesce(sum(cached_tokens), 0), coalesce(sum(output_tokens), 0),
    coalesce(sum(realtime_cost_usd), 0), coalesce(sum(batch_cost_usd), 0),
    coalesce(sum(batch_cost_usd) FILTER (WHERE outcome NOT IN ('succeeded', 'duplicate')), 0)
FROM labelled, attempt
WHERE name IN (SELECT name FROM labelled GROUP BY name HAVING count(DISTINCT label) <= 100)
GROUP BY batch_id, run_id, label, day;

-- loaded_figures: what an earlier load wrote
SELECT coalesce(sum(jobs), 0)::integer, coalesce(sum(succeeded), 0)::integer, coalesce(sum(failed), 0)::integer,
    coalesce(sum(requeued), 0)::integer, (SELECT count(*)::integer FROM nightbatch.reject WHERE batch_id = %(batch_id)s)
FROM nightbatch_report.batch_rollup WHERE batch_id = %(batch_id)s;

-- price_overrides: all of them; there are few
SELECT provider, model, valid_from, valid_to, input_usd, cached_input_usd, output_usd, batch_input_usd,
    batch_cached_input_usd, batch_output_usd, note, other_usd::text, batch_other_usd::text
FROM nightbatch.price_override ORDER BY valid_from, id;

-- price_factors: all of them; there are few
SELECT provider, term, valid_from, valid_to, factor FROM nightbatch.price_factor ORDER BY valid_from, id;

-- want_load: a person wants a loaded batch read once more; the first wish counts
UPDATE nightbatch.batch SET load_wanted_at = coalesce(load_wanted_at, now())
WHERE id = %(batch_id)s AND state = 'loaded' AND duplicate_of IS NULL AND mode = 'batch' RETURNING id;

-- wanted_loads: oldest wish first
SELECT id FROM nightbatch.batch WHERE load_wanted_at IS NOT NULL ORDER BY load_wanted_at, id;

-- load_done: whatever came of it
UPDATE nightbatch.batch SET load_wanted_at = NULL WHERE id = %(batch_id)s;

-- forget_missing: their lines are looked for once more; which they are, when that was, and whether a later attempt answered since
DELETE FROM nightbatch.result AS r WHERE r.batch_id = %(batch_id)s AND r.outcome = 'missing'
RETURNING r.job_id, r.finished_at,
    EXISTS (SELECT FROM nightbatch.result AS later WHERE later.job_id = r.job_id AND later.finished_at > r.finished_at);

-- keep_moments: what is filled in is no later word than the one whose place it takes
UPDATE nightbatch.result AS r SET finished_at = kept.at
FROM unnest(%(job_ids)s::bigint[], %(moments)s::timestamptz[]) AS kept (job_id, at)
WHERE r.batch_id = %(batch_id)s AND r.job_id = kept.job_id;

-- billed_results: how many of an attempt's were paid for, as far as they were read
SELECT count(*)::integer FROM nightbatch.result WHERE batch_id = %(batch_id)s AND billed AND outcome <> 'missing';

-- forget_rolled_up: the sums of an attempt are made anew
WITH labels AS (
    DELETE FROM nightbatch_report.label_rollup WHERE batch_id = %(batch_id)s
)
DELETE FROM nightbatch_report.batch_rollup WHERE batch_id = %(batch_id)s;

-- insert_new_rejects: as insert_rejects, without those that are kept already
INSERT INTO nightbatch.reject (batch_id, reason, raw) SELECT %(batch_id)s, reason, raw
FROM unnest(%(reasons)s::text[], %(raws)s::bytea[]) AS line (reason, raw)
WHERE NOT EXISTS (SELECT FROM nightbatch.reject AS k WHERE k.batch_id = %(batch_id)s AND k.raw = line.raw);

-- price_again: where the first load found none of it
UPDATE nightbatch.batch SET price_source = coalesce(price_source, %(price_source)s) WHERE id = %(batch_id)s;
