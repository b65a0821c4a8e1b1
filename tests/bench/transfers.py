"""A large input to each provider and a large output back, by the adapters and against the emulator: memory, CPU, time.

Each in a process of its own; Anthropic's input is the body of the create.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from nightbatch.core.models import Prompt, ProviderName, Submission, custom_id
from nightbatch.core.profiles import BUILT_IN
from nightbatch.core.provider import BatchProvider
from nightbatch.providers import build
from nightbatch_local.emulator.process import EmulatorProcess
from tests.bench.stages.child import peak_mb
from tests.bench.tables import markdown

_MODELS: dict[ProviderName, str] = {
    "openai": "gpt-4o-mini",
    "anthropic": "claude-haiku-4-5",
    "gemini": "gemini-2.5-flash",
}


@dataclass(frozen=True, slots=True)
class Row:
    """MB of the file, and of memory above the same process before the transfer; seconds of CPU and by the clock."""

    provider: str
    direction: str
    file_mb: float
    above_bare_mb: float
    cpu: float
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mb", type=int, default=150)
    parser.add_argument("--child", nargs=5, metavar=("PROVIDER", "DIRECTION", "URL", "PATH", "BATCH"))
    options = parser.parse_args()
    if options.child:
        print(json.dumps(asdict(_transfer(*options.child))))
    else:
        print(render(measure(options.mb)))


def measure(megabytes: int = 150) -> list[Row]:
    """Both directions for each provider."""
    with (
        tempfile.TemporaryDirectory(prefix="nb-transfers-") as name,
        EmulatorProcess(Path(name) / "emulator", turnaround=0.1) as emulator,
    ):
        return [row for provider in BUILT_IN for row in _both_ways(provider, emulator, Path(name), megabytes)]


def render(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    return markdown(
        ["", "file MB", "memory MB above bare", "CPU s", "s"],
        [
            [
                f"{row.provider}, {row.direction}",
                f"{row.file_mb:.0f}",
                f"{row.above_bare_mb:.0f}",
                f"{row.cpu:.1f}",
                f"{row.seconds:.1f}",
            ]
            for row in rows
        ],
    )


def _both_ways(name: ProviderName, emulator: EmulatorProcess, folder: Path, megabytes: int) -> list[Row]:
    url = str(getattr(emulator, f"{name}_url"))
    provider = build(name, api_key="emu-transfers", base_url=url)
    path = folder / f"{name}.jsonl"
    _write_input(provider, path, megabytes)
    up = _in_a_process(name, "upload", url, path)
    path.unlink()
    return [up, _in_a_process(name, "download", url, path, _ended(provider, emulator, folder, megabytes))]


def _write_input(provider: BatchProvider, path: Path, megabytes: int) -> None:
    with path.open("wb") as file:
        for number in range(1, megabytes + 1):
            prompt = Prompt("z" * (1 << 20))
            file.write(provider.render(custom_id(number, 7, None), _MODELS[provider.name], "chat", prompt) + b"\n")


def _ended(provider: BatchProvider, emulator: EmulatorProcess, folder: Path, megabytes: int) -> str:
    """A batch whose only result line is there many times: the emulator would take minutes to answer as many requests."""
    path = folder / "small.jsonl"
    path.write_bytes(provider.render(custom_id(1, 7, None), _MODELS[provider.name], "chat", Prompt("Hello.")) + b"\n")
    submission = _submission(provider.name, 1)
    submission = replace(submission, input_file=provider.upload(submission, path))
    before = set(emulator.state_dir.rglob("*.output"))
    batch_id = provider.submit(submission, path)
    while asyncio.run(provider.get_state(batch_id)).phase == "running":
        time.sleep(0.1)
    output = max(set(emulator.state_dir.rglob("*.output")) - before, key=lambda file: file.stat().st_size)
    line = output.read_bytes()
    with output.open("wb") as file:
        file.writelines([line] * (megabytes * 1_000_000 // len(line)))
    return batch_id


def _submission(name: ProviderName, jobs: int) -> Submission:
    return Submission(7, f"nb-{uuid.uuid4().hex}", _MODELS[name], "chat", jobs, intent_at=datetime.now(UTC))


def _in_a_process(name: ProviderName, direction: str, url: str, path: Path, batch_id: str = "-") -> Row:
    command = [sys.executable, "-m", __spec__.name, "--child", name, direction, url, str(path), batch_id]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Row(**json.loads(done.stdout.splitlines()[-1]))


def _transfer(name: str, direction: str, url: str, path: str, batch_id: str) -> Row:
    provider = build(name, api_key="emu-transfers", base_url=url)
    provider.check()
    bare, cpu, began = peak_mb(), time.process_time(), time.monotonic()
    size = _upload(provider, Path(path)) if direction == "upload" else _download(provider, batch_id)
    return Row(
        provider=name,
        direction=direction,
        file_mb=size / 1e6,
        above_bare_mb=peak_mb() - bare,
        cpu=time.process_time() - cpu,
        seconds=time.monotonic() - began,
    )


def _upload(provider: BatchProvider, path: Path) -> int:
    submission = _submission(provider.name, 1)
    if provider.upload(submission, path) is None:
        provider.submit(submission, path)
    return path.stat().st_size


def _download(provider: BatchProvider, batch_id: str) -> int:
    return sum(len(found.raw) + 1 for found in provider.iter_results(batch_id))


if __name__ == "__main__":
    main()
