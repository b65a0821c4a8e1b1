"""Run the emulator as `python -m nightbatch_local.emulator`."""

from __future__ import annotations

import argparse
from pathlib import Path

from nightbatch_local.emulator.app import run_emulator
from nightbatch_local.emulator.settings import EmulatorSettings


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(
        prog="python -m nightbatch_local.emulator", description="The three Batch APIs on loopback."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free port")
    parser.add_argument("--state", type=Path, required=True, help="a folder; what is in it survives a restart")
    parser.add_argument("--turnaround", type=float, default=2.0, help="seconds from a batch's creation to its end")
    parser.add_argument("--turnaround-spread", type=float, default=0.0, dest="spread", help="plus or minus seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--billing-log", type=Path, help="default: billing.jsonl in the state folder")
    parser.add_argument("--port-file", type=Path, help="the port is written here")
    parser.add_argument("--exit-with-stdin", action="store_true", help="stop when standard input is closed")
    run_emulator(EmulatorSettings(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
