-- Rows in every state, for a database that stands at an old migration. A part's heading names the migration from which on it
-- fits; all of it is inserted with the protocol's triggers off, in one transaction.

-- 0016 ---------------------------------------------------------------------------------------------------------------------

INSERT INTO nightbatch.run (id, queued_before, params, planned_at, reported_at) VALUES
    ('first', '2026-11-20 20:00Z', '{"provider": "openai"}', '2026-11-20 20:01Z', '2026-11-21 06:00Z'),
    ('second', NULL, '{}', '2026-11-21 20:01Z', NULL);

-- 1 to 79 are in attempts, three in each and one in the last; 82 to 87 ended or wait without one; no plan has seen the others.
INSERT INTO nightbatch.job
    (job_type, provider, model, priority, input, dedup_key, labels, not_before, deadline, created_at, cache_days, fallback)
SELECT
    (ARRAY['creative_scoring', 'bulk_predictions', 'historical_reprocessing'])[1 + n % 3],
    (ARRAY['openai', 'anthropic', 'gemini'])[1 + (n - 1) / 3 % 3], CASE WHEN n % 2 = 0 THEN 'a-model' END, 1 + n % 10,
    json_build_object('headline', 'ü ' || n, 'job_id', n - 1), CASE WHEN n % 4 = 0 THEN 'key ' || n END,
    jsonb_build_object('team', n % 5, 'council', 'c' || n % 7), '2026-11-01Z', '2026-12-01Z',
    '2026-11-02Z'::timestamptz + n * '1 s'::interval,
    CASE WHEN n % 6 = 0 THEN 30 END, n % 9 = 0
FROM generate_series(1, 90) AS n;

-- Three attempts in each state, one at each provider; then one beside another, one in place of another, and one in realtime.
INSERT INTO nightbatch.batch
    (run_id, provider, model, endpoint, part, state, job_count, account_fingerprint, payload_sha256, input_file,
    provider_batch_id, provider_status, error, planned_at, uploaded_at, intent_at, fenced_at, submitted_at, ended_at, closed_at,
    estimated_tokens, epoch, replaces, duplicate_of, mode)
SELECT
    'first', (ARRAY['openai', 'anthropic', 'gemini'])[1 + (n - 1) % 3], 'a-model', 'chat', n, state,
    CASE WHEN n = 27 THEN 1 ELSE 3 END, 'account of ' || state || n, 'sha of ' || n, 'file-' || n,
    CASE WHEN state IN ('submitted', 'loaded') THEN 'batch-' || n END, 'in_progress',
    CASE WHEN state IN ('refused', 'held') THEN 'words of the provider' END, '2026-11-20 20:01Z', '2026-11-20 20:02Z',
    CASE WHEN state NOT IN ('planned', 'uploaded') THEN '2026-11-20 20:03Z'::timestamptz END,
    CASE WHEN state = 'held' THEN '2026-11-20 20:04Z'::timestamptz END,
    CASE WHEN state IN ('submitted', 'loaded') THEN '2026-11-20 20:05Z'::timestamptz + n * '1 s'::interval END,
    CASE WHEN state = 'loaded' THEN '2026-11-21 01:00Z'::timestamptz END,
    CASE WHEN state IN ('loaded', 'refused', 'abandoned') THEN '2026-11-21 01:01Z'::timestamptz + n * '1 s'::interval END,
    n * 100, n % 3, CASE WHEN n = 26 THEN 19 END, CASE WHEN n = 25 THEN 16 END, CASE WHEN n = 27 THEN 'realtime' ELSE 'batch' END
FROM (
    SELECT n, (ARRAY['planned', 'uploaded', 'submitting', 'held', 'submitted', 'loaded', 'refused', 'abandoned', 'loaded'])
        [1 + (n - 1) / 3] AS state
    FROM generate_series(1, 27) AS n
) AS numbered;
INSERT INTO nightbatch.batch (run_id, provider, model, endpoint, part, job_count) VALUES
    ('second', 'openai', 'a-model', 'chat', 1, 3);

INSERT INTO nightbatch.batch_job (batch_id, job_id)
SELECT b.id, 3 * b.id - 3 + k FROM nightbatch.batch AS b, generate_series(1, 3) AS k WHERE k <= b.job_count AND b.id <= 27;
-- An attempt that was closed without an answer leaves its jobs waiting.
INSERT INTO nightbatch.open_job (job_id, batch_id, attempts)
SELECT m.job_id, CASE WHEN b.closed_at IS NULL THEN b.id END, 1
FROM nightbatch.batch_job AS m JOIN nightbatch.batch AS b ON b.id = m.batch_id WHERE b.state <> 'loaded';
INSERT INTO nightbatch.open_job (job_id) VALUES (82), (83);
INSERT INTO nightbatch.dismissed (job_id, state, reason, run_id, dismissed_at, erased) VALUES
    (84, 'rejected', 'schema: $.properties', 'first', '2026-11-20 20:01Z', false),
    (85, 'cancelled', 'by a person', NULL, '2026-11-20 20:02Z', true);

INSERT INTO nightbatch.result
    (job_id, batch_id, outcome, billed, output, finish_reason, input_tokens, cached_tokens, output_tokens, realtime_cost_usd,
    batch_cost_usd, price_source, error, finished_at)
SELECT
    m.job_id, m.batch_id, outcome, billed, CASE WHEN outcome = 'succeeded' THEN json_build_object('overall', m.job_id) END,
    'stop', 100, 10, 20, CASE WHEN billed THEN 0.002 END, CASE WHEN billed THEN 0.001 END, CASE WHEN billed THEN 'a table' END,
    CASE WHEN outcome <> 'succeeded' THEN 'why' END, '2026-11-21 01:01Z'::timestamptz + m.batch_id * '1 s'::interval
FROM nightbatch.batch_job AS m JOIN nightbatch.batch AS b ON b.id = m.batch_id CROSS JOIN LATERAL (
    SELECT CASE WHEN b.duplicate_of IS NOT NULL THEN 'duplicate' ELSE (ARRAY['succeeded', 'failed', 'errored', 'refused',
        'truncated', 'expired', 'cancelled', 'missing'])[1 + m.job_id % 8] END AS outcome
) AS o CROSS JOIN LATERAL (SELECT outcome IN ('succeeded', 'failed', 'truncated', 'duplicate') AS billed) AS p
WHERE b.state = 'loaded';
INSERT INTO nightbatch.reject (batch_id, reason, raw, seen_at, erased_at) VALUES
    (16, 'no JSON', '\xff00', '2026-11-21 01:01Z', NULL), (17, 'no JSON', NULL, '2026-11-21 01:01Z', '2026-11-22Z');
DO $$
BEGIN
    INSERT INTO nightbatch.embedding (job_id, position, batch_id, embedding) VALUES
        (46, 0, 16, '[1, 2, 3]'), (47, 0, 16, '[3, 2, 1]');
EXCEPTION WHEN invalid_text_representation THEN  -- a server without pgvector
    INSERT INTO nightbatch.embedding (job_id, position, batch_id, embedding) VALUES
        (46, 0, 16, '{1, 2, 3}'), (47, 0, 16, '{3, 2, 1}');
END
$$;

-- 86 was answered by an earlier job's result; 87 was answered, and all of it is erased.
INSERT INTO nightbatch.cached (job_id, from_job_id, run_id, realtime_cost_usd, answered_at) VALUES
    (86, 48, 'second', 0.002, '2026-11-22Z');
INSERT INTO nightbatch.cache_entry (key, job_id, batch_id, finished_at) VALUES ('\x01', 48, 16, '2026-11-21 01:01Z');
INSERT INTO nightbatch.cache_read (batch_id, job_type) VALUES (16, 'creative_scoring');
INSERT INTO nightbatch.result (job_id, batch_id, outcome, billed, output, finished_at) VALUES
    (86, 16, 'succeeded', false, '{"overall": 1}', '2026-11-22Z');
INSERT INTO nightbatch.result (job_id, batch_id, outcome, billed, finished_at, erased_at) VALUES
    (87, 17, 'succeeded', false, '2026-11-21 01:02Z', '2026-11-25Z');
UPDATE nightbatch.job SET input_sha256 = sha256(convert_to(input::text, 'UTF8')), input = 'null', erased_at = '2026-11-25Z'
WHERE id = 87;
INSERT INTO nightbatch.batch_erased (batch_id, job_type, erased_at) VALUES (17, 'creative_scoring', '2026-11-25Z');

INSERT INTO nightbatch.price_override (provider, model, valid_from, input_usd, note) VALUES
    ('openai', 'a-model', '2026-11-01', 1, 'ours');
INSERT INTO nightbatch.budget (job_type, label, usd_per_night, note) VALUES ('creative_scoring', 'team=1', 3, 'theirs');
INSERT INTO nightbatch.reserved (batch_id, budget_id, usd) VALUES (13, 1, 0.5);
INSERT INTO nightbatch.token_limit (provider, learned, tokens, noted_at, note) VALUES
    ('openai', true, 90000, '2026-11-20Z', 'a refusal');
INSERT INTO nightbatch.batch_prompt (batch_id, job_type, prompt_version) VALUES (16, 'creative_scoring', '3');
INSERT INTO nightbatch.batch_estimate (batch_id, job_type, jobs, input_tokens) VALUES (16, 'creative_scoring', 3, 301.5);
INSERT INTO nightbatch.media (provider, account_fingerprint, sha256, mime_type, bytes, file_name, uri, uploaded_at, expires_at)
VALUES ('gemini', 'a', repeat('0', 64), 'video/mp4', 7, 'files/1', 'https://files/1', '2026-11-20Z', '2026-11-22Z');
INSERT INTO nightbatch.media_use (media_id, batch_id) VALUES (1, 18);
INSERT INTO nightbatch.decision (batch_id, choice, provider_batch_id, decided_by, reason, decided_at) VALUES
    (19, 'resend', NULL, 'ann', 'lost', '2026-11-20Z'), (13, 'adopt', 'batch-13', 'ann', 'found', '2026-11-20Z'),
    (22, 'drop', NULL, 'bob', 'late', '2026-11-20Z'), (14, 'cancel', NULL, 'bob', 'late', '2026-11-20Z'),
    (17, 'retry', NULL, 'bob', 'again', '2026-11-22Z');
INSERT INTO nightbatch.retried (batch_id, job_id) VALUES (17, 51);
INSERT INTO nightbatch.open_job (job_id) VALUES (51);
INSERT INTO nightbatch.alert (kind, subject, message, raised_at, resolved_at, acknowledged_at, acknowledged_by) VALUES
    ('held', '10', 'open', '2026-11-20Z', NULL, NULL, NULL), ('held', '11', 'over', '2026-11-20Z', '2026-11-21Z', NULL, NULL),
    ('held', '12', 'known', '2026-11-20Z', NULL, '2026-11-21Z', 'ann');
INSERT INTO nightbatch.alert_sent (alert_id, notifier, sent_at) VALUES (1, 'mail', '2026-11-20Z');

INSERT INTO nightbatch_report.batch_rollup
SELECT
    b.id, 'creative_scoring', b.run_id, '2026-11-20', b.provider, b.model, 3, 1, 1, 1, 300, 30, 60, 0.006, 0.003, 0.001, 1, 0,
    CASE WHEN b.mode = 'realtime' THEN 3 ELSE 0 END
FROM nightbatch.batch AS b WHERE b.state = 'loaded';
INSERT INTO nightbatch_report.cache_rollup VALUES ('second', 'openai', 'a-model', 'creative_scoring', '2026-11-22', 1, 0.002, 0);
INSERT INTO nightbatch_report.label_rollup VALUES
    (16, 'first', 'team=1', '2026-11-20', 3, 1, 1, 1, 0, 0, 0, 1, 300, 30, 60, 0.006, 0.003, 0.001),
    (NULL, 'second', 'team=1', '2026-11-22', 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0.002, 0, 0);

-- 0023 ---------------------------------------------------------------------------------------------------------------------

UPDATE nightbatch.batch SET nonce = lpad(id::text, 16, '0') WHERE id BETWEEN 13 AND 21;
UPDATE nightbatch.batch SET load_wanted_at = '2026-11-22Z' WHERE id = 16;
UPDATE nightbatch.gathered SET seen_before = '700';
UPDATE nightbatch.result SET units = '{"cache_write_tokens": 1800}' WHERE job_id = 48 AND batch_id = 16;
UPDATE nightbatch.price_override SET other_usd = '{"cache_write_mtok": 1}' WHERE note = 'ours';
INSERT INTO nightbatch.price_factor (provider, term, valid_from, factor, note) VALUES
    ('openai', 'tier=x', '2026-11-01', 2, 'ours');
INSERT INTO nightbatch.answer (job_id, batch_id, rest) VALUES (48, 16, '{"calls": [1]}');
INSERT INTO nightbatch.account_walk (provider, account_fingerprint, walked_at) VALUES ('openai', 'a', '2026-11-21Z');
INSERT INTO nightbatch.named_lock (name) VALUES ('plan');
INSERT INTO nightbatch.decision (choice, decided_by, reason, asked, decided_at) VALUES
    ('retry', 'ann', 'again', 'all', '2026-11-22Z');
INSERT INTO nightbatch.reopened (decision_id, job_id, reason) SELECT max(id), 84, 'schema' FROM nightbatch.decision;
INSERT INTO nightbatch.connection_seen (provider, account_fingerprint, tags_shown_at, silent_tries) VALUES
    ('openai', 'a', '2026-11-21Z', 0), ('gemini', '', NULL, 2);

-- 0025 ---------------------------------------------------------------------------------------------------------------------

UPDATE nightbatch.installation SET doubted_because = 'a list', said = 'restored', said_at = '2026-11-22Z';
UPDATE nightbatch.connection_seen SET same_as = 'b' WHERE provider = 'openai';
UPDATE nightbatch.batch SET sent_as = 7 WHERE id = 14;
INSERT INTO nightbatch.request_hash (batch_id, hashes)
SELECT id, decode(repeat('00', 24), 'hex') FROM nightbatch.batch WHERE id <= 26;
INSERT INTO nightbatch.decision (choice, decided_by, reason, asked, decided_at) VALUES
    ('moved', 'ann', 'a new server', 'home', '2026-11-22Z');

-- 0027 ---------------------------------------------------------------------------------------------------------------------

UPDATE nightbatch.batch SET endpoint = 'images' WHERE id = 28;
INSERT INTO nightbatch.job (job_type, provider, model, input) VALUES
    ('raw', 'openai', 'gpt-image-1', '{"url": "/v1/images/generations"}');
