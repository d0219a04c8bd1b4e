"""Groups of the benchmark as sessions, whose steps are those that a run takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from codistill import execution, methods, models
from codistill.data import AugmentPolicy, Dataset, ImageSet
from codistill.execution import Executor, LoopExecutor
from codistill.training import Config, OptimConfig
from codistill.training.batches import Batch
from codistill.training.groups import build_group
from codistill.training.numerics import kernels
from codistill.training.optimizer import make_optimizer
from codistill.training.session import Session
from codistill.training.step import TrainingStep
from codistill.types import Progress
from on_gpu.clock import recording_of
from ratios.steps import TINY, Size

__all__ = ["SIZES", "group_kind", "random_batch", "random_dataset", "session_of", "settle", "step_of"]

RESNET20 = Size("ResNet-20, batch 128, 3 × 32 × 32", partial(models.build, "resnet20"), (3, 32, 32), 128, 100)
RESNET32 = Size("ResNet-32, batch 128, 3 × 32 × 32", partial(models.build, "resnet32"), (3, 32, 32), 128, 100)
TOY = Size("toy: ResNet-8 of width 8, batch 8, 1 × 8 × 8", TINY.make, (1, 8, 8), 8, 10)
SIZES = {"tiny": TINY, "resnet20": RESNET20, "resnet32": RESNET32, "toy": TOY}

LR = 1e-3
"""So low that random labels do no harm in many steps."""

_layouts: dict[tuple[str, str, str], bool] = {}
"""Whether a network of that size, precision and device is laid out channels last; measured once, as a run does."""


def random_dataset(size: Size, images: int) -> Dataset:
    """Return random images and labels in memory."""
    own = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, *size.image), dtype=torch.uint8, generator=own)
    part = ImageSet(pixels, torch.arange(images) % size.classes)
    classes = tuple(str(label) for label in range(size.classes))
    grey = (0.5,) * size.image[0]
    return Dataset("random", part, part, classes, grey, grey, AugmentPolicy(4, True), 1, "made for a measurement")


def random_batch(size: Size, device: torch.device, views: int = 1, dtype: torch.dtype = torch.float32) -> Batch:
    """Return one batch on the device: one tensor for all students, or one per student."""
    own = torch.Generator().manual_seed(0)
    images = [torch.randn(size.batch, *size.image, generator=own).to(device, dtype) for _ in range(views)]
    labels_B = torch.randint(size.classes, (size.batch,), generator=own).to(device)
    return Batch(images[0] if views == 1 else tuple(images), labels_B, labels_B)


def group_kind(method: str) -> str:
    """Return the kind of group in which a method is measured: branches if it reads or rescales what peers share."""
    needs = methods.needs_of(method, {})
    return "branches" if needs.trunk or needs.rescale_shared_gradients else "networks"


def session_of(
    size: Size,
    peers: int,
    device: torch.device,
    *,
    method: str = "ind",
    kind: Callable[..., Executor] = LoopExecutor,
    group: str = "networks",
    amp: str = "off",
    dtype: torch.dtype = torch.float32,
    lr: float = LR,
    channels_last: bool | None = None,
    network: nn.Module | None = None,
    **settings: Any,
) -> Session:
    """Return a group with its executor and optimizer, initialised from seed 0; it has no data.

    Args:
        size: network, image and batch.
        peers: students.
        device: where they train.
        method: by name.
        kind: the executor's class.
        group: "networks" or "branches".
        amp: "bf16" or "off".
        dtype: of the parameters.
        lr: learning rate.
        channels_last: the layout; None: what a run would choose, measured once per size.
        network: another network than the size's.
        settings: more fields of `Config`.
    """
    config = Config(
        method=method, model=("own",), peers=peers, group=group, epochs=300, batch_size=size.batch,  # pyright: ignore[reportArgumentType]
        device=str(device), amp=amp, optim=OptimConfig(lr=lr, weight_decay=5e-4), **settings,  # pyright: ignore[reportArgumentType]
    )  # fmt: skip
    given = size.make(size.classes, size.image[0]) if network is None else network
    built = build_group(config, size.classes, size.image, given)
    teachers = [_teacher(config, size, given)] if methods.needs_of(method, {}).teachers == "required" else []
    own = torch.Generator().manual_seed(0)
    loss = methods.build(method, built, generator=own, teachers=len(teachers), **config.method_options)
    for module in (built, loss, *teachers):
        module.to(device, dtype)
    if channels_last is None:
        channels_last = _layout(size, config, built)
    execution.lay_out(built, size.image, channels_last)
    if loss.needs.held_out > 0:
        # In a run, KDCL-General takes its weights from held-out images. Their values do not change what a step costs.
        prob_PNC = torch.rand(peers, 64, size.classes, generator=own).softmax(-1)
        loss.renew(prob_PNC.to(device), torch.randint(size.classes, (64,), generator=own).to(device))
    executor = kind(built, loss, config, teachers)
    executor.train()
    optimizer = make_optimizer(config.optim, executor.parameters())
    # A step reads no data.
    data: Any = None
    return Session(config, random_dataset(size, 1), data, device, executor, optimizer, {})


def step_of(session: Session, batch: Batch, graphs: bool) -> Callable[[], None]:
    """Return the step of a run on this batch, as a function that is called again and again."""
    step = TrainingStep(session, recording_of(session.device) if graphs else None)

    def take() -> None:
        with kernels(session.config):
            step(batch, 150.0, LR)

    return take


def settle(session: Session, batch: Batch) -> tuple[str, bool, dict[str, float], dict[str, str]]:
    """Let `auto` choose, and train with that.

    Returns:
        The executor's name, whether with graphs, the seconds of each way in the trial, and why others were not tried.
    """
    with kernels(session.config):
        chosen, trial = session.executor.settled(batch.views, batch.labels, Progress(150, 300))
    session.executor = chosen
    chosen.train()
    if trial is None:
        return chosen.name, False, {}, {}
    return trial.chosen, trial.cuda_graphs, dict(trial.seconds), dict(trial.refused)


def _teacher(config: Config, size: Size, network: nn.Module) -> nn.Module:
    alone = dataclasses.replace(config, peers=1, seed=1, group="networks")
    return build_group(alone, size.classes, size.image, network).student(0).eval().requires_grad_(False)


def _layout(size: Size, config: Config, group: nn.Module) -> bool:
    key = (size.name, config.amp, config.device)
    if key not in _layouts:
        amp = torch.bfloat16 if config.amp == "bf16" else None
        with kernels(config):
            _layouts[key] = execution.lay_out(group, size.image, None, batch=size.batch, amp=amp)
    return _layouts[key]
