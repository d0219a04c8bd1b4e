"""Power cuts on a file system of its own (ext4 in a file, mounted by loop; root is needed): what was saved is there.

    sudo python tests/soak/power_loss.py [--cuts 20] [--seed 0]

The run is stopped at a random instant, and the file system's image is copied as it is then: what Linux has not yet
written to the device is lost, as in a power cut. The copy is mounted, which replays its journal, and the run goes on
from it. Where a loop mount is not allowed, one line says so and the exit code is 0.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from child import begin, forked, go_on, numbers

MEGABYTES = 48
# Linux writes data that nobody asked for back after this many seconds, and not before.
OPTIONS = "loop,commit=60,nobarrier"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cuts", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="soak-"))
    why = _mounted(_image(place / "disk"), place / "mnt")
    if why:
        print(f"skipped: no loop mount here ({why})")
        return 0
    try:
        return _soak(place, given.cuts, random.Random(given.seed))
    finally:
        subprocess.run(["umount", str(place / "mnt")], check=False, capture_output=True)
        shutil.rmtree(place, ignore_errors=True)


def _soak(place: Path, cuts: int, draw: random.Random) -> int:
    mount, started = place / "mnt", time.perf_counter()
    assert forked(lambda: begin(place / "whole")).code == 0
    length, expected = time.perf_counter() - started, numbers(place / "whole")
    found = Counter({"lost": 0, "differing": 0, "tracebacks": 0, "epochs lost": 0})
    for _ in range(cuts):
        run = mount / "run"
        child = os.fork()
        if child == 0:
            os.setpgid(0, 0)
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1), os.dup2(null, 2)
            begin(run)
            os._exit(0)
        time.sleep(draw.uniform(0, length))
        os.kill(child, signal.SIGSTOP)
        seen = _saved(run)
        shutil.copyfile(place / "disk", place / "cut")
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        subprocess.run(["umount", str(mount)], check=True)
        assert _mounted(place / "cut", mount) is None
        found["epochs lost"] += max(0, seen - _saved(run))
        last = forked(lambda run=run: go_on(run))
        found["tracebacks"] += last.traceback
        if last.code:
            found["lost"] += 1
            print(last.text)
        elif numbers(run) != expected:
            found["differing"] += 1
        shutil.rmtree(run)
        subprocess.run(["umount", str(mount)], check=True)
        assert _mounted(_image(place / "disk"), mount) is None
    print(f"{cuts} power cuts: " + ", ".join(f"{n} {what}" for what, n in found.items()))
    return int(any(found.values()))


def _saved(run: Path) -> int:
    """The newest epoch that is saved as a whole; -1 for none."""
    best = -1
    for manifest in (run / "checkpoints").glob("epoch_*/manifest.json"):
        try:
            record = json.loads(manifest.read_text())
        except ValueError:
            continue
        if all((manifest.parent / name).is_file() for name in record["files"]):
            best = max(best, record["epoch"])
    return best


def _image(path: Path) -> Path:
    path.write_bytes(b"")
    os.truncate(path, MEGABYTES << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(path)], check=True)
    return path


def _mounted(image: Path, folder: Path) -> str | None:
    """Mount an image; why that is not possible, or None."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        ["mount", "-o", OPTIONS, str(image), str(folder)], capture_output=True, text=True, check=False
    )
    return " ".join(done.stderr.split()) if done.returncode else None


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    raise SystemExit(main())
