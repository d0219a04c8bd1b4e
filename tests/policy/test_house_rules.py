"""The rules that keep the house small and its arrows straight."""

import ast
import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "codistill"
FILES = sorted(SOURCE.rglob("*.py"))
BENCHMARKS = sorted((SOURCE.parents[1] / "benchmarks").rglob("*.py"))
# Any part may import these.
BASE = {"errors", "lazy", "meaning", "printable", "trusted"}
LAYERS = {
    "errors": set(),
    "lazy": set(),
    "meaning": set(),
    "trusted": set(),
    "printable": set(),
    "terminal": set(),
    "modelfacts": set(),
    "needs": set(),
    "outputs": set(),
    "types": {"needs", "outputs"},
    "losses": set(),
    "targets": {"types", "losses"},
    "userfile": set(),
    "convert": set(),
    "methods": {"needs", "types", "losses", "targets", "userfile", "convert"},
    "models": {"userfile"},
    "tracing": set(),
    "peers": {"needs", "types", "models", "modelfacts", "tracing"},
    "execution": {"needs", "types", "peers", "methods", "userfile", "tracing"},
    "joint": {"execution", "losses", "methods", "peers", "tracing", "types"},
    "prepare": set(),
    "data": {"prepare"},
    "rundir": set(),
    "config": {"data", "execution", "convert", "rundir"},
    "training": {
        *("config", "needs", "types", "execution", "methods", "peers", "models", "data", "convert", "tracing"),
        *("rundir", "userfile"),
    },
    "export": {"config", "data", "methods", "models", "peers", "prepare", "rundir", "training"},
    "reports": {"config", "rundir"},
    "students": {
        *("config", "console", "data", "execution", "methods", "models", "prepare", "reports", "rundir", "terminal"),
        "training",
    },
    "console": {"rundir", "terminal", "tracing", "training"},
    "progress": {"config", "console", "data", "terminal", "training", "rundir"},
    "studies": {
        *("config", "tracing", "training", "reports", "export", "console", "models", "peers", "data", "rundir"),
        "terminal",
    },
    "compare": {
        *("config", "console", "data", "methods", "reports", "rundir", "studies", "terminal", "tracing", "training"),
    },
    "option_groups": {"config"},
    "launcher": {"execution"},
    "commands": {"option_groups", "config", "export", "training", "students", "studies", "compare"},
    "cli": {
        "compare",
        *("config", "commands", "console", "progress", "modelfacts", "training", "reports", "export", "data"),
        *("execution", "launcher"),
        "methods",
        "students",
        "studies",
        "terminal",
    },
}
"""Part of the package -> the parts that it may import."""


def module_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_modules(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("codistill"):
            rest = node.module.split(".")[1:]
            found |= {rest[0]} if rest else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("codistill.")}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_run_one_way(path):
    layer = module_of(path)
    if layer in ("__init__", "__main__"):
        return
    allowed = LAYERS[layer] | BASE | {layer}
    wrong = {m for m in imported_modules(path) if m in LAYERS} - allowed
    assert not wrong, f"{layer} must not import {wrong}"


def test_every_part_of_the_package_has_a_place_in_the_layers():
    parts = {module_of(p) for p in FILES} - {"__init__", "__main__"}
    assert parts == set(LAYERS)


@pytest.mark.parametrize("path", [*FILES, *BENCHMARKS], ids=lambda p: str(p.relative_to(SOURCE.parents[1])))
def test_a_file_holds_one_idea_and_a_function_fits_a_screen(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node, clean=False) or ""
            lines = node.end_lineno - node.body[0].lineno + 1 - len(docstring.splitlines())
            assert lines <= 60, f"{node.name} has {lines} lines"


def public_functions(path: Path):
    def walk(body, prefix=""):
        for node in body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield from walk(node.body, f"{node.name}.")
            elif isinstance(node, ast.FunctionDef) and (not node.name.startswith("_") or node.name == "__init__"):
                yield prefix + node.name, node

    yield from walk(ast.parse(path.read_text(encoding="utf-8")).body)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_public_names_are_typed(path):
    for name, node in public_functions(path):
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
        named = [a for a in arguments if a is not None and a.arg not in ("self", "cls")]
        assert all(a.annotation is not None for a in named), f"{name} has arguments without types"
        assert node.returns is not None, f"{name} has no return type"


def test_library_code_never_seeds_globally_except_in_the_one_documented_scope():
    seeding = re.compile(r"\b(torch|np|numpy|random|default_generator)\.(random\.)?(manual_seed|seed)\(")
    found = {str(p.relative_to(SOURCE)) for p in FILES if seeding.search(p.read_text(encoding="utf-8"))}
    # Inside fork_rng, which puts the caller's state back: random layers of a run, foreign networks' initialisation, a
    # user's random transforms; students in one of several processes.
    scopes = {"training/numerics.py", "models/init.py", "models/__init__.py", "data/drawn.py"}
    assert found == scopes | {"execution/own_outputs.py", "execution/distributed.py"}


def test_the_package_knows_nothing_of_its_benchmarks():
    programs = {path.relative_to(SOURCE.parents[1] / "benchmarks").parts[0].removesuffix(".py") for path in BENCHMARKS}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not programs & {name.partition(".")[0] for name in names}, path


def test_no_arrow_leads_back():
    placed: set[str] = set()
    while ready := {part for part in LAYERS.keys() - placed if LAYERS[part] <= placed}:
        placed |= ready
    assert placed == set(LAYERS), f"circle among {set(LAYERS) - placed}"


def test_no_pickle_is_loaded_with_code_execution():
    for path in FILES:
        for call in re.findall(r"torch\.load\([^)]*\)", path.read_text(encoding="utf-8")):
            assert "weights_only=True" in call, path


ONE_PLACE = {
    # prepare.py is copied next to exported weights, and snippets.py writes code for other programs.
    r"\bImage\.open\(": {"prepare.py", "export/snippets.py"},
    r"\byaml\.(safe_|full_|unsafe_)?load(_all)?\(": {"rundir/yaml_text.py"},
    r"\brich\.console( import .*\bConsole\b|\.Console\b)": {"terminal.py"},
    r"\bfrom rich\.markup\b|\bmarkup=True|Text\.from_markup": set(),
    r"\bpickle\.loads?\(|\bUnpickler\(|allow_pickle=True": {"data/items.py"},
}
"""What reads or shows what others wrote -> the files that do it, with their limits."""


@pytest.mark.parametrize("pattern", ONE_PLACE)
def test_what_others_wrote_is_opened_and_shown_in_one_place(pattern):
    found = {p.relative_to(SOURCE).as_posix() for p in FILES if re.search(pattern, p.read_text(encoding="utf-8"))}
    assert found == ONE_PLACE[pattern]


def test_open_ends_have_no_place_in_the_source():
    for path in FILES:
        assert not re.search(r"\b(TODO|FIXME|XXX)\b", path.read_text(encoding="utf-8")), path
