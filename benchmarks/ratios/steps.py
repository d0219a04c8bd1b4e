"""What the suites time: a whole training step, the convolutions of a network alone, an evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from codistill import execution, methods, models
from codistill.execution import Executor
from codistill.models.resnet import BasicBlock, ResNet
from codistill.peers import NetworkGroup
from codistill.training import OptimConfig
from codistill.training.batches import evaluation_batch
from codistill.training.metrics import EvaluationMeter
from codistill.training.optimizer import make_optimizer
from codistill.types import Progress
from ratios.race import Timed

__all__ = [
    "LARGE",
    "SMALL",
    "TINY",
    "Size",
    "bare_convolutions",
    "bare_predictions",
    "chosen_executor",
    "evaluation",
    "training_step",
]


@dataclass(frozen=True)
class Size:
    """Networks and images of a measurement.

    Attributes:
        name: what a suite prints.
        make: returns a new network, called as make(num_classes, in_channels).
        image: channels, height and width.
        batch: images of one training step.
        classes: number of classes.
    """

    name: str
    make: Callable[[int, int], nn.Module]
    image: tuple[int, int, int]
    batch: int
    classes: int


def _width_8(num_classes: int, in_channels: int) -> nn.Module:
    return ResNet(BasicBlock, (1, 1, 1), num_classes, in_channels, planes=(8, 16, 32))


LARGE = Size("ResNet-32, batch 128, 3 × 32 × 32", partial(models.build, "resnet32"), (3, 32, 32), 128, 100)
SMALL = Size("ResNet-8 of width 12, batch 64, 1 × 16 × 16", partial(models.build, "resnet8_tiny"), (1, 16, 16), 64, 100)
TINY = Size("ResNet-8 of width 8, batch 32, 1 × 8 × 8", _width_8, (1, 8, 8), 32, 10)


def training_step(
    size: Size, peers: int, method: str = "okddip", executor: str = "loop", batch: int | None = None
) -> Timed:
    """Return one training step of `peers` networks: zero the gradients, forward, method, backward, optimizer."""
    runner = _executor(size, peers, method, executor)
    optimizer = make_optimizer(OptimConfig(lr=1e-3), runner.parameters())
    images, labels = _batch(size, batch or size.batch)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        runner.train_step(images, labels, Progress(150, 300))
        optimizer.step()
        runner.after_step()

    return step


def chosen_executor(size: Size, peers: int, method: str = "okddip") -> str:
    """Return the name of the executor that `auto` chooses after its trial."""
    chosen, _ = _executor(size, peers, method, "auto").settled(*_batch(size, size.batch), Progress(150, 300))
    return chosen.name


def evaluation(size: Size, peers: int, batches: int = 1) -> Timed:
    """Return an evaluation of `peers` networks with every score: ensembles, diversity and calibration too."""
    runner = _executor(size, peers, "ind", "loop")
    runner.train(False)
    images, labels = _batch(size, evaluation_batch(size.image, torch.device("cpu")))

    def step() -> object:
        meter = EvaluationMeter(peers, size.classes, images.device)
        for _ in range(batches):
            meter.update(runner.predict(images).logits_PBC, labels)
        return meter.result()

    return step


def bare_predictions(size: Size, peers: int, batches: int = 1) -> Timed:
    """Return the forward passes of an evaluation alone: the same batches and the same layout in memory."""
    networks = _group(size, peers).eval().networks
    images, _ = _batch(size, evaluation_batch(size.image, torch.device("cpu")))

    @torch.no_grad()
    def step() -> object:
        return [network(images) for _ in range(batches) for network in networks]

    return step


def bare_convolutions(size: Size, channels_last: bool) -> Timed:
    """Return the forward and backward kernels of every convolution of one network.

    Their inputs have the shapes and the layout that they have in a training step.
    """
    found: list[tuple[Tensor, Tensor, nn.Conv2d]] = []

    def record(conv: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(conv, nn.Conv2d)
        found.append((torch.randn_like(inputs[0]), torch.randn_like(output), conv))

    network = _group(size, 1, channels_last)
    hooks = [part.register_forward_hook(record) for part in network.modules() if isinstance(part, nn.Conv2d)]
    with torch.no_grad():
        network(_batch(size, size.batch)[0])
    for hook in hooks:
        hook.remove()

    @torch.no_grad()
    def step() -> None:
        for i, (x, gradient, conv) in enumerate(found):
            settings = (conv.stride, conv.padding, conv.dilation)
            functional.conv2d(x, conv.weight, None, *settings, conv.groups)  # pyright: ignore[reportCallIssue, reportArgumentType]
            # The first convolution reads the images, which need no gradient.
            torch.ops.aten.convolution_backward(
                gradient, x, conv.weight, None, *settings, False, [0, 0], conv.groups, [i > 0, True, False]
            )

    return step


def _executor(size: Size, peers: int, method: str, executor: str) -> Executor:
    group = _group(size, peers)
    loss = methods.build(method, group).train()
    if loss.needs.held_out > 0:
        # In a run, KDCL-General takes its weights from held-out images. Their values do not change the cost of a step.
        prob_PNC = torch.rand(peers, 64, size.classes).softmax(-1)
        loss.renew(prob_PNC, torch.randint(size.classes, (64,)))
    return execution.build(executor, group, loss)


def _group(size: Size, peers: int, channels_last: bool | None = None) -> NetworkGroup:
    """Return a group in the memory layout that a run chooses, unless a layout is given."""
    group = NetworkGroup([size.make(size.classes, size.image[0]) for _ in range(peers)]).train()
    execution.lay_out(group, size.image, channels_last)
    return group


def _batch(size: Size, batch: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, *size.image, generator=generator)
    return images, torch.randint(size.classes, (batch,), generator=generator)
