"""Networks from torchvision, timm and the user's files, by name."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
from typing import Any

from torch import nn

from codistill.errors import UserError, unknown
from codistill.models.stem import replace_stem
from codistill.userfile import call, load_name

__all__ = ["OPTIONS", "elsewhere", "from_file", "from_timm", "from_torchvision", "import_timm"]

# Auxiliary classifiers would make the output a tuple in training, and the defaults of these options cause warnings.
OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": False},
    "inception_v3": {"aux_logits": False, "init_weights": False},
}


def from_torchvision(name: str, num_classes: int, in_channels: int, **options: Any) -> nn.Module:
    """Return torchvision's classification network `name` without pretrained weights.

    Raises:
        UserError: torchvision has no such classification network.
    """
    # Imported here because it takes as long as the whole package, and most commands do not need its networks.
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise unknown("torchvision model", name, known)
    options = {**OPTIONS.get(name, {}), **options}
    net = models.get_model(name, weights=None, num_classes=num_classes, **options)
    return net if in_channels == 3 else replace_stem(net, in_channels)


def from_timm(name: str, num_classes: int, in_channels: int) -> nn.Module:
    """Return timm's network `name` without pretrained weights.

    Raises:
        UserError: timm is not installed, or has no such network.
    """
    timm = import_timm(name)
    try:
        return timm.create_model(name, pretrained=False, num_classes=num_classes, in_chans=in_channels)
    except (RuntimeError, TypeError) as error:
        reason = str(error).rstrip(".")
        raise UserError(f"model 'timm:{name}': {reason}; see timm.list_models() for all names.") from error


def import_timm(name: str) -> Any:
    """Return the package timm; UserError if it is not installed, or has no network `name`."""
    try:
        timm = importlib.import_module("timm")
    except ImportError as error:
        raise UserError(
            f"model 'timm:{name}' needs timm, which is not installed: pip install 'codistill[timm]'."
        ) from error
    known = timm.list_models()
    if name.partition(".")[0] not in known:
        raise unknown("timm model", name, known, "see timm.list_models() for all names.")
    return timm


def elsewhere(name: str) -> list[str]:
    """Return the networks of torchvision, and of timm if it is installed, that are called nearly `name`.

    To be asked only after a mistake: it imports both.
    """
    from torchvision import models

    known = {"torchvision": models.list_models(module=models)}
    with contextlib.suppress(ImportError):
        known["timm"] = importlib.import_module("timm").list_models()
    bare = name.lower().rpartition(":")[2]
    return [
        f"{package}:{found}"
        for package, names in known.items()
        for found in difflib.get_close_matches(bare, names, n=2, cutoff=0.7)
    ]


def from_file(reference: str, num_classes: int, in_channels: int) -> nn.Module:
    """Call the function of "path/to/file.py:function" with `num_classes` and `in_channels`, and return its network.

    Raises:
        UserError: the file or function does not exist, takes other parameters or fails, or it returns something that is
            not an nn.Module or has no parameter to train.
    """
    function = load_name(reference)
    if not callable(function) or isinstance(function, nn.Module):
        raise UserError(
            f"model {reference!r} is not a function: write function(num_classes, in_channels) -> nn.Module."
        )
    try:
        inspect.signature(function).bind(num_classes=num_classes, in_channels=in_channels)
    except TypeError as error:
        raise UserError(
            f"model {reference!r}: {error}; write it as function(num_classes, in_channels) -> nn.Module."
        ) from error
    net = call(reference, function, num_classes=num_classes, in_channels=in_channels)
    if not isinstance(net, nn.Module):
        raise UserError(f"model {reference!r} returned {type(net).__name__}: it must return an nn.Module.")
    if not any(parameter.requires_grad for parameter in net.parameters()):
        raise UserError(
            f"model {reference!r} has no parameter to train: keep requires_grad=True for those that should learn."
        )
    return net
