"""The group of networks that a configuration names, or that was given from Python."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn

from codistill import models
from codistill.config import Config, filled
from codistill.errors import UserError
from codistill.models.init import refuse_lazy
from codistill.peers import BranchedGroup, NetworkGroup, PeerGroup, TreeGroup
from codistill.rundir import OWN_NETWORK, InputRecord
from codistill.training.check import parse_splits
from codistill.training.seeds import generator_for

__all__ = ["NetworkSource", "build_group", "given_network", "own_names", "plain_network"]


NetworkSource = nn.Module | Sequence[nn.Module]
"""Networks given from Python: one, of which each peer gets a copy, or a list with one per peer."""


def own_names(network: NetworkSource) -> tuple[str, ...]:
    """Return what `Config.model` says of these networks; UserError if they are no networks."""
    given = _as_list(network)
    wrong = next((item for item in given if not isinstance(item, nn.Module)), None)
    if not given or wrong is not None:
        what = "an empty list" if not given else f"a {type(wrong).__name__}"
        raise UserError(f"network is {what}: give an nn.Module, or a list of them with one per peer.")
    return (OWN_NETWORK,) * len(given)


def build_group(
    config: Config, num_classes: int, image: tuple[int, int, int], network: NetworkSource | None = None
) -> PeerGroup:
    """Build the group of the configuration, each peer initialised from a seed of its own; `start_group` loads weights.

    Args:
        config: filled in by `check_config`.
        num_classes: C.
        image: channels, height and width of the images; the networks are tried on this size, without values.
        network: the networks, if `config.model` says "own". They are copied and never changed. Each peer gets a copy
            of a single network, with parameters drawn again; networks in a list keep their parameters.

    Raises:
        UserError: the model, split or classifier is unknown, a network does not fit the data, or `network` is missing
            or not asked for.
    """
    refuse_other_networks(config, network)
    peers = filled(config.peers)
    example, count = torch.empty(2, *image, device="meta"), peers if config.group == "networks" else 1
    sources = [generator_for(config.seed, "initialisation", peer) for peer in range(count)]
    if network is None:
        networks = [_named(config, peer, num_classes, image[0], own) for peer, own in enumerate(sources)]
    else:
        networks = _copies(network, sources)
    for peer, net in enumerate(networks):
        _refuse_other_numbers(_name_of(config, peer), net)
    named = {"classifier": config.classifier, "example": example, "features": config.features}
    if config.group == "networks":
        group = NetworkGroup(networks, **named)
    elif config.group == "tree":
        group = TreeGroup(networks[0], parse_splits(config.split), sources[0], **named)
    else:
        group = BranchedGroup(networks[0], peers, config.split, sources[0], **named)
    if group.shape.num_classes != num_classes:
        raise UserError(
            f"model {', '.join(dict.fromkeys(config.model))} gives {group.shape.num_classes} logits for {num_classes} "
            "classes: build its last layer with the num_classes that it is given."
        )
    return group


def plain_network(config: Config, peer: int, facts: InputRecord, network: NetworkSource | None = None) -> nn.Module:
    """Return a new network of this peer's kind, with parameters drawn from torch's global generator."""
    if network is None:
        return _named(config, peer, len(facts.classes), facts.channels, None)
    return models.initialise(copy.deepcopy(given_network(network, peer)), None)


def given_network(network: NetworkSource, peer: int) -> nn.Module:
    """Return the network that was given for a peer, with the parameters that it has."""
    given = _as_list(network)
    return given[peer if len(given) > 1 else 0]


def refuse_other_networks(config: Config, network: NetworkSource | None) -> None:
    """Raise UserError if networks are missing, are given but not asked for, or are another number than the run has."""
    own = OWN_NETWORK in config.model
    if own and network is None:
        raise UserError(
            f"model {OWN_NETWORK!r} stands for networks that were given from Python, and none are given here: pass the "
            "same network= from Python (to train, resume, evaluate_run, load_student or export_student), or name one."
        )
    if network is None:
        return
    if not own:
        raise UserError(f"network= for a run of {', '.join(config.model)}: leave it out, the run names its networks.")
    if own_names(network) != config.model:
        raise UserError(
            f"{len(_as_list(network))} networks for a run that began with {len(config.model)}: give the same network=."
        )


def _as_list(network: NetworkSource) -> list[nn.Module]:
    if _is_list(network):
        return list(network)  # pyright: ignore[reportArgumentType]
    return [network]  # pyright: ignore[reportReturnType]


def _is_list(network: NetworkSource) -> bool:
    # A ModuleList is a module without a forward of its own.
    return isinstance(network, nn.ModuleList | list | tuple)


def _copies(network: NetworkSource, sources: Sequence[torch.Generator]) -> list[nn.Module]:
    """Return a copy for each generator: of one network, drawn again from it; or of a list, as it is."""
    for net in _as_list(network):
        refuse_lazy(net)
    if _is_list(network):
        given = _as_list(network)
        if len(given) < len(sources):
            raise UserError(
                f"network is a list of {len(given)} for {len(sources)} peers: give a list with one per peer, or a "
                "network instead of a list, of which each peer gets a copy."
            )
        # Copied together, so that layers in two networks stay shared, and are refused by the group.
        return copy.deepcopy(given)[: len(sources)]
    (one,) = _as_list(network)
    return [models.initialise(copy.deepcopy(one), source) for source in sources]


def _named(
    config: Config, peer: int, num_classes: int, in_channels: int, generator: torch.Generator | None
) -> nn.Module:
    # Weights, if there are any, come later: from `start_group`, or from a checkpoint.
    name = _name_of(config, peer)
    return models.build(name, num_classes, in_channels, generator, config.initialisation, models.RANDOM)


def _name_of(config: Config, peer: int) -> str:
    return config.model[peer if len(config.model) > 1 else 0]


def _about_default() -> str:
    default = str(torch.get_default_dtype()).removeprefix("torch.")
    return "" if default == "float32" else f"; torch.set_default_dtype made {default} the default here"


def _refuse_other_numbers(name: str, net: nn.Module) -> None:
    for path, parameter in net.named_parameters():
        kind = "meta" if parameter.is_meta else str(parameter.dtype).removeprefix("torch.")
        if kind != "float32":
            raise UserError(
                f"model {name} has the {kind} parameter {path!r}: images are float32; build it with float32 parameters "
                f"(--amp sets the precision of training{_about_default()})."
            )
