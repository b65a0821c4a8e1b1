-- Which providers there are is said by the installed packages. `nightbatch migrate` keeps their names here, so that an insert with
-- any other name is refused at once. A name stays when its package goes: its rows stay too. Being a constant to Postgres, the list
-- costs a COPY nothing.

CREATE FUNCTION nightbatch.providers() RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN '{openai,anthropic,gemini}'::text[];

CREATE FUNCTION nightbatch.register_provider(name text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    IF name <> ALL (nightbatch.providers()) THEN
        EXECUTE format('CREATE OR REPLACE FUNCTION nightbatch.providers() RETURNS text[]'
            ' LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN %L::text[]', nightbatch.providers() || name);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION nightbatch.register_provider(text) FROM PUBLIC;

-- NOT VALID: the rows of before held to more, and looking at all of them would lock the queue.
ALTER TABLE nightbatch.job DROP CONSTRAINT provider_is_openai_anthropic_or_gemini,
    ADD CONSTRAINT provider_is_registered CHECK (provider = ANY (nightbatch.providers())) NOT VALID;
ALTER TABLE nightbatch.batch DROP CONSTRAINT batch_provider_check,
    ADD CONSTRAINT batch_provider_check CHECK (provider = ANY (nightbatch.providers()));
ALTER TABLE nightbatch.price_override DROP CONSTRAINT price_override_provider_check,
    ADD CONSTRAINT price_override_provider_check CHECK (provider = ANY (nightbatch.providers()));
ALTER TABLE nightbatch.price_factor DROP CONSTRAINT price_factor_provider_check,
    ADD CONSTRAINT price_factor_provider_check CHECK (provider = ANY (nightbatch.providers()));
ALTER TABLE nightbatch.media DROP CONSTRAINT media_provider_check,
    ADD CONSTRAINT media_provider_check CHECK (provider = ANY (nightbatch.providers()));
ALTER TABLE nightbatch.token_limit DROP CONSTRAINT token_limit_provider_check,
    ADD CONSTRAINT token_limit_provider_check CHECK (provider = ANY (nightbatch.providers()));
ALTER TABLE nightbatch.account_walk DROP CONSTRAINT account_walk_provider_check,
    ADD CONSTRAINT account_walk_provider_check CHECK (provider = ANY (nightbatch.providers()));
ALTER TABLE nightbatch.connection_seen DROP CONSTRAINT connection_seen_provider_check,
    ADD CONSTRAINT connection_seen_provider_check CHECK (provider = ANY (nightbatch.providers()));

-- Where batches carry no tag, two creates in doubt at once could not be told apart in the provider's list: one at a time. The
-- intent says whether they do; what does not say so, as an older release, is taken for untagged.
ALTER TABLE nightbatch.batch ADD COLUMN tagged boolean NOT NULL DEFAULT true;
ALTER TABLE nightbatch.batch ALTER COLUMN tagged SET DEFAULT false;
UPDATE nightbatch.batch SET tagged = false WHERE provider = 'anthropic' AND closed_at IS NULL;
DROP INDEX nightbatch.one_create_under_way_per_anthropic_workspace;
CREATE UNIQUE INDEX one_untagged_create_under_way_per_account ON nightbatch.batch (provider, account_fingerprint)
WHERE NOT tagged AND mode = 'batch' AND state = 'submitting';
