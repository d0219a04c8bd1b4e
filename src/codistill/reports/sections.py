"""The sections of pictures on a page. A section without data is left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from codistill.reports.comparison import Row, Table
from codistill.reports.figures.attention import attention_figure, last_attention
from codistill.reports.figures.calibration import pooled, reliability_figure
from codistill.reports.figures.cost import cost_figure
from codistill.reports.figures.curves import curve_figure, line_over_seeds
from codistill.reports.figures.forest import forest_figure
from codistill.reports.figures.key import KeyEntry, key_of
from codistill.reports.figures.pens import Pen, pens_for, plain_pens
from codistill.reports.figures.svg import SMALL
from codistill.reports.numbers import mean_std
from codistill.reports.picture import Picture
from codistill.reports.statistics import estimate
from codistill.rundir import Epoch

__all__ = ["Section", "sections_of"]


@dataclass(frozen=True)
class Section:
    """Pictures that answer one question; `small` ones are drawn four in a line instead of two."""

    name: str
    title: str
    text: str
    pictures: list[Picture]
    key: list[KeyEntry] = field(default_factory=list)
    small: bool = False


def sections_of(table: Table, prefix: str = "") -> list[Section]:
    """Draw everything that the runs of a table have data for; `prefix` keeps the ids of several tables unique."""
    pens = pens_for(table.rows)
    makers = (_errors, _learning, _diversity, _attention, _shares, _calibration, _loss_terms)
    made = (make(table, pens, prefix) for make in makers)
    return [section for section in made if section is not None and section.pictures]


def headline_of(row: Row) -> str:
    """Return whose error represents the row; the mean of the students while no seed is finished."""
    return row.headline or "mean"


def _errors(table: Table, pens: dict[str, Pen], prefix: str) -> Section | None:
    rows = [row for row in table.rows if row.error]
    replicated = any(row.error.n > 1 for row in rows if row.error)
    pictures = []
    if len(rows) > 1 or replicated:
        values = "; ".join(f"{row.name} {mean_std(row.error)} %" for row in rows)
        svg = forest_figure(rows, pens, f"{prefix}forest", f"Top-1 test error of each row: {values}")
        bars = " with 95 % confidence intervals" if replicated else ""
        note = (
            f"Filled: leader or mean student, as in the table. Hollow: ensemble. Large marks are means{bars}; "
            "the small dots below them are the seeds. Farther left is better. An interval that runs out of the picture "
            "is too wide to support a conclusion."
        )
        pictures.append(Picture("Test error at the last epoch", svg, note))
    if len(rows) > 1:
        svg = cost_figure(rows, pens, f"{prefix}cost", "Test error over training time, one mark per row")
        note = "Mean over seeds ± one standard deviation. Down and to the left is better: less error in less time."
        pictures.append(Picture("Test error and training time", svg, note))
    key = key_of({row.name: pens[row.name] for row in rows})
    return Section(f"{prefix}errors", "Test error", "", pictures, key if len(rows) > 1 else [])


def _curves(
    table: Table, pens: dict[str, Pen], pick: Callable[[Row, Epoch], float | None], ident: str, y: str
) -> str | None:
    lines = []
    for row in table.rows:
        line = line_over_seeds(row.runs, pens[row.name], lambda epoch, row=row: pick(row, epoch))
        lines += [line] if line else []
    return curve_figure(lines, ident, f"{y}, over epochs, {len(lines)} lines", y=y) if lines else None


def _add_curves(table: Table, pens: dict[str, Pen], section: Section, wanted: list[tuple]) -> Section:
    for title, note, y, ident, pick in wanted:
        if svg := _curves(table, pens, pick, ident, y):
            section.pictures.append(Picture(title, svg, note))
    return section


def _learning(table: Table, pens: dict[str, Pen], prefix: str) -> Section:
    several = any(len(row.runs) > 1 for row in table.rows)
    text = "Each line is the mean over seeds; the band goes from the lowest to the highest seed. " if several else ""
    text += "An axis that does not start at 0 is logarithmic: equal distances are equal ratios."
    key = key_of(pens) if len(table.rows) > 1 else []
    section = Section(f"{prefix}learning", "Learning curves", text, [], key)

    def error(row: Row, epoch: Epoch) -> float:
        return epoch.validation.score(headline_of(row)).top1_error

    validation = "Top-1 error on the validation images, of the leader or mean student as in the table."
    loss = "What a student minimises, as a mean over the images of an epoch: cross-entropy and weighted soft terms."
    return _add_curves(
        table, pens, section,
        [
            ("Validation error", validation, "validation error, %", f"{prefix}validation", error),
            ("Training loss", loss, "training loss per student, nats", f"{prefix}loss", _loss),
        ],
    )  # fmt: skip


def _loss(_: Row, epoch: Epoch) -> float:
    return epoch.loss_per_student


def _diversity(table: Table, pens: dict[str, Pen], prefix: str) -> Section:
    rows = {row.name: pens[row.name] for row in table.rows if any(_spread(run.metrics) for run in row.runs)}
    text = (
        "How much the predictions of the students differ on the validation images. Students that predict the same have "
        "nothing left to teach each other."
    )
    section = Section(
        f"{prefix}diversity", "Diversity of the students", text, [], key_of(rows) if len(rows) > 1 else []
    )

    def distance(_: Row, epoch: Epoch) -> float | None:
        return epoch.validation.diversity and epoch.validation.diversity.distance

    def disagreement(_: Row, epoch: Epoch) -> float | None:
        return epoch.validation.diversity and epoch.validation.diversity.disagreement

    far = "Euclidean distance between the softmax outputs of two students, mean over pairs and images (0 to 1.41)."
    differ = "Share of pairs and images where two students predict different classes."
    return _add_curves(
        table, pens, section,
        [
            ("Distance of predictions", far, "mean pairwise distance", f"{prefix}distance", distance),
            ("Disagreement", differ, "disagreement, % of pairs", f"{prefix}disagreement", disagreement),
        ],
    )  # fmt: skip


def _spread(metrics: tuple[Epoch, ...]) -> bool:
    return any(epoch.validation.diversity for epoch in metrics)


def _attention(table: Table, pens: dict[str, Pen], prefix: str) -> Section:
    text = (
        "How much each peer learns from each other peer at the last epoch, mean over images and seeds. A row is one "
        "peer's target and sums to 1: its numbers are the weights of the peers' predictions. Equal numbers are a plain "
        "average."
    )
    section = Section(f"{prefix}attention", "Attention between peers", text, [], small=True)
    for i, row in enumerate(table.rows):
        matrix = last_attention(row.runs)
        if matrix is not None:
            values = "; ".join(" ".join(f"{w:.2f}" for w in weights) for weights in matrix)
            label = f"Attention matrix of {row.name}, row by row: {values}"
            svg = attention_figure(matrix, f"{prefix}attention-{i}", label)
            section.pictures.append(Picture(row.name, svg))
    return section


def _shares(table: Table, pens: dict[str, Pen], prefix: str) -> Section:
    rows = [row for row in table.rows if _share_count(row)]
    by_peer = plain_pens(max((_share_count(row) for row in rows), default=0))
    text = (
        "The weight of each student in the target that all learn from, over the epochs, mean over seeds. In "
        "kdcl_general the weights come from the held-out images; in one they are the gate's mean over images. They sum "
        "to 1."
    )
    key = key_of({f"student {peer}": pen for peer, pen in enumerate(by_peer)})
    section = Section(f"{prefix}shares", "Weights of the students", text, [], key)
    for i, row in enumerate(rows):
        drawn = [
            line_over_seeds(row.runs, pen, lambda e, p=peer: e.shares[p] if e.shares else None)
            for peer, pen in enumerate(by_peer[: _share_count(row)])
        ]
        svg = curve_figure(
            [line for line in drawn if line], f"{prefix}shares-{i}", f"Weights of {row.name} over epochs", y="weight"
        )
        section.pictures.append(Picture(row.name, svg))
    return section


def _share_count(row: Row) -> int:
    return max((len(epoch.shares or ()) for run in row.runs for epoch in run.metrics), default=0)


def _calibration(table: Table, pens: dict[str, Pen], prefix: str) -> Section:
    text = (
        "Are predictions made with 80 % confidence right in 80 % of cases? On the diagonal they are; below it the "
        "network is overconfident. There is one dot for each of 15 bins of confidence, with seeds pooled; its area is "
        "the share of test images. ECE is the mean distance to the diagonal, weighted by images."
    )
    section = Section(f"{prefix}calibration", "Calibration of the leader", text, [], small=True)
    for i, row in enumerate(table.rows):
        tests = [summary.last.test for summary in row.summaries]
        if tests and all("leader" in test.reliability for test in tests):
            ece = f"ECE {mean_std(estimate([test.leader.ece for test in tests]))} %"
            points = pooled([test.reliability["leader"] for test in tests])
            label = f"Reliability diagram of {row.name}, {ece}"
            if len(points):
                svg = reliability_figure(points, pens[row.name], f"{prefix}calibration-{i}", label)
                section.pictures.append(Picture(row.name, svg, ece))
    return section


def _loss_terms(table: Table, pens: dict[str, Pen], prefix: str) -> Section:
    rows = [row for row in table.rows if len(_term_names([row])) > 1]
    names = _term_names(rows)
    by_term = dict(zip(names, plain_pens(len(names)), strict=True))
    text = (
        "The terms of each method's training loss before weighting, summed over the students, in nats. ce is the "
        "cross-entropy with the labels; the others pull the students towards their soft targets."
    )
    section = Section(f"{prefix}terms", "Terms of the loss", text, [], key_of(by_term), small=True)
    for i, row in enumerate(rows):
        drawn = [
            line_over_seeds(row.runs, pen, lambda e, n=name: e.train.parts.get(n)) for name, pen in by_term.items()
        ]
        lines = [line for line in drawn if line]
        label = f"Loss terms of {row.name} over epochs: {', '.join(_term_names([row]))}"
        svg = curve_figure(lines, f"{prefix}terms-{i}", label, y="nats", width=SMALL, height=170)
        section.pictures.append(Picture(row.name, svg))
    return section


def _term_names(rows: list[Row]) -> list[str]:
    return list(
        dict.fromkeys(n for row in rows for run in row.runs for epoch in run.metrics for n in epoch.train.parts)
    )
