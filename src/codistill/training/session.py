"""Everything that one run works with."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from codistill import data, execution
from codistill.config import Config, filled, identity
from codistill.data import Dataset, DataSummary, Images, ImageSet
from codistill.execution import Executor, Trial
from codistill.rundir import OWN_DATA
from codistill.training.freezing import Freezing
from codistill.training.optimizer import plain_state
from codistill.training.run_data import Splits
from codistill.training.task import Classification
from codistill.types import GroupShape, Progress

__all__ = ["Session"]


RESIDENT = 0.25
"""Share of a GPU's free memory that a part of the images may take there."""


@dataclass
class Session:
    """One run in progress; `state` and `restore` carry all that changes."""

    config: Config
    dataset: Dataset
    splits: Splits
    device: torch.device
    executor: Executor
    optimizer: torch.optim.Optimizer
    generators: dict[str, torch.Generator]
    notes: tuple[str, ...] = ()
    epoch: int = 0
    seconds: float = 0.0
    best: dict[str, Any] = dataclasses.field(default_factory=dict)
    concerns: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    trial: Trial | None = None
    scaler: torch.amp.GradScaler | None = None
    freezing: Freezing | None = None
    class_weights_C: Tensor | None = None
    _parts: dict[str, Images] = dataclasses.field(default_factory=dict, repr=False)

    @property
    def out(self) -> Path:
        """The run directory."""
        return filled(self.config.out)

    @property
    def epochs(self) -> int:
        """Length of the run."""
        return filled(self.config.epochs)

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return data.batch_count(len(self.splits.train_N), self.config.batch_size, self.config.last_batch)

    @property
    def workers(self) -> int:
        """Processes that decode images which are not in memory."""
        return data.default_workers() if self.config.workers is None else self.config.workers

    @property
    def shape(self) -> GroupShape:
        """The sizes of the group."""
        return self.executor.group.shape

    @property
    def task(self) -> Classification:
        """What depends on the kind of output."""
        return Classification(self.shape, self.config.headline)

    @property
    def headline(self) -> str:
        """Whose score stands for the run: the "leader" or the "mean" of the students."""
        return self.task.headline(self.leader)

    @property
    def stopped_early(self) -> bool:
        """Whether the headline has not improved for as many epochs as the run is patient."""
        patience = self.config.patience
        return patience is not None and bool(self.best) and self.epoch - self.best["epoch"] >= patience

    @property
    def on_own_data(self) -> bool:
        """Whether the data were given from Python."""
        return self.config.data == OWN_DATA

    @functools.cached_property
    def data_summary(self) -> DataSummary | None:
        """What the run learns from, if the images are the user's own; computing it takes up to some seconds."""
        trained_N = torch.cat([self.splits.train_N, self.splits.held_out_N])
        return data.summarise_data(self.dataset, trained_N, self.splits.validation_N)

    @property
    def leader(self) -> int | None:
        """The student that the method itself names for deployment, or None."""
        return self.executor.method.leader

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.executor.close()

    def images(self, part: str) -> Images:
        """Return "train" (all that the splits count in), "validation", "held_out" or "test".

        On a device of its own the part lies in that device's memory, where it takes no more than a share of what is
        free: then no step waits for images.
        """
        if part not in self._parts:
            train, splits = self.dataset.train, self.splits
            index_N = {"validation": splits.validation_N, "held_out": splits.held_out_N}.get(part)
            images = self.dataset.test if part == "test" else train if index_N is None else train.take(index_N)
            free = execution.free_bytes(self.device) if self.device.type == "cuda" else None
            if isinstance(images, ImageSet) and images.images_NCHW.nbytes <= RESIDENT * (free or 0):
                images = images.to(self.device)
            self._parts[part] = images
        return self._parts[part]

    def settle(self) -> None:
        """Choose the executor by a trial on random images, if the configuration leaves the choice open.

        The chosen name is what config.yaml and the checkpoints hold, so that a resumed or repeated run uses the same
        executor; what the trial measured goes to summary.json.

        Raises:
            UserError: a step of this group is refused.
        """
        own = torch.Generator().manual_seed(self.config.seed)
        shape = (self.config.batch_size, *self.dataset.train.shape)
        count = self.shape.peers if self.config.icl else 1
        views = [torch.randn(shape, generator=own).to(self.device) for _ in range(count)]
        labels_B = self.task.random_labels(self.config.batch_size, own).to(self.device)
        progress = Progress(self.epochs / 2, self.epochs)
        chosen, self.trial = self.executor.settled(views if self.config.icl else views[0], labels_B, progress)
        if chosen is not self.executor:
            self.executor.close()
        self.executor = chosen
        graphs = self.config.cuda_graphs if self.trial is None else self.trial.cuda_graphs
        self.config = dataclasses.replace(self.config, executor=self.executor.name, cuda_graphs=graphs)

    def state(self) -> dict[str, Any]:
        """Return everything but the weights that the next epoch depends on."""
        state = {
            "config": identity(self.config),
            "epoch": self.epoch,
            "seconds": self.seconds,
            "best": self.best,
            "concerns": self.concerns,
            "trial": None if self.trial is None else dataclasses.asdict(self.trial),
            "executor": self.executor.state(),
            "optimizer": plain_state(self.optimizer),
            "generators": {name: g.get_state() for name, g in self.generators.items()},
            "layers": torch.get_rng_state(),
        }
        if self.scaler is not None:
            state["scaler"] = self.scaler.state_dict()
        if self.device.type == "cuda":
            state["layers_cuda"] = torch.cuda.get_rng_state(self.device)
        return state

    def restore(self, state: dict[str, Any]) -> None:
        """Return to the point at which `state` was taken; the caller loads the weights."""
        self.epoch, self.seconds, self.best = state["epoch"], state["seconds"], state["best"]
        self.concerns = state.get("concerns", {})
        self.trial = Trial(**state["trial"]) if state.get("trial") else None
        self.executor.restore(state.get("executor", {"steps": 0}))
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scaler is not None:
            self.scaler.load_state_dict(state["scaler"])
        for name, generator in self.generators.items():
            generator.set_state(state["generators"][name])
        torch.set_rng_state(state["layers"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state["layers_cuda"], self.device)
