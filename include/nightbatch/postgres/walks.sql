-- due: accounts that were sent something since their list was walked, whose night is over (nothing is under way), or was walked a
-- day ago; and since when their list is of interest
SELECT b.provider, b.account_fingerprint, min(b.intent_at) FROM nightbatch.batch AS b
LEFT JOIN nightbatch.account_walk AS w USING (provider, account_fingerprint)
WHERE b.mode = 'batch' AND b.duplicate_of IS NULL
    AND b.intent_at > greatest(coalesce(w.walked_at, now() - interval '3 days'), now() - interval '31 days')
GROUP BY b.provider, b.account_fingerprint, w.walked_at
HAVING coalesce(w.walked_at < now() - interval '24 hours', false) OR NOT EXISTS (
    SELECT FROM nightbatch.batch AS o
    WHERE o.provider = b.provider AND o.account_fingerprint = b.account_fingerprint
        AND o.mode = 'batch' AND o.state IN ('submitting', 'held', 'submitted') AND o.duplicate_of IS NULL);

-- walked: as of the moment before the list was asked for
INSERT INTO nightbatch.account_walk (provider, account_fingerprint, walked_at)
VALUES (%(provider)s, %(account)s, %(walked_at)s)
ON CONFLICT (provider, account_fingerprint) DO UPDATE SET walked_at = EXCLUDED.walked_at;

-- of_tag: the attempt that a tag is of
SELECT * FROM nightbatch.batch WHERE tag = %(tag)s;

-- is_ours: whether this installation made a tag
SELECT starts_with(%(tag)s, 'nb-' || id || '-') FROM nightbatch.installation;

-- of_size: attempts of an account whose create may have made an untagged batch of so many requests at that time
SELECT * FROM nightbatch.batch
WHERE provider = %(provider)s AND account_fingerprint = %(account)s AND mode = 'batch' AND duplicate_of IS NULL
    AND job_count = %(requests)s AND intent_at <= %(created_at)s::timestamptz + interval '2 minutes'
    AND intent_at > %(created_at)s::timestamptz - interval '2 days';

-- has_nonce: whether an attempt that was sent has rendered its requests with this nonce
SELECT EXISTS (
    SELECT FROM nightbatch.batch WHERE nonce = %(nonce)s AND intent_at IS NOT NULL AND state NOT IN ('planned', 'uploaded'));

-- not_looked_since: since when a list may hold what the ledger does not know; no row where it was looked at in this run
SELECT greatest(coalesce(w.walked_at, now() - interval '3 days'), now() - interval '31 days')
FROM nightbatch.run AS r
LEFT JOIN nightbatch.account_walk AS w ON w.provider = %(provider)s AND w.account_fingerprint = %(account)s
WHERE r.id = %(run_id)s AND NOT coalesce(w.looked_at >= r.planned_at, false);

-- looked: nothing unknown was listed
INSERT INTO nightbatch.account_walk (provider, account_fingerprint, looked_at) VALUES (%(provider)s, %(account)s, now())
ON CONFLICT (provider, account_fingerprint) DO UPDATE SET looked_at = now();
