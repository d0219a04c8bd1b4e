"""Code that only a file names runs when this user has named it before, or says so; else one sentence refuses it."""

import json
import shutil

import pytest

from codistill import UserError, trust
from codistill.cli import main
from codistill.config import Config, read_config, write_config
from codistill.models import build as build_model
from codistill.trusted import found_in_file, named_by_user, trusted_list

NETWORK = """
from pathlib import Path
from torch import nn

Path(__file__).with_name("ran").write_text("")


def net(num_classes, in_channels):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_channels, num_classes))
"""


@pytest.fixture(autouse=True)
def own_list(tmp_path, monkeypatch):
    """A user who has named nothing yet, in a process that has read nothing."""
    from codistill import trusted as module

    monkeypatch.setenv("CODISTILL_CONFIG", str(tmp_path / "settings"))
    monkeypatch.setattr(module, "_OURS", set())
    monkeypatch.setattr(module, "_FOREIGN", set())
    monkeypatch.setattr(module, "_ALL", False)


@pytest.fixture
def code(tmp_path):
    path = tmp_path / "their" / "net.py"
    path.parent.mkdir()
    path.write_text(NETWORK)
    return path


def forget(monkeypatch):
    """What a new process knows: the list, and nothing else."""
    from codistill import trusted as module

    monkeypatch.setattr(module, "_OURS", set())
    monkeypatch.setattr(module, "_FOREIGN", set())
    monkeypatch.setattr(module, "_ALL", False)


def test_what_the_user_names_runs_and_is_remembered(code, monkeypatch):
    named_by_user((f"{code}:net", "resnet20"))
    build_model(f"{code}:net", 3, 3)
    assert json.loads(trusted_list().read_text()).popitem()[1] == str(code)
    forget(monkeypatch)
    found_in_file((f"{code}:net",))
    build_model(f"{code}:net", 3, 3)


def test_what_only_a_file_names_does_not_run(code, tmp_path):
    write_config(Config(model=(f"{code}:net",)), tmp_path / "config.yaml")
    config = read_config(tmp_path / "config.yaml")
    with pytest.raises(UserError, match=r"net\.py would be run as a program, and only a file names it.*--trust-code"):
        build_model(config.model[0], 3, 3)
    # To train with what was read is no word of the user's about the code.
    named_by_user(config.model)
    with pytest.raises(UserError, match="only a file names it"):
        build_model(config.model[0], 3, 3)
    assert not code.with_name("ran").exists()
    assert not trusted_list().exists()
    trust(code)
    build_model(config.model[0], 3, 3)
    assert code.with_name("ran").exists()


def test_a_copy_of_trusted_code_is_trusted_and_a_change_is_not(code, tmp_path, monkeypatch):
    trust(code)
    forget(monkeypatch)
    copy = tmp_path / "copy.py"
    shutil.copy(code, copy)
    found_in_file((f"{copy}:net",))
    build_model(f"{copy}:net", 3, 3)
    copy.write_text(NETWORK + "\n# another line\n")
    found_in_file((f"{copy}:net",))
    with pytest.raises(UserError, match="or it has changed since you named it"):
        build_model(f"{copy}:net", 3, 3)


@pytest.mark.parametrize("name", ["method", "teachers", "init", "optim"])
def test_every_setting_that_may_name_code_counts(code, tmp_path, name):
    config = Config(method="kd")
    if name == "optim":
        import dataclasses

        config = dataclasses.replace(config, optim=dataclasses.replace(config.optim, name=f"{code}:net"))
    else:
        value = f"{code}:net"
        config = Config(**{name: value if name == "method" else (value,)})
    write_config(config, tmp_path / "config.yaml")
    read_config(tmp_path / "config.yaml")
    with pytest.raises(UserError, match="only a file names it"):
        build_model(f"{code}:net", 3, 3)


def test_a_list_that_cannot_be_written_is_said_and_the_process_goes_on(code, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CODISTILL_CONFIG", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match=r"trusted\.json cannot be written \(.*\): .* is trusted in this process only"):
        trust(code)
    found_in_file((f"{code}:net",))
    build_model(f"{code}:net", 3, 3)


@pytest.mark.parametrize("content", ["", "[]", "{broken"])
def test_a_damaged_list_trusts_nobody(code, content):
    trusted_list().parent.mkdir()
    trusted_list().write_text(content)
    found_in_file((f"{code}:net",))
    with pytest.raises(UserError, match="only a file names it"):
        build_model(f"{code}:net", 3, 3)


def test_a_file_that_is_not_there_cannot_be_trusted(tmp_path):
    with pytest.raises(UserError, match="is no file that can be read"):
        trust(tmp_path / "none.py")


def test_the_command_line_refuses_what_only_a_file_names(code, tmp_path, capsys, monkeypatch):
    config = tmp_path / "config.yaml"
    write_config(Config(model=(f"{code}:net",), data="digits", method="ind", peers=1, epochs=1), config)

    def code_of(*arguments):
        try:
            main(["train", "--config", str(config), "--out", str(tmp_path / "run"), "--dry-run", *arguments])
        except SystemExit as ended:
            return ended.code
        return 0

    assert code_of() == 2
    assert "only a file names it" in capsys.readouterr().err
    assert not code.with_name("ran").exists()
    forget(monkeypatch)
    assert code_of("--model", f"{code}:net") == 0
    forget(monkeypatch)
    trusted_list().unlink()
    assert code_of("--trust-code") == 0
    assert trusted_list().exists()
