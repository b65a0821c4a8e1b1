"""batchlane: submit now with a checkpoint, collect later; OpenAI's Responses, which it sends in less time than chats.

It has no setting for the base URL, so its table of providers gets another row.
"""

from __future__ import annotations

import dataclasses
import json

import batchlane
import litellm.utils  # noqa: F401  # it imports it at the first call
from batchlane.registry import ROWS

from tests.bench.peers.work import Clock, Work


def live(work: Work, clock: Clock) -> int:
    ROWS["openai"] = dataclasses.replace(ROWS["openai"], base_url=work.openai_url)
    common = work.common()
    shape = {"type": "json_schema", "name": common["schema_name"], "schema": common["schema"], "strict": True}
    params = {
        "instructions": common["system"],
        "max_output_tokens": common["max_tokens"],
        "text": {"format": shape},
    }
    lines = [
        batchlane.BatchLine(key, f"openai/{common['model']}", input=user, params=params) for key, user in work.prompts()
    ]
    clock.start()
    handles = batchlane.submit_all(lines, endpoint="responses", checkpoint=work.path("job.jsonl"))
    clock.night()
    good = 0
    with work.path("answers.jsonl").open("w") as file:
        for handle in handles:
            batchlane.wait(handle)
            for result in batchlane.results(handle):
                text = batchlane.answer_text(result)
                good += text is not None
                file.write(json.dumps({"key": result.custom_id, "answer": text}) + "\n")
    return good
