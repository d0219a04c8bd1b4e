"""Layers that do not learn, by patterns of their parameters' names in the plain network."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from codistill.errors import UserError, unknown
from codistill.peers import PeerGroup

__all__ = ["Freezing", "refuse_still"]


class Freezing:
    """Freezes parameters of a group when it is made, and can let them learn later.

    A batch norm all of whose numbers are frozen stays in evaluation mode: it normalises by its statistics, and keeps
    them.

    Args:
        group: the students, with the weights that they start from, before an executor holds them.
        patterns: of names as in the plain network, with * for any text; a name matches where its beginning, up to a
            dot, does.
        epochs: how many are trained frozen; None: all.

    Raises:
        UserError: a pattern that matches no parameter (with near names), or a student of which nothing is left to
            learn.

    Attributes:
        parameters: those that do not learn at first.
        frozen: whether they are frozen now.
    """

    def __init__(self, group: PeerGroup, patterns: Sequence[str], epochs: int | None = None) -> None:
        self.group, self.epochs = group, epochs
        chosen: dict[int, nn.Parameter] = {}
        self.norms: dict[str, None] = {}
        unused, names = set(patterns), dict[str, None]()
        homes = {id(module): path for path, module in group.named_modules()}
        for peer in range(group.shape.peers):
            named = group.peer_parameters(peer)
            names |= dict.fromkeys(named)
            frozen = {name: p for name, p in named.items() if p.requires_grad and _matches(name, patterns)}
            unused -= {pattern for pattern in patterns if any(_matches(name, [pattern]) for name in named)}
            if named and frozen and all(name in frozen or not p.requires_grad for name, p in named.items()):
                raise UserError(
                    f"freeze {' '.join(patterns)}: it freezes all parameters of student {peer}; leave out the "
                    f"classifier, {group.classifier_of(peer)!r}."
                )
            chosen |= {id(p): p for p in frozen.values()}
            for path, module in group.peer_modules(peer).items():
                if _is_norm(module) and _matches(f"{path}.running_mean", patterns):
                    self.norms[homes[id(module)]] = None
        if unused:
            raise unknown("pattern of freeze", min(unused), _parts(names), "codistill list models names the networks.")
        self.parameters = list(chosen.values())
        self.at(0)

    def at(self, epoch: int, thawed: bool = False) -> None:
        """Put parameters and norms into the state of this epoch, counted from 0.

        The norms, and the executor `fused`, follow with the executor's next `train`.
        `thawed`: let everything learn.
        """
        self.frozen = not thawed and (self.epochs is None or epoch < self.epochs)
        for parameter in self.parameters:
            parameter.requires_grad_(not self.frozen)
        self.group.still = tuple(self.norms) if self.frozen else ()

    @property
    def learning_later(self) -> list[nn.Parameter]:
        """The parameters that learn once they are no longer frozen; the optimizer holds them from the start."""
        return [] if self.epochs is None else self.parameters


def refuse_still(group: PeerGroup) -> None:
    """Raise UserError for a student that comes with nothing to learn."""
    for peer in range(group.shape.peers):
        if not any(parameter.requires_grad for parameter in group.peer_parameters(peer).values()):
            raise UserError(
                f"student {peer} has no parameter that learns: requires_grad is False for all of them; set it to True "
                "for those that are to be trained."
            )


def _matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a pattern matches the name, or a module that holds it ("layer1" and "bn*" match "layer1.0.bn1.bias")."""
    parts = name.split(".")
    starts = [".".join(parts[:i]) for i in range(1, len(parts) + 1)]
    return any(fnmatchcase(start, pattern) for pattern in patterns for start in starts)


def _is_norm(module: nn.Module) -> bool:
    return getattr(module, "running_mean", None) is not None


def _parts(names: dict[str, None]) -> list[str]:
    """Names of parameters and of the modules around them."""
    found: dict[str, None] = {}
    for name in names:
        parts = name.split(".")
        found |= dict.fromkeys(".".join(parts[:i]) for i in range(1, len(parts) + 1))
    return list(found)
