"""What a checkpoint costs in time: training with one a minute, written in the background, against training without.

    python benchmarks/bench_saving.py [--model torchvision:resnet50] [--peers 4] [--seconds 60] [--turns 3]

One process, one run in a temporary folder, on random images. Turns with one checkpoint and turns without follow each
other; the cost is the ratio of the steps that they take. Printed as well: how long training stands still for the copy,
how long the writing goes on behind it, and the bytes.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import torch

from codistill.data import ImageSet, load
from codistill.training import Config, OptimConfig
from codistill.training.batches import training_batches
from codistill.training.build import build_session
from codistill.training.saver import Saver
from codistill.training.session import Session
from codistill.training.signals import Interruption
from codistill.training.step import TrainingStep


class Turn(NamedTuple):
    """Steps a second, and when the checkpoint was on disk."""

    rate: float
    written: float | None


def main() -> None:
    parser = argparse.ArgumentParser(description="Time training with and without checkpoints.")
    parser.add_argument("--model", default="torchvision:resnet50")
    parser.add_argument("--peers", type=int, default=4)
    parser.add_argument("--size", type=int, default=64, help="side of the images in pixels")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60.0, help="of a turn")
    parser.add_argument("--turns", type=int, default=3, help="of each kind")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        config = Config(
            method="dml", model=(given.model,), peers=given.peers, data="digits", batch_size=given.batch, epochs=1000,
            device="cpu", executor="loop", optim=OptimConfig(lr=1e-4), out=Path(folder) / "run",
        )  # fmt: skip
        measure(config, given.size, given.seconds, given.turns)


def measure(config: Config, size: int, seconds: float, turns: int) -> None:
    """Print the ratio of steps with and without a checkpoint, and what one takes."""
    images = ImageSet(torch.randint(256, (1024, 3, size, size), dtype=torch.uint8), torch.arange(1024) % 10)
    colours = {"mean": (0.5,) * 3, "std": (0.3,) * 3}
    data = dataclasses.replace(load("digits"), train=images, test=images.take(torch.arange(64)), **colours)
    ratios, copies, writes = [], [], []
    with build_session(config, data) as session, Interruption() as interruption:
        step = TrainingStep.of(session)
        session.executor.train()
        train(session, step, min(seconds, 5.0))
        with Saver(session, interruption) as saver:
            for turn in range(turns):
                without = train(session, step, seconds)
                session.epoch = turn + 1
                start = time.perf_counter()
                saver.save(wait=False)
                copies.append(time.perf_counter() - start)
                saved = train(session, step, seconds, saver, start)
                writes.append((saved.written or float("nan")) - start)
                ratios.append(saved.rate / without.rate)
        taken = sum(f.stat().st_size for f in session.out.rglob("*") if f.is_file()) / 2**20
    ratio = statistics.median(ratios)
    what = f"{config.peers} x {config.model[0]}, {torch.get_num_threads()} threads, {turns} turns of {seconds:g} s each"
    print(f"{what}: steps a second with one checkpoint a turn, relative to none: {ratio:.3f}")
    print(f"all ratios: {', '.join(f'{one:.3f}' for one in ratios)}")
    print(f"the copy {statistics.median(copies):.2f} s, until it is on disk {statistics.median(writes):.1f} s")
    print(f"{taken:.0f} MiB on disk at the end")


def train(
    session: Session, step: TrainingStep, seconds: float, saver: Saver | None = None, start: float | None = None
) -> Turn:
    """Train for about these seconds since `start`, which is now if None."""
    start = time.perf_counter() if start is None else start
    count, written = 0, None
    while True:
        for batch in training_batches(session):
            step(batch, 0.0, 1e-4)
            count += 1
            now = time.perf_counter()
            if saver is not None and written is None and not saver.busy:
                written = now
            if now - start > seconds:
                return Turn(count / (now - start), written)


if __name__ == "__main__":
    main()
