"""Serve batches and the realtime endpoints."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import uuid4

import orjson
from starlette.responses import Response

from nightbatch_local.emulator.billing import embeds, serves
from nightbatch_local.emulator.errors import ApiError
from nightbatch_local.emulator.gemini import files
from nightbatch_local.emulator.gemini.bodies import embed_content, field, generate
from nightbatch_local.emulator.gemini.lines import EMBED
from nightbatch_local.emulator.gemini.views import operation
from nightbatch_local.emulator.http import Call, Endpoint, in_thread, json_response
from nightbatch_local.emulator.prompt import Answered, Usage
from nightbatch_local.emulator.state import Batch

_WINDOW = 48 * 3600.0
_MAX_INLINE = 20 << 20
_MAX_OPEN = 100
_CANCEL_SECONDS = 1.0


async def create_batch(method: str, call: Call) -> Response:
    """Answer `POST /{v}/models/{m}:batchGenerateContent` or `:asyncBatchEmbedContent`."""
    call.refuse_larger_than(_MAX_INLINE)
    model = _model(call, embedding=method == EMBED)
    given = (await call.json()).get("batch") or {}
    source = field(given, "inputConfig") or {}
    _refuse_too_many(call)
    now, file_name = call.state.now(), field(source, "fileName")
    path, size = _from_file(call, str(file_name)) if file_name else _from_inline(call, source)
    call.refuse_over_token_limit("gemini", model, size // 4)
    batch = Batch(
        id=f"batches/{uuid4().hex}",
        provider="gemini",
        account=call.account,
        endpoint=method,
        model=model,
        label=field(given, "displayName"),
        input_file=file_name,
        input_path=path,
        created_at=now,
        due_at=call.emulator.next_due_at(now),
        expires_at=now + _WINDOW,
        tokens=size // 4,
    )
    call.add_batch(batch)
    return json_response(operation(call.state, batch, now))


async def get_batch(call: Call) -> Response:
    """Answer `GET /{v}/batches/{id}`."""
    return json_response(operation(call.state, _batch(call), call.state.now()))


async def list_batches(call: Call) -> Response:
    """Answer `GET /{v}/batches?pageSize&pageToken`, newest first."""
    page, token = files.page_of(call, call.state.batches("gemini", call.account), default=50, most=1000)
    now = call.state.now()
    shown: dict[str, Any] = {"operations": [operation(call.state, batch, now) for batch in page]} if page else {}
    return json_response(shown | ({"nextPageToken": token} if token else {}))


async def cancel_batch(call: Call) -> Response:
    """Answer `POST /{v}/batches/{id}:cancel`: nothing can be fetched afterwards, and nothing is charged."""
    batch, now = _batch(call), call.state.now()
    if batch.outcome is not None:
        raise ApiError(400, f"{batch.id} has ended.", status_name="FAILED_PRECONDITION")
    ending = {"ending": "cancelled", "cancelling_at": now, "due_at": min(batch.due_at, now + _CANCEL_SECONDS)}
    call.state.update_batch(batch.id, ending)
    call.emulator.worker.wake()
    return json_response({})


async def delete_batch(call: Call) -> Response:
    """Answer `DELETE /{v}/batches/{id}`, once it has ended."""
    batch = _batch(call)
    if batch.outcome is None:
        raise ApiError(400, f"{batch.id} is still running.", status_name="FAILED_PRECONDITION")
    call.state.delete_batch(batch)
    return json_response({})


async def generate_content(call: Call) -> Response:
    """Answer `POST /{v}/models/{m}:generateContent` at once, at the full price."""
    model, body = _model(call, embedding=False), await call.json()
    find = partial(files.usable_file, call.state, call.account)
    answered = await in_thread(partial(generate, model, body, seed=call.emulator.settings.seed, find=find))
    return call.charge("gemini", answered)


async def embed_one(call: Call) -> Response:
    """Answer `POST /{v}/models/{m}:embedContent`."""
    model, body = _model(call, embedding=True), await call.json()
    return call.charge("gemini", embed_content(model, body, seed=call.emulator.settings.seed))


async def embed_many(call: Call) -> Response:
    """Answer `POST /{v}/models/{m}:batchEmbedContents`: many texts in one realtime call."""
    model, body = _model(call, embedding=True), await call.json()
    seed = call.emulator.settings.seed
    answers = [embed_content(model, one, seed=seed) for one in body.get("requests") or ()]
    total = sum(one.usage.input_tokens for one in answers)
    shown = {
        "embeddings": [one.body["embedding"] for one in answers],
        "usageMetadata": {"promptTokenCount": total},
    }
    return call.charge("gemini", Answered(shown, model, Usage(total)))


ROUTES = [
    *files.ROUTES,
    *(
        Endpoint("batch_create", "POST", f"/models/{{model}}:{method}", partial(create_batch, method))
        for method in ("batchGenerateContent", EMBED)
    ),
    Endpoint("realtime", "POST", "/models/{model}:generateContent", generate_content),
    Endpoint("realtime", "POST", "/models/{model}:embedContent", embed_one),
    Endpoint("realtime", "POST", "/models/{model}:batchEmbedContents", embed_many),
    Endpoint("batch_cancel", "POST", "/batches/{id}:cancel", cancel_batch),
    Endpoint("batch_list", "GET", "/batches", list_batches),
    Endpoint("batch_get", "GET", "/batches/{id}", get_batch),
    Endpoint("batch_delete", "DELETE", "/batches/{id}", delete_batch),
]


def _model(call: Call, *, embedding: bool) -> str:
    model = call.path("model")
    fits = embeds(model) == embedding or model.startswith("emulator-")
    if not fits or not serves("gemini", model):
        raise ApiError(404, f"models/{model} is not found for this API version, or is not supported for this method.")
    return model


def _refuse_too_many(call: Call) -> None:
    running = [batch for batch in call.state.batches("gemini", call.account) if batch.outcome is None]
    if len(running) >= _MAX_OPEN:
        raise ApiError(429, f"At most {_MAX_OPEN} batches may run at the same time.")


def _from_file(call: Call, name: str) -> tuple[str, int]:
    file = call.state.file("gemini", call.account, name.removeprefix("files/"))
    if file is None:
        raise ApiError(404, f"File {name} does not exist or you have no permission to access it.")
    return str(call.state.link_input(file)), file.bytes


def _from_inline(call: Call, source: dict[str, Any]) -> tuple[str, int]:
    requests = (source.get("requests") or {}).get("requests")
    if not isinstance(requests, list) or not requests:
        raise ApiError(400, "* BatchGenerateContentRequest.batch.input_config: no input is given")
    path = call.state.new_path("inputs")
    path.write_bytes(b"".join(orjson.dumps(request) + b"\n" for request in requests))
    return str(path), path.stat().st_size


def _batch(call: Call) -> Batch:
    name = f"batches/{call.path('id')}"
    batch = call.state.batch("gemini", call.account, name)
    if batch is None:
        raise ApiError(404, f"{name} is not found.")
    return batch
