"""Weights and order for classes of few images, smoothed labels, and the figures in which every class counts alike."""

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, f1_score, roc_auc_score
from torch.nn import functional

from codistill import methods
from codistill.errors import UserError
from codistill.losses import cross_entropy
from codistill.rundir import Score
from codistill.training.class_balance import balanced_draw, class_weights, sample_weights
from codistill.training.metrics import EvaluationMeter
from codistill.types import GroupShape, PeerOutputs, Progress

LABELS = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
CPU = torch.device("cpu")


def test_balanced_weights_are_in_inverse_proportion_and_have_mean_one():
    weights_C = class_weights("balanced", LABELS, 3)
    torch.testing.assert_close(weights_C, torch.tensor([100 / 180, 100 / 90, 100 / 30]))
    assert sample_weights(weights_C, LABELS).mean() == pytest.approx(1)


def test_given_weights_are_scaled_to_mean_one_and_mixed_labels_have_the_mean_weight():
    weights_C = class_weights((1.0, 2.0, 3.0), LABELS, 3)
    torch.testing.assert_close(weights_C, torch.tensor([1.0, 2.0, 3.0]) / 1.5)
    mixed = torch.tensor([[0.5, 0.0, 0.5]])
    torch.testing.assert_close(sample_weights(weights_C, mixed), torch.tensor([2.0 / 1.5]))


@pytest.mark.parametrize(
    ("weights", "says"), [((1.0, 2.0), "2 class_weights for 3 classes"), ((0.0, 0.0, 0.0), "0 for all classes")]
)
def test_weights_that_do_not_fit_are_refused(weights, says):
    with pytest.raises(UserError, match=says):
        class_weights(weights, LABELS, 3)
    assert class_weights("none", LABELS, 3) is None


def test_a_balanced_draw_shows_every_class_and_every_image_of_a_class_equally_often():
    draw = torch.Generator().manual_seed(0)
    drawn_N = balanced_draw(LABELS, 3, draw)
    assert len(drawn_N) == len(LABELS)
    assert sorted(LABELS[drawn_N].bincount().tolist()) == [33, 33, 34]
    times_N = drawn_N.bincount(minlength=100)
    for c, (least, most) in enumerate([(0, 1), (1, 2), (3, 4)]):
        assert (times_N[LABELS == c].min(), times_N[LABELS == c].max()) == (least, most)
    again = balanced_draw(LABELS, 3, torch.Generator().manual_seed(0))
    assert torch.equal(drawn_N, again)
    assert not torch.equal(drawn_N, balanced_draw(LABELS, 3, draw))


@pytest.mark.parametrize("soft", [False, True])
def test_smoothed_cross_entropy_is_torchs(soft):
    draw = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(6, 5, generator=draw), torch.tensor([0, 1, 2, 3, 4, 0])
    if soft:
        labels = torch.rand(6, 5, generator=draw).softmax(-1)
    expected = functional.cross_entropy(logits, labels, label_smoothing=0.2, reduction="none")
    torch.testing.assert_close(cross_entropy(logits, labels, 0.2), expected)


NAMES = [name for name in methods.METHODS if name not in ("kd", "pcl", "baseline")]


@pytest.mark.parametrize("name", NAMES)
def test_every_method_smooths_its_cross_entropies_and_nothing_else(name):
    shape = GroupShape(
        2 if name == "switokd" else 3,
        5,
        (8, 8, 8)[: 2 if name == "switokd" else 3],
        6,
        name in ("one", "cl_ilr", "clnn"),
    )
    method = methods.build(name, shape, generator=torch.Generator().manual_seed(0))
    draw, labels = torch.Generator().manual_seed(1), torch.tensor([0, 1, 2, 3])
    P = shape.peers
    outputs = PeerOutputs(
        torch.randn(P, 4, 5, generator=draw), tuple(torch.randn(4, 8, generator=draw) for _ in range(P)),
        torch.randn(4, 6, generator=draw),
    )  # fmt: skip
    try:
        plain = method(outputs, labels, Progress(1, 2))
    except UserError:
        pytest.skip("needs more than logits and features")
    method.label_smoothing = 0.3
    smoothed = method(outputs, labels, Progress(1, 2))
    expected = functional.cross_entropy(outputs.logits_PBC.flatten(0, 1), labels.repeat(P), label_smoothing=0.3) * P
    torch.testing.assert_close(smoothed.parts["ce"], expected)
    assert smoothed.parts["ce"] != plain.parts["ce"]
    for part in set(plain.parts) - {"ce", "ce_ensemble"}:
        torch.testing.assert_close(smoothed.parts[part], plain.parts[part])
    if "ce_ensemble" in plain.parts:
        assert smoothed.parts["ce_ensemble"] != plain.parts["ce_ensemble"]


def test_figures_are_those_of_scikit_learn():
    draw = torch.Generator().manual_seed(3)
    logits_PBC = torch.randn(2, 100, 4, generator=draw)
    logits_PBC[1, :, :3] += 2 * functional.one_hot(LABELS, 3)
    meter = EvaluationMeter(2, 4, CPU, "auroc")
    for part in torch.arange(100).split(33):
        meter.update(logits_PBC[:, part], LABELS[part])
    found = meter.result()
    assert found.leader_peer == 1
    labels = LABELS.numpy()
    for peer, score in enumerate(found.peers):
        predicted, prob = logits_PBC[peer].argmax(1).numpy(), logits_PBC[peer].softmax(-1).numpy()
        assert score.macro_f1 == pytest.approx(100 * f1_score(labels, predicted, average="macro"))
        areas = [roc_auc_score(labels == c, prob[:, c]) for c in range(3)]
        assert score.auroc == pytest.approx(100 * np.mean(areas))
        recalls = confusion_matrix(labels, predicted, labels=range(4), normalize="true").diagonal()[:3]
        assert score.balanced_error == pytest.approx(100 * (1 - np.mean(recalls)))
    shown = logits_PBC[1].argmax(1).tolist()
    assert found.confusion == tuple(map(tuple, confusion_matrix(labels, shown, labels=range(4)).tolist()))


def test_the_leader_is_the_best_by_the_headline_figure():
    labels = torch.tensor([0] * 9 + [1])
    always = torch.tensor([[4.0, 0.0]]).expand(10, 2)
    fair = torch.stack([torch.tensor([0.0, 1.0]) if i in (0, 1, 9) else torch.tensor([1.0, 0.0]) for i in range(10)])
    leaders = {}
    for figure in ("error", "balanced_error", "macro_f1"):
        meter = EvaluationMeter(2, 2, CPU, figure)
        meter.update(torch.stack([always, fair]), labels)
        leaders[figure] = meter.result().leader_peer
    assert leaders == {"error": 0, "balanced_error": 1, "macro_f1": 1}


def test_a_figure_that_was_not_recorded_is_never_the_best():
    score = Score(top1_error=10.0, top5_error=None, nll=1.0, ece=2.0, macro_f1=80.0)
    assert [score.shortfall(f) for f in ("error", "macro_f1", "auroc")] == [10.0, 20.0, float("inf")]
