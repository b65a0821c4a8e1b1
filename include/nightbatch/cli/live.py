"""`nightbatch doctor --live`: shows the price, asks, and tells what was seen."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import typer

from nightbatch.core.allowed_hosts import is_at
from nightbatch.core.errors import ConfigurationError
from nightbatch.core.models import ProviderName
from nightbatch.core.profiles import ProviderProfile, profile, profiles

if TYPE_CHECKING:
    from nightbatch import provider_check

_OWN = "the provider's own"
_PURPOSES: Mapping[str, str] = {
    "first": "one that is watched until it ends",
    "fence": "one whose input is deleted first, which should be refused",
    "cancel": "one that is cancelled at once",
}
_MARKS = {True: "as assumed", False: "NOT AS ASSUMED", None: "not settled"}


def run_live(
    *,
    output: Path,
    minutes: float,
    yes: bool,
    models: Sequence[str] = (),
    in_doubt: Collection[ProviderName] = (),
    environ: Mapping[str, str] = os.environ,
) -> int:
    """Go on with what ``output`` remembers, offer what it does not answer yet, and watch for at most ``minutes``.

    ``models`` are ``PROVIDER=MODEL``; ``in_doubt`` are providers at which the ledger has a create in doubt. Returns the exit
    code: 0, 1 when something is not as nightbatch assumes or needs a person, 2 when nobody could be asked.
    Raises `ConfigurationError` for a file, key or model that cannot be used.
    """
    from nightbatch import provider_check
    from nightbatch.core.settings import Settings

    session = provider_check.Session(output, settle_seconds=Settings.from_env(environ).settle_seconds, tell=_say)
    desks = list(_desks(session, _chosen(models), environ))
    if not desks:
        raise ConfigurationError(
            f"There is no key: set {', '.join(facts.key_variables[0] for facts in profiles().values())}, or one of them."
        )
    try:
        for desk in desks:
            provider_check.look_again(desk)
        offers = [(desk, made) for desk in desks if not desk.stopped and (made := _offer(desk, in_doubt))]
        if offers and not _agreed([made for _, made in offers], yes):
            return _declined(session)
        for desk, made in offers:
            provider_check.send(desk, made)
        provider_check.watch(desks, seconds=minutes * 60)
        session.save()
    except KeyboardInterrupt:
        _say(f"Stopped. {output} remembers what was sent: run the same command again.")
    return _summary(session)


def _desks(
    session: provider_check.Session, models: Mapping[str, str], environ: Mapping[str, str]
) -> Iterator[provider_check.Desk]:
    from nightbatch.providers import build

    session.record.not_asked = {}
    for name, facts in profiles().items():
        keys = facts.key_variables
        key = next((environ[variable] for variable in keys if environ.get(variable, "none") != "none"), None)
        if not key:
            session.record.not_asked[name] = f"no key in {' or '.join(keys)}"
            _say(f"{name}: {session.record.not_asked[name]}, so it is left out.")
            continue
        provider = build(name, api_key=key, base_url=environ.get(facts.base_url_variable) or None)
        yield session.desk(provider, model=models.get(name) or facts.chat_model, address=_address(facts, environ))


def _address(facts: ProviderProfile, environ: Mapping[str, str]) -> str:
    variable = facts.base_url_variable
    host = urlsplit(environ.get(variable, "")).hostname
    if host is None or is_at(host, facts.own_host):
        return _OWN
    return f"not the provider's ({variable} is set): what is seen there proves nothing about {facts.name}"


def _chosen(models: Sequence[str]) -> dict[str, str]:
    chosen = dict(text.split("=", 1) for text in models if "=" in text)
    if len(chosen) < len(models) or not chosen.keys() <= profiles().keys():
        raise ConfigurationError("--model takes PROVIDER=MODEL, such as --model openai=gpt-5-nano.")
    return chosen


def _offer(desk: provider_check.Desk, in_doubt: Collection[ProviderName]) -> provider_check.Offer | None:
    from nightbatch import provider_check

    made = provider_check.offer(desk)
    if made and not desk.facts.tagged and desk.name in in_doubt:
        _say(
            f"{desk.name}: nothing new is sent, since nightbatch has a create in doubt there (see nightbatch doctor). Its list"
            " shows no tags, so recovery might take a batch of this test for the lost one."
        )
        return None
    return made


def _agreed(offers: Sequence[provider_check.Offer], yes: bool) -> bool:
    from nightbatch.provider_check.record import REQUESTS

    _say("This would be sent, with your own keys:")
    for made in offers:
        _say(f"  {made.name}, {made.model}: {len(made.steps)} batches of {REQUESTS} tiny requests")
        for step in made.steps:
            _say(f"    - {_PURPOSES[step]}")
        if made.ask_names:
            _say("    - and uploads under one file name, free of charge")
        _say(f"    at most ${made.most.batch_usd:f} (as realtime calls ${made.most.realtime_usd:f}); {made.prices}")
        facts = profile(made.name)
        if not facts.tagged:
            _say(
                f"    Not while nightbatch has a create in doubt there: {facts.title}'s list cannot tell the two apart."
            )
    batch, realtime = (sum(getattr(made.most, name) for made in offers) for name in ("batch_usd", "realtime_usd"))
    _say(f"Together at most ${batch:f}; as realtime calls it would be ${realtime:f}.")
    if yes:
        return True
    return sys.stdin.isatty() and typer.confirm("Send it?", default=False, err=True)


def _declined(session: provider_check.Session) -> int:
    if any(part.batches for part in session.record.providers.values()):  # looked at again, which is free
        session.save()
        _summary(session)
    if sys.stdin.isatty():
        _say("Nothing was sent.")
        return 0
    _say("Nothing was sent: there is nobody to ask. Pass --yes to agree to the price above.")
    return 2


def _summary(session: provider_check.Session) -> int:
    good = True
    for name, part in session.record.providers.items():
        typer.echo(f"\n{name}, {part.model}, address: {part.address}")
        for found in part.checks.values():
            _indented(f"[{_MARKS[found.as_assumed]}] {found.question}", found.answer)
            good &= found.as_assumed is not False
        if part.trouble:
            _indented("[trouble]", part.trouble.words)
        good &= part.trouble is None and not any(sent.in_doubt for sent in part.batches)
    waiting = [sent for part in session.record.providers.values() for sent in part.batches if sent.running]
    if waiting:
        typer.echo(f"\n{len(waiting)} batches are still running: run the same command again, tomorrow at the latest.")
    typer.echo(f"\nWritten to {session.path}, which holds no key and no name: share it.")
    return 0 if good else 1


def _indented(title: str, text: str) -> None:
    typer.echo(f"  {title}")
    typer.echo(textwrap.fill(text, 116, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False))


def _say(text: str) -> None:
    typer.echo(text, err=True)
