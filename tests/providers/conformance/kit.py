"""What the provider tests share: an adapter with an emulated account of its own, and a server with canned answers."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

from nightbatch.emulator.process import EmulatorProcess
from nightbatch.errors import Rejected
from nightbatch.models import (
    EmbeddingInput,
    Endpoint,
    Prompt,
    ProviderName,
    ProviderState,
    Request,
    ResultLine,
    Submission,
    UnreadableLine,
    custom_id,
)
from nightbatch.provider import BatchProvider
from nightbatch.providers import build

MODELS: dict[ProviderName, str] = {
    "openai": "gpt-4o-mini",
    "anthropic": "claude-haiku-4-5",
    "gemini": "gemini-2.5-flash",
}
EMBEDDING_MODELS: dict[str, str] = {"openai": "text-embedding-3-small", "gemini": "gemini-embedding-001"}
DOWNLOADS: dict[ProviderName, str] = {"openai": "file_download", "anthropic": "results", "gemini": "file_download"}
SCHEMA = {
    "type": "object",
    "properties": {"verdict": {"type": "string", "enum": ["run", "drop"]}, "score": {"$ref": "#/$defs/Score"}},
    "required": ["verdict", "score"],
    "additionalProperties": False,
    "$defs": {"Score": {"type": "integer", "minimum": 1, "maximum": 10}},
}

Line = ResultLine | UnreadableLine


@dataclass
class Lab:
    """One provider's adapter on an account that nobody else uses."""

    emulator: EmulatorProcess
    name: ProviderName
    folder: Path
    account: str = field(default_factory=lambda: f"t{uuid.uuid4().hex[:12]}")

    def __post_init__(self) -> None:
        self.provider = self.adapter()

    def adapter(self, key: str | None = None) -> BatchProvider:
        """An adapter as another process would make it."""
        return build(self.name, api_key=key or f"emu-{self.account}", base_url=url_of(self.emulator, self.name))

    def job(self, requests: Sequence[Request | str], endpoint: Endpoint = "chat") -> tuple[Submission, Path]:
        """A submission and its input file; jobs are numbered from 1."""
        model = EMBEDDING_MODELS[self.name] if endpoint == "embeddings" else MODELS[self.name]
        path = self.folder / f"{uuid.uuid4().hex}.jsonl"
        with path.open("wb") as file:
            for number, request in enumerate(requests, start=1):
                prompt = Prompt(request) if isinstance(request, str) else request
                file.write(self.provider.render(custom_id(number, 7), model, endpoint, prompt) + b"\n")
        tag = f"nb-{uuid.uuid4().hex}"
        return Submission(7, tag, model, endpoint, len(requests), intent_at=datetime.now(UTC)), path

    def uploaded(
        self, requests: Sequence[Request | str] = ("One.", "Two."), endpoint: Endpoint = "chat"
    ) -> tuple[Submission, Path]:
        """The same, with the input at the provider."""
        submission, path = self.job(requests, endpoint)
        return replace(submission, input_file=self.provider.upload(submission, path)), path

    def send(self, *requests: Request | str, endpoint: Endpoint = "chat") -> str:
        """Upload and create; the provider's batch id."""
        return self.provider.submit(*self.uploaded(requests, endpoint))

    def state(self, batch_id: str) -> ProviderState:
        """As synchronous callers ask for it."""
        return asyncio.run(self.provider.get_state(batch_id))

    def end(self, batch_id: str, outcome: str = "completed", **how: Any) -> ProviderState:
        """Let a batch end now, and wait until the provider says so."""
        deadline = time.monotonic() + 20
        self.emulator.control("POST", f"batches/{batch_id}/end", {"as": outcome, **how})
        while (state := self.state(batch_id)).phase == "running":
            assert time.monotonic() < deadline, state
            time.sleep(0.02)
        return state

    def results(self, *requests: Request | str, endpoint: Endpoint = "chat") -> list[Line]:
        """All lines of a batch that was sent and has ended."""
        batch_id = self.send(*requests, endpoint=endpoint)
        self.end(batch_id)
        return self.lines(batch_id)

    def lines(self, batch_id: str) -> list[Line]:
        """The readable ones in the order of their jobs, then the others."""
        found = list(self.provider.iter_results(batch_id))
        return sorted(found, key=lambda line: line.custom_id if isinstance(line, ResultLine) else "~")

    def fault(self, operation: str, fault: str, **details: Any) -> None:
        """Only for this account."""
        self.emulator.fault(self.name, operation, fault, account=self.account, **details)

    def posts(self, operation: str = "batch_create") -> list[int | None]:
        """The statuses of the requests that reached the provider, oldest first."""
        log = [seen for seen in self.emulator.log() if seen["account"] == self.account]
        return [seen["status"] for seen in log if seen["operation"] == operation]

    def billed(self) -> list[str]:
        """The custom ids that this account was charged for."""
        return [row["custom_id"] for row in self.emulator.billing() if row["account"] == self.account]


def url_of(emulator: EmulatorProcess, name: ProviderName) -> str:
    """The base URL for a provider's SDK."""
    return cast(str, getattr(emulator, f"{name}_url"))


def readable(line: Line) -> ResultLine:
    """The line, which has to be one that could be read."""
    assert isinstance(line, ResultLine), line
    return line


def texts(count: int) -> list[str]:
    """So many prompts."""
    return [f"Describe the harbour of town {number}." for number in range(count)]


def embeddings(*given: str) -> list[EmbeddingInput]:
    """A request of 8 dimensions for each text."""
    return [EmbeddingInput((text,), dimensions=8) for text in given]


@dataclass(frozen=True)
class Canned:
    """One answer: a body as JSON, or as it is; ``short`` bytes less than announced are sent."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    short: int = 0


@dataclass
class CannedServer:
    """Gives its answers in turn, and the last one for ever; remembers what was asked."""

    url: str
    answers: list[Canned]
    seen: list[tuple[str, str, bytes]] = field(default_factory=list)

    def posts(self) -> int:
        """How many POST requests came."""
        return sum(method == "POST" for method, _, _ in self.seen)


@contextmanager
def canned(*answers: Canned) -> Iterator[CannedServer]:
    """A loopback server that answers whatever is asked of it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            server.seen.append((self.command, self.path, body))
            answer = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
            raw = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
            self.send_response(answer.status)
            for name, value in {"Content-Type": "application/json", **answer.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw[: len(raw) - answer.short])
            self.close_connection = bool(answer.short)

        do_GET = do_POST = do_DELETE = _answer

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = CannedServer(f"http://127.0.0.1:{http.server_port}", list(answers))
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


def adapter_for(name: ProviderName, server: CannedServer, key: str = "sk-canary-key") -> BatchProvider:
    """An adapter that talks to a canned server."""
    return build(name, api_key=key, base_url=server.url)


def plain_submission(name: ProviderName, folder: Path) -> tuple[Submission, Path]:
    """A submission as if its input was uploaded, and an input file of one request."""
    path = folder / "input.jsonl"
    path.write_bytes(b'{"custom_id":"j1_a7"}\n')
    uploaded = {"openai": "file-1", "anthropic": None, "gemini": "files/nb-1"}[name]
    return Submission(7, "nb-1", MODELS[name], "chat", 1, uploaded, datetime.now(UTC)), path


def is_gone(error: BaseException) -> bool:
    """Whether an error says that the account does not know something."""
    return isinstance(error, Rejected) and error.status == 404
