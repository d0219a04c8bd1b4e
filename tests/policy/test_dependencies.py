"""What the package imports is what its metadata promise to install."""

import ast
import re
import sys
from pathlib import Path

import pytest

try:
    import tomllib
except ImportError:  # Python 3.10; pytest brings it there
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "codistill"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FOR_DEVELOPERS = {"dev", "dev-extras"}
# Where the name of the distribution is another than that of the module.
DISTRIBUTIONS = {"PIL": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml"}
LATER = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def distributions(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=!~; ]", line)[0].lower().replace("_", "-") for line in requirements}


def modules_of(node: ast.AST) -> list[str]:
    """The modules that a statement or a call of `import_module("...")` imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and not node.level:
        return [node.module or ""]
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
        return [a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    return []


def third_party(tree: ast.AST, *, later: bool = False):
    """Yield (distribution, whether the module loads without it)."""
    for node in ast.iter_child_nodes(tree):
        for module in modules_of(node):
            top = module.partition(".")[0]
            if top and top not in sys.stdlib_module_names and top != "codistill":
                yield DISTRIBUTIONS.get(top, top.lower().replace("_", "-")), later
        only_typed = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        yield from third_party(node, later=later or only_typed or isinstance(node, LATER))


def imports(path: Path) -> set[tuple[str, bool]]:
    return set(third_party(ast.parse(path.read_text(encoding="utf-8"))))


NEEDED = distributions(PROJECT["dependencies"])
EXTRAS = {name: distributions(lines) for name, lines in PROJECT["optional-dependencies"].items()}
OPTIONAL = set().union(*(names for extra, names in EXTRAS.items() if extra not in FOR_DEVELOPERS))


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE)))
def test_every_import_of_the_package_is_declared(path):
    found = imports(path)
    undeclared = {name for name, later in found if not later} - NEEDED
    assert not undeclared, f"declare {undeclared} as dependencies, or import them where they are used"
    unnamed = {name for name, _ in found} - NEEDED - OPTIONAL
    assert not unnamed, f"{unnamed} belong to the dependencies or to an extra"


def test_every_declared_dependency_is_imported():
    used = {name for path in SOURCE.rglob("*.py") for name, _ in imports(path)}
    assert used >= NEEDED, NEEDED - used


def test_the_tests_import_nothing_that_make_install_leaves_out():
    """tests/extras and tests/package have environments of their own."""
    files = [p for p in (ROOT / "tests").rglob("*.py") if p.parent.name not in ("extras", "package")]
    own = {p.stem.replace("_", "-") for p in files}
    used = {name for path in files for name, _ in imports(path)} - own
    # The examples and benchmarks that tests load from their folders.
    here = {p.stem.replace("_", "-") for folder in ("benchmarks", "examples") for p in (ROOT / folder).rglob("*")}
    assert used - here - {"tomli", "tomllib"} <= NEEDED | EXTRAS["dev"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import os, PIL.Image", {("pillow", False)}),
        ("from huggingface_hub import x", {("huggingface-hub", False)}),
        ("def f():\n    import timm", {("timm", True)}),
        ("f = lambda: importlib.import_module('wandb.sdk')", {("wandb", True)}),
        ("if TYPE_CHECKING:\n    import onnx", {("onnx", True)}),
        ("try:\n    import onnx\nexcept ImportError: pass", {("onnx", False)}),
        ("from . import x\nimport codistill.data", set()),
    ],
)
def test_the_search_finds_what_it_looks_for(text, found):
    assert set(third_party(ast.parse(text))) == found
