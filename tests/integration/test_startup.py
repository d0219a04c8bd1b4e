"""What the command line imports before it prints; a list of modules cannot be flaky as a time limit would be."""

import json
import subprocess
import sys

import pytest

SLOW = ("torch", "torchvision", "scipy", "sklearn", "matplotlib", "timm", "jinja2", "rich.live", "rich.progress")
PROGRAM = """
import json, sys
from codistill.cli import main
code = 0
try:
    main(sys.argv[1:])
except SystemExit as stop:
    code = stop.code or 0
print(json.dumps({"code": code, "modules": sorted(sys.modules)}), file=sys.stderr)
"""


def started(*arguments):
    ended = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True)
    return ended.stdout, json.loads(ended.stderr.splitlines()[-1])


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--help"], 0, "Train networks that teach each other."),
        (["train", "--help"], 0, "--batch-size"),
        (["predict", "--help"], 0, "STUDENT"),
        (["evaluate", "--help"], 0, "--data-dir"),
        (["study", "--help"], 0, "--unclear-epochs"),
        (["list", "models"], 0, "resnet32"),
        (["list", "models", "--json"], 0, "resnet32"),
        (["tarin"], 2, ""),
    ],
)
def test_help_lists_and_mistakes_import_nothing_that_is_slow(arguments, code, says):
    printed, end = started(*arguments)
    assert end["code"] == code
    assert says in printed
    assert "codistill.commands" in end["modules"]
    assert not set(SLOW) & set(end["modules"])


def test_the_list_of_slow_modules_names_what_a_training_run_imports():
    _, end = started("train", "--model", "resnet8_tiny", "--peers", "2", "--dry-run")
    assert end["code"] == 0
    assert {"torch", "scipy"} <= set(SLOW) & set(end["modules"])
