-- The submit protocol, held by the database: a wrong statement fails here instead of costing money.

-- Attempts ----------------------------------------------------------------------------------------------------------------

CREATE FUNCTION nightbatch.enforce_new_attempt() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    IF NEW.epoch <> 0 OR NOT (NEW.state = 'planned' AND NEW.payload_sha256 IS NULL
            OR NEW.state = 'submitted' AND NEW.duplicate_of IS NOT NULL) THEN
        RAISE EXCEPTION 'an attempt begins as planned, and a duplicate as submitted, not as %', NEW.state
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER an_attempt_begins_as_planned BEFORE INSERT ON nightbatch.batch
    FOR EACH ROW EXECUTE FUNCTION nightbatch.enforce_new_attempt();

-- The transitions are those of the diagram in docs/architecture.md.
CREATE FUNCTION nightbatch.enforce_transition() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    intends boolean := NEW.state = 'submitting' AND OLD.state <> 'submitting';
    wrong text := CASE
        WHEN (NEW.id, NEW.run_id, NEW.provider, NEW.model, NEW.endpoint, NEW.part, NEW.tag, NEW.mode)
                <> (OLD.id, OLD.run_id, OLD.provider, OLD.model, OLD.endpoint, OLD.part, OLD.tag, OLD.mode)
            OR NEW.replaces IS DISTINCT FROM OLD.replaces OR NEW.duplicate_of IS DISTINCT FROM OLD.duplicate_of
            THEN 'what it is never changes'
        WHEN NEW.state <> OLD.state AND OLD.state || ' ' || NEW.state <> ALL (ARRAY[
                'planned uploaded', 'planned refused', 'planned abandoned',
                'uploaded submitting', 'uploaded submitted', 'uploaded held', 'uploaded refused', 'uploaded abandoned',
                'submitting uploaded', 'submitting held', 'submitting submitted', 'submitting refused', 'submitting abandoned',
                'held submitted', 'held abandoned',
                'submitted loaded', 'submitted refused', 'submitted uploaded'])
            THEN format('it does not go from %s to %s', OLD.state, NEW.state)
        WHEN NEW.epoch < OLD.epoch THEN 'its epoch only grows'
        WHEN intends AND NEW.epoch <> OLD.epoch + 1 THEN 'an intent moves its epoch on'
        WHEN (NEW.intent_at IS NULL) <> (OLD.intent_at IS NULL) AND NOT intends THEN 'only an intent says that it was intended'
        WHEN OLD.fenced_at IS NOT NULL AND NEW.fenced_at IS NULL AND NOT intends THEN 'only an intent takes its fence away'
        WHEN OLD.payload_sha256 IS NOT NULL
                AND (NEW.payload_sha256 IS DISTINCT FROM OLD.payload_sha256 OR NEW.nonce IS DISTINCT FROM OLD.nonce)
            THEN 'its requests are fixed once'
        WHEN NEW.job_count <> OLD.job_count AND OLD.payload_sha256 IS NOT NULL THEN 'its requests are fixed once'
        WHEN OLD.account_fingerprint IS NOT NULL AND NEW.account_fingerprint IS DISTINCT FROM OLD.account_fingerprint
            THEN 'its account is fixed once'
        WHEN OLD.provider_batch_id IS NOT NULL AND NEW.provider_batch_id IS DISTINCT FROM OLD.provider_batch_id
                AND NOT (OLD.state = 'submitted' AND NEW.state = 'uploaded' AND NEW.provider_batch_id IS NULL)
            THEN 'the provider''s id of it is never replaced'
    END;
BEGIN
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'attempt %: %', OLD.id, wrong USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER an_attempt_follows_the_protocol BEFORE UPDATE ON nightbatch.batch
    FOR EACH ROW EXECUTE FUNCTION nightbatch.enforce_transition();

-- Members -----------------------------------------------------------------------------------------------------------------
-- By statement, since rows come by the million. The attempts are locked before they are judged (MATERIALIZED keeps the order), so
-- that none is fixed or closed meanwhile.

-- What an attempt is made of changes only before its requests are fixed.
CREATE FUNCTION nightbatch.enforce_members() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    fixed bigint;
BEGIN
    WITH b AS MATERIALIZED (
        SELECT id, duplicate_of, payload_sha256, state FROM nightbatch.batch WHERE id IN (SELECT c.batch_id FROM changed AS c) FOR SHARE
    )
    SELECT b.id INTO fixed FROM b
    WHERE NOT (b.state = 'planned' AND b.payload_sha256 IS NULL) AND NOT (TG_OP = 'INSERT' AND b.duplicate_of IS NOT NULL);
    IF FOUND THEN
        RAISE EXCEPTION 'attempt %: its requests are fixed, so its jobs never change', fixed
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER members_come_before_the_hash AFTER INSERT ON nightbatch.batch_job REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION nightbatch.enforce_members();
CREATE TRIGGER members_leave_before_the_hash AFTER DELETE ON nightbatch.batch_job REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION nightbatch.enforce_members();
CREATE TRIGGER members_never_change BEFORE UPDATE ON nightbatch.batch_job
    FOR EACH STATEMENT EXECUTE FUNCTION nightbatch.refuse_change();

-- A job leaves an attempt before its requests are fixed, or once it is closed; a job comes into one that is still planned.
CREATE FUNCTION nightbatch.enforce_leaving() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    live bigint;
BEGIN
    WITH b AS MATERIALIZED (
        SELECT id, payload_sha256, state, closed_at FROM nightbatch.batch WHERE id IN (SELECT l.batch_id FROM leaving AS l) FOR SHARE
    )
    SELECT b.id INTO live FROM b
    WHERE b.closed_at IS NULL AND NOT (b.state = 'planned' AND b.payload_sha256 IS NULL);
    IF FOUND THEN
        RAISE EXCEPTION 'attempt %: it may have been sent, so its jobs stay with it until it is closed', live
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END
$$;
CREATE FUNCTION nightbatch.enforce_coming() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    fixed bigint;
BEGIN
    WITH b AS MATERIALIZED (
        SELECT id, payload_sha256, state FROM nightbatch.batch WHERE id IN (SELECT c.batch_id FROM coming AS c) FOR SHARE
    )
    SELECT b.id INTO fixed FROM b
    WHERE NOT (b.state = 'planned' AND b.payload_sha256 IS NULL);
    IF FOUND THEN
        RAISE EXCEPTION 'attempt %: its requests are fixed, so no job comes in', fixed
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER a_job_stays_with_a_live_attempt AFTER UPDATE ON nightbatch.open_job REFERENCING OLD TABLE AS leaving
    FOR EACH STATEMENT EXECUTE FUNCTION nightbatch.enforce_leaving();
CREATE TRIGGER a_job_ends_with_a_closed_attempt AFTER DELETE ON nightbatch.open_job REFERENCING OLD TABLE AS leaving
    FOR EACH STATEMENT EXECUTE FUNCTION nightbatch.enforce_leaving();
CREATE TRIGGER a_new_job_comes_into_a_planned_attempt AFTER INSERT ON nightbatch.open_job REFERENCING NEW TABLE AS coming
    FOR EACH STATEMENT EXECUTE FUNCTION nightbatch.enforce_coming();
CREATE TRIGGER a_known_job_comes_into_a_planned_attempt AFTER UPDATE ON nightbatch.open_job REFERENCING NEW TABLE AS coming
    FOR EACH STATEMENT EXECUTE FUNCTION nightbatch.enforce_coming();

-- No job is left under a closed attempt. At the end of the transaction, since closing comes first.
CREATE FUNCTION nightbatch.enforce_closing() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    IF EXISTS (
        SELECT FROM nightbatch.batch_job AS m JOIN nightbatch.open_job AS o ON o.job_id = m.job_id AND o.batch_id = m.batch_id
        WHERE m.batch_id = NEW.id
    ) THEN
        RAISE EXCEPTION 'attempt %: it is closed, and jobs are left under it', NEW.id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER a_closed_attempt_holds_no_job AFTER UPDATE ON nightbatch.batch DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.closed_at IS NULL AND NEW.closed_at IS NOT NULL)
    EXECUTE FUNCTION nightbatch.enforce_closing();

-- Ids in any order --------------------------------------------------------------------------------------------------------
-- A session that draws fifty ids at once, or a producer who brings ids along, commits a lower id after a higher one. So a plan
-- knows new jobs by the transaction that inserted them. What an id of a transaction below `seen_before` inserted had been
-- committed when an earlier plan looked, and has a row in open_job, dismissed or result.

ALTER TABLE nightbatch.job ADD COLUMN inserted_by xid8;
ALTER TABLE nightbatch.job ALTER COLUMN inserted_by SET DEFAULT pg_current_xact_id();
CREATE INDEX job_inserted_by ON nightbatch.job (inserted_by);
COMMENT ON COLUMN nightbatch.job.inserted_by IS 'the inserting transaction; empty for jobs that an earlier release had seen';

-- The jobs that no plan has seen yet become known now: an insert that is under way waits for this migration.
INSERT INTO nightbatch.open_job (job_id)
SELECT j.id FROM nightbatch.job AS j
WHERE NOT EXISTS (SELECT FROM nightbatch.open_job AS o WHERE o.job_id = j.id)
    AND NOT EXISTS (SELECT FROM nightbatch.dismissed AS d WHERE d.job_id = j.id)
    AND NOT EXISTS (SELECT FROM nightbatch.result AS r WHERE r.job_id = j.id);

ALTER TABLE nightbatch.gathered ADD COLUMN seen_before xid8 NOT NULL DEFAULT '0';

-- A dump that was restored into another cluster has numbers of transactions that are not this one's. There, where the number
-- lies in the future, everything is looked at once.
CREATE FUNCTION nightbatch.seen_before() RETURNS xid8 LANGUAGE sql STABLE SET search_path = pg_catalog AS $$
    SELECT CASE WHEN g.seen_before <= pg_snapshot_xmin(pg_current_snapshot()) THEN g.seen_before ELSE '0'::xid8 END
    FROM nightbatch.gathered AS g
$$;
GRANT SELECT ON nightbatch.gathered TO nightbatch_reporter;
GRANT EXECUTE ON FUNCTION nightbatch.seen_before() TO nightbatch_worker, nightbatch_reporter, nightbatch_owner;

CREATE OR REPLACE VIEW nightbatch_report.queue_depth AS
SELECT provider, job_type, priority, count(*) AS jobs, min(created_at) AS oldest
FROM (
    SELECT j.provider, j.job_type, j.priority, j.created_at
    FROM nightbatch.job AS j
    WHERE j.inserted_by >= nightbatch.seen_before()
        AND NOT EXISTS (SELECT FROM nightbatch.open_job AS o WHERE o.job_id = j.id)
        AND NOT EXISTS (SELECT FROM nightbatch.dismissed AS d WHERE d.job_id = j.id)
        AND NOT EXISTS (SELECT FROM nightbatch.result AS r WHERE r.job_id = j.id)
    UNION ALL
    SELECT j.provider, j.job_type, j.priority, j.created_at
    FROM nightbatch.open_job AS o JOIN nightbatch.job AS j ON j.id = o.job_id
    WHERE o.batch_id IS NULL
) AS q
GROUP BY provider, job_type, priority;

DROP FUNCTION nightbatch.settled_job_id();
ALTER TABLE nightbatch.gathered DROP COLUMN up_to;

-- What came later is told by its time: the ids of attempts come from a sequence too.
CREATE OR REPLACE VIEW nightbatch.request AS
SELECT
    m.batch_id, m.job_id, b.run_id, (b.submitted_at AT TIME ZONE 'UTC')::date AS day, b.provider, b.model, b.mode,
    j.job_type, j.labels, r.outcome, r.billed, r.input_tokens, r.cached_tokens, r.output_tokens,
    r.realtime_cost_usd, r.batch_cost_usd,
    CASE WHEN r.outcome IN ('succeeded', 'duplicate') THEN false ELSE
        NOT EXISTS (SELECT FROM nightbatch.retried AS p WHERE p.batch_id = m.batch_id AND p.job_id = m.job_id OFFSET 0)
        AND (EXISTS (SELECT FROM nightbatch.open_job AS o WHERE o.job_id = m.job_id OFFSET 0)
            OR EXISTS (SELECT FROM nightbatch.dismissed AS d WHERE d.job_id = m.job_id OFFSET 0)
            OR EXISTS (SELECT FROM nightbatch.result AS later JOIN nightbatch.batch AS l ON l.id = later.batch_id
                WHERE later.job_id = m.job_id AND later.finished_at > r.finished_at AND l.duplicate_of IS NULL OFFSET 0))
    END AS requeued,
    r.billed AND (r.outcome = 'duplicate' OR EXISTS (
        SELECT FROM nightbatch.result AS earlier WHERE earlier.job_id = m.job_id AND earlier.finished_at < r.finished_at
            AND earlier.billed AND earlier.outcome <> 'duplicate' OFFSET 0)) AS paid_again
FROM nightbatch.batch_job AS m
JOIN nightbatch.batch AS b ON b.id = m.batch_id
CROSS JOIN LATERAL (SELECT job_type, labels FROM nightbatch.job WHERE id = m.job_id LIMIT 1) AS j
CROSS JOIN LATERAL (
    SELECT outcome, billed, finished_at, input_tokens, cached_tokens, output_tokens, realtime_cost_usd, batch_cost_usd
    FROM nightbatch.result WHERE job_id = m.job_id AND batch_id = m.batch_id LIMIT 1
) AS r;

CREATE OR REPLACE VIEW nightbatch.job_status AS
SELECT
    j.id AS job_id,
    CASE
        WHEN d.job_id IS NOT NULL THEN d.state
        WHEN o.batch_id IS NOT NULL THEN CASE WHEN b.state = 'held' THEN 'held' ELSE 'batched' END
        WHEN o.job_id IS NOT NULL OR r.outcome IS NULL THEN 'queued'
        WHEN r.outcome = 'succeeded' THEN 'succeeded'
        WHEN r.outcome = 'cancelled' THEN 'cancelled'
        ELSE 'failed'
    END AS state,
    CASE WHEN c.job_id IS NOT NULL THEN 0 ELSE coalesce(o.attempts, r.attempts, 0) END::integer AS attempts,
    coalesce(o.batch_id, r.batch_id) AS batch_id,
    coalesce(d.reason, CASE WHEN o.batch_id IS NULL THEN r.error END, b.error) AS error,
    coalesce(d.dismissed_at, b.submitted_at, b.planned_at, r.finished_at, j.created_at) AS updated_at
FROM nightbatch.job AS j
LEFT JOIN nightbatch.open_job AS o ON o.job_id = j.id
LEFT JOIN nightbatch.batch AS b ON b.id = o.batch_id
LEFT JOIN nightbatch.dismissed AS d ON d.job_id = j.id
LEFT JOIN nightbatch.cached AS c ON c.job_id = j.id
LEFT JOIN LATERAL (
    SELECT l.outcome, l.error, l.finished_at, l.batch_id, count(*) OVER () AS attempts
    FROM nightbatch.result AS l WHERE l.job_id = j.id AND l.outcome <> 'duplicate' ORDER BY l.finished_at DESC LIMIT 1
) AS r ON true;
