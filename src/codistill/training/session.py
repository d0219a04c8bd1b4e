"""Everything that one run works with."""

from __future__ import annotations

import dataclasses
import functools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from codistill import data, execution
from codistill.config import Config, filled, identity
from codistill.data import Dataset, DataSummary, Images, ImageSet
from codistill.errors import UserError
from codistill.execution import Executor, Trial
from codistill.execution.launched import local_processes
from codistill.execution.world import World
from codistill.rundir import EXTRA, FIGURES, OWN_DATA, Move
from codistill.training.freezing import Freezing
from codistill.training.metrics import EpochMeter
from codistill.training.optimizer import restore_state, whole_state
from codistill.training.run_data import Splits
from codistill.training.task import Classification
from codistill.types import GroupShape, Progress

__all__ = ["Session"]


RESIDENT = 0.25
"""Share of a GPU's free memory that a part of the images may take there."""


@dataclass
class Session:
    """One run in progress; `state` and `restore` carry all that changes.

    Observers may use `out`, `extra`, `config`, `device`, `epoch`, `epochs`, `steps`, `student` and `stop`, which stay
    as they are (docs/observers.md); the rest belongs to the library.

    Attributes:
        config: the settings, all filled in.
        device: where the networks are.
        epoch: finished epochs.
        step: finished steps of the next epoch.
        began: when that epoch began, on the clock `time.perf_counter`.
        epoch_start: the states of the generators then.
        statistics: of batch norms, with which the last epoch was scored, if these are not the networks' own.
        moves: when the run went on elsewhere.
    """

    config: Config
    dataset: Dataset
    splits: Splits
    device: torch.device
    executor: Executor
    optimizer: torch.optim.Optimizer
    generators: dict[str, torch.Generator]
    notes: tuple[str, ...] = ()
    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    best: dict[str, Any] = dataclasses.field(default_factory=dict)
    concerns: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    trial: Trial | None = None
    scaler: torch.amp.GradScaler | None = None
    freezing: Freezing | None = None
    class_weights_C: Tensor | None = None
    began: float = 0.0
    epoch_start: dict[str, Tensor] = dataclasses.field(default_factory=dict, repr=False)
    stop_reason: str | None = None
    launch: str = ""
    statistics: dict[str, Tensor] | None = None
    moves: tuple[Move, ...] = ()
    _parts: dict[str, Images] = dataclasses.field(default_factory=dict, repr=False)

    @property
    def out(self) -> Path:
        """The run directory."""
        return filled(self.config.out)

    @property
    def extra(self) -> Path:
        """A folder in the run directory for files of observers; it is made when it is asked for."""
        folder = self.out / EXTRA
        folder.mkdir(exist_ok=True)
        return folder

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
        if self.config.workers is not None:
            return self.config.workers
        return data.default_workers() // local_processes()

    @property
    def world(self) -> World | None:
        """This process among those that train the run together; None where it is alone."""
        return self.executor.world

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes and reports."""
        return self.world is None or self.world.leads

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
        """Whether the run is to end after the epochs that it has."""
        return self.why_stopped is not None

    @property
    def why_stopped(self) -> str | None:
        """Why the run is to end early: what `stop` was given, or that it has been patient for long enough."""
        patience, best = self.config.patience, self.best.get("epoch")
        if best is None:  # without an epoch there is nothing to score
            return None
        if self.stop_reason is not None or patience is None or self.epoch - best < patience:
            return self.stop_reason
        figure = FIGURES[self.config.headline]
        return f"{patience} epochs without a better validation {figure} than that of epoch {best}"

    def stop(self, reason: str) -> None:
        """End the run after the epoch in progress (a new run: after its first), as if it were its last.

        Args:
            reason: for the summary and the report, such as "the loss has settled". Of several the first one counts.

        Raises:
            UserError: the reason is empty, or no text.
        """
        if not isinstance(reason, str) or not reason.strip():
            raise UserError(f"stop({reason!r}): give the reason as a text, for the summary and the report.")
        self.stop_reason = self.stop_reason or reason

    def student(self, peer: int) -> nn.Module:
        """Return a copy of one student as the plain network, on the CPU and in evaluation mode, as it is scored now.

        With `average` these are the averaged weights; recalibrated batch-norm statistics are those of the last epoch.

        Raises:
            UserError: there is no such student; or, within an epoch, it is trained by another process.
        """
        from codistill.training.recalibration import lent  # late: it imports this module

        if not 0 <= peer < self.shape.peers:
            raise UserError(f"student {peer}: this run has the students 0 to {self.shape.peers - 1}.")
        self.executor.check_holds(peer)
        averages = self.executor.deployed_averages
        group = self.executor.group if averages is None else averages.group
        with lent(self, self.statistics):
            return group.student(peer).cpu().eval()

    @property
    def on_own_data(self) -> bool:
        """Whether the data were given from Python."""
        return self.config.data == OWN_DATA

    @functools.cached_property
    def data_summary(self) -> DataSummary | None:
        """What the run learns from, if the images are the user's own; computing it takes up to some seconds."""
        trained_N = torch.cat([self.splits.train_N, self.splits.held_out_N])
        return data.summarise_data(self.dataset, trained_N, self.splits.validation_N)

    @functools.cached_property
    def meter(self) -> EpochMeter:
        """The training metrics of the epoch in progress."""
        return self.task.training_meter(self.device)

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
        mesh = None if self.world is None else str(self.world.mesh)
        self.config = dataclasses.replace(self.config, executor=self.executor.name, cuda_graphs=graphs, mesh=mesh)

    def state(self) -> dict[str, Any]:
        """Return everything but the weights that the next epoch depends on; of several processes all must ask.

        Only the one that leads gets the optimizer's state of all students.
        """
        state = {
            "config": identity(self.config),
            "epoch": self.epoch,
            "step": self.step,
            "threads": torch.get_num_threads(),
            "seconds": self.seconds,
            "best": self.best,
            "concerns": self.concerns,
            "trial": None if self.trial is None else dataclasses.asdict(self.trial),
            "executor": self.executor.state(),
            "optimizer": whole_state(self.optimizer, self.executor),
            "generators": {name: g.get_state() for name, g in self.generators.items()},
            "layers": torch.get_rng_state(),
            "stop_reason": self.stop_reason,
            "launch": self.launch,
        }
        if self.scaler is not None:
            state["scaler"] = self.scaler.state_dict()
        if self.step:
            state["in_epoch"] = {
                "meter": self.meter.state(),
                "seconds": time.perf_counter() - self.began,
                "start": self.epoch_start,
            }
        if self.device.type == "cuda":
            state["layers_cuda"] = torch.cuda.get_rng_state(self.device)
        return state

    def restore(self, state: dict[str, Any]) -> None:
        """Return to the point at which `state` was taken; the caller loads the weights."""
        self.epoch, self.seconds, self.best = state["epoch"], state["seconds"], state["best"]
        self.step = state.get("step", 0)
        if self.step:
            within = state["in_epoch"]
            self.meter.restore(within["meter"])
            self.epoch_start, self.began = within["start"], time.perf_counter() - within["seconds"]
        self.concerns = state.get("concerns", {})
        self.trial = Trial(**state["trial"]) if state.get("trial") else None
        self.executor.restore(state.get("executor", {"steps": 0}))
        self.stop_reason, self.launch = state.get("stop_reason"), state.get("launch", "")
        restore_state(self.optimizer, state["optimizer"])
        # What follows is missing if the run was elsewhere, with another device or precision, until now.
        if self.scaler is not None and "scaler" in state:
            self.scaler.load_state_dict(state["scaler"])
        for name, generator in self.generators.items():
            generator.set_state(state["generators"][name])
        torch.set_rng_state(state["layers"])
        if self.device.type == "cuda" and "layers_cuda" in state:
            torch.cuda.set_rng_state(state["layers_cuda"], self.device)
