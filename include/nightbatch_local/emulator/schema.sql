-- What the emulated providers remember. One file, write-ahead log, so that a kill -9 loses nothing that was committed.

CREATE TABLE IF NOT EXISTS file (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT NOT NULL,
    provider   TEXT NOT NULL,
    account    TEXT NOT NULL,
    label      TEXT NOT NULL,           -- OpenAI's filename, Gemini's display name
    purpose    TEXT NOT NULL,           -- OpenAI's purpose; Gemini: uploaded | generated
    mime       TEXT NOT NULL,
    bytes      INTEGER NOT NULL,
    sha256     TEXT NOT NULL,
    path       TEXT NOT NULL,
    created_at REAL NOT NULL,
    expires_at REAL,
    UNIQUE (provider, account, id)
);

-- A resumable Gemini upload under way; how far it is follows from the size of `path`.
CREATE TABLE IF NOT EXISTS upload (
    id      TEXT PRIMARY KEY,
    account TEXT NOT NULL,
    name    TEXT NOT NULL,
    label   TEXT NOT NULL,
    mime    TEXT NOT NULL,
    bytes   INTEGER NOT NULL,
    path    TEXT NOT NULL
);

CREATE TABLE IF NOT EXISTS batch (
    seq           INTEGER PRIMARY KEY AUTOINCREMENT,
    id            TEXT NOT NULL UNIQUE,
    provider      TEXT NOT NULL,
    account       TEXT NOT NULL,
    endpoint      TEXT NOT NULL,
    model         TEXT,
    label         TEXT,                 -- OpenAI's metadata as JSON, Gemini's display name
    input_file    TEXT,
    input_path    TEXT NOT NULL,
    output_kept   REAL,                 -- seconds that output files live
    created_at    REAL NOT NULL,
    due_at        REAL NOT NULL,
    expires_at    REAL NOT NULL,
    tokens        INTEGER NOT NULL,     -- estimate, for the enqueued-token limit
    checked_at    REAL,
    total         INTEGER NOT NULL DEFAULT 0,
    expiring      INTEGER NOT NULL DEFAULT 0,  -- requests marked never to finish
    cancelling_at REAL,
    ending        TEXT,                 -- how it shall end, if not by itself
    finished      REAL NOT NULL DEFAULT 1,     -- the share of requests done by then
    outcome       TEXT CHECK (outcome IN ('completed', 'failed', 'expired', 'cancelled')),
    ended_at      REAL,
    succeeded     INTEGER NOT NULL DEFAULT 0,
    errored       INTEGER NOT NULL DEFAULT 0,
    late          INTEGER NOT NULL DEFAULT 0,
    errors        TEXT,
    usage         TEXT,
    output_file   TEXT,
    error_file    TEXT,
    deleted_at    REAL,
    CHECK ((outcome IS NULL) = (ended_at IS NULL))
);
CREATE INDEX IF NOT EXISTS batch_open ON batch (due_at) WHERE outcome IS NULL;

CREATE TABLE IF NOT EXISTS billing (
    seq           INTEGER PRIMARY KEY AUTOINCREMENT,
    provider      TEXT NOT NULL,
    account       TEXT NOT NULL,
    batch_id      TEXT,
    custom_id     TEXT,
    line          INTEGER,
    model         TEXT NOT NULL,
    input_tokens  INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cost_usd      TEXT,
    billed_at     REAL NOT NULL,
    processing    TEXT NOT NULL,
    units         TEXT NOT NULL DEFAULT '{}',  -- what else was used, as JSON
    UNIQUE (batch_id, line)             -- a request of a batch is charged once, whatever happens
);
CREATE INDEX IF NOT EXISTS billing_account ON billing (account);

-- How much of the billing table stands in the JSONL copy at `path`.
CREATE TABLE IF NOT EXISTS export (path TEXT PRIMARY KEY, seq INTEGER NOT NULL, bytes INTEGER NOT NULL);

CREATE TABLE IF NOT EXISTS revoked_key (sha256 TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS token_limit (provider TEXT, account TEXT, tokens INTEGER NOT NULL, PRIMARY KEY (provider, account));
CREATE TABLE IF NOT EXISTS clock (id INTEGER PRIMARY KEY CHECK (id = 1), ahead REAL NOT NULL);
