"""Render ready requests: the input files of a planned run with their hashes, as the upload finds them."""

from __future__ import annotations

import subprocess
from dataclasses import replace

from nightbatch.batches import rendering
from nightbatch.core.settings import Settings
from nightbatch.job_types import job_types
from nightbatch.postgres.store import open_store
from nightbatch.providers.openai import OpenAIBatches
from nightbatch_local.postgres.embedded import binaries
from tests.bench.stages import Place, jobs, plan

_TYPES = job_types()
_PROVIDER = OpenAIBatches(api_key="nobody-is-called", base_url="http://127.0.0.1:9")
_PAYLOADS = "COPY (SELECT input FROM nightbatch.job) TO STDOUT"


def prepare(place: Place) -> None:
    plan.insert(place, "raw", jobs.ready)
    plan.ours(place)


def reset(place: Place) -> None:
    (place.folder / "payloads").unlink(missing_ok=True)


def reference(place: Place) -> None:
    with (place.folder / "payloads").open("wb") as file:
        subprocess.run([binaries() / "psql", "-qX", "-c", _PAYLOADS, place.dsn], check=True, stdout=file)


def ours(place: Place) -> None:
    settings = replace(Settings.from_env(), work_dir=str(place.folder / "work"))  # nobody else may read that one
    done = 0
    with open_store(place.dsn) as store:
        for batch in store.run_batches("bench"):
            with rendering.rendered(store, _PROVIDER, _TYPES, settings, batch) as rendered:
                assert rendered.sha256 and rendered.path.stat().st_size > 1_400 * len(rendered.job_ids)
                done += len(rendered.job_ids)
    assert done == place.jobs
