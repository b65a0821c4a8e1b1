"""Keep the stack running, for `make up`: `python -m nightbatch_local.stack up|down|status`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path

from nightbatch.core.errors import NightbatchError
from nightbatch_local.postgres.embedded import binaries
from nightbatch_local.stack.environment import KEYS, PROJECT
from nightbatch_local.stack.ports import Ports, is_free
from nightbatch_local.stack.stack import Stack

_AIRFLOWS_PORT = 8080


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell's & starts us so, the components would inherit it, and then `down` could not stop them gently.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        options.command(options)
    except NightbatchError as error:
        print(f"nightbatch: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def up(options: argparse.Namespace) -> None:
    """Start what does not run yet, and say how to use it."""
    began = time.monotonic()
    stack = Stack(
        options.root,
        api_port=options.api_port or _first_choice(options.root),
        postgres_port=options.postgres_port,
        emulator_port=options.emulator_port,
        turnaround=options.turnaround,
        seed=options.seed,
        env_file=PROJECT / ".env",
        progress=lambda what: print(f"{time.monotonic() - began:6.1f} s  {what}", flush=True),
    )
    stack.start(detached=True)
    print(_how_to_use(stack))


def down(options: argparse.Namespace) -> None:
    """Stop everything under the root, also what a crashed `up` left."""
    Stack(options.root).stop()
    print("Nothing is running.")


def status(options: argparse.Namespace) -> None:
    """Print what runs."""
    stack = Stack(options.root)
    found = stack.status()
    for name, pid in sorted(found.items()):
        print(f"{name:15} pid {pid}")
    print(f"UI: {stack.api_url}" if "api-server" in found else "Airflow is not running: make up")


def guard(options: argparse.Namespace) -> None:
    """Wait until the supervisor is gone, then stop what it left. Started by the supervisor itself."""
    while os.getppid() == options.parent:
        time.sleep(0.2)
    Stack(options.root).stop()


def _first_choice(root: Path) -> int | None:
    """Return the port where people look for Airflow, if it is free at the first start; else None, and the stack chooses."""
    return _AIRFLOWS_PORT if Ports.load(root) is None and is_free(_AIRFLOWS_PORT) else None


def _how_to_use(stack: Stack) -> str:
    emulated = ", ".join(stack.emulated) or "nobody"
    return f"""
Airflow       {stack.api_url}   user admin, password {stack.password()}
The page      {stack.api_url}/plugin/nightbatch
Database      {stack.dsn}
Emulator      stands in for: {emulated} (a key in .env, such as {KEYS["openai"]}=..., makes it the real provider)
Insert a job  {binaries() / "psql"} '{stack.dsn}' -c \\
  "INSERT INTO nightbatch.job (job_type, provider, input) VALUES ('creative_scoring', 'openai', '{{\\"headline\\": \\"Hi\\"}}')"
Logs          {stack.root / "logs"}
Stop          make down"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m nightbatch_local.stack", description=__doc__)
    commands = parser.add_subparsers(required=True)
    for command in (up, down, status):
        sub = commands.add_parser(command.__name__, help=command.__doc__)
        sub.add_argument("--root", type=Path, default=PROJECT / "var" / "up", help="data, logs and secrets")
        sub.set_defaults(command=command)
        if command is up:
            for port in ("--api-port", "--postgres-port", "--emulator-port"):
                sub.add_argument(port, type=int, help="a free one if not given")
            sub.add_argument(
                "--turnaround", type=float, default=20.0, help="seconds that the emulator needs for a batch"
            )
            sub.add_argument("--seed", type=int, default=1, help="of the emulator's answers")
    sub = commands.add_parser("guard")
    sub.add_argument("root", type=Path)
    sub.add_argument("parent", type=int)
    sub.set_defaults(command=guard)
    return parser


if __name__ == "__main__":
    sys.exit(main())
