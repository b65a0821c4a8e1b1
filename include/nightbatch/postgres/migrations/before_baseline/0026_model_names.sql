-- A model's name holds no white space, no quotes, no control characters and no punctuation that only text has: what is copied
-- from a page may. White space around it is taken off when a job is planned. Rows of before stay as they are.
ALTER TABLE nightbatch.job ADD CONSTRAINT model_is_a_name
    CHECK (btrim(model, E' \t\n\r') ~ '^[^\u0001-\u0020\u007f-\u00a0\u00ad\u2000-\u206f\u3000\ufeff"''`]+$') NOT VALID;
