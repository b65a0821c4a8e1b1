-- Nearest neighbours over the vectors of embedding jobs, and the verdict of a council.

-- For each vector of the given jobs, its nearest neighbours by cosine similarity (1: the same direction): exact, and only
-- among vectors of the same model and size, since others cannot be compared.
DO $$
BEGIN
    IF to_regtype('public.vector') IS NULL THEN
        CREATE FUNCTION nightbatch.similar(of_jobs bigint[], at_most integer DEFAULT 10)
        RETURNS TABLE (of_job bigint, of_position integer, job_id bigint, "position" integer, similarity double precision)
        LANGUAGE plpgsql STABLE AS $body$
        BEGIN
            RAISE EXCEPTION 'pgvector is not installed on this server: nightbatch.embedding holds arrays, without a search'
                USING ERRCODE = 'feature_not_supported', HINT = 'Install pgvector, then load the embeddings anew.';
        END
        $body$;
    ELSE
        CREATE FUNCTION nightbatch.similar(of_jobs bigint[], at_most integer DEFAULT 10)
        RETURNS TABLE (of_job bigint, of_position integer, job_id bigint, "position" integer, similarity double precision)
        LANGUAGE sql STABLE AS $body$
            SELECT q.job_id, q.position, n.job_id, n.position, 1 - n.distance
            FROM nightbatch.embedding AS q
            JOIN nightbatch.batch AS qb ON qb.id = q.batch_id
            CROSS JOIN LATERAL (
                SELECT e.job_id, e.position, e.embedding OPERATOR(public.<=>) q.embedding AS distance
                FROM nightbatch.embedding AS e
                JOIN nightbatch.batch AS b ON b.id = e.batch_id
                WHERE b.provider = qb.provider AND b.model = qb.model
                    AND public.vector_dims(e.embedding) = public.vector_dims(q.embedding)
                    AND (e.job_id, e.position) <> (q.job_id, q.position)
                ORDER BY distance, e.job_id, e.position LIMIT at_most
            ) AS n
            WHERE q.job_id = ANY (of_jobs)
            ORDER BY q.job_id, q.position, n.distance, n.job_id
        $body$;
    END IF;
END
$$;

-- A number of an output; NULL where there is none, or where the output holds what text cannot.
CREATE FUNCTION nightbatch.number_in(output json, name text) RETURNS numeric LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog AS $$
BEGIN
    RETURN (output ->> name)::numeric;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END
$$;

-- The same creative before several models: jobs that share the label `council`. The verdict stands once all are in; the
-- dissenter is the member that is furthest from the middle.
CREATE VIEW nightbatch.council AS
WITH scored AS (
    SELECT
        j.labels ->> 'council' AS council, j.id, s.state, j.provider || coalesce(' ' || b.model, '') AS member, r.overall
    FROM nightbatch.job AS j
    JOIN nightbatch.job_status AS s ON s.job_id = j.id
    LEFT JOIN nightbatch.batch AS b ON b.id = s.batch_id
    LEFT JOIN LATERAL (
        SELECT nightbatch.number_in(l.output, 'overall') AS overall
        FROM nightbatch.result AS l WHERE l.job_id = j.id AND l.outcome = 'succeeded' ORDER BY l.batch_id DESC LIMIT 1
    ) AS r ON true
    WHERE j.labels ? 'council'
), middle AS (
    SELECT council, percentile_cont(0.5) WITHIN GROUP (ORDER BY overall::double precision)::numeric AS overall
    FROM scored GROUP BY council
)
SELECT
    council, count(*) AS members, count(scored.overall) AS answered,
    bool_and(state IN ('succeeded', 'failed', 'rejected', 'cancelled')) AS complete,
    middle.overall AS overall, max(scored.overall) - min(scored.overall) AS spread,
    round(stddev_pop(scored.overall), 1) AS deviation,
    (array_agg(member ORDER BY abs(scored.overall - middle.overall) DESC NULLS LAST, id))[1] AS dissenter,
    max(abs(scored.overall - middle.overall)) AS dissent
FROM scored JOIN middle USING (council)
GROUP BY council, middle.overall;

GRANT EXECUTE ON FUNCTION nightbatch.similar(bigint[], integer), nightbatch.number_in(json, text) TO nightbatch_worker;
GRANT SELECT ON nightbatch.council TO nightbatch_worker;
GRANT ALL ON nightbatch.council TO nightbatch_owner;
