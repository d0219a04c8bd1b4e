"""What a method must be once it is built, and what its step must give: a user's own may do otherwise."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from codistill.errors import UserError
from codistill.types import GroupShape, Needs, PeerOutputs, StepOutput

__all__ = ["check_built", "check_step"]


def check_built(method: nn.Module, name: str, shape: GroupShape, needs: Needs) -> None:
    """UserError where the constructor left out what the base class sets, or set it out of range."""
    if not all(hasattr(method, attribute) for attribute in ("shape", "leader", "_unmoved")):
        raise UserError(f"method {name!r} is not set up: call super().__init__(shape) first in its constructor.")
    leader = method.leader
    if getattr(method, "deploys_average", False) and needs.averaged is None:
        raise UserError(f"method {name!r} deploys averages and has none: set needs = Needs(averaged=0.999).")
    if leader is not None and not (isinstance(leader, int) and 0 <= leader < shape.peers):
        raise UserError(
            f"method {name!r} names the student {leader!r} as leader of {shape.peers}: give an int from 0 to "
            f"{shape.peers - 1}, or None."
        )


def check_needs_met(needs: Needs, outputs: PeerOutputs, name: str) -> None:
    """UserError where the outputs lack something that the method asks for."""
    executor = "run an executor (codistill.execution.build) after its train(), since only training has them"
    group = "build the method from the group, or call group.provide(method.needs)"
    heads = f"{group}; in evaluation mode there are none"
    averaged = needs.averaged is not None and outputs.averaged_logits_PBC is None
    lacking = [
        (needs.features and not outputs.features, "features", "give one tensor [B, D] per peer"),
        (needs.trunk and outputs.trunk_features is None, "the shared trunk's features", "give [B, D]"),
        (needs.mixed and outputs.mixed_logits is None, "the mixed network's logits", executor),
        (averaged, "the averaged peers' logits", executor),
        *((path not in outputs.maps, f"the map {path!r}", group) for path in needs.maps),
        *((path not in outputs.head_logits, f"the head {path!r}", heads) for path in needs.heads),
    ]
    for lacks, what, remedy in lacking:
        if lacks:
            raise UserError(f"{name} needs {what}, and got none: {remedy}.")


def check_step(step: object, name: str, peers: int, learns: bool, turns: bool) -> None:
    """UserError where a step is not what `StepOutput` says; types and shapes only, so that no device is waited for.

    Args:
        step: what `Method.step` returned.
        name: the method's, for the error.
        peers: P.
        learns: whether the loss must have a gradient.
        turns: whether the students' own losses must have one.
    """
    if not isinstance(step, StepOutput):
        raise UserError(f"the step of {name} gives a {type(step).__name__}: it must return a StepOutput.")
    _check_tensor("loss", name, step.loss, ())
    _check_tensor("loss_by_peer", name, step.loss_by_peer, (peers,))
    for kind, values, shape in (("parts", step.parts, ()), ("diagnostics", step.diagnostics, None)):
        if not isinstance(values, Mapping):
            raise UserError(f"{kind} of the step of {name} is a {type(values).__name__}: give a mapping by name.")
        for key, value in values.items():
            _check_tensor(f"{kind}[{key!r}]", name, value, shape)
    update_P = step.update_P
    if update_P is not None and (
        not isinstance(update_P, Tensor) or update_P.shape != (peers,) or update_P.dtype != torch.bool
    ):
        raise UserError(f"update_P of the step of {name} is {update_P!r}: give a bool tensor [{peers}], or None.")
    differentiated = (("loss", step.loss), ("loss_by_peer", step.loss_by_peer))[: 2 if turns else 1]
    for what, value in differentiated:
        if learns and not value.requires_grad:
            raise UserError(
                f"{what} of the step of {name} does not depend on what the students put out: nothing would be learned; "
                "look for a detach() too many."
            )


def _check_tensor(what: str, name: str, value: object, shape: tuple[int, ...] | None) -> None:
    wanted = "a small tensor" if shape is None else f"a tensor of shape {list(shape)}"
    if not isinstance(value, Tensor):
        raise UserError(f"{what} of the step of {name} is a {type(value).__name__}: give {wanted}.")
    if shape is not None and value.shape != torch.Size(shape):
        raise UserError(f"{what} of the step of {name} has shape {list(value.shape)}: give {wanted}.")
