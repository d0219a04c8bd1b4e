"""Which parameters share a learning rate and weight decay: the one mechanism behind optim.decay, head_lr, layer_decay.

The names are those of the plain network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from torch import nn

from codistill.config import OptimConfig
from codistill.errors import UserError
from codistill.peers import PeerGroup
from codistill.training.depth import block_levels

__all__ = ["parameter_groups"]


def parameter_groups(optim: OptimConfig, group: PeerGroup, parameters: Sequence[nn.Parameter]) -> list[dict[str, Any]]:
    """Return the parameters as groups of an optimizer, in their order; one group if all are treated alike.

    A group has `scale`, a factor on the learning rate, unless that is 1, and `weight_decay` 0.0 where there is none.
    Parameters that are no student's (a method's own, extra heads) have scale 1.

    Args:
        optim: its `decay`, `head_lr` and `layer_decay`.
        group: the students.
        parameters: all that the optimizer is to hold.

    Raises:
        UserError: `decay` without weight decay.
    """
    if optim.decay == "matrices" and optim.weight_decay_used == 0:
        raise UserError("optim.decay 'matrices' without weight decay: give --optim.weight-decay, or leave it out.")
    scales = _scales(optim, group)
    spared = set(_spared(group)) if optim.decay == "matrices" else set()
    found: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for parameter in parameters:
        decays = optim.decay == "all" or (parameter.ndim > 1 and id(parameter) not in spared)
        found.setdefault((scales.get(id(parameter), 1.0), decays), []).append(parameter)
    return [
        {"params": own, **({} if scale == 1.0 else {"scale": scale}), **({} if decays else {"weight_decay": 0.0})}
        for (scale, decays), own in found.items()
    ]


def _scales(optim: OptimConfig, group: PeerGroup) -> dict[int, float]:
    """Factor on the learning rate by the id of a student's parameter; 1 where it is not named."""
    scales: dict[int, float] = {}
    if optim.head_lr == 1.0 and optim.layer_decay == 1.0:
        return scales
    for peer in range(group.shape.peers):
        named, head = group.peer_parameters(peer), group.classifier_of(peer)
        depth = block_levels(group.plain_network(peer), group) if optim.layer_decay < 1 else {}
        deepest = max(depth.values(), default=0)
        for name, parameter in named.items():
            is_head = name.startswith(f"{head}.")
            below = 0 if is_head else deepest - depth.get(name, deepest)
            # A shared parameter has the same name, and so the same scale, for every student.
            scales[id(parameter)] = optim.layer_decay**below * (optim.head_lr if is_head else 1.0)
    return scales


def _spared(group: PeerGroup) -> Iterator[int]:
    """Ids of the parameters that a network itself asks to spare from weight decay, as timm's do."""
    for peer in range(group.shape.peers):
        ask: Callable[[], Iterable[str]] = getattr(group.plain_network(peer), "no_weight_decay", tuple)
        names = set(ask())
        yield from (id(p) for name, p in group.peer_parameters(peer).items() if name in names)
