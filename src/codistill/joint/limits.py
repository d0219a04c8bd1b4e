"""What a `Joint` cannot train, each said in one sentence."""

from __future__ import annotations

from torch import nn

from codistill.errors import UserError
from codistill.methods import Method
from codistill.peers import PeerGroup
from codistill.types import StepOutput

__all__ = ["refuse", "refuse_partial_step", "refuse_replica"]


def refuse(group: PeerGroup, method: Method, teachers: int, peer: int | None) -> None:
    """UserError for a method that one backward pass cannot train, or that does not fit these arguments."""
    name, last = type(method).__name__, group.shape.peers - 1
    if method.needs.turns:
        raise UserError(
            f"{name} with alternating updates in a Joint: its students take turns, each with an optimizer step of its "
            "own; use updates='simultaneous', or codistill.train."
        )
    if teachers != method.shape.teachers:
        raise UserError(
            f"{teachers} teachers for a method built for {method.shape.teachers}: give Joint(..., teachers=[...]) as "
            "many as codistill.methods.build(..., teachers=...) was told."
        )
    if peer is not None and not 0 <= peer <= last:
        raise UserError(f"peer {peer} of a group of {last + 1}: give 0 to {last}, or None for the leader.")


def refuse_partial_step(method: Method, step: StepOutput) -> None:
    """UserError where a step moves some students and leaves the others, with their momentum, as they are."""
    if step.update_P is not None:
        raise UserError(
            f"{type(method).__name__} in a Joint: a step moves only some of its students, which one backward pass of a "
            'trainer cannot do; use codistill.execution.build("loop", ...) or codistill.train.'
        )


def refuse_replica(joint: nn.Module) -> None:
    """UserError in a copy that DataParallel runs in a thread of its own."""
    if getattr(joint, "_is_replica", False):
        raise UserError(
            "the Joint is wrapped in DataParallel over several devices, whose threads would watch each other's layers: "
            "use DistributedDataParallel, or one device."
        )
