"""Images and videos: refused and charged as the providers do."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from google.genai import errors, types

from nightbatch_local.emulator.process import EmulatorProcess
from tests.emulator.support import CHAT_MODEL, CLAUDE, GEMINI, RESPONSES, Account, Json, wait_for
from tests.samples import broken_mp4, mp4, png

IMAGE = base64.b64encode(png()).decode()
BAD = {"no base64": "%%%", "cut base64": IMAGE[:-1], "no image": base64.b64encode(b"hello").decode(), "nothing": ""}


def upload(account: Account, body: bytes, mime_type: str) -> types.File:
    file = account.gemini.files.upload(file=io.BytesIO(body), config={"mime_type": mime_type})
    assert file.name and file.uri
    return file


def active(account: Account, file: types.File) -> types.File:
    processing = types.FileState.PROCESSING
    return wait_for(lambda: account.gemini.files.get(name=file.name or ""), lambda found: found.state != processing)


def ask(account: Account, *parts: Json) -> Any:
    """A batch of one request about these parts: its line."""
    request = {"contents": [{"role": "user", "parts": [*parts, {"text": "Describe it"}]}]}
    operation = account.gemini_ended(account.send_gemini([{"key": "k", "request": request}]))
    return account.gemini_lines(operation)["k"]


def named(file: types.File, **more: Any) -> Json:
    return {"fileData": {"fileUri": file.uri, "mimeType": file.mime_type}, **more}


def tokens(line: Any) -> int:
    return int(line["response"]["usageMetadata"]["promptTokenCount"])


def test_a_video_is_processed_first_then_active_and_billed_by_its_seconds(account: Account) -> None:
    file = upload(account, mp4(30), "video/mp4")
    assert file.state == types.FileState.PROCESSING
    file = active(account, file)
    assert file.state == types.FileState.ACTIVE
    once, twice = ask(account, named(file)), ask(account, named(file, videoMetadata={"fps": 2}))
    assert 30 * 258 <= tokens(once) < 31 * 258
    assert tokens(twice) - tokens(once) == 30 * 258
    assert sorted(row["input_tokens"] for row in account.bill()) == [tokens(once), tokens(twice)]


def test_an_image_is_active_at_once_and_billed_as_one(account: Account) -> None:
    file = upload(account, png(), "image/png")
    assert file.state == types.FileState.ACTIVE
    inline = {"inlineData": {"mimeType": "image/png", "data": IMAGE}}
    assert tokens(ask(account, named(file), inline)) - tokens(ask(account, named(file))) == 258


def test_what_is_no_video_fails_and_cannot_be_used(account: Account) -> None:
    file = active(account, upload(account, broken_mp4(), "video/mp4"))
    assert file.state == types.FileState.FAILED
    line = ask(account, named(file))
    assert line["error"]["code"] == 3 and "not in an ACTIVE state" in line["error"]["message"]
    assert account.bill() == []


def test_a_file_of_nobody_or_of_another_account_may_not_exist(account: Account, emulator: EmulatorProcess) -> None:
    with Account(emulator, f"other-{account.name}") as other:
        theirs = upload(other, png(), "image/png")
    for part in (named(theirs), {"file_data": {"file_uri": "https://x.googleapis.com/v1beta/files/none"}}):
        line = ask(account, part)
        assert line["error"]["code"] == 7 and "may not exist" in line["error"]["message"]
    assert account.bill() == []


@pytest.mark.parametrize(
    "part",
    [
        {"fileData": {"fileUri": "gs://bucket/a.mp4"}},
        {"fileData": {"fileUri": "http://169.254.169.254/latest"}},
        {"fileData": {}},
        {"inlineData": {"data": IMAGE}},
        *({"inlineData": {"mimeType": "image/png", "data": data}} for data in BAD.values()),
    ],
)
def test_gemini_refuses_media_that_it_cannot_read(account: Account, part: Json) -> None:
    assert ask(account, part)["error"]["code"] == 3
    assert account.bill() == []


def test_a_video_of_youtube_is_opened_and_realtime_refuses_as_a_batch_does(account: Account) -> None:
    part = types.Part(file_data=types.FileData(file_uri="https://www.youtube.com/watch?v=dQw4w9WgXcQ"))
    answer = account.gemini.models.generate_content(model=GEMINI, contents=[part, types.Part(text="What is it?")])
    assert answer.usage_metadata and (answer.usage_metadata.prompt_token_count or 0) > 60 * 258
    gone = types.Part(file_data=types.FileData(file_uri="https://x.googleapis.com/v1beta/files/none"))
    with pytest.raises(errors.ClientError, match="may not exist"):
        account.gemini.models.generate_content(model=GEMINI, contents=[gone])


def openai_line(endpoint: str, url: str) -> Json:
    if endpoint == RESPONSES:
        content: list[Json] = [{"type": "input_image", "image_url": url}, {"type": "input_text", "text": "Describe it"}]
        body: Json = {"model": CHAT_MODEL, "input": [{"role": "user", "content": content}]}
    else:
        content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "Describe it"}]
        body = {"model": CHAT_MODEL, "messages": [{"role": "user", "content": content}]}
    return {"custom_id": "c", "method": "POST", "url": endpoint, "body": body}


@pytest.mark.parametrize("endpoint", ["/v1/chat/completions", RESPONSES])
def test_openai_looks_into_data_urls(account: Account, endpoint: str) -> None:
    good = openai_line(endpoint, f"data:image/png;base64,{IMAGE}")
    lines = [good | {"custom_id": "good"}, openai_line(endpoint, "https://e.com/a.png") | {"custom_id": "elsewhere"}]
    lines += [
        openai_line(endpoint, f"data:image/png;base64,{data}") | {"custom_id": name} for name, data in BAD.items()
    ]
    batch = account.ended(account.send(lines, endpoint).id)
    assert sorted(account.lines_of(batch.output_file_id)) == account.billed_ids() == ["elsewhere", "good"]
    refused = {name: line["response"] for name, line in account.lines_of(batch.error_file_id).items()}
    assert {name: answer["status_code"] for name, answer in refused.items()} == dict.fromkeys(BAD, 400)
    codes = {name: answer["body"]["error"]["code"] for name, answer in refused.items()}
    assert (codes["no base64"], codes["no image"]) == ("invalid_base64", "invalid_image_format")
    assert {row["input_tokens"] >= 765 for row in account.bill()} == {True}


def claude(source: Json) -> Callable[[str], Any]:
    content = [{"type": "image", "source": source}, {"type": "text", "text": "Describe it"}]
    params = {"model": CLAUDE, "max_tokens": 100, "messages": [{"role": "user", "content": content}]}
    return lambda custom_id: {"custom_id": custom_id, "params": params}


def test_claude_looks_into_image_blocks(account: Account) -> None:
    kind: Json = {"type": "base64", "media_type": "image/png"}
    requests = [claude(kind | {"data": IMAGE})("good")]
    requests += [claude(kind | {"data": data})(f"bad-{n}") for n, data in enumerate(BAD.values())]
    requests.append(claude(kind | {"data": IMAGE, "media_type": "image/jpeg"})("other-kind"))
    requests.append(claude(kind | {"data": IMAGE, "media_type": "image/bmp"})("unknown-kind"))
    batch_id = account.send_claude(json.loads(json.dumps(requests)))
    account.claude_ended(batch_id)
    results = account.claude_results(batch_id)
    assert [name for name, result in results.items() if result.type == "succeeded"] == ["good"]
    assert "appears to be a image/png" in results["other-kind"].error.error.message
    assert account.billed_ids() == ["good"]
    assert account.bill()[0]["input_tokens"] >= 1334
