-- Locks that only the worker's role can take. Advisory locks were there for everybody who may connect: a reporter or a producer
-- could have stopped every plan. A lock is a row that a transaction has written, and ends with the transaction.
CREATE TABLE nightbatch.named_lock (
    name text PRIMARY KEY
);
GRANT SELECT, INSERT, UPDATE, DELETE ON nightbatch.named_lock TO nightbatch_worker;
GRANT ALL ON nightbatch.named_lock TO nightbatch_owner;
