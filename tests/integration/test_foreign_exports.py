"""Exports of others: code that a card names, and programs, run only where this user has made or allowed them."""

import json

import pytest

from codistill import UserError, open_student, trust
from codistill import trusted as module
from codistill.export import export_student

NETWORK = """
from pathlib import Path

Path(__file__).with_name("ran").write_text("")
raise RuntimeError
"""


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """Another user, who has named nothing yet; call it when the export is made."""

    def become():
        monkeypatch.setenv("CODISTILL_CONFIG", str(tmp_path / "settings"))
        monkeypatch.setattr(module, "_OURS", set())
        monkeypatch.setattr(module, "_FOREIGN", set())

    return become


def test_code_that_a_card_names_does_not_run(finished_run, digits, tmp_path, stranger):
    folder = export_student(finished_run, tmp_path / "export", dataset=digits)
    code = folder / "net.py"
    code.write_text(NETWORK)
    card = folder / "student.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"model": f"{code}:net"}))
    stranger()
    with pytest.raises(UserError, match=r"net\.py would be run as a program, and only a file names it"):
        open_student(folder, device="cpu")
    assert not (folder / "ran").exists()
    trust(code)
    with pytest.raises(UserError, match="fails when it is run"):
        open_student(folder, device="cpu")
    assert (folder / "ran").exists()


def test_a_program_opens_where_it_was_exported_and_elsewhere_if_it_is_allowed(finished_run, digits, tmp_path, stranger):
    folder = export_student(finished_run, tmp_path / "export", format="torch-export", dataset=digits)
    open_student(folder, device="cpu")
    stranger()
    with pytest.raises(UserError, match=r"student\.pt2 is run as a program when it is opened"):
        open_student(folder, device="cpu")
    trust(folder / "student.pt2")
    open_student(folder, device="cpu")
