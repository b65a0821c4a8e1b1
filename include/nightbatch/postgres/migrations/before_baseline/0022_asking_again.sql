-- What a person may have asked again beyond a batch, and a loaded batch that is read once more.

-- A decision about jobs of no batch, or of many: `asked` says which. What stood against each of them is kept.
ALTER TABLE nightbatch.decision ALTER COLUMN batch_id DROP NOT NULL,
    ADD COLUMN asked text CHECK (length(asked) BETWEEN 1 AND 2000),
    ADD CONSTRAINT a_decision_says_about_what CHECK ((batch_id IS NULL) = (asked IS NOT NULL)),
    DROP CONSTRAINT decision_choice_check,
    ADD CONSTRAINT decision_choice_check CHECK (choice IN ('resend', 'drop', 'adopt', 'cancel', 'retry', 'load'));
CREATE TABLE nightbatch.reopened (
    decision_id bigint NOT NULL REFERENCES nightbatch.decision,
    job_id bigint NOT NULL,
    reason text NOT NULL,
    PRIMARY KEY (decision_id, job_id)
);
GRANT SELECT, INSERT ON nightbatch.reopened TO nightbatch_worker;
GRANT ALL ON nightbatch.reopened TO nightbatch_owner;

-- Of these keys, the jobs that ended as rejected: who inserts such a key again is told. Like jobs_of_keys it tells a producer ids only.
CREATE FUNCTION nightbatch.rejected_of_keys(keys text[]) RETURNS TABLE (job_id bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT j.id FROM nightbatch.job AS j JOIN nightbatch.dismissed AS d ON d.job_id = j.id
    WHERE j.dedup_key = ANY (keys) AND d.state = 'rejected'
$$;
REVOKE ALL ON FUNCTION nightbatch.rejected_of_keys(text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION nightbatch.rejected_of_keys(text[]) TO nightbatch_producer, nightbatch_worker, nightbatch_owner;

-- Reading a loaded batch once more: only the mark that a line is missing gives way, and the sums are made anew.
ALTER TABLE nightbatch.batch ADD COLUMN load_wanted_at timestamptz;
CREATE INDEX batch_load_wanted ON nightbatch.batch (id) WHERE load_wanted_at IS NOT NULL;
CREATE FUNCTION nightbatch.keep_results() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.outcome = 'missing' AND OLD.output IS NULL AND OLD.batch_cost_usd IS NULL THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'the result of job % in batch % was read and stays', OLD.job_id, OLD.batch_id
        USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER a_result_stays BEFORE DELETE ON nightbatch.result FOR EACH ROW EXECUTE FUNCTION nightbatch.keep_results();
GRANT DELETE, UPDATE (finished_at) ON nightbatch.result TO nightbatch_worker;
GRANT DELETE ON nightbatch_report.batch_rollup, nightbatch_report.label_rollup TO nightbatch_worker;
