"""Offer batches for a price and, once a person has agreed, send them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from nightbatch.core.errors import AccountRefused, ConfigurationError, ProviderError, Refused, Throttled
from nightbatch.core.models import ProviderName, Usage
from nightbatch.core.pricing import Cost, rates_for
from nightbatch.provider_check.desk import MOST_OUTPUT, Desk
from nightbatch.provider_check.record import REQUESTS, Sent, Step, Words
from nightbatch.provider_check.reused_name import ask_gemini
from nightbatch.provider_check.watching import clean, visit

_STEPS: tuple[Step, ...] = ("first", "fence", "cancel")


@dataclass(frozen=True, slots=True)
class Offer:
    """What would be sent for one provider, and the most that it can cost."""

    name: ProviderName
    model: str
    steps: tuple[Step, ...]
    ask_names: bool
    most: Cost
    prices: str


def offer(desk: Desk) -> Offer | None:
    """Return an offer for the questions that the file does not answer yet; None when nothing is left to send.

    The price is an upper bound: a token is at least a byte of the line that is sent, and no answer is longer than asked for.
    Raises `ConfigurationError` for a model without a known price.
    """
    steps = tuple(step for step in _STEPS if _is_open(desk, step))
    ask_names = desk.facts.names_uploads and desk.record.names is None
    if not steps and not ask_names:
        return None
    model = desk.record.model
    rates = rates_for(desk.name, model, at=datetime.now(UTC))
    one = rates.cost(Usage(len(desk.line(model, "x" * 40)), MOST_OUTPUT)) if rates else None
    if rates is None or one is None:
        raise ConfigurationError(
            f"{desk.name}: no batch price is known for {model}, so none can be shown. Name another with --model."
        )
    requests = REQUESTS * len(steps)
    return Offer(
        desk.name,
        model,
        steps,
        ask_names,
        Cost(one.realtime_usd * requests, one.batch_usd * requests),
        rates.describe(),
    )


def _is_open(desk: Desk, step: Step) -> bool:
    if step == "fence" and not desk.facts.takes_files:
        return False
    first, sent = desk.record.latest("first"), desk.record.latest(step)
    if first and first.in_doubt:
        return False  # the others are sent only once the first is accepted
    if sent is None:
        return True
    if step == "fence":  # a refusal is the answer, and so is a server error that left no batch behind
        return sent.given_up and not (sent.unclear and sent.unclear.status)
    return sent.given_up or sent.refused is not None


def send(desk: Desk, made: Offer) -> None:
    """Send what was offered and agreed to. Nothing is raised but `ConfigurationError`, for a file that cannot be written."""
    desk.record.trouble, desk.record.price = None, made.prices
    desk.record.most_usd = {"batch": made.most.batch_usd, "realtime": made.most.realtime_usd}
    desk.session.save()
    with desk.alone():
        desk.provider.check()
        for step in made.steps:
            first = desk.record.latest("first")
            # Refused for its model or its key, a create says nothing about a deleted file.
            if not desk.stopped and (step == "first" or (first and first.provider_batch_id)):
                with desk.alone():
                    _send(desk, step)
        if made.ask_names and not desk.stopped:
            _ask_names(desk)


def _send(desk: Desk, step: Step) -> None:
    sent = Sent(step, desk.record.model)
    with _input(desk, sent) as path:
        sent.input_file = desk.provider.upload(sent.submission, path)
        if step == "fence":
            desk.provider.fence(sent.submission)
            sent.fenced_at = datetime.now(UTC)
        sent.intent_at = datetime.now(UTC)
        desk.record.batches.append(sent)
        desk.session.save()
        _create(desk, sent, path)
    desk.tell(f"{step}: {sent.provider_batch_id or (sent.refused and sent.refused.words)}")
    if sent.refused:
        clean(desk, sent)
    else:
        visit(desk, sent)


def _create(desk: Desk, sent: Sent, path: Path) -> None:
    """Make one create. What is neither an id nor a refusal stays in doubt, and is looked for."""
    try:
        sent.provider_batch_id = desk.provider.submit(sent.submission, path)
        sent.answered_at = datetime.now(UTC)
    except (Throttled, AccountRefused):
        desk.record.batches.remove(sent)  # no batch exists, and nothing was learned
        raise
    except Refused as error:
        sent.refused = Words.of(error)
    except ProviderError as error:
        sent.unclear = Words.of(error)
        raise
    finally:
        desk.session.save()


def _ask_names(desk: Desk) -> None:
    short, long = desk.line(desk.record.model, "short"), desk.line(desk.record.model, "long") + b"\n"
    desk.record.names = ask_gemini(desk.provider, desk.record.model, short, long * 2)
    desk.session.save()


@contextmanager
def _input(desk: Desk, sent: Sent) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "input.jsonl")
        lines = [desk.line(sent.model, sent.custom_id(number)) for number in range(1, REQUESTS + 1)]
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        yield path
