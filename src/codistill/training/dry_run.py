"""What a run would cost, without running it: `codistill train --dry-run`."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from codistill import data, execution, methods
from codistill.config import Config
from codistill.data import Dataset, DataSummary
from codistill.peers.shared import SharedGroup
from codistill.tracing.cost import TRAINING_FORWARDS, forward_cost, trainable
from codistill.training.class_balance import check_weights
from codistill.training.freezing import Freezing
from codistill.training.groups import build_group
from codistill.training.launch import checked_in_one
from codistill.training.pixels import fill_pixels
from codistill.training.run_data import load_data, split_data
from codistill.training.unread import warn_of_unread

__all__ = ["DryRun", "dry_run"]


@dataclass(frozen=True)
class DryRun:
    """The group of a configuration, and what one training step costs.

    Attributes:
        config: filled in, as far as the data need not be read for it.
        image: channels, height and width.
        classes: C.
        models: the network of each student.
        splits: where branches or a tree begin, with the number of children of each; empty if students share nothing.
        deployed: trainable parameters of each student as the plain network.
        training: trainable parameters of the group (shared ones once) and the method.
        method_parameters: the method's among them.
        held_bytes: what autograd keeps for the backward pass of one batch of all students, without parameters.
        forward_macs: multiply-accumulates of one forward pass of all students on one batch.
        updates: optimizer updates in one step: one for all students, or one per student if they take turns.
        data: the images, if they are the user's own.
    """

    config: Config
    image: tuple[int, int, int]
    classes: int
    models: tuple[str, ...]
    splits: Mapping[str, int]
    deployed: tuple[int, ...]
    training: int
    method_parameters: int
    held_bytes: int
    forward_macs: int
    updates: int
    data: DataSummary | None = None

    @property
    def step_macs(self) -> int:
        """Multiply-accumulates of a step of training, counted as three forward passes per update."""
        return TRAINING_FORWARDS * self.forward_macs * self.updates


def dry_run(config: Config) -> DryRun:
    """Build the group and count; nothing is trained, downloaded or written.

    Data of known size are not read. Frozen teachers are neither loaded nor counted, and no weights are loaded.

    Raises:
        UserError: what `codistill.train` would refuse before it reads the data, and what it would refuse of images of
            the user's own.
    """
    # In one process, whose step is all of it.
    config = fill_pixels(checked_in_one(config))
    image, classes, dataset = _image_and_classes(config)
    summary = None if dataset is None else _summary(config, dataset)
    warn_of_unread(config, None if dataset is None else dataset.train)
    check_weights(config.class_weights, classes)
    group = build_group(config, classes, image)
    method = methods.build(config.method, group, teachers=len(config.teachers), **config.method_options)
    for text in method.cautions():
        warnings.warn(text, stacklevel=2)
    peers = group.shape.peers
    deployed = tuple(trainable(group.student(peer)) for peer in range(peers))
    if config.freeze:
        Freezing(group, config.freeze, config.freeze_epochs).at(0, thawed=config.freeze_epochs is not None)
    views = [(config.batch_size, *image)] * (peers if config.icl else 1)
    amp = execution.AMP.get(config.amp)
    cost = forward_cost(group, views, torch.device(config.device), amp)
    return DryRun(
        config,
        image,
        classes,
        config.model * (peers // len(config.model)),
        group.splits if isinstance(group, SharedGroup) else {},
        deployed,
        trainable(group) + trainable(method),
        trainable(method),
        cost.held_bytes,
        cost.macs,
        peers if method.needs.turns else 1,
        summary,
    )


def _image_and_classes(config: Config) -> tuple[tuple[int, int, int], int, Dataset | None]:
    """Shape of the images and number of classes, with the data if they had to be read for that."""
    facts = next((row for row in data.describe() if row["name"] == config.data), {})
    channels, classes, size = facts.get("channels"), facts.get("classes"), config.image_size or facts.get("image_size")
    if isinstance(channels, int) and isinstance(classes, int) and isinstance(size, int):
        return (channels, size, size), classes, None
    dataset = load_data(dataclasses.replace(config, download=False))
    return dataset.train.shape, len(dataset.classes), dataset


def _summary(config: Config, dataset: Dataset) -> DataSummary | None:
    splits = split_data(config, dataset, methods.needs_of(config.method, config.method_options).held_out)
    trained_N = torch.cat([splits.train_N, splits.held_out_N])
    return data.summarise_data(dataset, trained_N, splits.validation_N)
