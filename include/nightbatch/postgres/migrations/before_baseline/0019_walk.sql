-- After a night each account's list is read once for batches of ours that the ledger does not have: something on the way may have
-- sent a create twice.
CREATE TABLE nightbatch.account_walk (
    provider text NOT NULL CHECK (provider IN ('openai', 'anthropic', 'gemini')),
    account_fingerprint text NOT NULL,
    walked_at timestamptz NOT NULL,
    PRIMARY KEY (provider, account_fingerprint)
);
GRANT SELECT, INSERT, UPDATE ON nightbatch.account_walk TO nightbatch_worker;
GRANT ALL ON nightbatch.account_walk TO nightbatch_owner;
