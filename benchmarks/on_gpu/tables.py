"""results.md: what was measured, as tables that a person reads."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from on_gpu.ledger import Ledger
from on_gpu.throughput import BY_HAND, OWN_WAYS, WAYS

__all__ = ["write_tables"]

Entry = dict[str, Any]


def write_tables(ledger: Ledger) -> Path:
    """Write results.md next to results.json, and return its path."""
    record = ledger.read()
    lines = ["# Measured on a GPU", ""]
    if any(call["rehearsal"] for call in record["evidence"]):
        lines = ["# REHEARSAL on a CPU: these numbers say only that the programs run", ""]
    for call in record["evidence"]:
        lines += _evidence(call)
    for part, (title, write) in SECTIONS.items():
        entries = [entry for entry in record["entries"] if entry["part"] == part]
        if entries:
            lines += ["", f"## {title}", *write([entry for entry in entries if entry["numbers"]])]
            lines += _problems(entries, part)
    path = ledger.folder / "results.md"
    new = path.with_suffix(".md.new")
    new.write_text("\n".join(lines) + "\n", encoding="utf-8")
    os.replace(new, path)  # noqa: PTH105
    return path


def _evidence(call: Entry) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in call["versions"].items())
    where = call.get("card", f"CPU, {call['cores']} cores")
    facts = [f"`{call['command']}`", call["date"], where]
    facts += [f"driver {call['driver']}"] if "driver" in call else []
    facts += [versions, f"commit {call.get('commit', 'unknown (no git here)')}"]
    durations = ", ".join(f"{part} {seconds:.0f} s" for part, seconds in call.get("seconds", {}).items())
    return [f"- {'; '.join(facts)}", f"  - time asked for: {call['minutes']:g} min; taken: {durations or 'not ended'}"]


def _problems(entries: Sequence[Entry], part: str) -> list[str]:
    lines = [f"- **failed**: {entry['what']}: {entry['error']}" for entry in entries if "error" in entry]
    lines += [f"- {entry['what']}: {_short(entry['note'])}" for entry in entries if "note" in entry]
    if part == "checks":
        passed = sum("error" not in entry and "note" not in entry for entry in entries)
        lines.insert(0, f"{passed} checks passed, {sum('error' in entry for entry in entries)} failed.")
    return ["", *lines] if lines else []


def _short(note: str) -> str:
    """The note; of a long list its first and its last item."""
    items = note.split("; ")
    return note if len(items) < 4 else f"{items[0]} ... {items[-1]} (all in results.json)"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return ["", f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(f"| {' | '.join(row)} |" for row in rows)]


def _checks(entries: Sequence[Entry]) -> list[str]:
    return []


def _throughput(entries: Sequence[Entry]) -> list[str]:
    """One table per network and precision: images per second, and how many times one network alone."""
    lines = [
        "",
        "Whole steps of `ind`: forward, loss, backward, fused SGD, training figures. In brackets: how many times the "
        "images per second of one network alone by `loop` with graphs (without, if that is missing). vmap: batch norm "
        "in training mode and float32, with running statistics that are stacked like the parameters. processes: each "
        "trains one network with `loop`; they begin together and are counted for one second. fp32 is without "
        "TensorFloat-32; convolutions are deterministic ones, as in every run.",
    ]
    for size, amp in dict.fromkeys((e["numbers"]["size"], e["numbers"]["amp"]) for e in entries):
        numbers = [e["numbers"] for e in entries if (e["numbers"]["size"], e["numbers"]["amp"]) == (size, amp)]
        rate = {(n["peers"], n["way"]): n["images_per_second"] for n in numbers if "images_per_second" in n}
        alone = rate.get((1, "loop with graphs"), rate.get((1, "loop")))
        ways = [way for way in WAYS if any(way == measured for _, measured in rate)]
        rows = []
        for peers in sorted({n["peers"] for n in numbers}):
            cells = [_times(rate.get((peers, way)), alone) for way in ways]
            chosen = next((n["chosen"] for n in numbers if (n["peers"], n["way"]) == (peers, "auto")), None)
            rows.append([str(peers), *cells, _choice(chosen, {way: rate.get((peers, way)) for way in OWN_WAYS})])
        precision = "bf16" if amp == "bf16" else "fp32"
        lines += ["", f"### {size}, {precision}: images per second"]
        lines += _table(["networks", *ways, "auto's choice, and its share of the best of loop and fused"], rows)
        lines += _by_hand(rate)
    return lines


def _by_hand(rate: dict[tuple[int, str], float]) -> list[str]:
    lines = []
    for hand, own in zip(BY_HAND, ("loop", "loop with graphs"), strict=True):
        if (1, hand) in rate and (1, own) in rate:
            share = rate[1, own] / rate[1, hand]
            lines.append(f"One network {hand} in plain torch: {rate[1, hand]:,.0f}; `{own}` reaches {share:.0%} of it.")
    return ["", *lines] if lines else []


def _times(rate: float | None, alone: float | None) -> str:
    if rate is None:
        return "-"
    return f"{rate:,.0f}" + (f" ({rate / alone:.2f} ×)" if alone else "")


def _choice(chosen: str | None, own: dict[str, float | None]) -> str:
    measured = {way: rate for way, rate in own.items() if rate is not None}
    if chosen is None:
        return "-"
    if chosen not in measured:
        return chosen
    return f"{chosen}, {measured[chosen] / max(measured.values()):.0%}"


def _methods(entries: Sequence[Entry]) -> list[str]:
    """One table per network: milliseconds of a step, and how many times a step of `ind` on the same group."""
    lines = ["", "In brackets: how many times a step of `ind` with as many students in the same kind of group."]
    numbers = [entry["numbers"] for entry in entries]
    for size in dict.fromkeys(n["size"] for n in numbers):
        own = {(n["way"], n["method"], n["group"], n["peers"]): n for n in numbers if n["size"] == size}
        rows = []
        for method, group, peers in dict.fromkeys(key[1:] for key in own):
            cells = []
            for way in ("auto", "loop"):
                found, base = own.get((way, method, group, peers)), own.get((way, "ind", group, peers))
                cells.append("-" if found is None else _cost(found, base))
                if way == "auto":
                    cells.append("-" if found is None else found["chosen"])
            rows.append([method, f"{peers} {group}", *cells])
        head = ["method", "students", "ms per step as auto chooses", "auto's choice", "ms per step, loop"]
        lines += ["", f"### {size}", *_table(head, rows)]
    return lines


def _cost(found: Entry, base: Entry | None) -> str:
    ratio = f" ({found['step_ms'] / base['step_ms']:.2f} ×)" if base else ""
    return f"{found['step_ms']:.2f}{ratio}"


def _solver(entries: Sequence[Entry]) -> list[str]:
    rows = [
        [n["shape"], f"{n['spread']:g}", f"{n['ms']:.2f}", str(n["kernels"]), str(n["operations"]), str(n["waits"])]
        for n in (entry["numbers"] for entry in entries)
    ]
    head = ["students × batch × classes", "deviation of the logits", "ms", "kernels", "torch operations", "waits"]
    return ["", "Per solve. Waits: how often the host stops for the device.", *_table(head, rows)]


def _data(entries: Sequence[Entry]) -> list[str]:
    numbers = [entry["numbers"] for entry in entries]
    step = next((n for n in numbers if "step_ms" in n), None)
    rows = []
    for n in (n for n in numbers if "batch_ms" in n):
        share = f"{n['batch_ms'] / (n['batch_ms'] + step['step_ms']):.1%}" if step else "-"
        rows.append([n["policy"], str(n["views"]), f"{n['images_per_second']:,.0f}", f"{n['batch_ms']:.3f}", share])
    lines = _table(["images on the device", "views", "views per second", "ms per batch", "share of the step"], rows)
    if step:
        way = step["chosen"] + (" with graphs" if step["graphs"] else "")
        lines += [
            "",
            f"The step: four networks, {step['network']}, {way}, {step['step_ms']:.2f} ms without images.",
        ]
    return lines


def _runs(entries: Sequence[Entry]) -> list[str]:
    numbers = [entry["numbers"] for entry in entries]
    rows = []
    for n in (n for n in numbers if "test_error" in n):
        seconds = statistics.mean(n["training_seconds"])
        errors = ", ".join(f"{error:.2f}" for error in n["errors"])
        busy = "not measured" if n["utilisation"] is None else f"{n['utilisation']:.0f} %"
        counts = f"{n['seeds']}" + (f" ({n['failed']} failed)" if n["failed"] else "")
        rows.append([n["method"], n["executor"], str(n["epochs"]), counts, f"{n['seconds']:.1f}", f"{seconds:.1f}"])
        rows[-1] += [f"{n['test_error']:.2f} ({errors})", busy]
    head = ["method", "executor", "epochs", "seeds at a time", "s in all", "s of training per run", "test error, %"]
    lines = _table([*head, "GPU in use (nvidia-smi)"], rows) if rows else []
    for n in (n for n in numbers if "epoch_seconds" in n):
        way, busy = n["executor"] + (" with graphs" if n["graphs"] else ""), n.get("busy_share")
        lines += ["", f"One run of okddip alone ({way}): {n['step_ms']:.2f} ms per step with its images, "
                  f"{n['epoch_seconds']:.1f} s per epoch; a kernel runs in "
                  f"{'an unknown share' if busy is None else f'{busy:.0%}'} of that time (profiler)."]  # fmt: skip
    lines += [
        "",
        "Four ResNet-32 (baseline: one) on Glyphs-100 at 32 × 32; 30 epochs, or as many as there was time for. Seconds "
        "in all include starting the processes. Test error: mean (each seed).",
    ]
    return lines


SECTIONS: dict[str, tuple[str, Callable[[Sequence[Entry]], list[str]]]] = {
    "checks": ("Checks", _checks),
    "throughput": ("Throughput", _throughput),
    "methods": ("What methods cost", _methods),
    "solver": ("KDCL-Linear's solver", _solver),
    "data": ("Images", _data),
    "runs": ("Whole runs", _runs),
}
