"""Images per second of 1 to 32 networks, in this library's ways and in others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch

from codistill.execution import AutoExecutor, FusedExecutor, LoopExecutor
from codistill.training.numerics import kernels
from on_gpu.clock import rate
from on_gpu.rivals import StreamsExecutor, hand_written_step, stacked_step
from on_gpu.sessions import SIZES, random_batch, session_of, settle, step_of
from on_gpu.setting import Measurement, Numbers, Setting
from on_gpu.side_by_side import SideBySide

__all__ = ["BY_HAND", "GRAPHS", "OWN_WAYS", "WAYS", "throughput"]

GRAPHS = " with graphs"
KINDS = {"loop": LoopExecutor, "fused": FusedExecutor, "streams": StreamsExecutor}
WAYS = ("loop", "loop with graphs", "fused", "fused with graphs", "streams", "streams with graphs", "vmap")
WAYS = (*WAYS, "vmap with graphs", "processes", "processes with graphs")
"""In the order of the tables' columns."""

OWN_WAYS = WAYS[:4]
"""Between which `auto` chooses."""

BY_HAND = ("by hand", "by hand with graphs")
MOST_PROCESSES = 8
FIRST, REST = (1, 4, 16), (2, 8, 32)


def throughput(setting: Setting) -> Iterator[Measurement]:
    """What is asked most comes first: bf16, and few, some and many networks."""
    processes = SideBySide(setting, 2 if setting.rehearsal else MOST_PROCESSES)
    sizes = ("toy",) if setting.rehearsal else ("tiny", "resnet20")
    turns = (("bf16", FIRST), ("bf16", REST), ("off", FIRST), ("off", REST))
    try:
        for amp, several in (("bf16", (1, 2)),) if setting.rehearsal else turns:
            for size in sizes:
                yield from _of_size(size, amp, several, setting)
            for size in sizes:
                for peers in several:
                    if peers <= MOST_PROCESSES:
                        yield from _of_processes(size, amp, peers, processes)
    finally:
        processes.close()


def _of_size(size: str, amp: str, several: tuple[int, ...], setting: Setting) -> Iterator[Measurement]:
    for peers in several:
        if peers == 1:
            for way in BY_HAND:
                yield _measurement(size, amp, 1, way, partial(_by_hand, size, amp, way, setting))
        for way in WAYS:
            if not way.startswith("processes"):
                yield _measurement(size, amp, peers, way, partial(_of_way, size, amp, peers, way, setting))
        yield _measurement(size, amp, peers, "auto", partial(_of_auto, size, amp, peers, setting))


def _of_processes(size: str, amp: str, peers: int, processes: SideBySide) -> Iterator[Measurement]:
    for way in ("processes", "processes with graphs"):
        take = partial(processes.measure, size, peers, amp, way.endswith(GRAPHS))
        yield _measurement(size, amp, peers, way, take)


def _measurement(size: str, amp: str, peers: int, way: str, take: Callable[[], Numbers]) -> Measurement:
    place = {"size": size, "amp": amp, "peers": peers, "way": way}
    return Measurement(f"{size}, {amp}, {peers} networks, {way}", lambda: {**place, **take()})


def _of_way(size: str, amp: str, peers: int, way: str, setting: Setting) -> Numbers:
    kind, graphs, device, images = way.removesuffix(GRAPHS), way.endswith(GRAPHS), setting.device, SIZES[size]
    if kind == "vmap":
        session = session_of(images, 1, device, amp=amp)
        with kernels(session.config):
            step = stacked_step(images, peers, device, session.executor.amp, graphs)
            return rate(step, peers * images.batch, setting)
    session = session_of(images, peers, device, amp=amp, kind=KINDS[kind])
    return rate(step_of(session, random_batch(images, device), graphs), peers * images.batch, setting)


def _by_hand(size: str, amp: str, way: str, setting: Setting) -> Numbers:
    images, precision = SIZES[size], torch.bfloat16 if amp == "bf16" else None
    with kernels(session_of(images, 1, setting.device, amp=amp).config):
        step = hand_written_step(images, setting.device, precision, way.endswith(GRAPHS))
        return rate(step, images.batch, setting)


def _of_auto(size: str, amp: str, peers: int, setting: Setting) -> Numbers:
    """What `auto` finds; how fast that way is has been measured by the other lines."""
    images = SIZES[size]
    session = session_of(images, peers, setting.device, amp=amp, kind=AutoExecutor)
    name, graphs, seconds, refused = settle(session, random_batch(images, setting.device))
    chosen = name + (GRAPHS if graphs else "")
    return {"chosen": chosen, "trial_ms": {way: 1e3 * s for way, s in seconds.items()}, "refused": refused}
