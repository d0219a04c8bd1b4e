"""A run whose steps are recorded and replayed gives the numbers of one whose steps are not."""

import dataclasses

import pytest
import torch

from codistill.errors import UserError
from codistill.execution import AutoExecutor, auto
from codistill.execution.replay import Replayed
from codistill.methods import base
from codistill.rundir import read_epochs
from codistill.training import train
from codistill.training.step import TrainingStep
from cpu_recording import CpuRecording

RUNS = {
    "okddip": {"method": "okddip"},
    "fused": {"method": "okddip", "executor": "fused"},
    "branches": {"method": "one", "group": "branches"},
    "views of their own": {"method": "kdcl_minlogit", "icl": True},
    "averages": {"method": "dml", "average": 0.9},
    "turns": {"method": "dml", "method_options": {"updates": "alternating"}},
    "held-out images": {"method": "kdcl_general"},
    "a smaller last batch": {"method": "cl_ilr", "group": "branches", "last_batch": "keep", "epochs": 6},
    "mixed labels": {"method": "ind", "policies": ("mixup",)},
}


@pytest.fixture
def recorded(monkeypatch):
    """All steps are recorded; returns the recordings that are made."""
    made = []

    def new(device):
        made.append(CpuRecording())
        return made[-1]

    # The CPU's checks of values read them, those of a GPU do not.
    monkeypatch.setattr(base, "check_values", lambda *_: None)
    monkeypatch.setattr(TrainingStep, "of", classmethod(lambda cls, session: cls(session, new)))
    return made


@pytest.mark.parametrize("change", RUNS.values(), ids=RUNS)
def test_a_recorded_run_gives_the_numbers_of_a_run_as_it_is(quick, digits, tmp_path, recorded, monkeypatch, change):
    change = dict(change)
    augment = dataclasses.replace(quick.augment, policies=change.pop("policies", quick.augment.policies))
    change = {"executor": "loop", "model": ("resnet8_tiny",), "peers": 3, "epochs": 3, **change}
    config = dataclasses.replace(quick, augment=augment, **change)
    with monkeypatch.context() as usual:
        usual.setattr(TrainingStep, "of", classmethod(lambda cls, session: cls(session)))
        train(dataclasses.replace(config, out=tmp_path / "as it is"), dataset=digits)
    assert not recorded
    train(dataclasses.replace(config, out=tmp_path / "recorded"), dataset=digits)
    assert recorded
    assert all(recording.recorded.calls for recording in recorded)
    epochs = [read_epochs(tmp_path / name, complete=True) for name in ("recorded", "as it is")]
    for found, expected in zip(*epochs, strict=True):
        assert found.lr == expected.lr
        assert found.train.loss_by_peer == pytest.approx(expected.train.loss_by_peer, rel=1e-3)
        assert found.train.error_by_peer == pytest.approx(expected.train.error_by_peer, abs=0.5)
        assert found.validation.mean.nll == pytest.approx(expected.validation.mean.nll, rel=1e-2)


def test_a_run_that_cannot_be_recorded_says_so_and_keeps_what_it_has(quick, digits, tmp_path, recorded, monkeypatch):
    run = CpuRecording.record

    def record(self, call):
        return run(self, lambda: (torch.rand(()), call()))

    monkeypatch.setattr(CpuRecording, "record", record)
    with pytest.raises(UserError, match=r"cannot be recorded .*random numbers on the host"):
        train(dataclasses.replace(quick, executor="loop", out=tmp_path / "run"), dataset=digits)
    assert list((tmp_path / "run" / "checkpoints").glob("epoch_*"))


@pytest.mark.parametrize("change", [{"executor": "loop"}, {"executor": "auto"}])
def test_graphs_on_a_cpu_are_refused(quick, digits, tmp_path, change):
    config = dataclasses.replace(quick, out=tmp_path / "run", device="cpu", cuda_graphs=True, **change)
    with pytest.raises(UserError, match="cuda_graphs on the device 'cpu'"):
        train(config, dataset=digits)


def test_an_executor_that_cannot_be_recorded_refuses_graphs(quick, digits, tmp_path):
    config = dataclasses.replace(quick, out=tmp_path / "run", executor="recompute", cuda_graphs=True)
    with pytest.raises(UserError, match="cuda_graphs True with the executor 'recompute'"):
        train(config, dataset=digits)


@pytest.mark.parametrize(
    ("seconds", "executor", "graphs"),
    [
        ({"loop": 4.0, "loop with graphs": 1.0, "fused": 3.0, "fused with graphs": 0.5}, "fused", True),
        ({"loop": 4.0, "loop with graphs": 1.0, "fused": 3.0, "fused with graphs": 2.0}, "loop", True),
        ({"loop": 4.0, "loop with graphs": 3.9, "fused": 3.9, "fused with graphs": 3.9}, "loop", False),
    ],
)
def test_auto_tries_both_executors_with_and_without_graphs(
    quick, digits, tmp_path, recorded, monkeypatch, seconds, executor, graphs
):
    tried = []

    def fastest(steps, device):
        for name, step in steps.items():
            for _ in range(5):
                step()
            tried.append((name, isinstance(step, Replayed)))
        return seconds, {}

    monkeypatch.setattr(auto, "fastest", fastest)
    monkeypatch.setattr(AutoExecutor, "_recording", lambda self, device: CpuRecording)
    config = dataclasses.replace(quick, model=("resnet8_tiny",), executor="auto", deterministic=False)
    config = dataclasses.replace(config, out=tmp_path / "run")
    result = train(config, dataset=digits)
    assert tried == [(name, name.endswith("graphs")) for name in seconds]
    found = result.summary["executor"]
    assert (found["name"], found["trial"]["cuda_graphs"]) == (executor, graphs)
