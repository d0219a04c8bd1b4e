"""Everything that one run works with, built from its configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from codistill import data, execution, methods
from codistill.config import Config, filled, identity
from codistill.data import Dataset, LazyImages, MapDataset
from codistill.errors import UserError
from codistill.execution import Executor, Trial
from codistill.peers import Teachers
from codistill.rundir import OWN_DATA
from codistill.training.check import check_config
from codistill.training.groups import NetworkSource, build_group
from codistill.training.input_record import input_record
from codistill.training.optimizer import make_optimizer
from codistill.training.seeds import generator_for
from codistill.training.task import Classification
from codistill.training.teachers import load_teachers
from codistill.types import GroupShape, Progress

__all__ = ["DataSource", "Session", "Splits", "build_session", "load_data", "open_data", "split_data"]


DataSource = Dataset | MapDataset | Sequence[MapDataset]
"""Data given from Python: codistill's own, a map-style torch Dataset of (image, label), or a pair (train, test)."""


@dataclass(frozen=True)
class Splits:
    """Indices into the training images, and nothing of the test set."""

    train_N: Tensor
    validation_N: Tensor
    held_out_N: Tensor


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
    epoch: int = 0
    seconds: float = 0.0
    best: dict[str, Any] = dataclasses.field(default_factory=dict)
    concerns: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    trial: Trial | None = None

    @property
    def out(self) -> Path:
        """The run directory."""
        return filled(self.config.out)

    @property
    def epochs(self) -> int:
        """Length of the run."""
        return filled(self.config.epochs)

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
        return Classification(self.shape)

    @property
    def headline(self) -> str:
        """Whose score stands for the run: the "leader" or the "mean" of the students."""
        return self.task.headline(self.leader)

    @property
    def on_own_data(self) -> bool:
        """Whether the data were given from Python."""
        return self.config.data == OWN_DATA

    @property
    def leader(self) -> int | None:
        """The student that the method itself names for deployment, or None."""
        return self.executor.method.leader

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.executor.close()

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
        self.config = dataclasses.replace(self.config, executor=self.executor.name)

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
            "optimizer": self.optimizer.state_dict(),
            "generators": {name: g.get_state() for name, g in self.generators.items()},
            "layers": torch.get_rng_state(),
        }
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
        for name, generator in self.generators.items():
            generator.set_state(state["generators"][name])
        torch.set_rng_state(state["layers"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state["layers_cuda"], self.device)


def load_data(config: Config) -> Dataset:
    """Load the data set that the configuration names; see `codistill.data.load` for the errors."""
    if config.data == OWN_DATA:
        raise UserError(
            f"data {OWN_DATA!r} stands for data that were given from Python, and none are given here: pass the same "
            "dataset= from Python (to train, resume or evaluate_run), or name a data set."
        )
    size, memory = config.image_size, config.data_memory
    return data.load(config.data, config.data_dir, image_size=size, download=config.download, memory=memory)


def open_data(config: Config, dataset: DataSource | None = None) -> Dataset:
    """Return `dataset` in the form that a run needs; if it is None, the data set that the configuration names."""
    if dataset is None:
        return load_data(config)
    if isinstance(dataset, Dataset):
        return dataset
    return data.from_torch(dataset, image_size=config.image_size, memory=config.data_memory)


def split_data(config: Config, dataset: Dataset, held_out: float) -> Splits:
    """Split the training images by seed and class (or group) into training, validation and held-out parts.

    Raises:
        UserError: the training part is smaller than a batch, or than `train_subset`.
    """
    labels_N = dataset.train.labels_N
    split = generator_for(config.seed, "split")
    train_N, validation_N = data.split_validation(dataset.train, config.validation, split)
    held_N = train_N[:0]
    if config.train_subset is not None:
        subset = generator_for(config.seed, "subset")
        train_N = data.take_subset(train_N, labels_N[train_N], config.train_subset, subset)
    # After the subset, so that a method that holds images out sees no more of them than any other.
    if held_out > 0:
        kept, held = data.split_validation(dataset.train.take(train_N), held_out, split)
        train_N, held_N = train_N[kept], train_N[held]
    if config.batch_size > len(train_N):
        raise UserError(
            f"batch_size {config.batch_size} with {len(train_N)} training images: a batch must not be larger than the "
            f"training split; give --batch-size {len(train_N)} or less."
        )
    return Splits(train_N, validation_N, held_N)


def build_session(config: Config, dataset: DataSource | None = None, network: NetworkSource | None = None) -> Session:
    """Check the configuration, load the data and build all parts; nothing is written.

    Args:
        config: the run.
        dataset: data to use instead of the data set that `config.data` names.
        network: networks to use where `config.model` says "own".

    Raises:
        UserError: anything that the user can put right, before any training.
    """
    config = check_config(config)
    device = torch.device(config.device)
    dataset = open_data(config, dataset)
    config = _fill_from_data(config, dataset)
    splits = split_data(config, dataset, methods.needs_of(config.method, config.method_options).held_out)
    # The executor last, since nothing that is refused after it would close it.
    executor, generator = build_executor(config, device, dataset, network)
    optimizer = make_optimizer(config.optim, executor.parameters())
    generators = {name: generator_for(config.seed, name) for name in ("order", "augmentation")}
    generators["method"] = generator
    return Session(config, dataset, splits, device, executor, optimizer, generators)


def build_executor(
    config: Config, device: torch.device, dataset: Dataset, network: NetworkSource | None = None
) -> tuple[Executor, torch.Generator]:
    """Build the executor of a run with all that it owns, and the generator that its method draws from."""
    group = build_group(config, len(dataset.classes), dataset.train.shape, network)
    teachers = Teachers(load_teachers(config, input_record(dataset)))
    generator = generator_for(config.seed, "method")
    options = config.method_options
    method = methods.build(config.method, group, generator=generator, teachers=len(teachers), **options)
    for module in (group, method, teachers):
        module.to(device)
    execution.lay_out(group, dataset.train.shape, config.channels_last)
    for teacher in teachers:
        execution.lay_out(teacher, dataset.train.shape, config.channels_last)
    return execution.build(config.executor, group, method, config, teachers), generator


def _fill_from_data(config: Config, dataset: Dataset) -> Config:
    _refuse_gaps(dataset)
    augment = config.augment.resolved(dataset.augment.crop_padding, dataset.augment.flip)
    if isinstance(dataset.train, LazyImages) and augment.crop_padding:
        raise UserError(
            f"augment.crop_padding {augment.crop_padding} with images that are decoded again in every step: these get "
            "random resized crops; leave it out (augment.crop_min_area says how small they may be)."
        )
    epochs = config.epochs or dataset.epochs
    config.optim.check_length(epochs)
    return dataclasses.replace(config, epochs=epochs, augment=augment)


def _refuse_gaps(dataset: Dataset) -> None:
    count_C = dataset.train.labels_N.bincount(minlength=len(dataset.classes))
    if not count_C.all():
        empty = int((count_C == 0).nonzero()[0])
        raise UserError(
            f"label {empty} ({dataset.classes[empty]!r}) has no training image: labels are 0 to "
            f"{len(dataset.classes) - 1} without a gap; number the classes again or add images."
        )
