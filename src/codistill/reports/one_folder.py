"""The page of one evaluation of a run on another folder of pictures: its errors by class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from codistill.reports.by_class import class_errors
from codistill.reports.numbers import count, number
from codistill.reports.page import write_prefaces
from codistill.reports.preface import Preface
from codistill.rundir import Evaluation

__all__ = ["write_folder_page"]


def write_folder_page(
    out: Path, run: str, folder: str, scored: Evaluation, classes: Sequence[str], notes: Sequence[str]
) -> Path:
    """Write the page of an evaluation to `out`, whole or not at all; missing folders are created.

    Args:
        out: the HTML file; an earlier one is replaced.
        run: the run directory.
        folder: where the pictures are.
        scored: the evaluation.
        classes: the run's, by label.
        notes: sentences on what is not there or was left out.

    Returns:
        `out`.

    Raises:
        UserError: `out` is a folder or cannot be written.
    """
    leader = scored.leader
    text = [
        f"The student to deploy has {number(leader.top1_error)} % error on the {count(scored.images)} pictures of "
        f"{folder} (mean negative log-likelihood {number(leader.nll, 4)}, calibration error {number(leader.ece)} %)."
    ]
    if len(scored.peers) > 1:
        text.append(
            f"The mean of the {len(scored.peers)} students is {number(scored.mean.top1_error)} %, their ensemble "
            f"{number(scored.ensemble.top1_error)} %."
        )
    prefaces = [Preface("In short", text, notice=True, notes=[f"{note}." for note in notes])]
    if scored.confusion is None:
        prefaces.append(Preface("Errors by class", ["There are too many classes to count the confusions of all."]))
    else:
        prefaces.append(class_errors(scored, classes, "pictures"))
    return write_prefaces(out, f"{Path(run).resolve().name} on {folder}", prefaces)
