"""Two ratios of the data pipeline, each measured in turns on one thread, as medians over the turns.

    python benchmarks/bench_data.py [--batch 128 --views 4 --repeats 9 --json]

memory: crop, flip and normalise a batch in memory, m views; the cost of one view of one image against torchvision's
    per-image pipeline on PIL images (RandomCrop, RandomHorizontalFlip, ToTensor, Normalize), which a DataLoader would
    run once per view. Goal: at most 1/6.
files: decode JPEGs in a folder, random resized crop to 224, flip and normalise: a step of four views against a step of
    one view. Goal: at most 1.6. The JPEGs are made here, in the sizes named: smooth noise with as many bits per pixel
    as ImageNet's files have.
The CPU time of the process is measured, since the machine may be busy.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from torchvision import transforms

from codistill import data
from codistill.data.views import crop_and_flip, finish_views

CPU = torch.device("cpu")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# 4.9 bits per pixel, as ImageNet's files have (110 KB for 469 x 387 pixels on average).
NOISE, QUALITY = 8.5, 94
SIZES = {"224x224": [(224, 224)], "256x256": [(256, 256)], "500x375": [(500, 375)]}
SIZES["256x256 to 500x375"] = [(256, 256), (320, 256), (400, 300), (500, 375)]


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the data pipeline.")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=9, help="turns of each")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = [memory_ratio(args.batch, views, args.repeats) for views in (1, args.views)]
    rows += [files_ratio(name, args.batch, args.views, args.repeats) for name in SIZES]
    if args.json:
        setting = {k: v for k, v in vars(args).items() if k != "json"}
        versions = {"torch": torch.__version__, "torchvision": torchvision.__version__, "PIL": Image.__version__}
        print(json.dumps({"setting": setting, "versions": versions, "rows": rows}, indent=1))
        return
    for row in rows:
        print(
            f"{row['what']:<44} {row['ours_us']:8.1f} µs, {row['other']}: {row['other_us']:8.1f} µs, ratio "
            f"{row['ratio']:.3f} ({row['least']:.3f} to {row['most']:.3f}), goal {row['goal']:.3f}"
        )


def memory_ratio(batch: int, views: int, repeats: int) -> dict[str, float | str]:
    """Return the time of one view of one 32 × 32 image, divided by the time of torchvision's pipeline."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (batch, 3, 32, 32), dtype=torch.uint8, generator=generator)
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    per_image = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    policy = data.AugmentPolicy(4, True)

    def ours() -> None:
        for _ in range(10):
            frames_VBCHW = crop_and_flip(images, policy, views, generator)
            finish_views(frames_VBCHW, policy, MEAN, STD, generator, CPU)

    def theirs() -> None:
        torch.stack([torch.as_tensor(per_image(picture)) for picture in pictures])

    what = f"memory, {views} view(s), of one view of one image"
    row = compare(ours, theirs, 10 * batch * views, batch, repeats)
    return {"what": what, "other": "torchvision's PIL pipeline", "goal": 1 / 6, **row}


def files_ratio(name: str, batch: int, views: int, repeats: int) -> dict[str, float | str]:
    """Return the time of one image with `views` views, divided by the time with one view."""
    with tempfile.TemporaryDirectory() as folder:
        write_jpegs(Path(folder), SIZES[name], batch)
        images = data.load("image_folder", Path(folder), image_size=224).train

        def step(count: int) -> Callable[[], None]:
            generator, policy = torch.Generator().manual_seed(0), data.AugmentPolicy(0, True)
            once = torch.arange(len(images)).split(32)
            # One long epoch, so that its memory is allocated before the clock starts.
            epoch = data.training_views(
                images, once * (repeats + 1), policy, MEAN, STD, views=count, generator=generator, workers=0, device=CPU
            )
            return lambda: consume(islice(epoch, len(once)))

        row = compare(step(views), step(1), len(images), len(images), repeats)
    return {"what": f"files, {name}, {views} views of one image", "other": "one view", "goal": 1.6, **row}


def compare(
    ours: Callable[[], None], other: Callable[[], None], ours_count: int, other_count: int, repeats: int
) -> dict[str, float]:
    """Return the median times in µs and the median ratio; the two take turns."""
    for warm_up in (ours, other):
        warm_up()
    pairs = [(timed(ours) / ours_count, timed(other) / other_count) for _ in range(repeats)]
    ratios = [first / second for first, second in pairs]
    return {
        "ours_us": 1e6 * statistics.median(first for first, _ in pairs),
        "other_us": 1e6 * statistics.median(second for _, second in pairs),
        "ratio": statistics.median(ratios),
        "least": min(ratios),
        "most": max(ratios),
    }


def consume(steps: Iterator[object]) -> None:
    for _ in steps:
        pass


def timed(run: Callable[[], None]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def write_jpegs(folder: Path, sizes: list[tuple[int, int]], count: int) -> None:
    """Write `count` training images in two classes, and two test images."""
    draws = np.random.default_rng(0)
    for part, images in (("train", count), ("test", 2)):
        for number in range(images):
            width, height = sizes[number % len(sizes)]
            coarse = draws.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
            smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), dtype=float)
            pixels = (smooth + draws.normal(0, NOISE, smooth.shape)).clip(0, 255).astype(np.uint8)
            place = folder / part / "ab"[number % 2]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(place / f"{number:04}.jpg", quality=QUALITY)


if __name__ == "__main__":
    main()
