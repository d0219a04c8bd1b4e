"""Pairs of processes that train into one folder at the same time: one of them does, and the other is refused.

    python tests/soak/pairs.py [--pairs 50] [--seed 0]

Both start within a random fraction of the length of a run, with other seeds. Beside every fifth pair, evaluate reads
the run again and again while it trains.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from child import DIGITS, Ended, begin, forked, numbers


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    draw, place = random.Random(given.seed), Path(tempfile.mkdtemp(prefix="soak-"))
    expected, start = {}, time.perf_counter()
    for seed in (0, 1):
        assert forked(lambda seed=seed: begin(place / f"alone{seed}", seed=seed)).code == 0
        expected[seed] = numbers(place / f"alone{seed}")
    length = (time.perf_counter() - start) / 2
    found, codes, reads = Counter({"mixed": 0, "tracebacks": 0, "failed readers": 0}), Counter(), 0
    for number in range(given.pairs):
        run = place / "run"
        shutil.rmtree(run, ignore_errors=True)
        ended: dict[int, Ended] = {}
        later = draw.uniform(0, length)

        def train(seed: int, wait: float, ended: dict[int, Ended] = ended, run: Path = run) -> None:
            time.sleep(wait)
            ended[seed] = forked(lambda: begin(run, seed=seed))

        pair = [threading.Thread(target=train, args=(seed, seed * later)) for seed in (0, 1)]
        for one in pair:
            one.start()
        while number % 5 == 0 and any(one.is_alive() for one in pair):
            reader = forked(lambda run=run: _read(run))
            reads += "READ" in reader.text
            found["failed readers"] += reader.code not in (0, 2) or "damaged" in reader.text
        for one in pair:
            one.join()
        codes.update(str(tuple(ended[seed].code for seed in (0, 1))) for _ in (0,))
        found["tracebacks"] += any(one.traceback for one in ended.values())
        # The last to end well has its own numbers there, whole.
        winners = [seed for seed in (0, 1) if ended[seed].code == 0]
        found["mixed"] += not any(numbers(run) == expected[seed] for seed in winners)
    shutil.rmtree(place)
    print(f"{given.pairs} pairs, {reads} readings: " + ", ".join(f"{n} {what}" for what, n in found.items()))
    print("; ".join(f"exit codes {what}: {n}" for what, n in sorted(codes.items())))
    return int(any(found.values()))


def _read(run: Path) -> None:
    from codistill.training.evaluate import evaluate_run

    print("READ", evaluate_run(run, dataset=DIGITS)["images"])


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    raise SystemExit(main())
