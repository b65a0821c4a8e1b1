-- Videos and images that were uploaded to a provider for requests to refer to: once per account and content.

CREATE TABLE nightbatch.media (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    provider text NOT NULL CHECK (provider IN ('openai', 'anthropic', 'gemini')),
    account_fingerprint text NOT NULL,
    sha256 text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    mime_type text NOT NULL,
    bytes bigint NOT NULL CHECK (bytes >= 0),
    file_name text NOT NULL,
    uri text NOT NULL,
    uploaded_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    -- Set before the provider is asked to delete it, so that no request refers to it from then on.
    deleted_at timestamptz,
    UNIQUE (provider, account_fingerprint, file_name)
);
CREATE INDEX media_content ON nightbatch.media (provider, account_fingerprint, sha256) WHERE deleted_at IS NULL;

-- Which attempts refer to it; it is deleted when none of them is open any more.
CREATE TABLE nightbatch.media_use (
    media_id bigint NOT NULL REFERENCES nightbatch.media,
    batch_id bigint NOT NULL REFERENCES nightbatch.batch,
    PRIMARY KEY (media_id, batch_id)
);

GRANT SELECT, INSERT, UPDATE ON nightbatch.media TO nightbatch_worker;
GRANT SELECT, INSERT ON nightbatch.media_use TO nightbatch_worker;
GRANT ALL ON nightbatch.media, nightbatch.media_use TO nightbatch_owner;
