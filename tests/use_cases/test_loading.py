"""Loading: every request accounted for once, whatever the provider sends."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from msgspec import structs

from nightbatch.batches import loading
from nightbatch.core.errors import ReconciliationError, Transient
from nightbatch.core.models import ProviderName
from nightbatch.job_types import job_types
from nightbatch.postgres.store import open_store
from tests.surroundings import require_pgvector
from tests.use_cases.conftest import World
from tests.use_cases.steps import wait_for_end


def sent(world: World, provider: str, count: int = 4, **columns: Any) -> int:
    world.insert(provider, count, **columns)
    (batch,) = world.plan()
    batch_id = world.submit_until_certain(batch)
    assert batch_id is not None
    return batch_id


def outcomes(world: World) -> list[str]:
    return sorted(world.rows("SELECT outcome FROM nightbatch.result"))


@pytest.mark.fault(7, 11)
def test_loading_twice_changes_nothing(world: World, provider: ProviderName) -> None:
    batch_id = sent(world, provider)
    first = world.load(batch_id)
    before = world.rows("SELECT * FROM nightbatch.result ORDER BY job_id")
    assert world.load(batch_id) == first
    assert world.rows("SELECT * FROM nightbatch.result ORDER BY job_id") == before
    world.judge()


@pytest.mark.fault(7)
def test_two_loads_at_once_write_one_result_a_job(world: World, provider: ProviderName) -> None:
    batch_id = sent(world, provider, 30)
    figures = []

    def load() -> None:
        with open_store(world.dsn) as store:
            figures.append(loading.load_batch(store, world.provider(provider), job_types(), batch_id))

    state = world.store.batch(batch_id).provider_batch_id
    assert state is not None
    while asyncio.run(world.provider(provider).get_state(state)).phase == "running":
        pass
    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(row.jobs, row.succeeded) for row in figures] == [(30, 30)] * 3
    world.judge()


def test_a_running_batch_is_not_loaded(world: World, provider: ProviderName) -> None:
    world.emulator.control("POST", "turnaround", {"seconds": 30})
    try:
        batch_id = sent(world, provider)
        with pytest.raises(ReconciliationError, match="still"):
            loading.load_batch(world.store, world.provider(provider), job_types(), batch_id)
    finally:
        world.emulator.control("POST", "turnaround", {"seconds": 0.2})
    assert outcomes(world) == []


@pytest.mark.fault(32)
def test_a_download_cut_short_writes_nothing_and_can_be_repeated(world: World, provider: ProviderName) -> None:
    batch_id = sent(world, provider)
    world.emulator.fault(provider, "file_download", "truncate", times=None)
    with pytest.raises(Transient):
        world.load(batch_id)
    assert outcomes(world) == []
    world.emulator.control("DELETE", "faults")
    assert world.load(batch_id).succeeded == 4
    world.judge()


@pytest.mark.fault(30)
@pytest.mark.parametrize("fault", ["corrupt", "missing_line"])
def test_a_line_lost_on_the_way_is_there_in_the_second_download(
    world: World, provider: ProviderName, fault: str
) -> None:
    batch_id = sent(world, provider)
    world.emulator.fault(provider, "file_download", fault, times=1)
    assert world.load(batch_id).succeeded == 4
    world.judge()


@pytest.mark.fault(30)
@pytest.mark.parametrize(("fault", "read"), [("corrupt", [4, 1]), ("missing_line", [3, 1])])
def test_a_second_download_is_read_only_where_it_is_new(
    world: World, provider: ProviderName, fault: str, read: list[int]
) -> None:
    """What it brings is kept, and what the first one garbled is not quarantined."""
    batch_id = sent(world, provider)
    wait_for_end(world, batch_id)
    world.emulator.fault(provider, "file_download", fault, times=1)
    adapter, downloads = world.provider(provider), []

    def counted(*args: Any) -> list[Any]:
        downloads.append(list(type(adapter).iter_results(adapter, *args)))
        return downloads[-1]

    adapter.iter_results = counted  # type: ignore[method-assign, assignment]
    loaded = loading.load_batch(world.store, adapter, job_types(), batch_id)
    assert [len(lines) for lines in downloads] == read
    assert (loaded.succeeded, loaded.quarantined) == (4, 0)
    world.judge()


@pytest.mark.fault(30, 33)
@pytest.mark.parametrize("fault", ["corrupt", "missing_line"])
def test_a_line_that_stays_lost_is_not_paid_for_again(world: World, provider: ProviderName, fault: str) -> None:
    batch_id = sent(world, provider)
    world.emulator.fault(provider, "file_download", fault, times=None)
    loaded = world.load(batch_id)
    assert loaded.succeeded < 4
    assert loaded.requeued == 0
    assert loaded.succeeded + loaded.failed == 4
    assert [alert.kind for alert in world.store.open_alerts()] == ["missing_results"]
    assert "missing" in outcomes(world)
    assert world.plan("r2") == []
    if fault == "corrupt":
        assert loaded.quarantined > 0


@pytest.mark.fault(29)
def test_a_line_that_comes_twice_counts_once(world: World, provider: ProviderName) -> None:
    batch_id = sent(world, provider)
    world.emulator.fault(provider, "file_download", "duplicate_line", times=None)
    loaded = world.load(batch_id)
    assert (loaded.jobs, loaded.succeeded) == (4, 4)
    world.judge()


@pytest.mark.fault(31)
def test_an_unknown_custom_id_goes_to_quarantine(world: World, provider: ProviderName) -> None:
    batch_id = sent(world, provider)
    world.emulator.fault(provider, "file_download", "unknown_line", times=None)
    loaded = world.load(batch_id)
    assert (loaded.succeeded, loaded.quarantined) == (4, 1)
    assert world.rows("SELECT reason FROM nightbatch.reject") == ["no job of this batch has its custom_id"]
    world.judge()


@pytest.mark.fault(48, 49)
@pytest.mark.parametrize(
    ("mark", "outcome", "billed"),
    [
        ("error=400", "errored", False),
        ("refusal", "refused", True),
        ("truncate", "truncated", True),
        ("misfit", "failed", True),
    ],
)
def test_an_unusable_answer_is_its_own_outcome_and_is_not_paid_again(
    world: World, provider: ProviderName, mark: str, outcome: str, billed: bool
) -> None:
    world.insert(provider, 1, headline=f"[[emulator:{mark}]]")
    world.night("r1")
    row = world.rows("SELECT outcome, billed, error, output IS NOT NULL FROM nightbatch.result")
    assert [(row[0][0], row[0][1])] == [(outcome, billed)]
    assert row[0][2]
    assert set(world.states().values()) == {"failed"}
    assert world.plan("r2") == []
    wasted, batch = world.rows("SELECT wasted_cost_usd, batch_cost_usd FROM nightbatch_report.savings_daily")[0]
    assert wasted == batch
    world.judge()


def test_an_error_of_the_provider_is_tried_again_until_the_attempts_are_used_up(
    world: World, provider: ProviderName
) -> None:
    world.insert(provider, 1, headline="[[emulator:error=500]]")
    for run, left in (("r1", {"queued"}), ("r2", {"queued"}), ("r3", {"failed"})):
        world.night(run)
        assert set(world.states().values()) == left
    assert world.plan("r4") == []
    assert world.rows("SELECT attempts FROM nightbatch.job_status") == [3]
    assert world.bill() == []
    world.judge()


@pytest.mark.fault(26)
@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_what_finished_before_the_expiry_is_kept_and_only_the_rest_goes_again(world: World, name: ProviderName) -> None:
    world.insert(name, 3)
    late = world.insert(name, 1, headline="[[emulator:expire]]")
    (loaded,) = world.night("r1")
    assert (loaded.succeeded, loaded.requeued) == (3, 1)
    states = world.states()
    assert [job for job, state in states.items() if state == "queued"] == late
    assert [batch.job_count for batch in world.plan("r2")] == [1]
    world.judge()


@pytest.mark.fault(26)
def test_an_expired_gemini_batch_has_nothing_to_fetch_and_all_of_it_goes_again(world: World) -> None:
    world.insert("gemini", 3, headline="[[emulator:expire]]")
    (loaded,) = world.night("r1")
    assert (loaded.succeeded, loaded.requeued) == (0, 3)
    assert world.bill() == []
    world.judge()


@pytest.mark.fault(27)
@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_a_cancelled_batch_keeps_what_finished(world: World, name: ProviderName) -> None:
    world.emulator.control("POST", "turnaround", {"seconds": 30})
    try:
        batch_id = sent(world, name, 6)
        found = world.store.batch(batch_id).provider_batch_id or ""
        world.emulator.control("POST", f"batches/{found}/end", {"as": "cancelled", "finished": 0.5})
    finally:
        world.emulator.control("POST", "turnaround", {"seconds": 0.2})
    loaded = world.load(batch_id)
    assert (loaded.succeeded, loaded.requeued) == (3, 3)
    world.judge()


@pytest.mark.fault(37)
def test_a_batch_that_the_provider_fails_as_a_whole_costs_nothing_and_goes_again(world: World) -> None:
    world.emulator.control("POST", "turnaround", {"seconds": 30})
    try:
        batch_id = sent(world, "openai", 2)
        found = world.store.batch(batch_id).provider_batch_id or ""
        error = {"code": "token_limit_exceeded", "line": None, "message": "Enqueued token limit reached", "param": None}
        world.emulator.control("POST", f"batches/{found}/end", {"as": "failed", "error": error})
    finally:
        world.emulator.control("POST", "turnaround", {"seconds": 0.2})
    world.load(batch_id)
    assert world.store.batch(batch_id).state == "refused"
    assert set(world.states().values()) == {"queued"}
    assert sum(row.succeeded for row in world.night("r2")) == 2
    world.judge()


@pytest.mark.fault(34)
def test_usage_that_is_missing_is_an_unknown_cost_and_not_zero(world: World, provider: ProviderName) -> None:
    world.insert(provider, 1, headline="[[emulator:nousage]]")
    world.night("r1")
    assert world.rows("SELECT outcome, billed, batch_cost_usd FROM nightbatch.result") == [("succeeded", True, None)]
    assert world.rows("SELECT unpriced FROM nightbatch_report.savings_daily") == [1]


def test_vectors_land_in_pgvector(world: World) -> None:
    require_pgvector(world.dsn)
    for text in ("a red bicycle", "a red bike", "the tax office"):
        for name in ("openai", "gemini"):
            world.store.insert_job("embedding_generation", name, f'{{"text": "{text}", "dimensions": 64}}')
    world.night("r1")
    assert world.rows("SELECT public.vector_dims(embedding) FROM nightbatch.embedding") == [64] * 6
    world.judge()


def test_without_pgvector_vectors_land_as_arrays(world: World) -> None:
    """With the column as the baseline makes it on such a server."""
    world.store.connection.execute(
        "ALTER TABLE nightbatch.embedding ALTER embedding TYPE real[] USING embedding::real[]"
    )
    for name in ("openai", "gemini"):
        world.store.insert_job("embedding_generation", name, '{"text": "a red bicycle", "dimensions": 64}')
    world.night("r1")
    assert world.rows("SELECT cardinality(embedding) FROM nightbatch.embedding") == [64] * 2
    assert world.rows(
        "SELECT abs(1 - (SELECT sum(x * x) FROM unnest(embedding) AS x)) < 0.001 FROM nightbatch.embedding"
    ) == [
        True,
        True,
    ]
    world.judge()


@pytest.mark.fault(47)
def test_a_load_that_fails_in_the_middle_leaves_no_row(
    world: World, provider: ProviderName, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = sent(world, provider)
    with monkeypatch.context() as patched:

        def fail(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        patched.setattr(world.store, "close_loaded", fail)
        with pytest.raises(OSError, match="No space"):
            world.load(batch_id)
    assert outcomes(world) == []
    assert world.load(batch_id).succeeded == 4
    world.judge()


@pytest.mark.fault(39)
def test_a_zero_byte_in_a_providers_word_costs_no_batch(
    world: World, provider: ProviderName, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Postgres keeps every character but that one."""
    batch_id = sent(world, provider)
    read = loading._ResultReader._read

    def with_zero(sheet: Any, job_id: int, kind: Any, line: Any) -> Any:
        answer = structs.replace(line.answer, finish_reason="st\0op")
        return read(sheet, job_id, kind, structs.replace(line, answer=answer))

    monkeypatch.setattr(loading._ResultReader, "_read", with_zero)
    assert world.load(batch_id).succeeded == 4
    assert world.rows("SELECT DISTINCT finish_reason FROM nightbatch.result") == ["stop"]
    world.judge()


def test_the_roll_up_of_all_nights_equals_a_full_recount(world: World) -> None:
    for run in ("r1", "r2"):
        for name in ("openai", "anthropic", "gemini"):
            world.insert(name, 3)
            world.insert(name, 1, headline="[[emulator:misfit]]")
        world.night(run)
    recount = world.rows(
        "SELECT (b.submitted_at AT TIME ZONE 'UTC')::date, b.provider, b.model, j.job_type, count(*),"
        " count(*) FILTER (WHERE r.outcome = 'succeeded'), sum(r.input_tokens), sum(r.realtime_cost_usd),"
        " sum(r.batch_cost_usd), sum(r.batch_cost_usd) FILTER (WHERE r.outcome <> 'succeeded')"
        " FROM nightbatch.result AS r JOIN nightbatch.batch AS b ON b.id = r.batch_id"
        " JOIN nightbatch.job AS j ON j.id = r.job_id GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"
    )
    told = world.rows(
        "SELECT day, provider, model, job_type, jobs, succeeded, input_tokens, realtime_cost_usd, batch_cost_usd,"
        " wasted_cost_usd FROM nightbatch_report.savings_daily ORDER BY 1, 2, 3, 4"
    )
    assert told == recount
