"""The data of a run: opened, and split by its seed."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from codistill import data
from codistill.config import Config
from codistill.data import Dataset, MapDataset
from codistill.errors import UserError
from codistill.rundir import OWN_DATA
from codistill.training.seeds import generator_for

__all__ = ["DataSource", "Splits", "load_data", "open_data", "split_data"]

DataSource = Dataset | MapDataset | Sequence[MapDataset]
"""Data given from Python: codistill's own, a map-style torch Dataset of (image, label), or several of them as (train,
test) or (train, validation, test)."""


@dataclass(frozen=True)
class Splits:
    """Indices into the training images, and nothing of the test set."""

    train_N: Tensor
    validation_N: Tensor
    held_out_N: Tensor


def load_data(config: Config) -> Dataset:
    """Load the data set that the configuration names; see `codistill.data.load` for the errors."""
    if config.data == OWN_DATA:
        raise UserError(
            f"data {OWN_DATA!r} stands for data that were given from Python, and none are given here: pass the same "
            "dataset= from Python (to train, resume or evaluate_run), or name a data set."
        )
    return data.load(
        config.data,
        config.data_dir,
        image_size=config.image_size,
        download=config.download,
        memory=config.data_memory,
        validation_dir=config.validation_dir,
        bad_images=config.bad_images,
        follow_links=config.follow_links,
    )


def open_data(config: Config, dataset: DataSource | None = None) -> Dataset:
    """Return `dataset` in the form that a run needs; if it is None, the data set that the configuration names."""
    if dataset is None:
        return load_data(config)
    if isinstance(dataset, Dataset):
        return dataset
    size, memory, bad = config.image_size, config.data_memory, config.bad_images
    return data.from_torch(dataset, image_size=size, memory=memory, bad_images=bad)


def split_data(config: Config, dataset: Dataset, held_out: float) -> Splits:
    """Split the training images by seed and class (or group) into training, validation and held-out parts.

    A validation part of the user's own is taken as it is, and then `config.validation` has no effect.

    Raises:
        UserError: the training part is smaller than a batch, or than `train_subset`.
    """
    labels_N = dataset.train.labels_N
    split = generator_for(config.seed, "split")
    if dataset.validation_images:
        if config.validation != Config.validation:
            warnings.warn(
                f"validation {config.validation} has no effect: the data come with a validation part of "
                f"{dataset.validation_images:,} images",
                stacklevel=2,
            )
        train_N, validation_N = torch.arange(len(dataset.train)).tensor_split([dataset.training_images])
    else:
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
