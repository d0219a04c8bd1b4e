"""Processes that decode images: one that dies or hangs is one sentence, and Ctrl-C does not reach them."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset

from codistill.data import workers
from codistill.data.workers import load_ahead
from codistill.errors import RunFailedError, UserError
from codistill.training import Config, train


class Job(Dataset):
    """Eight numbers; at the third, what a test is about happens."""

    def __init__(self, third):
        self.third = third

    def __len__(self):
        return 8

    def __getitem__(self, index):
        if index == 3:
            self.third()
        return torch.tensor(index)


@pytest.fixture(autouse=True)
def looked_at_often(monkeypatch):
    monkeypatch.setattr(workers, "LOOK", 0.2)


def load(third, timeout=60.0, workers=1):
    return [int(made) for made in load_ahead(Job(third), 8, workers, False, timeout)]


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def bus_error():
    signal.signal(signal.SIGBUS, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGBUS)


def interrupted():
    os.kill(os.getpid(), signal.SIGINT)


def failed(call):
    with pytest.raises(RunFailedError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("third", "says"),
    [
        (killed, "decodes images was killed by signal: Killed (SIGKILL); probably memory ran out: give fewer"),
        (bus_error, "was killed by signal: Bus error (SIGBUS); probably shared memory ran out: allow more (docker"),
        (lambda: os._exit(3), "ended with exit code 3; probably the code that reads images ended it: decode in the"),
    ],
)
def test_a_process_that_dies_is_named_with_the_probable_cause(third, says):
    assert says in failed(lambda: load(third))


def test_processes_that_hang_are_noticed_within_the_time_that_is_given():
    began = time.monotonic()
    # No longer, since torch waits for its processes in the end.
    text = failed(lambda: load(lambda: time.sleep(3), timeout=0.6))
    assert 0.6 < time.monotonic() - began < 2.5
    assert "has given a batch for 0.6 seconds: one hangs" in text
    assert "--worker-timeout" in text


def test_a_process_that_takes_longer_than_a_look_loses_nothing():
    assert load(lambda: time.sleep(0.7), workers=2) == list(range(8))


def test_ctrl_c_does_not_reach_them():
    assert load(interrupted) == list(range(8))


def test_without_processes_there_is_no_timeout():
    assert load(lambda: time.sleep(0.2), timeout=0.01, workers=0) == list(range(8))


def fails():
    raise RuntimeError("of the user")


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="of the user") as caught:
        load(fails, workers=0)
    assert not isinstance(caught.value, UserError)


def test_a_death_shows_where_a_batch_is_waited_for_and_nowhere_else():
    made = load_ahead(Job(killed), 8, 1, False, 60.0)
    assert [int(next(made)), int(next(made))] == [0, 1]
    # By now the process has begun with the third, and torch's own handler of signals would raise here.
    time.sleep(0.3)
    assert "(SIGKILL)" in failed(lambda: list(made))


class Pictures(Dataset):
    """Random pictures; the process that reads the last one in training is killed."""

    def __init__(self, mark: Path):
        self.mark, self.ours = mark, os.getpid()
        self.targets = [index % 2 for index in range(40)]

    def __len__(self):
        return 40

    def __getitem__(self, index):
        if index == 7 and os.getpid() != self.ours:
            killed()
        return torch.full((3, 16, 16), index / 40), self.targets[index]


def test_a_run_whose_process_dies_keeps_its_checkpoint_and_exits_with_1(tmp_path, dropout_network):
    config = Config(
        method="baseline", model=(dropout_network,), epochs=1, batch_size=8, data_memory=0.0, image_size=16, workers=1,
        device="cpu", executor="loop", threads=1, out=tmp_path / "run",
    )  # fmt: skip
    with pytest.raises(RunFailedError, match=r"was killed by signal: Killed \(SIGKILL\); probably memory") as caught:
        train(config, dataset=Pictures(tmp_path / "mark"))
    assert caught.value.exit_code == 1
    assert (tmp_path / "run/checkpoints/epoch_0000").is_dir()
