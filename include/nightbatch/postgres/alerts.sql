-- raise_alert: once, until it is resolved; a row comes back only the first time
INSERT INTO nightbatch.alert (kind, subject, message) VALUES (%(kind)s, %(subject)s, %(message)s)
ON CONFLICT (kind, subject) WHERE resolved_at IS NULL DO UPDATE SET message = excluded.message
RETURNING (xmax = 0) AS is_new;

-- resolve_alert: by itself, when its cause is gone
UPDATE nightbatch.alert SET resolved_at = now() WHERE kind = %(kind)s AND subject = %(subject)s AND resolved_at IS NULL;

-- open_alerts: newest first
SELECT id, kind, subject, message, raised_at, acknowledged_at, acknowledged_by, resolved_at FROM nightbatch.alert
WHERE resolved_at IS NULL ORDER BY raised_at DESC, id DESC;

-- has_open_alert: whether it was raised and not resolved since
SELECT EXISTS (SELECT FROM nightbatch.alert WHERE kind = %(kind)s AND subject = %(subject)s AND resolved_at IS NULL);

-- resolve_settled_alerts: what was told of an attempt that has moved on since. Lost money stays until a person has seen it
UPDATE nightbatch.alert AS a SET resolved_at = now()
WHERE resolved_at IS NULL AND (
    (kind IN ('in_doubt', 'held') AND NOT EXISTS (
        SELECT FROM nightbatch.batch AS b WHERE b.id::text = a.subject AND b.state IN ('submitting', 'held')))
    OR (kind = 'not_looked_for' AND raised_at < now() - interval '4 days')
    OR (kind = 'not_walked' AND NOT EXISTS (
        SELECT FROM nightbatch.batch AS b WHERE b.account_fingerprint = a.subject AND b.intent_at > now() - interval '31 days'))
    OR (kind IN ('overdue', 'other_account', 'unknown_batch', 'results_expire', 'attempt_stuck') AND NOT EXISTS (
        SELECT FROM nightbatch.batch AS b WHERE b.id::text = a.subject AND b.closed_at IS NULL)));
