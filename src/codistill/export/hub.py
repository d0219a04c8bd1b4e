"""The folder that the Hugging Face Hub wants: config.json beside model.safetensors and the card; and its upload."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from codistill.errors import UserError, one_line
from codistill.export.building import Recipe
from codistill.export.job import Job, Written
from codistill.export.weights import write_weights
from codistill.rundir import Preparation, StudentRecord

__all__ = ["CONFIG_FILE", "check_token", "push_folder", "write_hub"]

CONFIG_FILE = "config.json"

_OF_SOURCE = (
    *("url", "file", "hf_hub_id", "hf_hub_filename", "source", "state_dict", "custom_load", "label_offset", "tag"),
    *("license", "origin_url", "paper_name", "paper_ids", "notes", "description", "test_input_size", "test_crop_pct"),
)
"""What timm knows of the weights that it has for the network itself."""


def write_hub(job: Job, recipe: Recipe) -> Written:
    """Write model.safetensors and config.json; a network of timm is loaded again by timm from the folder itself."""
    written = write_weights(job, "model.safetensors")
    of_timm = recipe.library == "timm"
    config = _timm_config(job.student, job.record) if of_timm else _own_config(job.record, recipe)
    (job.stage / CONFIG_FILE).write_text(json.dumps(config, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if not of_timm:
        return written
    import timm

    # timm draws a network before it fills it; the caller's random state must not notice.
    with torch.random.fork_rng(devices=[]):
        network = timm.create_model(f"local-dir:{job.stage}", pretrained=True)
    return written._replace(network=network.eval())


def _own_config(record: StudentRecord, recipe: Recipe) -> dict[str, Any]:
    return {
        "architecture": record.model,
        "library": recipe.library,
        "num_classes": len(record.classes),
        "in_channels": record.channels,
        "label_names": list(record.classes),
        "preparation": None if record.preparation is None else record.preparation.to_json(),
    }


def _timm_config(network: nn.Module, record: StudentRecord) -> dict[str, Any]:
    """Return what `timm.create_model("local-dir:FOLDER", pretrained=True)` and its data configuration read."""
    # As it was built: some networks of timm depend on entries of this, such as a fixed size of the images.
    known: dict[str, Any] = dict(network.pretrained_cfg)  # pyright: ignore
    architecture = known.pop("architecture")
    for name in _OF_SOURCE:
        known.pop(name, None)
    known |= {
        "num_classes": len(record.classes),
        "input_size": [record.channels, record.height, record.width],
        "pool_size": None,
        "mean": list(record.mean),
        "std": list(record.std),
        **_timm_resize(record.preparation),
    }
    return {
        "architecture": architecture,
        "num_classes": len(record.classes),
        "num_features": getattr(network, "num_features", None),
        "label_names": list(record.classes),
        "pretrained_cfg": {name: value for name, value in known.items() if value is not None},
    }


def _timm_resize(how: Preparation | None) -> dict[str, Any]:
    if how is None:
        return {"interpolation": "bilinear"}
    share = how.height / how.shorter_side if how.shorter_side else 1.0
    mode = "center" if how.resize in ("cover", "shorter_side") else "squash"
    return {"interpolation": how.interpolation, "crop_pct": share, "crop_mode": mode}


def check_token() -> None:
    """Raise UserError if there is no token for the Hugging Face Hub."""
    import huggingface_hub

    if huggingface_hub.get_token() is None:
        raise UserError(
            "push needs your token for the Hugging Face Hub, and there is none: run 'hf auth login', or set HF_TOKEN."
        )


def push_folder(folder: Path, names: Sequence[str], repository: str, message: str) -> str:
    """Upload these files of the folder with the user's token, and return the address of the commit.

    A repository that is not there yet is made, and is private.

    Raises:
        UserError: the Hub refuses it, or cannot be reached.
    """
    import huggingface_hub

    try:
        api = huggingface_hub.HfApi()
        api.create_repo(repository, private=True, exist_ok=True)
        done = api.upload_folder(
            repo_id=repository, folder_path=folder, allow_patterns=list(names), commit_message=message
        )
    except Exception as error:
        raise UserError(
            f"push to {repository} failed ({one_line(error)[:200].rstrip('.')}): the export is in {folder}; check the "
            "name and your token, and push again."
        ) from error
    return str(getattr(done, "commit_url", None) or f"https://huggingface.co/{repository}")
