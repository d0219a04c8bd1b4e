"""Builds all parts of a run from its configuration."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import torch

from codistill import execution, methods
from codistill.config import Config
from codistill.data import Dataset, LazyImages
from codistill.errors import UserError
from codistill.execution import Executor
from codistill.peers import PeerGroup, Teachers
from codistill.training.check import check_config
from codistill.training.class_balance import class_weights
from codistill.training.freezing import Freezing, refuse_still
from codistill.training.groups import NetworkSource, build_group
from codistill.training.input_record import input_record
from codistill.training.optimizer import make_optimizer
from codistill.training.parameter_groups import parameter_groups
from codistill.training.pixels import fill_pixels, normalised
from codistill.training.run_data import DataSource, open_data, split_data
from codistill.training.seeds import generator_for
from codistill.training.session import Session
from codistill.training.start import start_group
from codistill.training.start_split import warn_of_learnt_validation
from codistill.training.teachers import load_teachers
from codistill.training.unread import warn_of_unread

__all__ = ["build_session"]


def build_session(
    config: Config, dataset: DataSource | None = None, network: NetworkSource | None = None, begun: bool = False
) -> Session:
    """Check the configuration, load the data and build all parts; nothing is written.

    Args:
        config: the run.
        dataset: data to use instead of the data set that `config.data` names.
        network: networks to use where `config.model` says "own".
        begun: the run's weights come from a checkpoint, and its data have the recorded mean and deviation.

    Raises:
        UserError: anything that the user can put right, before any training.
    """
    config = check_config(config)
    device = torch.device(config.device)
    config = config if begun else fill_pixels(config)
    dataset = open_data(config, dataset) if begun else normalised(config, open_data(config, dataset))
    config = _fill_from_data(config, dataset)
    if not begun:
        warn_of_unread(config, dataset.train)
    splits = split_data(config, dataset, methods.needs_of(config.method, config.method_options).held_out)
    # The executor last, since nothing that is refused after it would close it.
    weights_C = class_weights(config.class_weights, dataset.train.labels_N[splits.train_N], len(dataset.classes))
    executor, generator, notes, channels_last, freezing = build_executor(config, device, dataset, network, begun)
    # What was measured is kept, so that a resumed run has the same layout.
    config = dataclasses.replace(config, channels_last=channels_last)
    generators = {name: generator_for(config.seed, name) for name in ("order", "augmentation")}
    generators["method"] = generator
    return Session(
        config, dataset, splits, device, executor, _optimizer(config, executor, freezing), generators, notes,
        scaler=torch.amp.GradScaler(device.type) if config.amp == "fp16" else None,
        freezing=freezing,
        class_weights_C=None if weights_C is None else weights_C.to(device),
    )  # fmt: skip


def _optimizer(config: Config, executor: Executor, freezing: Freezing | None) -> torch.optim.Optimizer:
    later = set() if freezing is None else {id(p) for p in freezing.learning_later}
    both = [p for module in (executor.group, executor.method) for p in module.parameters()]
    parameters = [p for p in both if p.requires_grad or id(p) in later]
    return make_optimizer(config.optim, parameter_groups(config.optim, executor.group, parameters))


class Built(NamedTuple):
    """A run's executor with all that it owns, its method's generator, what to tell of the weights, and the layout."""

    executor: Executor
    generator: torch.Generator
    notes: tuple[str, ...]
    channels_last: bool | None
    freezing: Freezing | None


def build_executor(
    config: Config, device: torch.device, dataset: Dataset, network: NetworkSource | None, begun: bool
) -> Built:
    """Build what runs the networks of a run, on its device."""
    group, facts = build_group(config, len(dataset.classes), dataset.train.shape, network), input_record(dataset)
    notes: tuple[str, ...] = ()
    if not begun:
        refuse_still(group)
        notes = start_group(config, group, facts, network)
        if not dataset.validation_images:
            warn_of_learnt_validation(config, facts)
    teachers = Teachers(load_teachers(config, facts))
    generator = generator_for(config.seed, "method")
    options = config.method_options
    method = methods.build(config.method, group, generator=generator, teachers=len(teachers), **options)
    for module in (group, method, teachers):
        module.to(device)
    method.label_smoothing = config.label_smoothing
    channels_last = _lay_out(config, group, teachers, dataset.train.shape)
    freezing = Freezing(group, config.freeze, config.freeze_epochs) if config.freeze else None
    executor = execution.build(config.executor, group, method, config, teachers)
    if not config.sync_batch_norm and "sync_batch_norm" not in executor.takes:
        notes += ("sync_batch_norm off changes nothing in one process: it is for several (--mesh)",)
    return Built(executor, generator, notes, channels_last, freezing)


def _lay_out(config: Config, group: PeerGroup, teachers: Teachers, image_shape: tuple[int, int, int]) -> bool | None:
    """Choose the layout of the networks in memory; what was chosen by time, the run is to keep."""
    timed = config.channels_last is None and not config.deterministic
    amp = execution.AMP.get(config.amp)
    batch = config.batch_size if timed else None
    done = execution.lay_out(group, image_shape, config.channels_last, batch=batch, amp=amp)
    timed &= next(group.parameters()).device.type == "cuda"
    for teacher in teachers:
        execution.lay_out(teacher, image_shape, done if timed else config.channels_last)
    return done if timed else config.channels_last


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
    count_C = dataset.train.labels_N[: dataset.training_images].bincount(minlength=len(dataset.classes))
    if not count_C.all():
        empty = int((count_C == 0).nonzero()[0])
        raise UserError(
            f"label {empty} ({dataset.classes[empty]!r}) has no training image, and labels are 0 to "
            f"{len(dataset.classes) - 1} without a gap: add images of it (damaged ones that were skipped do not "
            "count), or take the class out."
        )
