"""Checks of how networks run on the device: executors, graphs, averages, the choices of layout and executor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from codistill import execution
from codistill.execution import AutoExecutor, FusedExecutor, LoopExecutor, RecomputeExecutor
from codistill.training.numerics import kernels
from codistill.types import Progress
from on_gpu.rivals import StreamsExecutor
from on_gpu.sessions import random_batch
from on_gpu.toys import TINY, Trace, distance, session_on, traced

__all__ = ["CHECKS"]

LOSS, GRADIENT, WEIGHT = 3e-4, 3e-2, 1e-3
"""Relative tolerance in fp32 (no TF32) of each step's loss, and of gradients and weights after eight steps. One step on
its own moves the gradients by up to a thousandth: a rounding decides on which side of zero a ReLU's input lies."""

WIDE = {"loss": 1e-6, "gradient": 1e-6, "weight": 1e-7}
"""The same in fp64; the losses are summed in fp32."""


def agree(
    found: Trace, expected: Trace, loss: float = LOSS, gradient: float = GRADIENT, weight: float = WEIGHT
) -> None:
    """AssertionError unless losses, gradients and weights of two traces are equal to the tolerance."""
    apart = float(((found.losses - expected.losses) / expected.losses).abs().max())
    assert apart <= loss, f"losses differ by a share of {apart:.2e}: {found.losses} and {expected.losses}"
    for name, allowed in (("gradients", gradient), ("weights", weight)):
        share = distance(getattr(found, name), getattr(expected, name))
        assert share <= allowed, f"{name} differ by a share of {share:.2e}, {allowed:.0e} is allowed"


def _agrees_with_loop(kind: Callable[..., Any], views: int, graphs: bool, device: torch.device) -> None:
    for dtype, tolerance in ((torch.float64, WIDE), (torch.float32, {})):
        expected = traced(session_on(device, icl=views > 1, dtype=dtype), views=views)
        found = traced(session_on(device, icl=views > 1, dtype=dtype, kind=kind), graphs, views=views)
        agree(found, expected, **tolerance)


def trial_changes_nothing(device: torch.device) -> None:
    """`auto` picks a way on the device, and leaves group, method and random states as they were."""
    session = session_on(device, kind=AutoExecutor, method="okddip", peers=4, amp="bf16")
    batch, executor = random_batch(TINY, device), session.executor
    before = _everything(executor.modules(), device)
    with kernels(session.config):
        chosen, trial = executor.settled(batch.views, batch.labels, Progress(1, 3))
    after = _everything(executor.modules(), device)
    # Another executor may have moved the same values elsewhere, but changes none.
    changed = [name for name, value in before.items() if not torch.equal(value, after[name])]
    assert not changed, f"the trial has changed {', '.join(changed)}"
    assert trial is not None
    assert trial.chosen == chosen.name
    assert trial.seconds or device.type == "cpu", f"nothing was timed: {trial}"
    if device.type == "cuda":
        missing = {"loop with graphs", "fused with graphs"} - trial.seconds.keys()
        assert not missing, f"not tried: {missing} ({trial})"


def layout_is_chosen(device: torch.device) -> None:
    """Channels last is chosen by time on a GPU; values and random states stay, and the layout is what was said."""
    session = session_on(device, method="ind")
    group = session.executor.group
    before = _everything({"group": group}, device)
    with kernels(session.config):
        done = execution.lay_out(group, TINY.image, None, batch=TINY.batch)
    after = _everything({"group": group}, device)
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    weights = [p for p in group.parameters() if p.ndim == 4 and p.shape[1] > 1 and p.shape[2] > 1]
    assert all(p.is_contiguous(memory_format=torch.channels_last) == done for p in weights)
    traced(session)


def averages_follow(graphs: bool, device: torch.device) -> None:
    """Moving averages on the device are the recurrence written by hand on the CPU."""
    decay, steps = 0.9, 8
    expected: Tensor | None = None
    for number in range(1, steps + 1):
        # The weights after each step, from runs of that length.
        weights = traced(session_on(device), steps=number).weights
        share = min(1 - 1 / number, decay)
        expected = weights if expected is None else share * expected + (1 - share) * weights
    assert expected is not None
    session = session_on(device, average=decay)
    traced(session, graphs, steps=steps)
    averages = session.executor.averages
    assert averages is not None
    assert averages.steps == steps
    found = torch.cat([p.detach().double().flatten().cpu() for p in averages.group.parameters()])
    assert distance(found, expected) <= 1e-3, f"averages differ by a share of {distance(found, expected):.2e}"


def bf16_learns(device: torch.device) -> None:
    """With bfloat16 the loss falls as in fp32: a tenth of the way apart at most."""
    losses = {}
    for amp in ("off", "bf16"):
        session = session_on(device, amp=amp, lr=0.02)
        losses[amp] = traced(session, steps=30).losses
    for amp, loss in losses.items():
        assert loss[-1] < 0.9 * loss[0], f"{amp}: the loss goes from {loss[0]:.3f} to {loss[-1]:.3f}"
    apart = abs(float(losses["bf16"][-1] - losses["off"][-1])) / float(losses["off"][0] - losses["off"][-1])
    assert apart <= 0.1, f"the losses end at {losses['off'][-1]:.3f} in fp32 and {losses['bf16'][-1]:.3f} in bf16"


def _everything(modules: Mapping[str, Any], device: torch.device) -> dict[str, Tensor]:
    """Values of all parameters and buffers, and the random states."""
    found = {f"{root}.{name}": value.clone() for root, m in modules.items() for name, value in m.state_dict().items()}
    found["the CPU's random state"] = torch.get_rng_state()
    if device.type == "cuda":
        found["the device's random state"] = torch.cuda.get_rng_state(device)
    return found


def _named() -> dict[str, Callable[[torch.device], None]]:
    kinds = {"fused": FusedExecutor, "recompute": RecomputeExecutor, "streams": StreamsExecutor}
    found: dict[str, Callable[[torch.device], None]] = {}
    for name, kind in kinds.items():
        found[f"{name} agrees with loop, one view for all"] = partial(_agrees_with_loop, kind, 1, False)
        found[f"{name} agrees with loop, a view for each"] = partial(_agrees_with_loop, kind, 3, False)
    for name, kind in {"loop": LoopExecutor, **kinds}.items():
        if name != "recompute":
            found[f"{name} with graphs agrees with loop"] = partial(_agrees_with_loop, kind, 1, True)
            found[f"{name} with graphs agrees with loop, a view for each"] = partial(_agrees_with_loop, kind, 3, True)
    return found


CHECKS: dict[str, Callable[[torch.device], None]] = {
    **_named(),
    "moving averages": partial(averages_follow, False),
    "moving averages with graphs": partial(averages_follow, True),
    "bf16 learns as fp32 does": bf16_learns,
    "the trial of auto changes nothing": trial_changes_nothing,
    "channels last is chosen and kept": layout_is_chosen,
}
"""Name -> check."""
