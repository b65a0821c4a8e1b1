"""What the demo sends: creatives written for it, and the documentation of installed packages. Nothing is downloaded."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from importlib.resources import files
from importlib.util import find_spec
from itertools import islice, product
from pathlib import Path
from typing import Any

_AUDIENCES = ("students", "young parents", "commuters", "people over sixty", "small businesses")
_CHANNELS = ("newsletter", "poster in a station")
_PROVIDERS = ("openai", "anthropic", "gemini")
_EMBEDDERS = ("openai", "gemini")
_DOCUMENTED = ("pydantic", "fastapi", "pandas.core")
_EMBEDDINGS = 270


def demo_jobs() -> Iterator[dict[str, Any]]:
    """More than 1,200 jobs, some of which must fail, be rejected or stay unpriced."""
    yield from _scorings()
    yield from _embeddings()
    yield from _trouble()


def _scorings() -> Iterator[dict[str, Any]]:
    text = (files(__package__) / "creatives.jsonl").read_text(encoding="utf-8")
    creatives = [json.loads(line) for line in text.splitlines()]
    for creative, audience, channel, provider in product(creatives, _AUDIENCES, _CHANNELS, _PROVIDERS):
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


def _documentation() -> Iterator[str]:
    """Docstrings of installed packages, each once."""
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
    """What goes wrong in a real night. The marks in double brackets tell the emulator what to do with a request."""

    def scoring(provider: str, headline: str, **more: Any) -> dict[str, Any]:
        return {"job_type": "creative_scoring", "provider": provider, "input": {"headline": headline}, **more}

    for provider in _PROVIDERS:
        yield scoring(provider, "A headline that the model will not touch [[emulator:refusal]]")
        yield scoring(provider, "A headline so long that the answer stops short [[emulator:truncate]]")
        yield scoring(provider, "A headline that is answered with a poem [[emulator:misfit]]")
        yield scoring(provider, "A headline that the provider finds malformed [[emulator:error=400]]")
        yield scoring(provider, "")  # rejected: an empty headline cannot be scored
        yield {"job_type": "clairvoyance", "provider": provider, "input": {"question": "Who wins?"}}  # no such type
    for number in range(5):
        # A model so new that no price list has it.
        yield scoring("openai", f"Tomorrow's model, take {number + 1}", model="emulator-preview-1", priority=8)
