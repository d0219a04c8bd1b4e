"""What is special about several processes, each with what it returns to the test that asserts on it."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from mesh_cases import BOTH, EACH, ONE, QUARTERS, ROWS, STUDENTS, Case, differences, trained
from mesh_groups import GROUPS, net, one_for_each
from torch import Tensor, nn

import probes
from codistill import execution, methods
from codistill.errors import UserError
from codistill.execution import DistributedExecutor, Executor
from codistill.execution.replica_norm import over_replicas
from codistill.execution.world import Mesh, World
from codistill.types import PeerOutputs, Progress

HALF = Progress(5, 10)


def built(mesh: str, group: Any, method: str = "dml", **options: Any) -> DistributedExecutor:
    """The executor in training mode."""
    made = methods.build(method, group, generator=torch.Generator().manual_seed(5)).double()
    executor = execution.build("distributed", group, made, mesh=mesh, **options)
    assert isinstance(executor, DistributedExecutor)
    executor.train()
    return executor


def dropout(mesh: str, folder: Path) -> dict[str, Any]:
    """Four equal networks with dropout on one picture, 17 times: what differs is what has been drawn."""

    def run(seed: int) -> Tensor:
        group = one_for_each(lambda _: net(0, dropout=0.5))
        executor = built(mesh, group, f"{folder / 'own_methods.py'}:Mixed")
        view = probes.batch_of(1)[0][0].expand(17, -1, -1, -1)
        torch.manual_seed(seed)
        for _ in range(2):
            _, outputs = executor.train_step(view, torch.arange(17) % probes.CLASSES, HALF)
        assert outputs.mixed_logits is not None
        return torch.cat([outputs.logits_PBC, outputs.mixed_logits.unsqueeze(0)]).detach()

    first, again, state = run(3), run(3), torch.get_rng_state()
    other = run(4)
    return {
        "distinct": len({tuple(row.tolist()) for row in first.flatten(0, 1)}),
        "repeated": torch.equal(first, again),
        "another": not torch.equal(first, other),
        "values": first.flatten().tolist(),
        "state": hashlib.sha256(state.numpy().tobytes()).hexdigest(),
    }


def statistics_apart(mesh: str, folder: Path) -> dict[str, float]:
    """Largest differences from one graph in which each half of the batch has statistics of its own."""
    group = probes.group_of("networks")
    twin, taken = copy.deepcopy(group).train(), probes.batch_of(17)
    (view,), labels = taken
    parts = [twin(view[:9])]
    first = {name: buffer.clone() for name, buffer in twin.named_buffers()}
    parts.append(twin(view[9:]))
    methods.build("dml", twin).double()(PeerOutputs.cat(parts), labels, HALF).loss.backward()
    executor = built(mesh, group, sync_batch_norm=False, average=0.9)
    executor.train_step(view, labels, HALF)
    own, goals = set(executor.group.owned_parameters(executor.own)), dict(twin.named_parameters())
    found = {"gradients": [p.grad - goals[name].grad for name, p in group.named_parameters() if p in own]}
    executor.after_step()
    executor.assemble()
    for part, module in (("statistics", group), ("averaged", executor.averages.group)):
        found[part] = [(buffer - first[name]).double() for name, buffer in module.named_buffers()]
    return {kind: max(float(gap.abs().max()) for gap in gaps) for kind, gaps in found.items()}


def refusals(mesh: str, folder: Path) -> dict[str, str]:
    """What is refused, with its sentence."""
    networks, view, labels = GROUPS["pair"](), *probes.batch_of(1)

    def sentence(call: Callable[[], object]) -> str:
        try:
            call()
        except UserError as error:
            return str(error)
        return "nothing"

    taught = built(mesh, networks)
    with_synced_norms = copy.deepcopy(networks)
    with_synced_norms.networks[1].add_module("synced", nn.SyncBatchNorm(2))
    return {
        "size": sentence(lambda: built("data=2,peer=1", networks)),
        "students": sentence(lambda: built("peer=4", networks)),
        "trunk": sentence(lambda: built(mesh, GROUPS["branches"]())),
        "synced": sentence(lambda: built(mesh, with_synced_norms)),
        "fp16": sentence(lambda: built(mesh, networks, amp="fp16")),
        "batch": sentence(lambda: taught.train_step(view[0], labels, HALF)),
        "views": sentence(lambda: taught.train_step(view * 3, labels.expand(2), HALF)),
        "world": sentence(lambda: World(Mesh(2, 1), torch.device("cpu"))),
    }


def paused(mesh: str, folder: Path) -> list[Any]:
    """Which of a pair of networks switokd pauses, and which of this process' own ones have gradients."""
    executor = built(mesh, GROUPS["pair"](), "switokd")
    (view,), _ = probes.batch_of(8)
    with torch.no_grad():
        labels = executor.forward(view).logits_PBC[0].argmax(-1)
    step, _ = executor.train_step(view, labels, HALF)
    learned = [p for p in range(2) if all(q.grad is not None for q in executor.group.peer_parameters(p).values())]
    still = [p for p in range(2) if all(q.grad is None for q in executor.group.peer_parameters(p).values())]
    return [step.update_P.tolist(), executor.own, learned, still]


def traffic(mesh: str, folder: Path) -> dict[str, int]:
    """Bytes of one step with two networks on four images, and of `assemble`."""
    executor = built(mesh, one_for_each(net, 2))
    (view,), labels = probes.batch_of(4)
    executor.train_step(view, labels, HALF)
    executor.after_step()
    executor.assemble()
    executor.assemble()
    return dict(executor.world.traffic.bytes)


def world(mesh: str, folder: Path) -> dict[str, Any]:
    """What the processes say to each other."""
    made = World(Mesh.parse(mesh), torch.device("cpu"))
    whole = [torch.arange(3 * batch).view(batch, 3) for batch in (2, 7)]
    joined = [made.gather_rows(rows[made.own_rows(len(rows))], len(rows)) for rows in whole]
    sent, replicated = torch.tensor([made.rank]), torch.tensor([made.rank])
    made.spread([sent], made.mesh.peer - 1)
    made.spread_to_replicas([replicated])
    return {
        "place": [made.rank, made.data_rank, made.peer_rank, made.leads],
        "rows": [made.rows(7).start, made.rows(7).stop],
        "alone": [made.own_rows(7).start, made.own_rows(7).stop],
        "whole": [torch.equal(a, b) for a, b in zip(joined, whole, strict=True)],
        "largest": made.largest([made.rank, -made.rank]),
        "leader": made.of_leader(f"of {made.rank}"),
        "gathered": made.gather_on_leader(made.rank),
        "spread": [int(sent), int(replicated)],
    }


def placed(mesh: str, folder: Path) -> list[list[int]]:
    """Which students run where, of five that cost differently."""
    return built(mesh, GROUPS["unlike"]()).placed


def half_precision(mesh: str, folder: Path) -> dict[str, float]:
    """Differences from `loop` where both run in bf16, which rounds to three digits."""
    case, own = Case("okddip", execution={"amp": "bf16"}), folder / "own_methods.py"
    _, expected = trained(case, own, 3, torch.float32, "loop")
    return differences(*trained(case, own, 3, torch.float32, "distributed", mesh=mesh), expected)


NORMS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], torch.dtype]] = {
    "vectors": (lambda: nn.BatchNorm1d(3), (17, 3), torch.float64),
    "sequences": (lambda: nn.BatchNorm1d(3), (17, 3, 5), torch.float64),
    "pictures": (lambda: nn.BatchNorm2d(3, eps=0.1, momentum=0.3), (17, 3, 2, 4), torch.float64),
    "volumes": (lambda: nn.BatchNorm3d(3), (9, 3, 2, 2, 2), torch.float64),
    "not affine": (lambda: nn.BatchNorm2d(3, affine=False), (7, 3, 2, 2), torch.float64),
    "momentum None": (lambda: nn.BatchNorm2d(3, momentum=None), (7, 3, 2, 2), torch.float64),
    "untracked": (lambda: nn.BatchNorm2d(3, track_running_stats=False), (7, 3, 2, 2), torch.float64),
    "untracked, evaluated": (lambda: nn.BatchNorm2d(3, track_running_stats=False).eval(), (7, 3, 2, 2), torch.float64),
    "evaluated": (lambda: nn.BatchNorm2d(3).eval(), (7, 3, 2, 2), torch.float64),
    "one image each": (lambda: nn.BatchNorm1d(3), (4, 3), torch.float64),
    "single precision": (lambda: nn.BatchNorm2d(3), (17, 3, 4, 4), torch.float32),
    "bf16 activations": (lambda: nn.BatchNorm2d(3), (17, 3, 4, 4), torch.bfloat16),
}


def norms(mesh: str, folder: Path) -> dict[str, float]:
    """The largest difference of each norm over replicas from torch's on the joined batch."""
    made = World(Mesh.parse(mesh), torch.device("cpu"))
    return {name: _norm_difference(made, *of) for name, of in NORMS.items()}


def _norm_difference(world: World, make: Callable[[], nn.Module], shape: tuple[int, ...], dtype: torch.dtype) -> float:
    draw, rows = torch.Generator().manual_seed(1), world.rows(shape[0])
    norm = make().to(torch.float64 if dtype == torch.float64 else torch.float32)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw))
    plain, gaps = copy.deepcopy(norm), []
    for _ in range(2):
        # Far from zero, where a variance from a mean of squares would lose its digits.
        x = (torch.randn(shape, generator=draw, dtype=torch.float64) + 100).to(dtype)
        weight = torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype)
        whole, own = x.clone().requires_grad_(), x[rows].clone().requires_grad_()
        expected = plain(whole)
        expected.backward(weight)
        with over_replicas(norm.modules(), world):
            found = norm(own)
        found.backward(weight[rows])
        assert found.dtype == expected.dtype
        gaps += [found - expected[rows], own.grad - whole.grad[rows]]
    for parameter in norm.parameters():
        dist.all_reduce(parameter.grad)
    gaps += [p.grad - q.grad for p, q in zip(norm.parameters(), plain.parameters(), strict=True)]
    gaps += [a.double() - b.double() for a, b in zip(norm.buffers(), plain.buffers(), strict=True)]
    assert "forward" not in vars(norm)
    return max(float(gap.detach().double().abs().max()) for gap in gaps)


def slopes(mesh: str, folder: Path) -> float:
    """The largest difference between gradients over replicas and difference quotients of the loss of all of them."""
    made, draw = World(Mesh.parse(mesh), torch.device("cpu")), torch.Generator().manual_seed(1)
    norm, x = nn.BatchNorm1d(3).double(), torch.randn(7, 3, generator=draw, dtype=torch.float64)
    weight, rows, h = torch.randn(7, 3, generator=draw, dtype=torch.float64), made.rows(7), 1e-5

    def loss(own: Tensor) -> Tensor:
        with over_replicas([norm], made):
            return (norm(own) ** 2 * weight[rows]).sum()

    own = x[rows].clone().requires_grad_()
    loss(own).backward()
    gap = 0.0
    for place in range(7):
        sides = []
        for sign in (1, -1):
            moved = x.clone()
            moved[place, 1] += sign * h
            sides.append(loss(moved[rows]).detach())
            dist.all_reduce(sides[-1])
        if rows.start <= place < rows.stop:
            slope = (sides[0] - sides[1]) / (2 * h)
            gap = max(gap, float((own.grad[place - rows.start, 1] - slope).abs()))
    return gap


def holds(executor: Executor, peer: int) -> bool:
    """Whether a process hands out a student."""
    try:
        executor.check_holds(peer)
    except UserError:
        return False
    return True


def twins(mesh: str, folder: Path) -> list[bool]:
    """Whether, after two steps, every process holds the very same weights, bit by bit."""
    group = probes.group_of("networks")
    executor: Executor = built(mesh, group)
    optimizer = torch.optim.SGD(executor.parameters(), lr=0.1)
    for seed in range(2):
        (view,), labels = probes.batch_of(7, seed=seed)
        optimizer.zero_grad()
        executor.train_step(view, labels, HALF)
        optimizer.step()
        executor.after_step()
        assert [holds(executor, peer) for peer in range(4)] == [peer in executor.own for peer in range(4)]
    executor.assemble()
    assert all(holds(executor, peer) for peer in range(4))
    own = torch.cat([value.double().flatten() for value in group.state_dict().values()])
    every = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(every, own)
    return [torch.equal(own, other) for other in every]


SCENARIOS: dict[str, tuple[Callable[[str, Path], Any], tuple[str, ...]]] = {
    "dropout": (dropout, (ONE, ROWS, STUDENTS, BOTH)),
    "statistics apart": (statistics_apart, (ROWS, BOTH)),
    "refusals": (refusals, (BOTH,)),
    "paused": (paused, (ROWS, STUDENTS, BOTH)),
    "traffic": (traffic, (ONE, ROWS, STUDENTS)),
    "world": (world, (ONE, BOTH)),
    "placed": (placed, (STUDENTS, EACH)),
    "half precision": (half_precision, (BOTH,)),
    "norms": (norms, (ROWS, QUARTERS)),
    "slopes": (slopes, (ROWS, QUARTERS)),
    "twins": (twins, (BOTH, QUARTERS)),
}
