"""Who takes part, where it comes from, and what it does not do of what nightbatch does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Contender:
    """``life`` is a module of `lives`, ``package`` the distribution whose version is shown.

    ``requirements`` empty: it is a part of our own lock. ``minor``: the least Python 3 that it takes. ``lacks`` and
    ``again`` are sentences for the reader: what it does not do, and how its documentation has it started after a crash.
    """

    name: str
    life: str
    package: str
    lacks: str
    again: str
    requirements: Sequence[str] = ()
    minor: int = 11


NIGHTBATCH = Contender(
    name="nightbatch",
    life="nightbatch",
    package="nightbatch",
    lacks="Jobs from Postgres; answers checked, then results, costs and roll-ups in Postgres, fsync on.",
    again="The task's retry: the same run is planned and submitted again.",
)
OPERATOR = Contender(
    name="LLMBatchOperator",
    life="llm_batch_operator",
    package="apache-airflow-providers-common-ai",
    lacks="Prompts as a Python list, one batch at most; answers checked and in JSONL files, without fsync; no costs.",
    again="Airflow's retry: same task instance, next try. It looks for its batch before it sends one.",
)
CONTENDERS = (
    NIGHTBATCH,
    OPERATOR,
    Contender(
        name="steadybatch",
        life="steadybatch",
        package="steadybatch",
        lacks="Prompts as a Python list; answers checked and in SQLite, a transaction for each; no costs.",
        again="“Run the same script again”, with the same checkpoint. It notes a batch once its id has come back.",
        requirements=("steadybatch[openai]==0.2.1",),
    ),
    Contender(
        name="batchlane",
        life="batchlane",
        package="batchlane",
        lacks="Prompts as a Python list; answers not checked, in a JSONL file that the bench writes; no costs noted.",
        again="The identical call with the same checkpoint. It notes its intent and looks for the batch.",
        requirements=("batchlane==0.2.0", "litellm==1.110.2"),
    ),
    Contender(
        name="llm-batch-inference",
        life="llm_batch_inference",
        package="llm-batch-inference",
        lacks="Prompts as a Python list, one batch at most; answers not checked, in a JSONL file that the bench writes;"
        " nothing is noted anywhere, no costs.",
        again="The same script again: it has no checkpoint.",
        requirements=("llm-batch-inference==0.2.1", "litellm==1.110.2"),
        minor=13,
    ),
)
