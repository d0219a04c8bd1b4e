"""The optimizer: one for all students and the method, in one call per step; its learning rate."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from codistill.config import OptimConfig
from codistill.errors import UserError, one_line, unknown
from codistill.execution import Executor
from codistill.userfile import load_name

__all__ = [
    "check_optimizer", "make_optimizer", "plain_state", "rate_on_device", "records", "restore_state",
    "set_rate", "skips_on_device", "whole_state",
]  # fmt: skip

FUSED = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)
"""What has one kernel for all parameters, on a CPU and on CUDA devices, which can also skip a step without the host."""

WAYS = ("fused", "foreach", "capturable")
"""Keywords of optimizers that say how they compute, and not what."""

CANNOT = {
    "LBFGS": "its step calls the networks several times",
    "SparseAdam": "it takes sparse gradients only",
    "Muon": "it takes matrices only, and networks have convolutions and vectors",
}

LARGE = 0.05
"""A learning rate above this is one of SGD's, where the optimizer's own default is a tenth of it or less."""

Groups = Sequence[nn.Parameter] | Sequence[dict[str, Any]]


def make_optimizer(optim: OptimConfig, parameters: Groups) -> torch.optim.Optimizer:
    """Return the optimizer over all parameters.

    All of torch's treat each number, or each tensor, separately, so that one equals one optimizer per student.

    Args:
        optim: the settings.
        parameters: all of them, or groups as torch takes them.

    Raises:
        UserError: an unknown optimizer, one that cannot train a group, or keywords that it does not take.
    """
    kind = _class_of(optim.name)
    # A group of no parameters stands for a method that has none.
    flat = [p for item in parameters for p in (item["params"] if isinstance(item, dict) else [item])]
    keywords: dict[str, Any] = {"lr": optim.lr_used, "weight_decay": optim.weight_decay_used, **optim.options}
    if kind is torch.optim.SGD:
        keywords = {"momentum": optim.momentum, "nesterov": optim.nesterov, **keywords}
    if optim.weight_decay_used == 0 and not _takes(kind, "weight_decay"):
        del keywords["weight_decay"]
    if kind in FUSED and not {"fused", "foreach"} & set(optim.options):
        keywords["fused"] = all(p.device.type in ("cpu", "cuda") for p in flat)
    _refuse_unknown(optim, kind, keywords)
    try:
        optimizer = kind(parameters, **keywords)  # pyright: ignore[reportArgumentType]
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"optim.name {optim.name!r} cannot be built: {one_line(error)}.") from error
    if kind is torch.optim.SGD and optim.momentum:
        # The fused kernel takes no step in which some parameters have momentum and others have none yet, as those of a
        # student that was paused from the start. From zero, the first step gives what it gives without.
        for parameter in flat:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def check_optimizer(optim: OptimConfig) -> None:
    """Try the optimizer on nothing but a matrix and a vector; UserError as in `make_optimizer`.

    A learning rate that looks like SGD's is warned of.
    """
    make_optimizer(optim, [nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(2))])
    usual = OptimConfig(name=optim.name).lr_used
    if not optim.is_sgd and optim.lr_used > LARGE and usual <= LARGE / 5:
        warnings.warn(
            f"optim.lr {optim.lr_used} with {optim.name}: that is a learning rate of SGD; {usual} is usual here, which "
            "leaving optim.lr out gives",
            stacklevel=2,
        )


def records(optim: OptimConfig) -> bool:
    """Whether the optimizer's step can be recorded as a CUDA graph."""
    kind = _class_of(optim.name)
    return kind is torch.optim.SGD or "capturable" in inspect.signature(kind).parameters


def skips_on_device(optim: OptimConfig) -> bool:
    """Whether the optimizer leaves out a step on the device's own decision, so that the host need not wait."""
    return _class_of(optim.name) in FUSED and optim.options.get("fused", True) and not optim.options.get("foreach")


def rate_on_device(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Keep the learning rate in memory of the device, where a recorded step reads it again in every replay."""
    for group in optimizer.param_groups:
        group["lr"] = torch.tensor(float(group["lr"]), device=device)
        if device.type == "cuda" and "capturable" in group:
            group["capturable"] = True
    if device.type == "cuda":
        for state in optimizer.state.values():
            if isinstance(state.get("step"), Tensor):
                state["step"] = state["step"].to(device)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group, times the group's own `scale`, wherever it is kept."""
    for group in optimizer.param_groups:
        own = rate * group.get("scale", 1.0)
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(own)
        else:
            group["lr"] = own


def plain_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the optimizer's state for a checkpoint, with the learning rate as a number."""
    state = optimizer.state_dict()
    return {**state, "param_groups": [{**group, "lr": float(group["lr"])} for group in state["param_groups"]]}


def whole_state(optimizer: torch.optim.Optimizer, executor: Executor) -> dict[str, Any]:
    """Return `plain_state`, with that of students in other processes in the process that leads; all must ask."""
    state, world = plain_state(optimizer), executor.world
    if world is None or world.mesh.peer == 1:
        return state
    elsewhere = {id(parameter) for parameter in executor.elsewhere}
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    own = {n: state["state"].get(n) for n, parameter in enumerate(held) if id(parameter) not in elsewhere}
    for found in world.gather_on_leader(own if world.data_rank == 0 else {}) or ():
        state["state"].update({n: values for n, values in found.items() if values is not None})
    return state


def restore_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load an optimizer's state; how it computes is up to this device, and not to the one that wrote the state."""
    own = [{way: group[way] for way in WAYS if way in group} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, ways in zip(optimizer.param_groups, own, strict=True):
        group.update(ways)


def _class_of(name: str) -> type[torch.optim.Optimizer]:
    if ".py:" in name:
        found = load_name(name)
        if not (isinstance(found, type) and issubclass(found, torch.optim.Optimizer)):
            raise UserError(f"optim.name {name!r} is no optimizer: derive the class from torch.optim.Optimizer.")
    else:
        known = _of_torch()
        if name.lower() not in known:
            raise unknown("optimizer", name, [n for n, kind in known.items() if kind.__name__ not in CANNOT])
        found = known[name.lower()]
    reason = CANNOT.get(found.__name__)
    closure = inspect.signature(found.step).parameters.get("closure")
    if reason is None and closure is not None and closure.default is inspect.Parameter.empty:
        reason = "its step needs a closure"
    if reason is not None:
        raise UserError(f"optim.name {name!r} cannot train a group of networks, since {reason}: use sgd or adamw.")
    return found


def _of_torch() -> Mapping[str, type[torch.optim.Optimizer]]:
    kinds = (kind for kind in vars(torch.optim).values() if isinstance(kind, type))
    return {
        kind.__name__.lower(): kind
        for kind in kinds
        if issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer
    }


def _takes(kind: type[torch.optim.Optimizer], keyword: str) -> bool:
    parameters = inspect.signature(kind).parameters
    return keyword in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _refuse_unknown(optim: OptimConfig, kind: type[torch.optim.Optimizer], keywords: Mapping[str, Any]) -> None:
    own = {name: f"optim.{name}" for name in ("name", "lr", "weight_decay", "momentum", "nesterov")}
    for name in optim.options:
        if name in own and not (name in ("momentum", "nesterov") and not optim.is_sgd):
            raise UserError(f"optim.options.{name}: give it as {own[name]}.")
    known = [name for name in inspect.signature(kind).parameters if name not in ("self", "params", *own)]
    for name in keywords:
        if not _takes(kind, name):
            if name in own:
                raise UserError(f"optim.{name} with {optim.name!r}, which takes none: leave it out.")
            raise unknown(f"option of {optim.name}", name, known)
