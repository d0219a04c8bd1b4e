"""Code that only a file names runs when this user has named it before, or says so; else one sentence refuses it."""

import json
import py_compile
import shutil
from pathlib import Path
from py_compile import PycInvalidationMode

import pytest

from codistill import UserError, trust
from codistill.cli import main
from codistill.config import Config, read_config, write_config
from codistill.models import build as build_model
from codistill.trusted import check_program, found_in_file, named_by_user, trusted_list
from refusals import refused

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


@pytest.mark.parametrize("weights", ["w.pt", "a:b.pt", "x.py:y.pt"])
def test_a_network_with_weights_counts_whatever_the_weights_are_called(code, tmp_path, weights):
    found_in_file((f"{code}:net@{tmp_path / weights}",))
    with pytest.raises(UserError, match="only a file names it"):
        build_model(f"{code}:net", 3, 3)


def test_a_path_from_the_home_folder_counts(code, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    found_in_file(("~/their/net.py:net",))
    with pytest.raises(UserError, match="only a file names it"):
        build_model(f"{code}:net", 3, 3)


@pytest.mark.parametrize("mode", [PycInvalidationMode.UNCHECKED_HASH, PycInvalidationMode.TIMESTAMP])
def test_a_compiled_file_of_other_code_is_not_read(code, mode):
    honest = NETWORK.replace('.write_text("")', "")
    code.write_text(NETWORK)
    cached = Path(py_compile.compile(str(code), invalidation_mode=mode, doraise=True))
    code.write_text(honest)
    # Whoever sends both can choose the time and the size that Python compares.
    header, stat = cached.read_bytes(), code.stat()
    if mode is PycInvalidationMode.TIMESTAMP:
        stamp = int(stat.st_mtime).to_bytes(4, "little") + stat.st_size.to_bytes(4, "little")
        cached.write_bytes(header[:8] + stamp + header[16:])
    trust(code)
    build_model(f"{code}:net", 3, 3)
    assert not code.with_name("ran").exists()


def test_a_program_runs_if_this_user_has_made_or_allowed_it(tmp_path, monkeypatch):
    from codistill import trusted as module

    program = tmp_path / "student.pt2"
    program.write_bytes(b"program")
    with pytest.raises(UserError, match=r"run as a program when it is opened.*--trust-code"):
        check_program(program)
    assert not trusted_list().exists()
    trust(program)
    check_program(program)
    forget(monkeypatch)
    check_program(program)
    program.write_bytes(b"changed")
    with pytest.raises(UserError, match="you have not exported it here"):
        check_program(program)
    monkeypatch.setattr(module, "_ALL", True)
    check_program(program)


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


def test_an_option_that_a_star_may_have_written_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "--trust-code").write_text("")
    assert "and a file here is called so: type ./* instead of *" in refused(capsys, "list", "methods", "--trust-code")


def test_a_path_that_only_looks_like_a_name_names_nothing(code, tmp_path, capsys):
    run = tmp_path / "their" / "net.py:run"
    run.mkdir()
    write_config(Config(model=(f"{code}:net",), data="digits"), run / "config.yaml")
    sentence = refused(capsys, "train", "--config", run / "config.yaml", "--out", tmp_path / "out", "--dry-run")
    assert "only a file names it" in sentence
    assert not trusted_list().exists()
