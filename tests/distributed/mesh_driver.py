"""Runs many cases in processes of one mesh that are started once: mesh_driver.py PROCESSES FOLDER [PATTERN].

The processes are forked from this one, which has imported all. Where a case fails, new ones go on with the next case.
The outcome is FOLDER/PROCESSES.json: case -> {"values": of each process} or {"error": text}. With a
pattern, only cases that it matches are run: to try one by hand.
"""

from __future__ import annotations

import datetime
import faulthandler
import json
import os
import re
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from mesh_cases import BOTH, CASES, ROWS, differences, trained
from mesh_scenarios import SCENARIOS

import probes
from codistill.execution.world import Mesh
from codistill.methods import METHODS

STEPS, FEW = 20, 5
"""Of each method, and of what differs from a method's usual run; in single precision one."""

WAIT, HANG = 60, 100
"""Seconds after which a process gives up waiting for another one, and after which a silent one is ended."""


def training(name: str, precision: str) -> tuple[int, torch.dtype]:
    """Steps and dtype of a case."""
    return (1, torch.float32) if precision == "fp32" else (STEPS if name in METHODS else FEW, torch.float64)


def precisions_of(mesh: str, name: str) -> list[str]:
    """A run of several steps in double precision; and one step in single precision of each method on one mesh."""
    once = name in METHODS and mesh == (BOTH if BOTH in CASES[name].meshes else ROWS)
    return ["fp64", "fp32"] if once else ["fp64"]


def jobs(count: int) -> dict[str, tuple[str, str, str]]:
    """The name of each case for this many processes -> its mesh, its name in `CASES` or `SCENARIOS`, its precision."""
    found = {
        f"{mesh} {name} {precision}": (mesh, name, precision)
        for name, case in CASES.items()
        for mesh in case.meshes
        for precision in precisions_of(mesh, name)
    }
    found |= {f"{mesh} {name}": (mesh, name, "") for name, (_, meshes) in SCENARIOS.items() for mesh in meshes}
    return {key: job for key, job in found.items() if Mesh.parse(job[0]).size == count}


def reference(name: str, precision: str, folder: Path) -> dict[str, torch.Tensor]:
    """What `loop` gives, from a file that the first process in need of it writes."""
    path = folder / f"{name} {precision}.pt"
    if not path.exists():
        _, found = trained(CASES[name], folder / "own_methods.py", *training(name, precision), "loop")
        part = path.with_suffix(f".{os.getpid()}")
        torch.save(found, part)
        part.replace(path)
    return torch.load(path, weights_only=True)


def outcome(job: tuple[str, str, str], folder: Path) -> Any:
    """What this process finds in a case."""
    mesh, name, precision = job
    if not precision:
        return SCENARIOS[name][0](mesh, folder)
    own = folder / "own_methods.py"
    executor, found = trained(CASES[name], own, *training(name, precision), "distributed", mesh=mesh)
    return differences(executor, found, reference(name, precision, folder))


def work(rank: int, count: int, todo: list[str], folder: Path, turn: int) -> None:
    """One process: write a line when a case begins, and one when it ends."""
    torch.set_num_threads(1)
    every = jobs(count)
    with (
        (folder / f"{count}-{turn}-{rank}.jsonl").open("w") as lines,
        (folder / f"{count}-{turn}-{rank}.fault").open("w") as fault,
    ):

        def write(key: str, **event: Any) -> None:
            lines.write(json.dumps({"case": key, "time": time.time(), **event}) + "\n")
            lines.flush()

        key = todo[0]
        try:
            write(key)
            faulthandler.dump_traceback_later(HANG, exit=True, file=fault)
            store = f"file://{folder}/{count}-{turn}.store"
            wait = datetime.timedelta(seconds=WAIT)
            dist.init_process_group("gloo", init_method=store, rank=rank, world_size=count, timeout=wait)
            for key in todo[rank::count]:
                if every[key][2]:
                    reference(*every[key][1:], folder)
            for key in todo:
                write(key)
                faulthandler.dump_traceback_later(HANG, exit=True, file=fault)
                write(key, value=outcome(every[key], folder))
        except BaseException:
            write(key, error=traceback.format_exc())
            os._exit(1)
    os._exit(0)


def read(count: int, folder: Path, turn: int) -> list[list[dict[str, Any]]]:
    """The lines of each process, with one of its own for a process that ended in silence."""
    found = []
    for rank in range(count):
        lines = [json.loads(line) for line in (folder / f"{count}-{turn}-{rank}.jsonl").read_text().splitlines()]
        fault = (folder / f"{count}-{turn}-{rank}.fault").read_text()
        if lines and not lines[-1].keys() & {"value", "error"}:
            lines.append({**lines[-1], "time": time.time(), "error": f"ended without a word\n{fault}"})
        found.append(lines)
    return found


def run(todo: list[str], count: int, folder: Path, start: Callable[[int, list[str], int], int]) -> dict[str, Any]:
    """All cases, with new processes after each failure."""
    outcomes, turn = {}, 0
    while todo:
        for child in [start(rank, todo, turn) for rank in range(count)]:
            os.waitpid(child, 0)
        ranks = read(count, folder, turn)
        errors = [(line["time"], rank, line) for rank, lines in enumerate(ranks) for line in lines if "error" in line]
        failed = min(errors)[2]["case"] if errors else None
        for key in todo:
            values = [line["value"] for lines in ranks for line in lines if line["case"] == key and "value" in line]
            if key == failed:
                told = [f"process {rank}: {line['error']}" for _, rank, line in sorted(errors, key=lambda e: e[:2])]
                outcomes[key] = {"error": "\n".join(told)}
            elif len(values) == count:
                outcomes[key] = {"values": values}
        if not any(key in outcomes for key in todo):
            raise SystemExit(f"no progress with {todo}: {ranks}")
        todo, turn = [key for key in todo if key not in outcomes], turn + 1
    return outcomes


def main() -> None:
    count, folder = int(sys.argv[1]), Path(sys.argv[2])
    probes.write_probes(folder)

    def start(rank: int, todo: list[str], turn: int) -> int:
        child = os.fork()
        if child == 0:
            work(rank, count, todo, folder, turn)
        return child

    began = time.time()
    wanted = re.compile(sys.argv[3] if len(sys.argv) > 3 else "")
    found = run([key for key in jobs(count) if wanted.search(key)], count, folder, start)
    print(f"{len(found)} cases, {time.time() - began:.1f} s")
    (folder / f"{count}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
