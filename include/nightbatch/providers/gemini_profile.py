"""What there is to know of Gemini outside its adapter."""

from __future__ import annotations

from datetime import timedelta

from nightbatch.core.models import Limits
from nightbatch.core.profiles import MediaRules, ProviderProfile

_MB = 1_000_000

PROFILE = ProviderProfile(
    name="gemini",
    title="Gemini",
    adapter="nightbatch.providers.gemini:GeminiBatches",
    lines="nightbatch.providers.gemini_requests:line",
    sdk="google-genai",
    base_url="https://generativelanguage.googleapis.com",
    base_url_variable="GOOGLE_GEMINI_BASE_URL",
    key_variables=("GEMINI_API_KEY", "GOOGLE_API_KEY"),  # the SDK reads both; ``.env`` uses the first
    connection_type="gemini",
    connection_extras=(),
    ways_in={},
    payer_extras=(),
    dialect="gemini",
    endpoints=("chat", "embeddings"),
    chat_model="gemini-3.5-flash-lite",
    embedding_model="gemini-embedding-001",
    model_prefix="models/",
    # https://ai.google.dev/gemini-api/docs/batch-api: 2 GB a file; requests as for OpenAI, so that a batch stays loadable
    limits=Limits(max_requests=50_000, max_bytes=2_000 * _MB, max_request_bytes=1_800 * _MB),
    # https://ai.google.dev/gemini-api/docs/video-understanding, /audio and /files: 20 MB in a request, 2 GB a file
    media=MediaRules(
        images=frozenset({"image/png", "image/jpeg", "image/webp", "image/heic", "image/heif"}),
        videos=frozenset(
            {
                "video/mp4", "video/mpeg", "video/mov", "video/avi", "video/x-flv", "video/webm", "video/wmv", "video/3gpp",
            }
        ),
        others=frozenset({"application/pdf", "audio/mpeg", "audio/wav", "audio/flac", "audio/ogg"}),
        inside=18 * _MB,
        image=18 * _MB,
        file=2_000 * _MB,
    ),
    tagged=True,
    takes_files=True,
    names_uploads=True,
    shared_queue=False,
    results_kept=timedelta(hours=48),  # files, as a rule: https://ai.google.dev/gemini-api/docs/files
    overdue_hours=50,  # its batches may take 48 hours before they expire
    price_library_id="google",
    counts_like_openai=False,
    bill="Google AI Studio > Usage and Billing, or Google Cloud > Billing > Reports for the key's project",
)  # fmt: skip
