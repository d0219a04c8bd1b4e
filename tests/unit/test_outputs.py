"""Every field of `PeerOutputs` is treated alike; a field that is new here has to be described below."""

import dataclasses
import inspect

import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map

from codistill.execution.base import through_boundary
from codistill.types import PeerOutputs
from refusals import refusal

P, B, C, K, D = 3, 6, 5, 2, 4
FIELDS = {
    "logits_PBC": ("stacked", 1, True, lambda draw: draw(P, B, C)),
    "features": ("listed", 0, True, lambda draw: tuple(draw(B, D + p) for p in range(P))),
    "trunk_features": ("shared", 0, True, lambda draw: draw(B, D)),
    "teacher_logits_KBC": ("shared", 1, False, lambda draw: draw(K, B, C)),
    "maps": ("listed", 0, True, lambda draw: {n: tuple(draw(B, 2, 3, 3) for _ in range(P)) for n in ("a", "b.c")}),
    "head_logits": ("stacked", 1, True, lambda draw: {n: draw(P, B, C) for n in ("a", "last")}),
    "mixed_logits": ("shared", 0, True, lambda draw: draw(B, C)),
    "averaged_logits_PBC": ("stacked", 1, False, lambda draw: draw(P, B, C)),
    "averaged_features": ("listed", 0, False, lambda draw: tuple(draw(B, D + p) for p in range(P))),
}
"""Field -> the meaning of its peers, the axis of its images, whether gradient flows, and how an example is drawn."""


def filled(dtype=torch.float32, requires_grad=False):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator).to(dtype).requires_grad_(requires_grad)

    return PeerOutputs(**{name: make(draw) for name, (_, _, _, make) in FIELDS.items()})


def change(outputs, function):
    """The outputs with function(kind, batch axis, value) in the place of every field."""
    own = {name: function(kind, batch, getattr(outputs, name)) for name, (kind, batch, _, _) in FIELDS.items()}
    return PeerOutputs(**own)


def pick_images(outputs, images):
    return change(outputs, lambda kind, batch, v: tree_map(lambda t: t.index_select(batch, torch.tensor(images)), v))


def pick_peers(outputs, first, last):
    def pick(kind, batch, value):
        if kind == "stacked":
            return tree_map(lambda t: t[first:last], value)
        if kind == "listed" and isinstance(value, dict):
            return {key: inner[first:last] for key, inner in value.items()}
        return value[first:last] if kind == "listed" else value

    return change(outputs, pick)


def assert_same(found, expected):
    for name in FIELDS:
        a, b = getattr(found, name), getattr(expected, name)
        assert type(a) is type(b)
        assert len(tree_leaves(a)) == len(tree_leaves(b)) > 0
        assert all(
            torch.equal(x, y) and x.dtype == y.dtype for x, y in zip(tree_leaves(a), tree_leaves(b), strict=True)
        )


def test_every_field_is_described_here_and_in_the_class():
    assert {f.name: (f.metadata["peers"], f.metadata["batch"], f.metadata["gradient"]) for f in _fields()} == {
        name: described[:3] for name, described in FIELDS.items()
    }
    # Python 3.13 takes the indentation off by itself.
    text = inspect.cleandoc(PeerOutputs.__doc__)
    assert not [name for name in FIELDS if f"    {name}: " not in text]


def _fields():
    return dataclasses.fields(PeerOutputs)


def test_map_reaches_every_tensor_or_those_with_gradient_or_those_without():
    outputs = filled()
    doubled = outputs.map(lambda t: 2 * t)
    assert_same(doubled, change(outputs, lambda kind, batch, v: tree_map(lambda t: 2 * t, v)))
    for gradient in (True, False):
        some = outputs.map(lambda t: 2 * t, gradient)
        for name, (_, _, has, _) in FIELDS.items():
            expected = getattr(doubled if has == gradient else outputs, name)
            assert tree_leaves(getattr(some, name))[0].equal(tree_leaves(expected)[0])


def test_tensors_are_those_with_gradient_in_a_fixed_order_with_the_logits_first():
    outputs = filled()
    expected = [t for name, (_, _, has, _) in FIELDS.items() if has for t in tree_leaves(getattr(outputs, name))]
    found = outputs.tensors()
    assert found[0] is outputs.logits_PBC
    assert sorted(map(id, found)) == sorted(map(id, expected))
    assert [t.shape for t in found] == [t.shape for t in filled().tensors()]
    assert len(PeerOutputs(outputs.logits_PBC).tensors()) == 1


@pytest.mark.parametrize(
    ("given", "wide"),
    [(torch.bfloat16, torch.float32), (torch.float16, torch.float32), (torch.float64, torch.float64)],
)
def test_the_boundary_is_cut_off_widened_and_collects_gradient_where_it_flows(given, wide):
    outputs = filled(given, requires_grad=True)
    boundary = outputs.at_boundary()
    for name, (_, _, gradient, _) in FIELDS.items():
        pairs = zip(tree_leaves(getattr(outputs, name)), tree_leaves(getattr(boundary, name)), strict=True)
        for tensor, leaf in pairs:
            assert leaf.is_leaf, name
            assert leaf.dtype == wide, name
            assert leaf.requires_grad == gradient, name
            assert torch.equal(leaf.detach(), tensor.detach().to(wide)), name


def test_the_optional_fields_stay_empty_at_the_boundary():
    boundary = PeerOutputs(torch.randn(P, B, C)).at_boundary()
    given = [n for n in FIELDS if any(isinstance(leaf, torch.Tensor) for leaf in tree_leaves(getattr(boundary, n)))]
    assert given == ["logits_PBC"]


def test_gradients_are_carried_back_for_exactly_the_fields_with_gradient():
    source = filled(torch.float64, requires_grad=True)
    outputs = source.map(lambda t: 3 * t)
    boundary = outputs.at_boundary()
    weights = filled(torch.float64).map(torch.sin)
    # The fields without gradient take part in the loss too; nothing must come of it.
    pairs = [
        (leaf, w)
        for name in FIELDS
        for leaf, w in zip(tree_leaves(getattr(boundary, name)), tree_leaves(getattr(weights, name)), strict=True)
    ]
    sum((leaf * w).sum() for leaf, w in pairs).backward()
    through_boundary(outputs, boundary)
    for name, (_, _, gradient, _) in FIELDS.items():
        for tensor, w in zip(tree_leaves(getattr(source, name)), tree_leaves(getattr(weights, name)), strict=True):
            if gradient:
                torch.testing.assert_close(tensor.grad, 3 * w)
            else:
                assert tensor.grad is None, name


def test_one_tensor_in_several_places_gets_the_sum_of_their_gradients():
    x = torch.randn(B, 2, 3, 3, requires_grad=True)
    outputs = PeerOutputs(torch.randn(P, B, C, requires_grad=True), maps={"trunk": (2 * x,) * P})
    boundary = outputs.at_boundary()
    sum((p + 1) * leaf.sum() for p, leaf in enumerate(boundary.maps["trunk"])).backward()
    through_boundary(outputs, boundary)
    torch.testing.assert_close(x.grad, torch.full_like(x, 2.0 * (1 + 2 + 3)))


def test_batches_in_a_row_are_the_whole_batch():
    whole = filled()
    assert_same(PeerOutputs.cat([pick_images(whole, [0, 1]), pick_images(whole, [2, 3, 4, 5])]), whole)
    assert PeerOutputs.cat([whole]) is whole


def test_peers_on_top_of_each_other_are_the_whole_group():
    whole = filled()
    assert_same(PeerOutputs.stack([pick_peers(whole, 0, 1), pick_peers(whole, 1, 3)]), whole)
    assert_same(PeerOutputs.stack([pick_peers(whole, p, p + 1) for p in range(P)]), whole)


@pytest.mark.parametrize("silent", [[], [0], [0, 2], [0, 1, 2]])
def test_silence_removes_the_gradient_of_exactly_the_peers_named(silent):
    boundary = filled(requires_grad=True).at_boundary()
    sum((leaf * leaf).sum() for leaf in boundary.tensors()).backward()
    before = change(boundary, lambda kind, batch, v: tree_map(lambda t: t if t.grad is None else t.grad.clone(), v))
    boundary.silence(silent)
    for name, (kind, _, gradient, _) in FIELDS.items():
        if not gradient:
            continue
        value, old = getattr(boundary, name), getattr(before, name)
        groups = value.values() if isinstance(value, dict) else [value]
        for group, earlier in zip(groups, old.values() if isinstance(old, dict) else [old], strict=True):
            for peer in range(P):
                found = group.grad if kind == "shared" else group.grad[peer] if kind == "stacked" else group[peer].grad
                was = earlier if kind == "shared" else earlier[peer]
                assert torch.equal(found, torch.zeros_like(was) if peer in silent and kind != "shared" else was), name
                assert was.abs().min() > 0


def test_silence_passes_over_what_has_no_gradient():
    boundary = filled().at_boundary()
    boundary.logits_PBC.sum().backward()
    boundary.silence([1])
    assert boundary.logits_PBC.grad.sum((1, 2)).tolist() == [B * C, 0, B * C]
    assert boundary.features[1].grad is None


LOGITS = torch.zeros(P, B, C)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"logits_PBC": torch.zeros(B, C)}, "logits have shape [6, 5]: give [P, B, C], with the peers first."),
        ({"logits_PBC": [1.0]}, "logits have shape list: give [P, B, C], with the peers first."),
        ({"logits_PBC": LOGITS.long()}, "logits have dtype torch.int64: give floating-point scores"),
        ({"features": (LOGITS[0],)}, "1 features for 3 peers: give one tensor per peer, or none."),
        (
            {"features": (LOGITS[0], LOGITS[0, :4], LOGITS[0])},
            "features of peer 1 have shape [4, 5]: give [B, ...] with B = 6 images, as in the logits.",
        ),
        ({"trunk_features": LOGITS[0, :2]}, "trunk features have shape [2, 5]: give [B, ...] with B = 6 images"),
        ({"maps": {"a": (LOGITS[0],) * 2}}, "2 maps for 3 peers: give one tensor per peer, or none."),
        ({"maps": {"a": (LOGITS[0],) * 2 + (LOGITS[0, :1],)}}, "maps of peer 2 have shape [1, 5]: give [B, ...]"),
        ({"head_logits": {"a": LOGITS[:, :2]}}, "head logits have shape [3, 2, 5]: give [P, B, ...] with B = 6 images"),
        ({"head_logits": {"a": LOGITS[:2]}}, "head logits have shape [2, 6, 5]: give [P, B, ...] with P = 3 peers"),
        ({"averaged_logits_PBC": LOGITS[:1]}, "averaged logits have shape [1, 6, 5]: give [P, B, ...] with P = 3"),
        ({"mixed_logits": LOGITS}, "mixed logits have shape [3, 6, 5]: give [B, ...] with B = 6 images"),
        ({"averaged_logits_PBC": LOGITS[:, :3]}, "averaged logits have shape [3, 3, 5]: give [P, B, ...] with B = 6"),
        ({"averaged_features": (LOGITS[0],)}, "1 averaged features for 3 peers: give one tensor per peer, or none."),
        ({"teacher_logits_KBC": LOGITS[:2, :, :3]}, "teacher logits have shape [2, 6, 3]: give [K, 6, 5], as the"),
        ({"teacher_logits_KBC": LOGITS[0]}, "teacher logits have shape [6, 5]: give [K, B, ...] with B = 6 images"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(given, sentence):
    assert sentence in refusal(lambda: PeerOutputs(**{"logits_PBC": LOGITS, **given}))
