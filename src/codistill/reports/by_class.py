"""Errors class by class: the matrix of confusions, the pairs confused most, and the most confident mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from codistill.reports.details import Grid, GridCell
from codistill.reports.numbers import MISSING, count, number
from codistill.reports.preface import Confusion, ConfusionCell, Preface, Thumbnail
from codistill.rundir import Evaluation, Run, Summary

__all__ = ["class_errors", "class_section", "confused_pairs", "largest_class", "mistake_section"]

TITLE = "Errors by class"

READABLE = 30
"""Classes up to which the whole matrix is shown."""

COUNTED = 100
"""Classes up to which a run counts confusions."""

PAIRS, WORST = 12, 20
"""Pairs of classes, and classes, that are listed where there are more than READABLE."""

LEVELS = 9


def class_section(run: Run, summary: Summary) -> Preface:
    """Return the errors of the student to deploy by class, on the test images with the weights of the last epoch."""
    test = summary.last.test
    if test.confusion is None:
        why = (
            "there are too many classes to count them all" if len(summary.classes) > COUNTED
            else "an older version of codistill trained it, and did not count them; codistill evaluate RUN --json does"
        )  # fmt: skip
        return Preface(TITLE, [f"This run has no errors by class: {why}."])
    trained = run.input.images.per_class.get("training") if run.input and run.input.images else None
    return class_errors(test, summary.classes, trained=trained)


def class_errors(
    scored: Evaluation, classes: Sequence[str], images: str = "test images", trained: Sequence[int] | None = None
) -> Preface:
    """Return the errors by class of an evaluation that has counted the confusions.

    Args:
        scored: the evaluation.
        classes: names by label.
        images: what to call those that were scored.
        trained: training images of each class; None where they are not known.
    """
    matrix = scored.confusion
    assert matrix is not None
    small = len(classes) <= READABLE
    text = [f"Of the student to deploy, on the {images}."]
    if scored.leader.balanced_error is not None:
        text[0] += f" The mean of the classes' errors is {number(scored.leader.balanced_error)} %."
    if small:
        text.append(
            "A row is a true class, and shows what its images were taken for; the darker, the larger the share."
        )
    notes = []
    if not small:
        notes.append(f"Of {len(classes)} classes, the {WORST} with the highest error are listed.")
    return Preface(
        TITLE,
        text,
        confusion=_confusion(matrix, classes) if small else None,
        grid=_class_grid(matrix, classes, images, trained),
        notes=notes,
        more=_pair_grid(matrix, classes),
        more_title="Confused most often",
    )


def _confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> Confusion:
    def cell(images: int, of: int, right: bool) -> ConfusionCell:
        level = 0 if not images else max(1, round(LEVELS * images / of))
        return ConfusionCell(count(images) if images else "", level, right)

    rows = [
        [cell(images, max(sum(row), 1), true == named) for named, images in enumerate(row)]
        for true, row in enumerate(matrix)
    ]
    return Confusion(classes, rows)


def _class_grid(
    matrix: Sequence[Sequence[int]], classes: Sequence[str], scored: str, trained: Sequence[int] | None
) -> Grid:
    images = [sum(row) for row in matrix]
    named = [sum(column) for column in zip(*matrix, strict=True)]
    order = sorted(range(len(classes)), key=lambda c: -_share(images[c] - matrix[c][c], images[c]))
    shown = order if len(classes) <= READABLE else order[:WORST]
    headings = ["Class", "Mostly taken for", "Error, %", "Wrong", scored.capitalize(), "Right where named, %"]
    lines = [
        [
            classes[c],
            _mostly(matrix[c], c, classes),
            number(_share(images[c] - matrix[c][c], images[c]), 1) if images[c] else MISSING,
            count(images[c] - matrix[c][c]),
            count(images[c]),
            number(_share(matrix[c][c], named[c]), 1) if named[c] else MISSING,
        ]
        for c in shown
    ]
    if trained is not None:
        headings.insert(5, "Training images")
        for line, c in zip(lines, shown, strict=True):
            line.insert(5, count(trained[c]))
    return Grid(headings, [[GridCell(text) for text in line] for line in lines], names=2)


def _mostly(row: Sequence[int], true: int, classes: Sequence[str]) -> str:
    wrong = [0 if c == true else images for c, images in enumerate(row)]
    most = max(range(len(wrong)), key=wrong.__getitem__)
    return f"{classes[most]} ({wrong[most]})" if wrong[most] else MISSING


def _pair_grid(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> Grid | None:
    """The pairs of classes that are confused most; None where the matrix shows them at a glance."""
    pairs = confused_pairs(matrix)
    if len(classes) <= 5 or not pairs:
        return None
    lines = [
        [classes[true], classes[named], count(images), number(_share(images, sum(matrix[true])), 1)]
        for images, true, named in pairs[:PAIRS]
    ]
    return Grid(
        ["True class", "Taken for", "Images", "Of the class, %"],
        [[GridCell(text) for text in line] for line in lines],
        names=2,
    )


def confused_pairs(matrix: Sequence[Sequence[int]]) -> list[tuple[int, int, int]]:
    """Return (images, true class, class that was named) of all confusions, most images first."""
    pairs = [
        (images, true, named)
        for true, row in enumerate(matrix)
        for named, images in enumerate(row)
        if images and named != true
    ]
    return sorted(pairs, key=lambda pair: (-pair[0], pair[1:]))


def _share(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 0.0


def mistake_section(run: Run, summary: Summary) -> Preface | None:
    """Return the test images that the student to deploy is most confidently wrong about; None if the run kept none."""
    if run.mistakes is None:
        return None
    title = "The most confident mistakes"
    if not run.mistakes:
        return Preface(title, ["The student to deploy makes no mistake on the test images."])
    text = [
        "Test images with a wrong answer of which the student to deploy is most certain. Look here for wrong labels, "
        "and for images that show two things or none."
    ]
    thumbnails = [
        Thumbnail(
            one.picture,
            [
                f"{_name(summary.classes, one.predicted)}, {100 * one.confidence:.0f} %",
                f"label: {_name(summary.classes, one.truth)}",
                f"test image {one.index:,}" if one.name is None else "/".join(Path(one.name).parts[-2:]),
            ],
        )
        for one in run.mistakes
    ]
    return Preface(title, text, thumbnails=thumbnails)


def _name(classes: Sequence[str], index: int) -> str:
    return classes[index] if index < len(classes) else str(index)


def largest_class(test: Evaluation) -> float | None:
    """Return the error of always naming the most frequent class, in percent; None where it is not known."""
    if test.confusion is None or not test.images:
        return None
    return 100 * (1 - max(map(sum, test.confusion)) / test.images)
