"""Networks of a user's own file, from the first refusal to the exported student."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from safetensors.torch import load_file

from codistill import train
from codistill.errors import UserError
from codistill.export import export_student
from codistill.training.evaluate import evaluate_run
from codistill.userfile import load_name

NETWORKS = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.first, self.second = nn.Conv2d(in_channels, 4, 3), nn.Conv2d(4, 4, 3, padding=1)
        self.third = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, num_classes)

    def forward(self, x):
        return self.fc(self.third(self.second(self.first(x)).relu()).relu().mean((2, 3)))


class Tied(Net):
    def __init__(self, num_classes, in_channels):
        super().__init__(num_classes, in_channels)
        self.third.weight = self.second.weight
        self.again = self.third


class Noise(Net):
    def __init__(self, num_classes, in_channels):
        super().__init__(num_classes, in_channels)
        self.register_buffer("noise", torch.randn(1, 1, 8, 8), persistent=False)

    def forward(self, x):
        return super().forward(x + self.noise)


class LooksAtValues(Net):
    def forward(self, x):
        return super().forward(x) + 0 * float(x.detach().numpy().mean()) * x[x > 9].numel()


def more(num_classes, in_channels):
    return Net(num_classes + 2, in_channels)


def precise(num_classes, in_channels):
    return Net(num_classes, in_channels).double()


def empty(num_classes, in_channels):
    with torch.device("meta"):
        return Net(num_classes, in_channels)
"""


@pytest.fixture
def own(quick, tmp_path):
    """A configuration of two of the file's networks."""
    file = tmp_path / "nets.py"
    file.write_text(NETWORKS, encoding="utf-8")

    def config_of(name, **changed):
        out = tmp_path / name
        return dataclasses.replace(quick, method="ind", model=(f"{file}:{name}",), peers=2, out=out, **changed)

    return config_of


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("more", "more gives 12 logits for 10 classes: build its last layer with the num_classes that it is given"),
        ("precise", "precise has the float64 parameter 'first.weight': images are float32"),
        ("empty", "empty has the meta parameter 'first.weight'"),
    ],
)
def test_a_network_that_does_not_fit_is_refused_before_anything_is_written(own, digits, name, message):
    with pytest.raises(UserError, match=message):
        train(own(name), dataset=digits)
    assert not own(name).out.exists()


@pytest.mark.parametrize("group", ["networks", "branches"])
def test_tied_weights_are_trained_saved_and_handed_out_tied(own, digits, group):
    config = own("Tied", group=group, split="second" if group == "branches" else None)
    result = train(config, dataset=digits)
    assert evaluate_run(result.run_dir, dataset=digits) == result.summary["last"]["test"]
    weights = load_file(export_student(result.run_dir) / "student.safetensors")
    assert torch.equal(weights["second.weight"], weights["third.weight"])
    assert torch.equal(weights["third.weight"], weights["again.weight"])
    student = load_name(config.model[0])(10, 1)
    student.load_state_dict(weights)


def test_numbers_that_a_state_dict_lacks_are_told_instead_of_exported(own, digits):
    result = train(own("Noise"), dataset=digits)
    with pytest.raises(UserError, match=r"the network holds numbers that its state dict lacks; register them as"):
        export_student(result.run_dir)
    assert not (result.run_dir / "export" / "student.safetensors").exists()


def test_a_network_that_looks_at_values_trains_with_the_default_executor(own, digits):
    config = own("LooksAtValues", executor="auto", deterministic=True)
    assert train(config, dataset=digits).summary["executor"]["name"] == "loop"
