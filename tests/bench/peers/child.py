"""One life of one contender, in its own process and environment: prints its figures and how many answers it has."""

from __future__ import annotations

import argparse
import importlib
import json

from tests.bench.peers.work import Clock, Work


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("life")
    parser.add_argument("work", type=json.loads)
    options = parser.parse_args()
    live = importlib.import_module(f"tests.bench.peers.lives.{options.life}").live
    work = Work(**options.work)
    clock = Clock(work)
    answers = live(work, clock)
    clock.stop()
    print(json.dumps(clock.figures | {"answers": answers}))


if __name__ == "__main__":
    main()
