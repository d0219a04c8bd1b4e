"""What a run is called where the user names neither label nor folder."""

from __future__ import annotations

from pathlib import Path

from codistill.config.settings import Config

__all__ = ["default_label", "default_out"]


def default_label(config: Config) -> str:
    """Short name of the variant: the method, "branches" or "tree" where they are, "ICL" where it is on."""
    parts = [_short(config.method)]
    if config.group != "networks":
        parts.append(config.group)
    if config.icl:
        parts.append("ICL")
    if config.augment.policies != ("standard",):
        parts.append(" ".join(config.augment.policies))
    return ", ".join(parts)


def default_out(config: Config, label: str) -> Path:
    """The run directory runs/DATA-MODEL-LABEL-seedN: one folder, whatever its parts are called."""
    parts = [config.data, *map(_short, config.model), label]
    return Path("runs") / "-".join([*map(_slug, parts), f"seed{config.seed}"])


def _short(name: str) -> str:
    """The name in path/to/file.py:Name, or the name itself."""
    return name.rpartition(".py:")[2] or name


def _slug(text: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in text).replace("--", "-")
