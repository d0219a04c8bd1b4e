"""Batch norm over all replicas of a network, on any device: torch's SyncBatchNorm refuses CPUs.

While a network runs in the scope `over_replicas`, its batch norms in training mode take mean and variance over the
batch of all processes. Modules, names and state stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from codistill.execution.world import World

__all__ = ["over_replicas"]


@contextmanager
def over_replicas(modules: Iterable[nn.Module], world: World) -> Iterator[None]:
    """A scope in which the batch norms among these modules see the whole batch."""
    norms = [m for m in modules if isinstance(m, _BatchNorm)] if world.mesh.data > 1 else []
    for norm in norms:
        # In the instance, where it comes before that of the class.
        norm.forward = partial(_forward, norm, world)
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


def _forward(norm: _BatchNorm, world: World, input: Tensor) -> Tensor:
    """The forward of the norm's own class, which may do more (an activation), on the statistics of all replicas."""
    with _OverReplicas(world):
        return type(norm).forward(norm, input)


class _OverReplicas(TorchFunctionMode):
    """Replaces `functional.batch_norm`."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        run = partial(_batch_norm, self.world) if func is functional.batch_norm else func
        return run(*args, **(kwargs or {}))


def _batch_norm(
    world: World,
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """See `torch.nn.functional.batch_norm`."""
    if not training:
        return functional.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    y, mean_C, var_C, count = _GlobalNorm.apply(input, weight, bias, eps, world)  # pyright: ignore
    if running_mean is not None and running_var is not None:
        running_mean.lerp_(mean_C.to(running_mean), momentum)
        unbiased_C = var_C * (count / (count - 1))
        running_var.lerp_(unbiased_C.to(running_var), momentum)
    return y


class _GlobalNorm(torch.autograd.Function):
    """y = (x - mean) / sqrt(var + eps) * weight + bias, with mean and variance over all replicas.

    Each process sends its mean, its sum of squared deviations and its count, which combine without cancellation (Chan,
    Golub & LeVeque 1983). Gradients of weight and bias are those of the process' own rows.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, world: World
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        wide = _wide(x)
        count = x.numel() // x.shape[1]
        mean_C, var_C = torch.batch_norm_update_stats(wide, None, None, 0.0)
        own = torch.cat([mean_C, var_C * count, mean_C.new_tensor([count])])
        each = own.new_empty(world.mesh.data, len(own))
        dist.all_gather(list(each.unbind()), own, group=world.replicas)
        world.traffic.gathered("norms", own, world.mesh.data)
        n_R1, C = each[:, -1:], x.shape[1]
        total = n_R1.sum()
        mean_C = (n_R1 * each[:, :C]).sum(0) / total
        squares_C = each[:, C : 2 * C].sum(0) + (n_R1 * (each[:, :C] - mean_C) ** 2).sum(0)
        var_C = squares_C / total
        wide_weight = None if weight is None else weight.to(wide.dtype)
        wide_bias = None if bias is None else bias.to(wide.dtype)
        y = functional.batch_norm(wide, mean_C, var_C, wide_weight, wide_bias, False, 0.0, eps).to(x.dtype)
        ctx.save_for_backward(x, weight, mean_C, var_C, total)
        ctx.world, ctx.has_bias, ctx.eps = world, bias is not None, eps
        ctx.mark_non_differentiable(mean_C, var_C, total)
        return y, mean_C, var_C, total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean_C, var_C, total = ctx.saved_tensors
        wide, eps = _wide(x), ctx.eps
        wide_weight = None if weight is None else weight.to(wide.dtype)
        # With normal = (x - mean) / sqrt(var + eps): the gradient as if mean and variance were constants, and the sums
        # of grad * normal and of grad.
        grad_x, *own = torch.ops.aten.native_batch_norm_backward(
            gradients[0].to(wide.dtype), wide, wide_weight, mean_C, var_C, None, None, False, eps, [True, True, True]
        )
        sums = torch.stack(own)
        dist.all_reduce(sums, group=ctx.world.replicas)
        ctx.world.traffic.reduced("norms", sums, ctx.world.mesh.data)
        # Mean and variance are not: less (sums[1] + sums[0] * normal) / total, in the scale of x.
        scale_C = (var_C + eps).rsqrt() / total * (1.0 if wide_weight is None else wide_weight)
        grad_x -= functional.batch_norm(wide, mean_C, var_C, scale_C * sums[0], scale_C * sums[1], False, 0.0, eps)
        grad_weight = None if weight is None else own[0].to(weight.dtype)
        return grad_x.to(x.dtype), grad_weight, own[1] if ctx.has_bias else None, None, None


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
