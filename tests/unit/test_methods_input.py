"""What methods refuse, in one sentence each, and what they accept beyond images."""

import dataclasses
import inspect

import pytest
import torch

from codistill import methods
from codistill.types import GroupShape, PeerOutputs, Progress
from refusals import refusal

P, B, C, D = 3, 5, 4, 16
SHAPE = GroupShape(P, C, (D,) * P, trunk_width=6, shares_trunk=True, teachers=1)
LABELS = torch.tensor([0, 3, 1, 2, 3])
SPREAD = LABELS.unsqueeze(1).expand(B, 2)
PROGRESS = Progress(1, 10)
NAMES = [n for n in methods.METHODS if n != "baseline"]


def outputs(seed=0, positions=(), **changes):
    g = torch.Generator().manual_seed(seed)
    values = {
        "logits_PBC": torch.randn(P, B, *positions, C, generator=g),
        "features": tuple(torch.randn(B, *positions, D, generator=g) for _ in range(P)),
        "trunk_features": torch.randn(B, 6, generator=g),
        "teacher_logits_KBC": torch.randn(1, B, *positions, C, generator=g),
    }
    return PeerOutputs(**{**values, **changes})


def method_of(name, **options):
    return methods.build(name, SHAPE, generator=torch.Generator().manual_seed(3), **options)


def any_method(name):
    """The method in evaluation mode, for three students or the most that it takes."""
    kind = methods.METHODS[name]
    peers, shares = min(P, kind.max_peers or P), kind.needs.trunk or kind.needs.rescale_shared_gradients
    shape = dataclasses.replace(SHAPE, peers=peers, feature_widths=(D,) * peers, shares_trunk=shares)
    return methods.build(name, shape, generator=torch.Generator().manual_seed(3)).eval()


def outputs_for(method, positions=()):
    """All that a method may read, of as many students as it has."""
    peers, whole = method.shape.peers, outputs(positions=positions)
    averaged = torch.randn(P, B, *positions, C, generator=torch.Generator().manual_seed(1))
    return dataclasses.replace(
        whole,
        logits_PBC=whole.logits_PBC[:peers],
        features=whole.features[:peers],
        averaged_logits_PBC=averaged[:peers],
    )


def test_a_peer_with_nan_is_named():
    logits = torch.zeros(P, B, C)
    logits[1, 2, 3] = float("nan")
    says = refusal(lambda: method_of("dml")(PeerOutputs(logits), LABELS, PROGRESS))
    assert says.startswith("logits of peer 1 hold NaN or infinity")


def test_large_logits_whose_sum_overflows_are_not_taken_for_infinite():
    logits = torch.full((P, B, C), 3e38)
    assert torch.isfinite(method_of("ind")(PeerOutputs(logits), LABELS, PROGRESS).loss)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (torch.tensor([0, 1, 2, 3, 4]), "label 4 with 4 classes: labels must be 0 to 3"),
        (torch.tensor([0, 1, 2, 3, -1]), "label -1 with 4 classes"),
        (LABELS.int(), "labels have dtype torch.int32"),
        (LABELS[:4], "labels have shape [4]: give [5]"),
        (torch.zeros(5, 3), "labels have shape [5, 3]: give [5, 4]"),
        (torch.full((5, 4), 0.3), "do not sum to one"),
        (torch.tensor([[1.5, -0.5, 0, 0]] * 5), "negative"),
        (LABELS.to("meta"), "labels are on meta, logits on cpu"),
    ],
)
def test_wrong_labels_are_refused(labels, says):
    assert says in refusal(lambda: method_of("ind")(outputs(), labels, PROGRESS))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: PeerOutputs(torch.zeros(3, 4)), "logits have shape [3, 4]: give [P, B, C]"),
        (lambda: PeerOutputs(torch.zeros(3, 4, 5, dtype=torch.int64)), "logits have dtype torch.int64"),
        (lambda: PeerOutputs(torch.zeros(3, 4, 5), (torch.zeros(4, 2),)), "1 features for 3 peers"),
        (lambda: PeerOutputs(torch.zeros(1, 4, 5), (torch.zeros(3, 2),)), "features of peer 0 have shape [3, 2]"),
        (lambda: PeerOutputs(torch.zeros(1, 4, 5), (), torch.zeros(3, 2)), "trunk features have shape [3, 2]"),
        (
            lambda: PeerOutputs(torch.zeros(1, 4, 5), (), None, torch.zeros(1, 4, 6)),
            "teacher logits have shape [1, 4, 6]",
        ),
        (lambda: Progress(1, 0), "progress 1 of 0 epochs"),
        (lambda: Progress(-1, 10), "progress -1 of 10 epochs"),
    ],
)
def test_outputs_of_the_wrong_kind_are_refused(make, says):
    assert says in refusal(make)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: methods.build("okdip", SHAPE), "unknown method 'okdip': did you mean 'okddip'"),
        (lambda: method_of("dml", temprature=1), "unknown option of dml 'temprature': did you mean 'temperature'"),
        (lambda: method_of("dml", temperature=0), "temperature 0.0: it must be greater than 0"),
        (lambda: method_of("kdcl_naive", temperature=-1.0), "temperature -1.0"),
        (lambda: method_of("one", temperature=float("inf")), "temperature inf: it must be greater than 0 and finite"),
        (lambda: method_of("kd", weight=float("inf")), "weight inf: it must be 0 or more, and finite"),
        (lambda: method_of("kdcl_naive", weight=-1.0), "weight -1.0: it must be 0 or more"),
        (lambda: method_of("dml", target="others"), "target 'others': choose one of 'pairwise', 'mean'"),
        (lambda: method_of("dml", updates="alternating"), "peers that share a trunk"),
        (lambda: method_of("one", ramp_up=80), "ramp_up 80.0: it is the share of the run"),
        (lambda: method_of("okddip", ablation="max"), "ablation 'max'"),
        (lambda: method_of("okddip", preset="paper"), "preset 'paper'"),
        (lambda: method_of("okddip", preset="released", gradient="none"), "gradient 'none' with preset 'released'"),
        (lambda: method_of("okddip", attention_width=0), "attention_width 0"),
        (lambda: method_of("okddip", entropy_weight=-0.1), "entropy_weight -0.1"),
        (lambda: method_of("kdcl_general", held_out=0), "held_out 0"),
        (lambda: method_of("kd", teacher_weights=[0.9]), "summing to one"),
        (lambda: method_of("kd", teacher_weights=[float("nan")]), "summing to one"),
        (lambda: methods.build("kdcl_naive", GroupShape(1, C, (D,))), "KDCLNaive with 1 peer(s): it needs at least 2"),
        (lambda: methods.build("kd", GroupShape(1, C, (D,))), "kd without a teacher"),
        (lambda: methods.build("dml", GroupShape(1, C, (D,))), "DML with 1 peer(s): it needs at least 2"),
        (lambda: methods.build("baseline", SHAPE), "use the method 'ind'"),
        (lambda: methods.build("one", GroupShape(2, C, (D, D))), "ONE needs peers that share a trunk"),
        (lambda: methods.build("clnn", GroupShape(2, C, (D, D))), "use a branched group or a tree"),
        (
            lambda: methods.build("okddip", GroupShape(3, C, (8, 16, 8)), ablation="asymmetry"),
            "'asymmetry' with feature widths [8, 16, 8]",
        ),
        (lambda: methods.build("nowhere.py:Mine", SHAPE), "there is no file nowhere.py"),
        (lambda: method_of("ind")(PeerOutputs(torch.zeros(2, B, C)), LABELS, PROGRESS), "logits of 2 peers"),
        (
            lambda: method_of("okddip")(outputs(features=()), LABELS, PROGRESS),
            "needs features, and got none: give one tensor [B, D] per peer",
        ),
        (
            lambda: method_of("one")(outputs(trunk_features=None), LABELS, PROGRESS),
            "needs the shared trunk's features, and got none: give [B, D]",
        ),
        (lambda: method_of("kd")(outputs(teacher_logits_KBC=None), LABELS, PROGRESS), "reads the teachers' logits"),
        (lambda: method_of("ind")(outputs(), LABELS, PROGRESS, torch.ones(3)), "sample weights have shape [3]"),
        (lambda: method_of("ind")(outputs(), LABELS, PROGRESS, -torch.ones(B)), "sample weights that are below 0"),
        (lambda: method_of("ind")(outputs(), LABELS, PROGRESS, torch.full((B,), float("inf"))), "infinite or NaN"),
        (lambda: method_of("ind")(outputs(), LABELS, PROGRESS, torch.ones(B).to("meta")), "sample weights are on meta"),
        (lambda: method_of("okddip")(outputs(features=(torch.zeros(B, 8),) * P), LABELS, PROGRESS), "give [5, 16]"),
        (
            lambda: method_of("one")(outputs(trunk_features=torch.zeros(B, 7)), LABELS, PROGRESS),
            "give [5, 6], the width",
        ),
        (
            lambda: method_of("okddip")(
                outputs(positions=(2,), features=(torch.zeros(B, 3, D),) * P), SPREAD, PROGRESS
            ),
            "features of peer 0 have shape [5, 3, 16]: give [5, 2, 16] or [5, 16]",
        ),
        (lambda: method_of("kd")(outputs(teacher_logits_KBC=torch.zeros(2, B, C)), LABELS, PROGRESS), "2 teachers"),
        (
            lambda: method_of("kdcl_minlogit")(outputs(), torch.full((B, C), 0.25), PROGRESS),
            "its target is defined by the one true class",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(call, says):
    assert says in refusal(call)


def test_a_users_class_must_be_a_method(tmp_path):
    (tmp_path / "mine.py").write_text("class Mine:\n    pass\n")
    assert "is not a subclass" in refusal(lambda: methods.build(f"{tmp_path / 'mine.py'}:Mine", SHAPE))
    assert "did you mean 'Mine'" in refusal(lambda: methods.build(f"{tmp_path / 'mine.py'}:Mime", SHAPE))


def test_okddip_with_two_peers_works_and_has_a_caution():
    (caution,) = methods.build("okddip", GroupShape(2, C, (D, D))).cautions()
    assert "attends to itself alone" in caution


@pytest.mark.parametrize("name", NAMES)
def test_positions_of_a_dense_prediction_count_like_images(name):
    method = any_method(name)
    dense = outputs_for(method, positions=(2, 3))
    labels = torch.randint(C, (B, 2, 3), generator=torch.Generator().manual_seed(9))
    rows = PeerOutputs(
        dense.logits_PBC.reshape(len(dense.logits_PBC), -1, C),
        tuple(h.reshape(-1, D) for h in dense.features),
        dense.trunk_features.repeat_interleave(6, 0),
        dense.teacher_logits_KBC.reshape(1, -1, C),
        averaged_logits_PBC=dense.averaged_logits_PBC.reshape(len(dense.logits_PBC), -1, C),
    )
    a, b = method(dense, labels, PROGRESS), method(rows, labels.reshape(-1), PROGRESS)
    assert a.loss.item() == pytest.approx(b.loss.item(), rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_ignored_rows_and_rows_of_weight_zero_count_for_nothing(name):
    method = any_method(name)
    out = outputs_for(method)
    kept = PeerOutputs(
        out.logits_PBC[:, :4],
        tuple(h[:4] for h in out.features),
        out.trunk_features[:4],
        out.teacher_logits_KBC[:, :4],
        averaged_logits_PBC=out.averaged_logits_PBC[:, :4],
    )
    expected = method(kept, LABELS[:4], PROGRESS).loss.item()
    ignored = torch.cat([LABELS[:4], torch.tensor([-100])])
    assert method(out, ignored, PROGRESS, ignore_index=-100).loss.item() == pytest.approx(expected, rel=1e-5)
    weights = torch.tensor([1.0, 1, 1, 1, 0])
    assert method(out, LABELS, PROGRESS, weights).loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", [n for n in NAMES if methods.METHODS[n].soft_labels])
def test_smoothed_labels_and_sample_weights_in_half_precision_are_what_they_are_in_fp32(name, dtype):
    method = any_method(name)
    soft = torch.nn.functional.one_hot(LABELS, C) * 0.8 + 0.05
    weights = torch.tensor([1, 0.1, 0, 2, 0.7])
    expected = method(outputs_for(method), soft, PROGRESS, weights).loss.item()
    found = method(outputs_for(method), soft.to(dtype), PROGRESS, weights.to(dtype)).loss
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize("name", NAMES)
def test_one_hot_labels_as_probabilities_equal_class_indices_where_they_are_allowed(name):
    method = any_method(name)
    soft = torch.nn.functional.one_hot(LABELS, C).float()
    if not method.soft_labels:
        assert "one true class" in refusal(lambda: method(outputs_for(method), soft, PROGRESS))
        return
    hard_loss = method(outputs_for(method), LABELS, PROGRESS).loss.item()
    assert method(outputs_for(method), soft, PROGRESS).loss.item() == pytest.approx(hard_loss, rel=1e-6)


def test_a_users_file_may_use_dataclasses_and_be_inspected(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from codistill.methods import Method\n\n\n"
        "@dataclass\n"
        "class Setting:\n"
        "    value: float = 1.0\n\n\n"
        "class Mine(Method):\n"
        "    pass\n"
    )
    mine = methods.find(f"{tmp_path / 'mine.py'}:Mine")
    assert "class Mine" in inspect.getsource(mine)
