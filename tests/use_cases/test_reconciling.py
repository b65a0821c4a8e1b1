"""Nothing that a provider counts as done is sent again, in whatever order and shape its lines come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import psycopg
import pytest

from nightbatch.batches import decisions, loading, retrying
from nightbatch.core.errors import NightbatchError, Transient
from nightbatch.core.ledger import Loaded
from nightbatch.core.models import ProviderName
from nightbatch.job_types import job_types
from nightbatch.providers import build
from tests.use_cases.conftest import World
from tests.use_cases.retold import Change, batch_object, both, lines, retold
from tests.use_cases.steps import alerts, at_provider, end_unfinished, recover, sent, wait_for_end

Edit = Callable[[dict[str, Any]], None]


def load(world: World, batch_id: int, change: Change) -> Loaded:
    """With a provider that tells of the batch otherwise."""
    batch = world.store.batch(batch_id)
    with retold(getattr(world.emulator, f"{batch.provider}_url"), change) as url:
        adapter = build(batch.provider, api_key=f"emu-{world.account}", base_url=url)
        return loading.load_batch(world.store, adapter, job_types(), batch_id)


def a_day_later(world: World, batch_id: int) -> Edit:
    """The end is told as if it had been long ago."""

    def edit(shown: dict[str, Any]) -> None:
        for place in (shown, shown.get("metadata") or {}):
            for name in list(place):
                if name.endswith("ed_at") and isinstance(place[name], int):
                    place[name] -= 100_000
                elif name in ("ended_at", "endTime"):
                    place[name] = "2026-01-01T00:00:00Z"

    return edit


def counts(succeeded: int | None, total: int) -> Edit:
    """What the provider counts; None: nothing is told."""

    def edit(shown: dict[str, Any]) -> None:
        if "request_counts" in shown and shown.get("type") == "message_batch":
            told = {"processing": 0, "succeeded": succeeded or 0, "errored": 0, "canceled": 0, "expired": 0}
            shown["request_counts"] = {**told, "errored": total - succeeded if succeeded is not None else 0}
        elif "request_counts" in shown:
            told = {"total": total, "completed": succeeded or 0, "failed": total - (succeeded or 0)}
            shown["request_counts"] = told if succeeded is not None else None
            shown["usage"] = None
        else:
            stats = {"requestCount": str(total), "successfulRequestCount": str(succeeded)}
            shown["metadata"]["batchStats"] = stats if succeeded is not None else {}

    return edit


def errored(provider: str, line: bytes) -> bytes:
    """The same request's line, as one that was not billed and is worth another try."""
    found = orjson.loads(line)
    if provider == "openai":
        body = {"error": {"message": "again", "type": "server_error", "code": None, "param": None}}
        return orjson.dumps({**found, "response": {"status_code": 500, "request_id": "r", "body": body}})
    if provider == "anthropic":
        inner = {"type": "error", "error": {"type": "api_error", "message": "again"}}
        return orjson.dumps({**found, "result": {"type": "errored", "error": inner}})
    return orjson.dumps({"key": found["key"], "error": {"code": 13, "message": "again"}})


def first_errored(provider: str) -> Callable[[list[bytes]], list[bytes]]:
    return lambda came: [errored(provider, came[0]), *came[1:]] if came else came


def rows(world: World) -> list[Any]:
    return sorted(world.rows("SELECT outcome, billed FROM nightbatch.result"))


def waits(world: World) -> bool:
    """Whether any job is queued again."""
    return "queued" in world.states().values()


@pytest.mark.fault(63)
def test_an_errored_line_is_not_sent_again_where_the_provider_counts_a_success(
    world: World, provider: ProviderName
) -> None:
    batch_id = sent(world, provider, 3)
    wait_for_end(world, batch_id)
    loaded = load(world, batch_id, lines(first_errored(provider)))
    assert (loaded.succeeded, loaded.requeued) == (2, 0)
    assert rows(world) == [("errored", True), ("succeeded", True), ("succeeded", True)]
    assert not waits(world) and alerts(world) == ["missing_results"]
    assert world.plan("r2") == []


@pytest.mark.fault(63)
def test_an_errored_line_goes_again_where_the_counts_agree(world: World, provider: ProviderName) -> None:
    batch_id = sent(world, provider, 3)
    wait_for_end(world, batch_id)
    told = both(lines(first_errored(provider)), batch_object(counts(2, 3)))
    assert load(world, batch_id, told).requeued == 1
    assert alerts(world) == []


@pytest.mark.fault(63)
def test_of_two_lines_the_billed_one_counts_in_any_order(world: World, provider: ProviderName) -> None:
    for order in (1, -1):
        batch_id = sent(world, provider, 3)
        wait_for_end(world, batch_id)

        def twice(came: list[bytes], order: int = order) -> list[bytes]:
            return [*came, errored(provider, came[0])][::order] if came else came

        loaded = load(world, batch_id, lines(twice))
        assert (loaded.succeeded, loaded.requeued, loaded.quarantined) == (3, 0, 1)
    world.judge()


@pytest.mark.fault(63)
@pytest.mark.parametrize("told", [None, 2, 3])
def test_counts_that_are_not_told_do_not_mean_that_all_is_here(
    world: World, provider: ProviderName, told: int | None
) -> None:
    batch_id = sent(world, provider, 3)
    wait_for_end(world, batch_id)
    change = both(lines(lambda came: came[1:]), batch_object(counts(told, 3)))
    loaded = load(world, batch_id, change)
    assert loaded.succeeded == 2
    assert waits(world) is (told == 2), "only where the provider counts no more than was read"
    assert alerts(world) == ([] if told == 2 else ["missing_results"])


@pytest.mark.fault(63)
def test_counts_of_fewer_requests_than_were_sent_prove_nothing(world: World, provider: ProviderName) -> None:
    batch_id = sent(world, provider, 3)
    wait_for_end(world, batch_id)
    load(world, batch_id, both(lines(lambda came: came[1:]), batch_object(counts(2, 2))))
    assert not waits(world) and alerts(world) == ["missing_results"]


@pytest.mark.fault(63)
def test_usage_that_exceeds_the_lines_keeps_what_would_go_again(world: World) -> None:
    """OpenAI adds the tokens of a batch up: what was billed and not read shows there, whatever the counts say."""
    batch_id = sent(world, "openai", 3)
    wait_for_end(world, batch_id)

    def fewer(shown: dict[str, Any]) -> None:
        shown["request_counts"] = {"total": 3, "completed": 2, "failed": 1}

    load(world, batch_id, both(lines(first_errored("openai")), batch_object(fewer)))
    assert not waits(world) and alerts(world) == ["missing_results"]


def no_file(shown: dict[str, Any]) -> None:
    if "output_file_id" in shown:
        shown["output_file_id"] = shown["error_file_id"] = None
    shown.pop("response", None)
    (shown.get("metadata") or {}).pop("output", None)


@pytest.mark.fault(63)
@pytest.mark.parametrize("provider", ["openai", "gemini"])
@pytest.mark.parametrize("told", [1, 3, None])
def test_results_that_are_not_named_yet_are_waited_for_and_then_kept(
    world: World, provider: ProviderName, told: int | None
) -> None:
    batch_id = sent(world, provider, 3)
    wait_for_end(world, batch_id)
    unnamed = both(batch_object(no_file), batch_object(counts(told, 3)))
    with pytest.raises(Transient):
        load(world, batch_id, unnamed)
    assert set(world.states().values()) == {"batched"}
    load(world, batch_id, both(unnamed, batch_object(a_day_later(world, batch_id))))
    assert set(world.states().values()) == {"failed"}
    assert rows(world) == [("missing", True)] * 3
    assert alerts(world) in (["lost_results"], ["missing_results"])
    assert world.plan("r2") == []


@pytest.mark.fault(63)
@pytest.mark.parametrize("word", ["CANCELLED", "EXPIRED"])
@pytest.mark.parametrize(("succeeded", "again"), [(0, True), (1, False), (None, False)])
def test_a_gemini_batch_without_a_file_goes_again_only_where_it_counts_no_success(
    world: World, word: str, succeeded: int | None, again: bool
) -> None:
    batch_id = sent(world, "gemini", 2)
    wait_for_end(world, batch_id)

    def ended(shown: dict[str, Any]) -> None:
        shown["metadata"]["state"] = f"BATCH_STATE_{word}"

    change = both(batch_object(no_file), batch_object(ended), batch_object(counts(succeeded, 2)))
    if not again:
        with pytest.raises(Transient):
            load(world, batch_id, change)
        change = both(change, batch_object(a_day_later(world, batch_id)))
    load(world, batch_id, change)
    assert waits(world) is again
    assert rows(world) == [("missing", not again)] * 2


@pytest.mark.fault(63)
def test_a_failed_batch_with_files_is_loaded(world: World, provider: ProviderName) -> None:
    if provider == "anthropic":
        return  # has no such state
    batch_id = sent(world, provider, 2)
    wait_for_end(world, batch_id)

    def failed(shown: dict[str, Any]) -> None:
        if provider == "openai":
            shown["status"] = "failed"
            shown["errors"] = {"data": [{"code": "server_error", "message": "x", "line": None, "param": None}]}
        else:
            shown["metadata"]["state"] = "BATCH_STATE_FAILED"
            shown["error"] = {"code": 13, "message": "x"}

    assert load(world, batch_id, batch_object(failed)).succeeded == 2
    world.judge()


@pytest.mark.fault(63)
def test_a_batch_that_ended_before_it_was_looked_at_goes_again(world: World, provider: ProviderName) -> None:
    world.insert(provider, 2)
    (batch,) = world.plan()
    end_unfinished(world, batch.id)
    assert set(world.states().values()) == {"queued"}
    assert alerts(world) == []


@pytest.mark.fault(69)
@pytest.mark.parametrize("told", [None, 3])
def test_while_a_line_that_may_be_billed_is_unread_nothing_is_deleted(
    world: World, provider: ProviderName, told: int | None
) -> None:
    batch_id = sent(world, provider, 3)
    wait_for_end(world, batch_id)
    change = both(lines(lambda came: [b"{garbled", *came[1:]]), batch_object(counts(told, 3)))
    loaded = load(world, batch_id, change)
    assert (loaded.succeeded, loaded.quarantined) == (2, 1)
    assert alerts(world) == ["missing_results"]
    deleted = [entry for entry in world.emulator.log(world.account) if entry["operation"] == "file_delete"]
    assert deleted == []
    assert at_provider(world, batch_id)


@pytest.mark.fault(69)
def test_a_line_that_nobody_needs_keeps_no_file(world: World, provider: ProviderName) -> None:
    batch_id = sent(world, provider, 3)
    wait_for_end(world, batch_id)
    loaded = load(world, batch_id, lines(lambda came: [*came, b"{garbled"]))
    assert (loaded.succeeded, loaded.quarantined) == (3, 1)
    assert alerts(world) == []
    if provider != "anthropic":
        assert [entry for entry in world.emulator.log(world.account) if entry["operation"] == "file_delete"]
    world.judge()


# -- a batch that is read once more


def load_again(world: World, batch_id: int, change: Change | None = None) -> str:
    batch = world.store.batch(batch_id)
    with retold(getattr(world.emulator, f"{batch.provider}_url"), change or (lambda *_: None)) as url:
        adapter = build(batch.provider, api_key=f"emu-{world.account}", base_url=url)
        return loading.load_again(world.store, adapter, job_types(), batch_id)


@pytest.mark.fault(69)
def test_a_batch_is_loaded_again_and_what_was_missing_is_filled_in_once(world: World, provider: ProviderName) -> None:
    batch_id = sent(world, provider, 3)
    wait_for_end(world, batch_id)
    load(world, batch_id, lines(lambda came: [b"{garbled", came[0], b"{too"]))
    assert rows(world) == [("missing", True), ("missing", True), ("succeeded", True)]
    before = world.rows("SELECT * FROM nightbatch.result WHERE outcome = 'succeeded'")
    decisions.ask_to_load(world.store, batch_id, by="ann", reason="the download was cut")
    assert "2 of 2 missing results came, 0 are still missing" in " ".join(recover(world))
    assert rows(world) == [("succeeded", True)] * 3
    assert before[0] in world.rows("SELECT * FROM nightbatch.result")
    assert alerts(world) == []
    assert world.store.wanted_loads() == []
    assert world.plan("r2") == []
    world.judge()


@pytest.mark.fault(69)
def test_what_is_still_missing_stays_so_and_can_be_read_again(world: World, provider: ProviderName) -> None:
    batch_id = sent(world, provider, 3)
    wait_for_end(world, batch_id)
    load(world, batch_id, lines(lambda came: [b"{garbled", *came[2:]]))
    for told in ("1 of 2 missing results came", "0 of 1 missing results came"):
        assert told in load_again(world, batch_id, lines(lambda came: came[1:]))
    assert rows(world) == [("missing", True), ("succeeded", True), ("succeeded", True)]
    assert alerts(world) == ["missing_results"]
    load_again(world, batch_id)
    assert rows(world) == [("succeeded", True)] * 3 and alerts(world) == []
    world.judge()


@pytest.mark.fault(69)
def test_results_that_were_given_up_are_loaded_when_they_come_after_all(world: World) -> None:
    batch_id = sent(world, "gemini", 2)
    wait_for_end(world, batch_id)
    load(world, batch_id, both(batch_object(no_file), batch_object(a_day_later(world, batch_id))))
    assert alerts(world) == ["lost_results"]
    load_again(world, batch_id)
    assert set(world.states().values()) == {"succeeded"} and alerts(world) == []
    world.judge()


@pytest.mark.fault(69)
def test_what_comes_after_a_retry_is_booked_and_is_not_the_last_word(world: World, provider: ProviderName) -> None:
    """The person asked again; then the first answer turned up after all. Both are paid, and the later one counts."""
    batch_id = sent(world, provider, 2)
    wait_for_end(world, batch_id)
    load(world, batch_id, lines(lambda came: [b"{garbled", *came[1:]]))
    retrying.retry(world.store, batch_id, by="ann", reason="needed today")
    (second,) = world.night("r2")
    load_again(world, batch_id)
    assert set(world.states().values()) == {"succeeded"}
    assert sorted(world.rows("SELECT batch_id FROM nightbatch.job_status")) == [batch_id, second.batch_id]
    assert world.rows("SELECT count(*) FROM nightbatch.result WHERE billed AND batch_cost_usd IS NOT NULL") == [3]
    assert len(world.bill()) == 3


def test_a_result_that_was_read_cannot_be_deleted(world: World, provider: ProviderName) -> None:
    world.load(sent(world, provider, 1))
    with pytest.raises(psycopg.errors.RestrictViolation, match="was read and stays"):
        world.store.connection.execute("DELETE FROM nightbatch.result")


def test_only_what_was_loaded_is_read_once_more(world: World) -> None:
    batch_id = sent(world, "openai", 1)
    with pytest.raises(NightbatchError, match="is submitted: only a batch whose results were loaded"):
        decisions.ask_to_load(world.store, batch_id, by="ann", reason="x")
    with pytest.raises(NightbatchError, match="is submitted"):
        load_again(world, batch_id)
