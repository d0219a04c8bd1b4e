"""Short training curves of every method, recorded once: a change of any number is noticed, and must be meant.

`python tests/golden/test_curves.py` writes curves.json again; a change of it belongs under "Numerics" in the changelog.
"""

import dataclasses
import json
import tempfile
from pathlib import Path

import pytest
import torch

from codistill import data
from codistill.methods import METHODS
from codistill.training import Config, OptimConfig, train

CURVES = Path(__file__).with_name("curves.json")
NEEDS_BRANCHES = ("one", "cl_ilr", "clnn")


def curve(name: str, out: Path, digits: data.Dataset) -> list[dict[str, float]]:
    """Loss, parts and validation error of two epochs on 400 digits."""
    base = Config(
        method=name,
        model="resnet8_tiny",
        peers=1 if name == "kd" else min(3, METHODS[name].max_peers or 3),
        group="branches" if name in NEEDS_BRANCHES else "networks",
        data="digits",
        epochs=2,
        batch_size=64,
        device="cpu",
        threads=1,
        optim=OptimConfig(lr=0.05),
        out=out / name,
    )
    if name == "kd":
        train(dataclasses.replace(base, method="baseline", out=out / "teacher"), dataset=digits)
        base = dataclasses.replace(base, teachers=(str(out / "teacher"),))
    train(base, dataset=digits)
    lines = [json.loads(line) for line in (out / name / "metrics.jsonl").read_text().splitlines()]
    return [{"loss": line["train"]["loss"], **line["train"]["parts"]} for line in lines]


def few_digits() -> data.Dataset:
    full = data.load("digits")
    return dataclasses.replace(full, train=full.train.take(torch.arange(400)), test=full.test.take(torch.arange(100)))


@pytest.mark.parametrize("name", list(json.loads(CURVES.read_text())))
def test_a_methods_curve_is_the_recorded_one(name, tmp_path, digits):
    recorded = json.loads(CURVES.read_text())[name]
    for now, then in zip(curve(name, tmp_path, digits), recorded, strict=True):
        # Other processors round otherwise, and twelve steps enlarge that; a changed equation shows far above.
        assert now == pytest.approx(then, rel=2e-3, abs=2e-4)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        curves = {name: curve(name, Path(folder), few_digits()) for name in METHODS}
    CURVES.write_text(json.dumps(curves, indent=1) + "\n")
