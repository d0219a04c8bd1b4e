"""What a process of the executor `processes` does: forward and backward of the peers that are its own."""

from __future__ import annotations

import signal
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

import torch
from torch import Tensor, nn

from codistill.errors import UserError
from codistill.execution.onednn_guard import safe_convolutions
from codistill.execution.sharing import SharedTensors, address_of, unpack_module
from codistill.peers import NetworkGroup
from codistill.userfile import load_again

__all__ = ["Backward", "Failure", "Forward", "Start", "flags_of", "serve"]


@dataclass(frozen=True)
class Start:
    """The group, and which of its peers are the process's own. Reply: None.

    Attributes:
        group: all peers, as `pack_module` gives them.
        files: user's files that their classes come from, see `codistill.userfile.loaded_files`.
        parameters: of the group.
        buffers: of the group.
        gradients: for each of its own peers, by index, where the gradients of its parameters go.
    """

    group: bytes
    files: Mapping[str, str]
    parameters: SharedTensors
    buffers: SharedTensors
    gradients: Mapping[int, SharedTensors]


@dataclass(frozen=True)
class Forward:
    """Run the own peers. Reply: None.

    Attributes:
        batch: one view for all peers or one per peer, then for each peer where its logits and features go; None: the
            memory of the step before.
        flags: see `flags_of`.
        seed: peer p draws from seed + p (dropout); None where nothing is drawn.
        graph: whether a `Backward` may follow.
        amp: dtype of mixed precision, or None.
    """

    batch: SharedTensors | None
    flags: bytes
    seed: int | None
    graph: bool
    amp: torch.dtype | None


@dataclass(frozen=True)
class Backward:
    """Run backward from the gradients that lie where the outputs were.

    Reply: for each own peer, which of its parameters have got a gradient.

    Attributes:
        given: for every peer, whether its logits and whether its features have a gradient.
    """

    given: Sequence[bool]


@dataclass(frozen=True)
class Failure:
    """The reply where a request failed: the message of a UserError, or the traceback of anything else."""

    text: str
    of_user: bool


def flags_of(parts: Sequence[nn.Module]) -> bytes:
    """Which modules are in training mode, then which parameters require gradient."""
    trained = [p.requires_grad for part in parts for p in part._parameters.values() if p is not None]
    return bytes([*(part.training for part in parts), *trained])


def serve(connection: Connection, threads: int) -> None:
    """Answer requests until the other end is closed, be it because that process has ended.

    Args:
        connection: gives `Start`, then `Forward` and `Backward`, and takes the replies.
        threads: of torch.
    """
    # Ctrl-C is for the process that trains, which then closes the connection.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    peers: _Peers | None = None
    while True:
        try:
            request = connection.recv()
            try:
                if isinstance(request, Start):
                    peers, reply = _Peers(request), None
                else:
                    assert peers is not None
                    reply = peers.forward(request) if isinstance(request, Forward) else peers.backward(request)
            except UserError as error:
                reply = Failure(str(error), of_user=True)
            except Exception:
                reply = Failure(traceback.format_exc(), of_user=False)
            connection.send(reply)
        except (EOFError, OSError):
            return


class _Peers:
    """The peers of one process, on memory that it shares with the training process."""

    def __init__(self, start: Start) -> None:
        load_again(start.files)
        parameters = [nn.Parameter(tensor, requires_grad=False) for tensor in start.parameters.tensors]
        group = unpack_module(start.group, [*parameters, *start.buffers.tensors])
        assert isinstance(group, NetworkGroup)
        self.group, self.gradients = group, start.gradients
        self.safe = safe_convolutions(group)
        self.parts, self.flags = list(group.modules()), b""
        self.address = {peer: address_of(list(group.networks[peer].modules())) for peer in start.gradients}
        self.views: list[Tensor] = []
        self.shared: list[Tensor] = []
        self.outputs: dict[int, tuple[Tensor, Tensor]] = {}

    def forward(self, request: Forward) -> None:
        if request.batch is not None:
            outputs = 2 * self.group.shape.peers
            self.views, self.shared = request.batch.tensors[:-outputs], request.batch.tensors[-outputs:]
        self._set_flags(request.flags)
        self.outputs.clear()
        for peer in self.address:
            self._forward_peer(peer, request)

    def backward(self, request: Backward) -> dict[int, list[bool]]:
        return {peer: self._backward_peer(peer, request.given[2 * peer : 2 * peer + 2]) for peer in self.address}

    def _forward_peer(self, peer: int, request: Forward) -> None:
        if request.seed is not None:
            torch.default_generator.manual_seed(request.seed + peer)
        view = self.views[peer if len(self.views) > 1 else 0]
        with (
            self.safe,
            torch.set_grad_enabled(request.graph),
            torch.autocast("cpu", dtype=request.amp, enabled=request.amp is not None),
        ):
            outputs = self.group.run_peer(peer, view)
        network = self.group.networks[peer]
        if address_of(list(network.modules())) != self.address[peer]:
            raise UserError(
                f"a {type(network).__name__} puts new tensors in the place of its buffers: the "
                "executor 'processes' shares their memory, so change them in place, or use the executor 'loop'."
            )
        pair = outputs.logits_PBC[0], outputs.features[0]
        if request.graph:
            self.outputs[peer] = pair
        for shared, output in zip(self._shared_of(peer), pair, strict=True):
            shared.copy_(output.detach().view_as(shared))

    def _backward_peer(self, peer: int, given: Sequence[bool]) -> list[bool]:
        parameters = list(self.group.networks[peer].parameters())
        reached = [
            (output, gradient.to(output.dtype))
            for output, gradient, there in zip(self.outputs.pop(peer), self._shared_of(peer), given, strict=True)
            if there and output.requires_grad
        ]
        if reached:
            torch.autograd.backward([output for output, _ in reached], [gradient for _, gradient in reached])
        found = []
        for parameter, shared in zip(parameters, self.gradients[peer].tensors, strict=True):
            found.append(parameter.grad is not None)
            if parameter.grad is not None:
                shared.copy_(parameter.grad)
                parameter.grad = None
        return found

    def _shared_of(self, peer: int) -> list[Tensor]:
        """Logits and features, which their gradients replace."""
        return self.shared[2 * peer : 2 * peer + 2]

    def _set_flags(self, flags: bytes) -> None:
        if flags == self.flags:
            return
        self.flags = flags
        for part, training in zip(self.parts, flags, strict=False):
            part.training = bool(training)
        parameters = [p for part in self.parts for p in part._parameters.values() if p is not None]
        for parameter, trained in zip(parameters, flags[len(self.parts) :], strict=True):
            parameter.requires_grad_(bool(trained))
