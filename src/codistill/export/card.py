"""README.md of an export: what the network is, how good, how to use it, how it was trained, and where it ends."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from codistill import prepare
from codistill.export.building import Recipe
from codistill.export.check import described
from codistill.export.snippets import snippet
from codistill.rundir import FIGURES, FileRecord, Preparation, StudentRecord, Summary

__all__ = ["Story", "card", "source_of_prepare"]

SHOWN = 200
"""Classes that are listed; student.json has them all."""


@dataclass(frozen=True)
class Story:
    """What the card says and student.json does not.

    Attributes:
        data: name of the data set.
        summary: of the run; None while it is unfinished.
        settings: those of the run that are not the defaults, as plain data.
        parameters: how many the network has.
        license: that the user gave.
        pushed: the repository on the Hugging Face Hub.
    """

    data: str
    summary: Summary | None
    settings: Mapping[str, Any]
    parameters: int
    license: str | None = None
    pushed: str | None = None


def source_of_prepare() -> str:
    """Return the source of `codistill.prepare`, which needs Pillow and NumPy alone."""
    return inspect.getsource(prepare)


def card(record: StudentRecord, recipe: Recipe, story: Story) -> str:
    """Return the whole card in Markdown, with front matter for the Hugging Face Hub if the export has its format."""
    parts = [_front_matter(record, recipe, story)] if any(f.format == "hub" for f in record.files.values()) else []
    parts += [
        _about(record, story),
        _score(record, story),
        _files(record),
        _input(record),
        *(_use(name, file, record, recipe, story) for name, file in record.files.items()),
        _classes(record),
        _training(record, story),
        _limits(record),
        "## Versions\n\n" + ", ".join(f"{name} {version}" for name, version in record.versions.items()),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(record: StudentRecord, recipe: Recipe, story: Story) -> str:
    tags = ["image-classification", "knowledge-distillation", "online-distillation", "codistill"]
    front: dict[str, Any] = {} if story.license is None else {"license": story.license}
    front |= {"library_name": recipe.library or "pytorch", "pipeline_tag": "image-classification"}
    front |= {"tags": [*(["timm"] if recipe.library == "timm" else []), *tags]}
    if record.test is not None:
        accuracy = {"type": "accuracy", "value": round(1 - record.test.top1_error / 100, 6), "name": "Top-1 accuracy"}
        # `type` is the data set's name on the Hub, where it has one.
        data = {"type": story.data.removeprefix("hf:"), "name": story.data, "split": "test"}
        result = {"task": {"type": "image-classification"}, "dataset": data, "metrics": [accuracy, *_headline(record)]}
        front["model-index"] = [{"name": record.model, "results": [result]}]
    return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---"


def _headline(record: StudentRecord) -> list[dict[str, Any]]:
    """The run's headline figure as a metric of the Hub, where it is another one than the error."""
    kind = {"balanced_error": "balanced_accuracy", "macro_f1": "f1", "auroc": "roc_auc"}.get(record.figure)
    if kind is None or record.test is None or (value := record.test.value(record.figure)) is None:
        return []
    share = 1 - value / 100 if record.figure == "balanced_error" else value / 100
    name = "Balanced accuracy" if record.figure == "balanced_error" else FIGURES[record.figure]
    return [{"type": kind, "value": round(share, 6), "name": name}]


def _about(record: StudentRecord, story: Story) -> str:
    summary = story.summary
    peers = story.settings.get("peers") if summary is None else summary.peers
    macs = "" if summary is None or summary.multiply_accumulates is None else (
        f" and {summary.multiply_accumulates.deployed:,} multiply-accumulates per image"
    )  # fmt: skip
    group = "It was trained alone." if peers == 1 else (
        f"It is student {record.peer} of a group of {peers} networks that taught each other while they were trained, "
        "and needs none of the others."
    )  # fmt: skip
    average = " Its weights are moving averages of those that were trained." if record.weights == "averaged" else ""
    return (
        f"# {record.model}, trained with {record.method}\n\n"
        f"A network that sorts pictures into {len(record.classes)} classes. It has {story.parameters:,} parameters"
        f"{macs}. {group}{average}"
    )


def _score(record: StudentRecord, story: Story) -> str:
    if record.test is None or record.test_images is None:
        return "## Score\n\nThe run was not finished when this was exported: there is no score on its test images."
    low, high = _interval(record.test.top1_error, record.test_images)
    rows = [
        ("top-1 error", f"{record.test.top1_error:.2f} %"),
        ("95 % interval, for other images of the same kind", f"{low:.1f} to {high:.1f} %"),
        ("test images", f"{record.test_images:,} of {story.data}"),
        ("seed", f"{record.seed} (one run; another seed gives another number)"),
        ("weights", "of the last epoch" if record.checkpoint == "last" else "of the epoch selected on validation"),
    ]
    if record.figure != "error" and (value := record.test.value(record.figure)) is not None:
        rows.insert(1, (f"{FIGURES[record.figure]}, the run's headline", f"{value:.2f} %"))
    return "## Score\n\n| | |\n|---|---|\n" + "\n".join(f"| {name} | {text} |" for name, text in rows)


def _interval(error: float, images: int) -> tuple[float, float]:
    """Wilson's 95 % interval of an error in percent."""
    from scipy.stats import binomtest

    wrong = min(round(error / 100 * images), images)
    interval = binomtest(wrong, max(images, 1)).proportion_ci(method="wilson")
    return 100 * interval.low, 100 * interval.high


def _files(record: StudentRecord) -> str:
    rows = ["| file | format | numbers | checked |", "|---|---|---|---|"]
    for name, file in record.files.items():
        form = file.format if file.opset is None else f"{file.format}, opset {file.opset}"
        rows.append(f"| `{name}` | {form} | {file.precision} | {described(file.check) if file.check else ''} |")
    rows += ["| `student.json` | JSON | | all facts of this card as data |"]
    return "## Files\n\n" + "\n".join(rows)


def _input(record: StudentRecord) -> str:
    how = record.preparation
    shape = f"[B, {record.channels}, {record.height}, {record.width}]"
    text = f"## Input\n\nfloat32 {shape}, for any B. The output is one logit per class, [B, {len(record.classes)}]. "
    if how is None:
        return text + (
            "Pixels are scaled to 0..1, minus the mean, divided by the deviation: mean "
            f"{json.dumps(record.mean)}, deviation {json.dumps(record.std)}. How pictures of other sizes are resized "
            "was not recorded by the version that trained this network."
        )
    return text + (
        f"{_words(how)} This is `prepare.py`, which needs Pillow and NumPy; `how` is the entry `preparation` of "
        f"`student.json`:\n\n```python\n{source_of_prepare()}```"
    )


def _words(how: Preparation) -> str:
    size = f"{how.height} × {how.width} pixels"
    resized = {
        "cover": f"scaled until it covers {size}, and its centre cropped",
        "shorter_side": f"scaled to {how.shorter_side} pixels on its shorter side, and its centre of {size} cropped",
        "squash": f"scaled to {size} whatever its shape",
        "none": f"taken as it is, {size}",
    }[how.resize]
    colour = "grey" if how.channels == 1 else "RGB"
    numbers = f"minus {json.dumps(how.mean)}, divided by {json.dumps(how.std)}"
    return f"A picture is turned upright (EXIF), converted to {colour}, {resized}, scaled to 0..1, {numbers}."


def _use(name: str, file: FileRecord, record: StudentRecord, recipe: Recipe, story: Story) -> str:
    title = f"## Use `{name}`\n\n"
    if record.preparation is None and file.reads != "pictures":
        return title + _building(name, recipe)
    needs_code = file.format in ("safetensors", "hub") and recipe.note
    note = f"{recipe.note}\n\n" if needs_code else ""
    if file.reads == "pictures":
        note += (
            "Resizing and normalisation are part of the file: it reads uint8 pictures [B, H, W, C] of any size, "
            "upright and in grey or RGB, and gives probabilities.\n\n"
        )
    code = snippet(name, file, recipe, record.channels, story.pushed)
    return f"{title}{note}```python\n{code}\n```"


def _building(name: str, recipe: Recipe) -> str:
    lines = ["from safetensors.torch import load_file", *recipe.imports, "", *recipe.lines]
    lines += [f'network.load_state_dict(load_file("{name}"))', "network.eval()"]
    return f"{recipe.note}\n\n" * bool(recipe.note) + "```python\n" + "\n".join(lines) + "\n```"


def _classes(record: StudentRecord) -> str:
    named = ", ".join(f"{label} {name}" for label, name in enumerate(record.classes[:SHOWN]))
    more = f", and {len(record.classes) - SHOWN} more in `student.json`" if len(record.classes) > SHOWN else ""
    return f"## Classes\n\n{named}{more}"


def _training(record: StudentRecord, story: Story) -> str:
    counts = "" if story.summary is None else (
        f" ({story.summary.images.train:,} training, {story.summary.images.validation:,} validation and "
        f"{story.summary.images.test:,} test images)"
    )  # fmt: skip
    settings = yaml.safe_dump(dict(story.settings), sort_keys=False, allow_unicode=True)
    return (
        f"## How it was trained\n\nWith {record.method} on {story.data}{counts}, by codistill. What is not listed has "
        f"its default:\n\n```yaml\n{settings}```"
    )


def _limits(record: StudentRecord) -> str:
    lines = [
        f"- It names one of its {len(record.classes)} classes for any picture, also for one that shows none of them.",
        "- The score holds for pictures like those it was tested on: other cameras, places or ways of cropping can be "
        "much harder.",
    ]
    if record.test is not None:
        lines.append(
            "- Its probabilities are not exact: their expected calibration error on the test images is "
            f"{record.test.ece:.2f} %."
        )
    return "## Limits\n\n" + "\n".join(lines)
