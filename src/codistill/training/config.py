"""Everything that a run depends on, as frozen dataclasses; the text after a field is its help on the command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

__all__ = ["AugmentConfig", "Config", "OptimConfig"]


@dataclass(frozen=True)
class OptimConfig:
    """Optimizer and learning-rate schedule; the defaults are OKDDip's settings for CIFAR."""

    lr: float = 0.1
    """Learning rate of SGD at the start (after the warm-up)."""
    momentum: float = 0.9
    """Momentum of SGD, 0 to below 1."""
    nesterov: bool = True
    """Nesterov's momentum."""
    weight_decay: float = 5e-4
    """L2 weight decay on all parameters."""
    schedule: Literal["step", "cosine", "constant"] = "step"
    """How the learning rate falls: times gamma at every milestone, along half a cosine to 0, or not at all."""
    milestones: tuple[float, ...] = (0.5, 0.75)
    """Where the step schedule falls, as shares of the run (0.5 0.75: epochs 150 and 225 of 300)."""
    gamma: float = 0.1
    """Factor at every milestone."""
    warmup_epochs: float = 0.0
    """Epochs over which the learning rate rises linearly from 0."""


@dataclass(frozen=True)
class AugmentConfig:
    """Random distortions of training images; left out, each data set's own default applies."""

    crop_padding: int | None = None
    """Pixels of zero padding before a random crop of the original size (0: no crop)."""
    flip: bool | None = None
    """Horizontal flip with probability 1/2."""


@dataclass(frozen=True)
class Config:
    """One training run."""

    method: str = "okddip"
    """Method by name ('codistill list methods'), or path/to/file.py:Name."""
    model: tuple[str, ...] = ("resnet32",)
    """Network by name ('codistill list models'); one for all peers, or one for each peer."""
    peers: int | None = None
    """Number of students in the group (OKDDip: auxiliary peers and the leader); 4, or 1 for baseline."""
    group: Literal["networks", "branches", "tree"] = "networks"
    """Students as networks of their own, as branches on a shared trunk, or as heads of a tree of shared layers."""
    split: str | None = None
    """Branches: module from which on each has its own copy, such as layer3 (the network's default if left out). Tree:
    modules and their children, such as layer2:2,layer3:2 (four heads)."""
    data: str = "digits"
    """Data set by name ('codistill list data')."""
    data_dir: Path | None = None
    """Folder with the data set's files."""
    download: bool = True
    """Download a data set that is not found on this machine."""
    image_size: int | None = None
    """Side of the square images in pixels; images are resized to it (image_folder: 64 if left out)."""
    train_subset: int | None = None
    """Train on this many images only, the same share of every class (a quick look)."""
    validation: float = 0.1
    """Share of the training set that is split off for validation, by class (by font face for glyphs)."""
    epochs: int | None = None
    """Passes over the training images; the data set's own default if left out."""
    batch_size: int = 128
    """Images of one step."""
    icl: bool = False
    """Invariant collaborative learning: every student gets its own distortion of the same images."""
    teachers: tuple[str, ...] = ()
    """For the method kd, frozen teachers: finished runs, exported students, or torchvision:NAME with its weights."""
    seed: int = 0
    """The one seed that all randomness of the run is derived from."""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps; auto takes a GPU where there is one."""
    amp: Literal["auto", "off", "bf16"] = "auto"
    """Mixed precision of the networks; auto: bfloat16 on CUDA devices that have it, off elsewhere."""
    executor: str = "loop"
    """How the peers are run."""
    threads: int | None = None
    """CPU threads of this run; PyTorch's choice if left out. Results repeat exactly for the same number only."""
    out: Path | None = None
    """Run directory; runs/DATA-MODEL-METHOD-seedN if left out."""
    label: str | None = None
    """Name of this variant in tables and reports; made of method, group and icl if left out."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimizer and schedule."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Random distortions."""
    method_options: dict[str, Any] = field(default_factory=dict)
    """Options of the method; 'codistill list methods' names them, --set method_options.temperature=2 sets one."""

    def __post_init__(self) -> None:
        # From Python, a lone name and a plain string for a path are what people write.
        if isinstance(self.model, str):
            object.__setattr__(self, "model", (self.model,))
        for name in ("data_dir", "out"):
            if isinstance(getattr(self, name), str):
                object.__setattr__(self, name, Path(getattr(self, name)))
