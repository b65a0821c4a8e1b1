-- lock_content: one process at a time uploads the same content. Whoever comes later waits at the unique key for this transaction
-- to end, which may be idle for as long as a large video takes
INSERT INTO nightbatch.named_lock (name)
SELECT 'media ' || %(content)s
FROM set_config('lock_timeout', '6h', true) AS waits, set_config('idle_in_transaction_session_timeout', '6h', true) AS idle
ON CONFLICT (name) DO UPDATE SET name = EXCLUDED.name;

-- unlock_content: with the transaction's end nothing is left of the lock, as after a rollback
DELETE FROM nightbatch.named_lock WHERE name = 'media ' || %(content)s;

-- use: an upload of this content that outlives a batch sent now (24 hours promised, and some for the wait before it). The
-- lock makes `retire` wait, and see that an attempt uses it
WITH found AS (
    SELECT id, file_name, uri, mime_type FROM nightbatch.media
    WHERE provider = %(provider)s AND account_fingerprint = %(account)s AND sha256 = %(sha256)s
        AND deleted_at IS NULL AND expires_at > now() + interval '26 hours'
    ORDER BY id DESC LIMIT 1 FOR SHARE
), used AS (
    INSERT INTO nightbatch.media_use (media_id, batch_id) SELECT id, %(batch_id)s FROM found ON CONFLICT DO NOTHING
)
SELECT file_name, uri, mime_type FROM found;

-- keep: an upload and its first use at once, so that it never looks unused
WITH made AS (
    INSERT INTO nightbatch.media (provider, account_fingerprint, sha256, mime_type, bytes, file_name, uri, expires_at)
    VALUES (%(provider)s, %(account)s, %(sha256)s, %(mime_type)s, %(bytes)s, %(file_name)s, %(uri)s, %(expires_at)s)
    RETURNING id
)
INSERT INTO nightbatch.media_use (media_id, batch_id) SELECT id, %(batch_id)s FROM made;

-- forget: the provider does not have it any more
UPDATE nightbatch.media SET deleted_at = now()
WHERE provider = %(provider)s AND account_fingerprint = %(account)s AND file_name = %(file_name)s AND deleted_at IS NULL;

-- lock_unused: what no open attempt refers to, in a fixed order
SELECT m.id FROM nightbatch.media AS m
WHERE m.provider = %(provider)s AND m.account_fingerprint = %(account)s AND m.deleted_at IS NULL AND NOT EXISTS (
    SELECT FROM nightbatch.media_use AS u JOIN nightbatch.batch AS b ON b.id = u.batch_id
    WHERE u.media_id = m.id AND b.closed_at IS NULL)
ORDER BY m.id FOR UPDATE;

-- retire: of those, what still nobody uses now that they are locked: a new snapshot shows a use that came in between
UPDATE nightbatch.media AS m SET deleted_at = now()
WHERE m.id = ANY (%(ids)s) AND NOT EXISTS (
    SELECT FROM nightbatch.media_use AS u JOIN nightbatch.batch AS b ON b.id = u.batch_id
    WHERE u.media_id = m.id AND b.closed_at IS NULL)
RETURNING m.file_name, m.expires_at > now();

-- candidates: of a plan, with their inputs, a reprocessing with that of the past job
SELECT c.job_id, j.provider, coalesce(p.job_type, j.job_type), coalesce(p.input, j.input)::text
FROM candidate AS c
JOIN nightbatch.job AS j ON j.id = c.job_id
LEFT JOIN nightbatch.job AS p
    ON p.id = CASE WHEN j.job_type = 'historical_reprocessing' THEN nightbatch.past_job(j.input) END
WHERE c.route = ANY (%(routes)s) AND c.due AND c.reason IS NULL AND coalesce(p.job_type, j.job_type) = ANY (%(job_types)s);

-- weigh: add what the media inside a request weigh, for the cut. What a byte is reckoned to cost goes down by as much: media
-- are not billed by their bytes
WITH heavier AS (
    UPDATE candidate AS c SET bytes = c.bytes + m.bytes
    FROM unnest(%(job_ids)s::bigint[], %(bytes)s::integer[]) AS m (job_id, bytes)
    WHERE c.job_id = m.job_id RETURNING c.route, c.model, m.bytes
), route AS (
    SELECT x.route, x.model, x.size / (x.size + h.size) AS share
    FROM (SELECT route, model, sum(bytes)::double precision AS size FROM candidate WHERE due AND reason IS NULL GROUP BY 1, 2) AS x
    JOIN (SELECT route, model, sum(bytes)::double precision AS size FROM heavier GROUP BY 1, 2) AS h USING (route, model)
)
UPDATE cost_model AS y SET tokens_per_byte = y.tokens_per_byte * route.share, reckoned_per_byte = y.reckoned_per_byte * route.share,
    usd_per_byte = y.usd_per_byte * route.share::numeric
FROM route WHERE route.route = y.route AND route.model = y.model;
