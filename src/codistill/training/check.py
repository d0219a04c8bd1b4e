"""Checks of a configuration before any data are read: each mistake is refused in one sentence."""

from __future__ import annotations

import dataclasses
import math

import torch
import yaml

from codistill import data, methods
from codistill.config import Config, check_recipe, config_from_dict, config_to_dict, default_label, default_out
from codistill.errors import UserError, check_rules
from codistill.execution import check_executor
from codistill.peers.tree import check_splits
from codistill.rundir import OWN_DATA, OWN_NETWORK
from codistill.training.check_updates import check_updates
from codistill.training.optimizer import check_optimizer

__all__ = ["check_config", "is_here", "parse_splits", "refuse_modes", "refuse_objects", "resolve_device"]

MOST_EPOCHS = 1_000_000
"""Far above what any sensible run uses; beyond it, machines fail without a clear message."""

LAST_SEED = 2**63 - 1
"""The largest that all torch generators take."""


def check_config(config: Config) -> Config:
    """Return the configuration with everything filled in that does not depend on the data.

    `peers`, `device`, `amp`, `label` and `out` are then known; `build_session` adds `epochs`, and `crop_padding` and
    `flip` of `augment`.

    Raises:
        UserError: an unknown name or a value outside its range, with the rule and the remedy.
    """
    refuse_objects(config)
    # From Python, a value may have any type; after this it has the declared one.
    config = config_from_dict(config_to_dict(config))
    method = methods.find(config.method)
    _check_options(config)
    if not config.model:
        raise UserError("no model: give the name of a network ('codistill list models').")
    peers = config.peers
    if config.group == "tree":
        heads = math.prod(parse_splits(config.split).values())
        if peers not in (None, heads):
            raise UserError(f"peers {peers} with the tree {config.split!r} of {heads} heads: leave --peers out.")
        peers = heads
    if peers is None:
        usual = min(method.usual_peers, method.max_peers or method.usual_peers)
        peers = len(config.model) if len(config.model) > 1 else usual
    _check_peers(config, peers)
    _check_numbers(config)
    _check_augmentation(config, peers)
    device = resolve_device(config.device)
    check_executor(config, config.group, device.type)
    amp = config.amp
    if amp == "auto":
        amp = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "off"
    config = dataclasses.replace(check_updates(config, amp, device), optim=config.optim.filled())
    label = config.label or default_label(config)
    out = config.out or default_out(config, label)
    return dataclasses.replace(config, peers=peers, device=str(device), amp=amp, label=label, out=out)


def parse_splits(text: str | None) -> dict[str, int]:
    """Return the splits of a tree, "layer2:2,layer3:2" -> {"layer2": 2, "layer3": 2}; UserError for any other form."""
    splits: dict[str, int] = {}
    for item in (text or "").split(","):
        name, _, children = item.strip().rpartition(":")
        if not name or not children.isdigit() or name in splits:
            raise UserError(
                f"split {text!r} of a tree: give modules with their children, each once, such as layer2:2,layer3:2."
            )
        splits[name] = int(children)
    check_splits(splits)
    return splits


def resolve_device(name: str) -> torch.device:
    """Return the device of that name; "auto" takes a GPU if there is one. UserError for a device that is not there."""
    if name == "cpu":
        return torch.device(name)
    accelerator, there = torch.accelerator.current_accelerator(check_available=True), ["cpu"]
    if name == "auto":
        return accelerator if accelerator is not None else torch.device("cpu")
    if accelerator is not None:
        there += [f"{accelerator.type}:{i}" for i in range(torch.accelerator.device_count())]
    refusal = UserError(f"device {name!r} is not there: this machine has {', '.join(there)}.")
    try:
        device = torch.device(name)
        # Torch knows devices on which nothing can be trained (meta), and takes any number of a CPU.
        if str(device) in {*there, "cpu:0", *(one.partition(":")[0] for one in there)}:
            torch.empty(0, device=device)
            return device
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise refusal from error
    raise refusal


def is_here(name: str) -> bool:
    """Whether this machine has the device of that name."""
    try:
        resolve_device(name)
    except UserError:
        return False
    return True


def refuse_modes(name: str) -> None:
    """UserError where no gradient can be had, and where torch makes tensors elsewhere than on the CPU by default.

    `train` and `resume` switch gradients on inside `torch.no_grad()`.
    """
    if (default := torch.get_default_device()).type != "cpu":
        raise UserError(
            f"{name} with {default} as torch's default device: the configuration names the device of the networks "
            "(device), and the images start on the CPU; call torch.set_default_device('cpu') before."
        )
    if torch.is_inference_mode_enabled():
        raise UserError(f"{name} inside torch.inference_mode(): it keeps no gradients; call {name} outside of it.")


def refuse_objects(config: object) -> None:
    """Raise UserError for what is no configuration, and for one that holds networks."""
    if not isinstance(config, Config):
        raise UserError(f"the configuration is a {type(config).__name__}: give a codistill.Config.")
    models = config.model if isinstance(config.model, list | tuple) else (config.model,)
    if any(isinstance(model, torch.nn.Module) for model in models):
        raise UserError(
            "model is an nn.Module: a configuration holds names only; give the network to train as network=..."
        )


def _check_peers(config: Config, peers: int) -> None:
    if peers < 1:
        raise UserError(f"peers {peers}: a group has at least one student.")
    method = methods.find(config.method)
    if peers < method.min_peers:
        raise UserError(
            f"peers {peers}: the method {config.method!r} needs at least {method.min_peers}; give --peers "
            f"{method.min_peers} or more, or use 'baseline' for one network."
        )
    if method.max_peers is not None and peers > method.max_peers:
        raise UserError(
            f"peers {peers}: the method {config.method!r} trains {method.max_peers}; use 'ind' for several, "
            "or 'dml' to let them learn from each other."
        )
    if len(config.model) not in (1, peers):
        raise UserError(f"{len(config.model)} models for {peers} peers: give one model for all, or one for each peer.")
    if len(config.init) not in (1, peers):
        raise UserError(f"{len(config.init)} starts for {peers} peers: give one --init for all, or one for each peer.")
    if config.group != "networks" and len(config.init) > 1:
        raise UserError(f"{config.group} with several starts: they share one network's trunk; give one --init.")
    if config.group != "networks" and (len(set(config.model)) > 1 or config.model.count(OWN_NETWORK) > 1):
        raise UserError(f"{config.group} with several models: they share one network's trunk; give one model.")
    if config.split is not None and config.group == "networks":
        raise UserError(f"split {config.split!r} without branches: add --group branches (or tree).")
    if config.teachers and config.icl:
        raise UserError("icl with teachers: a frozen teacher answers one view, not one per student; turn icl off.")
    needs = methods.needs_of(config.method, config.method_options)
    if needs.teachers == "required" and not config.teachers:
        raise UserError(
            f"{config.method} without a teacher: name a finished run or an exported student with --teachers PATH."
        )
    if config.teachers and needs.teachers == "none":
        raise UserError(
            f"teachers with the method {config.method!r}: it learns from none; leave --teachers out, or use kd."
        )


def _check_options(config: Config) -> None:
    methods.check_options(config.method, config.method_options)
    for name, value in config.method_options.items():
        try:
            yaml.safe_dump(value)
        except yaml.YAMLError as error:
            raise UserError(
                f"method_options.{name} is a {type(value).__name__}, which config.yaml cannot hold: give numbers, "
                "text, or lists of them."
            ) from error


def _check_augmentation(config: Config, peers: int) -> None:
    policy, method = config.augment, methods.find(config.method)
    policy.check()
    count = len(policy.policies)
    if count not in (1, peers):
        raise UserError(f"{count} augmentation policies for {peers} students: give one for all, or one for each.")
    if count > 1 and not config.icl:
        raise UserError(
            f"{count} augmentation policies without icl: students that share a view share its policy; turn icl on or "
            "give one."
        )
    if policy.mix is not None and not method.soft_labels:
        raise UserError(
            f"{policy.mix} with the method {config.method!r}: its target is defined by the one true class, and mixed "
            "labels have two; use another policy or method."
        )


def _check_numbers(config: Config) -> None:
    optim, augment = config.optim, config.augment
    for prefix, part in (("", config), ("optim.", optim), ("augment.", augment)):
        for name, value in vars(part).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise UserError(f"{prefix}{name} {value}: it must be a finite number.")
    check_rules(
        ("batch_size", config.batch_size, config.batch_size >= 2, "at least 2 (batch norm needs two images)"),
        ("epochs", config.epochs, config.epochs is None or 1 <= config.epochs <= MOST_EPOCHS, f"1 to {MOST_EPOCHS:,}"),
        ("seed", config.seed, 0 <= config.seed <= LAST_SEED, f"0 to {LAST_SEED}"),
        *(
            (name, repr(getattr(config, name)), getattr(config, name) != "", f"the path of a {what}, or left out")
            for name, what in (("classifier", "layer"), ("features", "layer"), ("split", "module"))
        ),
    )
    config.check_data()
    if config.data != OWN_DATA:
        data.check_name(config.data)
    config.check_execution(config.batch_size)
    config.check_learning()
    config.check_saving()
    check_recipe(config)
    optim.check()
    check_optimizer(optim)
    if config.epochs is not None:
        optim.check_length(config.epochs)
