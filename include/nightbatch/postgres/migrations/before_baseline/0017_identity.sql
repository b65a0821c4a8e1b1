-- Who sent what, beyond this database: another installation may use the same account, and numbers its jobs and attempts alike.

-- The installation that this database belongs to. What the server told of itself when it was last known to be the right one
-- stands beside it: a database that was copied, restored, or failed over brings the id along, and nothing else tells.
CREATE TABLE nightbatch.installation (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    id text NOT NULL DEFAULT left(replace(gen_random_uuid()::text, '-', ''), 8)
        CONSTRAINT an_id_has_8_hex_digits CHECK (id ~ '^[0-9a-f]{8}$'),
    system_identifier bigint,
    timeline bigint,
    database_oid oid,
    known_at timestamptz
);
INSERT INTO nightbatch.installation DEFAULT VALUES;
GRANT SELECT, UPDATE ON nightbatch.installation TO nightbatch_worker;
GRANT ALL ON nightbatch.installation TO nightbatch_owner;

-- A tag is unique beyond this database, and says whose it is. 35 characters: with five more it names a file of Gemini's.
CREATE FUNCTION nightbatch.new_tag() RETURNS text LANGUAGE sql VOLATILE
RETURN 'nb-' || (SELECT i.id FROM nightbatch.installation AS i) || '-' || right(replace(gen_random_uuid()::text, '-', ''), 23);
GRANT EXECUTE ON FUNCTION nightbatch.new_tag() TO nightbatch_worker, nightbatch_owner;
ALTER TABLE nightbatch.batch ALTER COLUMN tag SET DEFAULT nightbatch.new_tag();

-- What the custom_ids of an attempt end with: 16 digits of its tag. It is set together with the hash of the requests, so it says
-- what was rendered. Empty where an earlier release did that: its custom_ids have none.
ALTER TABLE nightbatch.batch ADD COLUMN nonce text CONSTRAINT a_nonce_has_16_hex_digits CHECK (nonce ~ '^[0-9a-f]{16}$'),
    ADD CONSTRAINT a_nonce_comes_with_the_hash CHECK (nonce IS NULL OR payload_sha256 IS NOT NULL);
