"""The key decides the account; errors come in each provider's own shape."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import anthropic
import httpx
import openai
import pytest
from google import genai
from google.genai import errors

from nightbatch_local.emulator.accounts import account_of
from nightbatch_local.emulator.process import EmulatorProcess
from tests.emulator.support import Account, chat_line, claude_request, gemini_line

PATHS = {
    "openai": "/openai/v1/batches",
    "anthropic": "/anthropic/v1/messages/batches",
    "gemini": "/gemini/v1beta/batches",
}


def test_a_key_names_its_account() -> None:
    assert account_of("emu-shop") == account_of("emu-shop.rotated-2") == "shop"
    assert account_of("sk-anything") == f"acct-{sha256(b'sk-anything').hexdigest()[:8]}"


def shape(body: dict[str, Any], provider: str) -> tuple[Any, ...]:
    error = body["error"]
    if provider == "openai":
        return error["type"], error["code"], set(error) == {"message", "type", "param", "code"}
    if provider == "anthropic":
        return body["type"], error["type"], "request_id" in body
    return error["code"], error["status"], set(error) == {"code", "message", "status"}


@pytest.mark.parametrize(
    ("provider", "expected"),
    [
        ("openai", ("invalid_request_error", "missing_api_key", True)),
        ("anthropic", ("error", "authentication_error", True)),
        ("gemini", (401, "UNAUTHENTICATED", True)),
    ],
)
def test_no_key_is_401_in_the_providers_shape(emulator: EmulatorProcess, provider: str, expected: tuple[Any]) -> None:
    answer = httpx.get(emulator.url + PATHS[provider])
    assert (answer.status_code, shape(answer.json(), provider)) == (401, expected)


@pytest.mark.parametrize(
    ("provider", "expected"),
    [
        ("openai", ("invalid_request_error", None, True)),
        ("anthropic", ("error", "not_found_error", True)),
        ("gemini", (404, "NOT_FOUND", True)),
    ],
)
def test_an_unknown_path_is_404_in_the_providers_shape(emulator: EmulatorProcess, provider: str, expected: Any) -> None:
    answer = httpx.get(f"{emulator.url}/{provider}/v9/nothing")
    assert (answer.status_code, shape(answer.json(), provider)) == (404, expected)


def test_a_revoked_key_is_401_and_a_rotated_one_goes_on(account: Account) -> None:
    account.send([chat_line("a")])
    account.emulator.control("POST", "keys/revoke", {"key": account.key})
    with pytest.raises(openai.AuthenticationError):
        account.openai.batches.list()
    with pytest.raises(anthropic.AuthenticationError):
        account.anthropic.messages.batches.list()
    with pytest.raises(errors.ClientError, match="401"):
        list(account.gemini.batches.list())
    rotated = account.openai.with_options(api_key=f"{account.key}.second")
    assert len(rotated.batches.list().data) == 1


def test_another_account_sees_nothing(account: Account) -> None:
    sent = account.send([chat_line("a")])
    claude, gemini = account.send_claude([claude_request("a")]), account.send_gemini([gemini_line("a")])
    stranger = "emu-stranger-to-all"
    other = account.openai.with_options(api_key=stranger)
    with pytest.raises(openai.NotFoundError):
        other.batches.retrieve(sent.id)
    with pytest.raises(openai.NotFoundError):
        other.files.content(sent.input_file_id)
    with pytest.raises(openai.BadRequestError):
        other.batches.create(input_file_id=sent.input_file_id, endpoint="/v1/responses", completion_window="24h")
    assert other.batches.list().data == []
    with pytest.raises(anthropic.NotFoundError):
        account.anthropic.with_options(api_key=stranger).messages.batches.retrieve(claude)
    client = genai.Client(api_key=stranger, http_options=account.options)
    with pytest.raises(errors.ClientError, match="404"):
        client.batches.get(name=gemini)
    client.close()
