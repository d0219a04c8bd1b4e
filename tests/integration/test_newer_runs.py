"""Runs of pcl and switokd: resumed to the bit, and what is deployed is what was scored."""

import dataclasses
import json

import pytest
import torch
from interrupted_runs import cut_and_resumed, weights_of

from codistill.data import normalise
from codistill.errors import UserError
from codistill.methods.switokd import SwitOKD
from codistill.training import load_student, read_config, train
from codistill.training.evaluate import evaluate_run


@pytest.fixture(scope="module")
def short(quick):
    return dataclasses.replace(quick, model=("resnet8_tiny",), epochs=2, peers=2)


@pytest.fixture(scope="module")
def pcl_run(short, digits, tmp_path_factory):
    """The folder of a pcl run, and of the same run that was interrupted and resumed."""
    folder = tmp_path_factory.mktemp("pcl")
    config = dataclasses.replace(short, method="pcl", icl=True, method_options={"decay": 0.9})
    cut_and_resumed(config, digits, folder)
    return folder


def images_of(digits):
    return normalise(digits.test.images_NCHW, digits.mean, digits.std, "cpu")


def test_a_pcl_run_resumes_to_the_bit_with_its_averages(pcl_run):
    whole, cut = weights_of(pcl_run / "whole"), weights_of(pcl_run / "cut")
    averages = [name for name in whole if name.startswith("averages")]
    assert len(averages) == sum(name.startswith("group") for name in whole) > 0
    assert all(torch.equal(whole[name], cut[name]) for name in averages)


@torch.no_grad()
@pytest.mark.parametrize("peer", [0, 1])
def test_the_student_of_a_pcl_run_is_the_average_and_is_what_was_scored(pcl_run, digits, peer):
    run, weights = pcl_run / "cut", weights_of(pcl_run / "cut")
    student = load_student(run, peer).state_dict()
    for key, value in student.items():
        assert torch.equal(value, weights[f"averages.networks.{peer}.{key}"])
    assert not torch.equal(student["fc.weight"], weights[f"group.networks.{peer}.fc.weight"])
    score = json.loads((run / "summary.json").read_text())["last"]["test"]["peers"][peer]
    logits = load_student(run, peer)(images_of(digits))
    assert score["nll"] == pytest.approx(
        torch.nn.functional.cross_entropy(logits, digits.test.labels_N).item(), rel=1e-5
    )
    wrong = (logits.argmax(-1) != digits.test.labels_N).float().mean().item()
    assert score["top1_error"] == pytest.approx(100 * wrong, rel=1e-5)


@torch.no_grad()
def test_pcls_own_ensemble_is_scored_on_the_features_of_the_averages(pcl_run, digits):
    record = json.loads((pcl_run / "whole" / "summary.json").read_text())["last"]["test"]
    students = [load_student(pcl_run / "whole", peer) for peer in (0, 1)]
    features = []
    for student in students:
        student.fc.register_forward_pre_hook(lambda module, args: features.append(args[0]))
        student(images_of(digits))
    classifier = weights_of(pcl_run / "whole")["method.classifier.weight"]
    nll = torch.nn.functional.cross_entropy(torch.cat(features, dim=1) @ classifier.T, digits.test.labels_N)
    assert record["ensemble_own"]["nll"] == pytest.approx(nll.item(), rel=1e-5)
    assert evaluate_run(pcl_run / "whole", dataset=digits)["ensemble_own"] == pytest.approx(record["ensemble_own"])


@pytest.fixture(scope="module")
def switokd_run(short, digits, tmp_path_factory):
    """The same of switokd; two epochs are too short for a gap, so the labels of a batch say whether t is paused."""
    folder = tmp_path_factory.mktemp("switokd")
    config = dataclasses.replace(short, method="switokd", model=("resnet14_tiny", "resnet8_tiny"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SwitOKD, "_paused", lambda self, rows, prob_PNC: rows.labels.sum() % 2 == 0)
        cut_and_resumed(config, digits, folder)
    return folder


def test_a_switokd_run_resumes_to_the_bit_and_says_how_often_the_larger_network_paused(switokd_run):
    lines = [json.loads(line) for line in (switokd_run / "cut" / "metrics.jsonl").read_text().splitlines()]
    shares = [line["diagnostics"]["paused"] for line in lines]
    assert all(0 <= share <= 1 for share in shares)
    assert 0 < sum(shares) < len(shares)
    for line in lines:
        assert line["train"]["loss"] == pytest.approx(sum(line["train"]["loss_by_peer"]), rel=1e-5)


def test_the_student_of_a_switokd_run_is_the_smaller_network(switokd_run):
    summary = json.loads((switokd_run / "cut" / "summary.json").read_text())
    assert summary["leader"]["peer"] == 1
    student, larger = load_student(switokd_run / "cut"), load_student(switokd_run / "cut", 0)
    assert sum(p.numel() for p in student.parameters()) < sum(p.numel() for p in larger.parameters())


def test_two_students_are_what_switokd_takes_where_none_are_named(short, digits, tmp_path):
    config = dataclasses.replace(short, method="switokd", peers=None, epochs=1, out=tmp_path / "run")
    summary = train(config, dataset=digits).summary
    assert read_config(config.out / "config.yaml").peers == 2
    assert summary["leader"] == {"peer": 1, "rule": "group leader"}
    with pytest.raises(UserError, match="peers 3: the method 'switokd' trains 2; use 'ind' for several, or 'dml'"):
        train(dataclasses.replace(config, peers=3), dataset=digits)
    with pytest.raises(UserError, match="switokd with peers that share a trunk"):
        train(dataclasses.replace(config, group="branches", out=tmp_path / "other"), dataset=digits)
