"""A run's students scored on another folder of labelled pictures, prepared by the run's own rule."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codistill import execution
from codistill.errors import UserError
from codistill.methods import Method
from codistill.rundir import Evaluation, is_complete, read_epochs
from codistill.students.labelled import LabelledFolder, labelled_folder
from codistill.students.reading import ReadPicture, prepared, read_batches
from codistill.training.batches import evaluation_batch
from codistill.training.check import check_config
from codistill.training.elsewhere import device_to_score_on
from codistill.training.groups import NetworkSource
from codistill.training.numerics import kernels
from codistill.training.preparation import preparation_of
from codistill.training.reopen import settings_and_checkpoint
from codistill.training.student import load_group, recorded_leader
from codistill.training.task import Classification

__all__ = ["FolderScores", "evaluate_folder"]


@dataclass(frozen=True)
class FolderScores:
    """What a folder of labelled pictures gave.

    Attributes:
        evaluation: as for the test part (docs/run-directory.md).
        classes: the run's, by label.
        folder: it holds the class folders.
        notes: sentences on classes without pictures and on what was left out.
        unreadable: pictures that cannot be read and are not scored, each with the reason.
    """

    evaluation: Evaluation
    classes: tuple[str, ...]
    folder: Path
    notes: tuple[str, ...]
    unreadable: tuple[tuple[str, str], ...]


def evaluate_folder(
    run_dir: Path | str,
    data_dir: Path | str,
    *,
    checkpoint: str = "last",
    device: str | None = None,
    amp: str | None = None,
    network: NetworkSource | None = None,
    watch: Callable[[int, int], object] | None = None,
    follow_links: bool = False,
) -> FolderScores:
    """Score all students of a run, and their ensembles, on pictures that have nothing to do with the run's data.

    Args:
        run_dir: the run directory.
        data_dir: a folder with one folder per class, DIR/CLASS, DIR/test/CLASS or DIR/val/CLASS; a class of the run may
            be missing.
        checkpoint: "last" or "selected".
        device: where to score; if None, on the run's device, or if that is not here, on what is.
        amp: the precision ("auto", "off", "bf16", "fp16"); the run's if None.
        network: the networks again, if `train` was given them.
        watch: is called after every batch with the number of pictures that are done, and of all.
        follow_links: whether links that leave the folder are followed.

    Raises:
        UserError: there is no run or folder, the folder has other classes than the run, none of its pictures can be
            read, networks are missing, or the device is not there.
    """
    run_dir = Path(run_dir)
    config, _ = settings_and_checkpoint(run_dir)
    changed: dict[str, Any] = {"executor": "loop", "compile": False, "cuda_graphs": None, "amp": amp or config.amp}
    changed["device"] = device_to_score_on(config, run_dir, device)
    config = check_config(dataclasses.replace(config, **changed))
    _, group, method, facts = load_group(run_dir, checkpoint, network=network)
    found = labelled_folder(Path(data_dir).expanduser(), facts.classes, follow_links)
    read = partial(prepared, how=preparation_of(run_dir, config, facts).to_json())
    task, place = Classification(group.shape, config.headline), torch.device(config.device)
    leader = _leader(run_dir, checkpoint, method, task)
    # The group has moving averages in place of its weights where these are deployed.
    executor = execution.build("loop", group.to(place), method.to(place), amp=config.amp)
    executor.train(False)
    meter, unreadable, done = task.evaluation_meter(place), [], 0
    with kernels(config):
        size = evaluation_batch((facts.channels, facts.height, facts.width), place)
        for batch in read_batches(read, found.paths, size):
            inputs_BCHW, labels_B = _tensors(batch, found.labels[done : done + len(batch)])
            if len(labels_B):
                outputs = executor.predict(inputs_BCHW.to(place))
                task.score(meter, outputs, labels_B.to(place), method)
            unreadable += [(one.name, one.error) for one in batch if one.error is not None]
            done += len(batch)
            if watch is not None:
                watch(done, len(found.paths))
    _refuse_nothing_read(unreadable, done, found)
    return FolderScores(meter.result(leader), facts.classes, found.folder, found.notes, tuple(unreadable))


def _tensors(batch: Sequence[ReadPicture], labels: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Inputs and labels of the pictures of a batch that could be read."""
    good = [(one.pixels, label) for one, label in zip(batch, labels, strict=True) if one.pixels is not None]
    pixels = np.stack([pixels for pixels, _ in good]) if good else np.empty(0, np.float32)
    return torch.from_numpy(pixels), torch.tensor([label for _, label in good], dtype=torch.int64)


def _leader(run_dir: Path, checkpoint: str, method: Method, task: Classification) -> int:
    """The student that the run hands back; the folder has no say in it."""
    if method.leader is not None:
        return method.leader
    if is_complete(run_dir):
        return recorded_leader(run_dir, checkpoint)
    validations = [epoch.validation for epoch in read_epochs(run_dir, complete=False)]
    if checkpoint == "last":
        return validations[-1].leader_peer
    return min(validations, key=lambda one: task.rank(one, task.headline(method.leader))).leader_peer


def _refuse_nothing_read(unreadable: Sequence[tuple[str, str]], of: int, found: LabelledFolder) -> None:
    if len(unreadable) == of:
        name, reason = unreadable[0]
        raise UserError(
            f"none of the {of} pictures in {found.folder} can be read, the first of them {name} ({reason}): give "
            "other files."
        )
