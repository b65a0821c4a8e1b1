"""One life of the same ten jobs, in nightbatch and in Airflow's batch operators: until the answers are there, or it is killed.

What the operators do for a rerun is switched on as documented:

- `OpenAITriggerBatchOperator` (2.2.0) has nothing for it. ``deferrable=True``; ``metadata`` names the run, so that a
  person finds the batch in OpenAI's console. Its input file comes from a task before it, and is uploaded once.
- `AnthropicBatchOperator` (1.2.0) has nothing either: "A retry re-submits a brand-new batch. Prefer ``retries=0``."
  ``deferrable=True``.
- `LLMBatchOperator` (common.ai 1.0.0) records its intent and the batch's id in a file beside the results and looks for the
  batch at OpenAI; that is always on. ``deferrable=True``; ``on_orphaned_intent`` as it comes ("resubmit"), and "fail".

Airflow 3.3's own `ResumableJobMixin` and task state are used by none of the three. XCom is empty at each try, as Airflow
empties it; what Airflow does keep is the trigger of a deferred task, and so does `_task`.
"""

from __future__ import annotations

import asyncio
import json
import os
import pkgutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
from airflow.providers.anthropic.hooks.anthropic import AnthropicHook
from airflow.providers.anthropic.operators.batch import AnthropicBatchOperator
from airflow.providers.common.ai.batch.dispatch import import_adapter_class
from airflow.providers.common.ai.operators.llm_batch import LLMBatchOperator
from airflow.providers.openai.hooks.openai import OpenAIHook
from airflow.providers.openai.operators.openai import OpenAITriggerBatchOperator
from airflow.sdk.exceptions import TaskDeferred

from nightbatch.batches import loading, submission
from nightbatch.core.errors import SubmissionInDoubt
from nightbatch.core.ledger import RunParams
from nightbatch.core.models import Prompt, ProviderName
from nightbatch.core.profiles import BUILT_IN
from nightbatch.core.settings import Settings
from nightbatch.job_types import job_types
from nightbatch.postgres.store import Store, open_store
from nightbatch.providers import build

JOBS = 10
SOON = 0.05
_PATHS: dict[str, str] = {"openai": "/openai/v1", "anthropic": "/anthropic", "gemini": "/gemini"}
_KIND = job_types()["creative_scoring"]
_INPUTS = [json.dumps({"headline": f"Creative {n}", "body": "Set it at night, wake to it."}) for n in range(JOBS)]

for name in BUILT_IN:  # imports the SDKs now: a fork need not
    build(name, api_key="none")
for prefix in ("openai", "anthropic"):
    import_adapter_class(prefix)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a life is led: an account at the emulator, a database, and a folder that outlasts the life."""

    provider: ProviderName
    emulator_url: str
    account: str
    dsn: str
    folder: Path
    deferrable: bool = True
    try_number: int = 1

    @property
    def key(self) -> str:
        """The account's key."""
        return f"emu-{self.account}"

    @property
    def url(self) -> str:
        """The provider's base URL."""
        return self.emulator_url + _PATHS[self.provider]


Life = Callable[[Place], int]
"""Does what is left to do of the work; how many jobs have an answer in hand at its end."""


def nightbatch(place: Place) -> int:
    """Plan, submit, wait and load, as the Dag's tasks do."""
    types, settings = job_types(), Settings(settle_seconds=1, work_dir=str(place.folder / "work"))
    provider = build(place.provider, api_key=place.key, base_url=place.url)
    if place.try_number == 1:
        _enqueue(place)
    with open_store(place.dsn) as store:
        (batch,) = submission.plan_run(
            store, types, settings, run_id=place.account, queued_before=None, params=RunParams()
        )
        sent = _submit(store, provider, settings, batch.id)
        while asyncio.run(provider.get_state(store.batch(sent).provider_batch_id or "")).phase == "running":
            time.sleep(SOON)
        return loading.load_batch(store, provider, types, sent).succeeded


def _enqueue(place: Place) -> None:
    with psycopg.connect(place.dsn) as connection:
        connection.cursor().executemany(
            "INSERT INTO nightbatch.job (job_type, provider, input) VALUES ('creative_scoring', %s, %s)",
            [(place.provider, text) for text in _INPUTS],
        )


def _submit(store: Store, provider: Any, settings: Settings, batch_id: int) -> int:
    """The submit task: while the attempt is in doubt, it is called again when it says so."""
    while True:
        try:
            sent = submission.submit_batch(store, provider, job_types(), settings, batch_id)
            assert sent is not None, "its jobs can be sent"
            return sent
        except SubmissionInDoubt as doubt:
            if doubt.look_again_in is None or doubt.look_again_in > settings.settle_seconds:
                raise  # a person is asked, or nobody can tell before the batches have ended
            time.sleep(doubt.look_again_in)


def openai_trigger_batch_operator(place: Place) -> int:
    """`OpenAITriggerBatchOperator`, on the very requests that nightbatch would send."""
    _connect("OPENAI_DEFAULT", "openai", place)
    operator = OpenAITriggerBatchOperator(
        task_id="crash",
        file_id=_uploaded(place),
        endpoint="/v1/responses",
        deferrable=place.deferrable,
        metadata={"dag_run": place.account},
        wait_seconds=SOON,
        poll_interval=SOON,
    )
    batch_id = _task(place, operator)
    counts = OpenAIHook().get_batch(batch_id).request_counts
    return counts.completed if counts else 0


def _uploaded(place: Place) -> str:
    """The task before: it has succeeded once, and a retry of the next one does not repeat it."""
    told, source = place.folder / "file_id", place.folder / "in.jsonl"
    if not told.exists():
        source.write_bytes(b"\n".join(_requests(place)))
        told.write_text(OpenAIHook().upload_file(str(source), purpose="batch").id)
    return told.read_text()


def anthropic_batch_operator(place: Place) -> int:
    """`AnthropicBatchOperator`, on the very requests that nightbatch would send."""
    _connect("ANTHROPIC_DEFAULT", "anthropic", place)
    operator = AnthropicBatchOperator(
        task_id="crash",
        requests=[json.loads(line) for line in _requests(place)],
        deferrable=place.deferrable,
        poll_interval=SOON,
    )
    batch_id = _task(place, operator)
    return sum(line.result.type == "succeeded" for line in AnthropicHook().stream_batch_results(batch_id))


def llm_batch_operator(place: Place) -> int:
    """`LLMBatchOperator`, which resubmits when it finds an intent and no batch: its default."""
    return _llm_batch(place, "resubmit")


def llm_batch_operator_that_fails(place: Place) -> int:
    """`LLMBatchOperator` with ``on_orphaned_intent="fail"``."""
    return _llm_batch(place, "fail")


def _llm_batch(place: Place, on_orphaned_intent: Any) -> int:
    _connect("LLM", "pydanticai", place)
    prompts = _prompts()
    operator: Any = LLMBatchOperator(
        task_id="crash",
        requests=[prompt.user for prompt in prompts],
        result_path=f"file://{place.folder}/results",
        llm_conn_id="llm",
        model_id=f"{place.provider}:{_KIND.models[place.provider]}",
        system_prompt=prompts[0].system or "",
        output_type=_KIND.Output,
        deferrable=place.deferrable,
        on_orphaned_intent=on_orphaned_intent,
    )
    operator.poll_interval = SOON  # its 30 s at least is asked of the argument only
    manifest = _task(place, operator)
    return int(manifest["counts"]["succeeded"])


def _prompts() -> list[Prompt]:
    return [prompt for text in _INPUTS if isinstance(prompt := _KIND.render_request(text.encode()), Prompt)]


def _requests(place: Place) -> list[bytes]:
    adapter = build(place.provider, api_key=place.key, base_url=place.url)
    model, endpoint = _KIND.models[place.provider], _KIND.endpoint(place.provider)
    return [adapter.render(f"j{n}", model, endpoint, prompt) for n, prompt in enumerate(_prompts())]


def _connect(conn_id: str, conn_type: str, place: Place) -> None:
    os.environ[f"AIRFLOW_CONN_{conn_id}"] = json.dumps(
        {"conn_type": conn_type, "host": place.url, "password": place.key}
    )


def _task(place: Place, operator: Any) -> Any:
    """The task as Airflow runs it: executed; once it is deferred, its trigger is kept and resumed, however often it dies."""
    kept = place.folder / "trigger.json"
    instance = SimpleNamespace(
        dag_id="crash",
        task_id="crash",
        run_id=place.account,
        map_index=-1,
        try_number=place.try_number,
        xcom_push=lambda **_: None,
    )
    context = {"ti": instance, "task_instance": instance}
    if not kept.exists():
        try:
            return operator.execute(context)
        except TaskDeferred as deferred:
            path, arguments = deferred.trigger.serialize()
            kept.write_text(json.dumps([path, arguments, deferred.method_name, deferred.kwargs or {}]))
    path, arguments, method, more = json.loads(kept.read_text())
    event = asyncio.run(_fired(pkgutil.resolve_name(path)(**arguments)))
    return getattr(operator, method)(context, event=event.payload, **more)


async def _fired(trigger: Any) -> Any:
    return await anext(trigger.run())
