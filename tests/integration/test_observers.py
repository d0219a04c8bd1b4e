"""Observers: any object with some of the events; they may stop a run, keep files, and fail, and nothing is lost."""

import dataclasses
import json
import sys

import pytest
import torch

import codistill
from codistill import cli, reports
from codistill.errors import notes_of
from codistill.training import load_student, resume, train
from codistill.training.checkpoint import latest
from refusals import refusal


class Everything:
    def __init__(self):
        self.calls = []

    def on_start(self, session):
        self.calls.append("start")

    def on_step(self, session, step, steps):
        self.calls.append((session.epoch, step, steps))

    def on_epoch(self, session, record):
        self.calls.append(record.epoch)

    def on_end(self, session, summary):
        self.calls.append(summary.label)

    def on_failure(self, session, error):
        self.calls.append(error)


class OnlyEpochs:
    def __init__(self, then):
        self.then = then

    def on_epoch(self, session, record):
        self.then(session)


@pytest.fixture
def config(quick, tmp_path):
    return dataclasses.replace(quick, method="dml", peers=2, epochs=3, out=tmp_path / "my run")


def losses(run_dir):
    return [json.loads(line)["train"] for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def stopping_after(epoch, reason="enough"):
    return OnlyEpochs(lambda session: session.stop(reason) if session.epoch == epoch else None)


def test_an_object_with_some_of_the_events_observes_and_needs_no_base_class(config, digits):
    seen, epochs = Everything(), []
    train(config, dataset=digits, observers=[seen, OnlyEpochs(lambda session: epochs.append(session.epoch))])
    steps = next(call[2] for call in seen.calls if isinstance(call, tuple))
    expected = ["start"]
    for epoch in range(3):
        expected += [(epoch, step, steps) for step in range(1, steps + 1)] + [epoch + 1]
    assert seen.calls == [*expected, "dml"]
    assert epochs == [1, 2, 3]
    events = {name for name in vars(Everything) if name.startswith("on_")}
    assert {name for name in vars(codistill.Observer) if name.startswith("on_")} == events


def test_a_wrong_observer_is_refused_before_anything_is_written(config, digits):
    class Renamed:
        def on_epoch_end(self, session, record): ...

    class Other:
        def on_epoch(self, session): ...

    class Nothing:
        def epoch(self, session, record): ...

    for observers, says in (
        ([Renamed()], "unknown method of the observer Renamed 'on_epoch_end': did you mean 'on_epoch'"),
        ([Other()], "observer Other.on_epoch(session) is called with (session, record)"),
        ([Nothing()], "observer Nothing has no method to call: give it some of on_start, on_step"),
        ([Everything], "observer Everything is a class: give an object, Everything()"),
        (Everything(), "observers is a Everything: give a list"),
    ):
        assert says in refusal(lambda observers=observers: train(config, dataset=digits, observers=observers))
    assert not config.out.exists()


def test_a_run_that_is_stopped_ends_with_its_scores_and_says_why(config, digits):
    summary = train(config, dataset=digits, observers=[stopping_after(2, "the lights went out")]).summary
    assert (summary["stopped_early"], summary["stop_reason"]) == (True, "the lights went out")
    assert (summary["epochs"], summary["last"]["epoch"]) == (3, 2)
    page = reports.write_report(reports.find_runs([config.out]), config.out / "report.html").read_text()
    assert "stopped early after epoch 2 (the lights went out)" in page
    with pytest.raises(codistill.UserError, match="give the reason as a text"):
        train(config, dataset=digits, observers=[stopping_after(1, "")], overwrite=True)


def test_a_stop_in_a_step_lets_the_epoch_end_and_one_at_the_start_the_first_epoch(config, digits):
    class AtStart:
        def on_start(self, session):
            session.stop("no time")

    class InStep:
        def on_step(self, session, step, steps):
            if (session.epoch, step) == (1, 1):
                session.stop("in a step")
                session.stop("again")

    summary = train(config, dataset=digits, observers=[InStep()]).summary
    assert (summary["last"]["epoch"], summary["stop_reason"]) == (2, "in a step")
    assert len(losses(config.out)) == 2
    summary = train(config, dataset=digits, observers=[AtStart()], overwrite=True).summary
    assert (summary["last"]["epoch"], summary["stop_reason"]) == (1, "no time")


def test_a_run_that_was_stopped_and_then_killed_ends_when_it_is_resumed(config, digits, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("codistill.training.run.summarise", killed)
    with pytest.raises(KeyboardInterrupt):
        train(config, dataset=digits, observers=[stopping_after(1)])
    monkeypatch.undo()
    summary = resume(config.out, dataset=digits).summary
    assert (summary["last"]["epoch"], summary["stop_reason"]) == (1, "enough")


def test_an_observer_that_fails_in_a_step_loses_nothing_either(config, digits, tmp_path):
    class Fails:
        def on_step(self, session, step, steps):
            if (session.epoch, step) == (1, 2):
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(config, dataset=digits, observers=[Fails()])
    assert latest(config.out).name == "epoch_0001_step_000002"
    whole = dataclasses.replace(config, out=tmp_path / "whole")
    train(whole, dataset=digits)
    resume(config.out, dataset=digits)
    assert losses(config.out) == losses(whole.out)


def test_a_failing_observer_is_named_and_loses_nothing(config, digits, tmp_path):
    def fail(session):
        if session.epoch == 2:
            raise ZeroDivisionError

    seen = Everything()
    with pytest.raises(ZeroDivisionError) as caught:
        train(config, dataset=digits, observers=[seen, OnlyEpochs(fail)])
    assert notes_of(caught.value) == (
        f"raised by the observer OnlyEpochs in on_epoch; to continue after epoch 2: codistill resume '{config.out}'",
    )
    assert seen.calls[-1] is caught.value
    assert latest(config.out).name == "epoch_0002"
    whole = dataclasses.replace(config, out=tmp_path / "whole")
    train(whole, dataset=digits)
    resume(config.out, dataset=digits)
    assert losses(config.out) == losses(whole.out)


def test_an_observer_that_fails_at_the_end_leaves_a_complete_run(config, digits):
    class Late:
        def on_end(self, session, summary):
            raise OSError("no mail server")

        def on_failure(self, session, error):
            raise AssertionError("the run has not failed")

    with pytest.raises(OSError, match="no mail server") as caught:
        train(config, dataset=digits, observers=[Late()])
    assert notes_of(caught.value) == (f"raised by the observer Late in on_end; the run is complete, in {config.out}",)
    assert resume(config.out).summary["last"]["epoch"] == 3


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_logger_that_is_not_installed_is_refused_before_training(config, digits, name, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, name, None)
    says = f"{name} is not installed: pip install 'codistill[{name}]'."
    assert refusal(lambda: train(dataclasses.replace(config, logger=name), dataset=digits)) == says
    assert not config.out.exists()
    with pytest.raises(KeyboardInterrupt):
        train(config, dataset=digits, observers=[OnlyEpochs(interrupt)])
    assert refusal(lambda: resume(config.out, logger=[name], dataset=digits)) == says
    for command in ("train", "compare"):
        with pytest.raises(SystemExit) as ended:
            cli.main([command, "--logger", name, "--device", "cpu", "--out", str(tmp_path / "other")])
        assert ended.value.code == 2
        assert says in capsys.readouterr().err
    assert "did you mean 'tensorboard'" in refusal(lambda: resume(config.out, logger=["tensorbord"], dataset=digits))
    assert resume(config.out, dataset=digits).summary["last"]["epoch"] == 3


def interrupt(session):
    raise KeyboardInterrupt


def test_what_an_observer_draws_and_computes_changes_no_number(quick, digits, tmp_path):
    (tmp_path / "dropout.py").write_text(
        "from torch import nn\n"
        "def net(num_classes, in_channels):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * in_channels, num_classes))\n"
    )
    net = f"{tmp_path}/dropout.py:net"
    config = dataclasses.replace(quick, out=tmp_path / "run", model=(net,), method="ind")

    def draw(session):
        torch.rand(100)
        session.student(0)(torch.rand(2, 1, 8, 8))

    train(config, dataset=digits)
    watched = dataclasses.replace(config, out=tmp_path / "watched")
    train(watched, dataset=digits, observers=[OnlyEpochs(draw)])
    assert losses(watched.out) == losses(config.out)


@pytest.mark.parametrize("change", [{}, {"average": 0.9}, {"recalibrate_bn": "on"}])
def test_an_observer_gets_copies_of_students_as_they_are_scored(config, digits, change):
    kept = {}

    def keep(session):
        student = session.student(1)
        kept[session.epoch] = {name: value.clone() for name, value in student.state_dict().items()}
        with torch.no_grad():
            next(student.parameters()).zero_()
        assert "has the students 0 to 1" in refusal(session.student, 2)

    config = dataclasses.replace(config, model=("resnet8_tiny",), train_subset=64, **change)
    train(config, dataset=digits, observers=[OnlyEpochs(keep)])
    final = load_student(config.out, peer=1).state_dict()
    assert final.keys() == kept[3].keys()
    assert all(torch.equal(final[name], kept[3][name]) for name in final)
    assert any(not torch.equal(final[name], kept[2][name]) for name in final)


def test_files_of_observers_lie_in_the_run_and_go_with_it(config, digits):
    def keep(session):
        (session.extra / f"{session.epoch}.txt").write_text("mine")

    train(config, dataset=digits, observers=[OnlyEpochs(keep)])
    assert sorted(p.name for p in (config.out / "extra").iterdir()) == ["1.txt", "2.txt", "3.txt"]
    (config.out / "notes.txt").write_text("not the run's")
    train(config, dataset=digits, overwrite=True)
    assert not (config.out / "extra").exists()
    assert (config.out / "notes.txt").is_file()
