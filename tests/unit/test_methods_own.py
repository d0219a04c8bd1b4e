"""What a user's own method must be and give back, each told in one sentence."""

import numpy as np
import pytest
import torch

from codistill import methods
from codistill.training import Config
from codistill.training.check import check_config
from codistill.types import GroupShape, PeerOutputs, Progress
from refusals import refusal

SHAPE = GroupShape(2, 4, (8, 8))
HEAD = """
from __future__ import annotations
from typing import TYPE_CHECKING
import torch
from codistill.methods import Method, Needs
from codistill.types import StepOutput

if TYPE_CHECKING:
    from nowhere import Unknown

class Mine(Method):
"""
STEP = """
    def step(self, rows, progress):
        ce = rows.cross_entropy_P()
        parts = {"ce": ce.detach().sum()}
        return %s
"""


def build(tmp_path, body, **options):
    path = tmp_path / "mine.py"
    path.write_text(HEAD + body)
    return methods.build(f"{path}:Mine", SHAPE, **options)


def loss_of(method):
    logits = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    return method(PeerOutputs(logits), torch.zeros(5, dtype=torch.int64), Progress(0, 1))


def test_what_a_step_should_give_is_taken(tmp_path):
    assert loss_of(build(tmp_path, STEP % "StepOutput(ce.sum(), ce, parts, {'ce': ce.detach()})")).loss.ndim == 0


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("None", "the step of Mine gives a NoneType: it must return a StepOutput."),
        ("ce.sum()", "the step of Mine gives a Tensor"),
        ("StepOutput(ce, ce, parts)", "loss of the step of Mine has shape [2]: give a tensor of shape []."),
        ("StepOutput(1.5, ce, parts)", "loss of the step of Mine is a float: give a tensor of shape []."),
        ("StepOutput(ce.sum(), ce.sum(), parts)", "loss_by_peer of the step of Mine has shape []: give a tensor of"),
        ("StepOutput(ce.sum(), [0.0, 0.0], parts)", "loss_by_peer of the step of Mine is a list: give a tensor of"),
        ("StepOutput(ce.sum(), ce, {'ce': 2.0})", "parts['ce'] of the step of Mine is a float"),
        ("StepOutput(ce.sum(), ce, {'ce': ce})", "parts['ce'] of the step of Mine has shape [2]"),
        ("StepOutput(ce.sum(), ce, 3)", "parts of the step of Mine is a int: give a mapping"),
        ("StepOutput(ce.sum(), ce, parts, {'w': [1.0]})", "diagnostics['w'] of the step of Mine is a list"),
        ("StepOutput(ce.detach().sum(), ce, parts)", "loss of the step of Mine does not depend on what the students"),
    ],
)
def test_what_a_step_gives_is_checked(given, says, tmp_path):
    method = build(tmp_path, STEP % given)
    assert says in refusal(lambda: loss_of(method))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("def __init__(self, shape):\n        raise ValueError('no\\nway')", "failed (ValueError, line 13: no way)"),
        ("def __init__(self, shape):\n        self.a = undefined", "(NameError, line 13: name 'undefined'"),
        ("def __init__(self, shape):\n        pass", "call super().__init__(shape)"),
        ("def __init__(self, shape, width):\n        super().__init__(shape)", "(TypeError: "),
        (
            "def __init__(self, shape):\n        super().__init__(shape)\n        self.leader = 2",
            "names the student 2 as leader of 2: give an int from 0 to 1, or None.",
        ),
        ("deploys_average = True", "deploys averages and has none: set needs = Needs(averaged=0.999)."),
        (
            "@classmethod\n    def needs_of(cls, options):\n        return Needs(held_out=1.5)",
            "needs.held_out 1.5: it is a share of the training images; give 0 to below 1.",
        ),
    ],
)
def test_a_constructor_that_does_not_make_a_method_is_told_by_file_and_line(body, says, tmp_path):
    error = refusal(lambda: build(tmp_path, f"    {body}\n" + STEP % "None"))
    assert says in error
    assert "mine.py:Mine" in error


def test_a_class_without_a_step_is_refused(tmp_path):
    assert "defines no step" in refusal(lambda: build(tmp_path, "    pass\n"))


def test_tuples_numbers_and_defaults_of_options_are_taken_as_they_are_meant(tmp_path):
    body = """
    def __init__(self, shape, *, sizes: tuple = (1,), pair: tuple[int, str] = (1, "a"), t: float = None, n: int = 1):
        super().__init__(shape)
        self.found = sizes, pair, t, n

    def step(self, rows, progress):
        return None
"""
    method = build(tmp_path, body, sizes=[3, 4], pair=[2, "b"], t=None, n=2.0)
    assert method.found == ((3, 4), (2, "b"), None, 2)
    assert "it takes a value of type tuple" in refusal(lambda: build(tmp_path, body, pair=[2, "b", 3]))
    assert check_config(Config(method_options={"temperature": np.float64(3)})).method_options == {"temperature": 3.0}
    assert check_config(Config(epochs=2.0)).epochs == 2


def test_options_are_converted_where_they_are_annotated(tmp_path):
    body = "    def __init__(self, shape, *, a: float = 1.0, b=None):\n        super().__init__(shape)\n"
    body += "        self.a, self.b = a, b\n" + STEP % "None"
    method = build(tmp_path, body, a="1e-7", b="1e-7")
    assert (method.a, method.b) == (1e-7, "1e-7")
    # An annotation that exists for a type checker only stops nobody.
    assert build(tmp_path, body.replace("a: float", "a: Unknown"), a="x").a == "x"
    config = Config(method=f"{tmp_path / 'mine.py'}:Mine", method_options={"b": len}, device="cpu")
    assert "method_options.b is a builtin_function_or_method, which config.yaml cannot hold" in refusal(
        lambda: check_config(config)
    )


def test_a_file_without_a_class_is_refused_with_the_form():
    assert refusal(lambda: methods.find("mine.py")) == "method 'mine.py': name the class too, mine.py:CLASS."
