"""The fused executor: peers of one architecture as one network, for networks too small to keep a device busy alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from codistill.errors import UserError
from codistill.execution.base import Executor
from codistill.execution.fusing import FusedNetwork
from codistill.execution.onednn_guard import safe_convolutions
from codistill.execution.options import ExecutionOptions
from codistill.methods import Method
from codistill.peers import NetworkGroup, PeerGroup, Teachers
from codistill.peers.features import Classifier
from codistill.peers.shared import SharedGroup
from codistill.tracing.modes import modes_kept
from codistill.tracing.probe import first_line
from codistill.types import PeerOutputs

__all__ = ["FusedExecutor"]

CLOSE = 1e-2
"""Of the largest output; rounding, of reduced precision too, stays far below it, and peers that are mixed do not."""


class FusedExecutor(Executor):
    """All networks, or all branches behind one trunk, run as one; see `Executor` and `FusedNetwork`.

    Results equal those of `loop` to rounding; dropout draws other, equally independent masks.

    Args:
        group: the peers, on their device and in their dtype: both stay as they are from now on.
        method: the loss on their outputs.
        options: see `Executor`.
        teachers: see `Executor`.

    Raises:
        UserError: peers of different architectures, a tree of more than one split, maps or heads inside the networks,
            inputs that are no images, logits that are not [B, C], or an operation that cannot be fused, named.
    """

    name = "fused"
    takes: ClassVar[frozenset[str]] = frozenset({"compile", "cuda_graphs"})

    def __init__(
        self,
        group: PeerGroup,
        method: Method,
        options: ExecutionOptions | None = None,
        teachers: Sequence[nn.Module] | Teachers = (),
    ) -> None:
        super().__init__(group, method, options, teachers)
        if group.maps:
            raise UserError(
                f"executor 'fused' with a method that reads {', '.join(group.maps)}: it gives logits and features "
                "only; use the executor 'loop'."
            )
        if isinstance(self.group, NetworkGroup):
            networks, classifier, unfused = list(self.group.networks), self.group.classifiers[0], []
        elif isinstance(self.group, SharedGroup) and len(self.group.splits) == 1:
            networks, classifier = list(self.group.levels[0].children()), self.group.classifier
            unfused = [self.group.trunk]
        else:
            what = "a tree of several splits" if isinstance(self.group, SharedGroup) else type(group).__name__
            raise UserError(f"executor 'fused' cannot fuse {what}: give networks or branches, or use 'loop'.")
        _refuse_all_but_images_and_logits(group, classifier)
        # An operation that mixes channels would mix peers, by broadcasting for one; a list of operations is no proof.
        first = next(self.group.parameters())
        images = torch.randn(2, *self.group.image_shape, generator=torch.Generator().manual_seed(0)).to(first)
        # Before their weights lie in those of the fused network, in its layout.
        expected = _evaluated([self.group], partial(self.group, images))
        self.network = FusedNetwork(networks, classifier)
        # The mixed network is no part of the fused one.
        self._safe = safe_convolutions(self.network, self.teachers, *unfused, *([group] if self.mixed else []))
        self._refuse_unless_same(images, expected)

    def train(self, mode: bool = True) -> None:
        """See `Executor.train`; the fused layers follow the peers' own."""
        super().train(mode)
        self.network.train(mode)
        self.network.follow()

    def compile(self, backend: str = "inductor") -> None:
        """See `Executor.compile`; what lies before the fused network stays as it is."""
        self.network.compile(backend=backend)

    def _carry_back(self, outputs: PeerOutputs, boundary: PeerOutputs) -> None:
        super()._carry_back(outputs, boundary)
        self.network.hand_gradients_over()

    def _run(self, views: Tensor | Sequence[Tensor]) -> PeerOutputs:
        if self.network.training != self.group.training:
            self.network.train(self.group.training)
        return self._run_fused(views)

    def _run_fused(self, views: Tensor | Sequence[Tensor]) -> PeerOutputs:
        if isinstance(self.group, SharedGroup):
            values, trunk = self.group.run_trunk(views)
            if any(len(value) > 1 for value in values):
                raise UserError(
                    f"executor 'fused' cannot fuse branches at {next(iter(self.group.splits))!r}: more than one "
                    "value crosses this split; choose another one, or use the executor 'loop'."
                )
            inputs = [value[0] for value in values]
        else:
            inputs, trunk = self.group.view_of_each(views), None
        logits_PBC, features = self.network(inputs)
        return PeerOutputs(logits_PBC, features, trunk)

    def _refuse_unless_same(self, images: Tensor, expected: PeerOutputs) -> None:
        try:
            found = _evaluated([self.group, self.network], partial(self._run_fused, images))
        except (RuntimeError, TypeError) as error:
            reason = first_line(error)
        else:
            pairs = zip(found.tensors(), expected.tensors(), strict=True)
            # Outputs that overflow on random images prove nothing.
            sound = [(ours, theirs) for ours, theirs in pairs if theirs.isfinite().all()]
            if all((ours - theirs).abs().max() <= CLOSE * theirs.abs().max() for ours, theirs in sound):
                return
            reason = "its outputs would be others"
        raise UserError(
            f"executor 'fused' cannot fuse peers of this architecture ({reason}): use the executor 'loop' (auto does "
            "so by itself)."
        )


def _refuse_all_but_images_and_logits(group: PeerGroup, classifier: Classifier) -> None:
    if not group.input_dtype.is_floating_point:
        what = f"inputs of {group.input_dtype}"
    elif classifier.positions:
        what = "logits that have positions"
    elif group.reader.output is not None:
        what = f"the output {group.reader.output!r}"
    else:
        return
    raise UserError(
        f"executor 'fused' cannot fuse networks with {what}: it takes networks that make logits [B, C] of images; use "
        "the executor 'loop'."
    )


@torch.no_grad()
def _evaluated(roots: Sequence[nn.Module], run: Callable[[], PeerOutputs]) -> PeerOutputs:
    """Outputs in evaluation mode, which changes nothing of the networks."""
    with modes_kept(*roots):
        for root in roots:
            root.eval()
        return run()
