"""Everything that a run depends on, as frozen dataclasses; the text after a field is its help on the command line.

Settings of one component are defined next to its code: `DataOptions`, `AugmentPolicy`, `ExecutionOptions`,
`LearningOptions`, `OptimConfig`. A run's `Config` is all of them together. Every field says what a change of it means
(meaning.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from codistill.config.learning import LearningOptions
from codistill.config.optim import OptimConfig
from codistill.config.saving import SavingOptions
from codistill.convert import build_dataclass
from codistill.data.options import DataOptions
from codistill.data.policy import AugmentPolicy
from codistill.execution.options import ExecutionOptions
from codistill.meaning import names_of, setting

__all__ = ["NOTHING", "REPEATS", "ROUNDING", "Config", "Experiment", "Logger", "filled"]

T = TypeVar("T")

Logger = Literal["tensorboard", "wandb"]
"""What can show the curves of a run."""


@dataclass(frozen=True)
class Experiment:
    """Who learns from whom, and for how long."""

    method: str = setting("okddip")
    """Method by name ('codistill list methods'), or path/to/file.py:Name."""
    model: tuple[str, ...] = setting(("resnet32",))
    """Network by name ('codistill list models'); one for all peers, or one for each peer. In the files of a run, own
    means networks given from Python."""
    peers: int | None = setting(None)
    """Number of students in the group (OKDDip: auxiliary peers and the leader); 4 if left out, or what the method
    trains: 1 for baseline and kd, 2 for switokd."""
    group: Literal["networks", "branches", "tree"] = setting("networks")
    """Students as networks of their own, as branches on a shared trunk, or as heads of a tree of shared layers."""
    split: str | None = setting(None)
    """Branches: module from which on each has its own copy, such as layer3 (the network's default if left out). Tree:
    modules and their children, such as layer2:2,layer3:2 (four heads)."""
    classifier: str | None = setting(None)
    """Path of the layer that makes the logits, if it is not the network's last linear layer."""
    features: str | None = setting(None)
    """Path of the layer whose input is the feature vector that OKDDip's attention reads; the network's own choice
    (vgg16: the first layer of its head) or the classifier if left out."""
    initialisation: Literal["usual", "released"] = setting("usual")
    """How networks are initialised; released: as in the code of OKDDip's authors (vgg16: linear layers N(0, 0.01²),
    DenseNets: convolutions by fan-in; no difference for others)."""
    init: tuple[str, ...] = setting(("random",))
    """Weights to start from, one for all peers or one for each: random; pretrained, those that torchvision or timm (or
    your own file) has for the network; a name of torchvision's weights, such as IMAGENET1K_V2; the path of a state
    dict or an exported student; or a finished run, to go on from, student by student."""
    normalise: Literal["auto", "data", "weights", "imagenet"] = setting("auto")
    """Mean and deviation by which pixels are normalised: of the data set, of the weights in --init, or ImageNet's. auto
    takes those of the weights for folders and tables of images, and else the data set's."""
    teachers: tuple[str, ...] = setting(())
    """Frozen teachers, for the method kd: finished runs, exported students, torchvision:NAME or timm:NAME with their
    weights, NETWORK@WEIGHTS with the path of a state dict, or path/to/file.py:function."""
    icl: bool = setting(False)
    """Invariant collaborative learning: each student gets its own distortion of the same images."""
    epochs: int | None = setting(None)
    """Passes over the training images; the data set's own default if left out."""
    batch_size: int = setting(128)
    """Images of one step."""
    last_batch: Literal["drop", "keep"] = setting("drop")
    """What to do with the images that do not fill a whole batch at the end of an epoch: leave them out (others in each
    epoch), or train on them as a smaller batch. A single last image joins the batch before it."""
    seed: int = setting(0, "seed")
    """The seed from which all random numbers of the run are derived."""


@dataclass(frozen=True)
class Config(ExecutionOptions, DataOptions, LearningOptions, SavingOptions, Experiment):
    """One training run."""

    out: Path | None = setting(None, "nothing")
    """Run directory; runs/DATA-MODEL-METHOD-seedN if left out."""
    recipe: Literal["scratch", "finetune", "okddip", "kdcl"] | None = setting(None, "nothing")
    """Start from the settings of a recipe (docs/training.md), which all others given override."""
    logger: tuple[Logger, ...] = setting((), "nothing")
    """Write curves for TensorBoard (to extra/tensorboard in the run directory) or to Weights & Biases, or to both; each
    needs its package (docs/observers.md)."""
    label: str | None = setting(None, "nothing")
    """Name of this variant in tables and reports; made from method, group, icl and augment.policies if left out."""
    optim: OptimConfig = setting(make=OptimConfig)
    """Optimizer and schedule."""
    augment: AugmentPolicy = setting(make=AugmentPolicy)
    """Random distortions."""
    method_options: dict[str, Any] = setting(make=dict)
    """Options of the method; 'codistill list methods' names them, --set method_options.temperature=2 sets one."""

    def __post_init__(self) -> None:
        # From Python, people write a single name, and a plain string for a path.
        for name in ("model", "init", "teachers", "logger"):
            if isinstance(getattr(self, name), str | Path):
                object.__setattr__(self, name, (str(getattr(self, name)),))
        if isinstance(self.optim, Mapping):
            object.__setattr__(self, "optim", build_dataclass(OptimConfig, self.optim, "optim."))
        for name in ("data_dir", "validation_dir", "out"):
            if isinstance(getattr(self, name), str):
                object.__setattr__(self, name, Path(getattr(self, name)))


NOTHING = names_of(Config, "nothing")
"""Settings that change no number of a run."""

ROUNDING = names_of(Config, "rounding")
"""Settings that change a run's numbers by no more than rounding (and the draws of random layers)."""

REPEATS = names_of(Config, "nothing", "rounding", "seed")
"""Settings in which two runs of one experiment may differ."""


def filled(value: T | None) -> T:
    """Return a setting that `check_config` (or, for `epochs`, `build_session`) has filled in."""
    assert value is not None
    return value
