-- What was paid for is kept, and priced by every unit that is billed.

-- Units beside the three of the token columns, by their names in genai-prices: {"cache_write_tokens": 1800}. Empty for most.
ALTER TABLE nightbatch.result ADD COLUMN units json;

-- What of an answer its output does not hold: calls of functions, images, further choices, thoughts, signatures, sources, the
-- reasons of a refusal, in the provider's own words. Kept as long as the output, and erased with it.
CREATE TABLE nightbatch.answer (
    job_id bigint NOT NULL,
    batch_id bigint NOT NULL,
    rest json NOT NULL,
    PRIMARY KEY (job_id, batch_id)
);
DO $$
BEGIN
    ALTER TABLE nightbatch.answer ALTER COLUMN rest SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    RAISE NOTICE 'this server was built without lz4; the answers are compressed with pglz';
END
$$;
GRANT SELECT, INSERT, DELETE ON nightbatch.answer TO nightbatch_worker;
GRANT ALL ON nightbatch.answer TO nightbatch_owner;

-- Prices of units by genai-prices' names for them, each in USD for as much as the name says. A test holds that the library has
-- no other, so that a new one is added here.
CREATE FUNCTION nightbatch.are_unit_prices(prices jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog AS $$
    SELECT CASE WHEN jsonb_typeof(prices) <> 'object' THEN false ELSE NOT EXISTS (
        SELECT FROM jsonb_each(prices) AS price (key, value)
        WHERE CASE WHEN jsonb_typeof(value) = 'number' THEN value::numeric < 0 ELSE true END
            OR key <> ALL (ARRAY[
                'cache_write_mtok', 'cache_write_5m_mtok', 'cache_write_1h_mtok', 'input_text_mtok', 'output_text_mtok',
                'cache_text_read_mtok', 'cache_text_write_mtok', 'cache_text_write_5m_mtok', 'cache_text_write_1h_mtok',
                'input_audio_mtok', 'output_audio_mtok', 'cache_audio_read_mtok', 'cache_audio_write_mtok',
                'cache_audio_write_5m_mtok', 'cache_audio_write_1h_mtok', 'input_image_mtok', 'output_image_mtok',
                'cache_image_read_mtok', 'cache_image_write_mtok', 'cache_image_write_5m_mtok', 'cache_image_write_1h_mtok',
                'input_video_mtok', 'output_video_mtok', 'cache_video_read_mtok', 'cache_video_write_mtok',
                'cache_video_write_5m_mtok', 'cache_video_write_1h_mtok', 'input_tool_mtok', 'input_text_tool_mtok',
                'input_audio_tool_mtok', 'input_image_tool_mtok', 'input_video_tool_mtok', 'output_reasoning_mtok',
                'output_text_reasoning_mtok', 'output_audio_reasoning_mtok', 'output_image_reasoning_mtok',
                'output_video_reasoning_mtok', 'output_citation_mtok', 'output_text_citation_mtok',
                'output_audio_citation_mtok', 'output_image_citation_mtok', 'output_video_citation_mtok', 'input_mchars',
                'input_text_messages_kcount', 'audio_hours', 'input_audio_hours', 'output_audio_hours', 'input_gpixels',
                'input_document_kpages', 'input_annotated_document_kpages', 'rerank_searches_kcount', 'web_searches_kcount',
                'social_searches_kcount', 'storage_searches_kcount', 'code_executions_kcount', 'requests_kcount'
            ])
    ) END
$$;
ALTER TABLE nightbatch.price_override ADD COLUMN other_usd jsonb, ADD COLUMN batch_other_usd jsonb,
    ADD CONSTRAINT other_usd_are_prices_of_units CHECK (nightbatch.are_unit_prices(other_usd)),
    ADD CONSTRAINT batch_other_usd_are_prices_of_units CHECK (nightbatch.are_unit_prices(batch_other_usd));

-- What all tokens of a request cost more under a term of its answer that genai-prices does not know. A term without a row
-- leaves the request without a price.
CREATE TABLE nightbatch.price_factor (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    provider text NOT NULL CHECK (provider IN ('openai', 'anthropic', 'gemini')),
    term text NOT NULL,
    valid_from date NOT NULL DEFAULT current_date,
    valid_to date CHECK (valid_to >= valid_from),
    factor numeric NOT NULL CHECK (factor > 0),
    note text NOT NULL
);
GRANT SELECT ON nightbatch.price_factor TO nightbatch_worker;
GRANT ALL ON nightbatch.price_factor TO nightbatch_owner;
INSERT INTO nightbatch.price_factor (provider, term, valid_from, factor, note) VALUES
    ('anthropic', 'inference_geo=us', '2026-02-01', 1.1, 'docs.claude.com/en/docs/about-claude/pricing, data residency');
