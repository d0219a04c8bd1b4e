"""The student that is exported: from the run's group, with everything that is told of it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from torch import Tensor, nn

import codistill
from codistill.config import REPEATS, Config, config_to_dict, default_label
from codistill.errors import UserError
from codistill.export.building import Recipe, recipe_for
from codistill.export.card import Story
from codistill.export.request import ExportRequest
from codistill.export.weights import digest_of
from codistill.peers import PeerGroup
from codistill.rundir import SUMMARY, StudentRecord, Summary, is_complete, read_record
from codistill.training.groups import NetworkSource, plain_network
from codistill.training.preparation import preparation_of
from codistill.training.student import load_group, peer_index

__all__ = ["Chosen", "choose"]

PACKAGES = {
    "safetensors": ("safetensors",),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "torch-export": (),
    "hub": ("safetensors",),
}
"""Format -> packages besides torch that write it."""


@dataclass(frozen=True, eq=False)
class Chosen:
    """One student of a run.

    Attributes:
        config: of the run.
        group: all students, in evaluation mode.
        network: the student, which is a part of the group or a copy.
        given: the networks, if they were given from Python.
        record: what student.json says, without files. It has no `images`: these notes name folders of this machine.
        recipe: how the plain network is built.
        summary: of the run; None while it is unfinished.
        unprepared: why nothing is known about how pictures are prepared; None where it is.
    """

    config: Config
    group: PeerGroup
    network: nn.Module
    given: NetworkSource | None
    record: StudentRecord
    recipe: Recipe
    summary: Summary | None
    unprepared: str | None

    def in_group(self, images: Tensor) -> Tensor:
        """Return the student's logits [B, classes] as the group puts them out."""
        return self.group(images).logits_PBC[self.record.peer]

    def build(self) -> nn.Module:
        """Return the plain network again, with other weights."""
        return plain_network(self.config, self.record.peer, self.record, self.given)

    def story(self, request: ExportRequest) -> Story:
        """Return what the card says besides the record."""
        parameters = sum(parameter.numel() for parameter in self.network.parameters())
        data = "data given from Python" if self.config.data == "own" else self.config.data
        return Story(data, self.summary, _departures(self.config), parameters, request.license, request.push)


def choose(request: ExportRequest, given: NetworkSource | None) -> Chosen:
    """Load the student that the request names.

    Raises:
        UserError: there is no run, checkpoint or student, its leader is not known, there are no averaged weights where
            the request insists on them, or networks are missing.
    """
    run = request.run
    config, group, method, facts = load_group(run, request.checkpoint, network=given)
    averages = method.deploys_average or config.average is not None
    if request.averaged and not averages:
        raise UserError(
            f"{run} keeps no moving averages of its weights: leave --averaged out, or train it with --average 0.999."
        )
    peer = peer_index(run, request.peer, group.shape.peers, request.checkpoint)
    network = group.student(peer).eval()
    preparation, unprepared = None, None
    try:
        preparation = preparation_of(run, config, facts)
    except UserError as error:
        unprepared = str(error)
    model = config.model[peer if len(config.model) > 1 else 0]
    summary = read_record(run / SUMMARY, Summary) if is_complete(run) else None
    test = None if summary is None else (summary.last if request.checkpoint == "last" else summary.selected).test
    known = {name: getattr(facts, name) for name in ("channels", "height", "width", "mean", "std", "classes", "data")}
    record = StudentRecord(
        **known,
        preparation=preparation,
        model=model,
        peer=peer,
        run=config.label or default_label(config),
        test=None if test is None else test.peers[peer],
        test_images=None if test is None else test.images,
        figure="error" if summary is None else summary.figure,
        method=config.method,
        seed=config.seed,
        checkpoint=request.checkpoint,
        weights="averaged" if averages else "trained",
        weights_sha256=digest_of(network),
        versions=_versions(request.format),
    )
    recipe = recipe_for(model, network, len(facts.classes), facts.channels)
    return Chosen(config, group, network, given, record, recipe, summary, unprepared)


def _versions(format: str) -> dict[str, str]:
    found = {"codistill": codistill.__version__}
    for package in ("torch", *PACKAGES[format]):
        found[package] = version(package)
    return found


def _departures(config: Config) -> dict[str, Any]:
    """The settings that make the experiment, where they are not the defaults, and the seed."""
    mine, usual = config_to_dict(config), config_to_dict(Config())
    names = [name for name in mine if name not in REPEATS or name == "seed"]
    kept = {name: _differing(mine[name], usual[name]) for name in names if mine[name] != usual[name]}
    return {"method": config.method, "model": list(config.model), **kept, "seed": config.seed}


def _differing(mine: Any, usual: Any) -> Any:
    if isinstance(mine, dict) and isinstance(usual, dict):
        return {name: value for name, value in mine.items() if name not in usual or usual[name] != value}
    return mine
