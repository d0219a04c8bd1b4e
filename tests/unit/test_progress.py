"""Lines of epochs in the terminal: aligned columns that fit, fewer where it is narrow, plain lines elsewhere."""

import dataclasses
import io

import pytest
from rich.console import Console
from synthetic_runs import VARIANTS, epoch_line

from codistill.progress import EpochLine, EpochTable, RunProgress
from codistill.rundir import Epoch

RECORD = Epoch.from_json(epoch_line(7, 300, 0, VARIANTS["okddip, networks"]))


def line(headline="leader", left=4000.0, figure="error"):
    return EpochLine(RECORD, 300, headline, left, figure)


@pytest.mark.parametrize("width", [100, 80, 60, 40, 30])
def test_lines_are_aligned_and_fit(width):
    table = EpochTable(width)
    heading, text = table.heading(), table.line(line())
    assert len(heading) == len(text) <= width
    assert text.split()[0] == "7/300"


def test_all_columns_fit_100_characters_and_the_errors_are_never_left_out():
    table = EpochTable(100)
    assert "training error %" in table.heading()
    assert len(table.columns) == 7
    narrow = EpochTable(30).heading()
    assert narrow.split() == ["epoch", "train", "%", "valid.", "%"]


def test_a_headline_figure_that_is_not_the_error_has_a_column_in_every_width():
    leader = dataclasses.replace(RECORD.validation.leader, balanced_error=12.34)
    record = dataclasses.replace(RECORD, validation=dataclasses.replace(RECORD.validation, leader=leader))
    balanced = dataclasses.replace(line(figure="balanced_error"), record=record)
    for width in (100, 45):
        table = EpochTable(width, "balanced_error")
        assert "balanced error %" in table.heading()
        assert "12.34" in table.line(balanced)
        assert len(table.heading()) <= width


def test_the_errors_are_those_of_the_headline():
    assert line("leader").validation_error == RECORD.validation.leader.top1_error
    assert line("mean").validation_error == RECORD.validation.mean.top1_error
    errors = RECORD.train.error_by_peer
    assert line("mean").training_error == pytest.approx(sum(errors) / 4)


@pytest.mark.parametrize(
    ("terminal", "term", "live"), [(True, "xterm", True), (False, "xterm", False), (True, "dumb", False)]
)
def test_only_a_terminal_that_can_gets_a_bar(monkeypatch, terminal, term, live):
    monkeypatch.setenv("TERM", term)
    progress = RunProgress(Console(file=io.StringIO(), force_terminal=terminal))
    assert progress.live is live
    assert progress.bar.disable is not live
