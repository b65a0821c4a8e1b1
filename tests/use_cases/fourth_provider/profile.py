"""What there is to know of Acme outside its adapter."""

from __future__ import annotations

from datetime import timedelta

from nightbatch.core.models import Limits
from nightbatch.core.profiles import MediaRules, ProviderProfile

PROFILE = ProviderProfile(
    name="acme",
    title="Acme",
    adapter="tests.use_cases.fourth_provider.adapter:AcmeBatches",
    lines="nightbatch.providers.openai_requests:line",
    sdk="openai",
    base_url="https://api.acme.example/v1",
    base_url_variable="ACME_BASE_URL",
    key_variables=("ACME_API_KEY",),
    connection_type="generic",
    connection_extras=(),
    ways_in={},
    payer_extras=(),
    dialect="openai",
    endpoints=("chat", "responses", "embeddings"),
    chat_model="gpt-6-luna",
    embedding_model="text-embedding-3-small",
    model_prefix="",
    limits=Limits(max_requests=2, max_bytes=1_000_000, max_request_bytes=900_000),
    media=MediaRules(
        images=frozenset({"image/png"}), videos=frozenset(), others=frozenset(), inside=500_000, image=500_000
    ),
    tagged=True,
    takes_files=True,
    names_uploads=False,
    shared_queue=False,
    results_kept=timedelta(days=7),
    overdue_hours=0,
    price_library_id="openai",
    counts_like_openai=True,
    bill="console.acme.example > Usage",
)
