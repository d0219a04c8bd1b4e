"""Traces a network's forward only as deep as its splits require: a module without a split inside stays one step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from codistill.errors import UserError, unknown
from codistill.tracing.probe import first_line
from codistill.tracing.recording import UnrecordedError, nothing_unrecorded, switches

__all__ = ["Traced", "trace", "trace_layers"]


@dataclass(frozen=True)
class Traced:
    """A traced forward in one mode.

    Attributes:
        graph: its steps.
        starts: the position in the graph at which each split begins.
        positions: the position of every node.
    """

    graph: fx.Graph
    starts: dict[str, int]
    positions: dict[fx.Node, int]


def trace(net: nn.Module, splits: Sequence[str], one_tensor: bool = True) -> Traced:
    """Trace the forward of `net` in its current mode, down to the splits.

    Args:
        net: the network.
        splits: module paths.
        one_tensor: whether the output stays as it is; else a dictionary or tuple of tensors becomes one value.

    Raises:
        UserError: a split is not a module, never runs, or is inside a forward that torch.fx cannot trace.
    """
    modules = [name for name, _ in net.named_modules() if name]
    for split in splits:
        if split not in modules:
            near_top = [name for name in modules if name.count(".") < 2]
            raise unknown("split", split, modules, f"choose one of: {', '.join(near_top[:40])}.")
    tracer = _Tracer({prefix for split in splits for prefix in _ancestors(split)})
    try:
        graph = tracer.trace(net)
    except Exception as error:
        raise UserError(
            f"split {' and '.join(map(repr, splits))}: torch.fx cannot trace the forward of {type(net).__name__} "
            f"around it ({_reason(error)}); choose a module further out, or {_remedy(error)}."
        ) from error
    for split in splits:
        if split not in tracer.entered:
            raise UserError(
                f"split {split!r} never runs as a module of its own in {type(net).__name__}: choose one that its "
                f"forward calls, such as {', '.join(list(tracer.entered)[:40])}."
            )
    if not one_tensor:
        _return_one_value(graph)
    positions = {node: at for at, node in enumerate(graph.nodes)}
    starts = {split: tracer.entered[split] for split in splits}
    return Traced(graph, starts, positions)


def trace_layers(net: nn.Module) -> fx.Graph:
    """Trace the forward of `net`, from one input to one output, in its current mode, down to torch's own layers.

    Raises:
        UserError: torch.fx cannot trace it.
    """
    layers = fx.Tracer()
    inner = {name for name, module in net.named_modules() if name and not layers.is_leaf_module(module, name)}
    try:
        return _Tracer(inner).trace(net)
    except Exception as error:
        raise UserError(
            f"torch.fx cannot trace the forward of {type(net).__name__} down to its layers ({_reason(error)}): "
            f"{_remedy(error)}."
        ) from error


def _return_one_value(graph: fx.Graph) -> None:
    """Let a node of its own put out the dictionary or tuple that the forward returns, since a segment ends in one."""
    output = next(node for node in graph.nodes if node.op == "output")
    if not isinstance(output.args[0], fx.Node):
        with graph.inserting_before(output):
            output.args = (graph.call_function(_itself, (output.args[0],)),)


def _itself(value: Any) -> Any:
    return value


def _remedy(error: Exception) -> str:
    if isinstance(error, UnrecordedError):
        return "remove that"
    return "write that forward with modules and operations on tensors only, without control flow on values"


def _reason(error: Exception) -> str:
    return first_line(error).partition(". ")[0]


class _Tracer(fx.Tracer):
    """Traces into `open_modules` only, and records at which node each module is first entered."""

    def __init__(self, open_modules: set[str]) -> None:
        # Shapes of parameters are then plain numbers, and a forward may branch on them.
        super().__init__(param_shapes_constant=True)
        self.open_modules = open_modules
        self.entered: dict[str, int] = {}

    def trace(self, root: Any, concrete_args: Any = None) -> fx.Graph:
        opened = {path: module for path, module in root.named_modules() if not path or path in self.open_modules}
        self.switches = switches()
        with nothing_unrecorded(opened):
            return super().trace(root, concrete_args)

    def create_node(self, kind: str, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        if switches() != self.switches:
            raise UnrecordedError(f"it switches gradients or precision around {target!r}, which the trace would not do")
        return super().create_node(kind, target, *args, **kwargs)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name not in self.open_modules

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        self.entered.setdefault(self.path_of_module(m), len(self.graph.nodes))
        return super().call_module(m, forward, args, kwargs)

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Any, list[Any]]:
        # The only input is the image tensor; fx would turn the defaults of other parameters into unknown values.
        return root_fn, [self.root, self.create_proxy("placeholder", "images", (), {})]


def _ancestors(path: str) -> list[str]:
    names = path.split(".")
    return [".".join(names[:depth]) for depth in range(1, len(names))]
