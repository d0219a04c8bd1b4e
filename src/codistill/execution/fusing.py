"""Peers of one architecture as one network, made from their traced forward."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, fx, nn

from codistill.errors import UserError
from codistill.execution.layers import fuse_call, widen, widen_first
from codistill.peers.features import Classifier
from codistill.peers.pooling import pool
from codistill.tracing.modes import modes_kept
from codistill.tracing.recording import has_hooks
from codistill.tracing.segment import holder_of
from codistill.tracing.trace import trace_layers

__all__ = ["FusedNetwork"]


class FusedNetwork(nn.Module):
    """P networks as one; while it stands, each network's parameters and statistics are slices of its own.

    So the plain networks stay alive: what trains here shows there, and what is loaded there counts here. Gradients are
    handed on by `hand_gradients_over`, so that an optimizer holds the plain parameters.

    Args:
        networks: of one architecture, on their device.
        classifier: where the features of each are.

    Attributes:
        repeats: whether an input that all peers share must be repeated for each.

    Raises:
        UserError: networks that differ, a forward that torch.fx cannot follow, or an operation that cannot be fused.
    """

    def __init__(self, networks: Sequence[nn.Module], classifier: Classifier) -> None:
        super().__init__()
        self.peers, self._axis = len(networks), classifier.axis
        graphs = {mode: _common_graph(networks, mode, classifier.features) for mode in (True, False)}
        layers = nn.Module()
        used = dict.fromkeys(str(n.target) for g in graphs.values() for n in g.nodes if n.op == "call_module")
        wide = {path: _widen(networks, path) for path in used}
        first = _first_layers(networks, graphs.values())
        wide |= first
        # With few input channels, a CPU's convolutions were a little faster in groups.
        self.repeats = not first or next(networks[0].parameters()).device.type == "cpu"
        for graph in graphs.values():
            for node in graph.nodes:
                _refuse_unless_fused(node, networks[0], self.peers)
        self._shared: list[tuple[nn.Parameter, list[nn.Parameter]]] = []
        self._layers = {path: [net.get_submodule(path) for net in networks] for path in wide}
        for path, layer in wide.items():
            self._share(layer, self._layers[path])
            holder, name = holder_of(layers, path)
            holder.add_module(name, layer)
        self._forwards = {mode: fx.GraphModule(layers, graph) for mode, graph in graphs.items()}
        self.layers = layers.train(networks[0].training)
        self.training = networks[0].training

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Each peer's images or trunk outputs [B, C, ...] -> logits [P, B, C] and features P x [B, D]."""
        one_for_all = all(own is inputs[0] for own in inputs)
        x = _channels_last(inputs[0] if one_for_all and not self.repeats else torch.cat(list(inputs), dim=1))
        logits, feature = self._forwards[self.training](x)
        features_BPD = pool(feature, self._axis).unflatten(1, (self.peers, -1))
        return logits.unflatten(1, (self.peers, -1)).transpose(0, 1).contiguous(), features_BPD.unbind(1)

    def follow(self) -> None:
        """Take over which layers of the peers are in training mode, and which of their parameters learn.

        Raises:
            UserError: the peers differ in it.
        """
        for path, layers in self._layers.items():
            modes = {layer.training for layer in layers}
            if len(modes) > 1:
                raise UserError(
                    f"executor 'fused' with {path!r} frozen in some students only: freeze alike, or use the executor "
                    "'loop'."
                )
            self.layers.get_submodule(path).train(modes.pop())
        for fused, parameters in self._shared:
            fused.requires_grad_(parameters[0].requires_grad)

    def hand_gradients_over(self) -> None:
        """Add what `backward` has left to the `.grad` of the peers' own parameters."""
        for fused, parameters in self._shared:
            if fused.grad is None:
                continue
            slices = fused.grad.view(self.peers, *parameters[0].shape).unbind()
            for parameter, gradient in zip(parameters, slices, strict=True):
                if parameter.grad is not None:
                    parameter.grad.add_(gradient)
                elif parameter.requires_grad:
                    parameter.grad = gradient
            fused.grad = None

    @torch.no_grad()
    def _share(self, wide: nn.Module, layers: Sequence[nn.Module]) -> None:
        """Give `wide` the stacked values of the peers' layers, and these views of it."""
        taken = {id(parameter) for _, group in self._shared for parameter in group}
        for name, empty in list(wide.named_parameters()):
            own = [layer.get_parameter(name) for layer in layers]
            if id(own[0]) in taken:
                raise UserError(
                    f"executor 'fused' cannot fuse a parameter that two layers share ({name!r} of "
                    f"{type(layers[0]).__name__}): use the executor 'loop'."
                )
            fused = nn.Parameter(_stack(own, empty.shape), requires_grad=own[0].requires_grad)
            setattr(wide, name, fused)
            self._shared.append((fused, own))
        for name, empty in list(wide.named_buffers()):
            buffers = [layer.get_buffer(name) for layer in layers]
            # Each peer keeps its count of batches; one operation advances all of them.
            setattr(wide, name, _stack(buffers, empty.shape if empty.ndim else (self.peers,)))


def _first_layers(networks: Sequence[nn.Module], graphs: Iterable[fx.Graph]) -> dict[str, nn.Module]:
    """The layers that read the input, for one input of all peers; none unless nothing else reads it."""
    readers = [user for g in graphs for node in g.nodes if node.op == "placeholder" for user in node.users]
    paths = dict.fromkeys(str(node.target) for node in readers)
    if any(node.op != "call_module" for node in readers):
        return {}
    first = {path: widen_first(networks[0].get_submodule(path), len(networks)) for path in paths}
    return {} if None in first.values() else {path: layer for path, layer in first.items() if layer is not None}


def _channels_last(x: Tensor) -> Tensor:
    """Images or weights of four axes on a CPU, whose grouped convolutions run up to twice as fast in this layout."""
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 and x.device.type == "cpu" else x


def _stack(tensors: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
    """All values in one tensor of this shape, peer by peer; the tensors become views of it."""
    stacked = torch.stack([tensor.detach() for tensor in tensors]).view(*shape)
    stacked = _channels_last(stacked)
    for tensor, part in zip(tensors, stacked.view(len(tensors), *tensors[0].shape), strict=True):
        tensor.data = part
    return stacked


def _common_graph(networks: Sequence[nn.Module], training: bool, features: str) -> fx.Graph:
    """The forward that all networks share in one mode; it puts out the logits and the input of layer `features`."""
    first, *others = [_trace(net, training) for net in networks]
    for peer, other in enumerate(others, 1):
        if _description(networks[0], first) != _description(networks[peer], other):
            raise UserError(
                f"executor 'fused' cannot fuse peers 0 and {peer}, {type(networks[0]).__name__} and "
                f"{type(networks[peer]).__name__} of different layers: give peers of one architecture, or use 'loop'."
            )
    output = next(node for node in first.nodes if node.op == "output")
    logits = output.args[0][0] if isinstance(output.args[0], tuple) else output.args[0]
    called = [node for node in first.nodes if node.target == features]
    if not called:
        raise _refusal(f"feature layer {features!r} ({type(networks[0].get_submodule(features)).__name__})")
    output.args = ((logits, called[-1].all_input_nodes[0]),)
    return first


def _trace(net: nn.Module, training: bool) -> fx.Graph:
    with modes_kept(net):
        return trace_layers(net.train(training))


def _description(net: nn.Module, graph: fx.Graph) -> str:
    layers = [net.get_submodule(str(node.target)) for node in graph.nodes if node.op == "call_module"]
    kinds = [(p.dtype, p.device, p.requires_grad) for layer in layers for p in layer.parameters()]
    return f"{graph}{layers}{kinds}"


def _widen(networks: Sequence[nn.Module], path: str) -> nn.Module:
    layer = networks[0].get_submodule(path)
    wide = widen(layer, len(networks))
    if wide is None or any(has_hooks(net.get_submodule(path)) for net in networks):
        raise _refusal(f"layer {path!r} ({type(layer).__name__})")
    return wide


def _refuse_unless_fused(node: fx.Node, net: nn.Module, peers: int) -> None:
    if node.op == "get_attr":
        raise _refusal(f"tensor {node.target!r}, which is not a layer's, in {type(net).__name__}")
    if node.op in ("call_function", "call_method"):
        what = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
        inside = list(node.meta.get("nn_module_stack", {}))
        if not fuse_call(node, peers):
            raise _refusal(f"operation {what!r} in {inside[-1] if inside and inside[-1] else type(net).__name__!r}")


def _refusal(what: str) -> UserError:
    return UserError(f"executor 'fused' cannot fuse the {what}: use the executor 'loop' (auto does so by itself).")
