"""Before anything is trained: every variant is built on the data once, so that what cannot run is refused at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from codistill.compare.variants import Variant
from codistill.data import Dataset
from codistill.errors import UserError
from codistill.tracing.cost import TRAINING_FORWARDS, forward_cost
from codistill.training.build import build_session
from codistill.training.check import check_config
from codistill.training.input_record import input_record
from codistill.training.run_data import load_data
from codistill.training.session import Session

__all__ = ["Ready", "build_all"]

LEAST_TRAINING = 2
"""With fewer training images than these of a class, there is nothing that a method could teach better."""


@dataclass(frozen=True)
class Ready:
    """What is known once all variants were built.

    Attributes:
        epochs: length of a run.
        work: arithmetic of a step of each variant, as a multiple of the first one's.
        images: by what the images are recognised: their number, and a hash of their labels.
        lines: what the terminal says of the user's own images.
    """

    epochs: int
    work: tuple[float, ...]
    images: str
    lines: tuple[str, ...]


def build_all(variants: Sequence[Variant]) -> Ready:
    """Build each variant on the data and let it go again; nothing is trained or written.

    Raises:
        UserError: a variant is refused, by its name; a class has too few images.
    """
    dataset = load_data(check_config(variants[0].config))
    ready = [_build(variant, dataset) for variant in variants]
    work = [work for _, work in ready]
    record = input_record(dataset).data
    assert record is not None
    images = f"{record.training_images} + {record.test_images}, labels {record.labels_sha256[:8]}"
    epochs, lines = ready[0][0]
    return Ready(epochs, tuple(one / work[0] for one in work), images, lines)


def _build(variant: Variant, dataset: Dataset) -> tuple[tuple[int, tuple[str, ...]], float]:
    # Nothing runs here, so the layout in memory, which a trial would choose, does not matter.
    config = dataclasses.replace(variant.config, channels_last=False)
    try:
        with build_session(config, dataset) as session:
            _refuse_few_images(session)
            summary = session.data_summary
            return (session.epochs, summary.lines if summary else ()), _work(session)
    except UserError as error:
        raise UserError(f"{variant.name}: {error}") from error


def _refuse_few_images(session: Session) -> None:
    classes, splits = session.dataset.classes, session.splits
    trained_N = session.dataset.train.labels_N[torch.cat([splits.train_N, splits.held_out_N])]
    parts = {"training": trained_N, "test": session.dataset.test.labels_N}
    for part, least in (("training", LEAST_TRAINING), ("test", 1)):
        count_C = parts[part].bincount(minlength=len(classes))
        rarest = int(count_C.argmin())
        if count_C[rarest] < least:
            raise UserError(
                f"class {classes[rarest]!r} has {int(count_C[rarest])} {part} images: a comparison needs at least "
                f"{LEAST_TRAINING} to train on and 1 to test in each class; add images, or leave the class out."
            )


def _work(session: Session) -> float:
    """Return the multiply-accumulates of one step: students, frozen teachers and averaged copies that teach."""
    config, executor = session.config, session.executor
    needs, peers = executor.method.needs, session.shape.peers
    view = (config.batch_size, *session.dataset.train.shape)
    students = forward_cost(executor.group, [view] * (peers if config.icl else 1), session.device, executor.amp).macs
    teachers = sum(forward_cost(teacher, [view], session.device, executor.amp).macs for teacher in executor.teachers)
    updates = peers if needs.turns else 1
    copies = (needs.averaged is not None) + needs.mixed
    return float(updates * (TRAINING_FORWARDS * students + teachers + copies * students))
