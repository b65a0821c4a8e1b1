-- What the ledger knows of a provider's connection, by the account that it bills. An absence proves that a batch was never
-- created only where the connection has shown a tag of ours before: a gateway may drop them. The account '' stands for all.
CREATE TABLE nightbatch.connection_seen (
    provider text NOT NULL CHECK (provider IN ('openai', 'anthropic', 'gemini')),
    account_fingerprint text NOT NULL,
    tags_shown_at timestamptz,
    -- Tries in a row without a sign from the provider: neither an id nor a word of its own.
    silent_tries integer NOT NULL DEFAULT 0 CHECK (silent_tries >= 0),
    PRIMARY KEY (provider, account_fingerprint)
);
GRANT SELECT, INSERT, UPDATE ON nightbatch.connection_seen TO nightbatch_worker;
GRANT ALL ON nightbatch.connection_seen TO nightbatch_owner;
