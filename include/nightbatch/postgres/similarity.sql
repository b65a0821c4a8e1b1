-- similar: a job's nearest neighbours with their labels, nearest first for each of its vectors
SELECT s.of_position, s.job_id, s.position, s.similarity, j.labels
FROM nightbatch.similar(ARRAY[%(job_id)s::bigint], %(at_most)s) AS s
JOIN nightbatch.job AS j ON j.id = s.job_id
ORDER BY s.of_position, s.similarity DESC, s.job_id, s.position;

-- has_vectors: whether a job's texts were embedded
SELECT EXISTS (SELECT FROM nightbatch.embedding WHERE job_id = %(job_id)s);
