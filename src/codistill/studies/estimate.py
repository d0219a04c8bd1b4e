"""How much computation a study takes: multiply-accumulates, and hours by a short timing or a GPU's data sheet."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from codistill import models
from codistill.data import SOURCES
from codistill.errors import unknown
from codistill.peers.defaults import default_split
from codistill.studies.run_list import make_run_list
from codistill.studies.study import Study
from codistill.tracing.cost import TRAINING_FORWARDS
from codistill.training import Config
from codistill.training.check import parse_splits

__all__ = ["GPUS", "gpu_rate", "measured_rate", "study_macs"]

GPUS = {"t4": 65, "v100": 125, "a100": 312, "rtx4090": 165, "h100": 989, "h200": 989}
"""Published peak of dense half-precision tensor operations, in 1e12 floating-point operations per second."""

USED_SHARE = 0.3
"""The assumed share of the published peak that training of convolutional networks reaches."""

PROBES = {"paper": ("resnet32", 32, 32), "gpu": ("resnet32", 32, 32), "cpu": ("resnet8_tiny", 16, 64)}
PROBES["smoke"] = ("resnet8_tiny", 8, 64)
"""Profile -> network, image size and batch whose training step is timed."""


def study_macs(studies: Sequence[Study], seeds: int) -> float:
    """Return the multiply-accumulates of all training in these studies; shared runs count once."""
    runs = make_run_list(studies, seeds, Path()).runs
    return float(sum(_run_macs(run.config) for run in runs))


def measured_rate(profile: str) -> float:
    """Return multiply-accumulates per second of one CPU thread, from a few training steps of the profile's network."""
    name, size, batch = PROBES[profile]
    net, threads = models.build(name, 100), torch.get_num_threads()
    x_BCHW, y_B = torch.randn(batch, 3, size, size), torch.zeros(batch, dtype=torch.int64)
    torch.set_num_threads(1)
    try:
        times = []
        for _ in range(5):
            start = time.perf_counter()
            functional.cross_entropy(net(x_BCHW), y_B).backward()
            times.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    macs = sum(_stage_macs(name, 100, 3, size).values())
    return TRAINING_FORWARDS * macs * batch / statistics.median(times[1:])


def gpu_rate(name: str) -> float:
    """Return multiply-accumulates per second of a GPU, a share of its published peak; UserError for an unlisted one."""
    if name not in GPUS:
        raise unknown("GPU", name, GPUS)
    return GPUS[name] * 1e12 / 2 * USED_SHARE


def _run_macs(config: Config) -> int:
    facts = SOURCES[config.data]
    images = config.train_subset or round((facts.train_images or 0) * (1 - config.validation))
    assert config.epochs is not None
    return TRAINING_FORWARDS * _group_macs(config) * images * config.epochs


def _group_macs(config: Config) -> int:
    """Return those of one image through all students of the group, with shared layers once."""
    facts = SOURCES[config.data]
    size, classes, channels = config.image_size or facts.image_size or 224, facts.classes or 1000, facts.channels or 3
    if config.group == "networks":
        names = config.model * ((config.peers or 1) // len(config.model))
        return sum(sum(_stage_macs(name, classes, channels, size).values()) for name in names)
    stages = _stage_macs(config.model[0], classes, channels, size)
    splits = parse_splits(config.split) if config.group == "tree" else {_default_split(config.model[0]): config.peers}
    copies, total = 1, 0
    for stage, macs in stages.items():
        copies *= splits.get(stage) or 1
        total += copies * macs
    return total


@functools.cache
def _default_split(name: str) -> str:
    with torch.device("meta"):
        return default_split({**models.OWN, **models.TORCHVISION}[name](num_classes=2, in_channels=3))


@functools.cache
def _stage_macs(name: str, classes: int, channels: int, size: int) -> dict[str, int]:
    """Return the multiply-accumulates of a network's top-level modules for one image, in their order."""
    make = {**models.OWN, **models.TORCHVISION}[name]
    with torch.device("meta"):
        net = make(num_classes=classes, in_channels=channels).eval()
        image_1CHW = torch.empty(1, channels, size, size)
    counter = FlopCounterMode(display=False, depth=2)
    with counter, torch.no_grad():
        net(image_1CHW)
    flops = counter.get_flop_counts()
    root = type(net).__name__
    return {name: sum(flops.get(f"{root}.{name}", {}).values()) // 2 for name, _ in net.named_children()}
