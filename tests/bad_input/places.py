"""What the cases find in their folder: runs, an export and pictures, all made once and copied."""

from __future__ import annotations

import contextlib
import copy
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

import codistill
from codistill import Config, GroupShape, PeerOutputs, Progress, data, execution, methods, models
from codistill.peers import BranchedGroup, NetworkGroup
from codistill.training import OptimConfig

__all__ = ["NAMES", "make", "names_for", "place_into"]

NAMES = ("runs/done", "runs/stopped", "runs/pictures", "exported", "pictures", "own.py")
"""runs/done is finished (digits); runs/stopped was interrupted after its first epoch; runs/pictures was trained on
pictures, a folder with the classes cat and dog; exported is the leader of runs/done."""

OWN = """from torch import nn


def make(num_classes, in_channels):
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * in_channels, num_classes))


def fails(num_classes, in_channels):
    return undefined


class Method:
    pass
"""


class _Stop:
    def on_epoch(self, session: Any, record: Any) -> None:
        raise KeyboardInterrupt


def make(folder: Path) -> None:
    """Make everything that `NAMES` names."""
    (folder / "own.py").write_text(OWN)
    codistill.trust(folder / "own.py")
    for label, name in enumerate(("cat", "dog")):
        place = folder / "pictures" / name
        place.mkdir(parents=True)
        for number in range(12):
            pixels = np.random.default_rng(number).integers(0, 128, (10, 12, 3)) + 127 * label
            Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number}.png")
    quick: dict[str, Any] = {
        "method": "dml", "model": "resnet8_tiny", "peers": 2, "batch_size": 8, "train_subset": 16, "device": "cpu",
        "executor": "loop", "threads": 1, "optim": OptimConfig(lr=0.01),
    }  # fmt: skip
    codistill.train(Config(**quick, epochs=1, out=folder / "runs/done"))
    with contextlib.suppress(KeyboardInterrupt):
        codistill.train(Config(**quick, epochs=3, out=folder / "runs/stopped"), observers=[_Stop()])
    own = {"data": "image_folder", "data_dir": folder / "pictures", "image_size": 8}
    codistill.train(Config(**quick, **own, epochs=1, out=folder / "runs/pictures"))
    from codistill.export import export_student

    export_student(folder / "runs/done", folder / "exported")


def place_into(folder: Path, source: Path, text: str) -> None:
    """Copy what a case's text names into its folder."""
    for name in NAMES:
        if name in text:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            into = shutil.copytree if (source / name).is_dir() else shutil.copy
            into(source / name, folder / name)
            _move(folder / name / "config.yaml", source, folder)


def _move(settings: Path, source: Path, folder: Path) -> None:
    """Let a run's settings name the pictures of this folder."""
    if settings.is_file():
        text = settings.read_text(encoding="utf-8")
        settings.write_text(text.replace(str(source), str(folder)), encoding="utf-8")


def names_for() -> dict[str, Any]:
    """What the lines of Python may name."""
    shape = GroupShape(3, 4, (8,) * 3)
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    features = tuple(torch.randn(5, 8, generator=generator) for _ in range(3))
    outputs = PeerOutputs(torch.randn(3, 5, 4, generator=generator, requires_grad=True), features)
    quick = Config(data="digits", model="resnet8_tiny", train_subset=32, batch_size=16, epochs=1, device="cpu")
    return {
        "codistill": codistill,
        "torch": torch,
        "nn": nn,
        "data": data,
        "execution": execution,
        "models": models,
        "methods": methods,
        "Config": Config,
        "NetworkGroup": NetworkGroup,
        "BranchedGroup": BranchedGroup,
        "Progress": Progress,
        "shape": shape,
        "net": net,
        "outputs": outputs,
        "quick": quick,
        "Path": Path,
        "group": NetworkGroup([copy.deepcopy(net) for _ in range(3)]),
        "labels": torch.arange(5) % 4,
        "observer": lambda **calls: SimpleNamespace(**calls),
        "step": lambda method, labels, outputs=outputs: methods.build(method, shape)(outputs, labels, Progress(1, 10)),
    }
