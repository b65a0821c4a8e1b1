-- Who may do what. Give a person or service one of these roles: GRANT nightbatch_producer TO etl;

GRANT USAGE ON SCHEMA nightbatch TO nightbatch_producer, nightbatch_reporter, nightbatch_worker;
GRANT USAGE ON SCHEMA nightbatch_report TO nightbatch_reporter, nightbatch_worker;

-- A producer inserts; reading the id back lets INSERT ... RETURNING id work, and shows no payload.
GRANT INSERT (job_type, provider, model, priority, input, dedup_key, labels, not_before, deadline) ON nightbatch.job
    TO nightbatch_producer;
GRANT SELECT (id) ON nightbatch.job TO nightbatch_producer;

GRANT SELECT ON nightbatch.job_status TO nightbatch_reporter;
GRANT SELECT ON ALL TABLES IN SCHEMA nightbatch_report TO nightbatch_reporter;

GRANT SELECT, INSERT ON nightbatch.job TO nightbatch_worker;
GRANT SELECT, INSERT, UPDATE ON nightbatch.run, nightbatch.batch, nightbatch.gathered, nightbatch.alert TO nightbatch_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON nightbatch.batch_job, nightbatch.open_job, nightbatch.dismissed TO nightbatch_worker;
GRANT SELECT, INSERT ON nightbatch.result, nightbatch.reject TO nightbatch_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON nightbatch.embedding TO nightbatch_worker;
GRANT SELECT ON nightbatch.job_status, nightbatch.price_override, nightbatch.budget TO nightbatch_worker;
GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA nightbatch_report TO nightbatch_worker;
REVOKE ALL ON FUNCTION nightbatch.settled_job_id() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION nightbatch.settled_job_id() TO nightbatch_worker;

GRANT USAGE, CREATE ON SCHEMA nightbatch, nightbatch_report TO nightbatch_owner;
GRANT ALL ON ALL TABLES IN SCHEMA nightbatch, nightbatch_report TO nightbatch_owner;
