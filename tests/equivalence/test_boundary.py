"""Crossing the output boundary gives the gradients that one plain graph gives."""

import pytest
import torch

from codistill import methods, models
from codistill.execution import LoopExecutor
from codistill.peers import BranchedGroup, NetworkGroup
from codistill.types import Progress

LABELS = torch.tensor([0, 3, 1, 2, 3, 0])
METHODS = ["ind", "dml", "okddip", "kdcl_naive", "kdcl_minlogit", "kdcl_linear", "kdcl_general"]


def networks():
    nets = [models.build("resnet8_tiny", 4, 1, generator=torch.Generator().manual_seed(p)) for p in range(3)]
    return NetworkGroup(nets).double()


def branches():
    generator = torch.Generator().manual_seed(0)
    net = models.build("resnet8_tiny", 4, 1, generator=generator)
    return BranchedGroup(net, branches=3, generator=generator).double()


def gradients(*modules):
    return {f"{i}.{n}": p.grad for i, m in enumerate(modules) for n, p in m.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("make", [networks, branches])
@pytest.mark.parametrize("name", [*METHODS, "one", "cl_ilr"])
def test_gradients_through_the_boundary_equal_those_of_one_graph(make, name):
    if make is networks and name in ("one", "cl_ilr"):
        return
    results = []
    for through in (False, True):
        group = make()
        method = methods.build(name, group, generator=torch.Generator().manual_seed(5)).double()
        x = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        progress = Progress(3, 10)
        if through:
            step, _ = LoopExecutor(group, method).train_step(x, LABELS, progress)
        else:
            step = method(group(x), LABELS, progress)
            step.loss.backward()
        results.append((step.loss.item(), gradients(group, method), group.state_dict()))
    (loss_a, grads_a, state_a), (loss_b, grads_b, state_b) = results
    assert loss_a == pytest.approx(loss_b, rel=1e-12)
    assert grads_a.keys() == grads_b.keys()
    for key, grad in grads_a.items():
        torch.testing.assert_close(grads_b[key], grad, rtol=1e-9, atol=1e-12)
    for key, value in state_a.items():
        torch.testing.assert_close(state_b[key], value)


def test_one_student_alone_gets_gradient_when_asked():
    group = networks()
    method = methods.build("dml", group)
    x = torch.randn(6, 1, 8, 8, dtype=torch.float64)
    LoopExecutor(group, method).train_step(x, LABELS, Progress(0, 1), turn=1)
    assert all(p.grad is None for net in (group.networks[0], group.networks[2]) for p in net.parameters())
    assert max(p.grad.abs().max() for p in group.networks[1].parameters()) > 0


def test_collaborative_methods_divide_the_trunks_gradient_by_the_number_of_branches():
    x = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = []
    for rescale in (True, False):
        group = branches()
        method = methods.build("cl_ilr", group)
        assert group.rescale_shared_gradients
        methods.build("ind", group)
        assert not group.rescale_shared_gradients
        group.rescale_shared_gradients = rescale
        LoopExecutor(group, method).train_step(x, LABELS, Progress(3, 10))
        branch = group.levels[0][1]
        found.append((group.trunk.get_parameter("conv1.weight").grad, branch.get_parameter("fc.weight").grad))
    (trunk, branch), (plain_trunk, plain_branch) = found
    torch.testing.assert_close(trunk, plain_trunk / 3)
    torch.testing.assert_close(branch, plain_branch)
