"""Measure what OKDDip's first level sends through its attention into the peers' features, beside the cross-entropy.

    python docs/methods/attention_gradients.py                             200 digits, a collapse (15 seconds)
    python docs/methods/attention_gradients.py --no-include-self           the same without b = a in the target
    python docs/methods/attention_gradients.py --detach-features           α trains W_L and W_E, not the networks
    python docs/methods/attention_gradients.py --data glyphs --seed 0      3,000 glyphs (six minutes on one core)

Prints a Markdown table over the epochs. Gradients are those of the batch mean at the output boundary (logits z,
features h), as Frobenius norms of [batch, width]: the mean over the auxiliary peers and the epoch's steps, for L_dis1
at h also their median and the largest. Of L_dis1 with its factor w T², at h what comes through α; of CE at h what
comes through the classifier. With --detach-features what would come through α is measured, and not passed on.
"""

from __future__ import annotations

import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from torch import Tensor, nn

import codistill
from codistill import GroupShape, Progress, StepOutput
from codistill.methods import OKDDip, Rows
from codistill.peers import NetworkGroup
from codistill.rundir import Epoch, Summary
from codistill.training import Config, OptimConfig
from codistill.training.session import Session

RUNS: dict[str, Config] = {
    "digits": Config(
        data="digits", train_subset=200, validation=0.2, batch_size=20, epochs=40, optim=OptimConfig(lr=0.1)
    ),
    "glyphs": Config(data="glyphs", image_size=16, train_subset=3000, batch_size=64, epochs=60),
}
SHOWN = {
    "digits": (1, 5, 10, 12, 14, 15, 16, 17, 18, 20, 30, 40),
    "glyphs": (1, 5, 10, 15, 18, 19, 20, 21, 25, 26, 30, 31, 45, 60),
}
"""Epochs that the table shows."""


@dataclass(frozen=True)
class Measured:
    """One step; gradients by auxiliary peer, of the batch mean.

    Attributes:
        diagonal: mean of α_aa.
        ce_logits_A, dis1_logits_A: norm of the gradient at the logits.
        ce_features_A, dis1_features_A: norm of the gradient at the features.
        norm_A: mean norm of an image's features.
        left, right: Frobenius norms of W_L and W_E.
    """

    diagonal: float
    ce_logits_A: Tensor
    dis1_logits_A: Tensor
    ce_features_A: Tensor
    dis1_features_A: Tensor
    norm_A: Tensor
    left: float
    right: float


class WatchedOKDDip(OKDDip):
    """OKDDip that keeps a `Measured` of every training step; `detach_features` cuts α off from the networks."""

    def __init__(
        self,
        shape: GroupShape,
        *,
        include_self: bool = True,
        detach_features: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(shape, include_self=include_self, generator=generator)
        self.detach_features = detach_features
        self.measured: list[Measured] = []
        # A plain list: these layers belong to the networks, not to this module.
        self.classifiers: list[nn.Linear] = []

    def step(self, rows: Rows, progress: Progress) -> StepOutput:
        """The step of OKDDip, unchanged where `detach_features` is False."""
        if self.training and self.classifiers:
            self.measured.append(self.measure(rows, progress))
        if self.detach_features:
            rows = dataclasses.replace(rows, features=tuple(h.detach() for h in rows.features))
        return super().step(rows, progress)

    def measure(self, rows: Rows, progress: Progress) -> Measured:
        """Differentiate both terms on leaves of their own, so that the step's gradients stay as they are."""
        A = self.auxiliary
        logits_PNC = rows.logits_PNC.detach().requires_grad_()
        features = tuple(h.detach().requires_grad_() for h in rows.features)
        leaves = dataclasses.replace(rows, logits_PNC=logits_PNC, features=features)
        out, ce_P = super().step(leaves, progress), leaves.cross_entropy_P()
        (ce_PNC,) = torch.autograd.grad(ce_P.sum(), logits_PNC, retain_graph=True)
        dis1 = (out.loss_by_peer - ce_P)[:A].sum()
        dis1_PNC, *dis1_features = torch.autograd.grad(dis1, [logits_PNC, *features[:A]])
        ce_features = [ce_PNC[a] @ self.classifiers[a].weight.detach() for a in range(A)]
        h_AND = torch.stack([h.detach() for h in features[:A]])
        assert self.attention is not None
        left, right = (float(p.detach().norm()) for p in self.attention.parameters())
        return Measured(
            diagonal=float(out.diagnostics["attention"].diagonal().mean()),
            ce_logits_A=ce_PNC[:A].flatten(1).norm(dim=1),
            dis1_logits_A=dis1_PNC[:A].flatten(1).norm(dim=1),
            ce_features_A=torch.stack(ce_features).flatten(1).norm(dim=1),
            dis1_features_A=torch.stack(dis1_features).flatten(1).norm(dim=1),
            norm_A=h_AND.norm(dim=-1).mean(-1),
            left=left,
            right=right,
        )


class Epochs:
    """Observer that gives the method the classifiers and makes a row of the table of every epoch shown."""

    def __init__(self, shown: tuple[int, ...]) -> None:
        self.shown = shown
        self.rows: list[list[str]] = []

    def on_start(self, session: Session) -> None:
        """Hand over the layers that carry the logits' gradient to the features."""
        # Any: codistill imports this file once more, and the method is of that copy's class.
        method: Any = session.executor.method
        assert isinstance(session.executor.group, NetworkGroup)
        method.classifiers = [network.get_submodule("fc") for network in session.executor.group.networks]

    def on_step(self, session: Session, step: int, steps: int) -> None:
        """Nothing."""

    def on_epoch(self, session: Session, record: Epoch) -> None:
        """Add a row; forget the epoch's steps."""
        method: Any = session.executor.method
        if record.epoch in self.shown:
            error = list(record.train.error_by_peer[: method.auxiliary])
            self.rows.append(table_row(record.epoch, method.measured, error))
        method.measured.clear()

    def on_end(self, session: Session, summary: Summary) -> None:
        """Nothing."""


HEAD = (
    "epoch", "mean α_aa", "CE at z", "wT² dis1 at z", "CE at h", "wT² dis1 at h", "median", "largest", "‖h‖", "‖W_L‖",
    "‖W_E‖", "training error of the peers, %",
)  # fmt: skip


def table_row(epoch: int, steps: list[Measured], error: list[float]) -> list[str]:
    """One line of the table, of all steps of an epoch."""

    def every(name: str) -> Tensor:
        return torch.stack([torch.as_tensor(getattr(step, name)) for step in steps])

    through_A = every("dis1_features_A")
    gradients = [every(f"{term}_{where}_A").mean() for where in ("logits", "features") for term in ("ce", "dis1")]
    sizes = [f"{float(number):.2g}" for number in (*gradients, through_A.median(), through_A.max())]
    norms = [f"{float(every(name).mean()):.1f}" for name in ("norm_A", "left", "right")]
    return [str(epoch), f"{float(every('diagonal').mean()):.3f}", *sizes, *norms, " ".join(f"{e:.0f}" for e in error)]


def main(
    data: Literal["digits", "glyphs"] = "digits",
    seed: int = 2,
    include_self: bool = True,
    detach_features: bool = False,
) -> None:
    """Train one group of four and print the table and the test errors.

    Args:
        data: 200 digits with learning rate 0.1, or 3,000 images of Glyphs-100.
        seed: of the run.
        include_self: whether b = a is part of the first level's target.
        detach_features: let α train the projections only.
    """
    watcher = Epochs(SHOWN[data])
    with tempfile.TemporaryDirectory() as folder:
        config = dataclasses.replace(
            RUNS[data],
            method=f"{Path(__file__).resolve()}:WatchedOKDDip",
            method_options={"include_self": include_self, "detach_features": detach_features},
            model=("resnet8_tiny",),
            peers=4,
            seed=seed,
            device="cpu",
            threads=1,
            deterministic=True,
            out=Path(folder) / "run",
        )
        summary = codistill.train(config, observers=[watcher]).summary
    for cells in (HEAD, ["---:"] * len(HEAD), *watcher.rows):
        print("| " + " | ".join(cells) + " |")
    *peers, leader = (f"{peer['top1_error']:.1f}" for peer in summary["last"]["test"]["peers"])
    versions = summary["versions"]
    print(f"\ntest error, %: peers {' '.join(peers)}, leader {leader}; {data}, seed {seed}, {include_self=}, ", end="")
    print(f"{detach_features=}; codistill {versions['codistill']}, PyTorch {versions['torch']}")


if __name__ == "__main__":
    tyro.cli(main)
