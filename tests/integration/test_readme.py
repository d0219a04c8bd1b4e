"""The README's examples run as they stand."""

import re
from pathlib import Path

import torch
from torch import nn

README = Path(__file__).parents[2] / "README.md"


def python_blocks():
    return re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_first_example_trains_and_gives_a_plain_network_back(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    example = python_blocks()[0]
    assert len(example.splitlines()) <= 20
    exec(compile(example, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert float(lines[0]) < 60
    assert lines[-1] == "ResNet 44014"


def test_six_lines_are_enough_in_a_loop_of_ones_own():
    import codistill

    nets = [codistill.models.build("resnet8_tiny", 10, 1) for _ in range(4)]
    scope = {
        "codistill": codistill,
        "net_a": nets[0], "net_b": nets[1], "net_c": nets[2], "net_d": nets[3],
        "torch": torch, "images": torch.randn(4, 1, 8, 8), "labels": torch.tensor([0, 1, 2, 3]),
        "epoch": 0, "epochs": 10,
    }  # fmt: skip
    example = python_blocks()[1]
    assert len(example.splitlines()) == 6
    before = [p.clone() for p in nets[3].parameters()]
    exec(compile(example, "README.md", "exec"), scope)
    assert all(isinstance(p, nn.Parameter) and p.grad is not None for net in nets for p in net.parameters())
    # The attention got gradient and was given to the optimizer; the student is the plain network after the step.
    assert all(p.grad is not None for p in scope["method"].parameters())
    assert all(torch.equal(a, b) for a, b in zip(scope["network"].parameters(), nets[3].parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(before, nets[3].parameters(), strict=True))
