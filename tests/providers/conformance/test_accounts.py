"""Who pays, and what never gets into a message or a log."""

from __future__ import annotations

import asyncio
import logging

import pytest

from nightbatch.core.errors import Absent, AccountRefused, Transient
from nightbatch.core.models import ProviderName
from nightbatch.providers import build
from tests.providers.lab import Lab


@pytest.mark.fault(24)
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
        with pytest.raises(Absent) as caught:
            attempt()
        assert caught.value.status == 404


@pytest.mark.fault(23)
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
    with pytest.raises(Transient):
        build(name, api_key="k", base_url="http://127.0.0.1:1").check()


def test_an_account_is_named_or_made_from_what_pays(name: ProviderName) -> None:
    made = build(name, api_key="sk-one").account
    assert made == build(name, api_key="sk-one").account and len(made) == 16 and "sk-one" not in made
    others = {build(name, api_key="two").account, build(name, api_key="sk-one", base_url="http://127.0.0.1:1").account}
    assert len({made, *others}) == 3
    assert {build(name, api_key=key, account="night shift").account for key in ("sk-one", "two")} == {"night shift"}


def test_no_log_shows_a_prompt_or_a_key(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    for logger in ("openai", "anthropic", "google_genai", "httpx2", "httpcore2"):
        logging.getLogger(logger).setLevel(logging.DEBUG)  # as OPENAI_LOG=debug does
    caplog.set_level(logging.DEBUG)
    lab.provider = lab.adapter()
    canary = "canary-in-the-prompt"
    batch_id = lab.send(f"{canary} one", f"{canary} [[emulator:error=400]]")
    lab.end(batch_id)
    lab.lines(batch_id)
    lab.fault("batch_create", "refuse", status=500)
    with pytest.raises(Transient) as caught:
        lab.send(canary)
    assert canary not in caplog.text + str(caught.value)
    assert lab.account not in caplog.text
