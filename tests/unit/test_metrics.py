"""Scores against numbers worked out by hand or by plain loops."""

import itertools
import math

import pytest
import torch

from codistill.training.metrics import EpochMeter, EvaluationMeter
from codistill.types import StepOutput

CPU = torch.device("cpu")


def meter_of(logits_PNC, labels_N, batch):
    meter = EvaluationMeter(logits_PNC.shape[0], logits_PNC.shape[2], CPU)
    for start in range(0, len(labels_N), batch):
        meter.update(logits_PNC[:, start : start + batch], labels_N[start : start + batch])
    return meter.result().to_json()


@pytest.fixture
def example():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, 37, 7, generator=generator) * 2, torch.randint(7, (37,), generator=generator)


def test_scores_by_hand():
    # Two students, two images, two classes; probabilities 3/4 and 1/4 from logits log 3 and 0.
    z = math.log(3.0)
    logits = torch.tensor([[[z, 0.0], [0.0, z]], [[z, 0.0], [z, 0.0]]])
    result = meter_of(logits, torch.tensor([0, 1]), 2)
    assert [p["top1_error"] for p in result["peers"]] == [0, 50]
    assert result["peers"][0]["nll"] == pytest.approx(-math.log(0.75))
    assert result["peers"][1]["nll"] == pytest.approx(-(math.log(0.75) + math.log(0.25)) / 2)
    assert result["mean"]["top1_error"] == 25
    assert result["leader_peer"] == 0
    # Student 0 is always right with confidence 3/4; student 1 is right half the time with the same confidence.
    assert [p["ece"] for p in result["peers"]] == pytest.approx([25, 25], abs=1e-4)
    # The students agree on image 0; on image 1 the vectors (1/4, 3/4), (3/4, 1/4) lie sqrt(1/2) apart.
    assert result["diversity"]["distance"] == pytest.approx(math.sqrt(0.5) / 2, abs=1e-6)
    assert result["diversity"]["disagreement"] == 50
    # The mean of image 1 is (1/2, 1/2): its NLL is log 2.
    assert result["ensemble"]["nll"] == pytest.approx((-math.log(0.75) + math.log(2)) / 2)
    assert result["peers"][0]["top5_error"] is None


def test_every_image_weighs_the_same_however_the_batches_fall(example):
    logits, labels = example
    whole, parts = meter_of(logits, labels, 37), meter_of(logits, labels, 16)
    assert whole["mean"] == pytest.approx(parts["mean"])
    assert whole["diversity"] == pytest.approx(parts["diversity"])
    expected = 100 * (logits.argmax(-1) != labels).double().mean(1)
    assert [p["top1_error"] for p in parts["peers"]] == pytest.approx(expected.tolist())


def test_scores_agree_with_plain_loops(example):
    logits, labels = example
    result = meter_of(logits, labels, 10)
    prob = logits.double().softmax(-1)
    pairs = list(itertools.combinations(range(3), 2))
    distance = sum((prob[a, n] - prob[b, n]).norm().item() for a, b in pairs for n in range(37)) / (3 * 37)
    differ = sum(bool(prob[a, n].argmax() != prob[b, n].argmax()) for a, b in pairs for n in range(37)) / (3 * 37)
    assert result["diversity"]["distance"] == pytest.approx(distance, rel=1e-5)
    assert result["diversity"]["disagreement"] == pytest.approx(100 * differ)
    mean = prob.mean(0)
    assert result["ensemble"]["nll"] == pytest.approx(-mean[range(37), labels].log().mean().item(), rel=1e-5)
    top5 = [labels[n].item() in mean[n].topk(5).indices.tolist() for n in range(37)]
    assert result["ensemble"]["top5_error"] == pytest.approx(100 * (1 - sum(top5) / 37))
    by_logit = logits.double().mean(0).log_softmax(-1)
    assert result["ensemble_logits"]["nll"] == pytest.approx(-by_logit[range(37), labels].mean().item(), rel=1e-5)


def test_the_methods_own_ensemble_is_scored_where_there_is_one(example):
    logits, labels = example
    meter = EvaluationMeter(3, 7, CPU)
    own = torch.randn(37, 7, generator=torch.Generator().manual_seed(2))
    for part in (slice(0, 20), slice(20, 37)):
        meter.update(logits[:, part], labels[part], own[part])
    result = meter.result().to_json()
    alone = meter_of(own.unsqueeze(0), labels, 37)
    assert result["ensemble_own"] == pytest.approx(alone["peers"][0])
    assert result["ensemble_own"]["nll"] != pytest.approx(result["ensemble_logits"]["nll"])
    assert {k: v for k, v in result.items() if k != "ensemble_own"} == {
        k: v for k, v in meter_of(logits, labels, 20).items() if k != "ensemble_own"
    }
    assert meter_of(logits, labels, 20)["ensemble_own"] is None


def test_calibration_error_agrees_with_plain_loops(example):
    logits, labels = example
    result = meter_of(logits, labels, 10)
    confidence, predicted = logits.double().softmax(-1).max(-1)
    for peer in range(3):
        total = 0.0
        for k in range(15):
            inside = [n for n in range(37) if k / 15 < confidence[peer, n] <= (k + 1) / 15]
            gap = sum(float(predicted[peer, n] == labels[n]) - confidence[peer, n].item() for n in inside)
            total += abs(gap)
        assert result["peers"][peer]["ece"] == pytest.approx(100 * total / 37, rel=1e-4)
    assert sum(result["reliability"]["leader"]["count"]) == 37


def test_a_named_leader_is_kept_and_an_unnamed_one_has_the_lowest_error(example):
    logits, labels = example
    meter = EvaluationMeter(3, 7, CPU)
    logits[1].scatter_(1, labels[:, None], 50.0)
    meter.update(logits, labels)
    assert meter.result().leader_peer == 1
    assert meter.result(2).leader == meter.result().peers[2]


def test_one_network_has_no_diversity_and_is_its_own_ensemble(example):
    logits, labels = example
    result = meter_of(logits[:1], labels, 37)
    assert result["diversity"] is None
    # pytest compares no None.
    ensemble, alone = ({**score, "auroc": 0.0} for score in (result["ensemble"], result["peers"][0]))
    assert ensemble == pytest.approx(alone, rel=1e-5)


def test_training_error_counts_images_not_batches():
    meter = EpochMeter(1, CPU)
    step = StepOutput(torch.tensor(2.0), torch.tensor([2.0]), {"ce": torch.tensor(1.0)}, {"a": torch.ones(2, 2)})
    meter.update(step, torch.tensor([[[1.0, 0.0]] * 8]), torch.zeros(8, dtype=torch.int64))
    meter.update(step, torch.tensor([[[1.0, 0.0]] * 2]), torch.ones(2, dtype=torch.int64))
    train, diagnostics = meter.result()
    assert train.error_by_peer == pytest.approx((20.0,))
    assert train.loss == 2
    assert train.parts == {"ce": 1}
    assert diagnostics == {"a": [[1, 1], [1, 1]]}


def test_a_smaller_last_batch_weighs_by_its_images():
    meter = EpochMeter(1, CPU)
    for loss, images in ((1.0, 9), (11.0, 1)):
        step = StepOutput(torch.tensor(loss), torch.tensor([loss]), {"ce": torch.tensor(loss)}, {})
        meter.update(step, torch.zeros(1, images, 2), torch.zeros(images, dtype=torch.int64))
    train, _ = meter.result()
    assert (train.loss, train.loss_by_peer, train.parts) == (2.0, (2.0,), {"ce": 2.0})


def test_scores_of_diverged_students_are_nan_and_not_an_error():
    logits = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0))
    logits[1, 3, 2] = float("nan")
    peers = meter_of(logits, torch.zeros(5, dtype=torch.int64), 5)["peers"]
    assert math.isfinite(peers[0]["nll"])
    assert math.isnan(peers[1]["nll"])
