"""Names of a package that are imported on first use."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import codistill

SOURCE = Path(codistill.__file__).parent
FILES = sorted(SOURCE.rglob("__init__.py"))
PACKAGES = [path.parent for path in FILES if "import_on_use(" in path.read_text(encoding="utf-8")]
SUBPACKAGES = [
    "data",
    "execution",
    "export",
    "losses",
    "methods",
    "models",
    "peers",
    "reports",
    "studies",
    "targets",
    "training",
]


def run(code: str) -> str:
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def dotted(folder: Path) -> str:
    return ".".join(("codistill", *folder.relative_to(SOURCE).parts))


@pytest.mark.parametrize("folder", PACKAGES, ids=dotted)
def test_the_three_lists_of_a_package_agree(folder):
    tree = ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    imports = [(node.module, alias) for node in block.body for alias in node.names]
    named = {alias.name: module for module, alias in imports if alias.name != alias.asname}
    package = importlib.import_module(dotted(folder))
    always = {"UserError"} if package is codistill else set()
    assert set(package.__all__) - always == named.keys() == package._modules.keys()
    assert {name: package._modules[name] for name in named} == named
    assert {alias.name for _, alias in imports if alias.name == alias.asname} == set(package._subpackages)


@pytest.mark.parametrize("folder", PACKAGES, ids=dotted)
def test_every_name_is_there_and_listed(folder):
    package = importlib.import_module(dotted(folder))
    for name in package.__all__:
        assert getattr(package, name).__class__ is not type(sys), f"{name} is a module"
        assert name in dir(package)


def test_the_parts_of_the_library_are_attributes_without_imports_of_their_own():
    parts = ["data", "execution", "export", "losses", "methods", "models", "peers", "reports"]
    assert sorted(codistill._subpackages) == [*parts, "students", "studies", "targets", "training"]
    # These import nothing when they are imported, so that each is found by its own name.
    code = "import codistill; print(codistill.export, codistill.studies, codistill.data, codistill.training)"
    printed = run(code)
    for name in ("export", "studies", "data", "training"):
        assert f"<module 'codistill.{name}' from " in printed


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'codistill\.data' has no attribute 'lod'"):
        _ = codistill.data.lod


def test_a_module_does_not_hide_the_function_that_is_spelled_the_same():
    # The module data/normalise.py is imported before anyone asks the package for its function.
    code = "import codistill.data.normalise; from codistill import data; print(type(data.normalise).__name__)"
    assert run(code) == "function"


def test_the_package_itself_imports_neither_torch_nor_numpy():
    assert run("import codistill, sys; print({'torch', 'numpy'} & set(sys.modules))") == "set()"
