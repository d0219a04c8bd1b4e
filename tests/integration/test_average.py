"""With `average`, what is scored, handed back and resumed is the moving average of the students' weights."""

import dataclasses
import json
import subprocess
import sys

import pytest
import torch
from interrupted_runs import cut_and_resumed, weights_of

from codistill.data import normalise
from codistill.errors import UserError
from codistill.training import load_student, read_config, train
from codistill.training.evaluate import evaluate_run
from codistill.training.student import load_group


@pytest.fixture(scope="module")
def averaged(quick):
    return dataclasses.replace(quick, method="dml", peers=2, epochs=2, average=0.9)


def scores_of(student, dataset):
    images = dataset.test
    x = normalise(images.images_NCHW, dataset.mean, dataset.std, "cpu")
    with torch.no_grad():
        logits_BC = student(x)
    wrong_B = logits_BC.argmax(1) != images.labels_N
    return 100 * float(wrong_B.float().mean()), float(torch.nn.functional.cross_entropy(logits_BC, images.labels_N))


@pytest.mark.parametrize("executor", ["loop", "fused", "recompute"])
def test_an_averaged_run_resumes_to_the_bit(averaged, digits, tmp_path, executor):
    cut_and_resumed(dataclasses.replace(averaged, executor=executor), digits, tmp_path)
    assert any(name.startswith("averages.") for name in weights_of(tmp_path / "cut"))


def test_the_average_is_scored_and_handed_back(averaged, digits, tmp_path):
    result = train(dataclasses.replace(averaged, out=tmp_path / "run"), dataset=digits)
    plain = train(dataclasses.replace(averaged, average=None, out=tmp_path / "plain"), dataset=digits)
    test = result.summary["last"]["test"]
    # Training does not notice; what is scored is another network.
    losses = [
        [json.loads(line)["train"]["loss_by_peer"] for line in (run / "metrics.jsonl").read_text().splitlines()]
        for run in (tmp_path / "run", tmp_path / "plain")
    ]
    assert losses[0] == losses[1]
    assert [p["nll"] for p in test["peers"]] != [p["nll"] for p in plain.summary["last"]["test"]["peers"]]
    assert evaluate_run(tmp_path / "run", dataset=digits)["peers"] == test["peers"]
    weights = weights_of(tmp_path / "run")
    config, group, _, _ = load_group(tmp_path / "run")
    assert config.average == 0.9
    for peer in range(2):
        student = load_student(tmp_path / "run", peer)
        for name, value in student.state_dict().items():
            assert torch.equal(value, weights[f"averages.networks.{peer}.{name}"])
            if value.is_floating_point():
                assert not torch.equal(value, weights[f"group.networks.{peer}.{name}"])
        assert torch.equal(student(torch.ones(2, 1, 8, 8)), group.student(peer)(torch.ones(2, 1, 8, 8)))
        error, nll = scores_of(student, digits)
        assert test["peers"][peer]["top1_error"] == pytest.approx(error, abs=1e-4)
        assert test["peers"][peer]["nll"] == pytest.approx(nll, rel=1e-5)


class ByHand:
    """Follows the weights after every step."""

    def __init__(self):
        self.mean, self.steps = {}, 0

    def on_step(self, session, step, steps):
        decay = min(1 - 1 / (self.steps + 1), 0.9)
        for name, now in session.executor.group.state_dict().items():
            old = self.mean.get(name, torch.zeros_like(now))
            self.mean[name] = decay * old + (1 - decay) * now if now.is_floating_point() else now.clone()
        self.steps += 1


def test_the_average_of_a_run_follows_every_step(averaged, digits, tmp_path):
    by_hand = ByHand()
    train(dataclasses.replace(averaged, out=tmp_path / "run"), dataset=digits, observers=[by_hand])
    weights = weights_of(tmp_path / "run")
    assert by_hand.steps == 2 * 5
    for name, value in by_hand.mean.items():
        torch.testing.assert_close(weights[f"averages.{name}"], value, msg=name)


@pytest.mark.parametrize("average", [1.0, -0.5, float("nan")])
def test_a_decay_out_of_range_is_refused(averaged, digits, tmp_path, average):
    with pytest.raises(UserError, match="average"):
        train(dataclasses.replace(averaged, average=average, out=tmp_path / "run"), dataset=digits)
    assert not (tmp_path / "run").exists()


def test_the_command_line_takes_a_decay(tmp_path):
    command = [
        sys.executable, "-m", "codistill", "train", "--method", "dml", "--model", "resnet8_tiny", "--peers", "2",
        "--data", "digits", "--epochs", "1", "--device", "cpu", "--average", "0.99", "--out", str(tmp_path / "run"),
    ]  # fmt: skip
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert read_config(tmp_path / "run" / "config.yaml").average == 0.99
    assert any(name.startswith("averages.") for name in weights_of(tmp_path / "run"))
