"""Work of an earlier release: run as a program, with that release's code in PYTHONPATH.

``begin`` makes a ledger and leaves batches in it, sent, in doubt and planned, at all three providers; ``go_on`` does what a
worker that nobody has upgraded does with a ledger that somebody has. Arguments: what, DSN, account, the emulator's three URLs.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from nightbatch import loading, recovery, submission
from nightbatch.job_types import job_types
from nightbatch.ledger import RunParams
from nightbatch.models import ProviderName
from nightbatch.postgres.migrate import migrate
from nightbatch.postgres.store import Store, open_store
from nightbatch.provider import BatchProvider
from nightbatch.providers import build
from nightbatch.settings import Settings

SETTINGS = Settings(max_batch_jobs=100, settle_seconds=0.3, create_seconds=0.1)

ProviderFor = Callable[[ProviderName], BatchProvider]


@contextmanager
def whatever_comes() -> Iterator[None]:
    """It may fail, and cost nothing."""
    try:
        yield
    except Exception:  # noqa: BLE001
        print(traceback.format_exc(limit=1), file=sys.stderr)


def plan(store: Store, run_id: str) -> list[int]:
    batches = submission.plan_run(store, job_types(), SETTINGS, run_id=run_id, queued_before=None, params=RunParams())
    return [batch.id for batch in batches]


def begin(dsn: str, provider_for: ProviderFor) -> None:
    """Each run has a batch at each provider; what becomes of the second's creates is the emulator's to say."""
    migrate(dsn)
    with open_store(dsn) as store:
        for run_id in ("sent", "in doubt", "planned"):
            for name in ("openai", "anthropic", "gemini"):
                for number in range(3):
                    store.insert_job("creative_scoring", name, f'{{"headline": "{run_id} {number}"}}')
            for batch_id in plan(store, run_id):
                if run_id != "planned":
                    with whatever_comes():
                        provider = provider_for(store.batch(batch_id).provider)
                        submission.submit_batch(store, provider, job_types(), SETTINGS, batch_id)
            print(run_id, flush=True)
            sys.stdin.readline()


def go_on(dsn: str, provider_for: ProviderFor) -> None:
    """Plan, send, load and recover, as far as the newer schema lets it."""
    with open_store(dsn) as store:
        with whatever_comes():
            plan(store, "a zombie's")
        for batch in store.open_attempts():
            with whatever_comes():
                submission.submit_batch(store, provider_for(batch.provider), job_types(), SETTINGS, batch.id)
            with whatever_comes():
                loading.load_batch(store, provider_for(batch.provider), job_types(), batch.id)
        with whatever_comes():
            recovery.recover(store, provider_for, job_types(), SETTINGS)


def main() -> None:
    """Do what the first argument says."""
    what, dsn, account, *urls = sys.argv[1:]
    base_urls = dict(zip(("openai", "anthropic", "gemini"), urls, strict=True))

    def provider_for(name: ProviderName) -> BatchProvider:
        return build(name, api_key=f"emu-{account}", base_url=base_urls[name])

    {"begin": begin, "go_on": go_on}[what](dsn, provider_for)


if __name__ == "__main__":
    main()
