"""How deep each parameter of a network lies, in blocks, in the order in which they run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from codistill.peers import PeerGroup
from codistill.tracing.probe import probe

__all__ = ["block_levels"]

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def block_levels(net: nn.Module, group: PeerGroup) -> dict[str, int]:
    """Return name of a parameter -> level, 0 for the first block that runs.

    A block is a part of which the network has several (residual blocks, transformer blocks, dense blocks), or a single
    layer outside of these. A layer of vectors only, such as a norm, belongs to the block before it.

    Args:
        net: the plain network; only its structure is used.
        group: says which inputs it takes.
    """
    paths = list(_blocks(net))
    example = torch.empty(2, *group.image_shape, dtype=group.input_dtype, device="meta")
    order = probe(net, example, lambda ghost, x: _order_of(ghost, paths, x))
    # What never runs comes first, as what is read directly (class tokens) does: its level is that of the stem.
    rank = {path: place for place, path in enumerate(order)}
    paths.sort(key=lambda path: rank.get(path, -1))
    parameters, levels = dict(net.named_parameters(remove_duplicate=False)), {}
    level, matrices = 0, False
    for path in paths:
        own = [name for name in parameters if name == path or name.startswith(f"{path}.")]
        has_matrix = any(parameters[name].ndim > 1 for name in own)
        runs = path in rank
        level += int(has_matrix and matrices and runs)
        matrices = matrices or (has_matrix and runs)
        levels |= {name: level for name in own if name not in levels}
    return levels


def _blocks(net: nn.Module) -> Iterator[str]:
    """Paths of the blocks, and of parameters that lie outside of all blocks."""
    count = Counter(type(module) for module in net.modules())

    def walk(module: nn.Module, path: str) -> Iterator[str]:
        yield from (path + name for name, _ in module.named_parameters(recurse=False))
        for name, child in module.named_children():
            inner = any(True for _ in child.children())
            if inner and (type(child) in CONTAINERS or count[type(child)] == 1):
                yield from walk(child, f"{path}{name}.")
            elif any(True for _ in child.parameters()):
                yield path + name

    return walk(net, "")


def _order_of(net: nn.Module, paths: list[str], x: Tensor) -> list[str]:
    """Run the network; return the blocks in the order in which they begin."""
    entered: dict[str, None] = {}
    modules = dict(net.named_modules())
    handles = [
        modules[path].register_forward_pre_hook(lambda *_, path=path: entered.setdefault(path))
        for path in paths
        if path in modules
    ]
    try:
        net(x)
    finally:
        for handle in handles:
            handle.remove()
    return list(entered)
