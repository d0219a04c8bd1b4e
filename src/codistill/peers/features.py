"""Logits and features of any network, without a change to it: the features are its last linear layer's input.

A 1x1 convolution is a linear layer at every position, and counts as one; its features are pooled over positions.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from codistill.errors import UserError, unknown
from codistill.peers.base import check_logits
from codistill.peers.pooling import pool
from codistill.peers.probe import probe

__all__ = ["Classifier", "find_classifier", "forward_with_features"]


@dataclass(frozen=True)
class Classifier:
    """Where a network's features are.

    Attributes:
        name: the module's path in the network, such as "fc" or "head.fc".
        num_classes: C.
        width: D of its input.
        axis: of the channels in its input: -1, or 1 for a convolution.
    """

    name: str
    num_classes: int
    width: int
    axis: int


def find_classifier(
    net: nn.Module, name: str | None = None, example: Tensor | None = None
) -> tuple[Classifier, Tensor]:
    """Return the linear layer that `net` runs last, or the module `name`, and a batch with which the network runs.

    The layer's input is the feature vector.

    Args:
        net: any network with logits [B, C]; unchanged.
        name: path of the classifier where it is not the last linear layer or 1x1 convolution that runs.
        example: a batch of images that the network takes; see `probe`.

    Raises:
        UserError: no module of this name, it does not run, no linear layer runs, the last one does not give C outputs,
            the network's output is not [B, C], or it changes its input in place.
    """
    if name is not None and name not in dict(net.named_modules()):
        raise unknown("classifier", name, [n for n, m in net.named_modules() if isinstance(m, nn.Linear)])
    return probe(net, example, lambda ghost, images: _look(ghost, images, name))


def forward_with_features(net: nn.Module, classifier: Classifier, *inputs: object) -> tuple[object, Tensor]:
    """Run `net` and return its output and the pooled input of the classifier, [B, D]."""
    seen: list[Tensor] = []

    def keep(_: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
        seen.append(args[0] if args else kwargs["input"])

    handle = net.get_submodule(classifier.name).register_forward_pre_hook(keep, with_kwargs=True)
    try:
        output = net(*inputs)
    finally:
        handle.remove()
    return output, pool(seen[-1], classifier.axis)


def _look(ghost: nn.Module, images: Tensor, name: str | None) -> tuple[Classifier, Tensor]:
    calls: list[tuple[str, Tensor]] = []

    def watch(path: str, module: nn.Module) -> None:
        def keep(_: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
            calls.append((path, args[0] if args else kwargs["input"]))

        module.register_forward_pre_hook(keep, with_kwargs=True)

    for path, module in ghost.named_modules():
        if path == name or (name is None and isinstance(module, nn.Linear | nn.modules.conv._ConvNd)):
            watch(path, module)
    given = images._version
    classes = check_logits(ghost(images), images).shape[1]
    if images._version != given:
        raise UserError(
            f"{type(ghost).__name__} changes its input in place, which other peers read: write x = x - 0.5 instead of "
            "x.sub_(0.5), and no in-place layer first."
        )
    if name is None:
        _refuse_other_heads(ghost, [path for path, _ in calls], classes)
        calls = [(path, x) for path, x in calls if _is_linear(ghost.get_submodule(path))]
    if not calls:
        raise UserError(
            f"classifier {name!r} does not run in {type(ghost).__name__}: name the layer that makes the logits."
        )
    path, x = calls[-1]
    axis = 1 if isinstance(ghost.get_submodule(path), nn.modules.conv._ConvNd) else -1
    return Classifier(path, classes, x.shape[axis], axis), images


def _is_linear(module: nn.Module) -> bool:
    conv = isinstance(module, nn.modules.conv._ConvNd)
    return isinstance(module, nn.Linear) or (conv and set(module.kernel_size) == {1} and module.groups == 1)


def _refuse_other_heads(ghost: nn.Module, ran: list[str], classes: int) -> None:
    """UserError unless the last linear layer that ran gives one output a class."""
    modules = {path: ghost.get_submodule(path) for path in ran}
    outputs = {path: getattr(m, "out_features", getattr(m, "out_channels", None)) for path, m in modules.items()}
    linear = [path for path in ran if _is_linear(modules[path])]
    if linear and outputs[linear[-1]] == classes:
        return
    likely = [path for path in ran if outputs[path] == classes]
    what = "no linear layer runs"
    if linear:
        what = f"its last linear layer {linear[-1]!r} has {outputs[linear[-1]]} outputs for {classes} classes"
    remedy = "make its logits with an nn.Linear that is a submodule"
    if likely:
        remedy = f'name the layer that makes the logits, classifier="{likely[-1]}" (--classifier on the command line)'
    raise UserError(f"{type(ghost).__name__}: {what}; {remedy}.")
