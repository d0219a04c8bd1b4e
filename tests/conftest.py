"""Small data and short runs that many tests share."""

import dataclasses
import os
from pathlib import Path

import pytest
import torch

from codistill import data
from codistill.training import Config, OptimConfig, saver, train

DROPOUT_NETWORK = """
from torch import nn


def net(num_classes, in_channels=3):
    return nn.Sequential(
        nn.Conv2d(in_channels, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.3),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, num_classes),
    )
"""


@pytest.fixture(autouse=True)
def import_path():
    """The command line sets PYTHONSAFEPATH for processes that it starts; tests start others."""
    before = os.environ.get("PYTHONSAFEPATH")
    yield
    if before is None:
        os.environ.pop("PYTHONSAFEPATH", None)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tiny networks gain nothing from a second thread, and lose much where the machine is busy."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def every_epoch_is_saved():
    """Runs of tests last less than the time that lies between two checkpoints of a user's run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saver, "SECONDS", 0.0)
        yield


@pytest.fixture(scope="session", autouse=True)
def own_settings(tmp_path_factory):
    """The list of trusted code is the tests' own, and not that of the person who runs them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CODISTILL_CONFIG", str(tmp_path_factory.mktemp("settings")))
        yield


@pytest.fixture(scope="session")
def digits():
    """A quarter of the digits: enough to learn something in seconds."""
    full = data.load("digits")
    return dataclasses.replace(full, train=full.train.take(torch.arange(400)), test=full.test.take(torch.arange(100)))


@pytest.fixture(scope="session")
def dropout_network(tmp_path_factory):
    """A user's own network with dropout, named as on the command line."""
    path = tmp_path_factory.mktemp("network") / "net.py"
    path.write_text(DROPOUT_NETWORK)
    return f"{path}:net"


@pytest.fixture(scope="session")
def quick(dropout_network):
    """A run of seconds; tests replace what they are about."""
    return Config(
        method="okddip",
        model=(dropout_network,),
        peers=3,
        data="digits",
        epochs=3,
        batch_size=64,
        device="cpu",
        deterministic=True,
        optim=OptimConfig(lr=0.05),
    )


@pytest.fixture(scope="session")
def finished_run(quick, digits, tmp_path_factory) -> Path:
    """One finished run of three peers, not to be changed by tests."""
    out = tmp_path_factory.mktemp("finished") / "run"
    train(dataclasses.replace(quick, out=out), dataset=digits)
    return out
