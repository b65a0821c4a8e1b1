"""nightbatch, as the Dag's tasks do it, one batch after the other; the jobs are queued in Postgres."""

from __future__ import annotations

import time

from nightbatch.batches import loading, submission
from nightbatch.core.errors import SubmissionInDoubt
from nightbatch.core.ledger import RunParams
from nightbatch.core.provider import BatchProvider
from nightbatch.core.settings import Settings
from nightbatch.job_types import job_types
from nightbatch.postgres.store import Store, open_store
from nightbatch.providers import build
from tests.bench.peers.work import Clock, Work

build("openai", api_key="none")  # imports the SDK


def live(work: Work, clock: Clock) -> int:
    types, settings = job_types(), Settings(work_dir=str(work.path("work")))
    provider = build("openai", api_key=work.key, base_url=work.openai_url)
    clock.start()
    with open_store(work.dsn) as store:
        planned = submission.plan_run(
            store, types, settings, run_id=work.account, queued_before=None, params=RunParams()
        )
        sent = [_sent(store, provider, settings, batch.id) for batch in planned]
        clock.night()
        loaded = [loading.load_batch(store, provider, types, batch_id) for batch_id in sent]
    return sum(one.succeeded for one in loaded)


def _sent(store: Store, provider: BatchProvider, settings: Settings, batch_id: int) -> int:
    """The submit task: while the attempt is in doubt, it is called again when it says so."""
    while True:
        try:
            sent = submission.submit_batch(store, provider, job_types(), settings, batch_id)
        except SubmissionInDoubt as doubt:
            if doubt.look_again_in is None:
                raise  # a person is asked
            time.sleep(doubt.look_again_in)
            continue
        assert sent is not None, "its jobs can be sent"
        return sent
