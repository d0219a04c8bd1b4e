"""The images on which an exported file is checked and calibrated: those of the run, prepared as evaluation does."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from codistill import data, methods
from codistill.config import Config
from codistill.data import Dataset, Images
from codistill.errors import UserError
from codistill.rundir import InputRecord
from codistill.training.input_record import refuse_other_data
from codistill.training.run_data import DataSource, open_data, split_data

__all__ = ["Samples", "open_samples", "random_samples"]

_BATCH = 64
_RANDOM = 64
_MOST_BYTES = 2**28


@dataclass(frozen=True, eq=False)
class Samples:
    """Images as they are before normalisation.

    Attributes:
        pixels_NCHW: uint8, of the size that the network reads.
        labels_N: int64 class indices; None for random pixels.
        of: what to call them.
        facts: by which they are normalised.
    """

    pixels_NCHW: Tensor
    labels_N: Tensor | None
    of: str
    facts: InputRecord

    def __len__(self) -> int:
        return len(self.pixels_NCHW)

    def batches(self) -> Iterator[Tensor]:
        """Yield all images in order as evaluation gives them to a network, float32 [n, C, H, W]."""
        for some_NCHW in self.pixels_NCHW.split(_BATCH):
            yield data.normalise(some_NCHW, self.facts.mean, self.facts.std, "cpu")


@dataclass(frozen=True, eq=False)
class RunImages:
    """The opened data of a run, and which of its training images are which."""

    dataset: Dataset
    train_N: Tensor
    validation_N: Tensor
    facts: InputRecord

    def validation(self, most: int) -> Samples:
        """Return up to `most` validation images, spread evenly over all of them."""
        return self._some(self.validation_N, most, "validation images")

    def training(self, most: int) -> Samples:
        """Return up to `most` images that the run learned from, undistorted."""
        return self._some(self.train_N, most, "training images")

    def _some(self, index_N: Tensor, most: int, of: str) -> Samples:
        image = max(self.facts.channels * self.facts.height * self.facts.width, 1)
        count = min(len(index_N), most, max(_MOST_BYTES // image, 1))
        # Folders are in the order of their classes, so the first images would be of one class.
        chosen_N = index_N[torch.linspace(0, len(index_N) - 1, count).round().long()]
        pixels_NCHW, labels_N = _read(self.dataset.train.take(chosen_N))
        return Samples(pixels_NCHW, labels_N, of, self.facts)


def open_samples(
    run_dir: Path, config: Config, facts: InputRecord, data_dir: Path | None, dataset: DataSource | None
) -> RunImages:
    """Open the run's data again, and split them as the run did.

    Args:
        run_dir: the run directory.
        config: the run's configuration.
        facts: the content of input.json.
        data_dir: where the data are now; None: where they were.
        dataset: the data again, if `train` was given them.

    Raises:
        UserError: the data are not there, or are not those of the run.
    """
    if data_dir is not None:
        config = dataclasses.replace(config, data_dir=data_dir)
    opened = open_data(config, dataset)
    # Pixels of weights that the run started from: what the data themselves have does not count.
    if config.normalise in ("weights", "imagenet"):
        opened = dataclasses.replace(opened, mean=facts.mean, std=facts.std)
    refuse_other_data(facts, opened, run_dir)
    splits = split_data(config, opened, methods.needs_of(config.method, config.method_options).held_out)
    if not len(splits.validation_N):
        raise UserError(f"{run_dir} set no validation images aside.")
    return RunImages(opened, splits.train_N, splits.validation_N, facts)


def random_samples(facts: InputRecord) -> Samples:
    """Return images of random pixels, the same in every call."""
    size = (_RANDOM, facts.channels, facts.height, facts.width)
    pixels_NCHW = torch.randint(256, size, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Samples(pixels_NCHW, None, "random pixels", facts)


def _read(images: Images) -> tuple[Tensor, Tensor]:
    parts = list(data.evaluation_batches(images, _BATCH, 0, torch.device("cpu")))
    return torch.cat([pixels for pixels, _ in parts]), torch.cat([labels for _, labels in parts])
