"""Stops a run in its second epoch, resumes it, and reads what a run has left."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file

from codistill.training import resume, train
from codistill.training.checkpoint import latest


class Stop:
    def on_step(self, session, step, steps):
        if session.epoch == 1 and step == steps // 2:
            raise KeyboardInterrupt


def weights_of(run_dir):
    return load_file(latest(run_dir) / "weights.safetensors")


def losses_of(run_dir):
    return [json.loads(line)["train"] for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def cut_and_resumed(config, dataset, folder, train=train, resume=resume):
    """A run in FOLDER/whole, and one in FOLDER/cut that was interrupted: the same numbers and weights to the bit."""
    whole = train(dataclasses.replace(config, out=folder / "whole"), dataset=dataset)
    with pytest.raises(KeyboardInterrupt):
        train(dataclasses.replace(config, out=folder / "cut"), dataset=dataset, observers=[Stop()])
    result = resume(folder / "cut", dataset=dataset)
    assert losses_of(folder / "cut") == losses_of(folder / "whole")
    a, b = weights_of(folder / "cut"), weights_of(folder / "whole")
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert result.summary["last"] == whole.summary["last"]
    return whole, result
