-- Ready bodies go where they belong: a file of OpenAI's holds requests to one endpoint, and what a raw job asks tells to which.

ALTER TABLE nightbatch.batch DROP CONSTRAINT batch_endpoint_check;
ALTER TABLE nightbatch.batch ADD CONSTRAINT batch_endpoint_check CHECK (endpoint IN
    ('chat', 'responses', 'embeddings', 'completions', 'moderations', 'images', 'image_edits', 'videos'));

-- The endpoint of a raw job: what its url says, else what its body looks like. Text is compared, so that any JSON passes.
CREATE FUNCTION nightbatch.raw_endpoint(provider text, input json) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog
RETURN CASE
    WHEN provider = 'gemini' THEN
        CASE WHEN input #> '{body,contents}' IS NULL AND input #> '{body,content}' IS NOT NULL THEN 'embeddings' ELSE 'chat' END
    WHEN provider <> 'openai' THEN 'chat'
    ELSE CASE input ->> 'url'
        WHEN '/v1/chat/completions' THEN 'chat'
        WHEN '/v1/responses' THEN 'responses'
        WHEN '/v1/embeddings' THEN 'embeddings'
        WHEN '/v1/completions' THEN 'completions'
        WHEN '/v1/moderations' THEN 'moderations'
        WHEN '/v1/images/generations' THEN 'images'
        WHEN '/v1/images/edits' THEN 'image_edits'
        WHEN '/v1/videos' THEN 'videos'
        ELSE CASE
            WHEN input #> '{body,messages}' IS NOT NULL THEN 'chat'
            WHEN input #>> '{body,model}' ~ 'embedding' OR input #> '{body,encoding_format}' IS NOT NULL THEN 'embeddings'
            WHEN input #>> '{body,model}' ~ 'moderation' THEN 'moderations'
            WHEN input #> '{body,input}' IS NOT NULL THEN 'responses'
            WHEN input #>> '{body,model}' ~ '^(gpt-image|chatgpt-image|dall-e)' THEN 'images'
            WHEN input #>> '{body,model}' ~ '^sora' THEN 'videos'
            WHEN input #> '{body,prompt}' IS NOT NULL AND json_typeof(input #> '{body,prompt}') <> 'object' THEN 'completions'
            WHEN input #> '{body,prompt}' IS NOT NULL OR input #> '{body,instructions}' IS NOT NULL THEN 'responses'
            ELSE 'chat'
        END
    END
END;
GRANT EXECUTE ON FUNCTION nightbatch.raw_endpoint(text, json) TO nightbatch_worker, nightbatch_owner;
