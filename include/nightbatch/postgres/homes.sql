-- displaced: why the database is not known to be the right one; the first that asks in a database that nothing is known of makes
-- it known
WITH first AS (
    UPDATE nightbatch.installation AS i SET (system_identifier, timeline, database_oid, known_at)
        = (SELECT m.system_identifier, m.timeline, m.database_oid, now() FROM nightbatch.server_marks() AS m)
    WHERE i.known_at IS NULL
)
SELECT nightbatch.displaced();

-- said: what a person says happened, and since when
SELECT said, said_at FROM nightbatch.installation WHERE said IS NOT NULL;

-- say: it is carried out within the hour
UPDATE nightbatch.installation SET said = %(said)s, said_at = now();

-- doubt: the first reason stays
UPDATE nightbatch.installation SET doubted_because = coalesce(doubted_because, %(because)s);

-- settle: here the ledger is at home, from now on
UPDATE nightbatch.installation AS i SET (system_identifier, timeline, database_oid, known_at, said, said_at, doubted_because)
    = (SELECT m.system_identifier, m.timeline, m.database_oid, now(), NULL::text, NULL::timestamptz, NULL::text FROM nightbatch.server_marks() AS m);

-- rename: a copy is an installation of its own
UPDATE nightbatch.installation SET id = left(replace(gen_random_uuid()::text, '-', ''), 8) RETURNING id;

-- record: what a person said of the database
INSERT INTO nightbatch.decision (choice, decided_by, reason, asked) VALUES (%(said)s, %(by)s, %(reason)s, 'the whole database');

-- accounts: that batches were sent through, and since when their lists may hold what the ledger does not know
SELECT b.provider, b.account_fingerprint, min(coalesce(w.walked_at, b.intent_at - interval '3 days'))
FROM nightbatch.batch AS b LEFT JOIN nightbatch.account_walk AS w USING (provider, account_fingerprint)
WHERE b.mode = 'batch' AND b.intent_at > (SELECT max(intent_at) FROM nightbatch.batch) - interval '31 days'
GROUP BY b.provider, b.account_fingerprint;

-- leave: a copy keeps nothing of what the original has under way
UPDATE nightbatch.batch SET state = CASE WHEN state = 'submitted' THEN 'refused' ELSE 'abandoned' END, closed_at = now(),
    error = 'This database is a copy: the original has it under way.'
WHERE closed_at IS NULL RETURNING id;

-- leave_jobs: nor does it send what the original has queued
WITH gone AS (
    DELETE FROM nightbatch.open_job RETURNING job_id
), unseen AS (
    SELECT j.id AS job_id FROM nightbatch.job AS j
    WHERE j.inserted_by >= nightbatch.seen_before()
        AND NOT EXISTS (SELECT FROM nightbatch.open_job AS o WHERE o.job_id = j.id)
        AND NOT EXISTS (SELECT FROM nightbatch.dismissed AS d WHERE d.job_id = j.id)
        AND NOT EXISTS (SELECT FROM nightbatch.result AS r WHERE r.job_id = j.id)
)
INSERT INTO nightbatch.dismissed (job_id, state, reason)
SELECT job_id, 'cancelled', 'This database is a copy: the original sends it.' FROM (TABLE gone UNION ALL TABLE unseen) AS jobs
RETURNING job_id;

-- leave_uploads: they are the original's to delete
UPDATE nightbatch.media SET deleted_at = now() WHERE deleted_at IS NULL;

-- leave_lists: what was sent until now is the original's
INSERT INTO nightbatch.account_walk (provider, account_fingerprint, walked_at)
SELECT DISTINCT provider, account_fingerprint, now() FROM nightbatch.batch WHERE account_fingerprint IS NOT NULL
ON CONFLICT (provider, account_fingerprint) DO UPDATE SET walked_at = EXCLUDED.walked_at;

-- waiting: of these jobs, those that wait in the queue and were inserted before the batch was created that has them; `certain`
-- is false within the two minutes by which clocks may differ, where the number may be a lost job's, given anew
SELECT j.id, j.job_type, j.model, j.created_at <= %(created_at)s::timestamptz + interval '1 second' AS certain
FROM nightbatch.job AS j
WHERE j.id = ANY (%(job_ids)s) AND j.provider = %(provider)s
    AND j.created_at <= %(created_at)s::timestamptz + interval '2 minutes'
    AND NOT EXISTS (SELECT FROM nightbatch.open_job AS o WHERE o.job_id = j.id AND o.batch_id IS NOT NULL)
    AND NOT EXISTS (SELECT FROM nightbatch.dismissed AS d WHERE d.job_id = j.id)
    AND (EXISTS (SELECT FROM nightbatch.open_job AS o WHERE o.job_id = j.id)
        OR NOT EXISTS (SELECT FROM nightbatch.result AS r WHERE r.job_id = j.id))
ORDER BY j.id;

-- in_the_way: attempts that hold jobs, any, or of these and sent before a batch with them was created, which that batch may have
-- answered, as the lost ledger sent them once more after it had settled the attempt. One whose results are gone gives nothing back
SELECT b.id FROM nightbatch.batch AS b
WHERE b.provider = %(provider)s AND b.mode = 'batch' AND b.state IN ('submitting', 'held', 'submitted')
    AND EXISTS (SELECT FROM nightbatch.open_job AS o WHERE o.batch_id = b.id AND (%(job_ids)s::bigint[] IS NULL OR (
        o.job_id = ANY (%(job_ids)s) AND b.intent_at <= coalesce(%(created_at)s::timestamptz, now()) + interval '2 minutes')))
    AND NOT (b.state = 'submitted' AND EXISTS (SELECT FROM nightbatch.alert AS a
        WHERE a.kind = 'attempt_stuck' AND a.subject = b.id::text AND a.resolved_at IS NULL))
ORDER BY b.id;

-- unsent: attempts that were planned and, as far as the ledger knows, never sent; creates of theirs may have been refused
SELECT * FROM nightbatch.batch WHERE state IN ('planned', 'uploaded') ORDER BY id;

-- make_run: what the adopted batches belong to
INSERT INTO nightbatch.run (id) VALUES (%(run_id)s) ON CONFLICT DO NOTHING;

-- make_attempt: with a number of its own, since the one that its requests carry may have been given again
INSERT INTO nightbatch.batch (sent_as, run_id, provider, model, endpoint, part, job_count, tag)
SELECT %(sent_as)s, %(run_id)s, %(provider)s, %(model)s, %(endpoint)s,
    1 + (SELECT count(*)::integer FROM nightbatch.batch WHERE run_id = %(run_id)s), %(jobs)s, coalesce(%(tag)s, nightbatch.new_tag())
RETURNING *;

-- take_in: as a plan does
WITH taken AS (
    INSERT INTO nightbatch.open_job (job_id, batch_id, attempts)
    SELECT job_id, %(batch_id)s, 1 FROM unnest(%(job_ids)s::bigint[]) AS t (job_id)
    ON CONFLICT (job_id) DO UPDATE SET batch_id = EXCLUDED.batch_id, attempts = nightbatch.open_job.attempts + 1
    RETURNING job_id
)
INSERT INTO nightbatch.batch_job (batch_id, job_id) SELECT %(batch_id)s, job_id FROM taken;

-- fix: its requests are known by what came of them
UPDATE nightbatch.batch SET payload_sha256 = %(sha256)s, nonce = %(nonce)s, account_fingerprint = %(account)s
WHERE id = %(batch_id)s AND payload_sha256 IS NULL RETURNING id;

-- adopt: it was meant when the provider made it
UPDATE nightbatch.batch SET state = 'submitting', epoch = epoch + 1, intent_at = %(created_at)s
WHERE id = %(batch_id)s AND state = 'uploaded' RETURNING *;

-- hold_back: queued jobs, of these or all of a provider, that a batch may have answered
WITH waiting AS (
    SELECT j.id FROM nightbatch.job AS j
    WHERE j.provider = %(provider)s AND j.created_at <= %(created_at)s::timestamptz + interval '2 minutes'
        AND (%(job_ids)s::bigint[] IS NULL OR j.id = ANY (%(job_ids)s))
        AND NOT EXISTS (SELECT FROM nightbatch.dismissed AS d WHERE d.job_id = j.id)
        AND NOT EXISTS (SELECT FROM nightbatch.open_job AS o WHERE o.job_id = j.id AND o.batch_id IS NOT NULL)
        AND (EXISTS (SELECT FROM nightbatch.open_job AS o WHERE o.job_id = j.id)
            OR NOT EXISTS (SELECT FROM nightbatch.result AS r WHERE r.job_id = j.id))
), gone AS (
    DELETE FROM nightbatch.open_job AS o USING waiting AS w WHERE o.job_id = w.id
)
INSERT INTO nightbatch.dismissed (job_id, state, reason) SELECT id, 'cancelled', %(reason)s FROM waiting RETURNING job_id;
