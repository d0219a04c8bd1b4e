"""A step that is called, recorded and replayed; the CPU's recording of operations stands in for a CUDA graph."""

import random

import pytest
import torch
from torch import nn

from codistill.execution.replay import WARM_UP, NotRecordedError, Replayed
from cpu_recording import CpuRecording


class Sums:
    """A function with memory: the sum of all that it was given."""

    def __init__(self):
        self.total, self.calls = torch.zeros(2), 0

    def __call__(self, x, factor):
        self.calls += 1
        self.total += x * factor
        return self.total * 1


def test_every_call_counts_once_and_python_runs_no_more_once_it_is_recorded():
    function = Sums()
    replayed = Replayed(function, CpuRecording())
    results = [replayed(torch.tensor([1.0, i]), torch.tensor(float(i))).clone() for i in range(WARM_UP + 4)]
    expected = torch.tensor([[i, i * i] for i in range(WARM_UP + 4)], dtype=torch.float32).cumsum(0)
    torch.testing.assert_close(torch.stack(results), expected)
    assert function.calls == WARM_UP + 1


def called(function, modules=(), calls=WARM_UP + 1):
    replayed = Replayed(function, CpuRecording(), modules)
    for _ in range(calls):
        replayed(torch.ones(2))


@pytest.mark.parametrize(
    ("step", "why"),
    [
        (lambda x: x * random.random(), "random numbers on the host, by random"),
        (lambda x: x * torch.rand(()), "random numbers on the host, by torch"),
        (lambda x: x * x.sum().item(), "wait"),
    ],
)
def test_what_a_replay_would_repeat_wrongly_is_refused(step, why):
    called(step, calls=WARM_UP)
    with pytest.raises(NotRecordedError, match=why):
        called(step)


class Counts(nn.Module):
    def __init__(self):
        super().__init__()
        self.steps = 0

    def forward(self, x):
        self.steps += 1
        return x / self.steps


def test_a_module_that_counts_on_the_host_is_refused_by_name():
    net = nn.Sequential(nn.Identity(), Counts())
    with pytest.raises(NotRecordedError, match=r"the number '1\.steps'"):
        called(net, [net])
