"""One function of one stage in a process of its own: seconds, and the memory above the bare process with its imports."""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import time
from pathlib import Path

from tests.bench.stages import Place


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("module")
    parser.add_argument("function", choices=["prepare", "reset", "reference", "ours"])
    parser.add_argument("--dsn", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--jobs", type=int, required=True)
    options = parser.parse_args()
    work = getattr(importlib.import_module(f"tests.bench.stages.{options.module}"), options.function)
    place = Place(options.dsn, options.folder, options.jobs)
    gc.collect()
    Path("/proc/self/clear_refs").write_text(
        "5"
    )  # the peak begins anew: reading a price list while importing is none of ours
    bare = peak_mb()
    began, worked = time.perf_counter(), time.process_time()
    counted = work(place)
    seconds = time.perf_counter() - began if counted is None else counted
    print(json.dumps({"seconds": seconds, "cpu": time.process_time() - worked, "memory_mb": peak_mb() - bare}))


def peak_mb() -> float:
    """The most that this process held. Not ``ru_maxrss``, which begins with what the process that started it held."""
    status = Path("/proc/self/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
