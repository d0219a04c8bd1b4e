"""Runs killed at random instants, again and again until they end: no run is lost, and no bit differs.

    python tests/soak/kills.py [--kills 300] [--seed 0]

SIGKILL, SIGTERM and SIGINT in turn. A run that got SIGTERM or SIGINT must end with 143 or 130 where it has begun.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from child import begin, forked, go_on, numbers

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
CODES = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    draw, place = random.Random(given.seed), Path(tempfile.mkdtemp(prefix="soak-"))
    start = time.perf_counter()
    first = forked(lambda: begin(place / "whole"))
    assert first.code == 0, first.text
    length, expected = time.perf_counter() - start, numbers(place / "whole")
    kills, runs, found, codes = 0, 0, Counter({"lost": 0, "differing": 0, "tracebacks": 0}), Counter()
    while kills < given.kills:
        run = place / "run"
        shutil.rmtree(run, ignore_errors=True)
        runs += 1
        # At most a few kills for each run: each one comes later than a start takes.
        for _ in range(4):
            number = SIGNALS[kills % len(SIGNALS)]
            ended = forked(lambda run=run: go_on(run), draw.uniform(0, length), number)
            kills += 1
            codes[f"{number.name} -> {ended.code}"] += 1
            # A signal before training begins, or a second one, is Python's own KeyboardInterrupt.
            found["tracebacks"] += "Traceback" in ended.text
            if ended.code == 0:
                break
        last = forked(lambda run=run: go_on(run))
        if last.code:
            found["lost"] += 1
            print(last.text)
        elif numbers(run) != expected:
            found["differing"] += 1
    shutil.rmtree(place)
    print(f"{runs} runs, {kills} kills: " + ", ".join(f"{count} {what}" for what, count in found.items()))
    print("; ".join(f"{what}: {count}" for what, count in sorted(codes.items())))
    return int(any(found.values()))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    raise SystemExit(main())
