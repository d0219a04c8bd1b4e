"""A step that is recorded on one batch gives every other batch's numbers when replayed, and reads nothing."""

import copy

import pytest
import torch

from codistill import methods
from codistill.methods.rampup import ramp_up_weight
from codistill.types import Progress
from method_steps import Inputs, build, each_case
from recorded_ops import RecordedOps, as_on_a_device


@pytest.fixture(autouse=True)
def _as_on_a_device(monkeypatch):
    as_on_a_device(monkeypatch)


def results(method, inputs):
    """Loss, parts, diagnostics and every gradient of a step."""
    out = inputs.step(method)
    leaves = [*inputs.outputs.tensors(), *method.parameters()]
    gradients = torch.autograd.grad(out.loss, leaves, retain_graph=True, allow_unused=True)
    by_peer = torch.autograd.grad(out.loss_by_peer[-1], inputs.outputs.logits_PBC)
    named = {"loss": out.loss, "by peer": out.loss_by_peer, **out.parts, **out.diagnostics}
    named |= {f"gradient {i}": g for i, g in enumerate(gradients) if g is not None}
    return {name: tensor.detach() for name, tensor in (named | {"gradient by peer": by_peer[0]}).items()}


@torch.no_grad()
def overwrite(inputs, others):
    for tensor, other in zip(inputs.tensors(), others.tensors(), strict=True):
        tensor.copy_(other)


@each_case(recordable=True)
def test_a_replayed_step_is_the_eager_step_of_the_new_batch(name, options, batch):
    method = build(name, options, batch)
    inputs, others = Inputs.draw(method, batch, 1), Inputs.draw(method, batch, 2)
    with RecordedOps() as recorded:
        replayed = results(method, inputs)
    first = {key: value.clone() for key, value in replayed.items()}
    eager_method = copy.deepcopy(method)
    expected = results(eager_method, others)
    overwrite(inputs, others)
    recorded.replay()
    for key, value in expected.items():
        torch.testing.assert_close(replayed[key], value, msg=lambda text, key=key: f"{key}: {text}")
    for buffer, other in zip(method.buffers(), eager_method.buffers(), strict=True):
        torch.testing.assert_close(buffer, other)
    assert not torch.equal(first["loss"], replayed["loss"])


@pytest.mark.parametrize("ramp_up", [0.0, 0.1, 80 / 300, 1.0])
@pytest.mark.parametrize("epoch", [0.0, 0.5, 29.9, 30.0, 80.0, 250.0, 300.0, 400.0])
def test_a_position_on_the_device_ramps_up_as_a_number_does(epoch, ramp_up):
    expected = ramp_up_weight(Progress(epoch, 300), ramp_up)
    on_device = Progress(torch.tensor(epoch, dtype=torch.float64), 300)
    assert float(ramp_up_weight(on_device, ramp_up)) == pytest.approx(expected, rel=1e-14)
    assert float(on_device.fraction) == Progress(epoch, 300).fraction
    assert isinstance(expected, float)


def test_a_position_given_as_a_number_stays_that_of_the_recording():
    method = build("okddip", {})
    inputs = Inputs.draw(method, "hard", 1)
    early, late = (Inputs(inputs.outputs, inputs.labels, Progress(epoch, 300), {}) for epoch in (1.0, 80.0))
    with RecordedOps() as recorded:
        loss = early.step(method).loss
    recorded.replay()
    torch.testing.assert_close(loss, early.step(method).loss)
    assert late.step(method).loss > loss + 0.1


def test_new_weights_of_kdcl_general_reach_a_recorded_step():
    method = build("kdcl_general", {})
    inputs = Inputs.draw(method, "hard", 1)
    with RecordedOps() as recorded:
        replayed = results(method, inputs)
    equal = replayed["loss"].clone()
    method.renew(inputs.outputs.logits_PBC.detach().softmax(-1), inputs.labels)
    recorded.replay()
    torch.testing.assert_close(replayed["loss"], inputs.step(method).loss)
    torch.testing.assert_close(replayed["weights"], method.weights_P)
    assert not torch.equal(replayed["loss"], equal)


@pytest.mark.parametrize(
    ("name", "options", "recordable"),
    [
        ("dml", {}, True),
        ("okddip", {}, True),
        ("okddip", {"ablation": "mean"}, True),
        ("okddip", {"ablation": "random"}, False),
        ("switokd", {}, False),
    ],
)
def test_a_method_says_whether_its_step_can_be_recorded(name, options, recordable):
    assert build(name, options).recordable is recordable


def test_a_method_of_ones_own_can_be_recorded_unless_it_says_otherwise():
    assert methods.Method.recordable is True
