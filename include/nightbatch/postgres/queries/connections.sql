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
