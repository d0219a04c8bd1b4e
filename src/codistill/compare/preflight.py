"""Before anything is trained: every variant is built on the data once, so that what cannot run is refused at once."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from codistill import methods
from codistill.compare.plan import check_variants
from codistill.compare.same import refuse_same, settings_used
from codistill.compare.tuning import Candidate
from codistill.compare.variants import METHOD, Variant, longer
from codistill.config import Config, filled
from codistill.data import Dataset
from codistill.errors import UserError
from codistill.tracing.cost import TRAINING_FORWARDS, forward_cost
from codistill.training.build import build_session
from codistill.training.check import MOST_EPOCHS, check_config
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
        variants: all that will be trained: those given, and the network alone for longer if that was asked for.
        epochs: length of a run of those given.
        work: name of a variant -> arithmetic of a step as a multiple of the network alone's; for the network alone that
            is trained longer, the arithmetic of its whole run as a multiple of a run's.
        images: by what the images are recognised: their number, and a hash of their labels.
        lines: what the terminal says of the user's own images.
    """

    variants: tuple[Variant, ...]
    epochs: int
    work: Mapping[str, float]
    images: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class _Built:
    """What is kept of a variant that was built: its settings with everything filled in, and the cost of a step."""

    settings: Config
    macs: float
    lines: tuple[str, ...]


def build_all(variants: Sequence[Variant], points: Sequence[Candidate] = (), equal_compute: bool = False) -> Ready:
    """Build each variant on the data and let it go again; nothing is trained or written.

    Args:
        variants: the network alone first.
        points: the grid of tuning.
        equal_compute: also train the network alone for as long as each method's arithmetic is worth.

    Raises:
        UserError: a variant is refused, by its name; two are the same; a class has too few images.
    """
    dataset = load_data(check_config(variants[0].config))
    built = [_build(variant, dataset, points) for variant in variants]
    refuse_same(variants, [one.settings for one in built], points)
    alone = built[0]
    epochs = filled(alone.settings.epochs)
    work = {variant.name: one.macs / alone.macs for variant, one in zip(variants, built, strict=True)}
    more = _longer(variants, epochs, work) if equal_compute else []
    check_variants(more)
    for variant in more:
        _build(variant, dataset)
    record = input_record(dataset).data
    assert record is not None
    images = f"{record.training_images} + {record.test_images}, labels {record.labels_sha256[:8]}"
    return Ready((*variants, *more), epochs, work, images, alone.lines)


def _build(variant: Variant, dataset: Dataset, points: Sequence[Candidate] = ()) -> _Built:
    # Nothing runs here, so the layout in memory, which a trial would choose, does not matter.
    config = dataclasses.replace(variant.config, channels_last=False)
    try:
        with build_session(config, dataset) as session:
            _refuse_few_images(session)
            for text in session.executor.method.cautions():
                warnings.warn(text, stacklevel=2)
            summary = session.data_summary
            for point in points:
                if point.variant.name == variant.name:
                    _try_options(session, point)
            return _Built(settings_used(session), _work(session), summary.lines if summary else ())
    except UserError as error:
        raise UserError(f"{variant.name}: {error}") from error


def _try_options(session: Session, point: Candidate) -> None:
    """Raise UserError if the method refuses the options of a point of the grid."""
    config, generator, teachers = point.tuned.config, session.generators["method"], len(session.executor.teachers)
    try:
        methods.build(config.method, session.shape, generator=generator, teachers=teachers, **config.method_options)
    except UserError as error:
        tried = ", ".join(f"{name} {value:g}" for name, value in point.options.items())
        raise UserError(f"tune tries {tried}: {error}") from error


def _longer(variants: Sequence[Variant], epochs: int, work: dict[str, float]) -> list[Variant]:
    """Return the network alone for as many epochs as each method's arithmetic is worth, each length once.

    Args:
        variants: the network alone first.
        epochs: length of a run.
        work: arithmetic of each variant; that of those returned is added.

    Raises:
        UserError: that many epochs are more than a run may have.
    """
    found: dict[str, Variant] = {}
    for variant in variants:
        worth = round(work[variant.name] * epochs)
        if variant.kind == METHOD and worth > epochs:
            if worth > MOST_EPOCHS:
                raise UserError(
                    f"equal_compute: the arithmetic of {variant.name} is worth {worth:,} epochs of the network alone, "
                    f"and a run has at most {MOST_EPOCHS:,}; give fewer --epochs, or leave --equal-compute out."
                )
            one = longer(variants[0], worth)
            found.setdefault(one.name, one)
            work.setdefault(one.name, work[variant.name])
    return list(found.values())


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
