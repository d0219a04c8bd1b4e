"""Whole runs whose students live in processes."""

import dataclasses
import multiprocessing

import pytest
import torch
from interrupted_runs import cut_and_resumed, losses_of

from codistill.cli import main
from codistill.errors import UserError
from codistill.execution import processes
from codistill.execution.pool import Pool
from codistill.training import load_student, train
from codistill.training.evaluate import evaluate_run
from ratios import suites
from ratios.setting import Setting
from ratios.steps import TINY

CLASS_WITH_DROPOUT = """
from torch import nn


class Net(nn.Module):
    def __init__(self, num_classes, in_channels=3):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(in_channels, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.3))
        self.fc = nn.Linear(6, num_classes)

    def forward(self, x):
        return self.fc(self.body(x).mean((2, 3)))
"""


@pytest.fixture
def short(quick, tmp_path):
    (tmp_path / "net.py").write_text(CLASS_WITH_DROPOUT)
    return dataclasses.replace(quick, model=(f"{tmp_path / 'net.py'}:Net",), epochs=2, executor="processes")


def test_a_run_in_processes_resumes_to_the_bit(short, digits, tmp_path, lent_pool):
    _, result = cut_and_resumed(short, digits, tmp_path)
    record = evaluate_run(tmp_path / "cut", dataset=digits)
    assert record["leader"]["nll"] == pytest.approx(result.summary["last"]["test"]["leader"]["nll"], rel=1e-6)


def test_a_run_from_the_command_line_gives_the_losses_of_the_loop(tmp_path, monkeypatch):
    # Two threads make two processes for three students; these are started and ended by the run itself.
    before = {process.pid for process in multiprocessing.active_children()}
    seen = []
    monkeypatch.setattr(processes, "Pool", lambda *sizes: seen.append(sizes) or Pool(*sizes))
    for executor, threads in (("loop", "1"), ("processes", "2")):
        arguments = ["--model", "resnet8_tiny", "--peers", "3", "--data", "digits", "--epochs", "1"]
        arguments += ["--batch-size", "64", "--train-subset", "256", "--device", "cpu", "--threads", threads]
        main(["train", *arguments, "--executor", executor, "--out", str(tmp_path / executor)])
    assert seen == [(2, 1)]
    assert {process.pid for process in multiprocessing.active_children()} == before
    found, expected = losses_of(tmp_path / "processes")[0], losses_of(tmp_path / "loop")[0]
    assert found["loss_by_peer"] == pytest.approx(expected["loss_by_peer"], rel=1e-4)
    x = torch.randn(4, 1, 8, 8)
    expected = load_student(tmp_path / "loop")(x)
    torch.testing.assert_close(load_student(tmp_path / "processes")(x), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"group": "branches"}, "executor 'processes' with branches on cpu: it shares the cores of a CPU"),
        ({"micro_batch": 16}, "micro_batch 16 with the executor 'processes'"),
    ],
)
def test_what_processes_cannot_run_is_refused_before_the_data_are_read(short, tmp_path, change, sentence):
    with pytest.raises(UserError, match=sentence):
        train(dataclasses.replace(short, out=tmp_path / "run", data_dir=tmp_path / "none", **change))


def test_the_benchmark_sets_processes_beside_the_loop_on_all_cores(monkeypatch, lent_pool):
    monkeypatch.setattr(suites.os, "sched_getaffinity", lambda process: {0}, raising=False)
    monkeypatch.setattr(suites, "LARGE", dataclasses.replace(TINY, name="small", batch=8))
    (found,) = suites.run_suites(["processes"], Setting(turns=1))
    assert (found.above, found.below, found.goal) == ("loop", "processes", "")
    assert torch.get_num_threads() == 1
