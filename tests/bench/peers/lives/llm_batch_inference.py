"""llm-batch-inference, imported as ``lbi``: a batch is created, waited for and fetched; the base URL is the SDK's variable."""

from __future__ import annotations

import asyncio
import json

import lbi.v1 as lbi

from tests.bench.peers.work import Clock, Work


def live(work: Work, clock: Clock) -> int:
    common = work.common()
    shape = {"name": common["schema_name"], "schema": common["schema"], "strict": True}
    extra = {"response_format": {"type": "json_schema", "json_schema": shape}}
    requests = [
        lbi.BatchRequest(
            custom_id=key,
            messages=[
                lbi.Message(role=lbi.Role.SYSTEM, content=common["system"]),
                lbi.Message(role=lbi.Role.USER, content=user),
            ],
            max_tokens=common["max_tokens"],
            extra=extra,
        )
        for key, user in work.prompts()
    ]
    return asyncio.run(_night(work, clock, requests, common["model"]))


async def _night(work: Work, clock: Clock, requests: list[lbi.BatchRequest], model: str) -> int:
    clock.start()
    provider = lbi.create_provider("openai", api_key=work.key)
    info = await provider.create_batch(requests, model=model, batch_filename="bench.jsonl")
    clock.night()
    info = await provider.wait_for_completion(info.batch_id)
    results = await provider.get_results(info.batch_id)
    with work.path("answers.jsonl").open("w") as file:
        for result in results:
            file.write(json.dumps({"key": result.custom_id, "answer": result.content}) + "\n")
    return sum(result.status == lbi.BatchResultStatus.SUCCEEDED for result in results)
