-- known_jobs: those of some ids that there are, whatever became of them
SELECT id FROM nightbatch.job WHERE id = ANY (%(ids)s::bigint[]);

-- samples: a few inputs of each route, to be measured with a tokenizer; a reprocessing brings the past job's
SELECT route.number, s.bytes, coalesce(p.job_type, j.job_type), coalesce(p.input, j.input)::text,
    CASE WHEN p.id IS NOT NULL THEN j.input ->> 'prompt_version' END
FROM unnest(%(routes)s::integer[]) AS route (number)
CROSS JOIN LATERAL (
    SELECT job_id, bytes FROM candidate
    WHERE route = route.number AND due AND reason IS NULL AND bytes < %(most_bytes)s LIMIT %(each)s
) AS s
JOIN nightbatch.job AS j ON j.id = s.job_id
LEFT JOIN nightbatch.job AS p
    ON p.id = CASE WHEN j.job_type = 'historical_reprocessing' THEN nightbatch.past_job(j.input) END;

-- groups: what a plan would send, by route and model
SELECT route, model, count(*)::integer, sum(bytes)::bigint, max(bytes)::bigint FROM candidate
WHERE due AND reason IS NULL GROUP BY route, model ORDER BY route, model;

-- lessons: what came of earlier estimates in the last 30 days, per job: how far the input was off, and the output's length
SELECT u.job_type, u.provider, u.model,
    min(u.input_tokens * e.jobs / (n.jobs * e.input_tokens)), max(u.input_tokens * e.jobs / (n.jobs * e.input_tokens)),
    min(u.output_tokens / n.jobs), max(u.output_tokens / n.jobs)
FROM nightbatch_report.batch_rollup AS u
JOIN nightbatch.batch_estimate AS e USING (batch_id, job_type)
CROSS JOIN LATERAL (SELECT (u.succeeded + u.failed)::double precision AS jobs) AS n
WHERE u.day > current_date - 30 AND n.jobs > 0 AND e.input_tokens > 0 AND u.input_tokens > 0
GROUP BY u.job_type, u.provider, u.model;

-- turnarounds: in seconds, nineteen of twenty batches of the last 30 days were back by then; a few say nothing
SELECT provider, model, percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM turnaround))::double precision
FROM nightbatch_report.batch_turnaround
WHERE submitted_at > now() - interval '30 days' AND ended_at IS NOT NULL AND state = 'loaded' AND mode = 'batch'
GROUP BY provider, model HAVING count(*) >= 5;

-- token_limits: the smallest in force for each provider and model, whatever the account: it is not known before the submit
SELECT provider, bare.model, min(tokens) FROM nightbatch.token_limit AS l
CROSS JOIN LATERAL (SELECT regexp_replace(l.model, '^models/', '') AS model) AS bare
WHERE NOT learned OR noted_at > now() - interval '20 hours' GROUP BY provider, bare.model;

-- make_yardsticks: what one byte and one job of a route and model come to; gone with the transaction
CREATE TEMPORARY TABLE cost_model (
    route integer NOT NULL, model text NOT NULL, tokens_per_byte double precision NOT NULL, reckoned_per_byte double precision NOT NULL,
    usd_per_byte numeric, usd_per_job numeric, token_room bigint, PRIMARY KEY (route, model)
) ON COMMIT DROP;

-- insert_yardsticks: one for each group of candidates
INSERT INTO cost_model
SELECT * FROM unnest(%(routes)s::integer[], %(models)s::text[], %(tokens_per_byte)s::double precision[],
    %(reckoned_per_byte)s::double precision[], %(usd_per_byte)s::numeric[], %(usd_per_job)s::numeric[], %(token_rooms)s::bigint[]);

-- budgets: with what is left of each tonight; the narrow ones first, so that a wide one does not count what they hold back
SELECT b.id, b.usd_per_night, b.usd_per_night - coalesce(r.usd, 0), concat_ws(', ', b.job_type, b.model, b.label)
FROM nightbatch.budget AS b
LEFT JOIN LATERAL (
    SELECT sum(r.usd) AS usd FROM nightbatch.reserved AS r JOIN nightbatch.batch AS a ON a.id = r.batch_id
    WHERE r.budget_id = b.id AND a.planned_at >= %(night)s AND a.state NOT IN ('refused', 'abandoned')
) AS r ON true
ORDER BY num_nonnulls(b.job_type, b.model, b.label) DESC, b.id;

-- hold_back: what a budget has no room for waits, the lowest priority first, and so does what has no price
UPDATE candidate SET due = false
FROM (
    SELECT c.job_id, cost.usd IS NULL AS unpriced, sum(cost.usd) OVER (ORDER BY c.priority DESC, c.job_id) AS up_to
    FROM candidate AS c
    JOIN cost_model AS y ON y.route = c.route AND y.model = c.model
    JOIN nightbatch.job AS j ON j.id = c.job_id
    JOIN nightbatch.budget AS b ON b.id = %(budget_id)s
    CROSS JOIN LATERAL (SELECT c.bytes * y.usd_per_byte + y.usd_per_job AS usd) AS cost
    WHERE c.due AND c.reason IS NULL AND (b.job_type IS NULL OR b.job_type = j.job_type)
        AND (b.model IS NULL OR b.model IN (c.model, 'models/' || c.model)) AND (b.label IS NULL OR nightbatch.has_label(j.labels, b.label))
) AS ranked
WHERE candidate.job_id = ranked.job_id AND (ranked.unpriced OR ranked.up_to > %(usd)s)
RETURNING ranked.unpriced;

-- insert_estimates: what is expected of the attempts just planned
WITH expected AS (
    SELECT x.batch_id, l.job_type, sum(x.jobs)::integer AS jobs, sum(x.bytes * y.reckoned_per_byte) AS reckoned,
        sum(x.bytes * y.tokens_per_byte) AS tokens
    FROM (
        SELECT cut.batch_id, placed.kind, placed.route, count(*) AS jobs, sum(placed.bytes) AS bytes
        FROM placed JOIN cut USING (kind, part) GROUP BY cut.batch_id, placed.kind, placed.route
    ) AS x
    JOIN kind AS k ON k.number = x.kind AND k.route = x.route
    JOIN cost_model AS y ON y.route = k.route AND y.model = k.model
    JOIN unnest(%(lane_numbers)s::integer[], %(lane_types)s::text[]) AS l (number, job_type) ON l.number = x.route
    GROUP BY x.batch_id, l.job_type
), kept AS (
    INSERT INTO nightbatch.batch_estimate (batch_id, job_type, jobs, input_tokens)
    SELECT batch_id, job_type, jobs, reckoned FROM expected
)
UPDATE nightbatch.batch AS b SET estimated_tokens = e.tokens
FROM (SELECT batch_id, ceil(sum(tokens))::bigint AS tokens FROM expected GROUP BY batch_id) AS e WHERE b.id = e.batch_id;

-- reserve: what the attempts just planned may cost, set aside of every budget that they fall under
INSERT INTO nightbatch.reserved (batch_id, budget_id, usd)
SELECT cut.batch_id, g.id, sum(p.bytes * y.usd_per_byte + y.usd_per_job)
FROM placed AS p
JOIN cut USING (kind, part)
JOIN kind AS k ON k.number = p.kind AND k.route = p.route
JOIN cost_model AS y ON y.route = k.route AND y.model = k.model
JOIN nightbatch.job AS j ON j.id = p.job_id
JOIN nightbatch.budget AS g ON (g.job_type IS NULL OR g.job_type = j.job_type) AND (g.model IS NULL OR g.model IN (k.model, 'models/' || k.model))
    AND (g.label IS NULL OR nightbatch.has_label(j.labels, g.label))
GROUP BY cut.batch_id, g.id;

-- room: what the account takes at once (nothing: nobody knows), what of it other attempts hold, and what this one needs
SELECT
    (SELECT min(l.tokens) FROM nightbatch.token_limit AS l
     WHERE l.provider = b.provider AND l.account_fingerprint IN ('', b.account_fingerprint) AND l.model IN ('', b.model, 'models/' || b.model)
         AND (NOT l.learned OR l.noted_at > now() - interval '20 hours')),
    (SELECT coalesce(sum(o.estimated_tokens), 0)::bigint FROM nightbatch.batch AS o
     WHERE o.id <> b.id AND o.provider = b.provider AND o.account_fingerprint = b.account_fingerprint AND o.mode = 'batch'
         AND (o.model = b.model OR %(shared)s) AND o.state IN ('submitting', 'held', 'submitted')),
    coalesce(b.estimated_tokens, 0)
FROM nightbatch.batch AS b WHERE b.id = %(batch_id)s;

-- learn_limit: a refusal says how much is too much; a refusal is free, so a lesson holds only until the next night
INSERT INTO nightbatch.token_limit AS l (provider, account_fingerprint, model, learned, tokens, note)
SELECT provider, account_fingerprint, CASE WHEN %(shared)s THEN '' ELSE model END, true, %(tokens)s, %(note)s
FROM nightbatch.batch WHERE id = %(batch_id)s
ON CONFLICT (provider, account_fingerprint, model, learned) DO UPDATE
SET tokens = CASE WHEN l.noted_at > now() - interval '20 hours' THEN least(l.tokens, excluded.tokens) ELSE excluded.tokens END,
    noted_at = now(), note = excluded.note;

-- lack_room: so that the run can tell that another wave is wanted
UPDATE nightbatch.batch SET lacked_room = true WHERE id = %(batch_id)s;

-- wants_another_wave: jobs of this run went back for want of room, and something of it came through or was learned
SELECT EXISTS (
    SELECT FROM nightbatch.batch AS b JOIN nightbatch.batch_job AS m ON m.batch_id = b.id
    JOIN nightbatch.open_job AS o ON o.job_id = m.job_id AND o.batch_id IS NULL
    WHERE b.run_id = %(run_id)s AND b.lacked_room)
AND (EXISTS (SELECT FROM nightbatch.batch WHERE run_id = %(run_id)s AND state = 'loaded')
    OR EXISTS (SELECT FROM nightbatch.token_limit AS l JOIN nightbatch.run AS r ON r.id = %(run_id)s
        WHERE l.learned AND l.noted_at > r.planned_at));

-- usual: tokens per answered job of one type, provider and model in the last 30 days; no row without an answer. Jobs that failed
-- unpaid count as answers of nothing, so that savings made of this are not overstated
SELECT sum(succeeded + failed)::bigint,
    (sum(input_tokens) / sum(succeeded + failed))::double precision,
    (sum(cached_tokens) / sum(succeeded + failed))::double precision,
    (sum(output_tokens) / sum(succeeded + failed))::double precision
FROM nightbatch_report.batch_rollup
WHERE day > (now() AT TIME ZONE 'UTC')::date - 30 AND job_type = %(job_type)s AND provider = %(provider)s AND model = %(model)s
HAVING sum(succeeded + failed) > 0 AND sum(input_tokens) > 0;
