"""Measure everything that needs a GPU, in one go: the most useful first, each result written as soon as it is there.

python benchmarks/gpu.py --minutes 6 --out results-gpu                     on a machine with a GPU
python benchmarks/gpu.py --minutes 1 --out rehearsal --device cpu          the same programs on toy sizes
python benchmarks/gpu.py --minutes 6 --out results-gpu --only throughput   one part; the others' results stay

The minutes are shared out over the parts; a part whose time is up stops before its next measurement. Each part runs in
a process of its own, so that neither an error of the device nor a hang loses the others.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from on_gpu.evidence import evidence
from on_gpu.ledger import Ledger
from on_gpu.parts import PARTS, run_part
from on_gpu.setting import Setting
from on_gpu.tables import write_tables

__all__ = ["main"]

GRACE = {"cuda": 45.0, "cpu": 240.0}
"""Seconds after its deadline in which a part may end its last measurement, before it is stopped."""

BROKEN = 3
"""Exit code of a part that has to go on in a new process."""

MOST_STARTS = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts that the command line names; 0 if something was measured and nothing failed."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    args = _parser().parse_args(given)
    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if args.part:
        return _one_part(args.part, Setting(device, args.out, args.deadline))
    if device.type == "cuda" and not torch.cuda.is_available():
        print("gpu.py: error: no CUDA device here: --device cpu rehearses on toy sizes.", file=sys.stderr)
        return 2
    names = [name for name in PARTS if not args.only or name in args.only]
    ledger = Ledger(args.out)
    command = shlex.join(["python", "benchmarks/gpu.py", *given])
    ledger.open_call(evidence(command, device, args.minutes), names)
    _run_all(names, device, 60 * args.minutes, ledger)
    entries = [entry for name in names for entry in ledger.entries(name)]
    failed = [entry for entry in entries if "error" in entry]
    print(f"{len(entries)} entries, {len(failed)} failed: {write_tables(ledger)}")
    return 1 if failed or not entries else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure everything that needs a GPU.")
    parser.add_argument("--minutes", type=float, default=6.0, help="shared out over the parts")
    parser.add_argument("--out", type=Path, required=True, help="folder for results.json, results.md, errors.txt")
    parser.add_argument("--device", help="cuda, cuda:1, or cpu for a rehearsal; a GPU if there is one")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), help="parts to run")
    parser.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--deadline", type=float, default=0.0, help=argparse.SUPPRESS)
    return parser


def _run_all(names: Sequence[str], device: torch.device, seconds: float, ledger: Ledger) -> None:
    end, durations = time.time() + seconds, dict[str, float]()
    for number, name in enumerate(names):
        weights = [PARTS[other].weight for other in names[number:]]
        start = time.time()
        # What earlier parts left over, or took too much, is shared by those that follow.
        deadline = start + max(end - start, 0.0) * weights[0] / sum(weights)
        print(f"{name}: {deadline - start:.0f} s", flush=True)
        _run_in_processes(name, device, deadline, ledger)
        durations[name] = time.time() - start
        ledger.add_evidence(seconds=durations)
        write_tables(ledger)


def _run_in_processes(name: str, device: torch.device, deadline: float, ledger: Ledger) -> None:
    """Run a part in a process, and in a further one where an error has broken the device for the first."""
    command = [sys.executable, __file__, "--part", name, "--deadline", str(deadline)]
    command += ["--out", str(ledger.folder), "--device", str(device)]
    ended: int | None = 0
    for _ in range(MOST_STARTS):
        ended = _run_process(command, deadline + GRACE[device.type])
        if ended == 0 or time.time() > deadline:
            break
    if ended is None:
        ledger.note(name, "the process", f"it was stopped {GRACE[device.type]:.0f} s after its time")
    elif ended:
        ledger.note(name, "the process", f"it ended with exit code {ended}")


def _run_process(command: Sequence[str], limit: float) -> int | None:
    """Exit code; None if it had to be stopped at the limit, with all processes that it had started."""
    process = subprocess.Popen(command, start_new_session=True)
    try:
        return process.wait(max(limit - time.time(), 1.0))
    except subprocess.TimeoutExpired:
        return None
    finally:
        # Also what it left behind when it ended.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _one_part(name: str, setting: Setting) -> int:
    if setting.rehearsal:
        torch.set_num_threads(1)
    return 0 if run_part(name, setting, Ledger(setting.out)) else BROKEN


if __name__ == "__main__":
    sys.exit(main())
