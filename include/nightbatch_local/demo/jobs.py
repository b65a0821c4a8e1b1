"""Make what the demo sends: creatives written for it, documentation of installed packages, and pictures made by code."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from importlib.resources import files
from importlib.util import find_spec
from itertools import islice, product
from pathlib import Path
from typing import Any

from nightbatch_local.demo.media import mp4, png

_AUDIENCES = ("students", "young parents", "commuters", "people over sixty", "small businesses")
_CHANNELS = ("newsletter", "poster in a station")
_PLANS = ("free", "team", "enterprise")
_CLIPS = 8
_FRAMES = 3
_PROVIDERS = ("openai", "anthropic", "gemini")
_EMBEDDERS = ("openai", "gemini")
_DOCUMENTED = ("pydantic", "fastapi", "pandas.core")
_EMBEDDINGS = 270


def demo_jobs(media: Path) -> Iterator[dict[str, Any]]:
    """Yield more than 1,200 jobs, some of which must fail, be rejected or stay unpriced; write the videos into ``media``."""
    yield from _scorings()
    yield from _embeddings()
    yield from _hooks()
    yield from _predictions()
    yield from _videos(media)
    yield from _own_bodies()
    yield from _trouble()


def creatives() -> list[dict[str, str]]:
    """Return headline and body of each creative."""
    text = (files(__package__) / "creatives.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def _scorings() -> Iterator[dict[str, Any]]:
    for creative, audience, channel, provider in product(creatives(), _AUDIENCES, _CHANNELS, _PROVIDERS):
        yield {
            "job_type": "creative_scoring",
            "provider": provider,
            "input": {**creative, "audience": audience, "channel": channel},
            "labels": {"team": "marketing"},
        }


def _embeddings() -> Iterator[dict[str, Any]]:
    for text in islice(_documentation(), _EMBEDDINGS):
        for provider in _EMBEDDERS:
            yield {
                "job_type": "embedding_generation",
                "provider": provider,
                "input": {"text": text, "dimensions": 256},
                "priority": 3,
                "labels": {"team": "search"},
            }


def _hooks() -> Iterator[dict[str, Any]]:
    for creative, provider in product(creatives(), _PROVIDERS):
        brief = {"product": f"{creative['headline']}. {creative['body']}", "audience": _AUDIENCES[0], "count": 3}
        yield {"job_type": "hook_generation", "provider": provider, "input": brief, "labels": {"team": "marketing"}}


def _predictions() -> Iterator[dict[str, Any]]:
    """Yield questions with an answer of any shape, without code."""
    answer = {
        "type": "object",
        "properties": {"churns": {"type": "boolean"}, "reason": {"type": "string"}},
        "required": ["churns", "reason"],
        "additionalProperties": False,
    }
    for logins, plan, provider in product(range(0, 30, 3), _PLANS, _PROVIDERS):
        asked = {
            "template": "A customer on the $plan plan logged in $logins times last month. Will they leave within a quarter?",
            "values": {"plan": plan, "logins": logins},
            "schema": answer,
        }
        yield {"job_type": "bulk_predictions", "provider": provider, "input": asked, "labels": {"team": "sales"}}


def _own_bodies() -> Iterator[dict[str, Any]]:
    """Yield requests in each provider's own words: a function call, a long prefix that is cached, a model that thinks."""
    for provider in _PROVIDERS:
        bodies = [_calling(provider), *(_with_prefix(provider, number) for number in range(8)), _thinking(provider)]
        for body in bodies:
            yield {"job_type": "raw", "provider": provider, "input": {"body": body}, "labels": {"team": "support"}}


def _calling(provider: str) -> dict[str, Any]:
    severity = {"type": "string", "enum": ["low", "high"]}
    schema = {"type": "object", "properties": {"severity": severity}, "required": ["severity"]}
    function = {"name": "file_ticket", "description": "File a ticket.", "parameters": schema}
    body = _body(provider, "The printer in room 4 burns.")
    if provider == "gemini":
        choice = {"functionCallingConfig": {"mode": "ANY"}}
        return body | {"tools": [{"functionDeclarations": [function]}], "toolConfig": choice}
    if provider == "anthropic":
        tool = {"name": "file_ticket", "description": "File a ticket.", "input_schema": schema}
        return body | {"tools": [tool], "tool_choice": {"type": "tool", "name": "file_ticket"}}
    named = {"type": "function", "function": {"name": "file_ticket"}}
    return body | {"tools": [{"type": "function", "function": function}], "tool_choice": named}


def _with_prefix(provider: str, number: int) -> dict[str, Any]:
    rules = "Answer customers by these rules: be brief, promise nothing, name the page of the handbook. " * 60
    body = _body(provider, f"Customer {number} asks when the parcel comes.")
    if provider == "gemini":
        return body | {"systemInstruction": {"parts": [{"text": rules}]}}
    if provider == "anthropic":
        return body | {"system": [{"type": "text", "text": rules, "cache_control": {"type": "ephemeral"}}]}
    return body | {"messages": [{"role": "system", "content": rules}, *body["messages"]]}


def _thinking(provider: str) -> dict[str, Any]:
    body = _body(provider, "Which of two contracts is cheaper after three years?")
    if provider == "gemini":
        return body | {"generationConfig": {"thinkingConfig": {"thinkingLevel": "high"}}}
    return body | ({"thinking": {"type": "adaptive"}} if provider == "anthropic" else {"reasoning_effort": "high"})


def _body(provider: str, text: str) -> dict[str, Any]:
    if provider == "gemini":
        return {"contents": [{"role": "user", "parts": [{"text": text}]}]}
    body = {"messages": [{"role": "user", "content": text}]}
    return body | ({"max_tokens": 1024} if provider == "anthropic" else {})


def _videos(media: Path) -> Iterator[dict[str, Any]]:
    """Yield jobs about videos: Gemini watches each twice, uploaded once; the others look at frames."""
    media.mkdir(parents=True, exist_ok=True)
    for number in range(_CLIPS):
        (media / f"ad-{number}.mp4").write_bytes(mp4(6 + number, seed=number))
        frames = [f"ad-{number}-{second}.png" for second in range(_FRAMES)]
        for second, name in enumerate(frames):
            (media / name).write_bytes(png(16, 9, seed=100 * number + second))
        for question in ("Who is it for?", "What would you cut?"):
            video = {"file": f"ad-{number}.mp4", "question": question}
            yield {"job_type": "video_analysis", "provider": "gemini", "input": video, "labels": {"team": "video"}}
        for provider in ("openai", "anthropic"):
            stills = {"frames": frames, "fps": 1}
            yield {"job_type": "video_analysis", "provider": provider, "input": stills, "labels": {"team": "video"}}


def _documentation() -> Iterator[str]:
    """Yield docstrings of installed packages, each once."""
    seen = set()
    for package in _DOCUMENTED:
        spec = find_spec(package)
        for path in sorted(Path(spec.origin).parent.rglob("*.py")) if spec and spec.origin else ():
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef | ast.FunctionDef):
                    text = (ast.get_docstring(node) or "")[:1_500]
                    if len(text) > 200 and text not in seen:
                        seen.add(text)
                        yield text


def _trouble() -> Iterator[dict[str, Any]]:
    """Yield what goes wrong in a real night. Marks in double brackets tell the emulator what to do with a request."""

    def scoring(provider: str, headline: str, **more: Any) -> dict[str, Any]:
        return {"job_type": "creative_scoring", "provider": provider, "input": {"headline": headline}, **more}

    for provider in _PROVIDERS:
        yield scoring(provider, "A headline that the model will not touch [[emulator:refusal]]")
        yield scoring(provider, "A headline so long that the answer stops short [[emulator:truncate]]")
        yield scoring(provider, "A headline that is answered with a poem [[emulator:misfit]]")
        yield scoring(provider, "A headline that the provider finds malformed [[emulator:error=400]]")
        yield scoring(provider, "")  # rejected: an empty headline cannot be scored
        yield {"job_type": "clairvoyance", "provider": provider, "input": {"question": "Who wins?"}}  # no such type
    # Only Gemini watches videos.
    yield {"job_type": "video_analysis", "provider": "openai", "input": {"file": "ad-0.mp4"}}
    for number in range(5):
        # A model so new that no price list has it.
        yield scoring("openai", f"Tomorrow's model, take {number + 1}", model="emulator-preview-1", priority=8)
