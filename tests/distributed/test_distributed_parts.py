"""Meshes, shares, placement and the counting of bytes; parts of outputs; what needs no second process."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_groups import GROUPS

import probes
from codistill import execution, methods
from codistill.execution.placement import costs_of, place
from codistill.execution.world import Mesh, Traffic, choose_mesh, share_of
from codistill.types import Needs, PeerOutputs
from refusals import refusal


def balance(costs, placed):
    """The mean load of the processes as a share of the largest one, 1 where all have the same."""
    loads = [sum(costs[peer] for peer in peers) for peers in placed]
    return sum(load / max(loads) for load in loads) / len(loads) if max(loads) else 1.0


def test_meshes_are_read_in_any_order_and_axes_left_out_are_one():
    assert Mesh.parse("data=2,peer=3") == Mesh.parse(" peer=3 , data=2") == Mesh(2, 3)
    assert Mesh.parse("peer=4") == Mesh(1, 4)
    assert (str(Mesh(2, 3)), Mesh(2, 3).size) == ("data=2,peer=3", 6)
    assert Mesh.parse(str(Mesh(2, 3))) == Mesh(2, 3)


@pytest.mark.parametrize(
    "text", ["", "2", "data", "data=", "data=0", "data=-1", "data=2,data=2", "rows=2", "data=1.5", "peer=²"]
)
def test_other_meshes_are_refused(text):
    sentence = refusal(Mesh.parse, text)
    assert sentence == f"mesh {text!r}: give the sizes of both axes, such as data=2,peer=2, or auto."


@pytest.mark.parametrize(
    ("processes", "peers", "trunk", "mesh"),
    [
        *[(1, 4, False, Mesh(1, 1)), (2, 4, False, Mesh(1, 2)), (4, 4, False, Mesh(1, 4)), (8, 4, False, Mesh(2, 4))],
        *[(4, 3, False, Mesh(2, 2)), (5, 4, False, Mesh(5, 1)), (4, 4, True, Mesh(4, 1)), (6, 4, False, Mesh(2, 3))],
    ],
)
def test_auto_gives_students_processes_of_their_own_first(processes, peers, trunk, mesh):
    assert choose_mesh("auto", processes, peers, trunk) == mesh


def test_a_given_mesh_is_taken_or_refused():
    assert choose_mesh("data=2,peer=2", 4, 4, False) == Mesh(2, 2)
    assert choose_mesh("data=4", 4, 4, True) == Mesh(4, 1)
    assert refusal(choose_mesh, "data=2", 4, 4, False).startswith("mesh data=2,peer=1 needs 2 processes, and there are")
    assert "peer can be 1 to 3" in refusal(choose_mesh, "peer=4", 4, 3, False)
    assert refusal(choose_mesh, "data=2,peer=2", 4, 4, True).endswith("give data=4, or --group networks.")


@given(st.integers(0, 40), st.integers(1, 9))
def test_shares_cover_everything_once_in_order_and_differ_by_one_at_most(count, n):
    shares = [range(count)[share_of(count, place, n)] for place in range(n)]
    assert [thing for share in shares for thing in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


COSTS = st.lists(st.one_of(st.just(0.0), st.floats(0, 1e12)), min_size=1, max_size=9)


@settings(deadline=None)
@given(COSTS, st.data())
def test_each_student_is_placed_once_and_no_process_is_empty(costs, data):
    processes = data.draw(st.integers(1, len(costs)))
    placed = place(costs, processes)
    assert sorted(peer for peers in placed for peer in peers) == list(range(len(costs)))
    assert len(placed) == processes
    assert all(peers and peers == sorted(peers) for peers in placed)
    assert 0 < balance(costs, placed) <= 1 + 1e-9


@pytest.mark.parametrize(
    ("costs", "processes", "placed", "share"),
    [
        ([1, 1, 1, 1], 2, [[0, 2], [1, 3]], 1.0),
        # In turn: 5 + 3 against 4 + 3. By cost: 5 + 3 against 4 + 3 + ... as below.
        ([1, 5, 1, 5], 2, [[0, 1], [2, 3]], 1.0),  # in turn: 2 against 10, a balance of 0.6
        ([8, 1, 7, 2], 2, [[0, 1], [2, 3]], 1.0),  # in turn: 15 against 3, 0.6
        ([3, 9, 3, 3], 2, [[1], [0, 2, 3]], 1.0),  # in turn: 6 against 12, 0.75
        ([9, 1, 1], 3, [[0], [1], [2]], 11 / 27),
        ([0, 0, 0], 2, [[0, 2], [1]], 1.0),
    ],
)
def test_placement_of_examples_worked_out_by_hand(costs, processes, placed, share):
    assert place(costs, processes) == placed
    assert balance(costs, placed) == pytest.approx(share)
    in_turn = [list(range(len(costs)))[first::processes] for first in range(processes)]
    assert balance(costs, placed) >= balance(costs, in_turn)


def test_costs_are_multiply_accumulates_whatever_the_precision():
    # Two images; conv1 on 64 places, conv2 on 16, fc once.
    wanted = [2 * (64 * 27 * w + 16 * 9 * w * w + 5 * w) for w in (4, 12, 6, 9, 16)]
    assert costs_of(GROUPS["unlike"]()) == wanted
    assert costs_of(GROUPS["unlike"]().float()) == wanted


def test_bytes_are_counted_as_ring_algorithms_send_them():
    traffic, own = Traffic(), torch.zeros(6, dtype=torch.float64)
    traffic.gathered("outputs", own, 4)
    traffic.reduced("gradients", own, 4)
    traffic.sent("weights", own)
    traffic.sent("weights", own)
    assert traffic.bytes == {"outputs": 3 * 48, "gradients": 2 * 3 * 48 // 4, "weights": 96}
    with traffic.waiting():
        pass
    assert traffic.waited > 0


def test_a_process_that_was_not_launched_is_refused():
    group = probes.group_of("networks")
    sentence = refusal(lambda: execution.build("distributed", group, methods.build("dml", group), mesh="peer=2"))
    assert sentence.startswith("executor 'distributed' in a process that torchrun did not start: use the command line")


def outputs(peers: int = 3, images: int = 5) -> PeerOutputs:
    """Every field, each value a number of its own."""
    numbers = iter(range(10**6))

    def drawn(*shape: int) -> torch.Tensor:
        return torch.tensor([float(next(numbers)) for _ in range(torch.Size(shape).numel())]).view(shape)

    return PeerOutputs(
        logits_PBC=drawn(peers, images, 2),
        features=tuple(drawn(images, width) for width in (1, 2, 3)),
        trunk_features=drawn(images, 2),
        teacher_logits_KBC=drawn(2, images, 2),
        maps={"a": tuple(drawn(images, 2, 1, 2) for _ in range(peers))},
        head_logits={"a": drawn(peers, images, 2)},
        mixed_logits=drawn(images, 2),
        averaged_logits_PBC=drawn(peers, images, 2),
        averaged_features=tuple(drawn(images, width) for width in (1, 2, 3)),
    )


def test_a_part_of_outputs_has_these_students_in_this_order_on_these_rows():
    whole = outputs()
    part = whole.part([2, 0], slice(1, 3))
    assert torch.equal(part.logits_PBC, torch.stack([whole.logits_PBC[2, 1:3], whole.logits_PBC[0, 1:3]]))
    assert torch.equal(part.averaged_logits_PBC, whole.averaged_logits_PBC[[2, 0], 1:3])
    assert torch.equal(part.head_logits["a"], whole.head_logits["a"][[2, 0], 1:3])
    for listed in ("features", "averaged_features"):
        of_part, of_whole = getattr(part, listed), getattr(whole, listed)
        assert len(of_part) == 2
        assert torch.equal(of_part[0], of_whole[2][1:3])
        assert torch.equal(of_part[1], of_whole[0][1:3])
    assert [torch.equal(part.maps["a"][i], whole.maps["a"][p][1:3]) for i, p in enumerate([2, 0])] == [True, True]
    # What is shared is that of all students.
    assert torch.equal(part.trunk_features, whole.trunk_features[1:3])
    assert torch.equal(part.mixed_logits, whole.mixed_logits[1:3])
    assert torch.equal(part.teacher_logits_KBC, whole.teacher_logits_KBC[:, 1:3])


def test_parts_of_outputs_join_to_the_whole_again():
    whole = outputs()
    by_rows = [
        PeerOutputs.stack([whole.part([0], rows), whole.part([1, 2], rows)]) for rows in (slice(0, 2), slice(2, 5))
    ]
    again, expected = [], []
    PeerOutputs.cat(by_rows).map(lambda tensor: again.append(tensor) or tensor)
    whole.map(lambda tensor: expected.append(tensor) or tensor)
    assert len(again) == len(expected) > 10
    assert all(torch.equal(a, b) for a, b in zip(again, expected, strict=True))
    assert whole.part([1]).logits_PBC.shape == (1, 5, 2)
    assert whole.part([0, 1, 2], slice(0, 0)).logits_PBC.shape == (3, 0, 2)


def test_extra_heads_of_some_students_are_theirs():
    group = probes.group_of("networks")
    group.provide(Needs(heads=("stage2",)), torch.Generator().manual_seed(0))
    group.train()
    (view,), _ = probes.batch_of()
    whole = group(view)
    some = group.head_logits({"stage2": tuple(whole.maps["stage2"][peer] for peer in (3, 1))}, (3, 1))
    torch.testing.assert_close(some["stage2"], whole.head_logits["stage2"][[3, 1]], rtol=0, atol=0)
    torch.testing.assert_close(group.head_logits(whole.maps)["stage2"], whole.head_logits["stage2"], rtol=0, atol=0)
    assert not torch.equal(whole.head_logits["stage2"][3], whole.head_logits["stage2"][1])
    assert group.eval().head_logits(whole.maps, range(4)) == {}
    assert group.heads_after("stage2") is next(iter(group.heads.values()))
