"""Tests of your own job types without a key, a database or Airflow, but with the emulator's models and the real adapters.

def test_a_ticket_is_tagged():
    (output,) = outputs_of(TicketTagging(), {"subject": "Cannot log in", "body": "Since this morning."})
    assert output["tag"] in ("login", "billing", "bug", "other")
"""

from __future__ import annotations

from collections.abc import Mapping
from tempfile import TemporaryDirectory
from typing import Any

import orjson

from nightbatch.core.errors import NightbatchError
from nightbatch.core.models import ProviderName, ResultLine
from nightbatch.core.provider import BatchProvider
from nightbatch.job_types.base import JobType
from nightbatch.providers import build
from nightbatch_local.emulator.process import EmulatorProcess


def outputs_of(kind: JobType, *inputs: Mapping[str, Any], provider: ProviderName = "openai") -> list[Any]:
    """Return what jobs with these inputs come to, in order: ``result.output`` as JSON values. Media are not looked up.

    Without an input it is the type's ``example``. The emulator answers what the type's ``Output`` asks for; a mark in a text,
    such as ``[[emulator:refusal]]``, has it do otherwise (`nightbatch_local.emulator.prompt`). Raises `Rejected` for what a night
    would reject, `OutputInvalid` for an answer that does not fit, and `NightbatchError` for one that the provider did not give.
    """
    with TemporaryDirectory() as folder, EmulatorProcess(folder) as emulator:
        asked = build(provider, api_key="emu-testing", base_url=getattr(emulator, f"{provider}_url"))
        return [_output(kind, asked, orjson.dumps(given)) for given in inputs or (kind.example,)]


def _output(kind: JobType, asked: BatchProvider, raw: bytes) -> Any:
    request, endpoint = kind.render_request(raw), kind.endpoint(asked.name)
    asked.render("j1_a1", kind.models[asked.name], endpoint, request)  # as a batch's line, for what only that refuses
    line = asked.ask("j1_a1", kind.models[asked.name], endpoint, request)
    if not isinstance(line, ResultLine) or line.answer is None or line.outcome != "succeeded":
        raise NightbatchError(
            f"{asked.name} gave no answer: {line.error if isinstance(line, ResultLine) else 'unreadable'}"
        )
    context = kind.context(kind.read_input(raw)) if kind.keeps_context else b""
    return orjson.loads(kind.read_answer(line.answer, context).json)
