"""Networks given to `train` from Python, from the first step to the student that comes back."""

from __future__ import annotations

import copy
import dataclasses
from functools import partial

import pytest
import torch
from interrupted_runs import cut_and_resumed, weights_of
from torch import nn

from codistill import Config, load_student, resume, train
from codistill.export import export_student
from codistill.training import load_group, read_config
from codistill.training.dry_run import dry_run
from codistill.training.evaluate import evaluate_run
from refusals import refusal


class Net(nn.Module):
    def __init__(self, width=4, classes=10):
        super().__init__()
        self.conv, self.drop, self.fc = nn.Conv2d(1, width, 3), nn.Dropout(0.1), nn.Linear(width, classes)

    def forward(self, x):
        return self.fc(self.drop(self.conv(x).relu().mean((2, 3))))


class Start:
    """The students' weights before the first step."""

    def on_start(self, session):
        self.weights = [copy.deepcopy(session.executor.group.student(p).state_dict()) for p in range(3)]


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture
def short(quick, tmp_path):
    return dataclasses.replace(quick, method="dml", epochs=2, out=tmp_path / "run")


@pytest.fixture
def trained(short, digits):
    """A finished run of one given network, and that network."""
    net = Net()
    train(dataclasses.replace(short, epochs=1), dataset=digits, network=net)
    return short.out, net


def test_each_peer_gets_its_own_draw_of_a_network_that_is_given_once(short, digits):
    net, start = Net(), Start()
    before = copy.deepcopy(net.state_dict())
    result = train(short, dataset=digits, network=net, observers=[start])
    assert read_config(short.out / "config.yaml").model == ("own",)
    assert result.summary["models"] == ["own"]
    first, second, third = start.weights
    assert not any(equal(a, b) for a, b in ((first, second), (second, third), (first, third), (first, before)))
    assert equal(net.state_dict(), before)
    again = Start()
    with torch.no_grad():
        net.conv.weight.fill_(7)
    train(dataclasses.replace(short, out=short.out / "again"), dataset=digits, network=net, observers=[again])
    assert all(equal(a, b) for a, b in zip(start.weights, again.weights, strict=True))


def test_the_networks_of_a_list_are_trained_as_they_are_and_left_as_they_were(short, digits):
    nets, start = [Net(), Net(6), Net()], Start()
    before = [copy.deepcopy(net.state_dict()) for net in nets]
    train(short, dataset=digits, network=nn.ModuleList(nets), observers=[start])
    assert read_config(short.out / "config.yaml").model == ("own",) * 3
    assert all(equal(a, b) for a, b in zip(start.weights, before, strict=True))
    assert all(equal(net.state_dict(), b) for net, b in zip(nets, before, strict=True))
    assert load_student(short.out, 1, network=nets).conv.weight.shape[0] == 6


@pytest.mark.parametrize("network", [Net(), [Net(), Net(6), Net()]])
def test_an_interrupted_run_of_given_networks_resumes_to_the_bit(short, digits, tmp_path, network):
    train_given, resume_given = partial(train, network=network), partial(resume, network=network)
    cut_and_resumed(short, digits, tmp_path, train_given, resume_given)


def test_a_student_comes_back_as_the_class_that_was_given(trained, digits, tmp_path):
    out, net = trained
    student = load_student(str(out), 0, network=net)
    assert type(student) is Net
    weights = {name.removeprefix("group.networks.0."): value for name, value in weights_of(out).items()}
    assert all(torch.equal(value, weights[name]) for name, value in student.state_dict().items())
    summary = resume(str(out), network=net).summary
    assert evaluate_run(str(out), dataset=digits, network=net) == summary["last"]["test"]
    folder = export_student(str(out), str(tmp_path / "export"), peer=0, network=net)
    assert {file.name for file in folder.iterdir()} == {
        "student.safetensors",
        "student.json",
        "README.md",
        "prepare.py",
    }
    assert "The weights need the network's code: your own program" in (folder / "README.md").read_text()
    for teacher in (folder, out):
        config = Config(method="kd", model="resnet8_tiny", teachers=(str(teacher),), out=tmp_path / "kd", device="cpu")
        assert "is a network that was given from Python" in refusal(lambda config=config: train(config, dataset=digits))


def test_a_list_of_one_network_is_not_copied_to_the_other_peers(short, digits):
    config = dataclasses.replace(short, method="ind", peers=3)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    assert "network is a list of 1 for 3 peers: give a list with one per peer, or a network instead" in refusal(
        lambda: train(config, dataset=digits, network=[net])
    )


@pytest.mark.parametrize("group", ["branches", "tree"])
def test_a_given_network_is_split_like_a_named_one(short, digits, group):
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    config = dataclasses.replace(
        short, group=group, split="3" if group == "branches" else "3:3", method="cl_ilr", epochs=1
    )
    train(config, dataset=digits, network=net)
    a, b = (load_student(config.out, peer, network=net).state_dict() for peer in (0, 1))
    assert torch.equal(a["0.weight"], b["0.weight"])
    assert not torch.equal(a["3.weight"], b["3.weight"])
    assert "give one model" in refusal(lambda: train(config, dataset=digits, network=[net] * 3, overwrite=True))


def test_a_lazy_network_is_refused_by_the_layer_that_has_no_size(short, digits):
    for net in (nn.Sequential(nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(10)), nn.LazyLinear(10)):
        for network in (net, [net, copy.copy(net), copy.copy(net)]):
            assert "has no size yet, since its layer is lazy" in refusal(
                lambda network=network: train(short, dataset=digits, network=network)
            )


def test_whatever_opens_the_run_asks_for_the_networks_in_one_sentence(trained, digits):
    out, net = trained
    (out / "summary.json").unlink()
    calls = (partial(resume, dataset=digits), partial(evaluate_run, dataset=digits))
    calls += (partial(load_student, peer=0), load_group, partial(export_student, peer=0))
    for call in calls:
        assert refusal(lambda call=call: call(out)) == (
            "model 'own' stands for networks that were given from Python, and none are given here: pass the same "
            "network= from Python (to train, resume, evaluate_run, load_student or export_student), or name one."
        )
        said = refusal(lambda call=call: call(out, network=[net, Net()]))
        assert said == "2 networks for a run that began with 1: give the same network=."
        assert "does not fit the run's configuration" in refusal(lambda call=call: call(out, network=Net(5)))


def test_what_is_no_network_or_comes_in_the_wrong_place_is_refused(short, digits, finished_run):
    def run(network, **changed):
        return refusal(lambda: train(dataclasses.replace(short, **changed), dataset=digits, network=network))

    assert run("resnet20") == "network is a str: give an nn.Module, or a list of them with one per peer."
    assert run([Net(), 3]) == "network is a int: give an nn.Module, or a list of them with one per peer."
    assert run([]) == "network is an empty list: give an nn.Module, or a list of them with one per peer."
    assert "2 models for 3 peers" in run([Net(), Net()])
    twice = Net()
    assert "networks 0 and 2 are the same object" in run([twice, Net(), twice])
    assert run(Net().double()).endswith("build it with float32 parameters (--amp sets the precision of training).")
    assert "model own gives 12 logits for 10 classes" in run(Net(classes=12))
    for model in (Net(), [Net(), Net()]):
        assert refusal(lambda model=model: train(Config(model=model))) == (
            "model is an nn.Module: a configuration holds names only; give the network to train as network=..."
        )
    assert "leave it out, the run names its networks" in refusal(lambda: load_student(finished_run, network=Net()))
    assert "pass the same network=" in refusal(lambda: dry_run(dataclasses.replace(short, model=("own",))))
    assert not short.out.exists()


def test_a_network_that_cannot_learn_is_refused_and_one_that_can_in_part_is_trained(short, digits):
    frozen, partly = Net().requires_grad_(False), Net()
    partly.conv.requires_grad_(False)
    for given, student in ((frozen, 0), ([Net(), frozen, Net()], 1)):
        assert refusal(lambda given=given: train(short, dataset=digits, network=given)) == (
            f"student {student} has no parameter that learns: requires_grad is False for all of them; set it to True "
            "for those that are to be trained."
        )
    assert not short.out.exists()
    train(short, dataset=digits, network=[Net(), Net(), partly])
    # To be scored, a network need not learn.
    assert evaluate_run(short.out, dataset=digits, network=[Net(), frozen, Net()])["images"] > 0


def test_a_default_of_float64_is_named_as_what_made_the_network_so(short, digits):
    torch.set_default_dtype(torch.float64)
    try:
        said = refusal(lambda: train(dataclasses.replace(short, model=("resnet8_tiny",)), dataset=digits))
    finally:
        torch.set_default_dtype(torch.float32)
    assert said.endswith("torch.set_default_dtype made float64 the default here).")
