"""The lines of the providers' own batch files, each as the ``raw`` job that asks the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from nightbatch.core.lines import Line
from nightbatch.core.models import ProviderName

LABEL = "custom_id"
"""The label under which a job has the id of its line."""


class _OpenAI(msgspec.Struct, forbid_unknown_fields=True):
    """A line of OpenAI's batch files.

    https://platform.openai.com/docs/guides/batch
    """

    custom_id: str
    body: msgspec.Raw
    url: str
    method: str = "POST"


class _Anthropic(msgspec.Struct, forbid_unknown_fields=True):
    """A request of Anthropic's batches.

    https://platform.claude.com/docs/en/build-with-claude/batch-processing
    """

    custom_id: str
    params: msgspec.Raw


class _Gemini(msgspec.Struct, forbid_unknown_fields=True):
    """A line of Gemini's batch files.

    https://ai.google.dev/gemini-api/docs/batch-api
    """

    key: str
    request: msgspec.Raw


_Foreign = _OpenAI | _Anthropic | _Gemini
_SHAPES: Mapping[ProviderName, type[_Foreign]] = {"openai": _OpenAI, "anthropic": _Anthropic, "gemini": _Gemini}
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])


class _Body(msgspec.Struct):
    model: str | None = None


class BatchLines:
    """Reads the lines of a provider's batch file. ``model`` is asked by those that name none, as all of Gemini's do."""

    def __init__(self, model: str | None = None) -> None:
        self._model = model
        self._places: dict[str, int] = {}

    def read(self, number: int, raw: bytes) -> Line | str | None:
        """Return the job of a line, or why it is none; None where it is no line of a provider's."""
        try:
            provider = _whose(_MEMBERS.decode(raw).keys())
        except (msgspec.DecodeError, RecursionError):
            return None
        if provider is None:
            return None
        try:
            return self._job(number, provider, msgspec.json.decode(raw, type=_SHAPES[provider]))
        except msgspec.DecodeError as error:
            return f"as a line of a batch file of {provider}: {error}"

    def _job(self, number: int, provider: ProviderName, given: _Foreign) -> Line | str:
        name = given.key if isinstance(given, _Gemini) else given.custom_id
        before = self._places.setdefault(name, number)
        if before != number:
            return f"its {'key' if isinstance(given, _Gemini) else 'custom_id'} stands on line {before} already"
        if isinstance(given, _OpenAI) and given.method != "POST":
            return "its method is not POST"
        body = _body(given)
        model = msgspec.json.decode(body, type=_Body).model or self._model
        if model is None:
            return "it names no model: say which one by --model (in Python: model=...)"
        return Line("raw", provider, msgspec.Raw(_input(given, body)), model=model, labels={LABEL: name})


def _whose(members: Any) -> ProviderName | None:
    if "custom_id" in members:
        return "anthropic" if "params" in members else "openai" if {"body", "url", "method"} & members else None
    return "gemini" if "request" in members and "job_type" not in members else None


def _body(given: _Foreign) -> bytes:
    match given:
        case _OpenAI():
            return bytes(given.body)
        case _Anthropic():
            return bytes(given.params)
        case _Gemini():
            return bytes(given.request)


def _input(given: _Foreign, body: bytes) -> bytes:
    if isinstance(given, _OpenAI):
        return b'{"url":%b,"body":%b}' % (msgspec.json.encode(given.url), body)
    return b'{"body":%b}' % body
