-- Where the ledger is at home. A database that is copied, restored from a backup or failed over brings its identity along, and
-- with it a past that may not be its own: jobs look queued that were sent since. What the server tells of itself is kept, and
-- while it tells something else nothing is sent, until a person says what happened.

ALTER TABLE nightbatch.installation
    -- Batches of this installation at a provider that the ledger does not know: so it looks after a disk snapshot was put back,
    -- which changes nothing that a server tells of itself.
    ADD COLUMN doubted_because text,
    -- What a person says happened; the hourly recovery reads the providers' lists and carries it out.
    ADD COLUMN said text CHECK (said IN ('moved', 'restored')),
    ADD COLUMN said_at timestamptz;

ALTER TABLE nightbatch.decision DROP CONSTRAINT decision_choice_check,
    ADD CONSTRAINT decision_choice_check
        CHECK (choice IN ('resend', 'drop', 'adopt', 'cancel', 'retry', 'load', 'moved', 'restored', 'copy'));

-- A list is also read before the first create of a night, and once in a night is enough.
ALTER TABLE nightbatch.account_walk ALTER COLUMN walked_at DROP NOT NULL, ADD COLUMN looked_at timestamptz;

-- The number in the custom_ids of an attempt that a restored ledger adopted: it may have been given again since the backup.
ALTER TABLE nightbatch.batch ADD COLUMN sent_as bigint;

-- What cannot be read, since a managed server forbids it or is no Postgres inside, is empty, and stays so.
CREATE FUNCTION nightbatch.server_marks(OUT system_identifier bigint, OUT timeline bigint, OUT database_oid oid)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog AS $$
BEGIN
    SELECT d.oid INTO database_oid FROM pg_database AS d WHERE d.datname = current_database();
    BEGIN
        SELECT s.system_identifier INTO system_identifier FROM pg_control_system() AS s;
    EXCEPTION WHEN insufficient_privilege OR undefined_function OR feature_not_supported THEN
        system_identifier := NULL;
    END;
    BEGIN
        -- Not pg_control_checkpoint: it tells the old timeline until the first checkpoint after a promotion.
        timeline := ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint;
    EXCEPTION WHEN insufficient_privilege OR undefined_function OR feature_not_supported OR object_not_in_prerequisite_state THEN
        timeline := NULL;
    END;
END
$$;
GRANT EXECUTE ON FUNCTION nightbatch.server_marks() TO nightbatch_worker, nightbatch_owner;

-- Why this database is not known to be the right one, in words; empty when it is.
CREATE FUNCTION nightbatch.displaced() RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog AS $$
    SELECT nullif(concat_ws('; ',
        CASE WHEN i.known_at IS NULL THEN NULL
            WHEN m.system_identifier IS DISTINCT FROM i.system_identifier THEN 'it is on another server than before'
            WHEN m.database_oid IS DISTINCT FROM i.database_oid THEN 'it is another database of its server than before'
            WHEN m.timeline IS DISTINCT FROM i.timeline THEN 'its server was restored from a backup, or a standby took over'
        END, i.doubted_because), '')
    FROM nightbatch.installation AS i, nightbatch.server_marks() AS m
$$;
GRANT EXECUTE ON FUNCTION nightbatch.displaced() TO nightbatch_worker, nightbatch_owner;

CREATE FUNCTION nightbatch.enforce_home() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    why text := nightbatch.displaced();
BEGIN
    IF why IS NOT NULL THEN
        RAISE EXCEPTION 'attempt %: nothing is sent from this database: %', NEW.id, why
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER an_attempt_is_sent_from_home BEFORE UPDATE ON nightbatch.batch
    FOR EACH ROW WHEN (NEW.state = 'submitting' AND OLD.state <> 'submitting') EXECUTE FUNCTION nightbatch.enforce_home();

UPDATE nightbatch.installation AS i SET (system_identifier, timeline, database_oid, known_at)
    = (SELECT m.system_identifier, m.timeline, m.database_oid, now() FROM nightbatch.server_marks() AS m);

-- A key that was rotated: the account of the key before it, proven by a batch that both can see.
ALTER TABLE nightbatch.connection_seen ADD COLUMN same_as text;
CREATE INDEX batch_account ON nightbatch.batch (provider, account_fingerprint, submitted_at);

-- A held attempt no longer stops its account's others: requests carry a nonce, so whose batch it is shows at the latest in its results,
-- and while two attempts may own an unknown one nobody adopts it before.
DROP INDEX nightbatch.one_create_in_doubt_per_anthropic_workspace;
CREATE UNIQUE INDEX one_create_under_way_per_anthropic_workspace ON nightbatch.batch (account_fingerprint)
WHERE provider = 'anthropic' AND mode = 'batch' AND state = 'submitting';
