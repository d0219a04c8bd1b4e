"""Everything that a run depends on, as frozen dataclasses; the text after a field is its help on the command line."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from codistill.data import AugmentPolicy

__all__ = ["OWN_DATA", "AugmentConfig", "Config", "OptimConfig"]

OWN_DATA = "own"
"""What stands for the data's name where `train` was given a `dataset`."""


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
    policies: tuple[str, ...] = ("standard",)
    """What is added to crop and flip: standard (nothing), randaugment, trivialaugment, cutout, mixup, cutmix, joined by
    + (randaugment+cutout); one for all students, or with icl one for each, separated by commas or spaces."""
    crop_min_area: float = 0.08
    """Images that are not held in memory: least share of an image that a random resized crop keeps."""
    randaugment_ops: int = 2
    """Operations of randaugment on each image."""
    randaugment_magnitude: int = 9
    """Strength of randaugment's operations, 0 to 30."""
    cutout_size: int | None = None
    """Side of cutout's square in pixels; half the image's side if left out."""
    mix_alpha: float | None = None
    """The share in mixup and cutmix is drawn from Beta(alpha, alpha); 0.2 for mixup, 1 for cutmix if left out."""

    def __post_init__(self) -> None:
        given = (self.policies,) if isinstance(self.policies, str) else self.policies
        # Anything else is left for the check of the whole configuration, which refuses it in one sentence.
        if isinstance(given, tuple | list) and all(isinstance(item, str) for item in given):
            names = tuple(name.strip() for item in given for name in item.split(","))
            object.__setattr__(self, "policies", names)

    def policy(self, crop_padding: int = 0, flip: bool = False) -> AugmentPolicy:
        """The policy of these settings, with the data's own crop and flip where they are left out.

        Raises:
            UserError: settings that are out of range or exclude each other.
        """
        settings = {f.name: getattr(self, f.name) for f in fields(self)}
        settings["crop_padding"] = crop_padding if self.crop_padding is None else self.crop_padding
        settings["flip"] = flip if self.flip is None else self.flip
        return AugmentPolicy(**settings)


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
    classifier: str | None = None
    """Path of the layer that makes the logits, where it is not the network's last linear layer."""
    features: str | None = None
    """Path of the layer whose input is the feature vector that OKDDip's attention reads; the network's own choice
    (vgg16: the first layer of its head) or the classifier if left out."""
    initialisation: Literal["usual", "released"] = "usual"
    """How networks are initialised; released: as in the code of OKDDip's authors (vgg16: linear layers N(0, 0.01²),
    DenseNets: convolutions by fan-in; no difference for others)."""
    data: str = "digits"
    """Data set by name ('codistill list data'); in the files of a run, own stands for data given from Python."""
    data_dir: Path | None = None
    """Folder with the data set's files."""
    download: bool = True
    """Download a data set that is not found on this machine."""
    image_size: int | None = None
    """Side of the square images in pixels; images are resized to it (image_folder: 64, imagenet: 224 if left out)."""
    data_memory: float = 8.0
    """GiB that a data set's images may take; folders and tables of more, or of images of 128 pixels and above, are
    decoded anew in every step (0: always)."""
    workers: int | None = None
    """Processes that decode images which are not held in memory (0: the training process itself); one less than the
    cores, at most 8, if left out. Changes no result."""
    train_subset: int | None = None
    """Train on this many images only, the same share of every class (a quick look)."""
    validation: float = 0.1
    """Share of the training set that is split off for validation, by class (by font face for glyphs)."""
    epochs: int | None = None
    """Passes over the training images; the data set's own default if left out."""
    batch_size: int = 128
    """Images of one step."""
    last_batch: Literal["drop", "keep"] = "drop"
    """What becomes of the images that fill no whole batch at the end of an epoch: left out (others in every epoch), or
    trained on as a smaller batch. A last image alone joins the batch before it."""
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
    executor: Literal["loop", "fused", "recompute", "processes", "auto"] = "auto"
    """How the students run: one after the other; as one network (small ones, faster); again for the backward pass
    (memory of one student); side by side in processes of their own (networks on a CPU of many cores); or what a short
    trial finds fastest, which is then stored in the run (auto)."""
    deterministic: bool = False
    """Auto: choose by a rule, never by the clock, so that every start with the same seed gives the same numbers."""
    compile: bool = False
    """Compile the networks with torch.compile (loop, fused): minutes at the start; measure first whether it pays."""
    micro_batch: int | None = None
    """Recompute: images that pass at once. The method sees the whole batch, batch norm only these images."""
    memory_limit: float | None = None
    """Auto: GiB that the students' activations may take; 80 percent of what is free if left out."""
    channels_last: bool | None = None
    """Channels-last layout of the networks in memory, faster where they run on a CPU and the default there; networks
    whose forward needs planar activations keep them. Changes results by rounding only."""
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
