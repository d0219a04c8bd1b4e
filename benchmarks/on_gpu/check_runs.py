"""Checks of whole runs on the device: epochs without waiting, resuming, evaluation elsewhere, images from files."""

from __future__ import annotations

import dataclasses
import json
import math
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from codistill.export import export_student
from codistill.training import Config, resume, train
from codistill.training.batches import training_batches
from codistill.training.build import build_session
from codistill.training.evaluate import evaluate_run
from codistill.training.numerics import layer_randomness
from codistill.training.session import Session
from codistill.training.step import TrainingStep
from on_gpu.clock import recording_of
from on_gpu.toys import quiet, toy_config, toy_data, toy_network

__all__ = ["CHECKS"]

SET_UP = 6
"""Steps in which libraries set themselves up and a graph is recorded."""


class _Stop:
    """Interrupts a run in the middle of its second epoch."""

    def on_step(self, session: Session, step: int, steps: int) -> None:
        if session.epoch == 1 and step == steps // 2:
            raise KeyboardInterrupt


def an_epoch_waits_for_nothing(graphs: bool, device: torch.device) -> None:
    """After the first steps, neither the steps of an epoch nor their images make the host wait."""
    config = toy_config(device, method="okddip", peers=4, model=("resnet8_tiny",))
    with build_session(config, toy_data()) as session, layer_randomness(session):
        session.executor.train()
        step = TrainingStep(session, recording_of(device) if graphs else None)
        assert session.images("train").labels_N.device.type == device.type, "the images are not on the device"
        batches = training_batches(session)
        for number in range(SET_UP):
            step(next(batches), float(number), 0.01)
        try:
            with quiet(device):
                for batch in batches:
                    step(batch, 1.0, 0.01)
        except RuntimeError as error:
            raise AssertionError(f"the host waits for the device: {error}") from error
        assert math.isfinite(step.meter.result()[0].loss)


def resumes_to_the_bit(changes: dict[str, Any], device: torch.device) -> None:
    """A run that is interrupted and resumed has the numbers of one that is not, with dropout too."""
    if device.type != "cuda":
        changes = {name: value for name, value in changes.items() if name != "cuda_graphs"}
    config, dataset, network = toy_config(device, **changes), toy_data(), toy_network()
    with tempfile.TemporaryDirectory() as folder:
        whole, cut = (dataclasses.replace(config, out=Path(folder) / name) for name in ("whole", "cut"))
        first = train(whole, dataset=dataset, network=network)
        try:
            train(cut, dataset=dataset, network=network, observers=[_Stop()])
        except KeyboardInterrupt:
            pass
        else:
            raise AssertionError("the run was not interrupted")
        again = resume(Path(folder) / "cut", dataset=dataset, network=network)
        losses = [losses_of(Path(folder) / name) for name in ("whole", "cut")]
        assert losses[0] == losses[1], f"losses differ: {losses}"
        assert first.summary["last"] == again.summary["last"], "scores differ"


def goes_on_without_a_gpu(device: torch.device) -> None:
    """The CPU exports a student of the device's run, and scores the run as the device did, to rounding."""
    dataset = toy_data()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        result = train(toy_config(device, model=("resnet8_tiny",), out=out), dataset=dataset)
        record = evaluate_run(out, device="cpu", dataset=dataset)
        assert json.loads((export_student(out) / "student.json").read_text(encoding="utf-8"))
    recorded = result.summary["last"]["test"]["mean"]["nll"]
    found = record["mean"]["nll"]
    assert abs(found - recorded) <= 1e-3 * max(recorded, 1e-2), f"NLL {recorded} on the device, {found} on the CPU"


def images_come_from_files(device: torch.device) -> None:
    """A view for each student of JPEGs that processes decode and, for a GPU, hand over in pinned memory."""
    with tempfile.TemporaryDirectory() as folder:
        write_jpegs(Path(folder) / "images")
        config = Config(
            method="dml", peers=2, model=("resnet8_tiny",), data="image_folder", data_dir=Path(folder) / "images",
            data_memory=0.0, image_size=32, icl=True, workers=2, epochs=2, batch_size=8, device=str(device),
            validation=0.25, out=Path(folder) / "run",
        )  # fmt: skip
        with build_session(config) as session:
            views = next(training_batches(session)).views
            assert isinstance(views, tuple)
            assert {view.device.type for view in views} == {device.type}
            assert not torch.equal(*views), "both students have the same view"
        train(config)
        assert all(math.isfinite(epoch["loss"]) for epoch in losses_of(Path(folder) / "run"))


def losses_of(run: Path) -> list[dict[str, Any]]:
    """Return what each epoch of a run recorded of its training."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["train"] for line in lines]


def write_jpegs(folder: Path, count: int = 32) -> None:
    """Write JPEGs of two classes, of noise with different means, as training and test images."""
    from PIL import Image

    own = torch.Generator().manual_seed(0)
    for part, images in (("train", count), ("test", 8)):
        for number in range(images):
            place = folder / part / "ab"[number % 2]
            place.mkdir(parents=True, exist_ok=True)
            noise_HWC = torch.randint(0, 128, (40, 48, 3), generator=own) + 100 * (number % 2)
            Image.fromarray(noise_HWC.to(torch.uint8).numpy()).save(place / f"{number:03}.jpg")


RUNS: dict[str, dict[str, Any]] = {
    "loop": {"cuda_graphs": False},
    "loop with graphs": {"cuda_graphs": True},
    "fused with graphs": {"executor": "fused", "cuda_graphs": True},
    "bf16 and averages, with graphs": {"amp": "bf16", "average": 0.9, "cuda_graphs": True},
}

CHECKS: dict[str, Callable[[torch.device], None]] = {
    "an epoch makes the host wait for nothing": partial(an_epoch_waits_for_nothing, False),
    "an epoch with graphs makes the host wait for nothing": partial(an_epoch_waits_for_nothing, True),
    **{f"a run resumes to the bit, {name}": partial(resumes_to_the_bit, change) for name, change in RUNS.items()},
    "the CPU goes on with a run of the device": goes_on_without_a_gpu,
    "images from files, a view for each": images_come_from_files,
}
"""Name -> check."""
