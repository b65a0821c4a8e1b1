-- record_tags: the connection has shown a tag of ours; the first time counts
INSERT INTO nightbatch.connection_seen (provider, account_fingerprint, tags_shown_at) VALUES (%(provider)s, %(account)s, now())
ON CONFLICT (provider, account_fingerprint) DO UPDATE SET tags_shown_at = now()
WHERE nightbatch.connection_seen.tags_shown_at IS NULL;

-- shows_tags: whether what its lists leave out is not there
SELECT EXISTS (
    SELECT FROM nightbatch.connection_seen
    WHERE provider = %(provider)s AND account_fingerprint IN ('', %(account)s) AND tags_shown_at IS NOT NULL);

-- count_silent: one more try without a sign from the provider; how many in a row
INSERT INTO nightbatch.connection_seen (provider, account_fingerprint, silent_tries) VALUES (%(provider)s, %(account)s, 1)
ON CONFLICT (provider, account_fingerprint) DO UPDATE SET silent_tries = nightbatch.connection_seen.silent_tries + 1
RETURNING silent_tries;

-- heard: the provider has given a sign; a row comes back only where it had been silent
UPDATE nightbatch.connection_seen SET silent_tries = 0
WHERE provider = %(provider)s AND account_fingerprint = %(account)s AND silent_tries > 0 RETURNING 1;

-- account_of: the account that a key was found to be of; else the key stands for itself
SELECT coalesce((SELECT same_as FROM nightbatch.connection_seen
    WHERE provider = %(provider)s AND account_fingerprint = %(account)s), %(account)s);

-- is_known: whether something was sent through the connection, or its key was found to be another's successor
SELECT EXISTS (SELECT FROM nightbatch.connection_seen
        WHERE provider = %(provider)s AND account_fingerprint = %(account)s AND same_as IS NOT NULL)
    OR EXISTS (SELECT FROM nightbatch.batch WHERE provider = %(provider)s AND account_fingerprint = %(account)s);

-- lately_used: the accounts of the last month, the newest first
SELECT account_fingerprint FROM nightbatch.batch
WHERE provider = %(provider)s AND provider_batch_id IS NOT NULL AND submitted_at > now() - interval '31 days'
GROUP BY account_fingerprint ORDER BY max(submitted_at) DESC LIMIT 3;

-- sent_through: batches by which a key can show that it is of this account; the newest are kept longest
SELECT provider_batch_id FROM nightbatch.batch
WHERE provider = %(provider)s AND account_fingerprint = %(account)s AND mode = 'batch' AND provider_batch_id IS NOT NULL
ORDER BY submitted_at DESC LIMIT 3;

-- record_same: and whatever was sent through the new key meanwhile is of that account too
INSERT INTO nightbatch.connection_seen (provider, account_fingerprint, same_as) VALUES (%(provider)s, %(account)s, %(same_as)s)
ON CONFLICT (provider, account_fingerprint) DO UPDATE SET same_as = EXCLUDED.same_as;
