"""What `codistill list models` shows of every named network."""

from __future__ import annotations

from typing import Any

import torch

from codistill.models import OWN, TORCHVISION

__all__ = ["describe"]


def describe(num_classes: int = 100) -> list[dict[str, Any]]:
    """Name, where it is defined, and trainable parameters for `num_classes` and RGB images; no memory is taken."""
    rows = []
    for source, named in (("codistill", OWN), ("torchvision", TORCHVISION)):
        for name, make in named.items():
            with torch.device("meta"):
                net = make(num_classes=num_classes, in_channels=3)
            count = sum(p.numel() for p in net.parameters() if p.requires_grad)
            rows.append({"name": name, "from": source, "parameters": count, "classes": num_classes})
    return rows
