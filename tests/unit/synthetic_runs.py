"""Run directories of format 1 with made-up numbers, for tests of what reads them; docs/run-directory.md is followed."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import yaml

VARIANTS: dict[str, dict[str, Any]] = {
    "baseline": {"method": "baseline", "peers": 1, "final": 3.9, "slow": 1.0},
    "ind": {"method": "ind", "peers": 4, "final": 3.8, "slow": 3.7},
    "dml": {"method": "dml", "peers": 4, "final": 3.3, "slow": 3.9, "parts": {"kd": 0.05}},
    "okddip, networks": {
        "method": "okddip", "peers": 4, "final": 2.6, "slow": 4.1, "parts": {"dis1": 0.05, "dis2": 0.02},
        "attention": True, "headline": "leader",
    },
    "okddip, branches": {
        "method": "okddip", "peers": 4, "final": 2.9, "slow": 2.6, "parts": {"dis1": 0.04, "dis2": 0.015},
        "attention": True, "headline": "leader", "group": "branches",
    },
    "kdcl_minlogit": {"method": "kdcl_minlogit", "peers": 4, "final": 3.1, "slow": 3.9, "parts": {"kd": 0.3}},
    "kdcl_minlogit + ICL": {
        "method": "kdcl_minlogit", "peers": 4, "final": 2.8, "slow": 4.0, "parts": {"kd": 0.36}, "icl": True,
    },
}  # fmt: skip
"""Seven variants of one comparison."""

INPUT: dict[str, Any] = {
    "version": 1, "channels": 1, "height": 8, "width": 8, "mean": [0.3], "std": [0.4], "classes": ["a", "b"],
}  # fmt: skip
"""An input.json of an older version, without what the data are recognised by."""


def score(error: float, shift: float = 0.0) -> dict[str, float]:
    error = round(error + shift, 4)
    return {"top1_error": error, "top5_error": error / 12, "nll": error / 28, "ece": 0.4 + error / 5}


def bins(error: float) -> dict[str, list]:
    filled = {7: 6, 9: 8, 10: 9, 11: 14, 12: 20, 13: 41, 14: 262}
    confidence = [(k + 0.55) / 15 if k in filled else None for k in range(15)]
    accuracy = [None if c is None else max(0.0, c - error / 60 * (1.6 - c)) for c in confidence]
    return {"count": [filled.get(k, 0) for k in range(15)], "confidence": confidence, "accuracy": accuracy}


def evaluation(error: float, peers: int, spread: float = 0.3, distance: float = 0.1) -> dict[str, Any]:
    members = [score(error, spread * ((peers - 1) / 2 - p) / max(peers - 1, 1)) for p in range(peers)]
    return {
        "images": 360,
        "peers": members,
        "mean": score(error),
        "leader_peer": peers - 1,
        "leader": members[-1],
        "ensemble": score(error) if peers == 1 else score(error, -0.4),
        "ensemble_logits": score(error) if peers == 1 else score(error, -0.38),
        "diversity": None if peers == 1 else {"distance": distance, "disagreement": 34 * distance},
        "reliability": {"leader": bins(error), "ensemble": bins(error)},
    }


def epoch_line(epoch: int, epochs: int, seed: int, variant: dict[str, Any]) -> dict[str, Any]:
    peers, done = variant["peers"], epoch / epochs
    wobble = 0.5 * math.sin(2.3 * epoch + 1.7 * seed + variant["final"]) * (1.2 - done)
    error = max(variant["final"] + 72 * math.exp(-8 * done) + wobble + 0.2 * seed, 0.0)
    loss = 0.06 + 2.1 * math.exp(-6 * done) + 0.01 * seed
    parts = {"ce": peers * loss}
    parts |= {name: peers * size * (0.4 + math.exp(-5 * done)) for name, size in variant.get("parts", {}).items()}
    by_peer = [sum(parts.values()) / peers + 0.01 * p for p in range(peers)]
    distance = 0.05 + 0.5 * math.exp(-7 * done) + 0.004 * variant["final"] + 0.003 * seed
    matrix = attention(seed) if epoch == epochs else [[1 / 3] * 3] * 3
    diagnostics = {"attention": matrix} if variant.get("attention") else {}
    return {
        "version": 1, "epoch": epoch, "lr": 0.1, "seconds": 0.5 * variant["slow"], "images_per_second": 2300.0,
        "train": {"loss": sum(by_peer), "loss_by_peer": by_peer, "parts": parts, "error_by_peer": [error] * peers},
        "validation": evaluation(error, peers, distance=distance), "diagnostics": diagnostics,
    }  # fmt: skip


def attention(seed: int) -> list[list[float]]:
    rows = [[0.42, 0.31, 0.27], [0.22, 0.5, 0.28], [0.3, 0.29, 0.41]]
    return [[w + 0.01 * seed * (1 if b == 0 else -0.5) for b, w in enumerate(row)] for row in rows]


def write_run(
    folder: Path,
    label: str = "dml",
    seed: int = 0,
    *,
    epochs: int = 6,
    done: int | None = None,
    test_error: float | None = None,
    data: str = "digits",
    models: tuple[str, ...] = ("resnet8",),
    config: dict[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """Write one run directory; `done` epochs of `epochs` for an unfinished one, `changes` go into summary.json."""
    variant = VARIANTS.get(label, VARIANTS["dml"])
    folder.mkdir(parents=True)
    settings = {
        "version": 1, "method": variant["method"], "model": list(models), "peers": variant["peers"],
        "group": variant.get("group", "networks"), "data": data, "data_dir": None,
        "train_subset": None, "epochs": epochs, "batch_size": 64,
        "icl": variant.get("icl", False), "seed": seed, "device": "cpu", "out": str(folder), "label": label,
        "optim": {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4, "schedule": "cosine"},
        "augment": {"crop_padding": 1, "flip": False}, "method_options": {},
    } | (config or {})  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    lines = [epoch_line(epoch, epochs, seed, variant) for epoch in range(1, (done or epochs) + 1)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text, encoding="utf-8")
    if done is None:
        record = summary(settings, variant, lines, test_error) | changes
        (folder / "summary.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


def summary(
    settings: dict[str, Any], variant: dict[str, Any], lines: list[dict[str, Any]], test_error: float | None
) -> dict[str, Any]:
    seed, epochs, peers = settings["seed"], settings["epochs"], variant["peers"]
    error = variant["final"] + 0.25 * math.sin(5 * seed + variant["final"]) if test_error is None else test_error
    last, selected = (evaluation(e, peers, distance=0.09) for e in (error, error + 0.1))
    chosen = max(1, epochs - 2)
    return {
        "version": 1, "kind": "codistill-run", "label": settings["label"], "method": variant["method"],
        "models": settings["model"], "peers": peers, "group": settings["group"], "data": settings["data"],
        "seed": seed, "icl": settings["icl"], "classes": [str(c) for c in range(10)],
        "leader": {"peer": peers - 1, "rule": "only network" if peers == 1 else "group leader"},
        "headline": variant.get("headline", "mean"), "epochs": epochs,
        "last": {"epoch": epochs, "validation": lines[-1]["validation"], "test": last},
        "selected": {"epoch": chosen, "validation": lines[chosen - 1]["validation"], "test": selected},
        "parameters": {"training": 78042 * peers, "deployed": 78042},
        "seconds": {"training": 0.5 * epochs * variant["slow"] + 0.3 * seed, "total": 0.6 * epochs * variant["slow"]},
        "peak_memory": 512_000_000, "images": {"train": 1150, "validation": 287, "test": 360, "held_out": 0},
        "seeds": {"run": seed, "split": 123 + seed},
        "versions": {"codistill": "0.1.0", "torch": "2.9.1", "python": "3.11.7"},
        "machine": {"device": "cpu", "processor": "AMD EPYC 7R13", "threads": 2},
        "config_sha256": f"{seed:02d}c4f1" + "ab" * 29,
    }  # fmt: skip


def write_demo(folder: Path, seeds: int = 3, epochs: int = 6) -> Path:
    """Write the seven variants with `seeds` seeds each."""
    for label in VARIANTS:
        for seed in range(seeds):
            name = label.replace(", ", "-").replace(" + ", "-")
            write_run(folder / f"{name}-seed{seed}", label, seed, epochs=epochs)
    return folder
