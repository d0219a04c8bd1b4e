"""Whole runs, several at a time on one GPU: seconds, test error, and how busy the GPU is."""

from __future__ import annotations

import dataclasses
import shutil
import statistics
import subprocess
import time
import traceback
from collections.abc import Iterator
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from codistill.rundir import SUMMARY, read_json
from codistill.training import Config, train
from codistill.training.batches import training_batches
from codistill.training.build import build_session
from codistill.training.numerics import layer_randomness
from codistill.training.schedule import learning_rate
from codistill.training.step import TrainingStep
from on_gpu.clock import synchronise
from on_gpu.setting import Measurement, Numbers, Setting

__all__ = ["whole_runs"]

METHODS = ("baseline", "okddip", "dml", "kdcl_minlogit")
EPOCHS, SEEDS = 30, 3
START_SECONDS = 10.0
"""For a process to start, to read the data and to score; taken off the time for epochs."""


def whole_runs(setting: Setting) -> Iterator[Measurement]:
    """One run's steps under the profiler, which also says how many epochs there is time for; then the runs."""
    found: list[float] = []

    def watched() -> Numbers:
        numbers = _watched_steps(setting)
        found.append(numbers["epoch_seconds"])
        return numbers

    yield Measurement("steps of okddip, one run alone", watched)
    epochs = 1 if setting.rehearsal else epochs_that_fit(setting.seconds_left, found[0] if found else 10.0)
    for method in METHODS:
        yield Measurement(f"{method}, {epochs} epochs", partial(_runs, method, epochs, setting))


def epochs_that_fit(seconds_left: float, epoch_seconds: float) -> int:
    """Return how many epochs, at most 30, runs of all methods can have, if several at a time take turns on the GPU."""
    for_each = seconds_left / len(METHODS) - START_SECONDS
    return int(min(max(for_each / (SEEDS * epoch_seconds), 1), EPOCHS))


def config_of(method: str, setting: Setting, epochs: int, seed: int, out: Path) -> Config:
    """Return the run of a user: four ResNet-32 on Glyphs-100, all else by default."""
    usual = Config(
        method=method, model=("resnet32",), data="glyphs", image_size=32, epochs=epochs, seed=seed,
        device=str(setting.device), out=out,
    )  # fmt: skip
    if not setting.rehearsal:
        return usual
    return dataclasses.replace(
        usual, model=("resnet8_tiny",), image_size=8, train_subset=200, batch_size=50, threads=1, deterministic=True
    )


def _watched_steps(setting: Setting) -> Numbers:
    """Seconds of an epoch by its first steps, and the share of that time in which a kernel runs."""
    config = config_of("okddip", setting, EPOCHS, 0, setting.scratch / "watched")
    warm, count = (2, 2) if setting.rehearsal else (20, 60)
    with build_session(config) as session, layer_randomness(session):
        session.settle()
        session.executor.train()
        step = TrainingStep.of(session)
        steps = len(session.splits.train_N) // config.batch_size
        batches = iter(training_batches(session))
        rate = learning_rate(session.config.optim, 0.0, session.epochs)

        def take(number: int) -> float:
            synchronise(setting.device)
            start = time.perf_counter()
            for _ in range(number):
                step(next(batches), 0.0, rate)
            synchronise(setting.device)
            return time.perf_counter() - start

        take(warm)
        count = min(count, steps - warm - 20) if steps > warm + 40 else 1
        plain = take(count)
        graphs = bool(session.config.cuda_graphs)
        numbers: Numbers = {"executor": session.config.executor, "graphs": graphs, "steps_per_epoch": steps}
        numbers |= {"step_ms": 1e3 * plain / count, "epoch_seconds": plain / count * steps}
        if setting.device.type == "cuda":
            with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as watched:
                took = take(20)
            numbers |= {"busy_share": _busy(watched.events() or []) / took}
    return numbers


def _busy(events: Any) -> float:
    """Seconds in which at least one kernel runs."""
    spans = sorted((e.time_range.start, e.time_range.end) for e in events if e.device_type.name == "CUDA")
    total, reached = 0.0, float("-inf")
    for start, end in spans:
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total / 1e6


def _runs(method: str, epochs: int, setting: Setting) -> Numbers:
    """All seeds of a method side by side, each in a process as `codistill train` would be."""
    seeds = 1 if setting.rehearsal else SEEDS
    folders = [setting.scratch / f"{method}-{seed}" for seed in range(seeds)]
    configs = [config_of(method, setting, epochs, seed, out) for seed, out in enumerate(folders)]
    context = get_context("spawn")
    processes = [context.Process(target=_train, args=(config,)) for config in configs]
    with Utilisation(setting) as utilisation:
        start = time.perf_counter()
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        seconds = time.perf_counter() - start
    ended = [folder for folder in folders if (folder / SUMMARY).is_file()]
    if not ended:
        log = folders[0] / "failed.txt"
        raise RuntimeError(log.read_text(encoding="utf-8") if log.is_file() else "no run has ended")
    summaries = [read_json(folder / SUMMARY) for folder in ended]
    errors = [summary["last"]["test"][summary["headline"]]["top1_error"] for summary in summaries]
    numbers: Numbers = {"method": method, "epochs": epochs, "seeds": len(ended), "failed": seeds - len(ended)}
    numbers |= {"seconds": seconds, "training_seconds": [summary["seconds"]["training"] for summary in summaries]}
    numbers |= {"test_error": statistics.mean(errors), "errors": errors, "executor": summaries[0]["executor"]["name"]}
    numbers |= {"peak_mib": max(summary["peak_memory"] for summary in summaries) / 2**20}
    return {**numbers, "utilisation": utilisation.mean()}


def _train(config: Config) -> None:
    assert config.out is not None
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    try:
        train(config, overwrite=True)
    except Exception as error:
        config.out.mkdir(parents=True, exist_ok=True)
        (config.out / "failed.txt").write_text(f"{type(error).__name__}: {error}\n{traceback.format_exc()}")


class Utilisation:
    """The GPU's utilisation in percent, as nvidia-smi samples it five times per second within the scope."""

    def __init__(self, setting: Setting) -> None:
        self._wanted = setting.device.type == "cuda" and shutil.which("nvidia-smi") is not None
        self._index = setting.device.index or 0
        self._process: subprocess.Popen[str] | None = None
        self._samples: list[float] = []

    def __enter__(self) -> Utilisation:
        if self._wanted:
            command = ["nvidia-smi", f"--id={self._index}", "--query-gpu=utilization.gpu"]
            command += ["--format=csv,noheader,nounits", "--loop-ms=200"]
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            printed = self._process.communicate(timeout=10)[0]
            self._samples = [float(line) for line in printed.split() if line.isdigit()]

    def mean(self) -> float | None:
        """The mean of the samples above 0, since processes start and end without the GPU; None without samples."""
        used = [sample for sample in self._samples if sample > 0]
        return statistics.mean(used) if used else None
