"""What there is to know of OpenAI outside its adapter."""

from __future__ import annotations

from datetime import timedelta

from nightbatch.core.models import Limits
from nightbatch.core.profiles import MediaRules, ProviderProfile

_MB = 1_000_000

PROFILE = ProviderProfile(
    name="openai",
    title="OpenAI",
    adapter="nightbatch.providers.openai:OpenAIBatches",
    lines="nightbatch.providers.openai_requests:line",
    sdk="openai",
    base_url="https://api.openai.com/v1",
    base_url_variable="OPENAI_BASE_URL",
    key_variables=("OPENAI_API_KEY",),
    connection_type="openai",
    connection_extras=(
        "auth_type", "identity_provider_id", "service_account_id", "workload_identity_provider", "token_file_path",
        "resource", "object_id", "client_id", "msi_res_id", "api_version", "audience", "token_provider", "token_type",
        "refresh_buffer_seconds",
    ),
    ways_in={"auth_type": "api_key"},
    payer_extras=("organization", "project"),
    dialect="openai",
    endpoints=(
        "chat", "responses", "embeddings", "completions", "moderations", "images", "image_edits", "videos",
    ),
    chat_model="gpt-6-luna",
    embedding_model="text-embedding-3-small",
    model_prefix="",
    # https://platform.openai.com/docs/guides/batch: 50,000 requests and 200 MB a file
    limits=Limits(max_requests=50_000, max_bytes=200 * _MB, max_request_bytes=190 * _MB),
    # https://platform.openai.com/docs/guides/images-vision, /pdf-files and /audio: 50 MB in a request
    media=MediaRules(
        images=frozenset({"image/png", "image/jpeg", "image/webp", "image/gif"}),
        videos=frozenset(),
        others=frozenset({"application/pdf", "audio/mpeg", "audio/wav"}),
        inside=48 * _MB,
        image=48 * _MB,
    ),
    tagged=True,
    takes_files=True,
    names_uploads=False,
    shared_queue=False,
    results_kept=timedelta(days=30),  # output files: https://platform.openai.com/docs/guides/batch
    overdue_hours=0,
    price_library_id="openai",
    counts_like_openai=True,
    bill="platform.openai.com > Usage, for the project of the key",
)  # fmt: skip
