"""Logits and features of any network, without a change to it.

The logits come from its last linear layer. The features are that layer's input, unless the network says that they are
the input of another layer: a string attribute `feature_layer`, such as "head.0" of our VGG-16, whose head has dropout.
A 1x1 convolution is a linear layer at every position, and counts as one; features are pooled over positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from codistill.errors import UserError, unknown
from codistill.peers.logits import LogitsReader
from codistill.peers.pooling import channel_axis, pool
from codistill.tracing.probe import probe

__all__ = ["Classifier", "find_classifier"]


@dataclass(frozen=True)
class Classifier:
    """Where a network's logits and features are.

    Attributes:
        name: path of the layer that makes the logits, such as "fc" or "head.fc".
        num_classes: C.
        features: path of the layer whose input is the feature vector; `name`, unless the network or the user says
            otherwise.
        width: D of the features.
        axis: of the channels in the features.
        positions: number of axes between batch and classes in the logits, 0 for [B, C].
        per_position: whether the features have the logits' positions, and keep them: [B, ..., D] instead of [B, D].
    """

    name: str
    num_classes: int
    features: str
    width: int
    axis: int
    positions: int = 0
    per_position: bool = False

    def features_of(self, x: Tensor) -> Tensor:
        """The features in an input of the layer: pooled over positions, [B, D], or with them, [B, ..., D]."""
        return x.movedim(self.axis, -1) if self.per_position else pool(x, self.axis)


def find_classifier(
    net: nn.Module,
    name: str | None = None,
    example: Tensor | None = None,
    features: str | None = None,
    reader: LogitsReader | None = None,
) -> tuple[Classifier, Tensor]:
    """Return where the logits and the features of `net` are, and a batch with which the network runs.

    Args:
        net: any network; unchanged.
        name: path of the classifier where it is not the last linear layer or 1x1 convolution that runs.
        example: a batch of images that the network takes; see `probe`.
        features: path of the layer whose input is the feature vector. None: the network's own `feature_layer` if it
            has one, else the classifier, whichever way that is found.
        reader: makes logits of what the network returns; None: it returns logits [B, C].

    Raises:
        UserError: no module of these names, it does not run, no linear layer runs, the last one does not give C
            outputs, what the network returns is no logits, or it changes its input in place.
    """
    said = getattr(net, "feature_layer", None)
    features = features if features is not None else said if isinstance(said, str) else None
    modules = dict(net.named_modules())
    if name is not None and name not in modules:
        raise unknown("classifier", name, [n for n, m in modules.items() if isinstance(m, nn.Linear)])
    if features is not None and features not in modules:
        raise unknown("feature layer", features, [n for n in modules if n])
    read = reader or LogitsReader()
    return probe(net, example, lambda ghost, images: _look(ghost, images, name, features, read))


def _look(
    ghost: nn.Module, images: Tensor, name: str | None, features: str | None, reader: LogitsReader
) -> tuple[Classifier, Tensor]:
    calls: list[tuple[str, Tensor]] = []

    def watch(path: str, module: nn.Module) -> None:
        def keep(_: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
            calls.append((path, args[0] if args else kwargs["input"]))

        module.register_forward_pre_hook(keep, with_kwargs=True)

    outputs: list[object] = []
    if name is not None:
        ghost.get_submodule(name).register_forward_hook(lambda _, __, output: outputs.append(output))
    asked = [path for path in (name, features) if path is not None]
    for path, module in ghost.named_modules():
        if path in asked or (name is None and _could_be_linear(module)):
            watch(path, module)
    given = images._version
    logits = reader(ghost(images), images)
    classes = logits.shape[-1]
    if images._version != given:
        raise UserError(
            f"{type(ghost).__name__} changes its input in place, which other peers read: write x = x - 0.5 instead of "
            "x.sub_(0.5), and no in-place layer first."
        )
    ran = [path for path, _ in calls]
    if name is None:
        layers = [layer for layer in ran if _could_be_linear(ghost.get_submodule(layer))]
        _refuse_other_heads(ghost, layers, logits.shape, reader.class_axis)
        name = next(layer for layer in reversed(layers) if _is_linear(ghost.get_submodule(layer)))
    features = features or name
    for what, layer in (("classifier", name), ("feature layer", features)):
        if layer not in ran:
            raise UserError(
                f"{what} {layer!r} does not run in {type(ghost).__name__}: name a layer that its forward calls."
            )
    if outputs:
        _refuse_no_logits(ghost, name, outputs[-1], classes)
    x = next(x for layer, x in reversed(calls) if layer == features)
    axis = _axis_of(ghost.get_submodule(features), x)
    places = logits.ndim - 2
    per_position = places > 0 and x.movedim(axis, -1).shape[1:-1] == logits.shape[1:-1]
    return Classifier(name, classes, features, x.shape[axis], axis, places, per_position), images


def _refuse_no_logits(ghost: nn.Module, name: str, output: object, classes: int) -> None:
    """UserError if the layer that the user names as the classifier gives another number of outputs than classes."""
    if isinstance(output, Tensor) and output.ndim > 1 and classes not in (output.shape[1], output.shape[-1]):
        outputs = output.shape[-1] if output.ndim == 2 else output.shape[1]
        raise UserError(
            f"classifier {name!r} gives {outputs} outputs for {classes} classes in {type(ghost).__name__}: name the "
            "layer that makes the logits, or leave it out."
        )


def _axis_of(layer: nn.Module, x: Tensor) -> int:
    """The axis of the channels in a layer's input."""
    if isinstance(layer, nn.Linear):
        return -1
    return 1 if isinstance(layer, nn.modules.conv._ConvNd) else channel_axis(x.shape)


def _could_be_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear | nn.modules.conv._ConvNd)


def _is_linear(module: nn.Module) -> bool:
    conv = isinstance(module, nn.modules.conv._ConvNd)
    return isinstance(module, nn.Linear) or (conv and set(module.kernel_size) == {1} and module.groups == 1)


def _refuse_other_heads(ghost: nn.Module, ran: list[str], shape: Sequence[int], class_axis: int) -> None:
    """UserError unless the last linear layer that ran gives one output per class; `shape` has the classes last."""
    classes = shape[-1]
    modules = {path: ghost.get_submodule(path) for path in ran}
    outputs = {path: getattr(m, "out_features", getattr(m, "out_channels", None)) for path, m in modules.items()}
    linear = [path for path in ran if _is_linear(modules[path])]
    if linear and outputs[linear[-1]] == classes:
        return
    # Where the network itself has the other axis on which classes may lie.
    other = shape[1 if class_axis == -1 else -2]
    if linear and len(shape) > 2 and outputs[linear[-1]] == other:
        raise UserError(
            f"class_axis {class_axis} of {type(ghost).__name__} has {classes} entries, but its last linear layer "
            f"{linear[-1]!r} gives {other} classes: set class_axis={1 if class_axis == -1 else -1}."
        )
    likely = [path for path in ran if outputs[path] == classes]
    what = "no linear layer runs"
    if linear:
        what = f"its last linear layer {linear[-1]!r} has {outputs[linear[-1]]} outputs for {classes} classes"
    remedy = "make its logits with an nn.Linear that is a submodule"
    if likely:
        remedy = f'name the layer that makes the logits, classifier="{likely[-1]}" (--classifier on the command line)'
    raise UserError(f"{type(ghost).__name__}: {what}; {remedy}.")
