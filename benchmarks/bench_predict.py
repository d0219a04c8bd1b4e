"""`codistill.predict` against loops that a person would write, on the same files: wall time, as a ratio.

    python benchmarks/bench_predict.py [--files 1000 --picture 500x375 --size 32 --repeats 3 --json]

one by one: open, convert, ImageOps.fit, tensor, network; a picture at a time.
batched: the same, with `--batch` pictures stacked for the network.
Both loops use Pillow and torch in one thread of Python; codistill reads with a thread per processor, and decodes JPEGs
at a lower resolution where the resize would discard the rest. The JPEGs are made here. A ratio is codistill's time over
the loop's; goal: below 1 for both.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import nn

from codistill import models
from codistill.rundir import Preparation
from codistill.students import predict
from codistill.students.network import NetworkStudent

CLASSES = tuple(str(label) for label in range(10))
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time predictions on files.")
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--picture", default="500x375", help="width and height of the JPEGs in pixels")
    parser.add_argument("--size", type=int, default=32, help="side of what the network reads")
    parser.add_argument("--model", default="resnet8_tiny")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3, help="turns of each")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    torch.set_num_threads(1)  # More of them gain nothing for small networks, and lose much where the machine is busy.
    network = models.build(args.model, num_classes=len(CLASSES), in_channels=3).eval()
    how = Preparation(channels=3, resize="cover", height=args.size, width=args.size, mean=MEAN, std=STD)
    student = NetworkStudent(network, "cpu", Path("benchmark"), CLASSES, how)
    with tempfile.TemporaryDirectory() as folder:
        files = write_jpegs(Path(folder), args.files, args.picture)
        ways: dict[str, Callable[[], object]] = {
            "codistill": lambda: predict(student, files, batch_size=args.batch),
            "one by one": lambda: by_hand(network, files, args.size, 1),
            "batched": lambda: by_hand(network, files, args.size, args.batch),
        }
        seconds = in_turns(ways, args.repeats)
    rows = [
        {"against": name, "codistill_s": ours, "loop_s": theirs, "ratio": ours / theirs}
        for name, ours, theirs in ((n, seconds["codistill"], seconds[n]) for n in ("one by one", "batched"))
    ]
    if args.json:
        versions = {"torch": torch.__version__, "PIL": Image.__version__}
        print(json.dumps({"setting": vars(args), "processors": os.cpu_count(), "versions": versions, "rows": rows}))
        return
    for row in rows:
        print(
            f"{args.files} files: codistill {row['codistill_s']:.2f} s, {row['against']} {row['loop_s']:.2f} s, ratio "
            f"{row['ratio']:.2f} (goal below 1)"
        )


def write_jpegs(folder: Path, count: int, picture: str) -> list[Path]:
    """Smooth noise; 20 different pictures, since making them takes longer than reading them."""
    width, height = (int(side) for side in picture.split("x"))
    rng = np.random.default_rng(0)
    files = [folder / f"{number:05d}.jpg" for number in range(count)]
    for number, file in enumerate(files):
        if number >= 20:
            file.write_bytes(files[number % 20].read_bytes())
            continue
        small = rng.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8)
        Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(file, quality=92)
    return files


@torch.no_grad()
def by_hand(network: nn.Module, files: list[Path], size: int, batch: int) -> list[int]:
    """The classes, by a loop of Pillow and torch."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    found: list[int] = []
    for start in range(0, len(files), batch):
        inputs = []
        for file in files[start : start + batch]:
            with Image.open(file) as image:
                fitted = ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.BILINEAR)
            inputs.append((torch.from_numpy(np.array(fitted)).permute(2, 0, 1).float() / 255 - mean) / std)
        found += network(torch.stack(inputs)).softmax(1).argmax(1).tolist()
    return found


def in_turns(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """The median of each, measured in turns, after one turn that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


if __name__ == "__main__":
    main()
