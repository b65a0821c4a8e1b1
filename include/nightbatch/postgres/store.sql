-- lock_planning: one plan at a time in this database; the lock ends with the transaction
INSERT INTO nightbatch.named_lock (name) VALUES ('plan') ON CONFLICT (name) DO UPDATE SET name = EXCLUDED.name;

-- start_run: no row comes back when the run was planned before
INSERT INTO nightbatch.run (id, queued_before, params) VALUES (%(run_id)s, %(queued_before)s, %(params)s::jsonb)
ON CONFLICT (id) DO NOTHING RETURNING id;

-- plan_in_memory: a plan sorts and joins all that is queued; there is only one at a time
SELECT set_config('work_mem', '64MB', true) WHERE pg_size_bytes(current_setting('work_mem')) < pg_size_bytes('64MB');

-- in_one_pass: while the statistics lag behind, Postgres may expect few rows behind the shortcut where there are many, and
-- would look through all of one table for each row of another. Before version 18 it takes what is switched off, and done all the
-- same, for so dear that it would compile the query as well
SELECT set_config(name, 'off', true) FROM unnest('{enable_nestloop, jit}'::text[]) AS name;

-- by_any_way: as Postgres likes it
SELECT set_config(name, NULL, true) FROM unnest('{enable_nestloop, jit}'::text[]) AS name;

-- shortcut: jobs that a transaction below `since` inserted have a row elsewhere; the next plan begins at `since_then`, for all that
-- is below it is committed or gone before the gathering takes its snapshot. Numbers above `before` came with a dump from another
-- cluster, whose jobs were known at once. The lowest and the highest of the new ids keep Postgres from reading all nights
WITH place AS (
    SELECT nightbatch.seen_before() AS since, pg_snapshot_xmin(pg_current_snapshot()) AS since_then,
        pg_snapshot_xmax(pg_current_snapshot()) AS before
)
SELECT since::text, since_then::text, before::text, coalesce(min(id), 1), coalesce(max(id), 0)
FROM place LEFT JOIN LATERAL (
    SELECT id FROM nightbatch.job
    WHERE inserted_by >= since AND (inserted_by < before OR since = '0'::xid8) OFFSET 0
) AS fresh ON true
GROUP BY since, since_then, before;

-- gather: what this plan looks at; gone with the transaction. New jobs stand behind the shortcut and in no other table (which
-- are told the range of the new ids: they hold the jobs of all nights); known ones wait in open_job without an attempt.
-- While a job type's file cannot be read, a job of an unknown type waits: it may be that type's; and so with a provider's package.
-- A job is urgent when it may
-- go to the realtime API and no batch sent now would be back by its deadline: batches leave it alone, the fallback takes it.
-- A provider's lists may write models/x for the model x: it is one model, and one batch; what was copied may have white space
-- around it. A ready body says itself where it goes. An input may name the model where the job does not; to look for the letters
-- first (they may be written as \u006d) costs less than to parse every input
CREATE TEMPORARY TABLE candidate ON COMMIT DROP AS
SELECT
    j.id AS job_id, j.known,
    (%(queued_before)s::timestamptz IS NULL OR j.created_at < %(queued_before)s)
        AND (j.not_before IS NULL OR j.not_before <= now())
        AND (%(providers)s::text[] = '{}' OR j.provider = ANY (%(providers)s))
        AND (%(job_types)s::text[] = '{}' OR j.job_type = ANY (%(job_types)s))
        AND (%(job_ids)s::bigint[] = '{}' OR j.id = ANY (%(job_ids)s))
        AND (%(all_types_known)s OR j.job_type = ANY (%(known_types)s))
        AND (%(all_providers_known)s OR j.provider = ANY (%(known_providers)s))
        AND coalesce(j.deadline IS NOT NULL AND coalesce(j.fallback, route.fallback)
            AND now() + make_interval(secs => route.turnaround) > j.deadline, false) = %(urgent)s AS due,
    route.number AS route, model.name AS model, j.priority, size.bytes::integer,
    CASE
        WHEN NOT j.provider = ANY (%(known_providers)s) THEN format('there is no provider %%s', left(j.provider, 100))
        WHEN route.number IS NULL AND j.job_type = ANY (%(known_types)s)
            THEN format('%%s cannot do %%s jobs', j.provider, left(j.job_type, 100))
        WHEN route.number IS NULL THEN format('there is no job type %%s', left(j.job_type, 100))
        WHEN size.bytes > route.max_request_bytes
            THEN format('the request would have about %%s bytes; %%s takes %%s', size.bytes, j.provider, route.max_request_bytes)
        WHEN NOT route.ready AND asked.inside <> asked.given
            AND (route.prefix = '' OR asked.inside NOT IN (model.name, route.prefix || model.name))
            THEN format('model: the input asks for %%s, and the job for %%s: which one is meant?',
                left(asked.inside, 60), left(asked.given, 60))
    END AS reason
FROM (
    SELECT job.*, false AS known FROM nightbatch.job
    WHERE job.id BETWEEN %(first)s AND %(last)s
        AND job.inserted_by >= %(since)s::xid8 AND (job.inserted_by < %(before)s::xid8 OR %(since)s::xid8 = '0'::xid8)
        AND NOT EXISTS (SELECT FROM nightbatch.open_job AS o WHERE o.job_id = job.id AND o.job_id BETWEEN %(first)s AND %(last)s)
        AND NOT EXISTS (SELECT FROM nightbatch.dismissed AS d WHERE d.job_id = job.id AND d.job_id BETWEEN %(first)s AND %(last)s)
        AND NOT EXISTS (SELECT FROM nightbatch.result AS r WHERE r.job_id = job.id AND r.job_id BETWEEN %(first)s AND %(last)s)
    UNION ALL
    SELECT job.*, true FROM nightbatch.open_job AS o
    CROSS JOIN LATERAL (SELECT * FROM nightbatch.job WHERE id = o.job_id OFFSET 0) AS job WHERE o.batch_id IS NULL
) AS j
LEFT JOIN unnest(
    %(lane_numbers)s::integer[], %(lane_types)s::text[], %(lane_providers)s::text[], %(lane_models)s::text[],
    %(lane_overheads)s::bigint[], %(lane_request_bytes)s::bigint[], %(lane_fallbacks)s::boolean[],
    %(lane_turnarounds)s::double precision[], %(lane_endpoints)s::text[], %(lane_ready)s::boolean[],
    %(lane_models_in)s::text[], %(lane_dialects)s::text[], %(lane_prefixes)s::text[]
) AS route (number, job_type, provider, default_model, overhead, max_request_bytes, fallback, turnaround, endpoint, ready, model_in,
    dialect, prefix)
    ON route.job_type = j.job_type AND route.provider = j.provider
        AND (NOT route.ready OR route.endpoint = nightbatch.raw_endpoint(route.dialect, j.input))
CROSS JOIN LATERAL (SELECT j.input::text AS words OFFSET 0) AS written  -- once, and not wherever it is named
CROSS JOIN LATERAL (SELECT octet_length(written.words) + coalesce(route.overhead, 0) AS bytes) AS size
CROSS JOIN LATERAL (
    SELECT CASE WHEN route.model_in IS NOT NULL AND (strpos(written.words, '"model"') > 0 OR strpos(written.words, '\u006') > 0)
        THEN nullif(btrim(j.input #>> route.model_in::text[]), '') END AS inside
    OFFSET 0
) AS told
CROSS JOIN LATERAL (
    SELECT told.inside, coalesce(btrim(j.model, E' \t\n\r'), told.inside, route.default_model) AS given
) AS asked
CROSS JOIN LATERAL (
    SELECT CASE WHEN route.prefix <> '' AND starts_with(given, route.prefix) AND given <> route.prefix
        THEN substr(given, length(route.prefix) + 1) ELSE given END
) AS model (name);

-- limit_candidates: the run takes no more than it was asked to, the highest priority first
UPDATE candidate SET due = false
FROM (
    SELECT job_id, row_number() OVER (ORDER BY priority DESC, job_id) AS place
    FROM candidate WHERE due AND reason IS NULL
) AS ranked
WHERE candidate.job_id = ranked.job_id AND ranked.place > %(max_jobs)s;

-- dismiss_candidates: what can never be sent ends here, with its reason
WITH gone AS (
    INSERT INTO nightbatch.dismissed (job_id, state, reason, run_id)
    SELECT job_id, 'rejected', reason, %(run_id)s FROM candidate WHERE due AND reason IS NOT NULL
    RETURNING job_id
), closed AS (
    DELETE FROM nightbatch.open_job AS o USING gone WHERE o.job_id = gone.job_id
)
SELECT count(*) FROM gone;

-- analyze_candidates: Postgres takes a new table for a small one, and would join it row by row
ANALYZE candidate;

-- make_kinds: each route and model, with what it shares a batch with (its number), and that batch's room in bytes. The largest
-- request is set aside from the capacity: a batch may begin its last request anywhere below it. All in 32 bits (a file has at
-- most 2 GB), so that the running sum is one of 64: a sum of those would be numeric, which is slow and does not floor
CREATE TEMPORARY TABLE kind ON COMMIT DROP AS
SELECT dense_rank() OVER (ORDER BY provider, model, endpoint)::integer AS number, route, model, provider, endpoint, room,
    ((room::bigint + max_requests - 1) / max_requests)::integer AS share,
    coalesce(tokens_per_byte * room / token_room, 0) AS per_byte
FROM (
    SELECT x.route, x.model, l.provider, l.endpoint, y.tokens_per_byte, y.token_room,
        greatest(min(l.capacity) OVER alike - max(x.largest) OVER alike, 1)::integer AS room,
        min(l.max_requests) OVER alike AS max_requests
    FROM (SELECT route, model, max(bytes) AS largest FROM candidate WHERE due AND reason IS NULL GROUP BY route, model) AS x
    JOIN unnest(%(lane_numbers)s::integer[], %(lane_providers)s::text[], %(lane_endpoints)s::text[],
            %(lane_capacities)s::bigint[], %(lane_requests)s::bigint[])
        AS l (number, provider, endpoint, capacity, max_requests) ON l.number = x.route
    LEFT JOIN cost_model AS y ON y.route = x.route AND y.model = x.model AND y.token_room IS NOT NULL
    WINDOW alike AS (PARTITION BY l.provider, x.model, l.endpoint)
) AS routes;

-- place: one pass, highest priority first. A request weighs its bytes, or its share of the provider's limits of requests or of
-- enqueued tokens if that is more, so one running sum holds all three
CREATE TEMPORARY TABLE placed ON COMMIT DROP AS
SELECT job_id, known, route, bytes, kind, ((sum(weight) OVER up_to_here - weight) / room)::integer AS part
FROM (
    SELECT c.job_id, c.known, c.route, c.bytes, c.priority, k.number AS kind, k.room,
        greatest(c.bytes, k.share, least(k.room, ceil(c.bytes * k.per_byte)))::integer AS weight
    FROM candidate AS c JOIN kind AS k ON k.route = c.route AND k.model = c.model
    WHERE c.due AND c.reason IS NULL
) AS weighed
WINDOW up_to_here AS (PARTITION BY kind ORDER BY priority DESC, job_id ROWS UNBOUNDED PRECEDING);

-- insert_batches: the attempts of a run, numbered as they were cut
INSERT INTO nightbatch.batch (run_id, provider, model, endpoint, part, job_count, mode)
SELECT %(run_id)s, k.provider, k.model, k.endpoint, cut.part, cut.job_count, %(mode)s
FROM (
    SELECT kind, row_number() OVER (ORDER BY kind, part) AS part, count(*) AS job_count FROM placed GROUP BY kind, part
) AS cut
JOIN (SELECT DISTINCT number, provider, model, endpoint FROM kind) AS k ON k.number = cut.kind
ORDER BY cut.part;

-- make_cuts: the attempt of each part
CREATE TEMPORARY TABLE cut ON COMMIT DROP AS
SELECT placed.kind, placed.part, b.id AS batch_id
FROM (SELECT kind, part, row_number() OVER (ORDER BY kind, part) AS number FROM placed GROUP BY kind, part) AS placed
JOIN nightbatch.batch AS b ON b.run_id = %(run_id)s AND b.part = placed.number AND b.replaces IS NULL AND b.duplicate_of IS NULL;

-- insert_members: what each attempt is made of
INSERT INTO nightbatch.batch_job (batch_id, job_id)
SELECT cut.batch_id, placed.job_id FROM placed JOIN cut USING (kind, part) ORDER BY cut.batch_id, placed.job_id;

-- claim_new: the primary key refuses a job that another attempt holds
INSERT INTO nightbatch.open_job (job_id, batch_id, attempts)
SELECT placed.job_id, cut.batch_id, 1 FROM placed JOIN cut USING (kind, part) WHERE NOT placed.known;

-- claim_known: jobs that waited in open_job, and that no attempt holds
UPDATE nightbatch.open_job AS o SET batch_id = cut.batch_id, attempts = o.attempts + 1
FROM placed JOIN cut USING (kind, part) WHERE placed.known AND o.job_id = placed.job_id AND o.batch_id IS NULL;

-- keep_waiting: jobs that this run leaves alone must be known before the shortcut may pass them
INSERT INTO nightbatch.open_job (job_id)
SELECT job_id FROM candidate WHERE NOT known AND NOT due
ON CONFLICT (job_id) DO NOTHING;

-- move_shortcut: by a plan alone, which holds the planning lock
UPDATE nightbatch.gathered SET seen_before = %(since_then)s::xid8;

-- run_batches: the attempts that a run planned; successors are found by following `replaces`
SELECT * FROM nightbatch.batch WHERE run_id = %(run_id)s AND replaces IS NULL AND duplicate_of IS NULL ORDER BY id;

-- batch: an attempt as it stands
SELECT * FROM nightbatch.batch WHERE id = %(batch_id)s;

-- batches: the same for many at once
SELECT * FROM nightbatch.batch WHERE id = ANY(%(ids)s);

-- lock_batch: whoever loads or closes an attempt goes alone
SELECT * FROM nightbatch.batch WHERE id = %(batch_id)s FOR UPDATE;

-- successor: the attempt that was made when this one was given up
SELECT * FROM nightbatch.batch WHERE replaces = %(batch_id)s;

-- open_attempts: every batch that is neither loaded nor given up, oldest first
SELECT * FROM nightbatch.batch WHERE closed_at IS NULL AND mode = 'batch' ORDER BY id;

-- open_realtime: what the fallback has begun and not brought to an end, oldest first
SELECT * FROM nightbatch.batch WHERE closed_at IS NULL AND mode = 'realtime' ORDER BY id;

-- send_elsewhere: a successor for another provider, which answers instead of one that did nothing
INSERT INTO nightbatch.batch (run_id, provider, model, endpoint, part, job_count, replaces, mode)
SELECT run_id, %(provider)s, %(model)s, %(endpoint)s, part, job_count, id, mode FROM nightbatch.batch WHERE id = %(batch_id)s
RETURNING *;

-- open_attempts_of: what a run has left open, successors included
SELECT * FROM nightbatch.batch WHERE run_id = %(run_id)s AND closed_at IS NULL ORDER BY id;

-- read_one_moment: before anything else in a transaction
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;

-- now: the database's clock decides, whatever the machines around it say
SELECT now();

-- known_provider_ids: of these batches in a provider's list, the ones that the ledger has
SELECT provider_batch_id FROM nightbatch.batch
WHERE provider = %(provider)s AND provider_batch_id = ANY (%(ids)s);

-- another_in_doubt: whether another attempt of the same account may own what cannot be told apart by a tag
SELECT EXISTS (
    SELECT FROM nightbatch.batch AS b JOIN nightbatch.batch AS mine ON mine.id = %(batch_id)s
    WHERE b.id <> mine.id AND b.provider = mine.provider AND b.account_fingerprint = mine.account_fingerprint
        AND b.mode = 'batch' AND b.state IN ('submitting', 'held'));

-- batch_inputs: what a file is rendered from, in the order of the job ids so that it is the same each time. Each job is
-- looked up (OFFSET 0 keeps it so): merging would read, for every batch, all the jobs that lie between its own
SELECT j.id, coalesce(p.job_type, j.job_type), coalesce(p.input, j.input),
    CASE WHEN p.id IS NOT NULL THEN j.input ->> 'prompt_version' END
FROM nightbatch.batch_job AS m
CROSS JOIN LATERAL (SELECT id, job_type, input FROM nightbatch.job WHERE id = m.job_id OFFSET 0) AS j
LEFT JOIN nightbatch.job AS p
    ON p.id = CASE WHEN j.job_type = 'historical_reprocessing' THEN nightbatch.past_job(j.input) END
WHERE m.batch_id = %(batch_id)s AND (%(job_types)s::text[] IS NULL OR coalesce(p.job_type, j.job_type) = ANY (%(job_types)s))
ORDER BY m.job_id;

-- members: the jobs of an attempt by their types, a reprocessing with that of the past job
SELECT coalesce(
        CASE WHEN j.job_type = 'historical_reprocessing'
            THEN (SELECT p.job_type FROM nightbatch.job AS p WHERE p.id = nightbatch.past_job(j.input)) END,
        j.job_type) AS kind, array_agg(j.id)
FROM nightbatch.batch_job AS m JOIN nightbatch.job AS j ON j.id = m.job_id
WHERE m.batch_id = %(batch_id)s GROUP BY kind;

-- record_prompts: which version of its prompt each type was asked with; the first rendering counts, as for the hash
INSERT INTO nightbatch.batch_prompt (batch_id, job_type, prompt_version)
SELECT %(batch_id)s, job_type, prompt_version
FROM unnest(%(job_types)s::text[], %(prompt_versions)s::text[]) AS used (job_type, prompt_version)
ON CONFLICT DO NOTHING;

-- reject_members: jobs that could not be rendered leave an attempt before anything was sent
WITH gone AS (
    DELETE FROM nightbatch.open_job WHERE batch_id = %(batch_id)s AND job_id = ANY (%(job_ids)s) RETURNING job_id
), parted AS (
    DELETE FROM nightbatch.batch_job AS m USING gone WHERE m.batch_id = %(batch_id)s AND m.job_id = gone.job_id
)
INSERT INTO nightbatch.dismissed (job_id, state, reason, run_id)
SELECT bad.job_id, 'rejected', bad.reason, %(run_id)s
FROM unnest(%(job_ids)s::bigint[], %(reasons)s::text[]) AS bad (job_id, reason) JOIN gone USING (job_id);

-- postpone_members: they did not fit into the file and go with the next run
WITH back AS (
    UPDATE nightbatch.open_job SET batch_id = NULL, attempts = attempts - 1
    WHERE batch_id = %(batch_id)s AND job_id = ANY (%(job_ids)s) RETURNING job_id
)
DELETE FROM nightbatch.batch_job AS m USING back WHERE m.batch_id = %(batch_id)s AND m.job_id = back.job_id;

-- count_members: after some have left; the attempt is locked
UPDATE nightbatch.batch SET job_count = greatest(n, 1) FROM (
    SELECT count(*)::integer AS n FROM nightbatch.batch_job WHERE batch_id = %(batch_id)s
) AS members
WHERE id = %(batch_id)s AND state = 'planned' RETURNING n;

-- bind_account: the account that an attempt belongs to is set once; another one never sends it
UPDATE nightbatch.batch SET account_fingerprint = %(account)s
WHERE id = %(batch_id)s AND (account_fingerprint IS NULL OR account_fingerprint = %(account)s) RETURNING id;

-- record_hash: what was rendered first is what is sent; a changed prompt does not slip into an attempt under way. The hashes of its
-- requests come with it: an attempt that an earlier release fixed gets them now
WITH fixed AS (
    UPDATE nightbatch.batch
    SET payload_sha256 = %(sha256)s, nonce = CASE WHEN payload_sha256 IS NULL THEN %(nonce)s ELSE nonce END
    WHERE id = %(batch_id)s AND (payload_sha256 IS NULL OR payload_sha256 = %(sha256)s) RETURNING id
), of_each AS (
    INSERT INTO nightbatch.request_hash (batch_id, hashes) SELECT id, %(hashes)s FROM fixed ON CONFLICT DO NOTHING
)
SELECT id FROM fixed;

-- record_upload: free of charge, so a second upload may replace the first until the intent
UPDATE nightbatch.batch SET state = 'uploaded', input_file = %(input_file)s, uploaded_at = now()
WHERE id = %(batch_id)s AND state = %(state)s AND state IN ('planned', 'uploaded') AND epoch = %(epoch)s RETURNING *;

-- record_intent: compare and swap; of two processes that want to send, one finds the epoch moved on. Where a batch carries no tag,
-- a unique index allows one create at a time
UPDATE nightbatch.batch SET state = 'submitting', epoch = epoch + 1, intent_at = now(), fenced_at = NULL, tagged = %(tagged)s
WHERE id = %(batch_id)s AND state = 'uploaded' AND epoch = %(epoch)s RETURNING *;

-- record_submission: first write wins, a paid batch's id is never replaced; the epoch does not matter while the row is open. It was
-- submitted when the provider says that it was created, as far as that lies between the intent and now
UPDATE nightbatch.batch
SET provider_batch_id = %(provider_batch_id)s, state = 'submitted', error = NULL,
    submitted_at = greatest(intent_at, least(%(created_at)s, now()))
WHERE id = %(batch_id)s AND provider_batch_id IS NULL AND intent_at IS NOT NULL AND state IN ('uploaded', 'submitting', 'held')
RETURNING *;

-- take_over: recovery moves the epoch on, so that whoever held the attempt can no longer close it
UPDATE nightbatch.batch SET epoch = epoch + 1 WHERE id = %(batch_id)s AND epoch = %(epoch)s AND state = %(state)s
AND state IN ('submitting', 'held') RETURNING *;

-- record_throttled: nothing was sent, or the provider said that it did nothing; the attempt may be sent again
UPDATE nightbatch.batch SET state = 'uploaded', error = %(error)s
WHERE id = %(batch_id)s AND state = 'submitting' AND epoch = %(epoch)s RETURNING *;

-- record_doubt: why, for a person to read; the state says the rest
UPDATE nightbatch.batch SET error = %(error)s WHERE id = %(batch_id)s AND state = 'submitting' AND epoch = %(epoch)s;

-- record_fence: the input is gone; from now on a create under way is refused
UPDATE nightbatch.batch SET fenced_at = coalesce(fenced_at, now())
WHERE id = %(batch_id)s AND state IN ('submitting', 'held') AND epoch = %(epoch)s RETURNING *;

-- record_held: nothing more is known, and only a person or a later look decides
UPDATE nightbatch.batch SET state = 'held', error = %(error)s
WHERE id = %(batch_id)s AND state IN ('submitting', 'held') AND epoch = %(epoch)s RETURNING id;

-- seconds_since_fence: by the database's clock
SELECT extract(epoch FROM now() - fenced_at)::double precision FROM nightbatch.batch WHERE id = %(batch_id)s;

-- seconds_since_intent: by the database's clock
SELECT extract(epoch FROM now() - intent_at)::double precision FROM nightbatch.batch WHERE id = %(batch_id)s;

-- close_attempt: an attempt that the provider never accepted; compare and swap on the state and the epoch it was decided on
UPDATE nightbatch.batch SET state = %(closed_as)s, closed_at = now(), error = %(error)s
WHERE id = %(batch_id)s AND epoch = %(epoch)s AND state = %(state)s AND closed_at IS NULL AND provider_batch_id IS NULL
RETURNING id;

-- close_failed: the provider took the batch and then ran none of it
UPDATE nightbatch.batch SET state = 'refused', closed_at = now(), ended_at = coalesce(ended_at, now()), error = %(error)s,
    provider_status = %(status)s
WHERE id = %(batch_id)s AND state = 'submitted' RETURNING id;

-- insert_successor: the same jobs in a new attempt with a new tag
INSERT INTO nightbatch.batch (run_id, provider, model, endpoint, part, job_count, replaces, estimated_tokens)
SELECT run_id, provider, model, endpoint, part, n.jobs, id, estimated_tokens * n.jobs / job_count
FROM nightbatch.batch, (SELECT count(*) AS jobs FROM nightbatch.open_job WHERE batch_id = %(batch_id)s) AS n
WHERE id = %(batch_id)s
RETURNING *;

-- move_members: the jobs of a given-up attempt follow into its successor, and so does what is set aside for them; a
-- submission that never was counts for nothing
WITH moved AS (
    UPDATE nightbatch.open_job SET batch_id = %(successor)s WHERE batch_id = %(batch_id)s RETURNING job_id
), set_aside AS (
    UPDATE nightbatch.reserved SET batch_id = %(successor)s WHERE batch_id = %(batch_id)s
), expected AS (
    UPDATE nightbatch.batch_estimate SET batch_id = %(successor)s WHERE batch_id = %(batch_id)s
)
INSERT INTO nightbatch.batch_job (batch_id, job_id) SELECT %(successor)s, job_id FROM moved;

-- free_members: all or some jobs of a closed attempt go back into the queue; nothing was paid
UPDATE nightbatch.open_job SET batch_id = NULL, attempts = attempts - %(uncounted)s
WHERE batch_id = %(batch_id)s AND (%(job_ids)s::bigint[] IS NULL OR job_id = ANY (%(job_ids)s));

-- dismiss_members: all or some jobs of an attempt that was refused or dropped end here, with the reason
WITH gone AS (
    DELETE FROM nightbatch.open_job WHERE batch_id = %(batch_id)s AND (%(job_ids)s::bigint[] IS NULL OR job_id = ANY (%(job_ids)s))
    RETURNING job_id
)
INSERT INTO nightbatch.dismissed (job_id, state, reason, run_id)
SELECT gone.job_id, %(state)s, %(reason)s, b.run_id FROM gone, nightbatch.batch AS b WHERE b.id = %(batch_id)s;

-- never_sent: attempts of a run that were not sent and that no process is about to send
SELECT * FROM nightbatch.batch WHERE run_id = %(run_id)s AND state IN ('planned', 'uploaded') ORDER BY id;

-- insert_duplicate: a provider batch besides the one that an attempt uses, with the same jobs; a known one stays as it is
WITH made AS (
    INSERT INTO nightbatch.batch (run_id, provider, model, endpoint, part, job_count, duplicate_of, state,
        account_fingerprint, payload_sha256, nonce, sent_as, intent_at, submitted_at, provider_batch_id)
    SELECT run_id, provider, model, endpoint, part, job_count, id, 'submitted', account_fingerprint, payload_sha256, nonce, sent_as,
        intent_at, greatest(intent_at, least(%(created_at)s, now())), %(provider_batch_id)s
    FROM nightbatch.batch WHERE id = %(batch_id)s
    ON CONFLICT (provider, provider_batch_id) DO NOTHING
    RETURNING id
)
INSERT INTO nightbatch.batch_job (batch_id, job_id)
SELECT made.id, m.job_id FROM made, nightbatch.batch_job AS m WHERE m.batch_id = %(batch_id)s;

-- record_decision: who decided what about an attempt, and why
INSERT INTO nightbatch.decision (batch_id, choice, provider_batch_id, decided_by, reason)
VALUES (%(batch_id)s, %(choice)s, %(provider_batch_id)s, %(by)s, %(reason)s);

-- want_cancel: only what is with its provider; the first wish counts
UPDATE nightbatch.batch SET cancel_wanted_at = coalesce(cancel_wanted_at, now())
WHERE id = %(batch_id)s AND state = 'submitted' RETURNING id;

-- released_attempts: decided by a person, or by a setting, in the last three days; what they gave up may still turn up
SELECT * FROM nightbatch.batch AS b WHERE b.state = 'abandoned' AND b.intent_at IS NOT NULL AND EXISTS (
    SELECT FROM nightbatch.decision AS d
    WHERE d.batch_id = b.id AND d.choice IN ('resend', 'drop') AND d.decided_at > now() - interval '3 days')
ORDER BY b.id;
