"""How fast images that lie on the device are distorted, and which share of a training step that is."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from functools import partial
from itertools import islice

import torch

from codistill import data
from codistill.data import AugmentPolicy
from codistill.execution import AutoExecutor
from on_gpu.clock import TURNS, rate, synchronise
from on_gpu.sessions import SIZES, random_batch, random_dataset, session_of, settle, step_of
from on_gpu.setting import Measurement, Numbers, Setting

__all__ = ["data_path"]

PEERS = 4
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
POLICIES = {"crop and flip": ("standard",), "crop, flip and randaugment": ("randaugment",)}


def data_path(setting: Setting) -> Iterator[Measurement]:
    """Augmentation alone, then the step that it feeds."""
    for policy in POLICIES:
        for views in (1, PEERS):
            what = f"{policy}, {views} view{'s' if views > 1 else ''}"
            yield Measurement(what, partial(_views, policy, views, setting))
    yield Measurement(f"a step of {PEERS} networks", partial(_step, setting))


def _views(policy: str, views: int, setting: Setting) -> Numbers:
    """Milliseconds per batch of so many views of its images, in an epoch that the training loop would read."""
    batch, steps, turns = (8, 2, 1) if setting.rehearsal else (128, 100, TURNS)
    size = SIZES["resnet32"]
    images = random_dataset(size, batch * 4 if setting.rehearsal else 50_000).train.to(setting.device)  # pyright: ignore[reportAttributeAccessIssue]
    generator, distort = torch.Generator().manual_seed(0), AugmentPolicy(4, True, POLICIES[policy])
    order = list(data.batches(len(images), batch, generator))
    epochs = turns + 1
    stream = (
        made
        for _ in range(epochs)
        for made in data.training_views(
            images, order[:steps], distort, MEAN, STD, views=views, generator=generator, workers=0,
            device=setting.device,
        )
    )  # fmt: skip
    seconds = []
    for _ in range(epochs):
        synchronise(setting.device)
        start = time.perf_counter()
        for _made in islice(stream, steps):
            pass
        synchronise(setting.device)
        seconds.append((time.perf_counter() - start) / steps)
    middle = statistics.median(seconds[1:])
    place = {"policy": policy, "views": views}
    return {**place, "batch_ms": 1e3 * middle, "images_per_second": batch * views / middle}


def _step(setting: Setting) -> Numbers:
    size, amp = SIZES["toy" if setting.rehearsal else "resnet32"], "off" if setting.rehearsal else "bf16"
    session = session_of(size, PEERS, setting.device, amp=amp, kind=AutoExecutor)
    batch = random_batch(size, setting.device)
    name, graphs, _, _ = settle(session, batch)
    return {"network": size.name, "chosen": name, "graphs": graphs, **rate(
        step_of(session, batch, graphs), PEERS * size.batch, setting
    )}  # fmt: skip
