"""Folders for the Hugging Face Hub: what its own client reads in the card, and the upload."""

from __future__ import annotations

import json
from types import SimpleNamespace

import huggingface_hub
import pytest

from codistill.export import ExportRequest, export, export_student
from export_runs import draw_pictures, train_on
from refusals import refusal


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return draw_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def run(pictures, tmp_path_factory):
    out = tmp_path_factory.mktemp("timm") / "run"
    return train_on(pictures, out, "timm:test_resnet", headline="balanced_error", seed=3)


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    return export_student(run, tmp_path_factory.mktemp("hub") / "out", format="hub", license="apache-2.0")


def test_the_front_matter_is_what_the_hub_reads(run, folder):
    data = huggingface_hub.ModelCard.load(folder / "README.md").data
    assert (data.license, data.library_name, data.pipeline_tag) == ("apache-2.0", "timm", "image-classification")
    assert {"timm", "image-classification", "online-distillation"} <= set(data.tags)
    test = json.loads((run / "summary.json").read_text())["last"]["test"]["leader"]
    found = {result.metric_type: result.metric_value for result in data.eval_results}
    assert found["accuracy"] == pytest.approx(1 - test["top1_error"] / 100)
    assert found["balanced_accuracy"] == pytest.approx(1 - test["balanced_error"] / 100)
    card = (folder / "README.md").read_text()
    assert "| balanced error, the run's headline |" in card
    assert "| seed | 3 (one run" in card


class FakeHub:
    """Keeps what it is asked for, and fails if it is told to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls, self.error = [], error

    def create_repo(self, name, **options):
        self.calls.append((name, options))

    def upload_folder(self, **options):
        if self.error is not None:
            raise self.error
        self.calls.append(options)
        return SimpleNamespace(commit_url="https://hub/commit/1")


def test_a_push_uploads_the_files_of_the_export_and_no_others(run, tmp_path, monkeypatch):
    hub = FakeHub()
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "secret")
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: hub)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "diary.txt").write_text("mine")
    done = export(ExportRequest(run, "hub", push="me/net", out=tmp_path / "out"))
    assert done.lines[-1] == "pushed: https://hub/commit/1"
    (name, options), upload = hub.calls
    assert (name, options["private"], upload["repo_id"]) == ("me/net", True, "me/net")
    sent = {"model.safetensors", "config.json", "README.md", "prepare.py", "student.json"}
    assert set(upload["allow_patterns"]) == sent
    assert upload["folder_path"] == tmp_path / "out"
    assert 'timm.create_model("hf-hub:me/net", pretrained=True)' in (tmp_path / "out" / "README.md").read_text()


def test_a_push_without_a_token_writes_nothing_and_a_failed_one_keeps_the_folder(run, tmp_path, monkeypatch):
    request = ExportRequest(run, "hub", push="me/net", out=tmp_path / "out")
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    assert refusal(lambda: export(request)) == (
        "push needs your token for the Hugging Face Hub, and there is none: run 'hf auth login', or set HF_TOKEN."
    )
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "secret")
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: FakeHub(OSError("no route\nto host.")))
    assert refusal(lambda: export(request)) == (
        f"push to me/net failed (no route to host): the export is in {tmp_path / 'out'}; check the name and your "
        "token, and push again."
    )
    assert (tmp_path / "out" / "model.safetensors").is_file()
