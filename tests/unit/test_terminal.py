"""What is printed is text: no markup, no emoji, no command to the terminal, in every place and every encoding."""

import csv
import io
import json
import os
import re
import subprocess
import sys
import warnings
import xml.etree.ElementTree as ET

import pytest
from rich.console import Group
from rich.progress import Progress
from rich.table import Table
from rich.text import Text
from synthetic_runs import write_run

from codistill import cli
from codistill.console import print_entries, score_table
from codistill.data.pictures import FilePictures
from codistill.data.summary import _class_lines
from codistill.printable import json_text, printable
from codistill.reports import compare, find_runs, render_table, write_csv, write_report
from codistill.students.classify import Prediction
from codistill.students.output import as_csv, as_table
from codistill.terminal import Console, print_warning_once, styled

EVIL = "a[/b] [bold]x[/] :smile: \x1b[31m\x9b2J\u202e \udcff"
SHOWN = r"a[/b] [bold]x[/] :smile: \x1b[31m\x9b2J\u202e \xff"
STEERING = ("\x1b", "\x9b", "\u202e", "\udcff")


def printed(*what, **options):
    file = io.StringIO()
    console = Console(file=file, width=200, force_terminal=options.pop("force_terminal", False))
    console.print(*what, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("text", "lines", "shown"),
    [
        ("plain äöü 中 é×", False, "plain äöü 中 é×"),
        ("\x1b[31m", True, r"\x1b[31m"),
        ("a\r\nb\tc", True, "a\\r\nb\tc"),
        ("a\r\nb\tc", False, r"a\r\nb\tc"),
        (os.fsdecode(b"x\xff.png"), False, r"x\xff.png"),
        ("\u202eabc\u2028\x00\x7f\ud800", False, r"\u202eabc\u2028\x00\x7f\ud800"),
    ],
)
def test_control_characters_are_shown_as_python_writes_them(text, lines, shown):
    assert printable(text, lines=lines) == shown


def cell():
    table = Table(title=EVIL)
    table.add_column(EVIL)
    table.add_row(EVIL)
    table.add_row(Text(EVIL))
    return table


@pytest.mark.parametrize("what", [EVIL, Text(EVIL), cell(), Group(EVIL, Text(EVIL)), styled(EVIL, (EVIL, "bold"))])
def test_strings_texts_and_tables_are_printed_as_they_are(what):
    found = printed(what)
    assert SHOWN in found
    assert found.count(SHOWN) == found.count("a[/b]")
    assert not any(sign in found for sign in STEERING)


def test_a_table_with_escaped_cells_stays_aligned():
    table = Table()
    for heading in ("x", "y"):
        table.add_column(heading)
    table.add_row("\x1b\x1b\x1b\x1b", "1")
    table.add_row("b", "2")
    assert len({len(line) for line in printed(table).splitlines()}) == 1


def test_styles_are_the_only_commands_to_the_terminal():
    found = printed(styled(("failed", "red"), f": {EVIL}"), force_terminal=True)
    assert found == f"\x1b[31mfailed\x1b[0m: {SHOWN}\n"


def test_a_bar_shows_its_description_as_it_is():
    file = io.StringIO()
    with Progress(console=Console(file=file, force_terminal=True, width=200)) as bar:
        bar.add_task(EVIL.replace("[/b]", "").replace("[bold]x[/]", ""))
    assert r"\x1b[31m" in file.getvalue()
    assert "\x1b[31m" not in file.getvalue()


def test_errors_and_warnings_of_the_command_line_are_text(capsys, monkeypatch):
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    with pytest.raises(SystemExit) as stop:
        cli.main(["report", f"/nowhere/{EVIL}"])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"codistill: error: /nowhere/{SHOWN} is not a folder")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        show = print_warning_once()
        for _ in range(2):
            show(EVIL, UserWarning)
    assert capsys.readouterr().err == f"codistill: warning: {SHOWN}\n"


def test_lists_and_predictions_are_text():
    file = io.StringIO()
    print_entries(Console(file=file, width=200), [{"name": EVIL, "what": EVIL, "more": EVIL}], "what")
    assert file.getvalue().count(SHOWN) == 3
    found = [Prediction(EVIL, (EVIL, "b"), (0.7, 0.3))]
    assert printed(as_table(found)).count(SHOWN) == 2
    rows = list(csv.reader(io.StringIO(as_csv(found))))
    assert rows[1][:2] == [SHOWN, SHOWN]


def test_the_title_of_a_table_of_scores_is_text(tmp_path):
    run = write_run(tmp_path / "x", epochs=2)
    summary = json.loads((run / "summary.json").read_text())
    assert SHOWN in printed(score_table(summary["last"]["test"], EVIL))


NAMES = ["student 0", "student 1", "mean of students", "leader (student 1)", "ensemble (mean probability)"]
NAMES += ["ensemble (mean logit)", "ensemble (the method's own)"]


def rows_of(record, width):
    """Names (put together again) and numbers of a printed table of scores."""
    file = io.StringIO()
    Console(file=file, width=width).print(score_table(record, "test"))
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    below = lines[next(i for i, line in enumerate(lines) if line.startswith("──")) + 1 :]
    rows = []
    for line in below:
        name, *numbers = re.split(r" {2,}", line.rstrip())
        if numbers:
            rows.append([name, numbers])
        else:
            rows[-1][0] += line.strip()
    return [(name.replace(" ", ""), numbers) for name, numbers in rows]


@pytest.mark.parametrize("width", [80, 60])
def test_a_table_of_scores_shows_every_name_and_number_whole(width):
    figures = {"top1_error": 12.34, "top5_error": 5.67, "balanced_error": 23.45, "macro_f1": 76.54, "auroc": 87.65}
    figures |= {"nll": 1.2345, "ece": 8.91}
    record = dict.fromkeys(("mean", "leader", "ensemble", "ensemble_logits", "ensemble_own"), figures)
    record |= {"peers": [figures, figures], "leader_peer": 1}
    numbers = ["12.34", "5.67", "23.45", "76.54", "87.65", "1.2345", "8.91"]
    assert rows_of(record, width) == [(name.replace(" ", ""), numbers) for name in NAMES]
    few = figures | {"top5_error": None, "auroc": None}
    assert rows_of({**record, "peers": [few], "leader": few}, width) == [
        ("network", ["12.34", "23.45", "76.54", "1.2345", "8.91"])
    ]


def test_a_table_of_scores_breaks_no_name_in_80_columns(tmp_path):
    record = json.loads((write_run(tmp_path / "x", epochs=2) / "summary.json").read_text())["last"]["test"]
    for score in (*record["peers"], record["mean"], record["leader"], record["ensemble"], record["ensemble_logits"]):
        score |= {"auroc": 100.0, "top5_error": 100.0, "nll": 12.3456}
    file = io.StringIO()
    Console(file=file, width=80).print(score_table(record, "test"))
    assert "\nensemble (mean probability)  " in file.getvalue()


def test_json_holds_the_same_text_without_control_characters():
    record = {"name": EVIL, "plain": "é×中\n"}
    text = json_text(record)
    assert json.loads(text) == record
    assert not any(sign in text for sign in STEERING)
    assert "é×中" in text


@pytest.fixture
def labelled(tmp_path):
    """A run whose label is meant to break what shows it; another run is next to it."""
    write_run(tmp_path / "runs" / "y", "dml", epochs=2)
    return write_run(tmp_path / "runs" / "x", f"\x1b<b>$x_{{$ {EVIL}", epochs=2)


def test_pages_drawings_and_tables_show_labels_as_text(tmp_path, labelled):
    runs = find_runs([labelled.parent])
    page = write_report(runs, tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"\\x1b&lt;b&gt;$x_{{$ {SHOWN}" in page
    assert not any(sign in page for sign in STEERING)
    assert "<b>" not in page
    for svg in page.split("<svg")[1:]:
        ET.fromstring("<svg" + svg.split("</svg>")[0] + "</svg>")
    assert SHOWN in printed(render_table(compare(runs)))
    for path in write_csv(runs, tmp_path / "csv"):
        text = path.read_text(encoding="utf-8")
        assert not any(sign in text for sign in STEERING)


def test_a_file_name_that_is_not_utf_8_and_has_two_lines_is_one_printable_line(tmp_path):
    path = tmp_path / os.fsdecode(b"a\xff\nb.png")
    assert FilePictures([path]).name(0) == f"{tmp_path}/a\\xff\\nb.png"


@pytest.mark.parametrize("setting", ["LC_ALL=C", "PYTHONIOENCODING=ascii", "LC_ALL=C PYTHONUTF8=0"])
def test_printing_never_fails_whatever_the_encoding(setting):
    code = (
        "import os; from codistill.terminal import Console, print_in_any_encoding, print_warning_once\n"
        "print_in_any_encoding()\n"
        "name = os.fsdecode(b'y\\xff') + ' \\u00d7 \\u4e2d'\n"
        "print(name); Console().print(name); print_warning_once()(name, UserWarning)"
    )
    environment = os.environ | dict(pair.split("=") for pair in setting.split())
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, check=False)
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done.stderr
    assert rb"y\xff" in done.stdout.splitlines()[1]
    assert rb"y\xff" in done.stderr


def test_the_name_of_a_class_begins_no_line_of_its_own():
    names = ["a\nerror: none", "b"]
    lines = _class_lines(names, {"training": [2, 1], "test": [1, 0]})
    shown = io.StringIO()
    table = as_table([Prediction("x.png", tuple(names), (0.75, 0.25))])
    console = Console(file=shown, width=100)
    console.print(table)
    assert not any(line.startswith("error") for line in "\n".join([*lines, shown.getvalue()]).splitlines())
    assert r"a\nerror: none" in shown.getvalue()
    assert r"a\nerror: none" in lines[0]
