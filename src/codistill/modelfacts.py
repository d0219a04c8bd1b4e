"""What `codistill list models` shows of every named network, read from a file so that nothing has to be built.

`python -m codistill.peers.describe` measures the networks and writes the file; a test compares the two.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["FILE", "describe"]

FILE = Path(__file__).with_name("modelfacts.json")


def describe() -> list[dict[str, Any]]:
    """Return one record per network, ready for JSON.

    Keys: name; from (the package that defines it); classes and image_size (pixels; RGB) of the counts that follow;
    parameters (trainable), multiply_accumulates (of one image forward), feature_width, default_split.
    """
    return json.loads(FILE.read_text(encoding="utf-8"))
