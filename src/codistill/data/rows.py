"""Pictures in the rows of a table: encoded bytes, or the path of a file, which must be in the table's own folder."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from codistill.data.listing import FOLLOW_LINKS, leads_out
from codistill.data.opening import open_picture
from codistill.data.source import Request

__all__ = ["ArrowRows", "HubRows", "hub_folders", "roots_of"]


@dataclass(frozen=True)
class ArrowRows:
    """Encoded images in memory, one per row: bytes, or Hugging Face's struct of bytes and path."""

    column: Any
    place: str
    roots: tuple[Path, ...] | None
    light: bool = True
    random: bool = False

    def __len__(self) -> int:
        return len(self.column)

    def open(self, index: int) -> Image.Image:
        """See `Pictures`."""
        return _opened(self.column[index].as_py(), self.roots)

    def name(self, index: int) -> str:
        """See `Pictures`."""
        return f"image {index} of {self.place}"


@dataclass(frozen=True)
class HubRows:
    """Encoded images that `datasets` reads from disk."""

    rows: Any
    column: str
    place: str
    roots: tuple[Path, ...] | None
    light: bool = True
    random: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    def open(self, index: int) -> Image.Image:
        """See `Pictures`."""
        return _opened(self.rows[index][self.column], self.roots)

    def name(self, index: int) -> str:
        """See `Pictures`."""
        return f"image {index} of {self.place}"


def _opened(value: Any, roots: tuple[Path, ...] | None) -> Image.Image:
    if isinstance(value, dict):
        if value.get("bytes") is None and value.get("path"):
            return _opened_path(Path(value["path"]), roots)
        value = value.get("bytes")
    if value is None:
        raise OSError("the row is empty")
    return open_picture(io.BytesIO(value))


def _opened_path(path: Path, roots: tuple[Path, ...] | None) -> Image.Image:
    # A table from elsewhere could name any file of this machine.
    if roots is not None and all(leads_out(path, root) for root in roots):
        raise OSError(f"its row names the file {path}, which is outside {roots[0]}: {FOLLOW_LINKS} reads it")
    return open_picture(path)


def roots_of(request: Request, *folders: Path) -> tuple[Path, ...] | None:
    """Return the folders in which a row may name a file; None: it may name any."""
    return None if request.follow_links else folders


def hub_folders(datasets: Any) -> list[Path]:
    """Return where `datasets` keeps what it downloads."""
    names = ("HF_DATASETS_CACHE", "DOWNLOADED_DATASETS_PATH", "EXTRACTED_DATASETS_PATH", "HF_HUB_CACHE")
    return [Path(str(getattr(datasets.config, name))) for name in names if hasattr(datasets.config, name)]
