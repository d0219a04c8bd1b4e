"""Initial parameters from a given generator; torch's global random state is neither read nor changed.

- convolution: weight N(0, 2 / fan_out), fan_out = outputs per group times kernel size (He et al. 2015); bias 0
- linear layer: weight and bias U(-1/sqrt(inputs), 1/sqrt(inputs))
- an `InitRule` may change these two rules, as for the networks of OKDDip's released code
- normalisation: scale 1, shift 0, running statistics reset
- other modules with `reset_parameters` (embeddings, attention, recurrent layers): that method, with a seed drawn from
  the generator
- all other parameters (class tokens, position embeddings, layer scale): kept if they are constant or frozen, otherwise
  drawn from N(mean, std²) with the mean and deviation of their present values

All values are drawn on the CPU, so the same generator state gives the same network on every device. Parameters on the
meta device have no values and are skipped.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from codistill.errors import UserError

__all__ = ["InitRule", "draw_generator", "initialise", "refuse_lazy", "rule_of"]

_NORMS = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)


@dataclass(frozen=True)
class InitRule:
    """Changes to the rules above.

    Attributes:
        conv_fan: the fan that divides the variance of convolutions.
        linear_std: linear layers are drawn from N(0, linear_std²), with bias 0; None: uniform, as above.
    """

    conv_fan: Literal["out", "in"] = "out"
    linear_std: float | None = None


def rule_of(net: nn.Module) -> InitRule:
    """The rule that `net` was built with; its branches are drawn by the same rule."""
    rule = getattr(net, "init_rule", None)
    return rule if isinstance(rule, InitRule) else InitRule()


def draw_generator(generator: torch.Generator | None) -> torch.Generator:
    """Return `generator`, or if it is None, a new one seeded by a single draw from torch's default generator.

    Raises:
        UserError: the generator is not on the CPU.
    """
    if generator is None:
        return torch.Generator().manual_seed(int(torch.randint(2**62, ())))
    if generator.device.type != "cpu":
        raise UserError(
            f"generator on {generator.device}: initial parameters are drawn on the CPU, so that they are the same for "
            "every device; give torch.Generator() and move the network afterwards."
        )
    return generator


@torch.no_grad()
def initialise(module: nn.Module, generator: torch.Generator | None, rule: InitRule | None = None) -> nn.Module:
    """Draw every parameter of `module` again, in place, in the order of `named_modules`, by the rules above.

    Args:
        module: a network, or a module of one, on any device.
        generator: on the CPU; None: a new one, seeded from torch's default generator.
        rule: changes to the rules above; None: `rule_of(module)`.

    Returns:
        The same module.

    Raises:
        UserError: the generator is not on the CPU, or a lazy layer has no size yet.
    """
    source, rule = draw_generator(generator), rule or rule_of(module)
    refuse_lazy(module)
    done: set[int] = set()
    for layer in module.modules():
        present = {name: p for name, p in layer._parameters.items() if p is not None and not p.is_meta}
        own = {name: p for name, p in present.items() if id(p) not in done}
        done.update(id(p) for p in own.values())
        if isinstance(layer, _NORMS):
            _reset_norm(layer, own)
        elif isinstance(layer, nn.modules.conv._ConvNd):
            _draw_conv(layer, own, source, rule)
        elif isinstance(layer, nn.Linear):
            _draw_linear(layer, own, source, rule)
        elif own:
            _draw_other(layer, own, source)
    return module


def refuse_lazy(module: nn.Module) -> None:
    """Raise UserError for a network with a lazy layer that has no size yet; it cannot even be copied."""
    tensors = (*module.named_parameters(), *module.named_buffers())
    lazy = next((name for name, tensor in tensors if nn.parameter.is_lazy(tensor)), None)
    if lazy is not None:
        raise UserError(
            f"parameter {lazy!r} has no size yet, since its layer is lazy: run the network once, on a batch of images, "
            "before you give it, or name the sizes of its layers."
        )


def _reset_norm(norm: nn.Module, own: dict[str, nn.Parameter]) -> None:
    for name, parameter in own.items():
        parameter.fill_(1.0 if name == "weight" else 0.0)
    if isinstance(norm, nn.modules.batchnorm._NormBase):
        norm.reset_running_stats()


def _draw_conv(
    conv: nn.modules.conv._ConvNd, own: dict[str, nn.Parameter], source: torch.Generator, rule: InitRule
) -> None:
    channels = conv.out_channels if rule.conv_fan == "out" else conv.in_channels
    std = math.sqrt(2.0 * conv.groups / (channels * math.prod(conv.kernel_size)))
    if "weight" in own:
        _fill(own.pop("weight"), lambda cpu: cpu.normal_(0.0, std, generator=source))
    if "bias" in own:
        own.pop("bias").zero_()
    _draw_raw(own, source)


def _draw_linear(linear: nn.Linear, own: dict[str, nn.Parameter], source: torch.Generator, rule: InitRule) -> None:
    if (std := rule.linear_std) is not None:
        if "weight" in own:
            _fill(own.pop("weight"), lambda cpu: cpu.normal_(0.0, std, generator=source))
        if "bias" in own:
            own.pop("bias").zero_()
        _draw_raw(own, source)
        return
    bound = 1.0 / math.sqrt(max(linear.in_features, 1))
    for name in ("weight", "bias"):
        if name in own:
            _fill(own.pop(name), lambda cpu: cpu.uniform_(-bound, bound, generator=source))
    _draw_raw(own, source)


def _draw_other(layer: nn.Module, own: dict[str, nn.Parameter], source: torch.Generator) -> None:
    reset = getattr(type(layer), "reset_parameters", None) or getattr(type(layer), "_reset_parameters", None)
    if reset is None:
        _draw_raw(own, source)
        return
    # These methods can use only torch's global generator: they run on a CPU copy, inside a fork of its state.
    fresh = copy.deepcopy(layer).to("cpu")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(_seed(source))
        reset(fresh)
    for name, parameter in own.items():
        parameter.copy_(fresh._parameters[name])  # pyright: ignore[reportArgumentType]


def _draw_raw(own: dict[str, nn.Parameter], source: torch.Generator) -> None:
    for parameter in own.values():
        constant = parameter.numel() < 2 or bool((parameter == parameter.flatten()[0]).all())
        if parameter.requires_grad and parameter.is_floating_point() and not constant:
            mean, std = float(parameter.mean()), float(parameter.std())
            _fill(parameter, lambda cpu, m=mean, s=std: cpu.normal_(m, s, generator=source))


def _fill(parameter: nn.Parameter, draw: Callable[[Tensor], Tensor]) -> None:
    parameter.copy_(draw(torch.empty(parameter.shape)))


def _seed(source: torch.Generator) -> int:
    return int(torch.randint(2**62, (), generator=source))
