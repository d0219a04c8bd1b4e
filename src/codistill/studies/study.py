"""A study: the ways to train that an experiment compares, and which of their scores goes where in its table."""

from __future__ import annotations

from dataclasses import dataclass, field

from codistill.training import Config

__all__ = ["Entry", "Study", "Variant"]


@dataclass(frozen=True)
class Variant:
    """One way to train, without seed and folder.

    Attributes:
        heading: of the table in the report that has its runs.
        config: the configuration.
        teacher: name of the variant whose run of the same seed teaches (method kd).
    """

    heading: str
    config: Config
    teacher: str | None = None


@dataclass(frozen=True)
class Entry:
    """One number of the table.

    Attributes:
        row: its row.
        column: its column.
        variant: name of the variant that it is read from.
        who: "headline" (the leader, or the mean of the students), "ensemble" (the mean of softmax outputs),
            "ensemble_logits" (the mean of logits), "ensemble_own" (ONE's gated one), or "peer 0", "peer 1", ...
        what: "top1_error", "top5_error" or "parameters" (in training).
        base: (row, column) of the entry that it is compared with; None if it is not compared.
    """

    row: str
    column: str
    variant: str
    who: str = "headline"
    what: str = "top1_error"
    base: tuple[str, str] | None = None


@dataclass(frozen=True)
class Study:
    """One experiment of a paper under one profile.

    Attributes:
        name: such as "okddip/table2".
        profile: "paper", "gpu", "cpu" or "smoke".
        title: what it compares, in a line.
        metric: "error" or "accuracy" in percent, whichever the paper prints.
        variants: name -> variant, in the order in which they should run, teachers first.
        entries: the numbers of the table, row by row.
        gain: the columns that a row's gain sums, each minus the row "vanilla"; empty for a table without gain.
        networks: the paper's networks and what replaces each.
        choices: what the papers leave open and what was chosen here, a sentence each.
        reading: "slides" or "released" for OKDDip's studies; None for KDCL's, which have only one reading.
        unclear_epochs: for KDCL's studies, the epochs of the networks whose length the slides leave open; None for
            the full length.
    """

    name: str
    profile: str
    title: str
    metric: str
    variants: dict[str, Variant]
    entries: tuple[Entry, ...]
    gain: tuple[str, ...] = ()
    networks: dict[str, str] = field(default_factory=dict)
    choices: tuple[str, ...] = ()
    reading: str | None = None
    unclear_epochs: int | None = None

    @property
    def folder(self) -> str:
        """Name of its report's folder, such as "okddip-table2" or "okddip-table2-released"."""
        parts = [self.name.replace("/", "-")]
        if self.reading and self.reading != "slides":
            parts.append(self.reading)
        if self.unclear_epochs is not None:
            parts.append(f"unclear-epochs-{self.unclear_epochs}")
        return "-".join(parts)

    @property
    def paper(self) -> str:
        """ "okddip" or "kdcl"."""
        return self.name.partition("/")[0]

    @property
    def table(self) -> str:
        """ "table2", "figure3"."""
        return self.name.partition("/")[2]

    @property
    def rows(self) -> tuple[str, ...]:
        """The rows, in the order of the paper's."""
        return tuple(dict.fromkeys(entry.row for entry in self.entries))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns, in the order of the paper's."""
        return tuple(dict.fromkeys(entry.column for entry in self.entries))
