-- insert_job: one job, as a producer's plain SQL would insert it
INSERT INTO nightbatch.job (job_type, provider, input) VALUES (%(job_type)s, %(provider)s, %(input)s) RETURNING id;

-- copy_jobs: the quick way in, for rows without a dedup key
COPY nightbatch.job (job_type, provider, model, priority, input, dedup_key, labels, not_before, deadline) FROM STDIN;

-- make_incoming: where rows with a dedup key wait for the comparison
CREATE TEMPORARY TABLE IF NOT EXISTS incoming (
    line bigint GENERATED ALWAYS AS IDENTITY, job_type text, provider text, model text, priority smallint, input json,
    dedup_key text, labels jsonb, not_before timestamptz, deadline timestamptz
) ON COMMIT DELETE ROWS;

-- copy_incoming: the same columns as copy_jobs
COPY incoming (job_type, provider, model, priority, input, dedup_key, labels, not_before, deadline) FROM STDIN;

-- insert_incoming: the first row of a key is the job; the unique index decides, also against other producers
INSERT INTO nightbatch.job (job_type, provider, model, priority, input, dedup_key, labels, not_before, deadline)
SELECT job_type, provider, model, priority, input, dedup_key, labels, not_before, deadline FROM incoming ORDER BY line
ON CONFLICT (dedup_key) WHERE dedup_key IS NOT NULL DO NOTHING;

-- clear_incoming: ready for the next chunk
TRUNCATE incoming;
