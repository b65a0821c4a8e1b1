-- Batch prices that the providers publish and genai-prices 0.2.3 lacks, in USD per million tokens. Standard prices stay the
-- library's. Sources: platform.openai.com/docs/pricing (batch tab) and ai.google.dev/gemini-api/docs/pricing (batch column).
INSERT INTO nightbatch.price_override
    (provider, model, valid_from, valid_to, batch_input_usd, batch_cached_input_usd, batch_output_usd, note)
VALUES
    ('openai', 'text-embedding-3-small', '2026-10-14', NULL, 0.01, NULL, NULL, 'OpenAI Batch API price list'),
    ('openai', 'text-embedding-3-large', '2026-10-14', NULL, 0.065, NULL, NULL, 'OpenAI Batch API price list'),
    ('openai', 'text-embedding-ada-002', '2026-10-14', NULL, 0.05, NULL, NULL, 'OpenAI Batch API price list'),
    ('gemini', 'gemini-embedding-001', '2026-10-14', NULL, 0.075, NULL, NULL, 'Gemini Batch API price list'),
    ('gemini', 'gemini-3.5-flash', '2026-10-14', NULL, 0.75, 0.15, 4.5, 'Gemini Batch API price list'),
    ('gemini', 'gemini-3.7-flash', '2026-10-14', '2026-12-31', 0.375, 0.075, 1.875, 'Gemini Batch API price list'),
    ('gemini', 'gemini-3.7-flash', '2027-01-01', NULL, 0.75, 0.15, 3.75, 'Gemini Batch API price list');
