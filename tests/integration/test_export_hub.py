"""Folders for the Hugging Face Hub, as timm loads them."""

from __future__ import annotations

import dataclasses
import json
import warnings

import pytest
import timm
import torch
from timm.data import resolve_data_config

from codistill import load_student, train
from codistill.export import export_student
from export_runs import draw_pictures, train_on


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return draw_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def run(pictures, tmp_path_factory):
    out = tmp_path_factory.mktemp("timm") / "run"
    return train_on(pictures, out, "timm:test_resnet")


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    return export_student(run, tmp_path_factory.mktemp("hub") / "out", format="hub")


def test_timm_loads_the_folder_as_it_is(run, folder):
    network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    x = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(network(x), load_student(run)(x))
    assert network.pretrained_cfg["label_names"] == ["a", "b", "c"]
    student = json.loads((folder / "student.json").read_text())
    data = resolve_data_config({}, model=network)
    assert (list(data["input_size"]), data["crop_pct"], data["crop_mode"]) == ([3, 32, 32], 1.0, "center")
    assert (data["interpolation"], list(data["mean"]), list(data["std"])) == (
        "bilinear", student["mean"], student["std"],
    )  # fmt: skip


def test_a_network_of_grey_images_is_loaded_by_timm(digits, quick, tmp_path):
    config = dataclasses.replace(
        quick, method="ind", model="timm:test_resnet", peers=1, epochs=1, executor="loop", out=tmp_path / "run"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train(config, dataset=digits)
    folder = export_student(tmp_path / "run", format="hub", dataset=digits)
    network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(network(x), load_student(tmp_path / "run")(x))
