"""Shows one creative to several models, as one group: the view ``nightbatch.council`` tells the verdict once all are in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any
from uuid import uuid4

from nightbatch.core.errors import NightbatchError, Rejected
from nightbatch.core.models import ProviderName
from nightbatch.job_types.base import JobType
from nightbatch.postgres.staging import Row, insert_rows
from nightbatch.postgres.store import Store

JOB_TYPE = "creative_scoring"


def convene(
    store: Store,
    types: Mapping[str, JobType],
    creative: Mapping[str, Any],
    members: Sequence[tuple[ProviderName, str | None]],
    *,
    priority: int = 5,
    labels: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Insert a scoring job for each member, a provider with a model or None for its default; return the council's name.

    Raises `Rejected` for a creative that cannot be scored, and `NightbatchError` for fewer than two different members.
    """
    kind = types[JOB_TYPE]
    known = {(provider, model or kind.models[provider]) for provider, model in members}
    if len(known) < 2 or len(known) < len(members):
        raise NightbatchError("A council needs at least two members, each another model.")
    try:
        text = json.dumps(creative, ensure_ascii=False).encode()
        kind.render_request(text)
    except UnicodeEncodeError:
        raise Rejected("the creative holds half a character (a lone surrogate)") from None
    name = f"council-{uuid4().hex[:12]}"
    marked = json.dumps({**labels, "council": name}).encode()
    rows: list[Row] = [
        (JOB_TYPE, provider, model, priority, text, f"{name}:{provider}:{model or ''}", marked, None, None, None, None)
        for provider, model in members
    ]
    insert_rows(store, rows)
    return name
