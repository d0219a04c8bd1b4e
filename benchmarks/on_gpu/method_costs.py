"""What every method costs: a step with it against a step of the same networks without distillation."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from codistill.execution import AutoExecutor, LoopExecutor
from codistill.methods import METHODS
from on_gpu.clock import rate
from on_gpu.sessions import SIZES, group_kind, random_batch, session_of, settle, step_of
from on_gpu.setting import Measurement, Numbers, Setting
from on_gpu.throughput import GRAPHS

__all__ = ["method_costs"]


def method_costs(setting: Setting) -> Iterator[Measurement]:
    """`ind` on every kind of group first, since all others are compared with it."""
    others = [(name, group_kind(name), min(4, METHODS[name].max_peers or 4)) for name in METHODS if name != "ind"]
    bases = dict.fromkeys((group, peers) for _, group, peers in others)
    cases = [*(("ind", *base) for base in bases), *others]
    for size in ("toy",) if setting.rehearsal else ("resnet20", "tiny"):
        for way in ("auto", "loop"):
            for method, group, peers in cases:
                what = f"{size}, {way}, {method}, {peers} {group}"
                yield Measurement(what, partial(_cost, size, way, method, group, peers, setting))


def _cost(size: str, way: str, method: str, group: str, peers: int, setting: Setting) -> Numbers:
    images, amp = SIZES[size], "off" if setting.rehearsal else "bf16"
    kind = AutoExecutor if way == "auto" else LoopExecutor
    session = session_of(images, peers, setting.device, method=method, group=group, amp=amp, kind=kind)
    batch, chosen, graphs = random_batch(images, setting.device), "loop", False
    if way == "auto":
        chosen, graphs, _, _ = settle(session, batch)
    place = {"size": size, "way": way, "method": method, "group": group, "peers": peers}
    numbers = rate(step_of(session, batch, graphs), peers * images.batch, setting)
    return {**place, "chosen": chosen + (GRAPHS if graphs else ""), **numbers}
