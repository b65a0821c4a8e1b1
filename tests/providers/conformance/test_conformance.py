"""What every provider's adapter promises, against the emulator and the real SDKs."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
import warnings
from dataclasses import replace
from typing import Any

import httpx2
import orjson
import pytest

from nightbatch.errors import AccountRefused, Rejected, Throttled, Transient
from nightbatch.models import EmbeddingInput, Prompt, ProviderName, ResultLine, UnreadableLine, Usage, custom_id
from tests.providers.conformance.kit import DOWNLOADS, SCHEMA, Lab, embeddings, is_gone, readable, texts


def ids(lines: list[Any]) -> list[str]:
    return [line.custom_id for line in lines if isinstance(line, ResultLine)]


def outcomes(lines: list[Any]) -> list[str]:
    return [readable(line).outcome for line in lines]


# -- the happy path


def test_a_batch_comes_back_whole_with_texts_and_tokens(lab: Lab) -> None:
    lines = [readable(line) for line in lab.results(Prompt("Name a harbour.", system="Be brief."), "Name a bridge.")]
    assert ids(lines) == [custom_id(1, 7), custom_id(2, 7)]
    for line in lines:
        assert (line.outcome, line.billed, line.error) == ("succeeded", True, None)
        assert line.answer and line.answer.text and line.answer.model
        assert line.usage and line.usage.input_tokens > 0 and line.usage.output_tokens > 0
    assert sorted(lab.billed()) == ids(lines)


def test_tokens_are_those_that_were_billed(lab: Lab) -> None:
    batch_id = lab.send(*[Prompt(text, system="Rules. " * 2000) for text in texts(8)])
    lab.end(batch_id)
    billed = {
        row["custom_id"]: Usage(row["input_tokens"], row["output_tokens"], row["cached_tokens"])
        for row in lab.emulator.billing()
        if row["batch_id"] == batch_id
    }
    assert {readable(line).custom_id: readable(line).usage for line in lab.lines(batch_id)} == billed
    # Anthropic caches what a request marks; ours do not.
    assert any(usage.cached_tokens for usage in billed.values()) == (lab.name != "anthropic")


def test_a_schema_comes_back_as_json_that_fits(lab: Lab) -> None:
    (line,) = lab.results(Prompt("Judge this advertisement.", schema=SCHEMA, schema_name="judgement"))
    answer = readable(line).answer
    assert answer and answer.text
    found = orjson.loads(answer.text)
    assert found["verdict"] in ("run", "drop") and isinstance(found["score"], int)


@pytest.mark.filterwarnings("ignore:batches.create_embeddings")
def test_embeddings_come_back_in_their_size(lab: Lab) -> None:
    if lab.name == "anthropic":
        with pytest.raises(Rejected, match="no embeddings"):
            lab.provider.render(custom_id(1, 7), "claude-haiku-4-5", "embeddings", EmbeddingInput(("a",)))
        return
    lines = lab.results(*embeddings("A harbour.", "A bridge."), endpoint="embeddings")
    answers = [readable(line).answer for line in lines]
    assert [[len(vector) for vector in answer.embeddings or ()] for answer in answers if answer] == [[8], [8]]
    assert all((line.usage or Usage(0, 0)).input_tokens > 0 for line in map(readable, lines))


def test_a_state_tells_phase_status_and_counts(lab: Lab) -> None:
    batch_id = lab.send(*texts(3))
    running = lab.state(batch_id)
    assert (running.provider_batch_id, running.phase, running.unknown) == (batch_id, "running", False)
    assert running.created_at and running.created_at.tzinfo
    ended = lab.end(batch_id)
    assert ended.phase == "ended" and ended.counts and ended.ended_at
    assert (ended.counts.total, ended.counts.succeeded, ended.counts.errored) == (3, 3, 0)


def test_a_cancelled_batch_ends(lab: Lab) -> None:
    batch_id = lab.send(*texts(2))
    lab.provider.cancel(batch_id)
    deadline = time.monotonic() + 10
    while (state := lab.state(batch_id)).phase == "running":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert state.phase == "ended" and not state.unknown
    assert state.counts and state.counts.succeeded == len(lab.billed())
    with pytest.raises(Rejected):  # it has ended: asking again is pointless, and does not look like an outage
        lab.provider.cancel(batch_id)


def test_what_is_loaded_can_be_deleted_twice(lab: Lab) -> None:
    submission, path = lab.uploaded()
    batch_id = lab.provider.submit(submission, path)
    lab.end(batch_id)
    for _ in range(2):
        lab.provider.delete_files(submission, batch_id)


def test_an_upload_that_is_repeated_does_not_change_what_is_sent(lab: Lab) -> None:
    submission, path = lab.uploaded(texts(2))
    again = replace(submission, input_file=lab.adapter().upload(submission, path))
    lab.end(lab.provider.submit(again, path))
    assert sorted(lab.billed()) == [custom_id(1, 7), custom_id(2, 7)]


def test_a_file_of_many_pieces_arrives_whole(lab: Lab) -> None:
    """Gemini's SDK uploads 8 MB at a time, Anthropic's create is streamed a megabyte at a time."""
    batch_id = lab.send(*["".join(("z" * 899_999, str(number))) for number in range(10)])
    assert lab.end(batch_id).phase == "ended"
    assert len(lab.lines(batch_id)) == len(lab.billed()) == 10


# -- one create, whatever happens to it


@pytest.mark.parametrize(
    ("fault", "details", "error"),
    [
        ("rate_limit", {"retry_after": 7}, Throttled),
        ("refuse", {"status": 500}, Transient),
        ("refuse", {"status": 503}, Transient),
        ("refuse", {"status": 409}, Transient),
        ("refuse", {"status": 401}, AccountRefused),
        ("refuse", {"status": 403}, AccountRefused),
        ("refuse", {"status": 400}, Rejected),
        ("refuse", {"status": 413}, Rejected),
        ("error_after", {}, Transient),
    ],
)
def test_a_create_is_sent_once_whatever_the_answer(
    lab: Lab, fault: str, details: dict[str, Any], error: type[Exception]
) -> None:
    submission, path = lab.uploaded()
    lab.fault("batch_create", fault, times=None, **details)
    with pytest.raises(error) as caught:
        lab.provider.submit(submission, path)
    assert type(caught.value) is error
    assert getattr(caught.value, "retry_after", None) == details.get("retry_after")
    assert len(lab.posts()) == 1
    assert bool(lab.provider.find_submission(submission)) == (fault == "error_after")


@pytest.mark.parametrize("fault", ["lose_answer", "reset"])
def test_a_create_is_sent_once_when_the_connection_breaks(lab: Lab, fault: str) -> None:
    submission, path = lab.uploaded()
    lab.fault("batch_create", fault, times=None)
    with pytest.raises(Transient) as caught:
        lab.provider.submit(submission, path)
    assert (type(caught.value), caught.value.status, lab.posts()) == (Transient, None, [None])


def test_a_create_is_sent_once_when_the_answer_takes_too_long(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    module = f"nightbatch.providers.{lab.name}"
    monkeypatch.setattr(f"{module}.TIMEOUT", httpx2.Timeout(0.3))
    if lab.name == "gemini":
        monkeypatch.setattr(f"{module}._SDK_TIMEOUT_MS", 300)
    submission, path = lab.uploaded()
    lab.fault("batch_create", "delay_after", delay_seconds=0.8, times=None)
    with pytest.raises(Transient):
        lab.adapter().submit(submission, path)
    time.sleep(1.0)
    assert len(lab.posts()) == 1
    assert len(lab.provider.find_submission(submission)) == 1


# -- finding it again


def test_a_create_whose_answer_was_lost_is_found_by_another_process(lab: Lab) -> None:
    submission, path = lab.uploaded()
    lab.fault("batch_create", "lose_answer")
    with pytest.raises(Transient):
        lab.provider.submit(submission, path)
    (found,) = lab.adapter().find_submission(submission)
    assert found.certain == (lab.name != "anthropic")
    assert found.created_at and found.created_at.tzinfo
    lab.end(found.provider_batch_id)
    assert ids(lab.lines(found.provider_batch_id)) == [custom_id(1, 7), custom_id(2, 7)]


def test_another_attempt_is_not_taken_for_this_one(lab: Lab) -> None:
    lab.send(*texts(3))
    submission, _ = lab.uploaded(texts(2))
    assert lab.provider.find_submission(submission) == []


def test_a_batch_from_before_the_intent_is_no_candidate_where_only_time_tells(lab: Lab) -> None:
    submission, path = lab.uploaded()
    lab.provider.submit(submission, path)
    assert submission.intent_at
    later = replace(submission, intent_at=submission.intent_at.replace(year=submission.intent_at.year + 1))
    assert bool(lab.provider.find_submission(later)) == (lab.name != "anthropic")
    forgotten = replace(submission, intent_at=None)
    assert len(lab.provider.find_submission(forgotten)) == 1


def test_two_batches_of_one_submission_are_both_found(lab: Lab) -> None:
    submission, path = lab.uploaded()
    sent = {lab.provider.submit(submission, path) for _ in range(2)}
    assert {found.provider_batch_id for found in lab.provider.find_submission(submission)} == sent


def test_a_list_that_cannot_be_read_never_means_absent(lab: Lab) -> None:
    submission, _ = lab.uploaded()
    lab.fault("batch_list", "refuse", status=503, times=None)
    with pytest.raises(Transient):
        lab.provider.find_submission(submission)


def test_a_list_that_lags_shows_the_batch_later(lab: Lab) -> None:
    submission, path = lab.uploaded()
    lab.fault("batch_list", "list_lag", delay_seconds=3600, times=None)
    batch_id = lab.provider.submit(submission, path)
    assert lab.provider.find_submission(submission) == []
    lab.emulator.control("DELETE", "faults")
    assert [found.provider_batch_id for found in lab.provider.find_submission(submission)] == [batch_id]


@pytest.mark.parametrize("fenced", [True, False])
def test_a_fence_refuses_a_create_that_arrives_late(lab: Lab, fenced: bool) -> None:
    submission, path = lab.uploaded()
    lab.fault("batch_create", "deliver_late", delay_seconds=0.4)
    with pytest.raises(Transient):
        lab.provider.submit(submission, path)
    assert lab.provider.find_submission(submission) == []
    if fenced:
        assert lab.provider.fence(submission) == (lab.name != "anthropic")
        lab.provider.fence(submission)  # again, as after a crash
    time.sleep(0.8)
    arrived = [] if fenced and lab.name != "anthropic" else [lab.name != "anthropic"]
    assert [found.certain for found in lab.provider.find_submission(submission)] == arrived


def test_a_fenced_input_is_refused_for_good(lab: Lab) -> None:
    submission, path = lab.uploaded()
    if lab.provider.fence(submission):
        with pytest.raises(Rejected):
            lab.provider.submit(submission, path)
        assert lab.provider.find_submission(submission) == []


# -- results that are not all well


def test_each_kind_of_bad_answer_has_its_own_outcome(lab: Lab) -> None:
    kinds = [
        "fine",
        "[[emulator:refusal]]",
        "[[emulator:truncate]]",
        "[[emulator:error=400]]",
        "[[emulator:error=500]]",
    ]
    lines = [readable(line) for line in lab.results(*kinds)]
    assert outcomes(lines) == ["succeeded", "refused", "truncated", "errored", "errored"]
    assert [line.billed for line in lines] == [True, True, True, False, False]
    assert [line.retryable for line in lines] == [False, False, False, False, True]
    assert [line.error is None for line in lines] == [True, False, False, False, False]
    assert len(lab.billed()) == 3


def test_an_overloaded_or_throttled_line_is_worth_another_try(lab: Lab) -> None:
    codes = {"openai": (429, 503), "anthropic": (429, 529), "gemini": (429, 503)}[lab.name]
    lines = [readable(line) for line in lab.results(*[f"[[emulator:error={code}]]" for code in codes])]
    assert [(line.outcome, line.billed, line.retryable) for line in lines] == [("errored", False, True)] * 2


def test_an_answer_without_usage_has_no_usage_rather_than_none_spent(lab: Lab) -> None:
    (line,) = lab.results("[[emulator:nousage]] Name a harbour.")
    assert (readable(line).outcome, readable(line).usage) == ("succeeded", None)


@pytest.mark.parametrize("outcome", ["expired", "cancelled"])
def test_what_was_done_before_the_end_is_loaded(lab: Lab, outcome: str) -> None:
    batch_id = lab.send(*texts(4))
    state = lab.end(batch_id, outcome, finished=0.5)
    lines = [readable(line) for line in lab.lines(batch_id)]
    assert state.phase == "ended" and state.counts and not state.unknown
    if lab.name == "gemini":  # nothing to fetch, and nothing billed
        assert (lines, state.counts.succeeded, lab.billed()) == ([], 0, [])
        return
    assert outcomes(lines) == ["succeeded", "succeeded", outcome, outcome]
    assert [line.retryable for line in lines] == [False, False, True, True]
    assert state.counts.succeeded == len(lab.billed()) == 2


def test_a_corrupt_line_is_kept_as_it_came_and_the_others_go_on(lab: Lab) -> None:
    batch_id = lab.send(*texts(4))
    lab.end(batch_id)
    whole = set(lab.lines(batch_id))
    lab.fault(DOWNLOADS[lab.name], "corrupt")
    found = set(lab.provider.iter_results(batch_id))
    (broken,) = found - whole
    assert isinstance(broken, UnreadableLine) and broken.raw.endswith(b"\x00\xff~") and broken.reason
    assert len(found & whole) == 3


def test_a_download_cut_short_is_noticed(lab: Lab) -> None:
    batch_id = lab.send(*texts(6))
    lab.end(batch_id)
    lab.fault(DOWNLOADS[lab.name], "truncate")
    with pytest.raises(Transient):
        list(lab.provider.iter_results(batch_id))
    assert len(lab.lines(batch_id)) == 6


@pytest.mark.parametrize(("fault", "lines", "jobs"), [("duplicate_line", 4, 3), ("missing_line", 2, 2)])
def test_lines_come_as_the_provider_sent_them(lab: Lab, fault: str, lines: int, jobs: int) -> None:
    batch_id = lab.send(*texts(3))
    lab.end(batch_id)
    lab.fault(DOWNLOADS[lab.name], fault)
    found = ids(lab.lines(batch_id))
    assert (len(found), len(set(found))) == (lines, jobs)


def test_a_line_that_nobody_asked_for_comes_through_for_the_quarantine(lab: Lab) -> None:
    batch_id = lab.send(*texts(2))
    lab.end(batch_id)
    lab.fault(DOWNLOADS[lab.name], "unknown_line")
    assert "j0_a0_unknown" in ids(lab.lines(batch_id))


def test_a_status_nobody_knows_is_running(lab: Lab) -> None:
    batch_id = lab.send(*texts(1))
    lab.fault("batch_get", "unknown_status")
    state = lab.state(batch_id)
    assert (state.phase, state.unknown) == ("running", True)
    assert "unheard" in state.status.lower()


def test_reads_that_fail_once_are_transient_or_repeated_by_the_sdk(lab: Lab) -> None:
    batch_id = lab.send(*texts(1))
    lab.fault("batch_get", "refuse", status=503)
    try:
        state = lab.state(batch_id)
    except Transient as error:
        assert error.status == 503
        state = lab.state(batch_id)
    assert state.phase == "running"


# -- accounts


def test_another_account_does_not_know_the_batch(lab: Lab) -> None:
    submission, path = lab.uploaded()
    batch_id = lab.provider.submit(submission, path)
    lab.end(batch_id)
    stranger = lab.adapter("emu-somebody-else")
    assert stranger.account != lab.provider.account
    assert stranger.find_submission(submission) == []
    for attempt in (
        lambda: asyncio.run(stranger.get_state(batch_id)),
        lambda: list(stranger.iter_results(batch_id)),
        lambda: stranger.cancel(batch_id),
    ):
        with pytest.raises(Rejected) as caught:
            attempt()
        assert is_gone(caught.value)


def test_a_revoked_key_is_refused_everywhere(lab: Lab) -> None:
    submission, path = lab.uploaded()
    batch_id = lab.provider.submit(submission, path)
    key = f"emu-{lab.account}.rotated"
    provider = lab.adapter(key)
    provider.check()
    lab.emulator.control("POST", "keys/revoke", {"key": key})
    for attempt in (
        provider.check,
        lambda: provider.submit(submission, path),
        lambda: provider.find_submission(submission),
        lambda: asyncio.run(provider.get_state(batch_id)),
        lambda: list(provider.iter_results(batch_id)),
    ):
        with pytest.raises(AccountRefused) as caught:
            attempt()
        assert caught.value.status == 401 and key not in str(caught.value)


def test_a_provider_that_is_down_is_transient(name: ProviderName) -> None:
    from nightbatch.providers import build

    with pytest.raises(Transient):
        build(name, api_key="k", base_url="http://127.0.0.1:1").check()


# -- asking from event loops


def test_states_are_read_from_many_loops_threads_and_at_once_and_nothing_stays_open(lab: Lab) -> None:
    batch_id = lab.send(*texts(1))
    seen: list[str] = []

    async def ask() -> None:
        for state in await asyncio.gather(*(lab.provider.get_state(batch_id) for _ in range(5))):
            seen.append(state.phase)

    gc.collect()  # what other tests have left
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        for _ in range(3):
            asyncio.run(ask())
        threads = [threading.Thread(target=lambda: asyncio.run(ask())) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        gc.collect()
    assert seen == ["running"] * 30
    assert [str(warning.message) for warning in caught if "socket" in str(warning.message)] == []


def test_a_wait_that_is_cancelled_leaves_the_client_usable(lab: Lab) -> None:
    batch_id = lab.send(*texts(1))
    lab.fault("batch_get", "delay", delay_seconds=5)

    async def impatient() -> str:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await lab.provider.get_state(batch_id)
        return (await lab.provider.get_state(batch_id)).phase

    assert asyncio.run(impatient()) == "running"


# -- what is imported when


def test_importing_the_room_imports_no_sdk() -> None:
    code = (
        "import sys, nightbatch.providers;"
        "print([name for name in sys.modules if name.split('.')[0] in ('openai', 'anthropic')"
        " or name.startswith('google.genai')])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
