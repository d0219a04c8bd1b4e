"""A segment of a network, from one cut to the next: some of its modules, with their names, and their operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

__all__ = ["Operation", "Ref", "Segment", "SegmentPlan", "holder_of"]


@dataclass(frozen=True)
class Ref:
    """Stands for an earlier value in the arguments of an operation."""

    name: str


@dataclass(frozen=True)
class Operation:
    """One operation of a forward: `op` and `target` as in torch.fx; the values `frees` are not needed after it."""

    name: str
    op: str
    target: str | Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    frees: tuple[str, ...] = ()


@dataclass(frozen=True)
class SegmentPlan:
    """The operations of one segment. Inputs and outputs: the tensor that crosses the cut, then the side values."""

    inputs: tuple[str, ...]
    operations: tuple[Operation, ...]
    outputs: tuple[str, ...]


class Segment(nn.Module):
    """Runs a plan with modules that keep the names that they have in the whole network.

    Args:
        net: the whole network; its modules and parameters are used, not copied.
        plans: one per mode (True: training), since a forward may read `self.training`.
    """

    def __init__(self, net: nn.Module, plans: Mapping[bool, SegmentPlan]) -> None:
        super().__init__()
        self._plans = dict(plans)
        operations = [operation for plan in plans.values() for operation in plan.operations]
        for op in ("call_module", "get_attr"):
            for operation in operations:
                if operation.op == op:
                    assert isinstance(operation.target, str)
                    _install(self, net, operation.target)

    def forward(self, x: Tensor, *side: object) -> tuple[Any, ...]:
        """The values at the cut before -> the values at the cut after; the last segment returns the output."""
        plan = self._plans[self.training]
        values: dict[str, Any] = dict(zip(plan.inputs, (x, *side), strict=True))
        for operation in plan.operations:
            values[operation.name] = self._run(operation, values)
            for name in operation.frees:
                del values[name]
        return tuple(values[name] for name in plan.outputs)

    def calls(self, path: str) -> bool:
        """Whether the module of this path, or one that holds it, runs as a whole here, in both modes."""
        holders = {path[:end] for end in (*(i for i, letter in enumerate(path) if letter == "."), len(path))}
        return all(
            any(operation.op == "call_module" and operation.target in holders for operation in plan.operations)
            for plan in self._plans.values()
        )

    def _run(self, operation: Operation, values: dict[str, Any]) -> Any:
        args = _fill(operation.args, values)
        kwargs = {key: _fill(value, values) for key, value in operation.kwargs.items()}
        if callable(operation.target):
            return operation.target(*args, **kwargs)
        if operation.op == "call_module":
            return self.get_submodule(operation.target)(*args, **kwargs)
        if operation.op == "call_method":
            return getattr(args[0], operation.target)(*args[1:], **kwargs)
        return _lookup(self, operation.target)


def _lookup(root: nn.Module, path: str) -> Any:
    value: Any = root
    for name in path.split("."):
        value = getattr(value, name)
    return value


def holder_of(root: nn.Module, path: str) -> tuple[nn.Module, str]:
    """The module of `root` that holds what lies at a dotted path, and its name there; empty modules on the way."""
    *parents, name = path.split(".")
    for parent in parents:
        if parent not in root._modules:
            root.add_module(parent, nn.Module())
        root = root.get_submodule(parent)
    return root, name


def _install(root: nn.Module, net: nn.Module, path: str) -> None:
    root, name = holder_of(root, path)
    owner = net.get_submodule(path.rpartition(".")[0])
    value = getattr(owner, name)
    if hasattr(root, name):
        return
    if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
        # A buffer of the network, or a constant that its forward made: both must move with the group to its device.
        persistent = name in owner._buffers and name not in owner._non_persistent_buffers_set
        root.register_buffer(name, value, persistent=persistent)
    else:
        setattr(root, name, value)


def _fill(argument: Any, values: dict[str, Any]) -> Any:
    if isinstance(argument, Ref):
        return values[argument.name]
    if isinstance(argument, tuple | list):
        return type(argument)(_fill(a, values) for a in argument)
    if isinstance(argument, dict):
        return {key: _fill(a, values) for key, a in argument.items()}
    if isinstance(argument, slice):
        return slice(*(_fill(a, values) for a in (argument.start, argument.stop, argument.step)))
    return argument
