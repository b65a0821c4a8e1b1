"""Processes that are killed in the middle of their work; each function here starts one, and says how it ended.

They are forked from a server that has imported everything once: the imports would take longer than the test.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping
from typing import Any, Literal

from nightbatch.batches import fallback, loading, submission
from nightbatch.core.settings import Settings
from nightbatch.job_types import job_types
from nightbatch.postgres.store import Store, open_store
from nightbatch.providers import build

Work = Literal["submit", "load"]

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    ["__main__", __name__, *(f"nightbatch.providers.{name}" for name in ("anthropic", "gemini", "openai"))]
)


def run(work: Work, batch_id: int, *, dsn: str, provider: str, key: str, url: str, **dies: str) -> int:
    """Do the work in a process of its own that dies by SIGKILL ``before`` or ``after`` that method; its return code."""
    return _ended(_killed, work, batch_id, dsn, provider, key, url, dies)


def answer_urgent(step: int, moment: str, *, dsn: str, key: str, url: str) -> int:
    """Answer by Gemini in a process of its own that dies before or after that statement or call; its return code."""
    return _ended(_killed_at, step, moment, dsn, key, url)


def _ended(work: Callable[..., None], *given: Any) -> int:
    process = _SERVER.Process(target=_as_here, args=(dict(os.environ), work, given))
    process.start()
    process.join(120)
    assert process.exitcode is not None, "it does not end"
    return process.exitcode


def _as_here(environment: Mapping[str, str], work: Callable[..., None], given: tuple[Any, ...]) -> None:
    """With the environment of the test: that of the server is older."""
    os.environ.clear()
    os.environ.update(environment)
    work(*given)


def _killed(work: Work, batch_id: int, dsn: str, name: Any, key: str, url: str, dies: Mapping[str, str]) -> None:
    provider = build(name, api_key=key, base_url=url)
    with open_store(dsn) as store:
        for moment, method in dies.items():
            _arm(store if hasattr(Store, method) else provider, method, moment)
        if work == "submit":
            submission.submit_batch(store, provider, job_types(), Settings.from_env(), batch_id)
        else:
            loading.load_batch(store, provider, job_types(), batch_id)


def _arm(thing: Any, method: str, moment: str) -> None:
    whole: Callable[..., Any] = getattr(thing, method)

    def die(*args: Any, **kwargs: Any) -> None:
        if moment == "after":
            whole(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(thing, method, die)


def _killed_at(step: int, moment: str, dsn: str, key: str, url: str) -> None:
    left = step

    def dying(work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0 and moment == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            done = work(*args, **kwargs)
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        return call

    for method in ("run", "_batches"):
        setattr(Store, method, dying(getattr(Store, method)))
    provider: Any = build("gemini", api_key=key, base_url=url)
    provider.ask = dying(provider.ask)
    with open_store(dsn) as store:
        fallback.answer_urgent(store, lambda _: provider, job_types(), Settings())
