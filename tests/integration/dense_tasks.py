"""Two kinds of networks whose outputs have positions, those of the examples, with one batch for each."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from codistill import methods
from codistill.peers import NetworkGroup, PeerGroup
from codistill.types import Progress

ROOT = Path(__file__).parents[2]
METHODS = ("dml", "okddip", "kdcl_minlogit")
MIDDLE = Progress(5, 10)
IGNORED = 255


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SEGMENTATION, LANGUAGE = example("segmentation"), example("language_model")


@dataclass(frozen=True)
class Task:
    """A kind of network with one batch: how a group of it is built, and the logits in what a network returns."""

    file: ModuleType
    inputs: Tensor
    labels: Tensor
    options: dict
    ignore_index: int | None

    def group(self, peers: int = 3) -> NetworkGroup:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return NetworkGroup([self.file.net() for _ in range(peers)], example=self.inputs[:2], **self.options)

    def logits(self, returned: object) -> Tensor:
        return returned["out"].permute(0, 2, 3, 1) if self.file is SEGMENTATION else returned.logits


def segmentation() -> Task:
    images, masks = SEGMENTATION.draw(4, torch.Generator().manual_seed(1))
    return Task(SEGMENTATION, images, masks, {"output": "out", "class_axis": 1}, IGNORED)


def language() -> Task:
    inputs, following = LANGUAGE.sample(LANGUAGE.load()[0], 4, torch.Generator().manual_seed(1))
    return Task(LANGUAGE, inputs[:, :32], following[:, :32], {"output": "logits"}, None)


def seeded(name: str, group: PeerGroup) -> methods.Method:
    return methods.build(name, group, **({"generator": torch.Generator().manual_seed(0)} if name == "okddip" else {}))


def gradients(*modules: nn.Module) -> list[Tensor | None]:
    return [None if p.grad is None else p.grad.clone() for module in modules for p in module.parameters()]
