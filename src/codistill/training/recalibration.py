"""Batch-norm statistics estimated from training images with the weights as they are, for networks that are evaluated.

In training, running statistics follow with each norm's momentum. In a short run, or with a small momentum, they are
still near their start values, and a network that has learned well is at chance in evaluation mode.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from codistill.execution import AMP
from codistill.peers import PeerGroup
from codistill.training.batches import plain_batches
from codistill.training.seeds import generator_for
from codistill.training.session import Session

__all__ = ["LEFT", "calibrated", "lent", "share_of_start", "wanted"]

LEFT = 0.05
"""Share of their start values in the statistics, above which these are no statistics of the images."""

USUAL = 0.1
"""The momentum of most networks. With a smaller one, the statistics are estimated unless the run forbids it; with this
one they are late in runs of fewer than 29 batches only."""

BATCHES = 50
"""How many batches are read at most."""


def share_of_start(group: PeerGroup, batches: int) -> tuple[float, float] | None:
    """Return (1 - m)^batches, the share of their start values in the statistics, and the smallest momentum m.

    None where no norm of the group averages with a momentum. Frozen norms do not count.
    """
    still = {id(group.get_submodule(path)) for path in group.still}
    momenta = [m.momentum for m in _norms(group) if m.momentum is not None and id(m) not in still]
    if not momenta:
        return None
    least = float(min(momenta))
    return (1 - least) ** batches, least


def wanted(session: Session, held_out: bool = False) -> bool:
    """Whether the run estimates statistics for its evaluations; `held_out`: for what its method learns from them."""
    asked, group = session.config.recalibrate_bn, session.executor.group
    if asked == "off" or not _norms(group):
        return False
    left = share_of_start(group, session.epochs * session.steps)
    return held_out or asked == "on" or (left is not None and left[0] > LEFT and left[1] < USUAL)


def calibrated(session: Session, held_out: bool = False) -> dict[str, Tensor] | None:
    """Return statistics for the networks to deploy, by the names of their buffers; None where the run asks for none.

    With `held_out` they are for the predictions that a method's weights come from (`kdcl_general`), and are estimated
    unless the run forbids it: running statistics that lag behind make these predictions, and so the weights, noise.

    They are the mean over up to 50 batches of training images, distorted as in training (one view for all students,
    nothing mixed), drawn from a generator of their own. The state of the run does not change.
    """
    s, group = session, _deployed(session)
    if not wanted(session, held_out):
        return None
    buffers = {name: b for name, b in group.named_buffers() if _is_statistic(name)}
    before = {name: b.clone() for name, b in buffers.items()}
    was_training = group.training
    group.eval()
    still = {id(group.get_submodule(path)) for path in s.executor.group.still}
    norms = [norm for norm in _norms(group) if id(norm) not in still]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all batches
    generator = generator_for(s.config.seed, "recalibration")
    try:
        with torch.no_grad(), _precision(s):
            for views in plain_batches(s, generator, BATCHES):
                group(views)
        return {name: b.clone() for name, b in buffers.items()}
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        _fill(buffers, before)
        group.train(was_training)


@contextmanager
def lent(session: Session, statistics: Mapping[str, Tensor] | None) -> Iterator[None]:
    """Let the networks to deploy have these statistics for a while; None: their own."""
    if statistics is None:
        yield
        return
    buffers = dict(_deployed(session).named_buffers())
    own = {name: buffers[name].clone() for name in statistics}
    _fill(buffers, statistics)
    try:
        yield
    finally:
        _fill(buffers, own)


def _deployed(session: Session) -> PeerGroup:
    averages = session.executor.deployed_averages
    return session.executor.group if averages is None else averages.group


def _norms(group: PeerGroup) -> list[nn.modules.batchnorm._BatchNorm]:
    kind = nn.modules.batchnorm._BatchNorm
    return [m for m in group.modules() if isinstance(m, kind) and m.track_running_stats and m.running_mean is not None]


def _is_statistic(name: str) -> bool:
    return name.rpartition(".")[2] in ("running_mean", "running_var", "num_batches_tracked")


def _precision(session: Session) -> torch.autocast:
    dtype = AMP.get(session.config.amp)
    return torch.autocast(session.device.type, dtype=dtype, enabled=dtype is not None)


@torch.no_grad()
def _fill(buffers: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    for name, value in values.items():
        buffers[name].copy_(value)
