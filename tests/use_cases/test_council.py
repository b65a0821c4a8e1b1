"""Council and similarity: what several answers say together, told by the database."""

from __future__ import annotations

import numpy as np
import pytest

from nightbatch.core.errors import NightbatchError, Rejected
from nightbatch.job_types import job_types
from nightbatch.jobs import council
from tests.surroundings import require_pgvector
from tests.use_cases.conftest import World

MEMBERS = [("openai", None), ("anthropic", None), ("gemini", None), ("openai", "gpt-6-sol")]


def test_a_council_has_a_verdict_once_all_are_in(world: World) -> None:
    name = council.convene(world.store, job_types(), {"headline": "One for all"}, MEMBERS)
    world.night("r1", providers=("openai",))
    columns = "council, members, answered, complete"
    assert world.rows(f"SELECT {columns} FROM nightbatch.council") == [(name, 4, 2, False)]
    world.night("r2")
    assert world.rows(f"SELECT {columns} FROM nightbatch.council") == [(name, 4, 4, True)]
    scores = [int(score) for score in world.rows("SELECT output ->> 'overall' FROM nightbatch.result")]
    overall, spread, dissent = world.rows("SELECT overall, spread, dissent FROM nightbatch.council")[0]
    middle = float(np.median(scores))
    assert (float(overall), spread) == (middle, max(scores) - min(scores))
    assert float(dissent) == max(abs(score - middle) for score in scores)
    world.judge()


def test_a_council_of_one_is_none(world: World) -> None:
    with pytest.raises(NightbatchError, match="at least two"):
        council.convene(world.store, job_types(), {"headline": "Alone"}, [("openai", None), ("openai", "gpt-6-luna")])
    with pytest.raises(Rejected, match="headline"):
        council.convene(world.store, job_types(), {}, [("openai", None), ("gemini", None)])
    assert world.states() == {}


def test_nearest_neighbours_are_those_of_an_exact_search(world: World) -> None:
    require_pgvector(world.dsn)
    rng = np.random.default_rng(7)
    vectors = rng.normal(size=(300, 16)).astype(np.float32)
    run = world.rows("INSERT INTO nightbatch.run (id) VALUES ('r') RETURNING id")[0]
    batch = world.rows(
        "INSERT INTO nightbatch.batch (run_id, provider, model, endpoint, part, job_count)"
        " VALUES (%s, 'openai', 'm', 'embeddings', 1, 300) RETURNING id",
        run,
    )[0]
    with world.store.connection.cursor().copy(
        "COPY nightbatch.embedding (job_id, position, batch_id, embedding) FROM STDIN"
    ) as copy:
        for number, vector in enumerate(vectors, start=1):
            copy.write_row((number, 0, batch, str(vector.tolist())))
    found = world.rows("SELECT of_job, job_id FROM nightbatch.similar(ARRAY[1, 2, 300]::bigint[], 5)")
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = []
    for job in (1, 2, 300):
        nearest = np.argsort(-(unit @ unit[job - 1]), kind="stable")
        expected += [(job, int(other) + 1) for other in nearest if other != job - 1][:5]
    assert found == expected
