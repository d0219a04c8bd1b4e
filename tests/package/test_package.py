"""The built wheel and sdist, tried as a user would, in an environment that has nothing else: run by `make package`."""

import json
import os
import re
import subprocess
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
BIN = ROOT / ".venv-extras" / ("Scripts" if os.name == "nt" else "bin")
SOURCE = ROOT / "src"
OPTIONAL = (
    "timm",
    "datasets",
    "pyarrow",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "huggingface_hub",
    "tensorboard",
    "wandb",
)
SLOW = ("torch", "torchvision", "numpy", "scipy", "sklearn", "matplotlib", "jinja2", "PIL", "tyro")


def built(pattern: str) -> Path:
    (path,) = (ROOT / "dist").glob(pattern)
    return path


def package_files() -> set[str]:
    files = (p for p in (SOURCE / "codistill").rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return {p.relative_to(SOURCE).as_posix() for p in files}


def metadata() -> str:
    with zipfile.ZipFile(built("*.whl")) as wheel:
        (name,) = (n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
        return wheel.read(name).decode()


def ended(*command: str | Path, cwd: Path) -> str:
    """Run a command outside the checkout, and return what it printed."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    run = subprocess.run([*map(str, command)], cwd=cwd, env=clean, capture_output=True, text=True)
    assert run.returncode == 0, f"{command}: {run.stdout}{run.stderr}"
    return run.stdout


def answered(program: str, cwd: Path):
    return json.loads(ended(BIN / "python", "-W", "error", "-c", f"import importlib, json, sys\n{program}", cwd=cwd))


@pytest.fixture(scope="module", params=["wheel", "sdist"])
def installed(request, tmp_path_factory) -> Path:
    """An empty folder to work in; the environment has the wheel, which make installed, and then the sdist instead."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "sdist":
        pip = (BIN / "python", "-m", "pip", "install", "--quiet", "--force-reinstall", "--no-deps")
        ended(*pip, built("*.tar.gz"), cwd=folder)
    return folder


@pytest.fixture(scope="module")
def trained(installed) -> Path:
    options = "--data digits --model resnet8_tiny --method dml --peers 2 --epochs 2 --device cpu --set threads=1"
    ended(BIN / "codistill", "train", *options.split(), "--out", "run", cwd=installed)
    return installed / "run"


def test_the_wheel_holds_every_file_of_the_package_and_no_other():
    with zipfile.ZipFile(built("*.whl")) as wheel:
        files = {n for n in wheel.namelist() if ".dist-info/" not in n}
    assert files == package_files()
    assert {"codistill/py.typed", "codistill/data/assets/glyphs100.npz"} <= files


def test_the_sdist_holds_what_building_and_testing_take():
    with tarfile.open(built("*.tar.gz")) as archive:
        files = {name.partition("/")[2] for name in archive.getnames()}
    assert files >= {f"src/{name}" for name in package_files()}
    assert files >= {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "Makefile", "tests/conftest.py"}
    assert not {name for name in files if name.split("/")[0] in ("results", "runs", "dist") or ".venv" in name}


def test_the_page_of_the_package_index_leads_nowhere_inside_the_repository():
    page = metadata().partition("\n\n")[2]
    targets = re.findall(r"\]\(([^)]+)\)", page)
    assert len(targets) > 10
    assert [t for t in targets if not t.startswith("https://")] == []
    assert not re.search(r"<(img|a)\s", page)
    # Each link names the tag of this version and a file that the repository has.
    version = answered("import codistill; print(json.dumps(codistill.__version__))", ROOT.parent)
    linked = [re.fullmatch(rf"https://\S+?/codistill/(?:blob/)?v{version}/([^#]+)(#.*)?", t) for t in targets]
    assert all(match is None or (ROOT / match[1]).exists() for match in linked)
    assert sum(match is not None for match in linked) > 10


def test_the_page_of_the_package_index_installs_from_there():
    page = metadata().partition("\n\n")[2]
    assert "pip install codistill" in page
    assert "pip install ." not in page
    assert "make test" not in page


def test_importing_loads_the_installed_package_alone(installed):
    program = "import codistill; print(json.dumps([codistill.__file__, sorted(sys.modules)]))"
    file, modules = answered(program, installed)
    assert Path(file).is_relative_to(ROOT / ".venv-extras")
    assert not {*OPTIONAL, *SLOW} & set(modules)


def test_nothing_optional_is_installed_and_every_module_imports_without_it(installed):
    program = """
import importlib.util, pkgutil, codistill
missing = [name for name in NAMES if importlib.util.find_spec(name) is None]
walked = [m.name for m in pkgutil.walk_packages(codistill.__path__, "codistill.") if m.name != "codistill.__main__"]
for name in walked:
    importlib.import_module(name)
print(json.dumps([missing, len(walked)]))
"""
    missing, count = answered(program.replace("NAMES", repr(OPTIONAL)), installed)
    assert missing == list(OPTIONAL)
    assert count > 100


def test_the_command_says_the_version_of_the_metadata(installed):
    version = re.search(r"^Version: (\S+)$", metadata(), flags=re.M)[1]
    assert ended(BIN / "codistill", "--version", cwd=installed).strip() == f"codistill {version}"


def test_data_files_are_found_where_they_are_installed(installed):
    program = """
import codistill
from codistill import modelfacts
from codistill.studies.paper import printed_table
classes, cells = codistill.data.load("glyphs").classes, printed_table("okddip", "table2").cells
print(json.dumps([len(classes), len(cells), len(modelfacts.describe())]))
"""
    classes, cells, models = answered(program, installed)
    assert classes == 100
    assert min(cells, models) > 10


def test_a_run_is_trained_reported_and_exported(installed, trained):
    assert "<svg" in (trained / "report.html").read_text(encoding="utf-8")
    ended(BIN / "codistill", "export", "run", cwd=installed)
    assert (trained / "export" / "student.safetensors").stat().st_size > 100_000


def test_the_exported_student_classifies_a_picture_file(installed, trained):
    Image.fromarray(np.full((20, 30), 128, np.uint8)).save(installed / "picture.png")
    ended(BIN / "codistill", "export", "run", "--out", "student", cwd=installed)
    answer = json.loads(ended(BIN / "codistill", "predict", "student", "picture.png", "--json", cwd=installed))
    (prediction,) = answer["predictions"]
    assert prediction["picture"] == "picture.png"
    assert prediction["classes"][0] in list("0123456789")
    assert 0.1 < prediction["probabilities"][0] <= 1
