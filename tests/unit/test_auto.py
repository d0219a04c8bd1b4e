"""The trial behind `--executor auto`: what it chooses, and that it leaves no trace."""

import pytest
import torch

from codistill import execution, methods, models
from codistill.errors import UserError
from codistill.execution import auto
from codistill.peers import BranchedGroup, NetworkGroup
from codistill.tracing.cost import forward_cost
from codistill.types import Progress


def networks(*names):
    return NetworkGroup([models.build(name, 4, 1) for name in names])


def trial(group, allowed=None, method="okddip", timed=True):
    own = methods.build(method, group, generator=torch.Generator().manual_seed(0))
    x, labels = torch.randn(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64)
    limit = None if allowed is None else allowed / 2**30
    executor = execution.build("auto", group, own, memory_limit=limit, deterministic=not timed)
    chosen, found = executor.settled(x, labels, Progress(1, 2))
    assert chosen.name == found.chosen
    return found


def clock(monkeypatch, **seconds):
    monkeypatch.setattr(auto, "fastest", lambda steps, device: ({name: seconds[name] for name in steps}, {}))


@pytest.mark.parametrize(("fused", "chosen"), [(0.5, "fused"), (0.96, "loop"), (2.0, "loop")])
def test_the_faster_executor_is_chosen_and_the_loop_where_the_gain_is_small(monkeypatch, fused, chosen):
    clock(monkeypatch, loop=1.0, fused=fused)
    found = trial(networks(*["resnet8_tiny"] * 3))
    assert found.chosen == chosen
    assert found.seconds == {"loop": 1.0, "fused": fused}
    assert str(found) == f"executor {chosen} (loop 1000.0 ms a step, fused {1000 * fused:.1f} ms a step)"


def test_a_group_that_cannot_be_fused_runs_in_a_loop_and_the_reason_is_kept(monkeypatch):
    clock(monkeypatch, loop=1.0)
    found = trial(networks("resnet8_tiny", "wrn10_1", "wrn10_1"))
    assert found.chosen == "loop"
    assert "cannot fuse peers 0 and 1" in found.refused["fused"]
    assert "cannot fuse peers 0 and 1" in str(found)


def test_without_a_clock_students_of_little_work_are_fused(monkeypatch):
    monkeypatch.setattr(auto, "fastest", None)
    students = networks(*["resnet8_tiny"] * 3)
    assert trial(students, timed=False).chosen == "fused"
    found = trial(networks("resnet8_tiny", "wrn10_1", "wrn10_1"), timed=False)
    assert found.chosen == "loop"
    assert "cannot fuse peers 0 and 1" in found.refused["fused"]
    # Multiply-accumulates of one student on this batch: three of them are not more work for each.
    monkeypatch.setattr(auto, "SMALL", forward_cost(students.networks[0], [(4, 1, 8, 8)], torch.device("cpu")).macs)
    assert trial(students, timed=False).chosen == "loop"
    monkeypatch.setattr(auto, "SMALL", auto.SMALL + 1)
    assert trial(students, timed=False).chosen == "fused"


def test_one_peer_is_not_tried():
    assert trial(networks("resnet8_tiny"), method="baseline").seconds == {}


def test_activations_that_do_not_fit_are_recomputed(monkeypatch):
    clock(monkeypatch, loop=1.0, fused=1.0)
    held = trial(networks(*["resnet8_tiny"] * 3), allowed=1).held_bytes
    assert trial(networks(*["resnet8_tiny"] * 3), allowed=held - 1).chosen == "recompute"
    assert "GiB are allowed" in trial(networks(*["resnet8_tiny"] * 3), allowed=held - 1).refused["loop"]
    assert trial(networks(*["resnet8_tiny"] * 3), allowed=held).chosen == "loop"


def test_running_out_of_memory_leads_to_recomputing(monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(auto.LoopExecutor, "_run", full)
    assert trial(networks(*["resnet8_tiny"] * 3)).chosen == "recompute"


def test_what_the_loop_refuses_is_an_error(monkeypatch):
    def refuse(*_):
        raise UserError("no")

    monkeypatch.setattr(auto.LoopExecutor, "_run", refuse)
    with pytest.raises(UserError, match="no"):
        trial(networks(*["resnet8_tiny"] * 3))


def test_a_trial_leaves_no_trace():
    group = BranchedGroup(models.build("vgg8_tiny", 4, 1), branches=3)
    group.eval()
    method = methods.build("okddip", group, generator=torch.Generator().manual_seed(0))
    before = {**group.state_dict(), **method.state_dict()}
    before = {name: (value.data_ptr(), value.clone()) for name, value in before.items()}
    random = torch.get_rng_state()
    x, labels = torch.randn(4, 1, 8, 8, generator=torch.Generator()), torch.zeros(4, dtype=torch.int64)
    found = execution.build("auto", group, method).trial(x, labels, Progress(1, 2))
    assert set(found.seconds) == {"loop", "fused"}
    for name, value in {**group.state_dict(), **method.state_dict()}.items():
        assert (value.data_ptr(), True) == (before[name][0], torch.equal(value, before[name][1]))
    assert all(p.grad is None for p in (*group.parameters(), *method.parameters()))
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(part.training for part in group.modules())


def test_free_memory_of_this_machine_is_known():
    free = auto.free_bytes(torch.device("cpu"))
    assert free is None or free > 2**20
    assert auto.free_bytes(torch.device("meta")) is None
