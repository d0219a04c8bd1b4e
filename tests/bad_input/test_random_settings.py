"""Any settings, from YAML, from --set and from Python, give a configuration or one sentence; and they are read back."""

from __future__ import annotations

import dataclasses
import json
import typing

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from odd_values import examples, fitting, odd, result_or_sentence

from codistill.config import Config, apply_settings, config_from_dict, config_to_dict, default_label, read_config
from codistill.config import write_config as write
from codistill.errors import UserError
from codistill.training.check import check_config


def dotted(prefix, value):
    if not dataclasses.is_dataclass(value):
        return [prefix]
    return [name for f in dataclasses.fields(value) for name in dotted(f"{prefix}.{f.name}", getattr(value, f.name))]


NAMES = [name[1:] for name in dotted("", Config())]
any_text = st.text(max_size=20)
OTHERS = ["optim", "augment", "method_options.temperature", "optim.options.eps", "metod", "optim.x"]

any_settings = st.dictionaries(
    st.sampled_from(
        [*NAMES, "optim", "augment", "method_options.temperature", "optim.options.eps", "metod", "optim.x"]
    ),
    odd,
    max_size=4,
)
"""Dotted name -> value, of right and wrong types."""


def nested(settings):
    found = {}
    for name, value in settings.items():
        *path, last = name.split(".")
        place = found
        for key in path:
            place = place.setdefault(key, {})
            if not isinstance(place, dict):
                return {}
        place[last] = value
    return found


@st.composite
def configs(draw):
    """Configurations in which some settings have other values of their types."""
    config = Config()
    for name in draw(st.lists(st.sampled_from(NAMES), max_size=6)):
        owner, _, field = name.rpartition(".")
        part = getattr(config, owner) if owner else config
        part = dataclasses.replace(part, **{field: draw(fitting(typing.get_type_hints(type(part))[field]))})
        config = dataclasses.replace(config, **{owner: part}) if owner else part
    return config


def checked(config):
    if config is not None:
        assert isinstance(config, Config)
        result_or_sentence(check_config, config)


@examples(200)
@given(any_settings)
def test_any_settings_in_a_file_give_a_configuration_or_one_sentence(tmp_path, settings):
    path = tmp_path / "config.yaml"
    path.write_text(
        yaml.dump(nested(settings), Dumper=yaml.SafeDumper, allow_unicode=True), encoding="utf-8", errors="replace"
    )
    checked(result_or_sentence(read_config, path))


@examples(200)
@given(any_settings)
def test_any_settings_on_the_command_line_give_a_configuration_or_one_sentence(settings):
    # JSON is YAML, on one line.
    lines = [f"{name}={json.dumps(value)}" for name, value in settings.items()]
    checked(result_or_sentence(apply_settings, Config(), lines))


@examples(200)
@given(
    st.lists(st.text(max_size=30) | st.builds("{}={}".format, st.sampled_from(NAMES), st.text(max_size=20)), max_size=3)
)
def test_any_text_after_set_gives_a_configuration_or_one_sentence(texts):
    checked(result_or_sentence(apply_settings, Config(), texts))


@examples(200)
@given(any_settings)
def test_any_settings_from_python_give_a_configuration_or_one_sentence(settings):
    plain = {name: value for name, value in settings.items() if name in vars(Config())}
    config = result_or_sentence(lambda: Config(**plain))
    checked(config)


@examples(200)
@given(st.data())
def test_settings_of_the_right_types_are_checked_or_refused_in_one_sentence(data):
    checked(data.draw(configs()))


@examples(100)
@given(configs())
def test_what_is_written_is_read_back(tmp_path, config):
    assert config_from_dict(config_to_dict(config)) == config
    path = tmp_path / "config.yaml"
    write(config, path)
    expected = dataclasses.replace(config, label=None) if config.label == default_label(config) else config
    assert read_config(path) == expected


def test_the_names_are_all_settings():
    assert {"optim.lr", "augment.policies", "worker_timeout", "method"} <= set(NAMES)
    with pytest.raises(UserError, match="unknown setting"):
        config_from_dict({"metod": 1})
