"""Write docs/bad-input.md: what is answered to input that is wrong, from the table that the tests go through.

python docs/make_bad_input.py          # a second
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

PAGE = Path(__file__).with_name("bad-input.md")
sys.path.insert(0, str(PAGE.parents[1] / "tests" / "bad_input"))

from case import Case  # noqa: E402
from cases import PARSER, SECTIONS  # noqa: E402

OPENING = """# Bad input

What codistill answers to input that is wrong. Written by `python docs/make_bad_input.py` from the table in
`tests/bad_input`; a test goes through every line.

- On the command line a mistake is one line on the standard error, `codistill: error: ` and a sentence: the value, the
  rule, the remedy. There is no traceback.
- From Python it is a `codistill.UserError` with that text.
- Exit code 2: the run (or export, or report) never began, and nothing was written. Exit code 1: a run that had begun
  cannot go on (`codistill.errors.RunFailedError`); what it had saved is kept, and `codistill resume` goes on from there
  where that makes sense.
- Any other exception is a fault of codistill's: please report it.

In the lines below, `runs/done` is a finished run on the data set digits, `runs/stopped` was interrupted after its first
epoch, `runs/pictures` was trained on `pictures`, a folder with the classes cat and dog, `exported` is the leader of
`runs/done`, and `own.py` is a file with a network that the user has named before. "…" stands for what differs from
machine to machine.
"""

BOXES = """## What the parser of the command line refuses

Misspelled options and values of the wrong type do not reach codistill. The parser (tyro) answers in a box of several
lines, on the standard error; the exit code is 2.
"""

CALLS = """
`shape` is a `GroupShape` of 3 peers and 4 classes, `net` a network of 4 classes for grey images, `group` a
`NetworkGroup` of three such networks, `labels` are int64 [5], and `step(name, labels, outputs)` builds a method and
calls it once; `quick` is a `Config` of one epoch on digits.
"""


def main() -> None:
    """Write the page."""
    PAGE.write_text(written(), encoding="utf-8")


def written() -> str:
    """Return the page."""
    parts = [OPENING]
    for section, cases in SECTIONS.items():
        parts.append(f"## {section}\n{CALLS if section == 'Python' else ''}\n{_table(cases)}")
    parts.append(f"{BOXES}\n{_table(PARSER)}")
    return "\n".join(parts)


def _table(cases: Sequence[Case]) -> str:
    rows = [f"| {_given(case)} | {_cell(case.says)} | {case.code} |" for case in cases]
    return "\n".join(["| given | answer | exit code |", "|---|---|---:|", *rows, ""])


def _given(case: Case) -> str:
    line = f"`{_cell(case.given)}`"
    words = case.words.replace("*", "\\*")
    return f"{line}, where {_cell(words)}" if case.first else line


def _cell(text: str) -> str:
    return (
        text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*") if "`" in text else text.replace("|", "\\|")
    )


if __name__ == "__main__":
    main()
