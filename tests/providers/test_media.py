"""Videos and images in each provider's own words, and Gemini's uploads."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from anthropic.types.messages.batch_create_params import Request as BatchRequest
from google.genai import types
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from pydantic import TypeAdapter

from nightbatch.core.errors import AccountRefused, Refused, Rejected, Transient
from nightbatch.core.models import Endpoint, Media, Prompt, ProviderName
from nightbatch.core.profiles import BUILT_IN
from nightbatch.core.provider import BatchProvider, MediaUploads
from nightbatch.job_types import job_types
from nightbatch.providers import build
from tests.providers.lab import Lab, readable
from tests.providers.loopback import Reply, Wire
from tests.samples import broken_mp4, mp4, png

VIDEO = job_types()["video_analysis"]
URI = "https://generativelanguage.googleapis.com/v1beta/files/abc"


def asked(*media: Media, **job: Any) -> Prompt:
    """The request of a real job, with these media found."""
    prompt = VIDEO.render_request(orjson.dumps(job or {"frames": ["a.png"] * len(media)}))
    assert isinstance(prompt, Prompt)
    return Prompt(prompt.user, prompt.system, prompt.schema, prompt.schema_name, prompt.max_tokens, media)


@pytest.fixture
def image(tmp_path: Path) -> Media:
    path = tmp_path / "image.png"
    path.write_bytes(png())
    return Media(path=str(path), mime_type="image/png")


def rendered(name: ProviderName, endpoint: Endpoint, prompt: Prompt) -> dict[str, Any]:
    line: dict[str, Any] = orjson.loads(build(name, api_key="k").render("j1_a7", "m", endpoint, prompt))
    return line


DATA = base64.b64encode(png()).decode()


def test_openai_chat_takes_images_as_data_urls(image: Media) -> None:
    body = rendered("openai", "chat", asked(image, image))["body"]
    TypeAdapter(CompletionCreateParamsNonStreaming).validate_python(body)
    *images, text = body["messages"][-1]["content"]
    assert images == [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{DATA}"}}] * 2
    assert text["type"] == "text" and "2 images are frames" in text["text"]


def test_openai_responses_take_images_as_data_urls(image: Media) -> None:
    body = rendered("openai", "responses", asked(image))["body"]
    TypeAdapter(ResponseCreateParamsNonStreaming).validate_python(body)
    ((turn),) = body["input"]
    first, text = turn["content"]
    assert first == {"type": "input_image", "detail": "auto", "image_url": f"data:image/png;base64,{DATA}"}
    assert (turn["role"], text["type"]) == ("user", "input_text")
    assert body["instructions"] == VIDEO.system


def test_anthropic_takes_images_as_blocks_before_the_text(image: Media) -> None:
    line = rendered("anthropic", "chat", asked(image))
    TypeAdapter(BatchRequest).validate_python(line)
    first, text = line["params"]["messages"][0]["content"]
    assert first == {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": DATA}}
    assert text["type"] == "text"


def test_gemini_takes_bytes_or_a_reference(image: Media) -> None:
    media = (
        image,
        Media(uri=URI, mime_type="video/mp4", fps=2.0),
        Media(uri=URI),
        Media(uri=URI, mime_type="image/png", fps=2),
    )
    body = rendered("gemini", "chat", asked(*media))["request"]
    (content,) = [types.Content.model_validate(content) for content in body["contents"]]
    types.GenerationConfig.model_validate(body["generationConfig"])
    assert content.parts and content.parts[0].inline_data and content.parts[0].inline_data.data == png()
    *parts, text = body["contents"][0]["parts"]
    assert parts == [
        {"inlineData": {"mimeType": "image/png", "data": DATA}},
        {"fileData": {"mimeType": "video/mp4", "fileUri": URI}, "videoMetadata": {"fps": 2.0}},
        {"fileData": {"fileUri": URI}},
        {"fileData": {"mimeType": "image/png", "fileUri": URI}},
    ]
    assert "Analyse" in text["text"]


@pytest.mark.parametrize(
    "media", [Media(uri=URI), Media(uri=URI, mime_type="image/png"), Media("/a.mp4", None, "video/mp4")]
)
@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_only_gemini_watches_videos(name: ProviderName, media: Media) -> None:
    with pytest.raises(Rejected, match="cannot watch videos: give frames"):
        rendered(name, "chat", asked(media))


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("path", ["/etc/hostname", "pyproject.toml", "../main/pyproject.toml", "", "/gone.png"])
def test_a_file_that_was_not_looked_for_in_the_media_folder_is_never_read(name: ProviderName, path: str) -> None:
    with pytest.raises(Rejected, match="not looked for in the media folder"):
        rendered(name, "chat", asked(Media(path=path)))
    if path == "/gone.png":
        with pytest.raises(Rejected, match="cannot be read"):
            rendered(name, "chat", asked(Media(path=path, mime_type="image/png")))


@pytest.mark.parametrize("endpoint", ["chat", "responses"])
def test_an_answer_about_images_is_read_and_its_tokens_counted(lab: Lab, image: Media, endpoint: Endpoint) -> None:
    if endpoint == "responses" and lab.name != "openai":
        endpoint = "chat"
    (line,) = (readable(found) for found in lab.results(asked(image, image), endpoint=endpoint))
    assert line.outcome == "succeeded" and line.answer is not None and line.usage is not None
    assert line.usage.input_tokens >= 2 * 258
    assert VIDEO.read_answer(line.answer).json


# -- Gemini's uploads


def uploads(provider: BatchProvider) -> MediaUploads:
    assert isinstance(provider, MediaUploads)
    return provider


def test_only_gemini_keeps_uploads() -> None:
    assert [name for name in BUILT_IN if isinstance(build(name, api_key="k"), MediaUploads)] == ["gemini"]


@pytest.mark.parametrize("name", ["gemini"])
def test_an_upload_is_waited_for_found_again_and_deleted(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(mp4(7))
    kept = uploads(lab.provider)
    made = kept.upload_media(path, "video/mp4", "0" * 64)
    assert made.file_name.startswith("files/nbm-000000") and len(made.file_name) <= len("files/") + 40
    assert timedelta(hours=47) < made.expires_at - datetime.now(UTC) <= timedelta(hours=48)
    assert kept.has_media(made.file_name)
    assert kept.upload_media(path, "video/mp4", "0" * 64).file_name != made.file_name, "a late one brings nothing back"
    (line,) = (readable(found) for found in lab.results(asked(Media(uri=made.uri, mime_type="video/mp4"))))
    assert line.usage is not None and line.usage.input_tokens >= 7 * 258
    for _ in range(2):
        kept.delete_media(made.file_name)
    assert not kept.has_media(made.file_name)


@pytest.mark.parametrize("name", ["gemini"])
def test_a_video_that_cannot_be_processed_is_rejected(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "broken.mp4"
    path.write_bytes(broken_mp4())
    with pytest.raises(Rejected, match="could not process"):
        uploads(lab.provider).upload_media(path, "video/mp4", "1" * 64)


@pytest.mark.parametrize("name", ["gemini"])
def test_a_reference_to_a_file_that_is_gone_is_not_billed_and_worth_another_try(lab: Lab) -> None:
    (line,) = (readable(found) for found in lab.results(asked(Media(uri=URI, mime_type="video/mp4"))))
    assert (line.outcome, line.billed, line.retryable) == ("errored", False, True)
    assert "may not exist" in (line.error or "")
    assert lab.billed() == []


@pytest.mark.parametrize("name", ["gemini"])
def test_what_is_not_known_is_never_taken_for_gone(wire: Wire) -> None:
    for status, kind in ((500, Transient), (401, AccountRefused), (429, Transient), (400, Refused)):
        wire.server.say(Reply({"error": {"code": status, "message": "no", "status": "X"}}, status=status))
        with pytest.raises(kind):
            uploads(wire.provider).has_media("files/a")
    hidden = "You do not have permission to access the File a or it may not exist."
    wire.server.say(Reply({"error": {"code": 403, "message": hidden, "status": "PERMISSION_DENIED"}}, status=403))
    assert uploads(wire.provider).has_media("files/a") is False
    uploads(wire.provider).delete_media("files/a")
    wire.server.say(Reply({"name": "files/a", "state": "PROCESSING"}))
    assert uploads(wire.provider).has_media("files/a") is False
