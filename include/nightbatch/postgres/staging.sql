-- insert_job: one job, as a producer's plain SQL would insert it
INSERT INTO nightbatch.job (job_type, provider, input) VALUES (%(job_type)s, %(provider)s, %(input)s) RETURNING id;

-- copy_jobs: the quick way in, for rows whose keys are new
COPY nightbatch.job (job_type, provider, model, priority, input, dedup_key, labels, not_before, deadline, cache_days, fallback)
FROM STDIN (FORMAT binary);

-- make_incoming: where rows wait that have a dedup key, or whose ids are wanted
CREATE TEMPORARY TABLE incoming (
    line bigint GENERATED ALWAYS AS IDENTITY, job_type text, provider text, model text, priority smallint, input json,
    dedup_key text, labels jsonb, not_before timestamptz, deadline timestamptz, cache_days smallint, fallback boolean
) ON COMMIT DROP;

-- copy_incoming: the same columns as copy_jobs
COPY incoming (job_type, provider, model, priority, input, dedup_key, labels, not_before, deadline, cache_days, fallback)
FROM STDIN (FORMAT binary);

-- insert_plain: ids are given in the order of the lines, so the sorted ids are those of the lines in turn
INSERT INTO nightbatch.job (job_type, provider, model, priority, input, labels, not_before, deadline, cache_days, fallback)
SELECT job_type, provider, model, priority, input, labels, not_before, deadline, cache_days, fallback
FROM incoming WHERE dedup_key IS NULL ORDER BY line
RETURNING id;

-- insert_incoming: the first row of a key is the job; the unique index decides, also against other producers. It is not
-- named, since a producer may not read the column of its keys
INSERT INTO nightbatch.job (job_type, provider, model, priority, input, dedup_key, labels, not_before, deadline, cache_days, fallback)
SELECT job_type, provider, model, priority, input, dedup_key, labels, not_before, deadline, cache_days, fallback
FROM incoming WHERE dedup_key IS NOT NULL ORDER BY line
ON CONFLICT DO NOTHING;

-- known_keys: of these keys, those that some job has already
SELECT dedup_key FROM nightbatch.jobs_of_keys(%(keys)s);

-- rejected_of_keys: of these keys, the jobs that ended as rejected
SELECT job_id FROM nightbatch.rejected_of_keys(%(keys)s) ORDER BY job_id;

-- incoming_ids: the jobs of these keys, whoever inserted them
SELECT dedup_key, job_id FROM nightbatch.jobs_of_keys(ARRAY(SELECT dedup_key FROM incoming WHERE dedup_key IS NOT NULL));

-- clear_incoming: the next chunk, maybe of the same transaction, makes it anew; no table outlives the transaction, whose
-- session may be another's next
DROP TABLE incoming;
