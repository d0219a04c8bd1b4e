"""Whole runs of own methods that use every need: they end, and resume to the bit after an interruption."""

import dataclasses
import json

import pytest
import torch
from interrupted_runs import cut_and_resumed, weights_of

import probes
from codistill.training import load_student, train
from codistill.training.evaluate import evaluate_run

RUNS = [
    ("Maps", "networks", "loop", {"path": "stem"}),
    ("Maps", "branches", "recompute", {"path": "last"}),
    ("Heads", "tree", "loop", {"path": "stage2"}),
    ("Mixed", "branches", "fused", {}),
    ("Averaged", "networks", "fused", {}),
    ("Paused", "tree", "recompute", {}),
    ("Turns", "branches", "loop", {}),
    ("HeldOut", "networks", "loop", {}),
    ("Everything", "branches", "auto", {}),
    ("Everything", "networks", "recompute", {}),
]


@pytest.fixture(scope="module")
def settings(quick, tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    network, own = probes.write_network(folder), probes.write_probes(folder)

    def make(probe, kind, executor="loop", options=None, **changes):
        split = {"networks": None, "branches": "stage1", "tree": "stage1:2,stage2:2"}[kind]
        own_settings = {
            "method": f"{own}:{probe}", "method_options": options or {}, "model": (network,), "split": split,
            "peers": None if kind == "tree" else 3, "group": kind, "executor": executor, "epochs": 2,
        }  # fmt: skip
        return dataclasses.replace(quick, **{**own_settings, **changes})

    return make


@pytest.fixture(scope="module")
def teacher(settings, digits, tmp_path_factory):
    out = tmp_path_factory.mktemp("teacher") / "run"
    train(settings("Maps", "networks", peers=1, epochs=1, out=out), dataset=digits)
    return str(out)


@pytest.mark.parametrize(("probe", "kind", "executor", "options"), RUNS)
def test_a_run_with_needs_resumes_to_the_bit(settings, digits, tmp_path, probe, kind, executor, options):
    config = settings(probe, kind, executor, options)
    whole, result = cut_and_resumed(config, digits, tmp_path)
    assert result.summary["executor"]["name"] == ("loop" if executor == "auto" else executor)
    names = weights_of(tmp_path / "whole")
    assert any(name.startswith("averages.") for name in names) == (probe in ("Averaged", "Everything"))
    assert any(".heads." in name for name in names) == (probe in ("Heads", "Everything"))
    assert whole.summary["images"]["held_out"] == (72 if probe in ("HeldOut", "Everything") else 0)
    renewed = not torch.equal(names["method.held"], torch.ones_like(names["method.held"]))
    assert renewed == (probe in ("HeldOut", "Everything"))
    # What is trained only is no part of a student.
    student = load_student(tmp_path / "whole", 0)
    assert sorted(dict(student.named_children())) == ["fc", "flat", "pool", "stage1", "stage2", "stem"]
    x = torch.randn(3, 1, 8, 8)
    assert torch.equal(student(x), load_student(tmp_path / "cut", 0)(x))
    assert not torch.equal(student(x), torch.zeros(3, 10))


@pytest.mark.parametrize("probe", ["TaughtTree", "Everything"])
def test_a_run_with_teachers_resumes_to_the_bit(settings, digits, teacher, tmp_path, probe):
    config = settings(probe, "tree", teachers=(teacher,))
    cut_and_resumed(config, digits, tmp_path)
    assert not [name for name in weights_of(tmp_path / "whole") if "teacher" in name]
    without = settings(probe, "tree", out=tmp_path / "without")
    train(without, dataset=digits)
    lines = [json.loads(line) for line in (tmp_path / "without" / "metrics.jsonl").read_text().splitlines()]
    taught = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert taught[0]["train"]["loss"] > lines[0]["train"]["loss"] + 1e-3


@pytest.mark.parametrize("executor", ["recompute", "auto"])
def test_executors_give_the_losses_of_the_loop(settings, digits, tmp_path, executor):
    losses = []
    for name in ("loop", executor):
        config = settings("Everything", "branches", name, out=tmp_path / name, epochs=1)
        train(config, dataset=digits)
        losses.append(json.loads((tmp_path / name / "metrics.jsonl").read_text())["train"]["loss_by_peer"])
    assert losses[0] == losses[1]


def test_a_finished_run_is_scored_again_as_it_was(settings, digits, tmp_path):
    result = train(settings("Everything", "networks", out=tmp_path / "run"), dataset=digits)
    again = evaluate_run(tmp_path / "run", dataset=digits)
    assert again["peers"] == result.summary["last"]["test"]["peers"]
