"""The same jobs for all stages: creatives of about 1.5 kB, no two alike."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache

import orjson

_WORDS = (
    "coffee night morning quiet kettle garden window letter river market bread winter silver early music train paper"
    " summer lantern honey orange bridge forest copper village evening harbour cotton meadow story"
)
_BYTES = 1_400


@cache
def _bodies() -> list[str]:
    chance, words = random.Random(1), _WORDS.split()
    return [" ".join(chance.choices(words, k=_BYTES // 7)) for _ in range(997)]


def creative(number: int) -> bytes:
    """The input of a ``creative_scoring`` job."""
    bodies = _bodies()
    return orjson.dumps(
        {"headline": f"Creative {number}", "body": bodies[number % len(bodies)], "audience": "people who wait"}
    )


def ready(number: int) -> bytes:
    """The input of a ``raw`` job of as many bytes, for OpenAI's chat completions."""
    text = _bodies()[number % len(_bodies())]
    messages = [{"role": "user", "content": f"Creative {number}: {text}"}]
    return orjson.dumps({"body": {"messages": messages, "max_completion_tokens": 1024}})


def lines(jobs: int, *, keyed: bool = False) -> Iterator[bytes]:
    """A file of jobs, as `nightbatch enqueue` takes it."""
    for number in range(jobs):
        key = b',"dedup_key":"creative-%d"' % number if keyed else b""
        yield b'{"job_type":"creative_scoring","provider":"openai"%b,"input":%b}\n' % (key, creative(number))
