"""The executor of many-core CPUs: peers side by side, in processes that share the memory of the networks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from codistill.errors import UserError
from codistill.execution.base import Executor
from codistill.execution.options import ExecutionOptions
from codistill.execution.pool import Pool
from codistill.execution.sharing import SharedTensors, address_of, pack_module
from codistill.execution.worker import Backward, Forward, Start, flags_of
from codistill.methods import Method
from codistill.peers import NetworkGroup, PeerGroup, Teachers
from codistill.types import PeerOutputs
from codistill.userfile import loaded_files

__all__ = ["ProcessExecutor"]


class ProcessExecutor(Executor):
    """Networks dealt out to processes, one per network, or one per thread of torch if these are fewer; see `Executor`.

    Every process has its share of torch's threads. Parameters, buffers, images, outputs and gradients lie in shared
    memory; the method, teachers and the optimizer run here. Results equal those of `loop` to rounding. Random layers
    (dropout) draw other, equally independent numbers, from one seed per step that comes from torch's default generator.

    The processes start, in seconds, with the first step. They end with `close`, with this object and with this
    process.

    Args:
        group: networks on the CPU. What their forward keeps in anything but parameters and buffers, changed in place,
            stays in the processes.
        method: the loss on their outputs.
        options: see `Executor`.
        teachers: see `Executor`.

    Raises:
        UserError: a group of another kind, or on another device. The first step raises one where the networks cannot
            be sent to a process.
    """

    name = "processes"
    evaluates_as = "loop"  # Processes would take seconds to start.

    def __init__(
        self,
        group: PeerGroup,
        method: Method,
        options: ExecutionOptions | None = None,
        teachers: Sequence[nn.Module] | Teachers = (),
    ) -> None:
        super().__init__(group, method, options, teachers)
        if not isinstance(group, NetworkGroup):
            raise UserError(
                f"executor 'processes' with a {type(group).__name__}: only networks that share nothing can run in "
                "processes of their own; use the executor 'loop'."
            )
        devices = {str(parameter.device) for parameter in group.parameters()}
        if devices - {"cpu"}:
            raise UserError(
                f"executor 'processes' on the device {max(devices - {'cpu'})!r}: it shares the cores of a CPU among "
                "processes; use the executor 'loop' or 'fused'."
            )
        if group.maps or self.mixed is not None:
            raise UserError(
                "executor 'processes' with a method that reads more than logits and features: only these leave the "
                "processes; use the executor 'loop'."
            )
        if any(classifier.positions for classifier in group.classifiers):
            raise UserError(
                "executor 'processes' with logits that have positions (pixels, tokens): only logits [B, C] leave the "
                "processes; use the executor 'loop' or 'recompute'."
            )
        self.students = group
        self._pool: Pool | None = None
        self._batch: SharedTensors | None = None

    @classmethod
    def refusal(cls, kind: str, device: str) -> str | None:
        """See `Executor.refusal`."""
        if kind == "networks" and device == "cpu":
            return None
        return (
            f"executor 'processes' with {kind} on {device}: it shares the cores of a CPU among networks; use "
            "--executor auto, or --group networks --device cpu."
        )

    def close(self) -> None:
        """End the processes; the next step would start them again."""
        if self._pool is not None:
            self._pool.close()

    def _run(self, views: Tensor | Sequence[Tensor]) -> PeerOutputs:
        self.students.view_of_each(views)  # only for what it refuses
        each = [views] if isinstance(views, Tensor) else list(views)
        pool = self._standing_pool()
        like = [*each, *self._empty_outputs(len(each[0]))]
        new = self._batch is None or not self._batch.fits(like)
        if self._batch is None or new:
            self._batch = SharedTensors(like)
        self._batch.fill(each)
        flags = flags_of(self._parts)
        # Nothing is drawn, and the random state stays as it is, where all modules are in evaluation mode.
        seed = int(torch.randint(2**62, ())) if any(flags[: len(self._parts)]) else None
        request = Forward(self._batch if new else None, flags, seed, torch.is_grad_enabled(), self.amp)
        pool.ask([request] * len(pool))
        shared = self._batch.tensors[len(each) :]
        # Copies, since this memory will hold the gradients.
        return PeerOutputs(torch.stack(shared[::2]), tuple(h.clone() for h in shared[1::2]))

    @torch.no_grad()
    def _carry_back(self, outputs: PeerOutputs, boundary: PeerOutputs) -> None:
        assert self._pool is not None
        assert self._batch is not None
        peers, logits_grad = self.group.shape.peers, boundary.logits_PBC.grad
        each = [None] * peers if logits_grad is None else logits_grad
        gradients = [g for peer in range(peers) for g in (each[peer], boundary.features[peer].grad)]
        for home, gradient in zip(self._batch.tensors[-2 * peers :], gradients, strict=True):
            if gradient is not None:
                home.copy_(gradient)
        given = [gradient is not None for gradient in gradients]
        for reply in self._pool.ask([Backward(given)] * len(self._pool)):
            for peer, found in reply.items():
                if any(found):
                    self._add_gradients(peer, found)

    def _add_gradients(self, peer: int, found: Sequence[bool]) -> None:
        parameters = self.students.networks[peer].parameters()
        for parameter, gradient, there in zip(parameters, self._gradients[peer].copies(), found, strict=True):
            if there:
                parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)

    def _empty_outputs(self, images: int) -> list[Tensor]:
        """Logits and features of every peer, without memory, in the precision of the boundary."""
        shape, double = self.group.shape, any(p.dtype == torch.float64 for p in self.students.parameters())
        sizes = [size for width in shape.feature_widths for size in (shape.num_classes, width)]
        dtype = torch.float64 if double else torch.float32
        return [torch.empty(images, size, dtype=dtype, device="meta") for size in sizes]

    def _standing_pool(self) -> Pool:
        """The processes, started again where they have ended or where the networks have moved in memory."""
        pool = self._pool
        if pool is None or not pool.alive or address_of(self._parts) != self._address:
            self.close()
            pool = self._start()
        return pool

    def _start(self) -> Pool:
        students, peers = self.students, self.group.shape.peers
        packed, files = pack_module(students), loaded_files()
        self._gradients = [SharedTensors(list(network.parameters())) for network in students.networks]
        parameters, buffers = _share(list(students.parameters())), _share(list(students.buffers()))
        self._parts = list(students.modules())
        self._address = address_of(self._parts)
        self._batch = None
        threads = torch.get_num_threads()
        count = min(peers, threads)
        pool = Pool(count, threads // count)
        own = [range(peers)[i :: len(pool)] for i in range(len(pool))]
        starts = [Start(packed, files, parameters, buffers, {p: self._gradients[p] for p in peers}) for peers in own]
        try:
            pool.ask(starts)
        except BaseException:
            pool.close()
            raise
        self._pool = pool
        return pool


@torch.no_grad()
def _share(tensors: Sequence[Tensor]) -> SharedTensors:
    """Move the values into shared memory; the tensors stay the same objects."""
    shared = SharedTensors(tensors)
    shared.fill(tensors)
    for tensor, home in zip(tensors, shared.tensors, strict=True):
        tensor.data = home
    return shared
