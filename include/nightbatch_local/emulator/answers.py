"""Make plausible answers, the same for the same request and seed."""

from __future__ import annotations

from random import Random

import orjson

from nightbatch_local.emulator.errors import ApiError
from nightbatch_local.emulator.prompt import (
    Finish,
    Prompt,
    Reply,
    canonical_words,
    raise_for_marker,
    thoughts_of,
    tokens_in,
    usage_of,
)
from nightbatch_local.emulator.schemas import SchemaWriter
from nightbatch_local.emulator.words import sentences

REFUSAL = "I'm sorry, but I can't help with that request."
_MISFIT = {"unexpected": "This answer does not follow the requested schema."}
_PROMPT_TAIL = 2000


def reply_to(prompt: Prompt) -> Reply:
    """Return the model's answer. Raises `ApiError` where a marker in the prompt asks for one."""
    markers = prompt.markers()
    raise_for_marker(markers)
    if "refusal" in markers:
        return _reply(prompt, REFUSAL, None, "refusal", markers)
    if "no-parts" in markers:
        return _reply(prompt, "", None, "no-parts", markers)
    text, value = _content(prompt, misfit="misfit" in markers)
    if "truncate" in markers:
        return _reply(prompt, text[: max(1, len(text) // 2)], None, "length", markers)
    if prompt.max_tokens is not None and tokens_in(text) > (left := prompt.max_tokens - thoughts_of(prompt)):
        return _reply(prompt, text[: left * 4], None, "length", markers)
    return _reply(prompt, text, value, "stop", markers)


def require_text(prompt: Prompt, param: str) -> Prompt:
    """Return the prompt itself. Raises `ApiError` 400 if it says nothing at all."""
    if not prompt.text and not prompt.media_tokens:
        raise ApiError(400, f"'{param}' must not be empty.", param=param)
    return prompt


def _content(prompt: Prompt, *, misfit: bool) -> tuple[str, object]:
    if misfit:
        return orjson.dumps(_MISFIT).decode(), _MISFIT
    random = Random(prompt.digest)
    words = canonical_words(prompt.text[-_PROMPT_TAIL:])
    if prompt.schema is None:
        return sentences(random, words, random.randint(2, 4)), None
    value = SchemaWriter(prompt.schema, random, words).write()
    return orjson.dumps(value).decode(), value


def _reply(prompt: Prompt, text: str, value: object, finish: Finish, markers: dict[str, str | None]) -> Reply:
    usage = usage_of(prompt, text)
    return Reply(text=text, value=value, finish=finish, usage=usage, shows_usage="nousage" not in markers)
