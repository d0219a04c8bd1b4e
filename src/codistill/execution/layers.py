"""Which operations peers can run side by side, and how: their activations lie in a row on axis 1, [B, P*C, ...].

A layer with channels of its own becomes one of P times the channels, in P groups; a linear layer becomes P matrices.
What acts on every number or every channel alone stays as it is.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from codistill.errors import UserError

__all__ = ["BatchedLinear", "FirstConv2d", "fuse_call", "widen", "widen_first"]


class BatchedLinear(nn.Module):
    """P linear layers: [B, P*I] -> [B, P*O]; weight [P, O, I], bias [P, 1, O]."""

    def __init__(self, peers: int, inputs: int, outputs: int, bias: bool, device: str) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(peers, outputs, inputs, device=device))
        own = nn.Parameter(torch.empty(peers, 1, outputs, device=device)) if bias else None
        self.bias: nn.Parameter | None = own

    def forward(self, x: Tensor) -> Tensor:
        """[B, P*I] -> [B, P*O]; UserError for an input of more axes, whose last one does not hold the peers."""
        if x.ndim != 2:
            raise UserError(
                f"executor 'fused' cannot fuse a linear layer on {x.ndim} axes: its input must be [B, D]; use the "
                "executor 'loop'."
            )
        x_PBI = x.unflatten(1, (len(self.weight), -1)).transpose(0, 1)
        weight_PIO = self.weight.transpose(1, 2)
        y_PBO = x_PBI @ weight_PIO if self.bias is None else torch.baddbmm(self.bias, x_PBI, weight_PIO)
        return y_PBO.transpose(0, 1).flatten(1)


class FirstConv2d(nn.Conv2d):
    """P convolutions on one input [B, C, H, W], or on one for each, [B, P*C, H, W] -> [B, P*O, H', W'].

    One input needs no groups: that is one convolution of P*O kernels, and the input is not repeated.
    """

    def forward(self, input: Tensor) -> Tensor:
        """See the class."""
        groups = self.groups if input.shape[1] == self.in_channels else 1
        return F.conv2d(input, self.weight, self.bias, self.stride, self.padding, self.dilation, groups)


def widen_first(layer: nn.Module, peers: int) -> nn.Module | None:
    """Return the layer that does for all peers on one input what `layer` does for one; None where there is none."""
    if type(layer) is not nn.Conv2d or layer.groups != 1 or layer.padding_mode != "zeros":
        return None
    return _conv(layer, peers, FirstConv2d)


def widen(layer: nn.Module, peers: int) -> nn.Module | None:
    """Return the layer that does for all peers what `layer` does for one, or None where there is none.

    A layer without parameters is returned as it is; parameters and buffers of a new one lie on the meta device.
    """
    flattens = type(layer) is nn.Flatten and (layer.start_dim, layer.end_dim) == (1, -1)
    if flattens or type(layer) in _UNCHANGED:
        return layer
    make = _WIDENED.get(type(layer))
    return None if make is None else make(layer, peers)


def fuse_call(node: fx.Node, peers: int) -> bool:
    """Whether peers can run this function or method of a traced forward side by side; some are rewritten for it."""
    if node.target in (torch.cat, torch.concat):
        tensors, dim = _argument(node, 0, "tensors"), _argument(node, 1, "dim", 0)
        node.target, node.args, node.kwargs = cat_peers, (tensors, peers), {}
        return dim == 1
    if node.target in (torch.flatten, "flatten"):
        return (_argument(node, 1, "start_dim", 0), _argument(node, 2, "end_dim", -1)) == (1, -1)
    if node.target in (torch.mean, "mean"):
        dims = _argument(node, 1, "dim", ())
        # The last two axes are positions: with [B, D] this fails for one peer as well.
        return isinstance(dims, tuple | list) and sorted(dims) in ([2, 3], [-2, -1])
    if node.target == "size":
        return bool(_argument(node, 1, "dim", None) == 0)
    if node.target is getattr:
        firsts = (user.target is operator.getitem and user.args[1] == 0 for user in node.users)
        return bool(node.args[1] == "shape" and all(firsts))
    if node.target in ("view", "reshape"):
        # A view needs the layout of one peer's activations.
        node.target = "reshape"
        return len(node.args) == 3 and isinstance(node.args[1], fx.Node) and bool(node.args[2] == -1)
    return node.target in _CALLS or (node.target is operator.getitem and _is_shape(node.args[0]))


def cat_peers(tensors: Sequence[Tensor], peers: int) -> Tensor:
    """Concatenate [B, P*C_i, ...] peer by peer -> [B, P*(sum of C_i), ...]."""
    return torch.cat([x.unflatten(1, (peers, -1)) for x in tensors], dim=2).flatten(1, 2)


def _argument(node: fx.Node, position: int, name: str, default: Any = None) -> Any:
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def _is_shape(node: Any) -> bool:
    return isinstance(node, fx.Node) and node.target is getattr


def _conv(layer: Any, peers: int, kind: type[nn.Module] | None = None) -> nn.Module:
    return (kind or type(layer))(
        peers * layer.in_channels,
        peers * layer.out_channels,
        layer.kernel_size,
        layer.stride,
        layer.padding,
        layer.dilation,
        peers * layer.groups,
        layer.bias is not None,
        layer.padding_mode,
        device="meta",
    )


def _batch_norm(layer: Any, peers: int) -> nn.Module | None:
    if layer.momentum is None:
        # A cumulative average asks for one count of batches, and every peer has its own.
        return None
    width = peers * layer.num_features
    return type(layer)(width, layer.eps, layer.momentum, layer.affine, layer.track_running_stats, device="meta")


def _group_norm(layer: Any, peers: int) -> nn.Module:
    return nn.GroupNorm(peers * layer.num_groups, peers * layer.num_channels, layer.eps, layer.affine, device="meta")


def _linear(layer: Any, peers: int) -> nn.Module:
    return BatchedLinear(peers, layer.in_features, layer.out_features, layer.bias is not None, device="meta")


_WIDENED: Mapping[type[nn.Module], Callable[[Any, int], nn.Module | None]] = {
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), _conv),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), _batch_norm),
    nn.GroupNorm: _group_norm,
    nn.Linear: _linear,
}

_POOLS = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool2d, nn.AvgPool1d)
_POOLS += (nn.AvgPool2d, nn.AvgPool3d, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_ACTIVATIONS = (nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish)
_ACTIVATIONS += (nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.Tanh, nn.Softplus)
_UNCHANGED = frozenset((*_POOLS, *_ACTIVATIONS, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d))

_OPERATORS = (operator.add, operator.iadd, operator.sub, operator.mul, operator.imul, operator.truediv, operator.neg)
_TORCH = (torch.add, torch.sub, torch.mul, torch.relu, torch.sigmoid, torch.tanh, torch.max_pool2d)
_FUNCTIONAL = (F.relu, F.relu6, F.leaky_relu, F.elu, F.gelu, F.silu, F.hardswish, F.hardsigmoid, F.dropout, F.dropout2d)
_FUNCTIONAL += (F.avg_pool2d, F.max_pool2d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d)
_METHODS = ("relu", "relu_", "sigmoid", "tanh", "add", "add_", "mul", "mul_", "contiguous", "clone")
_CALLS = frozenset((*_OPERATORS, *_TORCH, *_FUNCTIONAL, *_METHODS))
"""Functions, and methods by name, that act on every number or every channel alone."""
