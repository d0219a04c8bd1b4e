"""Write one student in safetensors format with a description of its input, after a check against the group."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import nn

from codistill.config import default_label
from codistill.errors import UserError, unknown
from codistill.rundir import OWN_NETWORK, SUMMARY, InputRecord, Summary, is_complete, read_record, write_json
from codistill.training.checkpoint import unshared
from codistill.training.groups import NetworkSource, plain_network
from codistill.training.student import load_group, peer_index

__all__ = ["FORMATS", "export_student"]

FORMATS = ("safetensors",)


def export_student(
    run_dir: Path | str,
    out: Path | str | None = None,
    *,
    format: str = "safetensors",
    peer: int | str = "leader",
    checkpoint: str = "last",
    network: NetworkSource | None = None,
) -> Path:
    """Write student.safetensors (the plain network's own names), student.json and README.md.

    The weights are loaded into a newly built plain network. Its outputs must equal those of the same student in the
    group to the last bit.

    Args:
        run_dir: the run directory.
        out: folder to write to; RUN/export if left out.
        format: one of FORMATS.
        peer: "leader", or the index of a student.
        checkpoint: "last" or "selected".
        network: the networks again, if `train` was given them.

    Returns:
        The folder.

    Raises:
        UserError: an unknown format, no run, no such student, networks that are missing or others, or a network that
            computes with numbers that are not in its state dict.
    """
    if format not in FORMATS:
        raise unknown("export format", format, FORMATS)
    run_dir = Path(run_dir)
    config, group, _, facts = load_group(run_dir, checkpoint, network=network)
    index = peer_index(run_dir, peer, group.shape.peers, checkpoint)
    name = config.model[index if len(config.model) > 1 else 0]
    folder = Path(out) if out else run_dir / "export"
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: give the path of a folder.")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "student.safetensors"
    # safetensors' own save_file lets nobody but the owner read the file; this one follows the umask.
    path.write_bytes(save(unshared(group.student(index).state_dict()), metadata={"model": name, "format": "pt"}))
    plain = plain_network(config, index, facts, network)
    plain.load_state_dict(load_file(path))
    largest = _compare(group, index, plain.eval(), facts)
    if largest != 0:
        path.unlink()
        raise UserError(
            f"the student differs by {largest:.3g} from a new {name} with its weights: the network holds numbers that "
            "its state dict lacks; register them as persistent buffers and train it again."
        )
    run = config.label or default_label(config)
    description = {**facts.to_json(), "model": name, "peer": index, "run": run, "largest_difference": largest}
    if is_complete(run_dir):
        summary = read_record(run_dir / SUMMARY, Summary)
        outcome = summary.last if checkpoint == "last" else summary.selected
        description["test"] = outcome.test.peers[index].to_json()
    write_json(folder / "student.json", description)
    (folder / "README.md").write_text(_card(description, config.method), encoding="utf-8")
    return folder


def _compare(group: nn.Module, index: int, plain: nn.Module, facts: InputRecord) -> float:
    """Return the largest difference of the logits on random images."""
    size = (8, facts.channels, facts.height, facts.width)
    images = torch.randn(size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return (group.eval()(images).logits_PBC[index] - plain(images)).abs().max().item()


def _card(description: dict[str, Any], method: str) -> str:
    test = description.get("test")
    score = f"Top-1 error on the test set: {test['top1_error']:.2f} %." if test else "The run was not finished."
    channels, height, width = (description[k] for k in ("channels", "height", "width"))
    return f"""# {description["model"]}, trained with {method}

{score}

Input: [B, {channels}, {height}, {width}], pixels scaled to 0..1, minus {json.dumps(description["mean"])}, divided by
{json.dumps(description["std"])}. Output: logits [B, {len(description["classes"])}]; student.json names the classes.

```python
from safetensors.torch import load_file
{_how_to_build(description["model"], len(description["classes"]), channels)}
network.load_state_dict(load_file("student.safetensors"))
network.eval()
```
"""


def _how_to_build(model: str, classes: int, channels: int) -> str:
    if model == OWN_NETWORK:
        return "\nnetwork = ...   # built by your own code, as for the run"
    return f"""from codistill import models   # or any definition of {model} with the same parameter names

network = models.build("{model}", num_classes={classes}, in_channels={channels})"""
