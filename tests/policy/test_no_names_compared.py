"""Methods and executors say what they need and take; nobody asks them for their names."""

import ast
from pathlib import Path

import pytest

from codistill.execution import EXECUTORS
from codistill.methods import METHODS

SOURCE = Path(__file__).parents[2] / "src" / "codistill"
NAMES = {*METHODS, *EXECUTORS}
FILES = [
    *(path for part in ("training", "execution", "peers") for path in sorted((SOURCE / part).rglob("*.py"))),
    *(SOURCE / name for name in ("cli.py", "commands.py", "console.py", "progress.py")),
]


def constants(node):
    """Text that stands in an expression itself or in a literal tuple, list or set of it."""
    items = node.elts if isinstance(node, ast.Tuple | ast.List | ast.Set) else [node]
    return {item.value for item in items if isinstance(item, ast.Constant) and isinstance(item.value, str)}


def compared_names(text):
    found = []
    for node in ast.walk(ast.parse(text)):
        sides = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
        if isinstance(node, ast.match_case):
            sides = [inner.value for inner in ast.walk(node.pattern) if isinstance(inner, ast.MatchValue)]
        found += [(node_line(node), name) for side in sides for name in constants(side) & NAMES if asks(node, name)]
    return found


def asks(node, name):
    """Whether the name can be that of a method or an executor here: "auto" is a device and a precision too."""
    return name != "auto" or "executor" in ast.unparse(node)


def node_line(node):
    return node.pattern.lineno if isinstance(node, ast.match_case) else node.lineno


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_no_name_of_a_method_or_an_executor_is_compared(path):
    found = compared_names(path.read_text(encoding="utf-8"))
    assert not found, f"ask the class what it needs or takes: {found}"


@pytest.mark.parametrize(
    "text",
    [
        "x == 'fused'",
        "c.executor == 'auto'",
        "'kd' != x",
        "x in ('dml', 'other')",
        "x not in {'loop'}",
        "match x:\n    case 'okddip' | 'a': pass",
    ],
)
def test_the_search_finds_what_it_looks_for(text):
    assert len(compared_names(text)) == 1


def test_the_search_lets_other_text_pass():
    assert compared_names("x == 'fusion'\ndevice == 'auto'\ny = 'fused'\nf('kd')\nz = {'dml': 1}") == []
