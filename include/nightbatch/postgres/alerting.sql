-- lock_checks: one check at a time, so that two see each other's alerts; the lock ends with the transaction
INSERT INTO nightbatch.named_lock (name) VALUES ('alerts') ON CONFLICT (name) DO UPDATE SET name = EXCLUDED.name;

-- raise_milestone: never twice, whatever became of it, and never one below the highest that was ever reached. CASE keeps other
-- kinds' subjects from being read as numbers, whatever order the planner likes
INSERT INTO nightbatch.alert (kind, subject, message)
SELECT 'savings_milestone', %(subject)s::text, %(message)s
WHERE NOT EXISTS (
    SELECT FROM nightbatch.alert
    WHERE CASE kind WHEN 'savings_milestone' THEN subject::numeric >= %(subject)s::text::numeric END)
RETURNING id;

-- outdo_milestones: who hears of the higher one need not hear of those below it
UPDATE nightbatch.alert SET resolved_at = now()
WHERE resolved_at IS NULL AND CASE kind WHEN 'savings_milestone' THEN subject::numeric < %(subject)s::text::numeric END;

-- last_rate: of the last run that is complete and large enough to have a rate; what is older than a month says nothing of now
SELECT run_id, succeeded, failed FROM nightbatch_report.run_summary
WHERE planned_at > now() - interval '30 days' AND open_batches = 0 AND succeeded + failed >= %(at_least)s
ORDER BY planned_at DESC LIMIT 1;

-- backlog: jobs that were due long ago and wait still. One that was sent, and goes again, has been due since its last answer
-- came, or since a person had it asked for again
WITH waiting AS (
    SELECT j.provider, greatest(j.created_at, j.not_before) AS due
    FROM nightbatch.job AS j
    WHERE j.inserted_by >= nightbatch.seen_before()
        AND j.created_at < now() - make_interval(secs => %(seconds)s)
        AND NOT EXISTS (SELECT FROM nightbatch.open_job AS o WHERE o.job_id = j.id)
        AND NOT EXISTS (SELECT FROM nightbatch.dismissed AS d WHERE d.job_id = j.id)
        AND NOT EXISTS (SELECT FROM nightbatch.result AS r WHERE r.job_id = j.id)
    UNION ALL
    SELECT j.provider, greatest(j.created_at, j.not_before, again.since)
    FROM nightbatch.open_job AS o
    JOIN nightbatch.job AS j ON j.id = o.job_id
    LEFT JOIN LATERAL (
        SELECT greatest(r.finished_at, (SELECT max(d.decided_at) FROM nightbatch.decision AS d
            WHERE d.batch_id = r.batch_id AND d.choice = 'retry')) AS since
        FROM nightbatch.result AS r WHERE r.job_id = o.job_id ORDER BY r.finished_at DESC LIMIT 1
    ) AS again ON true
    WHERE o.batch_id IS NULL AND j.created_at < now() - make_interval(secs => %(seconds)s)
)
SELECT provider, count(*)::integer, min(due) FROM waiting
WHERE due < now() - make_interval(secs => %(seconds)s) GROUP BY provider;

-- unpriced: models whose last batch has usage and no known price. A batch without usage says nothing: its results were lost
SELECT provider, model, id, unpriced FROM (
    SELECT DISTINCT ON (b.provider, b.model) b.provider, b.model, b.id, b.price_source, u.unpriced
    FROM nightbatch.batch AS b
    CROSS JOIN LATERAL (
        SELECT sum(unpriced)::integer AS unpriced, sum(input_tokens) AS tokens
        FROM nightbatch_report.batch_rollup WHERE batch_id = b.id
    ) AS u
    WHERE b.state = 'loaded' AND b.closed_at > now() - interval '30 days' AND u.tokens > 0
    ORDER BY b.provider, b.model, b.closed_at DESC, b.id DESC
) AS latest
WHERE price_source IS NULL AND unpriced > 0;

-- resolve_priced: models that are not without a price any more; a budget's alert of this kind has its number as subject
UPDATE nightbatch.alert SET resolved_at = now()
WHERE kind = 'price_missing' AND position('/' IN subject) > 0 AND NOT subject = ANY (%(unpriced)s) AND resolved_at IS NULL;

-- resolve_settled: what was told of a run that is through, or was overtaken before it began; of a budget that is gone; of an
-- account that another has taken the place of, and that nothing waits for
UPDATE nightbatch.alert AS a SET resolved_at = now()
WHERE resolved_at IS NULL AND (
    (kind = 'night_late' AND CASE WHEN EXISTS (SELECT FROM nightbatch.run AS r WHERE r.id = a.subject)
        THEN NOT EXISTS (SELECT FROM nightbatch.batch AS b WHERE b.run_id = a.subject AND b.closed_at IS NULL)
        ELSE EXISTS (SELECT FROM nightbatch.run AS r WHERE r.planned_at > a.raised_at) END)
    OR (kind IN ('budget_reached', 'price_missing') AND position('/' IN subject) = 0
        AND NOT EXISTS (SELECT FROM nightbatch.budget AS g WHERE g.id::text = a.subject))
    OR (kind = 'account_refused'
        AND NOT EXISTS (SELECT FROM nightbatch.batch AS b
            WHERE b.account_fingerprint = a.subject AND b.closed_at IS NULL AND b.state <> 'planned')
        AND EXISTS (SELECT FROM nightbatch.batch AS b JOIN nightbatch.batch AS next ON next.provider = b.provider
            WHERE b.account_fingerprint = a.subject AND next.account_fingerprint <> a.subject
                AND next.submitted_at > a.raised_at)));

-- night: whether a run was planned, and its attempts that are still open with their jobs
SELECT EXISTS (SELECT FROM nightbatch.run WHERE id = %(run_id)s), count(*)::integer, coalesce(sum(job_count), 0)::integer
FROM nightbatch.batch WHERE run_id = %(run_id)s AND closed_at IS NULL;

-- acknowledge: the first one counts; what has no cause that goes away is over with it
UPDATE nightbatch.alert SET acknowledged_at = now(), acknowledged_by = %(by)s,
    resolved_at = CASE WHEN kind = ANY (%(over)s) THEN now() END
WHERE id = %(alert_id)s AND acknowledged_at IS NULL AND resolved_at IS NULL RETURNING id;

-- alert: one, whatever became of it
SELECT id, kind, subject, message, raised_at, acknowledged_at, acknowledged_by, resolved_at FROM nightbatch.alert
WHERE id = %(alert_id)s;

-- to_send: what is open, nobody has acknowledged, and this notifier has not sent; the oldest first
SELECT id, kind, subject, message, raised_at, acknowledged_at, acknowledged_by, resolved_at FROM nightbatch.alert AS a
WHERE resolved_at IS NULL AND acknowledged_at IS NULL AND NOT EXISTS (
    SELECT FROM nightbatch.alert_sent AS s WHERE s.alert_id = a.id AND s.notifier = %(notifier)s)
ORDER BY raised_at, id;

-- claim: within the transaction that sends; another process waits here for its end, and gets no row if it committed
INSERT INTO nightbatch.alert_sent (alert_id, notifier)
SELECT id, %(notifier)s FROM nightbatch.alert WHERE id = %(alert_id)s AND resolved_at IS NULL AND acknowledged_at IS NULL
ON CONFLICT DO NOTHING RETURNING alert_id;
