"""Base of all executors: they own the networks, and carry one training step across the output boundary."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from codistill.errors import UserError
from codistill.execution.averages import Averages
from codistill.execution.mixing import MixedNetwork
from codistill.execution.onednn_guard import safe_convolutions
from codistill.execution.options import ExecutionOptions
from codistill.methods import Method
from codistill.peers import PeerGroup, Teachers
from codistill.types import PeerOutputs, Progress, StepOutput

if TYPE_CHECKING:
    from codistill.execution.world import World

__all__ = ["AMP", "Executor", "through_boundary"]

AMP = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Name of a mixed precision -> dtype."""


class Executor:
    """Runs the peers of one group one after the other, in one autograd graph; subclasses run them otherwise.

    A method sees nothing but the outputs that it is given here. An executor owns the group and all that stands next to
    it: frozen teachers, moving averages, the mixed network. It is built from the method's `Needs`, lives until `close`,
    and may be used as a context manager.

    Args:
        group: the peers, on their device.
        method: the loss on their outputs.
        options: how the networks run; an executor reads those that it names in `takes`, and `amp` and `average`.
        teachers: frozen teachers, on the same device.

    Raises:
        UserError: the method needs something that this group, these teachers or this executor cannot give.

    Attributes:
        name: by which it is chosen.
        takes: fields of `ExecutionOptions` that it reads besides those that all read.
        evaluates_as: name of the executor to score a finished run with, where it is not this one.
        in_several: name of the executor that stands for this one in each of several processes; None: it runs in one.
        elsewhere: parameters of the group that other processes train.
    """

    name: ClassVar[str]
    takes: ClassVar[frozenset[str]] = frozenset()
    evaluates_as: ClassVar[str | None] = None
    in_several: ClassVar[str | None] = None
    elsewhere: Sequence[nn.Parameter] = ()

    def __init__(
        self,
        group: PeerGroup,
        method: Method,
        options: ExecutionOptions | None = None,
        teachers: Sequence[nn.Module] | Teachers = (),
    ) -> None:
        self.group, self.method, self.options = group, method, options or ExecutionOptions()
        self.teachers = teachers if isinstance(teachers, Teachers) else Teachers(teachers)
        self.amp = AMP.get(self.options.amp)
        needs = method.needs
        if len(self.teachers) and len(self.teachers) != method.shape.teachers:
            raise UserError(
                f"{len(self.teachers)} teachers for a method built for {method.shape.teachers}: build the method with "
                f"teachers={len(self.teachers)}."
            )
        if self.options.cuda_graphs and not method.recordable:
            raise UserError(
                f"cuda_graphs with {type(method).__name__}: its step needs the host, so it cannot be recorded; turn "
                "cuda_graphs off."
            )
        if needs.averaged is not None and self.options.average is not None:
            raise UserError(
                f"average {self.options.average} with {type(method).__name__}, which averages by its own decay "
                f"{needs.averaged}: leave --average out."
            )
        decay = needs.averaged if needs.averaged is not None else self.options.average
        self.averages = None if decay is None else Averages(group, decay)
        self.mixed = MixedNetwork(group) if needs.mixed else None
        self._safe = safe_convolutions(group, self.teachers)

    @classmethod
    def refusal(cls, kind: str, device: str) -> str | None:
        """Why this executor cannot run "networks", "branches" or a "tree" on a device; None where it can."""
        return None

    @property
    def world(self) -> World | None:
        """This process among those that train the group together; None where it is alone."""
        return None

    def check_holds(self, peer: int) -> None:
        """UserError where this process does not have the weights of a student as they are now."""

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back what the executor holds beyond memory (processes, for one); the networks stay as they are."""

    def settled(
        self, views: Tensor | Sequence[Tensor], labels_B: Tensor, progress: Progress
    ) -> tuple[Executor, Any | None]:
        """The executor to train with, found by trial on such a batch where this one stands for a choice, and the trial.

        Group, method and random state stay as they are.
        """
        return self, None

    def parameters(self) -> list[nn.Parameter]:
        """What the optimizer is to hold: the parameters of group and method that are trained."""
        return [p for module in (self.group, self.method) for p in module.parameters() if p.requires_grad]

    def modules(self) -> dict[str, nn.Module]:
        """What a checkpoint holds the weights of: students, method and moving averages, not the frozen teachers."""
        found: dict[str, nn.Module] = {"group": self.group, "method": self.method}
        return found if self.averages is None else {**found, "averages": self.averages.group}

    def state(self) -> dict[str, Any]:
        """All that changes and is no weight; plain data, for `restore`."""
        return {"steps": 0 if self.averages is None else self.averages.steps}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to where `state` was taken; the caller loads the weights."""
        if self.averages is not None:
            self.averages.steps = state["steps"]

    def train(self, mode: bool = True) -> None:
        """Put group and method into training (or evaluation) mode."""
        self.group.train(mode)
        self.method.train(mode)

    def train_step(
        self,
        views: Tensor | Sequence[Tensor],
        labels_B: Tensor,
        progress: Progress,
        turn: int | None = None,
        *,
        sample_weights: Tensor | None = None,
        ignore_index: int | None = None,
        scale: float | Tensor | None = None,
    ) -> tuple[StepOutput, PeerOutputs]:
        """Forward, the method's loss on the outputs, and backward; gradients are added to the parameters' `.grad`.

        Students that the step does not move (`StepOutput.update_P`, and all but `turn`) get no gradient: the `.grad` of
        what only they run through stays as it was, None where it was None, so that an optimizer passes them over.

        Args:
            views: inputs [B, ...], such as images [B, C, H, W], one tensor for all peers or one per peer.
            labels_B: class indices [B, ...], or probabilities.
            progress: position in the run.
            turn: the student whose loss alone is differentiated and who alone moves; None for the whole loss.
            sample_weights: of the method's batch means, [B] or [B, ...]; see `Method.forward`.
            ignore_index: label of the rows that count for nothing; see `Method.forward`.
            scale: factor on the loss that is differentiated, and so on all gradients; the returned step is without it.

        Returns:
            The method's step (detached from the networks) and the outputs it was computed from (leaves).
        """
        outputs = self.forward(views)
        boundary = outputs.at_boundary()
        step = self.method(boundary, labels_B, progress, sample_weights, ignore_index)
        loss = step.loss if turn is None else step.loss_by_peer[turn]
        (loss if scale is None else loss * scale).backward()
        paused = self._paused(step, turn)
        boundary.silence(paused)
        # Taken away and put back, since the mixed network's gradient reaches every peer, and zeros are no None.
        untouched = [(parameter, parameter.grad) for parameter in self.group.owned_parameters(paused)]
        for parameter, _ in untouched:
            parameter.grad = None
        self._carry_back(outputs, boundary)
        for parameter, gradient in untouched:
            parameter.grad = gradient
        return step, boundary

    def after_step(self) -> None:
        """To be called after the optimizer's step: the moving averages follow."""
        if self.averages is not None:
            self.averages.follow(self.group)

    def assemble(self) -> None:
        """Bring the weights of all students, and their averages, to this process; each of several must call it."""

    def forward(self, views: Tensor | Sequence[Tensor]) -> PeerOutputs:
        """All that the method needs of one batch, in the group's mode; teachers and the like in training mode only."""
        device = views.device if isinstance(views, Tensor) else views[0].device
        with self._safe, torch.autocast(device.type, dtype=self.amp, enabled=self.amp is not None):
            outputs = self._run(views)
            return self._with_others(outputs, views) if self.group.training else outputs

    @torch.no_grad()
    def predict(self, images: Tensor) -> PeerOutputs:
        """What is to be deployed, without a graph: the peers' outputs, or those of their moving averages.

        In the mode that the caller has set; logits in fp32. The averages where the method or the options say so.
        """
        with self._safe, torch.autocast(images.device.type, dtype=self.amp, enabled=self.amp is not None):
            averages = self.deployed_averages
            outputs = self._run(images) if averages is None else averages.run(images)
        return dataclasses.replace(outputs, logits_PBC=outputs.logits_PBC.float())

    @property
    def deployed_averages(self) -> Averages | None:
        """The moving averages where they are what is scored and handed back; None where the peers themselves are."""
        return self.averages if self.method.deploys_average or self.options.average is not None else None

    def student(self, peer: int) -> nn.Module:
        """The student to deploy as the plain network, a copy: see `PeerGroup.student`."""
        averages = self.deployed_averages
        return (self.group if averages is None else averages.group).student(peer)

    def compile(self, backend: str = "inductor") -> None:
        """Compile the networks' forward and backward passes with torch.compile, at the first step of each kind.

        Raises:
            UserError: this executor cannot be compiled.
        """
        raise UserError(f"compile with the executor {self.name!r}: it cannot be compiled; leave one of them out.")

    def _paused(self, step: StepOutput, turn: int | None) -> list[int]:
        peers = range(self.group.shape.peers)
        moved = [True] * len(peers) if step.update_P is None else step.update_P.tolist()
        return [peer for peer in peers if not moved[peer] or turn not in (None, peer)]

    def _run(self, views: Tensor | Sequence[Tensor]) -> PeerOutputs:
        """The group's own outputs; what a subclass replaces."""
        return self.group(views)

    def _with_others(self, outputs: PeerOutputs, views: Tensor | Sequence[Tensor]) -> PeerOutputs:
        """The outputs with those of teachers, averages and the mixed network."""
        self._check_teachers()
        outputs = self.teachers.add_to(outputs, views)
        if self.mixed is not None:
            outputs = dataclasses.replace(outputs, mixed_logits=self.mixed.run(views))
        if self.averages is not None and self.method.needs.averaged is not None:
            outputs = self.averages.add_to(outputs, views)
        return outputs

    def _check_teachers(self) -> None:
        if len(self.teachers) != self.method.shape.teachers:
            raise UserError(
                f"{len(self.teachers)} teachers for a method built for {self.method.shape.teachers}: give "
                "codistill.execution.build the teachers."
            )

    def _carry_back(self, outputs: PeerOutputs, boundary: PeerOutputs) -> None:
        through_boundary(outputs, boundary)


def through_boundary(outputs: PeerOutputs, boundary: PeerOutputs) -> None:
    """Carry the gradients collected at the boundary's leaves back into the networks that made `outputs`."""
    tensors: list[Tensor] = []
    gradients: list[Tensor] = []
    for tensor, leaf in zip(outputs.tensors(), boundary.tensors(), strict=True):
        if tensor.requires_grad and leaf.grad is not None:
            tensors.append(tensor)
            gradients.append(leaf.grad.to(tensor.dtype))
    if tensors:
        torch.autograd.backward(tensors, gradients)
