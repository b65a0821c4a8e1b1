"""steadybatch as its quick start has it, with a checkpoint; ``sleep`` is its own parameter, and is where the night lies."""

from __future__ import annotations

import openai  # noqa: F401  # it imports the SDK when a provider is made
from steadybatch import Request, Runner
from steadybatch.providers.openai_batch import OpenAIBatch

from tests.bench.peers.work import Clock, Work


def live(work: Work, clock: Clock) -> int:
    common = work.common()
    requests = [
        Request(
            key=key,
            system=common["system"],
            messages=[{"role": "user", "content": user}],
            max_tokens=common["max_tokens"],
        )
        for key, user in work.prompts()
    ]
    clock.start()
    runner = Runner(
        OpenAIBatch(),
        common["model"],
        response_schema=common["schema"],
        checkpoint=work.path("job.sqlite"),
        sleep=clock.night,
    )
    return int(runner.run(requests).ok)
