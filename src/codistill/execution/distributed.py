"""The executor of several devices: students and rows of a batch divided among processes, on torch.distributed.

Every process holds the whole group, and runs only its own students on its own rows. What they put out is gathered, so
that each process computes the method's loss on all outputs of the whole batch: B·C numbers per student, where data
parallelism would send every gradient. Gradients are averaged among the replicas of a student alone.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from codistill.errors import UserError
from codistill.execution.base import Executor
from codistill.execution.exchange import Exchange
from codistill.execution.options import ExecutionOptions
from codistill.execution.own_outputs import OwnOutputs, run_peers
from codistill.execution.placement import costs_of, place
from codistill.execution.replica_norm import over_replicas
from codistill.execution.stopwatch import layers_undisturbed
from codistill.execution.world import World, choose_mesh
from codistill.methods import Method
from codistill.peers import NetworkGroup, PeerGroup, Teachers
from codistill.types import PeerOutputs, Progress, StepOutput

__all__ = ["DistributedExecutor"]

_SYNC_BUFFERS = "forward_sync_buffers"
if _SYNC_BUFFERS not in inspect.signature(DistributedDataParallel).parameters:
    _SYNC_BUFFERS = "broadcast_buffers"  # its name before torch 2.14


class DistributedExecutor(Executor):
    """One process of several that train a group together; see `Executor`. All are built and called alike.

    Each call gets the whole batch in each process: views, labels and weights. Of the views a process reads its own rows
    and students only. Results equal those of `loop` to rounding. Random layers (dropout) draw other, equally
    independent numbers, from one seed per step that comes from torch's default generator, which is the same everywhere.

    Parameters of other processes' students are those of the start, or of the last `assemble`.

    Args:
        group: networks, whose students are dealt out by their multiply-accumulates; or branches or a tree, which stay
            together.
        method: the loss on their outputs.
        options: of these `mesh` and `sync_batch_norm`.
        teachers: see `Executor`; each process asks them about a part of the batch.

    Raises:
        UserError: torch.distributed has not been initialised, or the mesh does not fit processes and group.

    Attributes:
        placed: the students of each process of a column.
        own: this process' students.
        costs: of each student, by which they were placed.
    """

    name = "distributed"
    takes: ClassVar[frozenset[str]] = frozenset({"mesh", "sync_batch_norm"})
    evaluates_as = "loop"
    in_several = "distributed"

    def __init__(
        self,
        group: PeerGroup,
        method: Method,
        options: ExecutionOptions | None = None,
        teachers: Sequence[nn.Module] | Teachers = (),
    ) -> None:
        super().__init__(group, method, options, teachers)
        if not dist.is_initialized():
            raise UserError(
                "executor 'distributed' in a process that torchrun did not start: use the command line "
                "(codistill train ... --mesh peer=2), or torchrun with your script."
            )
        shape, apart = group.shape, isinstance(group, NetworkGroup)
        mesh = choose_mesh(self.options.mesh or "auto", dist.get_world_size(), shape.peers, not apart)
        if self.options.amp == "fp16" and mesh.peer > 1:
            raise UserError(
                f"amp fp16 with mesh {mesh}: students in processes of their own would scale their losses apart; use "
                "bf16, or divide the data alone."
            )
        if any(isinstance(module, nn.SyncBatchNorm) for module in group.modules()):
            raise UserError(
                "executor 'distributed' with a SyncBatchNorm, which would mix the statistics of different students: "
                "give networks with plain batch norms, which see the whole batch here (--sync-batch-norm)."
            )
        device = next(group.parameters()).device
        self._world = World(mesh, device)
        self.costs = costs_of(group) if mesh.peer > 1 else [1.0] * shape.peers
        self.placed = place(self.costs, mesh.peer)
        self.own = self.placed[self.world.peer_rank]
        others = [peer for peer in range(shape.peers) if peer not in self.own]
        self.elsewhere = group.owned_parameters(others)
        self._exchange = Exchange(self.world, self.placed)
        self._own_outputs = OwnOutputs(group, self.own)
        self._replicas: tuple[object, nn.Module] | None = None
        self._assembled = True

    @property
    def world(self) -> World:
        """See `Executor.world`."""
        return self._world

    def check_holds(self, peer: int) -> None:
        """See `Executor.check_holds`."""
        if not self._assembled and peer not in self.own:
            raise UserError(
                f"student {peer} within an epoch: another process trains it, and this one has its weights of the last "
                "checkpoint or epoch; ask for it at the end of an epoch."
            )

    def train_step(
        self,
        views: Tensor | Sequence[Tensor],
        labels_B: Tensor,
        progress: Progress,
        turn: int | None = None,
        **given: Any,
    ) -> tuple[StepOutput, PeerOutputs]:
        """See `Executor.train_step`."""
        batch = len(labels_B)
        if batch < self.world.mesh.data:
            raise UserError(
                f"a batch of {batch} images for {self.world.mesh.data} replicas: give larger batches (--last-batch "
                "drop leaves out a small last one), or another mesh."
            )
        self.world.traffic.begin_step()
        self._assembled = False
        return super().train_step(views, labels_B, progress, turn, **given)

    def after_step(self) -> None:
        """See `Executor.after_step`."""
        super().after_step()
        if self.mixed is not None and self.world.mesh.peer > 1:
            self._spread(self.group)
        self.world.traffic.end_step()

    def assemble(self) -> None:
        """See `Executor.assemble`. Statistics that replicas have kept apart become those of the first."""
        if self._assembled:
            return
        self._assembled = True
        groups = [self.group] if self.averages is None else [self.group, self.averages.group]
        if not self.options.sync_batch_norm:
            for group in groups:
                self.world.spread_to_replicas(list(OwnOutputs(group, self.own).buffers()))
        for group in groups:
            self._spread(group)

    @torch.no_grad()
    def predict(self, images: Tensor) -> PeerOutputs:
        """See `Executor.predict`."""
        averages = self.deployed_averages
        with self._safe, torch.autocast(images.device.type, dtype=self.amp, enabled=self.amp is not None):
            outputs = self._gathered(images, self.group if averages is None else averages.group)
        return dataclasses.replace(outputs, logits_PBC=outputs.logits_PBC.float())

    def _run(self, views: Tensor | Sequence[Tensor]) -> PeerOutputs:
        return self._gathered(views, self.group)

    def _gathered(self, views: Tensor | Sequence[Tensor], group: PeerGroup) -> PeerOutputs:
        each = group.view_of_each(views)
        batch = len(each[0])
        rows = self.world.rows(batch)
        # Where some replicas would have no image, all run all of them, and norms see their statistics as they are.
        seen = slice(0, batch) if batch < self.world.mesh.data else rows
        mine = each[0][seen] if isinstance(views, Tensor) else [view[seen] for view in each]
        outputs = self._own_training_run(mine) if group.training else self._own_run(mine, group)
        outputs = outputs if seen is rows else outputs.part(range(outputs.peers), rows)
        outputs = outputs if self.method.needs.features else dataclasses.replace(outputs, features=())  # unread
        shapes = tuple(tuple(view.shape) for view in each)
        key = (group is self.group, group.training, torch.is_grad_enabled(), self.amp, each[0].dtype, shapes)
        return self._exchange.gather(outputs, batch, key)

    def _own_run(self, views: Tensor | Sequence[Tensor], group: PeerGroup) -> PeerOutputs:
        """In evaluation mode."""
        with self._whole_batch(group):
            return run_peers(group, self.own, views)

    def _own_training_run(self, views: Tensor | Sequence[Tensor]) -> PeerOutputs:
        # In every process the same, and then apart: for each replica, its students and the mixed network.
        peers = self.group.shape.peers
        seed = int(torch.randint(2**62, ())) + self.world.data_rank * (peers + 1)
        # The mixed network of students that share a trunk runs a module outside the group.
        parts = [self.group] if self.mixed is None else [self.group, self.group.plain_network(0)]
        with self._whole_batch(*parts), layers_undisturbed(self.world.device):
            outputs = self._own_outputs.filled(self._network()(views, seed))
            if self.mixed is not None:
                torch.manual_seed(seed + peers)
                outputs = dataclasses.replace(outputs, mixed_logits=self.mixed.run(views))
        if self.averages is not None and self.method.needs.averaged is not None:
            with torch.no_grad():
                own = self._own_run(views, self.averages.group)
            outputs = dataclasses.replace(outputs, averaged_logits_PBC=own.logits_PBC, averaged_features=own.features)
        return outputs

    def _with_others(self, outputs: PeerOutputs, views: Tensor | Sequence[Tensor]) -> PeerOutputs:
        self._check_teachers()
        if not len(self.teachers) or not isinstance(views, Tensor):
            return self.teachers.add_to(outputs, views)
        batch, world = len(views), self.world
        mine = world.own_rows(batch)
        seen = mine if mine.stop > mine.start else slice(0, 1)
        part = outputs.part(range(outputs.peers), seen).map(lambda tensor: tensor.detach())
        logits_KBC = self.teachers.add_to(part, views[seen]).teacher_logits_KBC
        assert logits_KBC is not None
        parts = world.gather_rows(logits_KBC.movedim(1, 0)[: mine.stop - mine.start].contiguous(), batch)
        return dataclasses.replace(outputs, teacher_logits_KBC=parts.movedim(0, 1))

    def _carry_back(self, outputs: PeerOutputs, boundary: PeerOutputs) -> None:
        # A head that the loss has not read gets a gradient of zeros, since replicas wait for all, and is to have none.
        unread = [path for path, logits_PBC in boundary.head_logits.items() if logits_PBC.grad is None]
        held = [(p, p.grad) for path in unread for p in self.group.heads_after(path).parameters()]
        super()._carry_back(outputs, boundary)
        for parameter, gradient in held:
            parameter.grad = gradient
        # The mixed network reaches all students, and each process moves its own.
        for parameter in self.elsewhere:
            parameter.grad = None

    def _whole_batch(self, *parts: nn.Module) -> AbstractContextManager[None]:
        """A scope in which batch norms see all rows, where the options say so."""
        modules = {module: None for part in parts for module in part.modules()}
        return over_replicas(modules, self.world) if self.options.sync_batch_norm else nullcontext()

    def _network(self) -> Callable[..., list[Tensor]]:
        """What runs this process' students, with gradients averaged among replicas."""
        learning = tuple(p.requires_grad for p in self._own_outputs.parameters())
        if self.world.mesh.data == 1 or not any(learning):
            return self._own_outputs
        if self._replicas is None or self._replicas[0] != learning:
            # Built again where layers have been frozen or set free: it knows the parameters that learned then.
            wrapped = DistributedDataParallel(
                self._own_outputs,
                process_group=self.world.replicas,
                find_unused_parameters=True,
                **cast("Any", {_SYNC_BUFFERS: False}),
            )
            # A lambda, since torch refuses annotations that are text, as all are here.
            wrapped.register_comm_hook(self.world, lambda world, bucket: _averaged(world, bucket))
            self._replicas = (learning, wrapped)
        return self._replicas[1]

    @torch.no_grad()
    def _spread(self, group: PeerGroup) -> None:
        if self.world.mesh.peer == 1:
            return
        for peer_rank, peers in enumerate(self.placed):
            held = {id(t): t for peer in peers for t in group.peer_state(peer).values()}
            heads = [list(of_peers.children())[peer] for of_peers in group.heads.values() for peer in peers]
            held |= {id(t): t for head in heads for t in head.state_dict().values()}
            self.world.spread(list(held.values()), peer_rank)


def _averaged(world: World, bucket: Any) -> torch.futures.Future[Tensor]:
    """The mean of a bucket of gradients over the replicas, which is counted."""
    world.traffic.reduced("gradients", bucket.buffer(), world.mesh.data)
    return allreduce_hook(world.replicas, bucket)
