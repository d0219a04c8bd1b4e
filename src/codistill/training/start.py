"""The weights that a run starts from, put into its group: `--init`."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from codistill import models
from codistill.config import Config, read_config
from codistill.errors import UserError
from codistill.methods import Method
from codistill.models import Fit, Weights
from codistill.peers import PeerGroup
from codistill.rundir import CONFIG, INPUT, OWN_NETWORK, InputRecord, is_complete, is_run, read_record
from codistill.training.groups import NetworkSource, given_network
from codistill.training.pixels import EXPORTED, exported_weights, is_own, pixel_note, pixels_of_folder
from codistill.training.seeds import generator_for
from codistill.training.student import load_group, recorded_leader

__all__ = ["start_group", "warn_of_equal_peers"]


@torch.no_grad()
def start_group(
    config: Config, group: PeerGroup, facts: InputRecord, network: NetworkSource | None = None
) -> tuple[str, ...]:
    """Fill a newly built group with the weights that `config.init` names, and return what was loaded, to be told.

    Every peer keeps a classifier of its own, drawn from its seed, unless the weights are a run's of the same classes.
    Layers that peers share are filled once, all others in every branch.

    Args:
        config: filled in.
        group: as `build_group` returns it.
        facts: what the run's networks expect and give.
        network: the networks, if they were given from Python.

    Raises:
        UserError: weights are not there or do not fit, a run has another number of students or is not finished, or its
            students differ in what this group's peers share.
    """
    sources, told, shared = _Sources(config, group, facts, network), dict[int, str](), dict[int, Tensor]()
    _warn_of_tags(config)
    for peer in range(group.shape.peers):
        name, init = _of_peer(config.model, peer), _of_peer(config.init, peer)
        if init == models.RANDOM:
            continue
        net, classifier, keep = group.plain_network(peer), group.classifier_of(peer), sources.keeps_classifier(init)
        fitted = models.fit(sources.weights(peer), net, name, classifier, keep)
        told[peer] = str(fitted)
        if is_own(name) and not keep:
            # The user's code may make the same classifier for every peer.
            fitted = _with_drawn(fitted, net, classifier, generator_for(config.seed, "initialisation", peer))
        _write(group, peer, fitted, shared)
    if len(told) == group.shape.peers and len(set(told.values())) == 1:
        lines = [f"weights: {told[0]}"]
    else:
        lines = [f"weights of peer {peer}: {text}" for peer, text in told.items()]
    return (*lines, *pixel_note(config, facts))


def warn_of_equal_peers(config: Config, group: PeerGroup, method: Method) -> None:
    """Warn if two students start equal and nothing in the run is known to set them apart."""
    if config.icl or method.needs.turns:
        return
    for first, second in itertools.combinations(range(group.shape.peers), 2):
        # The leader has a loss of its own.
        if method.leader in (first, second) or _draws(group.plain_network(first)):
            continue
        a, b = group.peer_state(first), group.peer_state(second)
        if a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a):
            warnings.warn(
                f"students {first} and {second} start with the same weights, classifier included, see the same images "
                "and have no dropout: they may stay equal and teach each other nothing; draw a classifier for each "
                "(--init pretrained with a network of your own), or give each student its own view (--icl)",
                stacklevel=2,
            )
            return


class _Sources:
    """The weights behind the names in `config.init`, each read once."""

    def __init__(self, config: Config, group: PeerGroup, facts: InputRecord, network: NetworkSource | None) -> None:
        self.config, self.group, self.facts, self.network = config, group, facts, network
        self.runs: dict[str, PeerGroup] = {}
        self.read: dict[tuple[str, str], Weights] = {}

    def keeps_classifier(self, init: str) -> bool:
        """Whether these are the weights of a run with the same classes, and every peer has its own of them."""
        folder = Path(init).expanduser()
        same = is_run(folder) and read_record(folder / INPUT, InputRecord).classes == self.facts.classes
        return same and not self._starts_all(init)

    def _starts_all(self, init: str) -> bool:
        """Whether this run has one student, from which all peers of a group start."""
        return len(self.config.init) == 1 < self.group.shape.peers and self._run(init).shape.peers == 1

    def weights(self, peer: int) -> Weights:
        """Return what one peer starts from."""
        name, init = _of_peer(self.config.model, peer), _of_peer(self.config.init, peer)
        folder = Path(init).expanduser()
        if is_run(folder):
            return self._of_run(init, peer)
        if init == models.PRETRAINED and is_own(name):
            net = self.group.plain_network(peer) if self.network is None else given_network(self.network, peer)
            return Weights(copy.deepcopy(net.state_dict()), "the network as it was given")
        if (init, name) not in self.read:
            exported = (folder / EXPORTED).is_file()
            self.read[init, name] = _exported(folder) if exported else models.find_weights(name, init)
        return self.read[init, name]

    def _run(self, init: str) -> PeerGroup:
        """The students of a finished run, read once."""
        folder = Path(init).expanduser()
        if not is_complete(folder):
            raise UserError(f"init {init}: this run is not finished; finish it with 'codistill resume {init}'.")
        if init not in self.runs:
            theirs = OWN_NETWORK in read_config(folder / CONFIG).model
            _, self.runs[init], _, _ = load_group(folder, network=self.network if theirs else None)
        return self.runs[init]

    def _of_run(self, init: str, peer: int) -> Weights:
        """The run's student of the same number, or its only one.

        Where each peer has its own run, the student that run hands back.
        """
        run, peers, folder = self._run(init), self.group.shape.peers, Path(init).expanduser()
        if len(self.config.init) > 1:
            student = recorded_leader(folder, "last")
            return Weights(run.student(student).state_dict(), f"{init}, student {student}")
        if self._starts_all(init):
            return Weights(run.student(0).state_dict(), f"{init}, its one student")
        if run.shape.peers != peers:
            raise UserError(
                f"init {init}: this run has {run.shape.peers} student(s), the group {peers}; give --peers "
                f"{run.shape.peers}, or start all from one student with 'codistill export {init}' and --init "
                f"{folder / 'export'}."
            )
        return Weights(run.student(peer).state_dict(), f"{init}, student by student")


def _exported(folder: Path) -> Weights:
    weights = models.read_file(exported_weights(folder))
    return dataclasses.replace(weights, source=str(folder), pixels=pixels_of_folder(folder))


def _of_peer(values: tuple[str, ...], peer: int) -> str:
    return values[peer if len(values) > 1 else 0]


def _warn_of_tags(config: Config) -> None:
    """Warn of each name of a network that names weights too, if these are not loaded."""
    peers = range(max(len(config.model), len(config.init)))
    said = (models.tag_is_ignored(_of_peer(config.model, peer), _of_peer(config.init, peer)) for peer in peers)
    for text in dict.fromkeys(filter(None, said)):
        warnings.warn(text, stacklevel=3)


def _with_drawn(fitted: Fit, net: nn.Module, classifier: str, generator: torch.Generator) -> Fit:
    head = models.initialise(copy.deepcopy(net.get_submodule(classifier)), generator)
    drawn = {f"{classifier}.{name}": value for name, value in head.state_dict().items()}
    return dataclasses.replace(fitted, values={**fitted.values, **drawn})


def _write(group: PeerGroup, peer: int, fitted: Fit, shared: dict[int, Tensor]) -> None:
    """Copy the values into the peer; `shared` remembers by address what earlier peers have written."""
    # The plain network keeps what never runs, and is not always a part of the group.
    plain, places = group.plain_network(peer).state_dict(), group.peer_state(peer)
    for name, value in fitted.values.items():
        if name in places:
            before = shared.setdefault(places[name].data_ptr(), value)
            if before is not value and not torch.equal(before, value):
                raise UserError(
                    f"init {fitted.source}: the students differ in {name!r}, which this group's peers share; train a "
                    "group of networks, or start from one student ('codistill export')."
                )
            places[name].copy_(value)
        if name in plain:
            plain[name].copy_(value)


def _draws(net: nn.Module) -> bool:
    """Whether some layer draws random numbers in training, as dropout and stochastic depth do."""
    for layer in net.modules():
        rates = (getattr(layer, name, 0) for name in ("p", "drop_prob", "dropout"))
        if any(isinstance(rate, int | float) and rate > 0 for rate in rates):
            return True
    return False
