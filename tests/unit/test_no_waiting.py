"""No step makes the host wait for a device: its forward on a CUDA device that is not there, its backward on the CPU."""

import sys

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode

from codistill import methods
from codistill.targets import linear_combination
from method_steps import CASES, Inputs, build, each_case
from recorded_ops import RecordedOps, RefusesWaiting, WaitError, as_on_a_device


def on_cuda(method):
    """The method with parameters and buffers that have shapes and a device, and no values."""
    for module in method.modules():
        for held in (module._parameters, module._buffers):
            for name, tensor in held.items():
                if tensor is not None:
                    fake = torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda")
                    held[name] = nn.Parameter(fake) if isinstance(tensor, nn.Parameter) else fake
    return method


def test_the_table_has_every_method():
    assert {name for name, _ in CASES} == set(methods.METHODS)


@each_case()
def test_the_forward_of_a_step_queues_work_and_reads_nothing(name, options, batch, monkeypatch):
    # A draw on the CPU is sent from pinned memory, which needs a driver; the step is not recorded then.
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    method = build(name, options, batch)
    with FakeTensorMode():
        inputs = Inputs.draw(on_cuda(method), batch, 0, "cuda")
        with RefusesWaiting(sends=not method.recordable):
            out = inputs.step(method)
    shown = [out.loss, out.loss_by_peer, *out.parts.values(), *out.diagnostics.values()]
    assert {tensor.device for tensor in shown} == {torch.device("cuda:0")}
    assert {out.loss.dtype, out.loss_by_peer.dtype} == {torch.float32}
    assert ("uncertified" in out.diagnostics) == (name == "kdcl_linear")


# The others are held to the same where they are recorded and replayed.
@each_case(recordable=False)
def test_forward_and_backward_read_nothing(name, options, batch, monkeypatch):
    as_on_a_device(monkeypatch)
    method = build(name, options, batch)
    inputs = Inputs.draw(method, batch, 0)
    with RefusesWaiting():
        inputs.step(method).loss.backward()
    assert torch.isfinite(inputs.outputs.logits_PBC.grad).all()


@pytest.mark.parametrize(("per_batch", "where"), [(False, "tolist"), (True, "nonzero")])
def test_the_solver_of_the_cpu_would_wait(per_batch, where, monkeypatch):
    monkeypatch.setattr(sys.modules["codistill.targets.linear"], "_check", lambda *_: None)
    with RefusesWaiting(), pytest.raises(WaitError, match=where):
        linear_combination(torch.ones(3, 8, 5), torch.zeros(8, dtype=torch.int64), per_batch)


@pytest.mark.parametrize(
    "waits",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.sum() > 0),
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: x[x > 0],
        lambda x: x.clone().__setitem__(x > 0, x[0]),
        lambda x: x.nonzero(),
        lambda x: x.unique(),
        lambda x: torch.equal(x, x),
        lambda x: x.masked_select(x > 0),
        lambda x: torch.repeat_interleave(x, torch.ones(3, dtype=torch.int64, device=x.device)),
        lambda x: torch.linalg.solve(x.diag(), x),
    ],
)
@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("mode", [RefusesWaiting, RecordedOps])
def test_what_waits_is_refused(waits, inference, mode):
    with torch.inference_mode(inference), mode(), pytest.raises(WaitError):
        waits(torch.ones(3))


@pytest.mark.parametrize("copies", [lambda: torch.tensor([1.0, 2.0], device="cuda"), lambda: torch.ones(2).to("cuda")])
def test_copies_from_the_host_are_refused(copies):
    with FakeTensorMode(), RefusesWaiting(), pytest.raises(WaitError):
        copies()


def test_work_that_only_queues_passes():
    with RefusesWaiting():
        x = torch.ones(3, requires_grad=True)
        y = x[torch.tensor([0, 2])].repeat_interleave(2) + torch.linalg.solve_ex(torch.eye(3), x)[0].sum()
        torch.where(y > 0, y, 0).sum().backward()
    assert x.grad.tolist() == [6.0, 4.0, 6.0]
