-- raise_alert: once, until it is resolved; a row comes back only the first time
INSERT INTO nightbatch.alert (kind, subject, message) VALUES (%(kind)s, %(subject)s, %(message)s)
ON CONFLICT (kind, subject) WHERE resolved_at IS NULL DO UPDATE SET message = excluded.message
RETURNING (xmax = 0) AS is_new;

-- resolve_alert: by itself, when its cause is gone
UPDATE nightbatch.alert SET resolved_at = now() WHERE kind = %(kind)s AND subject = %(subject)s AND resolved_at IS NULL;

-- open_alerts: newest first
SELECT id, kind, subject, message, raised_at, acknowledged_at, acknowledged_by FROM nightbatch.alert
WHERE resolved_at IS NULL ORDER BY raised_at DESC, id DESC;
