"""What a run is called if the user gives no label and no folder."""

from __future__ import annotations

from pathlib import Path

from codistill.config.settings import Config

__all__ = ["default_label", "default_out"]


def default_label(config: Config) -> str:
    """Return a short name of the variant: the method, and "branches" or "tree", "ICL" and policies if used."""
    parts = [_short(config.method)]
    if config.group != "networks":
        parts.append(config.group)
    if config.icl:
        parts.append("ICL")
    if config.augment.policies != ("standard",):
        parts.append(" ".join(config.augment.policies))
    return ", ".join(parts)


def default_out(config: Config, label: str) -> Path:
    """Return the run directory runs/DATA-MODEL-LABEL-seedN; a slash in a part makes no further folder."""
    parts = [config.data, *map(_short, config.model), label]
    return Path("runs") / "-".join([*map(_slug, parts), f"seed{config.seed}"])


def _short(name: str) -> str:
    """Return the name in path/to/file.py:Name, or the name itself."""
    return name.rpartition(".py:")[2] or name


def _slug(text: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in text).replace("--", "-")
