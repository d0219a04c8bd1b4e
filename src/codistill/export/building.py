"""How to build a student's network in a program of one's own, without codistill where another package defines it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from codistill import models
from codistill.models.foreign import OPTIONS
from codistill.rundir import OWN_NETWORK

__all__ = ["Recipe", "recipe_for"]


@dataclass(frozen=True)
class Recipe:
    """Lines that make `network`, with random weights.

    Attributes:
        library: the package that defines it: "torchvision", "timm", "codistill" or "" for the user's own code.
        imports: lines of import.
        lines: what follows them.
        note: what the reader has to know; may be empty.
    """

    library: str
    imports: tuple[str, ...]
    lines: tuple[str, ...]
    note: str = ""


def recipe_for(model: str, network: nn.Module, num_classes: int, in_channels: int) -> Recipe:
    """Return how to build the network that codistill builds under this name.

    Args:
        model: as in `models.build`.
        network: the network itself, which shows what was changed in it.
        num_classes: C.
        in_channels: of its images.
    """
    arguments = f"num_classes={num_classes}, in_channels={in_channels}"
    prefix, _, rest = model.partition(":")
    if model == OWN_NETWORK:
        return Recipe("", (), ("network = ...  # as your own program builds it",), _needs_code("your own program"))
    if model in models.TORCHVISION or prefix == "torchvision":
        return _of_torchvision(model, network, num_classes, in_channels)
    if prefix == "timm":
        line = f'network = timm.create_model("{rest}", num_classes={num_classes}, in_chans={in_channels})'
        return Recipe("timm", ("import timm",), (line,))
    if ".py:" in model:
        path, _, function = model.rpartition(":")
        note = _needs_code(f"the file {Path(path).name}, which is not in this folder")
        return Recipe("", (f"from {Path(path).stem} import {function}",), (f"network = {function}({arguments})",), note)
    note = _needs_code(f"codistill, which defines {model} (`pip install codistill`)")
    return Recipe(
        "codistill", ("from codistill import models",), (f'network = models.build("{model}", {arguments})',), note
    )


def _needs_code(what: str) -> str:
    return (
        f"The weights need the network's code: {what}. A file written by `codistill export --format onnx` or "
        "`--format torch-export` needs none."
    )


def _of_torchvision(model: str, network: nn.Module, num_classes: int, in_channels: int) -> Recipe:
    if model in models.TORCHVISION:
        make = models.TORCHVISION[model]
        name, options = make.args[0], dict(make.keywords)  # pyright: ignore[reportFunctionMemberAccess]
    else:
        name, options = model.partition(":")[2], {}
    options = {"num_classes": num_classes, **OPTIONS.get(name, {}), **options}
    given = ", ".join(f"{option}={value!r}" for option, value in options.items())
    imports, lines = (
        ("from torchvision.models import get_model",),
        (f'network = get_model("{name}", weights=None, {given})',),
    )
    if in_channels == 3:
        return Recipe("torchvision", imports, lines)
    path, stem = next((p, module) for p, module in network.named_modules() if isinstance(module, nn.Conv2d))
    imports = ("from torch import nn", *imports)
    # The first convolution of other channels that codistill puts in; its printed form is what makes it.
    return Recipe("torchvision", imports, (*lines, f'network.set_submodule("{path}", nn.{stem!r})'))
