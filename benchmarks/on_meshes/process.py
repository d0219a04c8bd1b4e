"""What each process of a launch does: build the group, time steps in turns, count bytes, and send messages of its own.

    torchrun --nproc-per-node N -m on_meshes.process SETTINGS.json RESULTS.json

`launching.py` starts it.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from codistill import execution, methods, models
from codistill.execution.distributed import DistributedExecutor
from codistill.execution.world import Mesh
from codistill.peers import NetworkGroup
from codistill.training import OptimConfig
from codistill.training.optimizer import make_optimizer
from codistill.types import Progress
from on_meshes.setting import Launch

__all__ = ["main"]

SIZES = tuple(2**k for k in (10, 14, 18, 22))
"""Bytes of the messages that are timed."""
REPEATS = 15


def main() -> None:
    """Run in each process, one setting after the other; the first process writes what has been found."""
    given, out = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2])
    dist.init_process_group("gloo")
    results = []
    try:
        for setting in (Launch(**one) for one in given):
            found = measure(setting)
            every: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(every, found["each"])
            results.append({**found, "each": every})
        if dist.get_rank() == 0:
            out.write_text(json.dumps(results), encoding="utf-8")
    finally:
        dist.destroy_process_group()


def measure(setting: Launch) -> dict[str, Any]:
    """Times of every turn by what took its turn, messages, and under "each" what this process has sent and waited."""
    torch.set_num_threads(setting.threads)
    mesh = Mesh.parse(setting.mesh)
    images = torch.randn(setting.batch, *setting.image, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(setting.classes, (setting.batch,), generator=torch.Generator().manual_seed(1))
    on_mesh, executor = _step(setting, range(len(setting.models)), images, labels, "distributed")
    assert isinstance(executor, DistributedExecutor)
    assert executor.world is not None
    world = executor.world
    rivals: dict[str, tuple[Callable[[], None], int]] = {"mesh": (on_mesh, setting.threads)}
    if setting.turns:
        rows = world.rows(setting.batch)
        own, _ = _step(setting, executor.own, images[rows], labels[rows], "loop")
        rivals["alone"] = (own, setting.threads)
    if setting.loop_threads:
        # The other processes rest, so that one process has all cores.
        everyone, _ = _step(setting, range(len(setting.models)), images, labels, "loop")
        rivals["loop"] = (everyone if dist.get_rank() == 0 else lambda: None, setting.loop_threads)
    for step, _ in rivals.values():
        step()
    traffic = world.traffic
    traffic.bytes.clear()
    traffic.waited = traffic.steps = 0
    times: dict[str, list[float]] = {name: [] for name in rivals}
    waits: list[float] = []
    for _ in range(max(setting.turns, 1)):
        for name, (step, threads) in rivals.items():
            before = traffic.waited
            times[name].append(_turn(step, threads, setting.calls))
            if name == "mesh":
                waits.append((traffic.waited - before) / setting.calls / times[name][-1])
    sent = {kind: count / traffic.steps for kind, count in traffic.bytes.items()}
    each = {"sent": sent, "waiting": waits, "own": executor.own, "mesh": dataclasses.asdict(mesh)}
    return {"times": times, "messages": _messages() if setting.turns else {}, "each": each}


def _step(
    setting: Launch, peers: Any, images: torch.Tensor, labels: torch.Tensor, executor: str
) -> tuple[Callable[[], None], execution.Executor]:
    torch.manual_seed(0)
    built = [models.build(name, setting.classes, setting.image[0]) for name in setting.models]
    group = NetworkGroup([built[peer] for peer in peers]).train()
    execution.lay_out(group, setting.image, None)
    alone = len(group.networks) < len(built) or len(labels) < setting.batch
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        method = methods.build("ind" if alone else setting.method, group).train()
    given = {"mesh": setting.mesh, "sync_batch_norm": setting.sync} if executor == "distributed" else {}
    runner = execution.build(executor, group, method, **given)
    optimizer = make_optimizer(OptimConfig(lr=1e-3), runner.parameters())

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        runner.train_step(images, labels, Progress(150, 300))
        optimizer.step()
        runner.after_step()

    return step, runner


def _turn(step: Callable[[], None], threads: int, calls: int) -> float:
    """Seconds of a step, from when all processes are ready until all are done."""
    torch.set_num_threads(threads)
    dist.barrier()
    start = time.perf_counter()
    for _ in range(calls):
        step()
    dist.barrier()
    return (time.perf_counter() - start) / calls


def _messages() -> dict[str, list[tuple[int, float]]]:
    """Seconds of all-gathers (by what each process has) and all-reduces of several sizes, medians."""
    n = dist.get_world_size()
    found: dict[str, list[tuple[int, float]]] = {"gather": [], "reduce": []}
    for size in SIZES:
        own = torch.zeros(size, dtype=torch.uint8)
        every = list(own.new_empty(n, size).unbind())
        numbers = torch.zeros(size // 4)
        calls = {"gather": lambda a=every, b=own: dist.all_gather(a, b), "reduce": lambda a=numbers: dist.all_reduce(a)}
        for kind, call in calls.items():
            seconds = []
            for _ in range(REPEATS):
                dist.barrier()
                start = time.perf_counter()
                call()
                seconds.append(time.perf_counter() - start)
            found[kind].append((size, statistics.median(seconds)))
    return found


if __name__ == "__main__":
    main()
