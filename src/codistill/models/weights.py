"""Trained weights as tensors by name: what a file holds, and what is known of the images that they were trained on."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from codistill.errors import UserError, one_line

__all__ = ["Pixels", "Weights", "read_file"]

WRAPPERS = (
    *("model_ema", "state_dict_ema", "ema_state_dict", "ema"),
    *("state_dict", "model_state_dict", "model_state", "model", "network", "net", "weights", "module"),
)
"""Entries of a checkpoint that hold weights; the first that is there is taken: moving averages before the rest."""


@dataclass(frozen=True)
class Pixels:
    """How images looked to a network in its training.

    Attributes:
        mean: per channel, of pixels scaled to 0..1.
        std: likewise.
        height: in pixels; None if it is not known.
        width: likewise.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    height: int | None = None
    width: int | None = None


@dataclass(frozen=True, eq=False)
class Weights:
    """Tensors by name, in words where they are from, and how their images looked, if that is known."""

    tensors: Mapping[str, Tensor]
    source: str
    pixels: Pixels | None = None


def read_file(path: Path) -> Weights:
    """Read a state dict, or a checkpoint that holds one, from .safetensors or any file of `torch.save`; no code runs.

    Raises:
        UserError: the file cannot be read, holds more than tensors and plain data, or no tensors by name.
    """
    held, taken = _load(path), []
    while isinstance(held, Mapping):
        entries = [name for name in WRAPPERS if isinstance(held.get(name), Mapping)]
        if not entries:
            break
        others = f" (it also has {', '.join(map(repr, entries[1:]))})" if entries[1:] else ""
        taken.append(f"its entry {entries[0]!r}{others}")
        held = held[entries[0]]
    tensors = {str(k): v for k, v in held.items() if isinstance(v, Tensor)} if isinstance(held, Mapping) else {}
    if not tensors:
        there = ", ".join(map(str, list(held)[:5])) if isinstance(held, Mapping) else f"a {type(held).__name__}"
        raise UserError(
            f"{path} holds no tensors by name ({there or 'nothing'}): save network.state_dict() and give that."
        )
    return Weights(tensors, ", ".join([str(path), *taken]))


def _load(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is damaged, or holds objects besides tensors, which could run code when they are read: save "
            "network.state_dict() of what it holds, and give that file."
        ) from error
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read as weights ({one_line(error)[:200]}): give a file of torch.save or safetensors."
        ) from error
