"""What there is to know of Anthropic outside its adapter."""

from __future__ import annotations

from datetime import timedelta

from nightbatch.core.models import Limits
from nightbatch.core.profiles import MediaRules, ProviderProfile

_MB = 1_000_000

PROFILE = ProviderProfile(
    name="anthropic",
    title="Anthropic",
    adapter="nightbatch.providers.anthropic:AnthropicBatches",
    lines="nightbatch.providers.anthropic_requests:line",
    sdk="anthropic",
    base_url="https://api.anthropic.com",
    base_url_variable="ANTHROPIC_BASE_URL",
    key_variables=("ANTHROPIC_API_KEY",),
    connection_type="anthropic",
    connection_extras=("platform", "model", "aws_region", "project_id", "region", "resource", "workload_identity"),
    ways_in={"platform": "anthropic", "workload_identity": None},
    payer_extras=(),
    dialect="anthropic",
    endpoints=("chat",),
    chat_model="claude-haiku-5-5",
    embedding_model=None,
    model_prefix="",
    # https://docs.anthropic.com/en/docs/build-with-claude/batch-processing: 100,000 requests or 256 MB
    limits=Limits(max_requests=100_000, max_bytes=256 * _MB, max_request_bytes=240 * _MB),
    # https://docs.claude.com/en/docs/build-with-claude/vision and /pdf-support: 5 MB an image, 32 MB a request
    media=MediaRules(
        images=frozenset({"image/png", "image/jpeg", "image/webp", "image/gif"}),
        videos=frozenset(),
        others=frozenset({"application/pdf"}),
        inside=30 * _MB,
        image=5 * _MB,
    ),
    tagged=False,
    takes_files=False,
    names_uploads=False,
    shared_queue=True,
    results_kept=timedelta(days=29),  # https://platform.claude.com/docs/en/build-with-claude/batch-processing
    overdue_hours=0,
    price_library_id="anthropic",
    counts_like_openai=False,
    bill="the Claude Console > Usage and Cost, for the workspace of the key",
)
