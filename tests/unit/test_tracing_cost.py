"""What a forward pass costs: against counts by hand and against a real step."""

import copy

import pytest
import torch
import torchvision
from torch import nn

from codistill import models
from codistill.peers import BranchedGroup, NetworkGroup, TreeGroup
from codistill.tracing.cost import Cost, forward_cost, trainable

CPU = torch.device("cpu")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def chain() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3))


def tiny() -> nn.Module:
    return models.build("resnet8_tiny", 5, 1, seeded(0))


def test_macs_by_hand_of_a_convolution_and_a_linear_layer():
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    assert forward_cost(net, [(2, 3, 8, 8)], CPU).macs == 2 * (4 * 3 * 3 * 3 * 8 * 8 + 4 * 5)


def test_bytes_by_hand_count_a_storage_once_and_no_parameters():
    # Kept: the input, 5 x 4, and the ReLU's output, 5 x 6, for the ReLU and for the layer after it.
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    assert forward_cost(net, [(5, 4)], CPU).held_bytes == 4 * (5 * 4 + 5 * 6)


def test_shared_layers_run_and_are_kept_once_for_each_distinct_view():
    # Layers of 24, 36 and 18 multiplications; kept are the input (4 numbers) and what enters the other two (6 each).
    networks = forward_cost(NetworkGroup([chain(), chain()]), [(5, 4)], CPU)
    assert networks == Cost(5 * 2 * (24 + 36 + 18), 5 * 4 * (4 + 2 * (6 + 6)))
    branches = BranchedGroup(chain(), 2, "1", seeded(0))
    assert forward_cost(branches, [(5, 4)], CPU) == Cost(5 * (24 + 2 * (36 + 18)), 5 * 4 * (4 + 6 + 2 * 6))
    assert forward_cost(branches, [(5, 4)] * 2, CPU) == Cost(5 * 2 * (24 + 36 + 18), 5 * 4 * 2 * (4 + 6 + 6))
    tree = TreeGroup(chain(), {"1": 2, "2": 2}, seeded(0))
    assert forward_cost(tree, [(5, 4)], CPU) == Cost(5 * (24 + 2 * 36 + 4 * 18), 5 * 4 * (4 + 6 + 2 * 6))


@pytest.mark.parametrize("make", [tiny, lambda: torchvision.models.VisionTransformer(16, 8, 3, 2, 24, 32)])
def test_bytes_are_those_of_a_real_step(make):
    group = BranchedGroup(make(), 2, generator=seeded(0)).train()
    images = torch.randn(3, 1 if isinstance(group.student(0), type(tiny())) else 3, 16, 16)
    fixed = {tensor.untyped_storage().data_ptr() for tensor in (*group.parameters(), *group.buffers())}
    held = {}

    def keep(tensor):
        held[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = group(images)
    real = sum(tensor.untyped_storage().nbytes() for at, tensor in held.items() if at not in fixed)
    assert outputs.peers == 2
    assert forward_cost(group, [images.shape], CPU).held_bytes == real


def test_half_the_width_of_numbers_takes_less_memory():
    full, half = (forward_cost(tiny(), [(4, 1, 32, 32)], CPU, amp).held_bytes for amp in (None, torch.bfloat16))
    assert 0.4 * full < half < 0.9 * full


def test_counting_changes_neither_network_nor_random_state():
    net = nn.Sequential(tiny(), nn.Dropout(0.5)).eval()
    before, state = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    forward_cost(net, [(4, 1, 8, 8)], CPU)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert not net.training


def test_a_network_that_looks_at_values_is_counted_by_running_it():
    class Looking(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x if x.sum().item() >= 0 else -x)

    assert forward_cost(Looking(4, 3), [(2, 4)], CPU) == Cost(2 * 4 * 3, 2 * 4 * 4)


def test_frozen_parameters_are_not_counted_as_trainable():
    net = chain()
    net[0].requires_grad_(False)
    assert trainable(net) == 6 * 6 + 6 + 6 * 3 + 3
