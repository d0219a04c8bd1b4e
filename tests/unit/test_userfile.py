"""A user's own file is run once as long as it stays the same, so that its classes can be pickled by name."""

import pickle

import pytest

from codistill.errors import UserError
from codistill.userfile import load_name


def test_a_class_of_a_users_file_is_the_same_until_the_file_changes(tmp_path):
    path = tmp_path / "own.py"
    path.write_text("class Net:\n    width = 1\n")
    first = load_name(f"{path}:Net")
    assert load_name(f"{path}:Net") is first
    assert pickle.loads(pickle.dumps(first())).width == 1
    path.write_text("class Net:\n    width = 2\n")
    assert load_name(f"{path}:Net").width == 2
    assert first.width == 1


def test_a_file_that_fails_is_run_again(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(f"from pathlib import Path\nclass Net:\n    there = Path({str(path) + '.x'!r}).read_text()\n")
    with pytest.raises(UserError, match=r"own.py fails when it is run \(FileNotFoundError, line 3: .*own.py.x"):
        load_name(f"{path}:Net")
    (tmp_path / "own.py.x").write_text("here")
    assert load_name(f"{path}:Net").there == "here"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("class Net(:\n", "own.py fails when it is run (SyntaxError, line 1: "),
        ("import nowhere_to_be_found\n", "(ModuleNotFoundError, line 1: No module named 'nowhere_to_be_found')"),
        ("x = 1\n\ny = x / 0\n", "(ZeroDivisionError, line 3: division by zero)"),
        ("raise SystemExit(3)\n", "(SystemExit, line 1: 3)"),
    ],
)
def test_a_file_that_cannot_be_run_is_told_by_line(text, says, tmp_path):
    path = tmp_path / "own.py"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_name(f"{path}:Net")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
