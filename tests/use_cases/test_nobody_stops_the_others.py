"""Whatever one job, one attempt or one adapter does, the others go on, and a person is told of the one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace as changed

from nightbatch.batches import fallback, in_doubt, loading, recovery, retention
from nightbatch.core.errors import ConfigurationError
from nightbatch.core.models import Answer, Prompt, ProviderName
from nightbatch.core.provider import BatchProvider
from nightbatch.job_types import job_types
from tests.surroundings import require_pgvector
from tests.use_cases.conftest import World
from tests.use_cases.steps import alerts, recover, sent, wait_for_end

PLAIN = {"type": "object", "properties": {"ok": {"type": "boolean"}}}


def ask(world: World, provider: str, schema: Any) -> int:
    values = {"template": "Who owns $t?", "values": {"t": "x"}, "schema": schema}
    (job,) = world.rows(
        "INSERT INTO nightbatch.job (job_type, provider, input) VALUES ('bulk_predictions', %s, %s) RETURNING id",
        provider,
        json.dumps(values),
    )
    return int(job)


@pytest.mark.fault(65)
@pytest.mark.parametrize(
    "odd",
    [{"owner": {"type": ["string", "null"]}}, {"extra": {}}, {"tags": {"type": "array", "items": {}}}, {"a": True}],
    ids=["type list", "any value", "untyped list", "boolean"],
)
def test_a_schema_that_an_adapter_cannot_write_costs_its_own_job(
    world: World, provider: ProviderName, odd: dict[str, Any]
) -> None:
    plain = [ask(world, provider, PLAIN) for _ in range(2)]
    (job,) = [ask(world, provider, {"type": "object", "properties": odd})]
    world.night("r1")
    states = world.states()
    assert {states[one] for one in plain} == {"succeeded"}
    assert states[job] in ("succeeded", "rejected", "failed"), "it is not stuck"
    if states[job] == "rejected":
        assert world.rows("SELECT error FROM nightbatch.job_status WHERE job_id = %s", job) > [""]


@pytest.mark.fault(65)
@pytest.mark.parametrize("error", [ValueError, AssertionError, KeyError, RecursionError, ConfigurationError])
def test_whatever_an_adapter_raises_costs_the_one_job_with_the_place_and_without_its_words(
    world: World, provider: ProviderName, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    good, (bad,) = world.insert(provider, 2), world.insert(provider, 1)
    kind = type(world.provider(provider))
    render = kind.render

    def fails(self: Any, custom_id: str, *args: Any) -> bytes:
        if custom_id.startswith(f"j{bad}_"):
            raise error("the secret of the prompt")
        return render(self, custom_id, *args)

    monkeypatch.setattr(kind, "render", fails)
    world.night("r1")
    assert [world.states()[job] for job in (*good, bad)] == ["succeeded", "succeeded", "rejected"]
    (reason,) = world.rows("SELECT error FROM nightbatch.job_status WHERE job_id = %s", bad)
    assert reason.startswith(f"the adapter of {provider} failed with {error.__name__} on it (fails, line ")
    assert "secret" not in reason
    world.judge()


@pytest.mark.fault(65)
@pytest.mark.parametrize("given", [lambda raw: None, lambda raw: 1 / 0, lambda raw: Prompt(user=None)])  # type: ignore[arg-type]
def test_whatever_a_job_type_gives_costs_the_one_job(
    world: World, provider: ProviderName, given: Callable[[bytes], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while a plan measures it, and while the fallback asks."""
    world.insert(provider, 1, headline="odd")
    good = world.insert(provider, 2)
    kind = job_types()["creative_scoring"]
    render = type(kind).render_request

    def odd(self: Any, raw: bytes) -> Any:
        return given(raw) if b"odd" in raw else render(self, raw)

    monkeypatch.setattr(type(kind), "render_request", odd)
    world.night("r1")
    assert [world.states()[job] for job in good] == ["succeeded"] * 2
    assert len({"rejected", "failed"} & set(world.states().values())) == 1, "it is not stuck"
    world.judge()


@pytest.mark.fault(65)
def test_no_memory_says_nothing_of_a_job(world: World, provider: ProviderName, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> bytes:
        raise MemoryError

    world.insert(provider, 2)
    (batch,) = world.plan()
    monkeypatch.setattr(type(world.provider(provider)), "render", full)
    with pytest.raises(MemoryError):
        world.submit(batch)
    assert set(world.states().values()) == {"batched"}


def with_answers(world: World, change: Callable[[Answer], Answer], only: str = "") -> Callable[[Any], BatchProvider]:
    """The adapters, of which one or all change the answers that they read."""

    def provider_for(name: ProviderName) -> BatchProvider:
        adapter: Any = world.provider(name)
        read = adapter.iter_results

        def results(*args: Any) -> Any:
            for place, line in enumerate(read(*args)):
                yield changed(line, answer=change(line.answer)) if place == 0 else line

        if not only or name == only:
            adapter.iter_results = results
        return adapter  # type: ignore[no-any-return]

    return provider_for


def embed(world: World, count: int) -> int:
    for number in range(count):
        world.store.connection.execute(
            "INSERT INTO nightbatch.job (job_type, provider, input) VALUES ('embedding_generation', 'openai', %s)",
            (json.dumps({"text": f"text {number}"}),),
        )
    (batch,) = world.plan("vectors")
    batch_id = world.submit_until_certain(batch)
    assert batch_id is not None
    return batch_id


@pytest.mark.fault(65)
def test_a_vector_that_the_database_refuses_costs_its_own_job(world: World) -> None:
    require_pgvector(world.dsn)
    batch_id = embed(world, 3)
    wait_for_end(world, batch_id)
    provider_for = with_answers(world, lambda answer: Answer("succeeded", embeddings=((0.5,) * 20_000,)))
    loaded = loading.load_batch(world.store, provider_for("openai"), job_types(), batch_id)
    assert (loaded.succeeded, loaded.failed, loaded.quarantined) == (2, 1, 1)
    (told,) = world.rows("SELECT error FROM nightbatch.result WHERE outcome = 'failed'")
    assert told.startswith("Its answer could not be kept: the database cannot keep it (")
    assert world.rows("SELECT count(*) FROM nightbatch.embedding") == [2]
    world.judge()


@pytest.mark.fault(65)
@pytest.mark.parametrize("number", [10**400, float("nan")])
def test_numbers_that_nothing_can_write_cost_their_own_job(world: World, number: Any) -> None:
    batch_id = embed(world, 3)
    wait_for_end(world, batch_id)
    provider_for = with_answers(world, lambda answer: Answer("succeeded", embeddings=((number, 0.5),)))
    assert loading.load_batch(world.store, provider_for("openai"), job_types(), batch_id).succeeded == 2
    world.judge()


@pytest.mark.fault(65)
def test_a_half_character_in_an_answer_that_misses_its_type_costs_its_own_job(
    world: World, provider: ProviderName
) -> None:
    batch_id = sent(world, provider)
    wait_for_end(world, batch_id)
    adapter = with_answers(world, lambda answer: changed(answer, text="\ud83d", outcome="refused"))(provider)
    assert loading.load_batch(world.store, adapter, job_types(), batch_id).succeeded == 2
    world.judge()


@pytest.mark.fault(65)
@pytest.mark.parametrize("error", [ValueError, AttributeError, psycopg.DataError, OSError])
def test_recovery_goes_on_with_the_others_and_names_the_batch(world: World, error: type[Exception]) -> None:
    stuck = sent(world, "openai")
    world.insert("anthropic", 2)
    world.insert("gemini", 2)
    for batch in world.plan("others"):
        world.submit_until_certain(batch)
    for batch in world.store.open_attempts():
        wait_for_end(world, batch.id)

    def provider_for(name: ProviderName) -> BatchProvider:
        if name == "openai":
            raise error("text that may hold a payload")
        return world.provider(name)

    told = recovery.recover(world.store, provider_for, job_types(), world.settings)
    assert [batch.id for batch in world.store.open_attempts()] == [stuck]
    (alert,) = world.store.open_alerts()
    assert (alert.kind, alert.subject) == ("attempt_stuck", str(stuck))
    assert error.__name__ in alert.message and "payload" not in alert.message + " ".join(told)
    recover(world)
    assert alerts(world) == []
    world.judge()


@pytest.mark.fault(65)
def test_a_connection_that_is_not_there_is_told_and_resolved(world: World) -> None:
    sent(world, "openai")

    def nothing(_: ProviderName) -> BatchProvider:
        raise ConfigurationError("There is no connection openai_default.")

    recovery.recover(world.store, nothing, job_types(), world.settings)
    assert alerts(world) == ["attempt_stuck"]
    wait_for_end(world, world.store.open_attempts()[0].id)
    recover(world)
    assert alerts(world) == []


@pytest.mark.fault(65)
def test_a_provider_that_does_not_answer_for_a_day_is_told(world: World, provider: ProviderName) -> None:
    batch_id = sent(world, provider)
    world.emulator.fault(provider, "batch_get", "refuse", status=503, times=None)
    recover(world)
    assert alerts(world) == []
    world.store.connection.execute("SET session_replication_role = replica")
    world.store.connection.execute(
        "UPDATE nightbatch.batch SET planned_at = planned_at - interval '25 hours' WHERE id = %s", (batch_id,)
    )
    recover(world)
    assert alerts(world) == ["attempt_stuck"]


@pytest.mark.fault(65)
def test_what_cannot_be_erased_keeps_nothing_else(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> list[str]:
        raise psycopg.errors.QueryCanceled("canceling statement")

    with monkeypatch.context() as patch:
        patch.setattr(retention, "erase", fails)
        recover(world)
    assert alerts(world) == ["not_erased"]
    recover(world)
    assert alerts(world) == []


@pytest.mark.fault(65)
def test_one_attempt_that_cannot_be_settled_keeps_no_other_from_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.insert("openai", 2)
    world.insert("gemini", 2)
    first, _ = world.plan()
    give_up = in_doubt.give_up

    def fails(store: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
        if batch.id == first.id:
            raise RuntimeError
        return give_up(store, batch, *args, **kwargs)

    monkeypatch.setattr(in_doubt, "give_up", fails)
    assert recovery.settle_run(world.store, "r1") == 2
    assert [(alert.kind, alert.subject) for alert in world.store.open_alerts()] == [("attempt_stuck", str(first.id))]


def urgent(world: World, provider: str, count: int) -> list[int]:
    return world.insert(provider, count, deadline="now", fallback=True)


def answer(world: World, provider_for: Callable[[Any], BatchProvider] | None = None) -> list[str]:
    return fallback.answer_urgent(world.store, provider_for or world.provider, job_types(), world.settings)


@pytest.mark.fault(65)
@pytest.mark.parametrize("error", [ValueError, RecursionError])
def test_an_error_before_a_realtime_call_leaves_no_attempt_open(
    world: World, provider: ProviderName, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = urgent(world, provider, 2)
    kind = type(world.provider(provider))
    render = kind.render

    def fails(self: Any, custom_id: str, *args: Any) -> bytes:
        if custom_id.startswith(f"j{first}_"):
            raise error
        return render(self, custom_id, *args)

    monkeypatch.setattr(kind, "render", fails)
    answer(world)
    assert [world.states()[job] for job in (first, second)] == ["rejected", "succeeded"]
    assert world.store.open_realtime() == []


@pytest.mark.fault(65)
def test_a_realtime_attempt_whose_provider_cannot_be_asked_is_told_and_the_others_are_answered(world: World) -> None:
    (stuck,), (other,) = urgent(world, "openai", 1), urgent(world, "gemini", 1)

    def provider_for(name: ProviderName) -> BatchProvider:
        if name == "openai":
            raise RuntimeError
        return world.provider(name)

    answer(world, provider_for)
    assert [world.states()[job] for job in (stuck, other)] == ["batched", "succeeded"]
    assert alerts(world) == ["attempt_stuck"]
    answer(world)
    assert world.states()[stuck] == "succeeded"
    assert alerts(world) == []
