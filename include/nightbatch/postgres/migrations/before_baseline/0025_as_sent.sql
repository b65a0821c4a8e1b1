-- The request as it was sent: eight bytes of each request, so that one rendered later can be told from the one that was paid for.

-- One row for an attempt, written with its payload_sha256: the XXH3-64 of each line of its input, in the order of its jobs. No
-- attempt of an earlier release has one. A hash is no payload: it stays when the input is erased, as payload_sha256 does.
CREATE TABLE nightbatch.request_hash (
    batch_id bigint PRIMARY KEY REFERENCES nightbatch.batch,
    hashes bytea NOT NULL,
    CONSTRAINT eight_bytes_a_request CHECK (octet_length(hashes) > 0 AND octet_length(hashes) % 8 = 0)
);
-- Nothing in it can be compressed; stored as it is, one hash is read without the others.
ALTER TABLE nightbatch.request_hash ALTER COLUMN hashes SET STORAGE EXTERNAL;
GRANT SELECT, INSERT ON nightbatch.request_hash TO nightbatch_worker;
GRANT ALL ON nightbatch.request_hash TO nightbatch_owner;
