"""An executor is closed on every way out of a run, and once."""

import dataclasses

import pytest
import torch

import probes
from codistill import methods
from codistill.execution import EXECUTORS, LoopExecutor, build
from codistill.training import resume, train
from codistill.training.evaluate import evaluate_run


class Counting(LoopExecutor):
    """The loop, which keeps count of what is open, and fails when it is told to."""

    name = "loop"
    alive, closed, failure, after = 0, 0, None, 3

    def __init__(self, *args, **keywords):
        super().__init__(*args, **keywords)
        Counting.alive += 1
        self.calls, self.open = 0, True

    def close(self):
        Counting.closed += 1
        Counting.alive -= self.open
        self.open = False

    def train_step(self, *args, **keywords):
        self.calls += 1
        if Counting.failure is not None and self.calls > Counting.after:
            raise Counting.failure
        return super().train_step(*args, **keywords)

    def predict(self, images):
        if Counting.failure is not None and not self.calls:
            raise Counting.failure
        return super().predict(images)


@pytest.fixture
def counting(monkeypatch):
    monkeypatch.setitem(EXECUTORS, "loop", Counting)
    for name, value in {"alive": 0, "closed": 0, "failure": None}.items():
        monkeypatch.setattr(Counting, name, value)
    return Counting


@pytest.fixture
def config(quick, tmp_path):
    return dataclasses.replace(quick, method="dml", peers=2, epochs=1, executor="loop", out=tmp_path / "run")


def test_a_run_that_ends_closes_its_executor(config, digits, counting):
    train(config, dataset=digits)
    assert (counting.alive, counting.closed) == (0, 1)
    evaluate_run(config.out, dataset=digits)
    assert (counting.alive, counting.closed) == (0, 2)


@pytest.mark.parametrize("failure", [RuntimeError("in a step"), KeyboardInterrupt(), torch.OutOfMemoryError("no")])
def test_a_run_that_fails_closes_its_executor_and_so_does_its_second_try(config, digits, counting, failure):
    counting.failure = failure
    for number, attempt in enumerate(
        (lambda: train(config, dataset=digits), lambda: resume(config.out, dataset=digits))
    ):
        with pytest.raises(type(failure)):
            attempt()
        assert (counting.alive, counting.closed) == (0, number + 1)
    counting.failure = None
    resume(config.out, dataset=digits)
    assert (counting.alive, counting.closed) == (0, 3)


def test_an_evaluation_that_fails_closes_its_executor(config, digits, counting):
    train(config, dataset=digits)
    counting.failure = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        evaluate_run(config.out, dataset=digits)
    assert (counting.alive, counting.closed) == (0, 2)


def test_an_observer_that_fails_leaves_nothing_open(config, digits, counting):
    class Failing:
        def on_epoch(self, session, record):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(config, dataset=digits, observers=[Failing()])
    assert (counting.alive, counting.closed) == (0, 1)


def test_a_session_that_cannot_be_built_leaves_nothing_open(config, digits, counting):
    with pytest.raises(ValueError, match="batch_size"):
        train(dataclasses.replace(config, batch_size=10_000), dataset=digits)
    assert counting.alive == 0


def test_an_executor_that_gives_its_place_to_another_is_closed(config, digits, counting, monkeypatch):
    class Choosing(Counting):
        name = "loop"

        def settled(self, views, labels_B, progress):
            return Counting(self.group, self.method, self.options, self.teachers), None

    monkeypatch.setitem(EXECUTORS, "loop", Choosing)
    train(config, dataset=digits)
    assert counting.alive == 0


def test_with_closes_on_every_way_out(counting):
    group = probes.group_of("networks")
    method = methods.build("dml", group)
    with build("loop", group, method) as executor:
        assert isinstance(executor, Counting)
        assert counting.alive == 1
    assert counting.alive == 0
    with pytest.raises(KeyboardInterrupt), build("loop", group, method):
        raise KeyboardInterrupt
    assert (counting.alive, counting.closed) == (0, 2)
