"""One schema and template through a job type, an adapter and the emulator of its provider."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from traceback import format_exception_only
from typing import Any

import orjson

from nightbatch.core.errors import Rejected
from nightbatch.core.models import ProviderName
from nightbatch.core.provider import BatchProvider
from nightbatch.job_types import job_types
from nightbatch.job_types.base import JobType
from nightbatch.providers import build
from nightbatch_local.emulator.anthropic.bodies import answer as ask_anthropic
from nightbatch_local.emulator.errors import ApiError
from nightbatch_local.emulator.gemini.bodies import generate
from nightbatch_local.emulator.openai.bodies import answer as ask_openai
from tests.fuzz.models import job_type
from tests.fuzz.schemas import Writer
from tests.fuzz.templates import template

_MODELS: dict[ProviderName, str] = {
    "openai": "gpt-6-luna",
    "anthropic": "claude-haiku-5-5",
    "gemini": "gemini-3.5-flash-lite",
}
_REASON = re.compile(r"^(.*?)schema: (?:Value error, )?(?:no JSON schema: \$.*|\$[^:]*: )?(.*)$", re.DOTALL)


@dataclass
class Tally:
    """What became of the examples of one provider."""

    sent: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    wrong: dict[int, str] = field(default_factory=dict)


def asked(seed: int) -> tuple[JobType, bytes]:
    """Return a job type and the input of a job, the same for the same seed."""
    random = Random(seed)
    if random.random() < 0.4:
        return job_type(random), b'{"text":"x"}'
    job = template(random) | {"schema": Writer(random).write()}
    return job_types()["bulk_predictions"], orjson.dumps(job)


def judge(provider: ProviderName, seeds: range) -> Tally:
    """Return what became of these examples; anything but sent and rejected is wrong."""
    adapter, tally = build(provider, api_key="none", base_url="http://127.0.0.1:9"), Tally()
    for seed in seeds:
        try:
            kind, raw = asked(seed)
            _send(provider, _written(adapter, kind, raw))
            tally.sent += 1
        except Rejected as error:
            tally.rejected[reason(str(error))] += 1
        except ApiError as error:
            tally.wrong[seed] = f"refused by the emulator: {error.message[:300]}"
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a find
            tally.wrong[seed] = f"raised {format_exception_only(error)[-1].strip()[:300]}"
    return tally


def reason(text: str) -> str:
    """Return a rejection without its place and numbers, so that the same reasons are counted together."""
    found = _REASON.match(text)
    return re.sub(r"'[^']*'|#\S*|\d[\d,]*", "…", (found[2] or "no JSON schema") if found else text)[:100]


def _written(adapter: BatchProvider, kind: JobType, raw: bytes) -> dict[str, Any]:
    """Return the line. Not by `render_request`, which makes a `Rejected` of every error."""
    request = kind.request(kind.read_input(raw))
    line: dict[str, Any] = orjson.loads(
        adapter.render("j1_a1", _MODELS[adapter.name], kind.endpoint(adapter.name), request)
    )
    return line


def _send(provider: ProviderName, line: dict[str, Any]) -> None:
    if provider == "openai":
        ask_openai(line["url"], line["body"], seed=1, at=1)
    elif provider == "anthropic":
        ask_anthropic(line["params"], seed=1, tier="batch")
    else:
        generate(_MODELS["gemini"], line["request"], seed=1, find=lambda _: None)
