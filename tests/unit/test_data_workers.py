"""Processes that decode images: one that dies or hangs is one sentence, and Ctrl-C does not reach them."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset

from codistill.data.workers import load_ahead, worker_failure
from codistill.errors import RunFailedError, UserError
from codistill.training import Config, train
from codistill.training.out_folder import in_progress


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


def load(third, timeout=60.0, workers=2):
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
        (killed, "that decodes images was killed by signal: Killed; probably memory ran out: give fewer --workers"),
        (bus_error, "was killed by signal: Bus error; probably shared memory ran out: allow more (docker run --shm"),
        (lambda: os._exit(3), "ended it: decode in the training process (--workers 0) to see where"),
    ],
)
def test_a_process_that_dies_is_named_with_the_probable_cause(third, says):
    assert says in failed(lambda: load(third))


def test_processes_that_hang_are_noticed_within_the_time_that_is_given():
    began = time.monotonic()
    # No longer, since torch waits for its processes in the end.
    text = failed(lambda: load(lambda: time.sleep(3), timeout=0.5))
    assert time.monotonic() - began < 2.5
    assert "has given a batch for 0.5 seconds: one hangs" in text
    assert "--worker-timeout" in text


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


def test_a_death_that_torch_notices_elsewhere_ends_the_run_in_the_same_way(tmp_path):
    def elsewhere():
        with in_progress(tmp_path):
            raise RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. ")

    assert failed(elsewhere).startswith("the process 12 that decodes images was killed by signal: Killed; ")
    assert worker_failure(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None


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
    with pytest.raises(RunFailedError, match="was killed by signal: Killed; probably memory") as caught:
        train(config, dataset=Pictures(tmp_path / "mark"))
    assert caught.value.exit_code == 1
    assert (tmp_path / "run/checkpoints/epoch_0000").is_dir()
