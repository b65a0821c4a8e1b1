"""Answer equal jobs once: a job that asks for it gets the result of an earlier one, at no cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

import orjson

from nightbatch.core.errors import Rejected
from nightbatch.core.ledger import Route
from nightbatch.core.models import Prompt
from nightbatch.job_types.base import JobType, costs_the_job
from nightbatch.postgres import lifecycle
from nightbatch.postgres.store import Store


def answer(store: Store, types: Mapping[str, JobType], routes: Sequence[Route], *, run_id: str | None) -> int:
    """Answer gathered jobs from earlier results, and return how many: same input, type, provider, model, prompt version.

    Call it in the plan's transaction, after the run's limit and before its budgets. Without ``run_id`` the jobs are only left
    out of what was gathered, for an estimate.
    """
    if not lifecycle.asks_the_cache(store):
        return 0
    versions = [types[route.job_type].prompt_version for route in routes]
    able = [name for name, kind in types.items() if _tells_all(kind)]
    answered = lifecycle.find_answers(store, routes, versions, able)
    if run_id is not None:
        lifecycle.copy_answers(store, run_id)
    return answered


def _tells_all(kind: JobType) -> bool:
    """Say whether equal inputs of a type ask the same.

    A media file may change under its name, and a reprocessing wants a new answer.
    """
    with suppress(Rejected), costs_the_job(f"the job type {kind.name}"):
        request = kind.render_request(orjson.dumps(kind.example))
        return not (isinstance(request, Prompt) and request.media)
    return False
