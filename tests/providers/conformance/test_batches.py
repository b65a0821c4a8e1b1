"""A batch from its upload to its end, against the emulator and with the real SDKs."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import warnings
from dataclasses import replace

import orjson
import pytest

from nightbatch.core.errors import Refused, Rejected, Transient
from nightbatch.core.models import EmbeddingInput, Prompt, Usage, custom_id
from tests.providers.bodies import SCHEMA
from tests.providers.lab import Lab, embeddings, ids, readable, texts


def test_a_batch_comes_back_whole_with_texts_and_tokens(lab: Lab) -> None:
    lines = [readable(line) for line in lab.results(Prompt("Name a harbour.", system="Be brief."), "Name a bridge.")]
    assert ids(lines) == [custom_id(1, 7, None), custom_id(2, 7, None)]
    for line in lines:
        assert (line.outcome, line.billed, line.error) == ("succeeded", True, None)
        assert line.answer and line.answer.text and line.answer.model
        assert line.usage and line.usage.input_tokens > 0 and line.usage.output_tokens > 0
    assert sorted(lab.billed()) == ids(lines)


def test_tokens_are_those_that_were_billed(lab: Lab) -> None:
    found = lab.results(*[Prompt(text, system="Rules. " * 2000) for text in texts(8)])
    billed = {
        row["custom_id"]: Usage(row["input_tokens"], row["output_tokens"], row["cached_tokens"])
        for row in lab.emulator.billing(lab.account)
    }
    told = {readable(line).custom_id: readable(line).usage for line in found}
    assert {
        name: usage and Usage(usage.input_tokens, usage.output_tokens, usage.cached_tokens)
        for name, usage in told.items()
    } == billed
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
            lab.provider.render(custom_id(1, 7, None), "claude-haiku-4-5", "embeddings", EmbeddingInput(("a",)))
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


@pytest.mark.fault(25)
def test_a_status_nobody_knows_is_running(lab: Lab) -> None:
    batch_id = lab.send(*texts(1))
    lab.fault("batch_get", "unknown_status")
    state = lab.state(batch_id)
    assert (state.phase, state.unknown) == ("running", True)
    assert "unheard" in state.status.lower()


@pytest.mark.fault(27)
def test_a_cancelled_batch_ends(lab: Lab) -> None:
    batch_id = lab.send(*texts(2))
    lab.provider.cancel(batch_id)
    state = lab.wait(batch_id)
    assert state.phase == "ended" and not state.unknown
    assert state.counts and state.counts.succeeded == len(lab.billed())
    with pytest.raises(Refused):  # it has ended: asking again is pointless, and does not look like an outage
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
    assert sorted(lab.billed()) == [custom_id(1, 7, None), custom_id(2, 7, None)]


def test_an_upload_that_broke_off_can_be_repeated(lab: Lab) -> None:
    if lab.name == "anthropic":
        return  # it uploads nothing
    submission, path = lab.job(["One."])
    lab.emulator.fault(lab.name, "file_upload", "lose_answer")
    if lab.name == "gemini":  # OpenAI's SDK tries again by itself
        with pytest.raises(Transient):
            lab.provider.upload(submission, path)
    again = replace(submission, input_file=lab.provider.upload(submission, path))
    batch_id = lab.provider.submit(again, path)
    lab.end(batch_id)
    assert ids(lab.lines(batch_id)) == [custom_id(1, 7, None)]


def test_a_file_of_many_pieces_arrives_whole(lab: Lab) -> None:
    """Gemini's SDK uploads 8 MB at a time, Anthropic's create is streamed a megabyte at a time."""
    batch_id = lab.send(*["".join(("z" * 899_999, str(number))) for number in range(10)])
    assert lab.end(batch_id).phase == "ended"
    assert len(lab.lines(batch_id)) == len(lab.billed()) == 10


def test_reads_that_fail_once_are_transient_or_repeated_by_the_sdk(lab: Lab) -> None:
    batch_id = lab.send(*texts(1))
    lab.fault("batch_get", "refuse", status=503)
    try:
        state = lab.state(batch_id)
    except Transient as error:
        assert error.status == 503
        state = lab.state(batch_id)
    assert state.phase == "running"


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


def test_importing_the_room_imports_no_sdk() -> None:
    code = (
        "import sys, nightbatch.providers;"
        "print([name for name in sys.modules if name.split('.')[0] in ('openai', 'anthropic')"
        " or name.startswith('google.genai')])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
