"""Small data, networks and runs for the checks: seconds each, on any device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from codistill.data import AugmentPolicy, Dataset, ImageSet
from codistill.training import Config, OptimConfig
from codistill.training.numerics import kernels, layer_randomness
from codistill.training.session import Session
from codistill.training.step import TrainingStep
from on_gpu.clock import recording_of, synchronise
from on_gpu.sessions import SIZES, random_batch, session_of

__all__ = ["TINY", "Trace", "distance", "quiet", "toy_config", "toy_data", "toy_network", "traced"]

TINY = SIZES["tiny"]
LR = 0.002
"""So low that rounding is not enlarged from step to step: at 0.02, gradients in fp32 were 13 % apart after eight."""

STEPS = 8
"""More than the calls before a recording, so that a step is recorded, and then replayed."""


def toy_data(images: int = 320, classes: int = 4, size: int = 8) -> Dataset:
    """Return images that show their class as a bright quarter, with noise."""
    own = torch.Generator().manual_seed(0)
    labels_N = torch.arange(images) % classes
    pixels = torch.randint(0, 120, (images, 1, size, size), generator=own)
    half = size // 2
    for label in range(classes):
        top, left = half * (label // 2 % 2), half * (label % 2)
        pixels[labels_N == label, :, top : top + half, left : left + half] += 100
    part = ImageSet(pixels.to(torch.uint8), labels_N)
    names = tuple(f"class {label}" for label in range(classes))
    test = part.take(torch.arange(0, images, 4) + torch.arange(len(range(0, images, 4))) % 4)
    return Dataset("toy", part, test, names, (0.35,), (0.2,), AugmentPolicy(1, False), 3, "made for a check")


def toy_network() -> nn.Module:
    """Return a network with batch norm and dropout, which draws random numbers on the device."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 4),
    )  # fmt: skip


def toy_config(device: torch.device, **changes: Any) -> Config:
    """Return a run of seconds on `toy_data`."""
    usual: dict[str, Any] = {
        "method": "dml", "peers": 2, "epochs": 3, "batch_size": 16, "device": str(device), "amp": "off",
        "executor": "loop", "optim": OptimConfig(lr=0.05, weight_decay=5e-4), "workers": 0, "channels_last": False,
    }  # fmt: skip
    return Config(**(usual | changes))


@dataclass(frozen=True)
class Trace:
    """What some steps gave.

    Attributes:
        losses: of every step.
        gradients: of the last step, one vector.
        weights: after the last step, one vector.
    """

    losses: Tensor
    gradients: Tensor
    weights: Tensor


def traced(session: Session, graphs: bool = False, steps: int = STEPS, views: int = 1) -> Trace:
    """Take steps on one batch while the run moves on from epoch to epoch, and with it what ramps up."""
    like = next(session.executor.group.parameters())
    batch = random_batch(TINY, session.device, views, like.dtype)
    step = TrainingStep(session, recording_of(session.device) if graphs else None)
    losses = []
    # Layers that draw random numbers draw the same ones in every trace.
    with layer_randomness(session):
        for number in range(steps):
            step.meter.clear()
            step(batch, 150.0 * number / steps, rate_of(session))
            losses.append(float(step.meter.loss) / TINY.batch)
    synchronise(session.device)
    parameters = session.executor.parameters()
    gradients = [p.grad for p in parameters if p.grad is not None]
    assert gradients, "no parameter has a gradient"
    return Trace(torch.tensor(losses, dtype=torch.float64), _vector(gradients), _vector(parameters))


def distance(found: Tensor, expected: Tensor) -> float:
    """The length of the difference of two vectors, as a share of the length of the second."""
    return float((found - expected).norm() / expected.norm().clamp_min(1e-30))


def session_on(device: torch.device, peers: int = 3, **settings: Any) -> Session:
    """Return `session_of` the tiny networks, at a learning rate that moves them."""
    return session_of(TINY, peers, device, **{"lr": LR, "channels_last": False, **settings})


@contextmanager
def quiet(device: torch.device) -> Iterator[None]:
    """Within it, an operation that makes the host wait for a CUDA device raises an error."""
    if device.type != "cuda":
        yield
        return
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def step_without_waiting(session: Session, batch: Any, calls: int = 3) -> None:
    """Take steps after a few that set things up; AssertionError if one makes the host wait."""
    step: Callable[..., None] = TrainingStep(session)
    with kernels(session.config):
        for number in range(2 * calls):
            if number < calls:
                step(batch, 1.0, 0.01)
                continue
            try:
                with quiet(session.device):
                    step(batch, 1.0, 0.01)
            except RuntimeError as error:
                raise AssertionError(f"the host waits for the device: {error}") from error


def _vector(tensors: Any) -> Tensor:
    return torch.cat([tensor.detach().double().flatten().cpu() for tensor in tensors])


def rate_of(session: Session) -> float:
    """Return the learning rate that the session was built with."""
    rate = session.config.optim.lr
    assert rate is not None
    return rate
