"""`PeerOutputs`: all that a method may see of a group. A new field is one line of the class and one of its docstring.

Every field says in its metadata how it is laid out, so that the operations below treat all of them alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from codistill.errors import UserError

__all__ = ["PeerOutputs"]


def _laid_out(peers: str, batch: int, gradient: bool = True) -> dict[str, Any]:
    """Metadata of a field of `PeerOutputs`, whose value is a tensor, None, or a tuple or mapping of such.

    Args:
        peers: "stacked": each tensor has the peers on axis 0; "listed": one tensor per peer, in a tuple; "shared": the
            tensor belongs to all peers together.
        batch: axis of the images.
        gradient: whether gradient flows back through it into the networks.
    """
    return {"peers": peers, "batch": batch, "gradient": gradient}


@dataclass(frozen=True)
class PeerOutputs:
    """The output boundary. Which of the optional fields are there is what the method's `Needs` ask for.

    Attributes:
        logits_PBC: [P, B, C]; dense predictions and sequences add positions before the classes, [P, B, ..., C].
        features: for each peer the pooled input of its classifier, [B, D_p] (or [B, ..., D_p]).
        trunk_features: the pooled output [B, D] of the trunk that the peers share.
        maps: path -> for each peer the output of that module, [B, D_p, H, W] or as the network has it.
        head_logits: path -> [P, B, C] of the extra classifiers after that module; in training only.
        mixed_logits: [B, ..., C] of the network whose weights are the mean of the peers'; in training only.
        teacher_logits_KBC: [K, B, ..., C] of frozen teachers that see the same images; in training only.
        averaged_logits_PBC: [P, B, ..., C] of the peers' moving averages, each on its peer's view; in training only.
        averaged_features: the features of these, one [B, D_p] per peer.

    Raises:
        UserError: logits are not floating point or have fewer than three axes; another number of tensors than peers;
            a batch that differs from the logits'.
    """

    logits_PBC: Tensor = field(metadata=_laid_out("stacked", batch=1))
    features: tuple[Tensor, ...] = field(default=(), metadata=_laid_out("listed", batch=0))
    trunk_features: Tensor | None = field(default=None, metadata=_laid_out("shared", batch=0))
    teacher_logits_KBC: Tensor | None = field(default=None, metadata=_laid_out("shared", batch=1, gradient=False))
    maps: Mapping[str, tuple[Tensor, ...]] = field(default_factory=dict, metadata=_laid_out("listed", batch=0))
    head_logits: Mapping[str, Tensor] = field(default_factory=dict, metadata=_laid_out("stacked", batch=1))
    mixed_logits: Tensor | None = field(default=None, metadata=_laid_out("shared", batch=0))
    averaged_logits_PBC: Tensor | None = field(default=None, metadata=_laid_out("stacked", batch=1, gradient=False))
    averaged_features: tuple[Tensor, ...] = field(default=(), metadata=_laid_out("listed", batch=0, gradient=False))

    def __post_init__(self) -> None:
        logits = self.logits_PBC
        if not isinstance(logits, Tensor) or logits.ndim < 3:
            shape = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise UserError(f"logits have shape {shape}: give [P, B, C], with the peers first.")
        if not logits.is_floating_point():
            raise UserError(f"logits have dtype {logits.dtype}: give floating-point scores before the softmax.")
        for f in fields(self):
            _check(f.name, f.metadata, getattr(self, f.name), logits)

    @property
    def peers(self) -> int:
        """Number of peers P."""
        return self.logits_PBC.shape[0]

    def map(self, function: Callable[[Tensor], Tensor], gradient: bool | None = None) -> PeerOutputs:
        """Return the outputs with `function` applied to every tensor, or only to those with (or without) gradient."""
        chosen = [f.name for f in fields(self) if gradient in (None, f.metadata["gradient"])]
        return replace(self, **{name: _map(function, getattr(self, name)) for name in chosen})

    def tensors(self) -> list[Tensor]:
        """What the students' gradients flow through, in a fixed order, beginning with the logits."""
        return [t for f in fields(self) if f.metadata["gradient"] for t in _leaves(getattr(self, f.name))]

    def every(self) -> list[Tensor]:
        """All tensors, those without gradient among them, in a fixed order."""
        found: list[Tensor] = []
        self.map(lambda tensor: found.append(tensor) or tensor)
        return found

    def filled(self, tensors: Sequence[Tensor]) -> PeerOutputs:
        """Return outputs of this form that hold the given tensors, in the order of `every`."""
        each = iter(tensors)
        return self.map(lambda _: next(each))

    def at_boundary(self) -> PeerOutputs:
        """Return the same values in fp32 (fp64 stays), cut off from the networks' graph.

        What carries gradient becomes leaves that collect it.
        """

        def wide(tensor: Tensor) -> Tensor:
            return tensor.detach() if tensor.dtype == torch.float64 else tensor.detach().float()

        cut = self.map(wide, gradient=False)
        return cut.map(lambda tensor: wide(tensor).requires_grad_(), gradient=True)

    @torch.no_grad()
    def silence(self, peers: Sequence[int]) -> None:
        """Remove the gradient that the leaves of these peers have collected, so that none of it reaches a network."""
        for f in fields(self):
            if f.metadata["gradient"] and f.metadata["peers"] != "shared":
                for tensor in _of_peers(f.metadata["peers"], getattr(self, f.name), peers):
                    tensor.zero_()

    def part(self, peers: Sequence[int], rows: slice = slice(None)) -> PeerOutputs:
        """Return the outputs of these peers, in this order, on these rows; what is shared is that of all peers."""
        chosen = {}
        for f in fields(self):
            value = getattr(self, f.name)
            kind, batch = f.metadata["peers"], f.metadata["batch"]
            if kind == "stacked":
                value = _map(lambda tensor: tensor[list(peers)], value)
            elif kind == "listed":
                value = _listed_part(value, peers)
            chosen[f.name] = _map(lambda tensor, axis=batch: tensor[(slice(None),) * axis + (rows,)], value)
        return PeerOutputs(**chosen)

    @staticmethod
    def cat(batches: Sequence[PeerOutputs]) -> PeerOutputs:
        """Return the outputs of several batches as those of one."""
        if len(batches) == 1:
            return batches[0]
        joined = {f.name: _zip([getattr(b, f.name) for b in batches], f.metadata["batch"]) for f in fields(PeerOutputs)}
        return PeerOutputs(**joined)

    @staticmethod
    def stack(peers: Sequence[PeerOutputs]) -> PeerOutputs:
        """Return the outputs of groups of peers as those of one group; what is shared is taken from the first."""
        joined = {}
        for f in fields(PeerOutputs):
            values = [getattr(outputs, f.name) for outputs in peers]
            kind = f.metadata["peers"]
            joined[f.name] = values[0] if kind == "shared" else _zip(values, 0) if kind == "stacked" else _chain(values)
        return PeerOutputs(**joined)


def _check(name: str, layout: Mapping[str, Any], value: Any, logits: Tensor) -> None:
    (P, B), what = logits.shape[:2], name.replace("_PBC", "").replace("_KBC", "").replace("_", " ")
    listed, stacked, batch = layout["peers"] == "listed", layout["peers"] == "stacked", layout["batch"]
    for group in value.values() if isinstance(value, Mapping) else (value,):
        if listed and group and len(group) != P:
            raise UserError(f"{len(group)} {what} for {P} peers: give one tensor per peer, or none.")
        for place, tensor in enumerate(_leaves(group)):
            size = None
            if tensor.ndim < batch + 2 or tensor.shape[batch] != B:
                size = f"B = {B} images"
            elif stacked and tensor.shape[0] != P:
                size = f"P = {P} peers"
            if size is not None:
                of = f"{what} of peer {place}" if listed else what
                wanted = ", ".join([*("P" if stacked else "K") * batch, "B", "..."])
                raise UserError(f"{of} have shape {list(tensor.shape)}: give [{wanted}] with {size}, as in the logits.")
    if name == "teacher_logits_KBC" and isinstance(value, Tensor) and value.shape[1:] != logits.shape[1:]:
        raise UserError(
            f"teacher logits have shape {list(value.shape)}: give [K, {', '.join(map(str, logits.shape[1:]))}], as the "
            "students' logits."
        )


def _map(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {key: _map(function, inner) for key, inner in value.items()}
    return None if value is None else tuple(_map(function, inner) for inner in value)


def _leaves(value: Any) -> list[Tensor]:
    found: list[Tensor] = []
    _map(lambda tensor: found.append(tensor) or tensor, value)
    return found


def _zip(values: Sequence[Any], axis: int) -> Any:
    """Values of one structure with their tensors joined along an axis."""
    first = values[0]
    if isinstance(first, Tensor):
        return torch.cat(list(values), dim=axis)
    if isinstance(first, Mapping):
        return {key: _zip([value[key] for value in values], axis) for key in first}
    return None if first is None else tuple(_zip(inner, axis) for inner in zip(*values, strict=True))


def _chain(values: Sequence[Any]) -> Any:
    """Tuples one after the other, also inside mappings."""
    if isinstance(values[0], Mapping):
        return {key: _chain([value[key] for value in values]) for key in values[0]}
    return tuple(tensor for value in values for tensor in value)


def _listed_part(value: Any, peers: Sequence[int]) -> Any:
    if isinstance(value, Mapping):
        return {key: _listed_part(inner, peers) for key, inner in value.items()}
    return tuple(value[peer] for peer in peers) if value else value


def _of_peers(kind: str, value: Any, peers: Sequence[int]) -> list[Tensor]:
    """Views of the gradients that the leaves of these peers hold."""
    if isinstance(value, Mapping):
        return [tensor for inner in value.values() for tensor in _of_peers(kind, inner, peers)]
    if kind == "stacked":
        return [] if value is None or value.grad is None else [value.grad[peer] for peer in peers]
    return [value[peer].grad for peer in peers if value and value[peer].grad is not None]
