"""Fits given weights to a network: by name, with another classifier, or images of other channels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from codistill.errors import UserError
from codistill.models.weights import Weights

__all__ = ["Fit", "fit"]

PREFIXES = ("module.", "_orig_mod.", "model.")
"""What DistributedDataParallel, torch.compile and Lightning put before the names."""

SHOWN = 6
"""Names in a line before the rest is counted."""


@dataclass(frozen=True, eq=False)
class Fit:
    """What of some weights a network takes.

    Attributes:
        source: where the weights are from.
        values: name in the network -> tensor in its shape.
        total: tensors of the network.
        random: names of those that the weights leave as they were drawn.
        unused: names of weights that the network has no place for.
        remarks: what was adapted.
    """

    source: str
    values: Mapping[str, Tensor]
    total: int
    random: tuple[str, ...]
    unused: tuple[str, ...]
    remarks: tuple[str, ...]

    def __str__(self) -> str:
        parts = [f"loaded {self.total - len(self.random)} of {self.total} tensors from {self.source}", *self.remarks]
        parts += [f"left at random: {_listed(self.random)}"] if self.random else []
        parts += [f"not used: {_listed(self.unused)}"] if self.unused else []
        return "; ".join(parts)


def fit(weights: Weights, net: nn.Module, model: str, classifier: str, keep_classifier: bool = False) -> Fit:
    """Return what of `weights` belongs into `net`, which does not change.

    The classifier stays as it was drawn unless `keep_classifier`, and so does any other layer that differs only in the
    number of outputs where the network has one per class. If images have other channels, the first convolution gets
    the sum of its weights over the channels, shared equally among the images' channels: a grey picture gives the same
    as its copy in three channels.

    Args:
        weights: with the names of the network, or with one of `PREFIXES` before them.
        net: the network.
        model: its name, for the errors.
        classifier: path of the layer that makes the logits.
        keep_classifier: take the weights' classifier too.

    Raises:
        UserError: nothing fits by name, or a tensor before the classifier has another shape.
    """
    own = net.state_dict()
    given = {plain_name(name, own): tensor for name, tensor in weights.tensors.items()}
    classes = own[f"{classifier}.weight"].shape[0] if f"{classifier}.weight" in own else None
    stem = _stem(net)
    values, differ, remarks = {}, [], []
    for name, place in own.items():
        if name not in given or (name.startswith(f"{classifier}.") and not keep_classifier):
            continue
        tensor = given[name]
        if name == stem and _other_channels(tensor, place):
            remarks.append(f"{name}: {tensor.shape[1]} channels summed and shared by {place.shape[1]}")
            tensor = tensor.sum(1, keepdim=True).expand_as(place) / place.shape[1]
        if tensor.shape == place.shape:
            values[name] = tensor
        elif not _is_head(tensor, place, classes):
            differ.append(name)
    _refuse_misfits(weights, given, own, model, differ, not values)
    # Tied weights may have lost one of their names in the file.
    filled = {own[name].data_ptr() for name in values}
    random = tuple(n for n, place in own.items() if n not in values and not _filled(place, filled))
    unused = tuple(name for name in given if name not in own)
    return Fit(weights.source, values, len(own), random, unused, tuple(remarks))


def plain_name(name: str, own: Mapping[str, object]) -> str:
    """Return a name without the prefixes that wrappers add, if the network then has it."""
    short = name
    while short not in own:
        prefix = next((prefix for prefix in PREFIXES if short.startswith(prefix)), None)
        if prefix is None:
            inner = name.replace("._orig_mod.", ".")
            return name if inner == name else plain_name(inner, own)
        short = short[len(prefix) :]
    return short


def _stem(net: nn.Module) -> str | None:
    """The weight of the first convolution."""
    named = ((name, m) for name, m in net.named_modules() if isinstance(m, nn.modules.conv._ConvNd))
    name, conv = next(named, (None, None))
    return None if conv is None or conv.groups != 1 else f"{name}.weight"


def _other_channels(tensor: Tensor, place: Tensor) -> bool:
    differ = tensor.ndim == place.ndim and tensor.shape[1] != place.shape[1]
    return differ and tensor.shape[0] == place.shape[0] and tensor.shape[2:] == place.shape[2:]


def _is_head(tensor: Tensor, place: Tensor, classes: int | None) -> bool:
    """Whether only the number of classes differs, as in a second classifier."""
    return place.ndim > 0 and place.shape[0] == classes and tensor.shape[1:] == place.shape[1:]


def _filled(place: Tensor, filled: set[int]) -> bool:
    return place.numel() > 0 and place.data_ptr() in filled


def _refuse_misfits(
    weights: Weights,
    given: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    model: str,
    differ: Sequence[str],
    nothing: bool,
) -> None:
    if differ:
        name, more = differ[0], f", and {len(differ) - 1} more differ" if differ[1:] else ""
        raise UserError(
            f"weights of {weights.source}: {name!r} is {list(given[name].shape)} there and {list(own[name].shape)} in "
            f"{model}{more}: give weights of this very network, or name theirs as the model."
        )
    if nothing:
        raise UserError(
            f"weights of {weights.source}: none belongs into {model} (they are {_listed(list(given)[:3])}, ..., it has "
            f"{_listed(list(own)[:3])}, ...): give weights of this very network, or name theirs as the model."
        )


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
