"""What a method may ask for, and the sentence where it is not given."""

import pytest
import torch

import probes
from codistill import methods
from codistill.execution import build
from codistill.methods import Method
from codistill.types import GroupShape, Needs, PeerOutputs, Progress, StepOutput
from refusals import refusal

P, B, C = 2, 4, 5
SHAPE = GroupShape(P, C, (3, 3), trunk_width=3, shares_trunk=True)
LABELS = torch.zeros(B, dtype=torch.int64)


class Plain(Method):
    def step(self, rows, progress):
        ce_P = rows.cross_entropy_P()
        return StepOutput(ce_P.sum(), ce_P, {"ce": ce_P.detach().sum()})


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"teachers": "some"}, "needs.teachers 'some': choose 'none', 'allowed' or 'required'."),
        ({"averaged": 1.0}, "needs.averaged 1.0: a decay is 0 or more and below 1, such as 0.999."),
        ({"averaged": -0.1}, "needs.averaged -0.1: a decay is 0 or more and below 1, such as 0.999."),
        ({"averaged": float("nan")}, "needs.averaged nan: a decay is 0 or more and below 1, such as 0.999."),
        ({"held_out": 1.0}, "needs.held_out 1.0: it is a share of the training images; give 0 to below 1."),
        ({"maps": "layer2"}, "needs.maps 'layer2': give a tuple of paths, each once."),
        ({"heads": ("a", "b", "a")}, "needs.heads ('a', 'b', 'a'): give a tuple of paths, each once."),
    ],
)
def test_needs_that_make_no_sense_are_refused(given, sentence):
    assert refusal(lambda: Needs(**given)) == sentence


def test_a_decay_of_zero_and_no_decay_are_both_taken():
    assert Needs(averaged=0.0).averaged == 0.0
    assert Needs().averaged is None


@pytest.mark.parametrize(
    ("needs", "sentence"),
    [
        ({"features": True}, "Plain needs features, and got none: give one tensor [B, D] per peer."),
        ({"trunk": True}, "Plain needs the shared trunk's features, and got none: give [B, D]."),
        ({"mixed": True}, "Plain needs the mixed network's logits, and got none: run an executor"),
        ({"averaged": 0.9}, "Plain needs the averaged peers' logits, and got none: run an executor"),
        ({"maps": ("a",)}, "Plain needs the map 'a', and got none: build the method from the group"),
        ({"heads": ("a.b",)}, "Plain needs the head 'a.b', and got none: build the method from the group"),
    ],
)
def test_what_is_needed_and_not_given_is_named(needs, sentence):
    method = Plain(SHAPE)
    method.needs = Needs(**needs)
    outputs = PeerOutputs(torch.randn(P, B, C, requires_grad=True))
    assert sentence in refusal(lambda: method(outputs, LABELS, Progress(0, 1)))


def test_rows_hold_what_was_asked_for_and_nothing_else():
    seen = []

    class Looking(Plain):
        def step(self, rows, progress):
            seen.append(rows)
            return super().step(rows, progress)

    logits, h = torch.randn(P, B, 2, C, requires_grad=True), torch.randn(B, 3)
    outputs = PeerOutputs(
        logits, (h, h), h, torch.randn(1, B, 2, C), {"m": (h, h)}, {"m": torch.randn(P, B, C)}, torch.randn(B, 2, C),
        torch.randn(P, B, 2, C), (h, h),
    )  # fmt: skip
    labels = torch.zeros(B, 2, dtype=torch.int64)
    method = Looking(SHAPE)
    method(outputs, labels, Progress(0, 1))
    method.needs = Needs(True, True, ("m",), ("m",), "allowed", 0.9, True)
    method(outputs, labels, Progress(0, 1))
    bare, full = seen
    assert (bare.features, bare.trunk_ND, bare.mixed_NC, bare.averaged_features, bare.heads) == ((), None, None, (), {})
    N = 2 * B
    assert [h.shape for h in (*full.features, *full.averaged_features)] == [(N, 3)] * 4
    assert full.trunk_ND.shape == (B, 3)
    assert full.teacher_logits_KNC.shape == (1, N, C)
    assert full.averaged_PNC.shape == (P, N, C)
    assert full.mixed_NC.shape == (N, C)
    assert full.heads["m"].shape == (P, B, C)
    assert torch.equal(full.mixed_NC[1], outputs.mixed_logits[0, 1])
    assert torch.equal(full.averaged_PNC[1, 3], outputs.averaged_logits_PBC[1, 1, 1])


def test_needs_may_depend_on_options_and_are_asked_before_anything_is_built(tmp_path):
    own = f"{probes.write_probes(tmp_path)}:Heads"
    assert methods.needs_of(own, {"path": "stem"}) == Needs(heads=("stem",))
    group = probes.group_of("networks")
    method = methods.build(own, group, path="stem")
    assert method.needs.heads == ("stem",)
    assert group.shape.map_shapes == {"stem": ((4, 8, 8),) * probes.PEERS}
    # Another method for the same group finds nothing of the first one.
    methods.build("dml", group)
    assert (group.maps, list(group.heads), group.shape.map_shapes) == ({}, [], {})


def test_heads_are_drawn_from_the_generator_and_differ_among_peers():
    drawn = []
    for _ in range(2):
        group = probes.group_of("networks")
        state = torch.get_rng_state()
        group.provide(Needs(heads=("stem",)), torch.Generator().manual_seed(3))
        assert torch.equal(torch.get_rng_state(), state)
        drawn.append([p.clone() for p in group.heads.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*drawn, strict=True))
    assert not torch.equal(drawn[0][0], drawn[0][2])
    assert drawn[0][0].dtype == torch.float64


def test_teachers_are_refused_where_none_are_wanted_and_asked_for_where_they_are(tmp_path):
    own = f"{probes.write_probes(tmp_path)}"
    group = probes.group_of("networks")
    assert "it learns from none" in refusal(lambda: methods.build(f"{own}:Mixed", group, teachers=1))
    assert methods.build(f"{own}:Taught", group, teachers=0).shape.teachers == 0
    taught = methods.build(f"{own}:Taught", group, teachers=2)
    sentence = "1 teachers for a method built for 2: build the method with teachers=1."
    assert sentence in refusal(lambda: build("loop", group, taught, teachers=[probes.staged(7)]))


@pytest.mark.parametrize(
    ("moved", "given"),
    [([True], "tensor([True])"), ([1, 0], "tensor([1, 0])"), ("all", "'all'")],
)
def test_a_mask_of_another_form_is_refused(moved, given):
    class Masked(Plain):
        def step(self, rows, progress):
            ce_P = rows.cross_entropy_P()
            return StepOutput(ce_P.sum(), ce_P, {}, update_P=moved if moved == "all" else torch.tensor(moved))

    outputs = PeerOutputs(torch.randn(P, B, C, requires_grad=True))
    sentence = refusal(lambda: Masked(SHAPE)(outputs, LABELS, Progress(0, 1)))
    assert sentence == f"update_P of the step of Masked is {given}: give a bool tensor [2], or None."


def test_turns_need_the_students_own_losses_to_be_differentiable():
    class Detached(Plain):
        needs = Needs(turns=True)

        def step(self, rows, progress):
            ce_P = rows.cross_entropy_P()
            return StepOutput(ce_P.sum(), ce_P.detach(), {})

    outputs = PeerOutputs(torch.randn(P, B, C, requires_grad=True))
    sentence = "loss_by_peer of the step of Detached does not depend on what the students put out"
    assert sentence in refusal(lambda: Detached(SHAPE)(outputs, LABELS, Progress(0, 1)))
