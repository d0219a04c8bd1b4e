"""One run that trains for long in one process: memory, open files, threads and temporary files do not grow.

    python tests/soak/long_run.py [--minutes 30] [--tolerance 2] [--every 2]

A small network trains on pictures in files, decoded by two processes per epoch; checkpoints are written every few
steps, and each epoch is evaluated. The process is watched from outside. After a warm-up of a tenth of the time, the
first and the last fifth of what is left are compared. In the end the run gets SIGTERM, and must save and end with 143.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

WHAT = ("memory, KiB", "open files", "threads", "child processes", "files in the temporary folder", "files in the run")
ENOUGH = 100
"""Looks, from which on their number of open files, threads and temporary files says something."""

MAY_VARY = ("child processes", "files in the run")
"""What is printed only: the first comes and goes, and the second has as many checkpoints as it keeps."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--tolerance", type=float, default=2.0, help="percent by which the memory may grow")
    parser.add_argument("--every", type=float, default=2.0, help="seconds between two looks")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside is not None:
        return _train(given.inside)
    place = Path(tempfile.mkdtemp(prefix="soak-"))
    try:
        return _watch(place, given.minutes * 60, given.every, given.tolerance)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _train(place: Path) -> int:
    """Train in this process until a signal ends it."""
    from child import CONFIG

    _pictures(place / "pictures")
    import dataclasses

    from codistill.training import train

    config = dataclasses.replace(
        CONFIG, method="dml", group="networks", peers=2, epochs=1_000_000, data="image_folder", image_size=16,
        data_dir=place / "pictures", data_memory=0.0, workers=2, save_steps=3, out=place / "run",
    )  # fmt: skip
    try:
        train(config)
    except KeyboardInterrupt as stop:
        return getattr(stop, "code", 130)
    return 0


def _pictures(folder: Path) -> None:
    """Write ten classes of 24 pictures, of which 4 are the test part."""
    import numpy as np
    from PIL import Image

    draw = np.random.default_rng(0)
    for name in range(10):
        for part, count in (("train", 20), ("test", 4)):
            (folder / part / str(name)).mkdir(parents=True)
            for at in range(count):
                pixels = draw.integers(20 * name, 20 * name + 60, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / part / str(name) / f"{at}.png")


def _watch(place: Path, seconds: float, every: float, tolerance: float) -> int:
    (place / "tmp").mkdir()
    environment = {**os.environ, "TMPDIR": str(place / "tmp")}
    command = [sys.executable, __file__, "--inside", str(place)]
    log = place / "log.txt"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        looks = _looks(process, place, seconds, every)
        process.send_signal(signal.SIGTERM)
        code = process.wait()
    text, epochs = log.read_text(errors="replace"), _lines(place / "run" / "metrics.jsonl")
    print(f"{len(looks)} looks in {seconds / 60:g} minutes, {epochs} epochs, exit code {code} after SIGTERM")
    if code != 143 or "Traceback" in text or len(looks) < 10:
        print(text[-3000:])
        return 1
    return int(any(_grown(at, what, looks, tolerance) for at, what in enumerate(WHAT)))


def _looks(process: subprocess.Popen[bytes], place: Path, seconds: float, every: float) -> list[tuple[int, ...]]:
    """What the process has, look by look, from its second epoch on; fewer where it ends by itself."""
    while process.poll() is None and _lines(place / "run" / "metrics.jsonl") < 2:
        time.sleep(0.1)
    looks, end = [], time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(FileNotFoundError):
            looks.append(_look(process.pid, place))
        time.sleep(every)
    return looks


def _look(number: int, place: Path) -> tuple[int, ...]:
    proc = Path("/proc") / str(number)
    status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
    children = sum(len((task / "children").read_text().split()) for task in (proc / "task").iterdir())
    files = (_count(place / "tmp"), _count(place / "run"))
    memory, handles = int(status["VmRSS"].split()[0]), sum(1 for _ in (proc / "fd").iterdir())
    return memory, handles, int(status["Threads"]), children, *files


def _count(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _grown(at: int, what: str, looks: Sequence[Sequence[int]], tolerance: float) -> bool:
    """Print how a quantity has changed, and return whether that is too much."""
    values = [look[at] for look in looks[len(looks) // 10 :]]
    fifth = max(1, len(values) // 5)
    first, last = values[:fifth], values[-fifth:]
    before, after = median(first), median(last)
    growth = 100 * (after - before) / before if before else 100.0 * (after > 0)
    print(
        f"{what}: {before:g} in the first fifth, {after:g} in the last ({growth:+.1f} %), "
        f"never less than {min(first)} and {min(last)}"
    )
    if at == 0:
        return growth >= tolerance
    if what in MAY_VARY or len(looks) < ENOUGH:
        return False
    # What comes and goes with the processes moves a median by chance; a leak raises the least that is there, too.
    return after > before and min(last) > min(first)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    raise SystemExit(main())
