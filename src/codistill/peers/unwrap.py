"""Networks that come wrapped: compiled by torch.compile, or made parallel. A group takes what is inside.

A group watches layers of its networks by hooks and hands out copies with the networks' own names. Neither works through
a wrapper: compiled code does not call hooks that came later, and a wrapper puts its own name before every other.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from codistill.errors import UserError

__all__ = ["backend_apart", "unwrap"]

INNER = {"OptimizedModule": "_orig_mod", "DataParallel": "module"}
"""Class of a wrapper that adds nothing but speed -> the attribute that holds the network."""

SYNCHRONISING = ("DistributedDataParallel", "FullyShardedDataParallel")
"""Wrappers that make the gradients of several processes one: left out, each process would train on its own."""


def unwrap(networks: Sequence[nn.Module], keep: bool = False) -> tuple[list[nn.Module], bool]:
    """Return the networks without compilation and `DataParallel`, on the outside or inside; warn where there was any.

    Args:
        networks: as the user gave them.
        keep: leave the given networks as they are, and return a copy where something inside one is wrapped.

    Returns:
        The networks, and whether any of them was compiled.

    Raises:
        UserError: one is no network, or is wrapped to synchronise gradients.
    """
    for place, net in enumerate(networks):
        if not isinstance(net, nn.Module):
            raise UserError(f"network {place} is a {type(net).__name__}: give objects of nn.Module.")
    found: dict[str, list[int]] = {}
    plain = [_plain(net, place, found, keep) for place, net in enumerate(networks)]
    compiled, parallel = found.get("OptimizedModule", []), found.get("DataParallel", [])
    for places, what, remedy in (
        (compiled, "compiled", "compile the group instead, group.compile() or compile=True of an executor"),
        (parallel, "wrapped in DataParallel", "wrap codistill.Joint(group, method) in DistributedDataParallel instead"),
    ):
        if places:
            which = f"network {places[0]} is" if len(places) == 1 else f"networks {places} are"
            warnings.warn(f"{which} {what}; the group takes what is inside: {remedy}", stacklevel=3)
    return plain, bool(compiled)


def _plain(net: nn.Module, place: int, found: dict[str, list[int]], keep: bool) -> nn.Module:
    kinds: set[str] = set()
    net = _inside(net, place, kinds)
    wrapped_at = [path for path, module in net.named_modules() if path and _kind(module) is not None]
    if keep and wrapped_at:
        net = copy.deepcopy(net)
    # Deeper ones may lie inside what is replaced: their path is then another.
    while wrapped_at:
        holder, _, name = wrapped_at[0].rpartition(".")
        parent = net.get_submodule(holder)
        setattr(parent, name, _inside(getattr(parent, name), place, kinds))
        wrapped_at = [path for path, module in net.named_modules() if path and _kind(module) is not None]
    for module in net.modules():
        if module._compiled_call_impl is not None:  # by its method compile(), which wraps nothing
            kinds.add("OptimizedModule")
            if not keep:
                module._compiled_call_impl = None
    for kind in kinds:
        found.setdefault(kind, []).append(place)
    return net


def _kind(module: nn.Module) -> str | None:
    name = type(module).__name__
    return name if name in SYNCHRONISING or isinstance(getattr(module, INNER.get(name, ""), None), nn.Module) else None


def _inside(module: nn.Module, place: int, kinds: set[str]) -> nn.Module:
    while (kind := _kind(module)) is not None:
        if kind in SYNCHRONISING:
            raise UserError(
                f"network {place} is wrapped in {kind}, whose gradients a group could not keep in step: give the plain "
                "networks, and wrap codistill.Joint(group, method) instead."
            )
        kinds.add(kind)
        module = getattr(module, INNER[kind])
    return module


def backend_apart(backend: str | Callable[..., Any]) -> Callable[..., Any]:
    """A backend of torch.compile that is the same as the given one and shares no compiled code with it.

    Torch looks for code by the class of a module and the backend, and not by hooks. So code of a network that was
    compiled before it joined a group would run in the group, too, without the group's hooks.
    """
    from torch._dynamo import lookup_backend  # takes a second, and is needed by what compiles alone

    compile_graph = lookup_backend(backend)

    def apart(graph: Any, inputs: Any) -> Any:
        return compile_graph(graph, inputs)

    return apart
