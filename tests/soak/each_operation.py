"""Every operation on files of a short run, made to fail in four ways: nothing that was saved is lost.

    python tests/soak/each_operation.py [--every 1] [--first 1]

The process is killed before the operation; killed in the middle of a write; the disk is full from then on; or the
operation fails once (EIO). Afterwards the run goes on, and must end with the numbers of a run that was left alone. No
fault may show a traceback, and no checkpoint that was there before may be gone without a newer one.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ACTIONS = {"kill": 1, "tear": 2, "full": 3, "error": 4}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1, help="try each n-th operation only")
    parser.add_argument("--first", type=int, default=1, help="begin here, so that two programs can share them")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if not given.inside:
        return _with_faults(sys.argv[1:])
    return _soak(given.first, given.every)


def _with_faults(arguments: list[str]) -> int:
    """Start this program again with the shim that makes operations fail."""
    with tempfile.TemporaryDirectory() as folder:
        shim = Path(folder) / "faults.so"
        source = Path(__file__).with_name("faults.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(shim), str(source), "-ldl"], check=True)
        command = [sys.executable, __file__, *arguments, "--inside"]
        return subprocess.run(command, env={**os.environ, "LD_PRELOAD": str(shim)}, check=False).returncode


def _soak(first: int, every: int) -> int:
    from child import arm, begin, forked, go_on, numbers, operations

    place = Path(tempfile.mkdtemp(prefix="soak-"))
    begun = forked(lambda: begin(place / "whole"))
    assert begun.code == 0, begun.text
    expected = numbers(place / "whole")

    def counted() -> None:
        arm(place / "count", -1, 0)
        begin(place / "count")
        print(f"operations {operations()}")

    total = int(forked(counted).text.rpartition("operations ")[2])
    found: dict[str, list[str]] = {"traceback": [], "lost": [], "differs": [], "not resumed": []}
    codes: Counter[int] = Counter()
    for action, number in ACTIONS.items():
        for operation in range(first, total + 1, every):
            run = place / "run"
            shutil.rmtree(run, ignore_errors=True)

            def disturbed(operation: int = operation, number: int = number, run: Path = run) -> None:
                arm(run, operation, number)
                begin(run)

            ended = forked(disturbed)
            codes[ended.code] += 1
            name = f"{action} at operation {operation}"
            if ended.traceback:
                found["traceback"].append(f"{name}: {ended.text[-300:]}")
            best = _best(run)
            again = forked(lambda run=run: go_on(run))
            if again.traceback or again.code:
                found["not resumed"].append(f"{name}: {again.text[-300:]}")
            elif numbers(run) != expected:
                found["differs"].append(name)
            if _best(run) < best:
                found["lost"].append(name)
    shutil.rmtree(place)
    print(
        f"{sum(codes.values())} faults at {total} operations: " + ", ".join(f"{len(v)} {k}" for k, v in found.items())
    )
    print(f"exit codes of the disturbed runs: {dict(codes)}")
    for kind, cases in found.items():
        for case in cases[:5]:
            print(f"  {kind}: {case}")
    return int(any(found.values()))


def _best(run: Path) -> int:
    """The newest epoch that is saved; -1 for none."""
    names = [f.parent.name for f in (run / "checkpoints").glob("epoch_*/manifest.json")]
    return max((int(name.split("_")[1]) for name in names), default=-1)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    raise SystemExit(main())
