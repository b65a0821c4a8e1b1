"""`doctor --live` against the emulator: what it learns, what it never does, and that a kill loses nothing."""

from __future__ import annotations

import json
import re
import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from nightbatch import provider_check
from nightbatch.core.errors import ConfigurationError, ReconciliationError, SubmissionInDoubt
from nightbatch.core.models import ProviderName
from nightbatch.core.profiles import profile
from nightbatch.provider_check import desk as desk_module
from nightbatch.provider_check import record as record_module
from nightbatch.provider_check.record import Finding, Record, Sent, Step, read, shareable, write
from nightbatch_local.emulator.process import EmulatorProcess

from .conftest import World

FENCED: tuple[ProviderName, ...] = ("openai", "gemini")
SLOW = 3600.0


@dataclass
class Bench:
    """One person with a key at each provider, and one file."""

    emulator: EmulatorProcess
    path: Path
    settle_seconds: float = 60.0
    account: str = field(default_factory=lambda: uuid.uuid4().hex[:10])
    told: list[str] = field(default_factory=list)

    @property
    def key(self) -> str:
        return f"emu-{self.account}.canary4711"

    def desk(self, name: ProviderName, *, model: str | None = None, url: str | None = None) -> provider_check.Desk:
        """As the command does it at each start: the file is read again."""
        from nightbatch.providers import build

        session = provider_check.Session(self.path, settle_seconds=self.settle_seconds, tell=self.told.append)
        provider = build(name, api_key=self.key, base_url=url or getattr(self.emulator, f"{name}_url"))
        return session.desk(provider, model=model or profile(name).chat_model, address="the emulator")

    def send(self, name: ProviderName, **options: Any) -> provider_check.Desk:
        desk = self.desk(name, **options)
        made = provider_check.offer(desk)
        assert made is not None
        provider_check.send(desk, made)
        return desk

    def end(self, sent: Sent, how: str) -> None:
        assert sent.provider_batch_id
        self.emulator.control("POST", f"batches/{sent.provider_batch_id}/end", {"as": how})

    def creates(self, name: ProviderName) -> int:
        return self.calls(name).count("batch_create")

    def calls(self, name: ProviderName) -> list[str]:
        return [
            seen["operation"]
            for seen in self.emulator.log()
            if (seen["provider"], seen["account"]) == (name, self.account)
        ]

    def bill(self, sent: Sent | None = None) -> Decimal:
        lines = [line for line in self.emulator.billing() if line["account"] == self.account]
        return sum(
            (Decimal(line["cost_usd"]) for line in lines if sent is None or line["batch_id"] == sent.provider_batch_id),
            Decimal(0),
        )

    def saved(self, name: ProviderName) -> provider_check.ProviderRecord:
        """What the file holds."""
        record = read(self.path)
        assert record is not None
        return record.providers[name]

    def answer(self, name: ProviderName, question: str) -> Finding:
        return self.saved(name).checks[question]


@pytest.fixture
def bench(emulator: EmulatorProcess, tmp_path: Path) -> Iterator[Bench]:
    emulator.control("DELETE", "faults")
    emulator.control("POST", "turnaround", {"seconds": SLOW})
    yield Bench(emulator, tmp_path / "live.json")
    emulator.control("DELETE", "faults")
    emulator.control("POST", "turnaround", {"seconds": 0.2})


def of(desk: provider_check.Desk, step: Step) -> Sent:
    sent = desk.record.latest(step)
    assert sent is not None
    return sent


def until_rest(desk: provider_check.Desk, seconds: float = 30) -> provider_check.Desk:
    provider_check.watch([desk], seconds=seconds)
    assert not desk.busy, "nothing more should happen"
    return desk


def test_it_learns_how_batches_are_listed_refused_cancelled_and_billed(bench: Bench, provider: ProviderName) -> None:
    offered = provider_check.offer(bench.desk(provider))
    desk = bench.send(provider)
    first = of(desk, "first")
    bench.end(first, "completed")
    until_rest(desk)
    checks = bench.saved(provider).checks
    fence = None if provider == "anthropic" else True
    expected = {"listed": True, "fence": fence, "cancelled": True, "ended": True, "expired": None}
    if provider == "gemini":
        expected["reused_name"] = True
    assert {question: found.as_assumed for question, found in checks.items()} == expected
    ended = bench.saved(provider).batches[0].ended
    assert ended is not None
    assert (ended.lines, ended.missing, ended.with_usage) == ({"succeeded": 2}, 0, 2)
    assert ended.batch_usd == bench.bill(first) > 0
    assert offered is not None
    assert bench.bill() <= offered.most.batch_usd, "the price shown was no upper bound"


def test_the_provider_keeps_no_input_file(bench: Bench, provider: ProviderName) -> None:
    desk = bench.send(provider)
    bench.end(of(desk, "first"), "completed")
    until_rest(desk)
    assert bench.calls(provider).count("file_delete") >= (0 if provider == "anthropic" else 3)


@pytest.mark.parametrize("name", FENCED)
def test_a_fence_that_does_not_hold_is_told_loudly_and_the_batch_cancelled(bench: Bench, name: ProviderName) -> None:
    # The provider does not delete the file, and says that it is gone.
    bench.emulator.fault(name, "file_delete", "refuse", status=404)
    desk = bench.send(name)
    found = bench.answer(name, "fence")
    assert found.as_assumed is False
    assert "THE FENCE DOES NOT HOLD" in found.answer
    assert any("ACCEPTED a create whose input file was deleted" in line for line in bench.told)
    bench.end(of(desk, "first"), "completed")
    until_rest(desk)
    ended = of(desk, "fence").ended
    assert ended is not None and ended.status.lower() == "cancelled"
    assert bench.answer(name, "fence").as_assumed is False


def test_the_fence_in_the_order_of_a_crash_upload_delete_create(bench: Bench) -> None:
    bench.send("openai")
    sent = of(bench.desk("openai"), "fence")
    assert sent.fenced_at and sent.intent_at and sent.fenced_at < sent.intent_at
    assert sent.refused is not None and sent.refused.status == 400
    assert sent.provider_batch_id is None


def test_a_lagging_list_is_measured(bench: Bench, provider: ProviderName) -> None:
    bench.emulator.fault(provider, "batch_list", "list_lag", delay_seconds=3.0, times=None)
    desk = bench.send(provider)
    bench.end(of(desk, "first"), "completed")
    until_rest(desk)
    first = of(desk, "first")
    looks, create = first.looks, bench.answer(provider, "listed").evidence["create_seconds"]
    listed = next(look for look in looks if look.listed)
    late = [look.after_seconds for look in looks if not look.listed]
    # OpenAI tells when a batch was created in whole seconds, so its lag of three may be one of two.
    assert late and max(late) <= 3.0 and listed.after_seconds + create >= 2.0
    assert [look.listed for look in looks[-3:]] == [True] * 3
    found = bench.answer(provider, "listed")
    assert found.as_assumed is True
    assert f"Listed {listed.after_seconds:.1f} s after" in found.answer
    assert f"not yet at {max(late):.1f} s" in found.answer


def test_a_list_that_lags_longer_than_recovery_waits_is_not_as_assumed(bench: Bench) -> None:
    bench.settle_seconds = 0.5
    bench.emulator.fault("openai", "batch_list", "list_lag", delay_seconds=3.0, times=None)
    desk = bench.send("openai")
    bench.end(of(desk, "first"), "completed")
    until_rest(desk)
    found = bench.answer("openai", "listed")
    assert found.as_assumed is False
    assert "too short, set it higher" in found.answer


def test_a_batch_that_is_listed_and_then_missing_is_not_as_assumed(bench: Bench) -> None:
    bench.emulator.fault("openai", "batch_list", "list_lag", delay_seconds=SLOW, after_matches=2)
    desk = bench.send("openai")
    bench.end(of(desk, "first"), "completed")
    until_rest(desk)
    found = bench.answer("openai", "listed")
    assert found.as_assumed is False
    assert "missing from the list again" in found.answer


def test_a_name_in_use_and_a_deleted_one_are_asked_of_gemini(bench: Bench) -> None:
    bench.send("gemini")
    names = bench.saved("gemini").names
    assert names is not None
    assert (names.in_use.status, names.deleted.status) == (409, 200)
    assert "ALREADY_EXISTS" in names.in_use.words


def test_a_name_in_use_that_answers_otherwise_is_not_as_assumed(bench: Bench) -> None:
    # Uploads before: the first batch's, the fence's, the cancelled one's (two calls each), and the name's own.
    bench.emulator.fault("gemini", "file_upload", "refuse", status=400, after_matches=8)
    bench.send("gemini")
    found = bench.answer("gemini", "reused_name")
    assert found.as_assumed is False
    assert "would keep the batch from being sent" in found.answer


def test_an_expiry_is_seen_by_a_later_run(bench: Bench, provider: ProviderName) -> None:
    first = of(bench.send(provider), "first")
    provider_check.watch([bench.desk(provider)], seconds=3)
    assert "still" in bench.answer(provider, "expired").answer
    bench.end(first, "expired")
    later = until_rest(bench.desk(provider))
    ended = of(later, "first").ended
    assert ended is not None
    partial = {} if provider == "gemini" else {"succeeded": 1, "expired": 1}
    assert (ended.lines, ended.batch_usd) == (partial, bench.bill(first))
    found = bench.answer(provider, "expired")
    assert found.as_assumed is True
    assert profile(provider).bill in found.answer, "a person is not told where the invoice is"
    assert provider_check.offer(later) is None, "a question that is answered would be paid for again"


def test_a_batch_that_has_vanished_is_not_taken_for_one_that_cost_nothing(bench: Bench) -> None:
    bench.emulator.fault("openai", "batch_get", "refuse", status=404, times=None)
    until_rest(bench.send("openai"))
    found = bench.answer("openai", "ended")
    assert found.as_assumed is None
    assert "not known any more" in found.answer and "could not be read" in found.answer


def test_a_batch_that_fails_as_a_whole_is_told_with_the_reason(bench: Bench) -> None:
    desk = bench.send("openai")
    bench.end(of(desk, "first"), "failed")
    until_rest(desk)
    found = bench.answer("openai", "ended")
    assert "Its end: failed (“server_error: The batch failed.”)" in found.answer


def test_a_finished_file_sends_nothing_more(bench: Bench, provider: ProviderName) -> None:
    desk = bench.send(provider)
    bench.end(of(desk, "first"), "completed")
    until_rest(desk)
    creates = bench.creates(provider)
    again = bench.desk(provider)
    assert (provider_check.offer(again), again.busy) == (None, False)
    provider_check.look_again(again)
    assert bench.creates(provider) == creates


def test_a_refused_key_stops_its_provider_and_sends_nothing(bench: Bench, provider: ProviderName) -> None:
    bench.emulator.control("POST", "keys/revoke", {"key": bench.key})
    desk = bench.send(provider)
    assert desk.stopped and not desk.busy
    saved = bench.saved(provider)
    assert saved.trouble is not None and saved.trouble.status == 401
    assert saved.batches == []
    assert set(bench.calls(provider)) == {"batch_list"}


def test_a_provider_that_is_down_is_told_and_offered_again(bench: Bench, provider: ProviderName) -> None:
    with socket.socket() as taken:  # bound but not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        path = "/v1" if provider == "openai" else ""
        url = f"http://127.0.0.1:{taken.getsockname()[1]}{path}"
        desk = bench.send(provider, url=url)
        saved = bench.saved(provider)
        assert saved.trouble is not None and saved.trouble.status is None
        assert saved.batches == []
        offered = provider_check.offer(desk)
        assert offered is not None and "first" in offered.steps


def test_a_lost_answer_is_looked_for_and_not_sent_again(bench: Bench) -> None:
    for name in FENCED:
        bench.emulator.fault(name, "batch_create", "lose_answer")
        desk = bench.send(name)
        assert of(desk, "first").in_doubt
        assert bench.creates(name) == 1, "the others are sent only once the first is accepted"
        provider_check.look_again(desk)
        assert of(desk, "first").provider_batch_id is not None
        assert bench.creates(name) == 1


def test_an_anthropic_batch_that_may_be_another_is_left_alone(bench: Bench) -> None:
    bench.emulator.fault("anthropic", "batch_create", "lose_answer")
    desk = bench.send("anthropic")
    provider_check.look_again(desk)
    sent = of(desk, "first")
    assert sent.in_doubt and sent.looks[-1].others == 1
    assert "batch_cancel" not in bench.calls("anthropic")
    assert "Not learned: whether the batch exists is not known." in bench.answer("anthropic", "ended").answer
    desk.session.settle_seconds = 0
    provider_check.look_again(desk)
    assert of(desk, "first").given_up
    offered = provider_check.offer(desk)
    assert offered is not None and "first" in offered.steps, "a person may agree to another one"


class Killed(BaseException):
    pass


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_kill_at_any_write_leaves_no_batch_that_the_file_does_not_know(
    bench: Bench, provider: ProviderName, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_module, "LOOKS", 1)
    kills = 0
    while True:
        bench.account, bench.path = uuid.uuid4().hex[:10], bench.path.with_name(f"{kills}.json")
        survived = _dies(bench, provider, kills, moment, monkeypatch)
        bench.settle_seconds = 0.0
        desk = bench.desk(provider)
        provider_check.look_again(desk)
        if (made := provider_check.offer(desk)) is not None:
            provider_check.send(desk, made)
        _judge(bench, provider)
        if survived:
            break
        kills += 1
    assert kills > 5


def _dies(bench: Bench, name: ProviderName, at: int, moment: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Run until the file is written for the ``at``th time; whether the run came to its end before."""
    count = iter(range(10_000))

    def dying(path: Path, record: Record) -> None:
        number = next(count)
        if number < at or (number == at and moment == "after"):
            write(path, record)
        if number >= at:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(desk_module, "write", dying)
        try:
            bench.send(name)
        except Killed:
            return False
    return True


def _judge(bench: Bench, name: ProviderName) -> None:
    """Every batch at the provider is in the file, by its id or, without a tag, as one that may exist."""
    known = [sent for sent in bench.saved(name).batches if sent.provider_batch_id]
    unknown = [sent for sent in bench.saved(name).batches if sent.given_up]
    accepted = bench.creates(name) - sum(sent.refused is not None for sent in bench.saved(name).batches)
    if name == "anthropic":
        assert len(known) <= accepted <= len(known) + len(unknown)
    assert {sent.step for sent in known} >= {"first", "cancel"}
    # A given-up create had been listed if it existed: the list is read after the settle wait.
    if name != "anthropic":
        assert len({sent.provider_batch_id for sent in known}) == _listed(bench, name)


def _listed(bench: Bench, name: ProviderName) -> int:
    import httpx

    if name == "openai":
        answer = httpx.get(f"{bench.emulator.openai_url}/batches?limit=100", headers=_bearer(bench), trust_env=False)
        return len(answer.json()["data"])
    url = f"{bench.emulator.gemini_url}/v1beta/batches?pageSize=100"
    answer = httpx.get(url, headers={"x-goog-api-key": bench.key}, trust_env=False)
    return len(answer.json().get("operations") or ())


def _bearer(bench: Bench) -> dict[str, str]:
    return {"authorization": f"Bearer {bench.key}"}


def test_the_batches_of_another_key_are_not_touched(bench: Bench) -> None:
    bench.send("openai")
    bench.account = uuid.uuid4().hex[:10]
    with pytest.raises(ConfigurationError, match="sent with another key"):
        bench.desk("openai")


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"format": "nightbatch-live 2", "prompt": "", "max_tokens": 1}'])
def test_a_file_of_somebody_else_is_not_overwritten(bench: Bench, content: str) -> None:
    bench.path.write_text(content)
    with pytest.raises(ConfigurationError, match="Name another file with --output"):
        bench.desk("openai")
    assert bench.path.read_text() == content


def test_where_the_file_cannot_be_written_nothing_is_sent(bench: Bench) -> None:
    bench.path = bench.path.with_name("no-such-folder") / "live.json"
    with pytest.raises(ConfigurationError, match="nothing is sent"):
        bench.send("openai")
    assert bench.calls("openai") == []


def test_a_model_without_a_known_price_is_not_offered(bench: Bench) -> None:
    with pytest.raises(ConfigurationError, match="no batch price is known for emulator-nothing"):
        provider_check.offer(bench.desk("openai", model="emulator-nothing"))


def test_the_file_holds_no_key_and_no_answer_of_the_model(bench: Bench, provider: ProviderName) -> None:
    desk = bench.send(provider)
    bench.end(of(desk, "first"), "completed")
    until_rest(desk)
    text = bench.path.read_text()
    assert "canary4711" not in text
    assert bench.account not in text
    found = json.loads(text)
    assert found["prompt"] == "Answer with the word ok."
    assert found["versions"].keys() >= {"openai", "anthropic", "google-genai", "genai-prices", "nightbatch"}
    assert re.fullmatch("[0-9a-f]{16}", found["providers"][provider]["account"])


@pytest.mark.parametrize(
    ("words", "left"),
    [
        ("Incorrect API key provided: sk-proj-abc***wxyz. See", "Incorrect API key provided: [removed] See"),
        ("Rate limit reached in organization org-Ab12 on tokens", "Rate limit reached in organization [removed] on tokens"),
        ("API key AIzaSyD-1234 not valid", "API key [removed] not valid"),
        ("Permission denied on projects/12345678 for jane.doe@example.com", "Permission denied on [removed] for [removed]"),
        ("Project 'proj_abc' has no access", "[removed] has no access"),
        ("workspace \"Acme Ads\" is over its limit", "[removed] is over its limit"),
        ("No file with id 'file-4e702d'", "No file with id 'file-4e702d'"),
    ],
)  # fmt: skip
def test_a_providers_words_are_shared_without_names_and_keys(words: str, left: str) -> None:
    assert shareable(words) == left


def test_recovery_that_takes_such_a_batch_for_its_own_gives_it_back(world: World, tmp_path: Path) -> None:
    """Anthropic's list shows neither tag nor custom_id: the custom_ids in the results tell the two apart."""
    world.emulator.control("POST", "turnaround", {"seconds": 600})  # it still runs when it is adopted
    world.insert("anthropic", 2)
    (batch,) = world.plan()
    world.emulator.fault("anthropic", "batch_create", "reset")
    with pytest.raises(SubmissionInDoubt):
        world.submit(batch)
    bench = Bench(world.emulator, tmp_path / "live.json", account=world.account)
    session = provider_check.Session(bench.path, settle_seconds=60, tell=bench.told.append)
    desk = session.desk(world.provider("anthropic"), model=profile("anthropic").chat_model, address="the emulator")
    made = provider_check.offer(desk)
    assert made is not None
    provider_check.send(desk, provider_check.Offer(desk.name, made.model, ("first",), False, made.most, made.prices))
    world.emulator.control("POST", "turnaround", {"seconds": 0.2})
    mine = of(desk, "first").provider_batch_id
    adopted = world.submit_until_certain(batch)
    assert adopted is not None and world.store.batch(adopted).provider_batch_id == mine, "the risk is not shown"
    world.emulator.control("POST", f"batches/{mine}/end", {"as": "completed"})
    with pytest.raises(ReconciliationError):
        world.load(adopted)
    with pytest.raises(SubmissionInDoubt):
        world.submit_until_certain(adopted)
    assert world.store.batch(adopted).provider_batch_id is None, "it was taken a second time"
    assert world.rows("SELECT count(*) FROM nightbatch.result") == [0]
    assert set(world.states().values()) <= {"batched", "held"}
