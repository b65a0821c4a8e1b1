"""The vector store: ten thousand texts in, and a search that finds what an exact one finds."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from nightbatch.cli import app
from nightbatch.postgres.migrate import BASELINE, migrations
from nightbatch_local.emulator.embeddings import embed
from tests.surroundings import require_pgvector
from tests.use_cases.conftest import World

DIMENSIONS = 256
COUNT = 10_000
TWINS = 50  # texts that stand in the table twice: their neighbours tie
PER_JOB = 10  # texts of the jobs that hold a list
NEAREST = 10
NOISE = 1e-6  # two ways to add up 256 products of float4 numbers

WORDS = [
    "harbour", "bicycle", "invoice", "garden", "winter", "coffee", "train", "letter", "window", "market", "river",
    "engine", "school", "bridge", "ticket", "kitchen", "forest", "camera", "island", "doctor", "paper", "silver",
    "morning", "village", "lamp", "pepper", "mirror", "button", "cotton", "ladder", "castle", "guitar",
]  # fmt: skip
"""Seven of them make a text; there are three million ways to choose."""


def texts_of_a_shop() -> list[str]:
    rng = random.Random(20261123)
    different = {" ".join(sorted(rng.sample(WORDS, 7))): None for _ in range(COUNT * 2)}
    distinct = list(different)[: COUNT - TWINS]
    return distinct + distinct[:TWINS]


def insert(world: World, texts: list[str]) -> None:
    """Half of them one a job, half of them as lists."""
    single, listed = texts[: COUNT // 2], texts[COUNT // 2 :]
    jobs: list[dict[str, Any]] = [{"text": text} for text in single]
    jobs += [{"texts": listed[start : start + PER_JOB]} for start in range(0, len(listed), PER_JOB)]
    with world.store.connection.cursor().copy(
        "COPY nightbatch.job (job_type, provider, input, labels) FROM STDIN"
    ) as copy:
        for number, job in enumerate(jobs):
            text = json.dumps(job | {"dimensions": DIMENSIONS})
            copy.write_row(("embedding_generation", "openai", text, json.dumps({"shelf": str(number % 7)})))


Place = tuple[int, int]
"""A vector: job and position."""


def exact(vectors: dict[Place, NDArray[np.float64]], of: Place) -> list[tuple[Place, float]]:
    """All others by cosine similarity, in numpy; equal ones by their place."""
    places = sorted(vectors)
    matrix = np.stack([vectors[place] for place in places])
    unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    likeness = unit @ unit[places.index(of)]
    order = np.argsort(-likeness, kind="stable")
    return [(places[at], float(likeness[at])) for at in order if places[at] != of]


def agree(found: list[tuple[Place, float]], ranked: list[tuple[Place, float]]) -> None:
    """The same neighbours in the same order, except among those that no arithmetic tells apart."""
    expected = dict(ranked)
    assert len(found) == NEAREST
    for (place, told), (_, wanted) in zip(found, ranked, strict=False):
        assert told == pytest.approx(wanted, abs=NOISE)
        assert told == pytest.approx(expected[place], abs=NOISE)
    clear = [place for place, likeness in ranked if likeness > found[-1][1] + NOISE]
    assert set(clear) <= {place for place, _ in found}
    for (one, first), (two, second) in pairwise(found):
        assert first >= second
        assert first != second or one < two, "what ties comes in the order of jobs and positions"


@pytest.fixture
def shop(world: World) -> list[str]:
    """Ten thousand texts, planned, sent, loaded."""
    world.settings = replace(world.settings, max_batch_jobs=4_000)
    texts = texts_of_a_shop()
    insert(world, texts)
    loaded = world.night("r1")
    assert sum(row.succeeded for row in loaded) == COUNT // 2 + COUNT // 2 // PER_JOB
    return texts


def test_ten_thousand_texts_are_searched_as_exactly_as_by_numpy(world: World, shop: list[str]) -> None:
    require_pgvector(world.dsn)
    stored = {
        (job, position): np.array(json.loads(text), dtype=np.float64)
        for job, position, text in world.rows("SELECT job_id, position, embedding::text FROM nightbatch.embedding")
    }
    assert len(stored) == COUNT
    # What the provider said is what is stored, for each text in its place.
    for text, place in zip(shop, sorted(stored), strict=True):
        assert np.allclose(stored[place], embed(text, DIMENSIONS), atol=1e-6), place

    rng = random.Random(7)
    jobs = sorted({job for job, _ in stored})
    sample = sorted({jobs[0], *rng.sample(jobs, 20), jobs[-1]})  # the first has a twin, in the last
    found: dict[Place, list[tuple[Place, float]]] = defaultdict(list)
    for of_job, of_position, job, position, similarity in world.rows(
        "SELECT * FROM nightbatch.similar(%s, %s)", sample, NEAREST
    ):
        found[of_job, of_position].append(((job, position), similarity))
    assert sorted(found) == sorted(place for place in stored if place[0] in sample)
    for place, neighbours in found.items():
        agree(neighbours, exact(stored, place))
    twin, likeness = found[jobs[0], 0][0]
    assert shop[sorted(stored).index(twin)] == shop[0]
    assert likeness == pytest.approx(1, abs=NOISE)
    world.judge()


def similar(world: World, *words: str) -> tuple[int, str]:
    runner = CliRunner(env={"NIGHTBATCH_DSN": world.dsn, "NO_COLOR": "1", "COLUMNS": "120"})
    done = runner.invoke(app, ["similar", *words])
    return done.exit_code, done.stdout + done.stderr


def test_the_command_shows_neighbours_with_their_labels(world: World) -> None:
    require_pgvector(world.dsn)
    rows: list[tuple[dict[str, Any], dict[str, str]]] = [
        ({"text": "a red bicycle"}, {"shelf": "wheels"}),
        ({"text": "a red bicycle bell"}, {"shelf": "parts", "sku": "7"}),
        ({"texts": ["the tax office", "a red bicycle"]}, {}),
    ]
    jobs = [
        world.rows(
            "INSERT INTO nightbatch.job (job_type, provider, input, labels)"
            " VALUES ('embedding_generation', 'openai', %s, %s) RETURNING id",
            json.dumps(job | {"dimensions": 16}),
            json.dumps(labels),
        )[0]
        for job, labels in rows
    ]
    world.night("r1")
    code, text = similar(world, str(jobs[0]), "--limit", "2", "--json")
    told = json.loads(text)
    assert (code, told["job_id"]) == (0, jobs[0])
    first, second = told["neighbours"]
    assert first == {
        "of_position": 0,
        "job_id": jobs[2],
        "position": 1,
        "similarity": first["similarity"],
        "labels": {},
    }
    assert (second["job_id"], second["labels"]) == (jobs[1], {"shelf": "parts", "sku": "7"})
    assert first["similarity"] == pytest.approx(1, abs=NOISE)
    assert second["similarity"] < 1 - NOISE
    code, shown = similar(world, str(jobs[0]), "--limit", "2")
    assert code == 0
    assert [line.split()[0] for line in shown.splitlines()[2:]] == [str(jobs[2]), str(jobs[1])]
    assert "shelf=parts, sku=7" in shown
    _, listed = similar(world, str(jobs[2]))
    assert [line.split()[0] for line in listed.splitlines()[2:]] == ["0"] * 3 + ["1"] * 3


def test_the_command_says_why_it_finds_nothing(world: World) -> None:
    require_pgvector(world.dsn)
    (scored,) = world.insert("openai", 1)
    alone = world.store.insert_job("embedding_generation", "openai", '{"text": "alone", "dimensions": 16}')
    world.night("r1")
    assert similar(world, str(alone)) == (0, "There is no other vector of the same model and size.\n")
    for job in (scored, 999_999):
        code, text = similar(world, str(job))
        assert (code, text.startswith(f"nightbatch: Job {job} has no vectors:")) == (1, True)
    assert similar(world, "0")[0] == similar(world, str(2**63))[0] == 2


def test_without_pgvector_the_command_says_so(world: World) -> None:
    """As the baseline leaves a server that does not have it."""
    world.store.connection.execute("DROP FUNCTION nightbatch.similar(bigint[], integer)")
    world.store.connection.execute(without_pgvector())
    code, text = similar(world, "1")
    assert code == 1
    assert "pgvector is not installed" in " ".join(text.split())


def without_pgvector() -> str:
    """Return the baseline's own branch for such a server."""
    (path,) = [path for path in migrations() if path.name == BASELINE]
    statement = path.read_text().partition("IF to_regtype('public.vector') IS NULL THEN")[2].partition("    ELSE\n")[0]
    assert "RAISE EXCEPTION" in statement
    return statement
