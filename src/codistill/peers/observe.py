"""Runs a network and keeps what some of its layers take in or put out, without a change to it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor, nn

from codistill.errors import UserError
from codistill.tracing.probe import probe

__all__ = ["find_last_map", "run_observed", "shapes_of_maps", "the_input"]


def run_observed(
    module: nn.Module, watched: Mapping[str, str], inputs_of: str | None, *inputs: object
) -> tuple[Any, Tensor | None, dict[str, Tensor]]:
    """Run a module and keep what some of its layers take in or put out.

    Args:
        module: a network or a segment of one.
        watched: name -> path of a layer whose output is kept.
        inputs_of: path of a layer whose input is kept; None for none.
        inputs: of the module.

    Returns:
        The module's output, the input of the layer `inputs_of`, and the outputs by name; what ran several times is
        kept from the last time, what did not run is left out.
    """
    entered: list[Tensor] = []
    left: dict[str, Tensor] = {}

    def keep_input(_: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
        entered.append(args[0] if args else kwargs["input"])

    handles = []
    if inputs_of is not None:
        layer = module.get_submodule(inputs_of)
        handles.append(layer.register_forward_pre_hook(keep_input, with_kwargs=True))
    for name, path in watched.items():

        def keep_output(_: nn.Module, args: object, output: Tensor, name: str = name) -> None:
            left[name] = output

        handles.append(module.get_submodule(path).register_forward_hook(keep_output))
    try:
        output = module(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return output, entered[-1] if entered else None, left


def the_input(entered: Tensor | None, module: nn.Module) -> Tensor:
    """What `run_observed` kept; UserError where compiled code from before has run, which knows of no hook."""
    if entered is None:
        raise UserError(
            f"{type(module).__name__} ran without the layer that makes its features: code of this class was compiled "
            "before it joined a group, so call torch.compiler.reset() once the group is built."
        )
    return entered


def shapes_of_maps(module: nn.Module, watched: Mapping[str, str], *inputs: object) -> dict[str, tuple[int, ...]]:
    """The shapes of some layers' outputs without the batch; UserError where a layer does not run or gives no tensor."""
    versions: dict[str, int] = {}
    for name, path in watched.items():

        def note(_: nn.Module, args: object, output: object, name: str = name) -> None:
            versions[name] = output._version if isinstance(output, Tensor) else 0

        module.get_submodule(path).register_forward_hook(note)
    _, _, maps = run_observed(module, watched, None, *inputs)
    for name in watched:
        if not isinstance(maps.get(name), Tensor):
            what = f"puts out a {type(maps[name]).__name__}" if name in maps else "never runs as a module of its own"
            raise UserError(f"map {name!r} {what}: name a module that the forward calls and that puts out one tensor.")
        if maps[name]._version != versions[name]:
            raise UserError(
                f"map {name!r} is changed in place by a later layer: name that layer instead, or build it with "
                "inplace=False."
            )
    return {name: tuple(maps[name].shape[1:]) for name in watched}


def find_last_map(net: nn.Module, example: Tensor, among: Collection[str] | None = None) -> str:
    """The path of the module that puts out the last activation with positions, [B, D, H, W] or [B, T, D], not pooled.

    Args:
        net: the network; not changed.
        example: a batch of images that it takes.
        among: the paths that come into question; all if None.

    Raises:
        UserError: no module puts out such an activation.
    """

    def look(ghost: nn.Module, images: Tensor) -> str:
        left: list[str] = []
        for path, part in ghost.named_modules():
            if path and not isinstance(part, _NO_MAP) and (among is None or path in among):

                def keep(_: nn.Module, args: object, output: object, path: str = path) -> None:
                    if isinstance(output, Tensor) and output.ndim >= 3:
                        left.append(path)

                part.register_forward_hook(keep)
        ghost(images)
        if not left:
            raise UserError(
                f"{type(ghost).__name__} has no activation with positions: name a module instead of 'last'."
            )
        return left[-1]

    return probe(net, example, look)


_NO_MAP = (
    nn.modules.pooling._AdaptiveAvgPoolNd, nn.modules.pooling._AdaptiveMaxPoolNd, nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._MaxPoolNd, nn.modules.dropout._DropoutNd, nn.Flatten, nn.Identity,
)  # fmt: skip
"""Layers after the last map that hold no activation of their own."""
