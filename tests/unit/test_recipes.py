"""Recipes: settings that what is given explicitly overrides."""

import pytest

from codistill import commands
from codistill.config import RECIPES, describe_recipe, read_config, recipe_config, write_config
from codistill.errors import UserError
from codistill.training import Config
from codistill.training.check import check_config


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_a_configuration_that_trains(name):
    config = check_config(recipe_config(name, device="cpu"))
    assert config.recipe == name
    assert describe_recipe(config).startswith(f"recipe {name}: ")


def test_the_command_line_overrides_the_recipe_and_the_recipe_the_defaults():
    given = ["train", "--optim.head-lr", "3", "--recipe", "finetune", "--epochs", "7"]
    config = commands.parse(given)
    assert (config.optim.name, config.optim.lr, config.optim.head_lr, config.epochs) == ("adamw", 1e-4, 3.0, 7)
    assert commands.parse(["train", "--recipe=kdcl"]).method == "kdcl_minlogit"
    assert commands.parse(["train"]).optim.name == "sgd"


def test_a_file_overrides_the_recipe_that_is_named_in_it_or_beside_it(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("method: dml\noptim: {lr: 0.5}\n")
    config = commands.parse(["train", "--config", str(path), "--recipe", "finetune"])
    assert (config.method, config.optim.lr, config.optim.name, config.epochs) == ("dml", 0.5, "adamw", 20)
    path.write_text("recipe: finetune\noptim: {lr: 0.5}\n")
    assert read_config(path).optim.layer_decay == 0.75


def test_what_a_run_has_written_is_read_as_it_was(tmp_path):
    config = check_config(recipe_config("finetune", epochs=3, device="cpu"))
    write_config(config, tmp_path / "config.yaml")
    read = read_config(tmp_path / "config.yaml")
    assert (read.epochs, read.optim, read.recipe) == (3, config.optim, "finetune")


def test_a_recipe_that_is_only_a_name_is_refused():
    with pytest.raises(UserError, match=r"start from codistill\.config\.recipe_config"):
        check_config(Config(recipe="finetune"))
    with pytest.raises(UserError, match="names the origin"):
        check_config(Config(recipe="kdcl", method="dml"))


def test_a_setting_that_is_not_the_recipes_is_shown_beside_it():
    config = check_config(recipe_config("kdcl", method="dml", device="cpu"))
    assert "method dml (the recipe: kdcl_minlogit), icl True, " in describe_recipe(config)


def test_an_option_that_names_a_file_or_a_recipe_is_given_once():
    with pytest.raises(UserError, match=r"--config a\.yaml and b\.yaml: give one"):
        commands.parse(["train", "--config", "a.yaml", "--config", "b.yaml"])


def test_the_folder_that_a_file_names_is_not_used_in_silence(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("out: runs/mine\n")
    with pytest.warns(UserWarning, match="out runs/mine of .*own.yaml is not used"):
        assert commands.parse(["train", "--config", str(path)]).out is None
    with pytest.raises(UserError, match="unknown recipe 'fine': did you mean 'finetune'"):
        recipe_config("fine")
    with pytest.raises(UserError, match="unknown setting 'epoch'"):
        recipe_config("finetune", epoch=3)
