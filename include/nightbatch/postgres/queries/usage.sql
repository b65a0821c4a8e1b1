-- usual: tokens per answered job of one type, provider and model in the last 30 days; no row without an answer. Jobs that failed
-- unpaid count as answers of nothing, so that savings made of this are not overstated
SELECT sum(succeeded + failed)::bigint,
    (sum(input_tokens) / sum(succeeded + failed))::double precision,
    (sum(cached_tokens) / sum(succeeded + failed))::double precision,
    (sum(output_tokens) / sum(succeeded + failed))::double precision
FROM nightbatch_report.batch_rollup
WHERE day > (now() AT TIME ZONE 'UTC')::date - 30 AND job_type = %(job_type)s AND provider = %(provider)s AND model = %(model)s
HAVING sum(succeeded + failed) > 0 AND sum(input_tokens) > 0;
