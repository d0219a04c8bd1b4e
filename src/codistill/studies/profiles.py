"""Profiles: the settings of a study. `paper` has the papers' own; `gpu`, `cpu` and `smoke` keep methods and protocol,
with smaller data and networks.

| profile | CIFAR-10 | CIFAR-100, ImageNet | networks | for |
|---|---|---|---|---|
| paper | CIFAR-10 | CIFAR-100, ImageNet | the papers' | GPUs |
| gpu | Fashion-MNIST | Glyphs-100 | the papers' for CIFAR; others in place of ImageNet's | one GPU of 80 GB |
| cpu | Fashion-MNIST, 3,000 images | Glyphs-100, 3,000 images | small, of the same families | two cores |
| smoke | digits, 200 images | the same | as cpu | tests |
"""

from __future__ import annotations

import dataclasses

from codistill.errors import unknown
from codistill.training import Config, OptimConfig

__all__ = ["PROFILES", "Profile", "find_profile"]

SMALL = {
    "densenet40_12": "densenet16_8",
    "resnet32": "resnet8_tiny",
    "vgg16": "vgg8_tiny",
    "resnet110": "resnet11_tiny",
    "wrn20_8": "wrn11_2_tiny",
    "wrn16_2": "wrn10_1",
    "resnet18": "resnet8_tiny",
    "resnet34": "resnet14_tiny",
    "resnet50": "resnet20_tiny",
    "mobilenet_v2": "mobilenet_v2_tiny",
    "mobilenet_v2_x0.5": "mobilenet_v2_tiny_x0.5",
    "mobilenet_v2_x1.2": "mobilenet_v2_tiny_x1.2",
}
"""The paper's network -> the small one that replaces it: the same kind of block, one or two per stage."""

FOR_SMALL_IMAGES = {
    "resnet18": "resnet20",
    "resnet34": "resnet56",
    "resnet50": "resnet110",
    "mobilenet_v2": "mobilenet_v2_tiny",
    "mobilenet_v2_x0.5": "mobilenet_v2_tiny_x0.5",
    "mobilenet_v2_x1.2": "mobilenet_v2_tiny_x1.2",
}
"""The paper's network for ImageNet -> one of the same kind of block for images of 32 × 32."""

OKDDIP, KDCL = OptimConfig(), OptimConfig(milestones=(0.3, 0.6, 0.9))
OKDDIP_IMAGENET = OptimConfig(weight_decay=1e-4, milestones=(1 / 3, 2 / 3))
KDCL_IMAGENET = OptimConfig(weight_decay=1e-4, milestones=(0.3, 0.6, 0.9), warmup_epochs=5)

TUNED = OptimConfig(lr=0.2, weight_decay=0.003, schedule="cosine")
"""What suits resnet8_tiny alone best on 3,000 images of Glyphs-100, by validation: results/primary.md."""

PAPER = {
    ("okddip", "cifar10"): Config(data="cifar10", epochs=300, batch_size=128, optim=OKDDIP),
    ("okddip", "cifar100"): Config(data="cifar100", epochs=300, batch_size=128, optim=OKDDIP),
    ("okddip", "imagenet"): Config(data="imagenet", epochs=90, batch_size=256, optim=OKDDIP_IMAGENET),
    ("kdcl", "cifar100"): Config(data="cifar100", epochs=200, batch_size=128, optim=KDCL),
    ("kdcl", "imagenet"): Config(data="imagenet", epochs=200, batch_size=256, optim=KDCL_IMAGENET),
}
# The papers set no images aside for validation. This share costs training little and can still select an epoch.
PAPER_VALIDATION = 0.02


@dataclasses.dataclass(frozen=True)
class Profile:
    """One of "paper", "gpu", "cpu" and "smoke", and the user's choices where the papers are unclear.

    Attributes:
        name: its name.
        seeds: how many seeds a study has by default.
        what: description for reports.
        reading: how OKDDip is read; a key of READINGS.
        unclear_epochs: epochs of KDCL's networks whose length the slides leave open; None for the full length.
    """

    name: str
    seeds: int
    what: str
    reading: str = "slides"
    unclear_epochs: int | None = None

    def network(self, name: str) -> str:
        """Return the network that is trained for the paper's."""
        if self.name == "gpu":
            return FOR_SMALL_IMAGES.get(name, name)
        return name if self.name == "paper" else SMALL[name]

    def tree(self, name: str) -> str:
        """Return where a tree of four heads splits in two: before the second-last stage and before the last."""
        imagenet = self.name == "paper" and name in ("resnet18", "resnet34", "resnet50")
        return "layer3:2,layer4:2" if imagenet else "layer2:2,layer3:2"

    def settings(self, paper: str, dataset: str) -> Config:
        """Return data, length, batch and optimizer of a paper's experiment on a data set."""
        # So that a repeated study gives the same numbers.
        config = dataclasses.replace(PAPER[paper, dataset], deterministic=True)
        if self.name == "paper":
            return dataclasses.replace(config, validation=PAPER_VALIDATION)
        small = dataclasses.replace(config, threads=1, device="cpu")
        optim = dataclasses.replace(config.optim, warmup_epochs=0.0, weight_decay=5e-4)
        if self.name == "smoke":
            return dataclasses.replace(
                small, data="digits", train_subset=200, validation=0.2, epochs=2, batch_size=50,
                optim=dataclasses.replace(optim, lr=0.05),
            )  # fmt: skip
        data = "fashion_mnist" if dataset == "cifar10" else "glyphs"
        if self.name == "cpu":
            # The schedule alone is worth two points of error to the network alone; the papers' steps make methods look
            # better than they are.
            return dataclasses.replace(
                small, data=data, image_size=16, train_subset=3000, validation=PAPER_VALIDATION, epochs=60,
                batch_size=64, optim=TUNED,
            )  # fmt: skip
        # KDCL lowers the rate first at 30 % of a run. That is too early in so few epochs: networks trained alone then
        # have higher errors (docs/studies.md), and distillation only hurts a network that has not converged.
        optim = dataclasses.replace(optim, milestones=OKDDIP.milestones)
        # Each run measures which executor is fastest, and whether with CUDA graphs; a repeated one may differ by
        # rounding.
        return dataclasses.replace(
            config, data=data, image_size=32, validation=0.03, epochs=40, batch_size=128, threads=1, amp="bf16",
            deterministic=False, optim=optim,
        )  # fmt: skip


PROFILES = {
    "smoke": Profile("smoke", 2, "200 digits and 2 epochs; a check that everything runs, nothing more"),
    "cpu": Profile(
        "cpu",
        3,
        "small networks, tuned, on 3,000 images of Fashion-MNIST or Glyphs-100 at 16 × 16; not the papers' setting",
    ),
    "gpu": Profile("gpu", 3, "the papers' networks for CIFAR on Fashion-MNIST and Glyphs-100 at 32 × 32; other data"),
    "paper": Profile("paper", 3, "the papers' networks, data and lengths"),
}


def find_profile(name: str) -> Profile:
    """Return a profile by name; UserError for an unknown one."""
    if name not in PROFILES:
        raise unknown("profile", name, PROFILES)
    return PROFILES[name]
