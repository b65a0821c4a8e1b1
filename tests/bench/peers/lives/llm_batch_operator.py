"""Airflow's `LLMBatchOperator`, deferred; its state file is what a retry finds."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace
from typing import Any

from airflow.providers.common.ai.batch.dispatch import import_adapter_class
from airflow.providers.common.ai.operators.llm_batch import LLMBatchOperator
from airflow.sdk.exceptions import TaskDeferred

from nightbatch.job_types import job_types
from tests.bench.peers.work import Clock, Work

import_adapter_class("openai")


def live(work: Work, clock: Clock) -> int:
    os.environ["AIRFLOW_CONN_LLM"] = json.dumps(
        {"conn_type": "pydanticai", "password": work.key, "host": work.openai_url}
    )
    requests, common = [user for _, user in work.prompts()], work.common()
    instance = SimpleNamespace(
        dag_id="bench",
        task_id="bench",
        run_id=work.account,
        map_index=-1,
        try_number=2 if work.again else 1,
        xcom_push=lambda **_: None,
    )
    context: Any = {"task_instance": instance, "ti": instance}
    clock.start()
    operator: Any = LLMBatchOperator(
        task_id="bench",
        requests=requests,
        result_path=f"file://{work.path('results')}",
        llm_conn_id="llm",
        model_id=f"openai:{common['model']}",
        system_prompt=common["system"],
        output_type=job_types()["creative_scoring"].Output,
        deferrable=True,
    )
    try:
        operator.execute(context)
        raise AssertionError("it did not defer")
    except TaskDeferred as deferred:
        arguments = dict(deferred.kwargs or {})
    clock.night()
    event = {"status": "success", "batch_id": operator.batch_id}
    return int(operator.execute_complete(context, event=event, **arguments)["counts"]["succeeded"])
