"""Runs with other optimizers, frozen layers, accumulated gradients, half precision: the same numbers after a resume."""

import dataclasses
import json

import pytest
import torch
from interrupted_runs import cut_and_resumed, losses_of, weights_of

from codistill import data
from codistill.config import OptimConfig
from codistill.errors import UserError
from codistill.methods.kdcl import KDCLGeneral
from codistill.rundir import read_epochs
from codistill.training import load_student, train
from codistill.training.checkpoint import read_checkpoint
from codistill.training.dry_run import dry_run
from codistill.training.evaluate import evaluate_run

ADAMW = OptimConfig(name="adamw", lr=0.003, decay="matrices", head_lr=10, layer_decay=0.75, clip_grad=0.5)
COSINE = dataclasses.replace(ADAMW, schedule="cosine", min_lr=1e-4, options={"betas": [0.9, 0.95], "eps": 1e-6})
TINY = {"model": ("resnet8_tiny",), "method": "dml", "peers": 2}
WEIGHTS = (0.5, *[1.0] * 9)


@pytest.mark.parametrize("executor", ["loop", "fused", "recompute"])
@pytest.mark.parametrize(
    "change",
    [
        {"optim": COSINE},
        {"freeze": ("conv1", "bn1", "layer1"), "freeze_epochs": 1, "optim": ADAMW},
        {"accumulate": 3, "average": 0.9, "class_weights": WEIGHTS, "sampler": "balanced", "label_smoothing": 0.1},
        # Few images: convolutions in half precision are slow on CPUs.
        {"amp": "fp16", "optim": ADAMW, "train_subset": 100, "batch_size": 32},
    ],
    ids=["adamw", "freeze", "accumulate", "fp16"],
)
def test_a_run_resumes_to_the_bit(quick, digits, tmp_path, executor, change):
    config = dataclasses.replace(quick, executor=executor, threads=1, **{**TINY, **change})
    cut_and_resumed(config, digits, tmp_path)
    # So few steps may all fit the scale of half precision; its count of them shows that it went on.
    assert scaler_of(tmp_path / "cut") == scaler_of(tmp_path / "whole")


def scaler_of(run):
    return read_checkpoint(run).state.get("scaler")


@pytest.mark.parametrize("change", [{"optim": COSINE}, {"freeze": ("conv1", "bn1", "layer1"), "freeze_epochs": 1}])
def test_executors_agree(quick, digits, tmp_path, change):
    losses = []
    for executor in ("loop", "fused", "recompute"):
        config = dataclasses.replace(quick, executor=executor, threads=1, out=tmp_path / executor, **{**TINY, **change})
        train(config, dataset=digits)
        losses.append([line["loss_by_peer"] for line in losses_of(tmp_path / executor)])
    for other in losses[1:]:
        for ours, theirs in zip(other, losses[0], strict=True):
            assert ours == pytest.approx(theirs, rel=2e-2)


def test_frozen_layers_keep_weights_and_statistics_while_they_are_frozen(quick, digits, tmp_path):
    base = dataclasses.replace(quick, executor="loop", **TINY, freeze=("conv1", "bn1", "layer1"))
    result = train(dataclasses.replace(base, out=tmp_path / "whole"), dataset=digits)
    train(dataclasses.replace(base, epochs=1, freeze=(), out=tmp_path / "free"), dataset=digits)
    weights, free = weights_of(tmp_path / "whole"), weights_of(tmp_path / "free")
    for peer in range(2):
        for name in ("conv1.weight", "layer1.0.conv1.weight"):
            other = weights[f"group.networks.{1 - peer}.{name}"]
            assert not torch.equal(weights[f"group.networks.{peer}.{name}"], other)
        assert torch.equal(weights[f"group.networks.{peer}.bn1.running_mean"], torch.zeros(12))
        assert torch.equal(weights[f"group.networks.{peer}.bn1.weight"], torch.ones(12))
        assert not torch.equal(free[f"group.networks.{peer}.bn1.running_mean"], torch.zeros(12))
        assert not torch.equal(weights[f"group.networks.{peer}.layer2.0.bn1.running_mean"], torch.zeros(24))
    student = load_student(tmp_path / "whole", 0)
    assert result.summary["parameters"]["deployed"] == sum(p.numel() for p in student.parameters())
    assert result.summary["parameters"]["training"] < 2 * result.summary["parameters"]["deployed"]
    thawed = dataclasses.replace(base, freeze_epochs=1, out=tmp_path / "thawed")
    train(thawed, dataset=digits)
    assert not torch.equal(weights_of(tmp_path / "thawed")["group.networks.0.bn1.running_mean"], torch.zeros(12))


def test_accumulated_gradients_are_the_mean_over_batches_and_the_last_group_steps_too(quick, digits, tmp_path):
    seen = []

    class Watch:
        on_start = on_epoch = on_end = lambda self, *_: None

        def on_step(self, session, step, steps):
            seen.append((step, steps, session.executor.state()["steps"], session.optimizer.param_groups[0]["lr"]))

    optim = OptimConfig(lr=0.05, schedule="cosine")
    config = dataclasses.replace(quick, **TINY, accumulate=2, average=0.9, optim=optim, epochs=2, executor="loop")
    train(dataclasses.replace(config, out=tmp_path / "run"), dataset=digits, observers=[Watch()])
    assert [(step, done) for step, _, done, _ in seen[:5]] == [(1, 0), (2, 1), (3, 1), (4, 2), (5, 3)]
    rates = [rate for *_, rate in seen[:5]]
    assert rates[0] == rates[1] == 0.05
    assert rates[1] > rates[2] == rates[3] > rates[4]


def test_two_batches_of_one_step_give_the_weights_of_their_mean_gradient(quick, digits, tmp_path):
    config = dataclasses.replace(quick, method="baseline", peers=1, epochs=1, train_subset=128, accumulate=2)
    config = dataclasses.replace(
        config, executor="loop", model=("resnet8_tiny",), optim=OptimConfig(lr=0.05, momentum=0.0, nesterov=False)
    )
    gradients = []

    class Watch:
        on_epoch = on_end = lambda self, *_: None

        def on_start(self, session):
            self.before = [p.detach().clone() for p in session.executor.group.parameters()]

        def on_step(self, session, step, steps):
            gradients.append([p.grad.clone() for p in session.executor.group.parameters()])
            self.after = [p.detach().clone() for p in session.executor.group.parameters()]

    watch = Watch()
    train(dataclasses.replace(config, out=tmp_path / "run"), dataset=digits, observers=[watch])
    assert len(gradients) == 2
    assert not torch.equal(gradients[0][0], gradients[1][0])
    for old, new, mean in zip(watch.before, watch.after, gradients[1], strict=True):
        torch.testing.assert_close(new, old - 0.05 * (mean + 5e-4 * old))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"accumulate": 2, "method": "dml", "method_options": {"updates": "alternating"}}, "students that take turns"),
        ({"accumulate": 0}, "accumulate 0: it must be 1 or more"),
        ({"label_smoothing": 1.0}, "label_smoothing 1.0"),
        ({"patience": 0}, "patience 0"),
        ({"freeze_epochs": 2}, "freeze_epochs 2 without freeze"),
        ({"class_weights": (1.0, -1.0)}, "give a number of 0 or more per class"),
        ({"class_weights": (1.0, 1.0)}, "2 class_weights for 10 classes"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_written(quick, digits, tmp_path, change, says):
    with pytest.raises(UserError, match=says):
        train(dataclasses.replace(quick, out=tmp_path / "run", **change), dataset=digits)
    assert not (tmp_path / "run").exists()


def test_a_paused_student_and_half_precision_go_together(quick, digits, tmp_path):
    change = {"method": "switokd", "peers": 2, "model": ("wrn10_1", "resnet8_tiny"), "optim": ADAMW, "amp": "fp16"}
    change["train_subset"] = 200
    result = train(dataclasses.replace(quick, executor="loop", out=tmp_path / "run", **change), dataset=digits)
    assert result.summary["last"]["test"]["mean"]["nll"] < 2.3


def test_a_step_that_overflows_is_skipped_and_the_scale_falls(quick, digits, tmp_path):
    scales = []

    class Watch:
        on_epoch = on_end = lambda self, *_: None

        def on_start(self, session):
            session.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**60)
            self.before = [p.detach().clone() for p in session.executor.group.parameters()]

        def on_step(self, session, step, steps):
            scales.append(session.scaler.get_scale())
            if len(scales) == 1:
                now = session.executor.group.parameters()
                self.same = all(torch.equal(a, b) for a, b in zip(self.before, now, strict=True))

    watch = Watch()
    few = {"epochs": 1, "train_subset": 160, "out": tmp_path / "run"}
    config = dataclasses.replace(quick, **TINY, amp="fp16", executor="loop", **few)
    train(config, dataset=digits, observers=[watch])
    assert watch.same
    assert scales[0] == 2.0**59


def test_a_run_without_progress_stops_early_and_resumes_with_its_count(quick, digits, tmp_path):
    optim = OptimConfig(lr=1e-9, schedule="constant")
    config = dataclasses.replace(
        quick, **TINY, epochs=12, patience=2, optim=optim, executor="loop", recalibrate_bn="on"
    )
    whole, resumed = cut_and_resumed(config, digits, tmp_path)
    assert whole.summary["stopped_early"]
    assert whole.summary["epochs"] == 12
    assert whole.summary["last"]["epoch"] == whole.summary["selected"]["epoch"] + 2 < 12
    assert resumed.summary["stopped_early"]
    assert len(read_epochs(tmp_path / "whole", complete=True)) == whole.summary["last"]["epoch"]


def test_the_headline_figure_selects_epoch_and_leader(quick, digits, tmp_path):
    config = dataclasses.replace(quick, **TINY, headline="macro_f1", executor="loop", out=tmp_path / "run")
    summary = train(config, dataset=digits).summary
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    best = max(lines, key=lambda line: line["validation"]["mean"]["macro_f1"])
    assert summary["selected"]["epoch"] == best["epoch"]
    assert summary["figure"] == "macro_f1"
    assert summary["leader"]["rule"] == "best validation macro_f1"
    test = summary["last"]["test"]
    assert sum(map(sum, test["confusion"])) == test["images"]
    assert all(line["validation"]["confusion"] is None for line in lines)


SLOW_NORM = """
from torch import nn


def net(num_classes, in_channels=3):
    widths = (in_channels, 8, 8, 16, 16, 16)
    layers = [
        layer
        for a, b in zip(widths, widths[1:])
        for layer in (nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b, momentum=0.01), nn.ReLU())
    ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, num_classes))
"""


@pytest.fixture
def slow_norms(quick, tmp_path):
    path = tmp_path / "slow.py"
    path.write_text(SLOW_NORM)
    return dataclasses.replace(
        quick, method="dml", peers=2, model=(f"{path}:net",), executor="loop", optim=OptimConfig(lr=0.1), epochs=2
    )


@pytest.mark.parametrize("average", [None, 0.5])
def test_recalibrated_norms_bring_a_short_run_from_chance_to_what_it_has_learned(slow_norms, digits, tmp_path, average):
    config = dataclasses.replace(slow_norms, average=average)
    plain = train(dataclasses.replace(config, recalibrate_bn="off", out=tmp_path / "plain"), dataset=digits)
    helped = train(dataclasses.replace(config, out=tmp_path / "auto"), dataset=digits)
    assert losses_of(tmp_path / "plain") == losses_of(tmp_path / "auto")
    tests = [run.summary["last"]["test"] for run in (plain, helped)]
    assert tests[0]["mean"]["top1_error"] > 80
    assert tests[1]["mean"]["top1_error"] < 65
    # The student that is handed back is the one that was scored.
    images = digits.test
    x = data.normalise(images.images_NCHW, digits.mean, digits.std, "cpu")
    with torch.no_grad():
        wrong_N = load_student(tmp_path / "auto", 0)(x).argmax(1) != images.labels_N
    assert tests[1]["peers"][0]["top1_error"] == pytest.approx(100 * float(wrong_N.float().mean()), abs=1e-4)
    assert evaluate_run(tmp_path / "auto", dataset=digits)["peers"] == tests[1]["peers"]
    plain_weights, weights = weights_of(tmp_path / "plain"), weights_of(tmp_path / "auto")
    assert all(torch.equal(value, weights[name]) for name, value in plain_weights.items())


@pytest.mark.parametrize("epochs", [1, 7])
def test_norms_of_the_usual_momentum_are_left_alone_by_auto(quick, digits, tmp_path, epochs):
    config = dataclasses.replace(quick, **TINY, executor="loop", epochs=epochs, out=tmp_path / "run")
    train(config, dataset=digits)
    assert not any(name.startswith("recalibrated.") for name in weights_of(tmp_path / "run"))


def test_a_recalibrated_run_resumes_to_the_bit(slow_norms, digits, tmp_path):
    config = dataclasses.replace(slow_norms, recalibrate_bn="on")
    cut_and_resumed(config, digits, tmp_path)
    assert any(name.startswith("recalibrated.") for name in weights_of(tmp_path / "cut"))


def test_held_out_images_are_predicted_with_estimated_norms_unless_that_is_off(quick, digits, tmp_path, monkeypatch):
    errors, renew = [], KDCLGeneral.renew

    def observed(method, prob_PNC, labels_N):
        errors.append(100 * float((prob_PNC.argmax(-1) != labels_N).float().mean()))
        renew(method, prob_PNC, labels_N)

    monkeypatch.setattr(KDCLGeneral, "renew", observed)
    # A rate and a decay with which the weights turn faster than running statistics follow.
    fast = OptimConfig(lr=0.2, weight_decay=0.02, schedule="constant")
    config = dataclasses.replace(quick, **TINY, optim=fast, executor="loop", epochs=6, threads=1)
    config = dataclasses.replace(config, method="kdcl_general", method_options={"held_out": 0.4})
    for asked in ("off", "auto"):
        train(dataclasses.replace(config, recalibrate_bn=asked, out=tmp_path / asked), dataset=digits)
    off, auto = errors[5], errors[11]
    assert off > auto + 20
    # What is scored and handed back has the running statistics, as with every other method.
    assert not any(name.startswith("recalibrated.") for name in weights_of(tmp_path / "auto"))


def test_learning_that_does_not_show_in_validation_is_said_with_its_cause(slow_norms, digits, tmp_path):
    config = dataclasses.replace(slow_norms, epochs=4, recalibrate_bn="off", out=tmp_path / "run")
    said = [concern["text"] for concern in train(config, dataset=digits).summary["concerns"]]
    (text,) = [text for text in said if "where guessing has 90.0 %" in text]
    assert "of momentum 0.01, still hold" in text
    assert "add --recalibrate-bn on" in text


def test_a_dry_run_counts_the_class_weights(quick):
    with pytest.raises(UserError, match="2 class_weights for 10 classes"):
        dry_run(dataclasses.replace(quick, class_weights=(1.0, 1.0)))
