"""Which files are images, and what to say of those that are left out."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from PIL import features

__all__ = ["formats", "is_image", "left_out", "looks_like_image", "register_plugin", "suffixes"]

_ALWAYS = frozenset({".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
"""Pillow's names of the formats behind these; its JPEG plugin also opens MPO."""
_HEIF = frozenset({".heic", ".heif", ".hif"})
_AVIF = ".avif"
_OTHER_IMAGES = frozenset(
    {".arw", ".cr2", ".cr3", ".dng", ".exr", ".hdr", ".ico", ".j2k", ".jp2", ".jpe", ".jxl", ".nef", ".orf", ".pbm"}
    | {".pcx", ".pnm", ".psd", ".raf", ".raw", ".rw2", ".svg", ".tga"}
)
"""Images that are not read: a folder that holds some was hardly meant to lose them."""

_PLUGIN = "pillow_heif"


@functools.cache
def suffixes() -> frozenset[str]:
    """The suffixes of the files that are read here, in lower case; some need a newer Pillow or a plugin."""
    found = _ALWAYS
    if features.check("avif"):
        found |= {_AVIF}
    if importlib.util.find_spec(_PLUGIN) is not None:
        found |= _HEIF
    return found


@functools.cache
def formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are read here; no other plugin is asked about a file, whatever its suffix."""
    found = _FORMATS
    if _AVIF in suffixes():
        found += ("AVIF",)
    return (*found, "HEIF") if suffixes() & _HEIF else found


def is_image(path: Path) -> bool:
    """Whether the file is read as an image; upper and lower case are the same."""
    return path.suffix.lower() in suffixes()


def looks_like_image(path: Path) -> bool:
    """Whether the file is an image of a kind that is not read here."""
    return not is_image(path) and path.suffix.lower() in _OTHER_IMAGES | _HEIF | {_AVIF}


@functools.cache
def register_plugin() -> None:
    """Make Pillow read HEIC in this process, if the plugin is installed; processes of the loader need it as well."""
    if importlib.util.find_spec(_PLUGIN) is not None:
        importlib.import_module(_PLUGIN).register_heif_opener()


def left_out(paths: Iterable[Path]) -> str:
    """Return what the files are, most frequent suffix first: "6 .heic (pip install pillow-heif reads them), 1 .txt"."""
    counts = Counter(path.suffix.lower() or "without suffix" for path in paths)
    return ", ".join(f"{count} {suffix}{_remedy(suffix)}" for suffix, count in counts.most_common())


def _remedy(suffix: str) -> str:
    if suffix in _HEIF:
        return " (the plugin of 'pip install pillow-heif' reads them)"
    if suffix == _AVIF:
        return " (Pillow 11.3 or newer reads them)"
    return " (convert them to PNG or JPEG)" if suffix in _OTHER_IMAGES else ""
