"""Write docs/architectures.md: which networks of torchvision and timm split into trunk and branches, and which do not.

    python docs/make_architectures.py          # some twenty minutes on one core, 8 GB of memory; downloads nothing

Each is built without weights, split at its default, and run: trunk and one branch, with the network's weights, must
have its state-dict names and give its outputs to the bit, and so must the student that is taken out.
"""

from __future__ import annotations

import textwrap
import warnings
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

import torch
from torch import nn

from codistill import models
from codistill.errors import UserError
from codistill.peers import BranchedGroup, default_split
from codistill.peers.features import find_classifier
from codistill.tracing.cost import trainable

NAMES = Path(__file__).with_name("architectures.txt")
"""One a line: the smallest of each family, where it has fewer than 400 million parameters."""

CLASSES = 1000


@dataclass(frozen=True)
class Split:
    """What the page says of a network that splits."""

    at: str
    shared: float
    features: int
    parameters: int


def main() -> None:
    """Try all, print a line each, and write the page."""
    warnings.simplefilter("ignore")
    write_page({name: attempt(name) for name in NAMES.read_text(encoding="utf-8").split()})


def write_page(rows: dict[str, Split | str]) -> None:
    """Write docs/architectures.md of what `attempt` returned for every network."""
    works = {name: row for name, row in rows.items() if isinstance(row, Split)}
    fails = {name: row for name, row in rows.items() if isinstance(row, str)}
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "torchvision", "timm"))
    page = [
        "# Foreign architectures",
        "",
        f"Of {len(rows)} networks {len(works)} split into trunk and branches at their default split: trunk and one",
        "branch have the network's state-dict names and give its outputs to the bit, and so does the student that is",
        f"taken out. Written by `python docs/make_architectures.py` on {date.today()} ({versions}).",
        "Any other split can be named; [networks](models.md) says how.",
        "",
        "## Split",
        "",
        "Shared: the trunk's part of the parameters. Parameters: trainable ones, for 1,000 classes.",
        "",
        "| network | default split | shared | features | parameters |",
        "|---|---|---:|---:|---:|",
        *(f"| `{n}` | `{r.at}` | {r.shared:.0%} | {r.features:,} | {r.parameters:,} |" for n, r in works.items()),
        "",
        "## Do not split",
        "",
        "Those that return logits can still be peers of their own (`--group networks`).",
        "",
        "| network | what codistill says |",
        "|---|---|",
        *(f"| `{n}` | {textwrap.shorten(reason, 240)} |" for n, reason in fails.items()),
    ]
    NAMES.with_suffix(".md").write_text("\n".join(page) + "\n", encoding="utf-8")


def attempt(name: str) -> Split | str:
    """Return what the page says of one network: its numbers, or the reason why it does not split."""
    generator = torch.Generator().manual_seed(0)
    net = models.build(name, CLASSES, generator=generator).eval()
    try:
        split = default_split(net)
        group = BranchedGroup(net, 1, split, generator).eval()
        check_equal(net, group, generator)
    except UserError as error:
        print(name, error, flush=True)
        return str(error).replace("|", "\\|")
    print(name, split, flush=True)
    shared = trainable(group.trunk) / trainable(net)
    return Split(split, shared, group.shape.feature_widths[0], trainable(net))


@torch.no_grad()
def check_equal(net: nn.Module, group: BranchedGroup, generator: torch.Generator) -> None:
    """Fail unless trunk and branch are the network."""
    state = net.state_dict()
    parts = {key: part for part in group.path(0) for key in part.state_dict()}
    assert parts.keys() == state.keys(), parts.keys() ^ state.keys()
    for part in group.path(0):
        part.load_state_dict({key: state[key] for key in part.state_dict()})
    images = torch.randn(find_classifier(net)[1].shape, generator=generator)[:1]
    expected = net(images)
    assert torch.equal(group(images).logits_PBC[0], expected)
    assert torch.equal(group.student(0)(images), expected)


if __name__ == "__main__":
    main()
