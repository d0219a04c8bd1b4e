import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from codistill.config import NOTHING, REPEATS, ROUNDING, config_digest, config_to_dict, default_label
from codistill.data import AugmentPolicy
from codistill.errors import UserError
from codistill.meaning import MEANINGS, names_of, without
from codistill.reports.settings import SAME_EXPERIMENT
from codistill.training import Config, OptimConfig, apply_settings, read_config, write_config
from codistill.training.check import check_config


def test_a_written_configuration_reads_back_equal(tmp_path):
    config = Config(
        method="dml",
        model=("resnet20", "resnet32"),
        data_dir=Path("/data"),
        optim=OptimConfig(lr=1e-4, milestones=(0.3, 0.6)),
        method_options={"temperature": 2.0, "target": "mean"},
    )
    write_config(config, tmp_path / "config.yaml")
    assert read_config(tmp_path / "config.yaml") == config


def test_settings_reach_any_depth_and_keep_their_types():
    settings = ["optim.lr=1e-3", "optim.milestones=[0.1, 0.2]", "icl=true", "epochs=7", "method_options.ramp_up=0"]
    config = apply_settings(Config(), settings)
    assert config.optim.lr == 0.001
    assert config.optim.milestones == (0.1, 0.2)
    assert config.icl is True
    assert config.epochs == 7
    assert config.method_options == {"ramp_up": 0}


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("optim.lrr=1", "unknown setting 'optim.lrr': did you mean 'optim.lr'"),
        ("optm.lr=1", "unknown setting 'optm'"),
        ("optim.lr", "give NAME=VALUE"),
        ("optim.lr=fast", "takes a value of type float"),
        ("epochs=1.5", "takes a value of type int"),
        ("epochs=true", "takes a value of type int"),
        ("icl=3", "takes a value of type bool"),
        ("amp=fp8", "unknown value of amp 'fp8'"),
        ("optim=3", "has settings of its own, such as optim.name"),
        ("label=no", "YAML reads yes, no, on and off as true or false, so quote it"),
        ("recipe=kdcl", "give --recipe kdcl"),
        ("data=[", "is not a YAML value"),
    ],
)
def test_a_wrong_setting_is_refused_in_one_sentence(setting, says):
    with pytest.raises(UserError) as caught:
        apply_settings(Config(), [setting])
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("method: [", "cannot be read as YAML"),
        ("just text", "holds no settings"),
        ("version: 99\nmethod: ind", "format version 99"),
        ("version: '1'\nmethod: ind", "format version '1': write version: 1, or leave it out"),
        ("epochs: 2\nepochs: 3", "'epochs' stands twice"),
        ("optim: {lr: 0.1, lr: 0.2}", "'lr' stands twice"),
        ("methd: ind", "did you mean 'method'"),
    ],
)
def test_a_damaged_configuration_file_is_refused(tmp_path, text, says):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        read_config(tmp_path / "config.yaml")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"method": "okdip"}, "unknown method 'okdip': did you mean 'okddip'"),
        ({"data": "cifar"}, "unknown data set 'cifar'"),
        ({"executor": "lop"}, "unknown value of executor 'lop': did you mean 'loop'"),
        ({"method": "dml", "peers": 1}, "needs at least 2"),
        ({"peers": 0}, "at least one student"),
        ({"method": "baseline", "peers": 3}, "use 'ind' for several"),
        ({"model": ("resnet20", "resnet32"), "peers": 3}, "2 models for 3 peers"),
        ({"model": ("resnet20", "resnet32"), "group": "branches"}, "give one model"),
        ({"group": "tree"}, "give modules with their children"),
        ({"group": "tree", "split": "layer2"}, "split 'layer2' of a tree"),
        ({"group": "tree", "split": "layer2:2,layer2:2"}, "give modules with their children, each once"),
        ({"group": "tree", "split": "layer2:2,layer3:0"}, "split 'layer3' with 0 child(ren): give 2 or more"),
        ({"group": "tree", "split": "layer2:2,layer3:2", "peers": 3}, "of 4 heads: leave --peers out"),
        ({"model": ()}, "no model"),
        ({"split": "layer3"}, "add --group branches"),
        ({"teachers": ("runs/x",)}, "teachers with the method 'okddip': it learns from none"),
        ({"method": "kd"}, "kd without a teacher"),
        ({"method": "kd", "teachers": ("runs/x",), "icl": True}, "turn icl off"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"batch_size": -4}, "batch_size -4"),
        ({"epochs": 0}, "epochs 0: it must be 1 to 1,000,000"),
        ({"validation": 0.0}, "validation 0.0"),
        ({"validation": 1.0}, "validation 1.0"),
        ({"train_subset": 0}, "train_subset 0"),
        ({"image_size": 4}, "image_size 4"),
        ({"seed": -1}, "seed -1"),
        ({"threads": 0}, "threads 0"),
        ({"class_weights": "balanced", "sampler": "balanced"}, "rare classes would count twice"),
        ({"augment": AugmentPolicy(cutout_size=4)}, "cutout_size 4 without cutout"),
        ({"augment": AugmentPolicy(mix_alpha=0.3)}, "mix_alpha 0.3 without cutmix or mixup"),
        ({"optim": OptimConfig(lr=0.0)}, "optim.lr 0.0: it must be above 0"),
        ({"optim": OptimConfig(lr=float("nan"))}, "optim.lr nan"),
        ({"optim": OptimConfig(momentum=1.0)}, "optim.momentum 1.0"),
        ({"optim": OptimConfig(momentum=0.0)}, "optim.momentum 0.0: it must be above 0 with optim.nesterov"),
        ({"optim": OptimConfig(weight_decay=-1e-4)}, "optim.weight_decay -0.0001"),
        ({"optim": OptimConfig(gamma=0.0)}, "optim.gamma 0.0"),
        ({"optim": OptimConfig(milestones=(150, 225))}, "shares above 0 and below 1"),
        ({"optim": OptimConfig(warmup_epochs=9.0), "epochs": 5}, "shorter than the run of 5 epochs"),
        ({"device": "cuda:7"}, "device 'cuda:7' is not there"),
        ({"device": "tpu"}, "device 'tpu' is not there"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(change, says):
    with pytest.raises(UserError) as caught:
        check_config(dataclasses.replace(Config(), **change))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"group": "brances"}, "unknown value of group 'brances': did you mean 'branches'?"),
        ({"amp": "on"}, "unknown value of amp 'on'"),
        ({"optim": OptimConfig(schedule="poly")}, "unknown value of optim.schedule 'poly'"),
        ({"epochs": 2.5}, "epochs=2.5: it takes a value of type int."),
        ({"peers": "4"}, "peers='4': it takes a value of type int."),
        ({"icl": 1}, "icl=1: it takes a value of type bool."),
        ({"model": 3}, "model=3: it takes a value of type str."),
        ({"data_dir": 3}, "data_dir=3: it takes a value of type Path."),
        ({"optim": None}, "optim=None: it has settings of its own, such as optim.name."),
        ({"class_weights": np.array([1.0, -1.0])}, "class_weights [1.0, -1.0]: give a number of 0 or more per class"),
        ({"augment": AugmentPolicy(policies=3)}, "augment.policies=3: it takes a value of type str."),
        ({"augment": AugmentPolicy(policies=(3,))}, "augment.policies=3: it takes a value of type str."),
        ({"method_options": [2]}, "method_options=[2]: it takes a value of type dict."),
    ],
)
def test_values_of_the_wrong_type_from_python_are_refused_as_in_a_file(change, says):
    with pytest.raises(UserError) as caught:
        check_config(Config(**change))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_numbers_of_numpy_and_settings_as_plain_data_are_taken_from_python():
    config = check_config(Config(seed=np.int64(3), validation=np.float32(0.5), optim={"lr": 1}, device="cpu"))
    assert (type(config.seed), config.seed, config.validation, config.optim.lr) == (int, 3, 0.5, 1.0)


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
@pytest.mark.parametrize(
    "name", ["memory_limit", "data_memory", "validation", "optim.lr", "optim.weight_decay", "augment.mix_alpha"]
)
def test_numbers_that_are_not_finite_are_refused(name, value):
    with pytest.raises(UserError) as caught:
        check_config(apply_settings(Config(), [f"{name}={value}"]))
    assert str(caught.value) == f"{name} {value}: it must be a finite number."


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"image_size": 100_000}, "image_size 100000: it must be 8 to 4096 pixels."),
        ({"seed": 2**63}, "seed 9223372036854775808: it must be 0 to 9223372036854775807."),
        ({"threads": 100_000}, "threads 100000: it must be 1 to 1024."),
        ({"workers": 100_000}, "workers 100000: it must be 0 to 1024 processes."),
        ({"epochs": 10**9}, "epochs 1000000000: it must be 1 to 1,000,000."),
        ({"classifier": ""}, "classifier '': it must be the path of a layer, or left out."),
        ({"split": "", "group": "branches"}, "split '': it must be the path of a module, or left out."),
    ],
)
def test_numbers_that_no_machine_takes_and_empty_names_are_refused(change, says):
    with pytest.raises(UserError) as caught:
        check_config(Config(**change))
    assert str(caught.value) == says


def test_the_largest_seed_is_taken_everywhere():
    check_config(Config(seed=2**63 - 1, device="cpu"))
    torch.Generator().manual_seed(2**63 - 1)


@pytest.mark.parametrize(
    ("method", "options", "says"),
    [
        ("okddip", {"temperature": True}, "temperature=True: it takes a value of type float."),
        ("okddip", {"temperature": "warm"}, "temperature='warm': it takes a value of type float."),
        ("okddip", {"include_self": "maybe"}, "include_self='maybe': it takes a value of type bool."),
        ("okddip", {"attention_width": 2.5}, "attention_width=2.5: it takes a value of type int."),
        ("dml", {"temprature": 2}, "unknown option of dml 'temprature': did you mean 'temperature' or 'target'?"),
    ],
)
def test_options_of_a_method_are_checked_by_their_type_before_any_data_is_read(method, options, says):
    with pytest.raises(UserError) as caught:
        check_config(Config(method=method, method_options=options))
    assert str(caught.value) == says


def test_an_automatic_label_follows_the_settings_and_a_given_one_stays(tmp_path):
    for label, follows in ((None, "dml, branches"), ("mine", "mine")):
        write_config(check_config(Config(label=label, device="cpu")), tmp_path / "config.yaml")
        changed = dataclasses.replace(read_config(tmp_path / "config.yaml"), method="dml", group="branches")
        assert check_config(changed).label == follows


def test_a_run_of_an_own_network_lies_in_one_folder():
    config = check_config(
        Config(model=("my/nets.py:make", "torchvision:resnet18"), peers=2, method="dml", device="cpu")
    )
    assert config.out == Path("runs/digits-make-torchvision-resnet18-dml-seed0")


def test_defaults_are_filled_in():
    config = check_config(Config(method="baseline", device="cpu"))
    assert (config.peers, config.amp, config.label) == (1, "off", "baseline")
    assert config.out == Path("runs/digits-resnet32-baseline-seed0")
    assert check_config(Config(model=("resnet20", "resnet32", "vgg16"))).peers == 3
    assert check_config(Config()).peers == 4
    assert check_config(Config(method="kd", teachers=("runs/teacher",))).peers == 1
    assert check_config(Config(group="tree", split="layer2:3,layer3:2")).peers == 6


def test_labels_name_what_differs():
    assert default_label(Config(method="okddip", group="branches", icl=True)) == "okddip, branches, ICL"
    assert default_label(Config(method="my/file.py:Mine")) == "Mine"


def test_the_digest_ignores_where_a_run_lies_and_sees_everything_else():
    base = config_digest(Config())
    assert config_digest(Config(out=Path("elsewhere"), label="x")) == base
    assert config_digest(Config(seed=1)) != base
    assert config_digest(Config(method_options={"temperature": 2.0})) != base


def settings_classes(config):
    nested = [f.default_factory for f in dataclasses.fields(config) if dataclasses.is_dataclass(f.default_factory)]
    return [config, *(found for one in nested for found in settings_classes(one))]


def test_every_setting_says_what_a_change_of_it_means():
    assert settings_classes(Config) == [Config, OptimConfig, AugmentPolicy]
    for kind in settings_classes(Config):
        for field in dataclasses.fields(kind):
            assert field.metadata["changes"] in MEANINGS, field.name
    everything = names_of(Config, *MEANINGS)
    assert {"optim.lr", "augment.flip", "method_options", "seed", "out", "threads"} <= everything
    assert sum(len(names_of(Config, meaning)) for meaning in MEANINGS) == len(everything)
    assert REPEATS == NOTHING | ROUNDING | {"seed"} == SAME_EXPERIMENT


def test_settings_without_a_change_of_numbers_are_left_out_by_dotted_name():
    settings = {"a": 1, "b": {"a": 2, "c": {"d": 3}}, "d": 4}
    assert without(settings, frozenset({"d", "b.c.d", "c"})) == {"a": 1, "b": {"a": 2, "c": {}}}
    assert without(settings, frozenset({"b"})) == {"a": 1, "d": 4}


@pytest.mark.parametrize("name", sorted(names_of(Config, *MEANINGS) - {"method_options", "augment.policies"}))
def test_the_digest_changes_with_every_setting_that_changes_numbers_and_with_no_other(name):
    data = config_to_dict(Config())
    place, key = (data[name.partition(".")[0]], name.partition(".")[2]) if "." in name else (data, name)
    place[key] = "another value"
    assert (json.dumps(without(data, NOTHING)) == json.dumps(without(config_to_dict(Config()), NOTHING))) == (
        name in NOTHING
    )


def test_a_folder_and_a_file_in_its_place_are_told_apart(tmp_path):
    (tmp_path / "config.yaml").write_text("method: ind")
    with pytest.raises(UserError, match=rf"is a folder: give the path of a configuration, such as {tmp_path}"):
        read_config(tmp_path)
    with pytest.raises(UserError, match=rf"config\.yaml is a file: give the run directory, {tmp_path}\.$"):
        read_config(tmp_path / "config.yaml" / "config.yaml")


@pytest.mark.parametrize("setting", ["amp=off", "recalibrate_bn=off", "recalibrate_bn=on"])
def test_on_and_off_are_words_where_they_are_choices(setting):
    name, _, word = setting.partition("=")
    assert getattr(apply_settings(Config(), [setting]), name) == word


def test_the_optimizer_may_be_given_as_a_mapping():
    assert Config(optim={"lr": 0.5}).optim == OptimConfig(lr=0.5)
    with pytest.raises(UserError, match=r"unknown setting 'optim\.lrr'"):
        Config(optim={"lrr": 0.5})
