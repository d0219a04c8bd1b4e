"""Faults of single processes of a run that torchrun has started: it goes on by itself, and no bit differs.

    python tests/soak/ranks.py [--faults 50] [--seed 0] [--meshes peer=2 data=2 data=2,peer=2]

One process is killed, stopped, hangs, fails or gets SIGTERM: during forward, while outputs are gathered, while
gradients are averaged, while the group is brought together, while a checkpoint is asked for or written. torchrun starts
all again, and they go on from the last checkpoint. The other processes of one that hangs give up after --rank-timeout,
here ten seconds.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from child import numbers

from codistill.execution.world import Mesh

KINDS = ("kill", "error", "term", "hang", "stop")
PLACES = ("forward", "gather", "reduce", "assemble", "save", "write")
TIMEOUT = 10.0
LONGEST = 300.0
"""Seconds of a run with a fault, starts included, before it counts as hanging."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--meshes", nargs="+", default=["peer=2", "data=2", "data=2,peer=2"])
    given = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="soak-"))
    found, seconds, happened = Counter({"lost": 0, "differing": 0, "hanging": 0}), [], 0
    expected = {}
    for mesh in given.meshes:
        assert started(place / f"whole-{mesh}", mesh).returncode == 0
        expected[mesh] = numbers(place / f"whole-{mesh}" / "run")
    for number, (mesh, fault) in zip(range(given.faults), drawn(given.meshes, random.Random(given.seed)), strict=False):
        folder, begin = place / str(number), time.perf_counter()
        try:
            ended = started(folder, mesh, fault)
        except subprocess.TimeoutExpired:
            found["hanging"] += 1
            print(f"{mesh} {fault}: hangs")
            continue
        seconds.append(time.perf_counter() - begin)
        happened += any(folder.glob("*.done"))
        if ended.returncode:
            found["lost"] += 1
            print(f"{mesh} {fault}: exit code {ended.returncode}\n{ended.stdout[-2000:]}")
        elif numbers(folder / "run") != expected[mesh]:
            found["differing"] += 1
            print(f"{mesh} {fault}: differs")
        shutil.rmtree(folder)
    shutil.rmtree(place)
    print(f"{given.faults} faults, {happened} happened: " + ", ".join(f"{n} {what}" for what, n in found.items()))
    print(f"seconds of a run with its fault: median {sorted(seconds)[len(seconds) // 2]:.0f}, most {max(seconds):.0f}")
    return int(any(found.values()))


def drawn(meshes: list[str], draw: random.Random) -> Iterator[tuple[str, str]]:
    """Faults of all kinds, in all places, of all processes."""
    while True:
        for place in PLACES:
            for kind in KINDS:
                mesh = draw.choice(meshes if place != "reduce" else [m for m in meshes if "data" in m])
                # Only the first process writes.
                rank = 0 if place == "write" else draw.randrange(Mesh.parse(mesh).size)
                yield mesh, f"{kind}:{rank}:{place}:{draw.randint(1, 3 if place in ('assemble', 'write') else 9)}"


def started(folder: Path, mesh: str, fault: str = "") -> subprocess.CompletedProcess[str]:
    """Run rank.py under torchrun until it ends."""
    folder.mkdir()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "FAULT": fault, "RANK_TIMEOUT": str(TIMEOUT)}
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--max-restarts", "3",
        "--nproc-per-node", str(Mesh.parse(mesh).size),
        str(Path(__file__).with_name("rank.py")), str(folder / "run"), mesh,
    ]  # fmt: skip
    return subprocess.run(
        command,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=LONGEST,
        check=False,
    )


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    raise SystemExit(main())
