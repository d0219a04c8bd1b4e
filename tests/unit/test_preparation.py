"""What a run records about the preparation of its pictures, and what is derived for a run that did not record it."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

from codistill import data
from codistill.config import Config
from codistill.data import AugmentPolicy, Dataset, ImageSet, LazyImages
from codistill.rundir import Preparation, RecordError
from codistill.training.input_record import input_record
from codistill.training.preparation import preparation_of
from refusals import refusal


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("folder")
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (folder / name).mkdir()
        for number in range(6):
            pixels = rng.integers(0, 255, (20, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def recorded(dataset):
    preparation = input_record(dataset).preparation
    assert preparation is not None
    return preparation


def rule(dataset):
    how = recorded(dataset)
    return how.resize, how.height, how.width, how.shorter_side


def test_pictures_in_memory_are_covered_and_those_in_files_resized_by_their_shorter_side(folder):
    assert rule(data.load("image_folder", folder)) == ("cover", 64, 64, None)
    assert rule(data.load("image_folder", folder, image_size=32)) == ("cover", 32, 32, None)
    assert rule(data.load("image_folder", folder, image_size=224)) == ("shorter_side", 224, 224, 256)
    assert rule(data.load("image_folder", folder, image_size=32, memory=0)) == ("shorter_side", 32, 32, 37)


def test_data_of_a_fixed_size_are_squashed(digits):
    assert rule(digits) == ("squash", 8, 8, None)
    assert rule(data.load("digits", image_size=16)) == ("squash", 16, 16, None)


class Drawing(torch.utils.data.Dataset):
    """Draws at random, as a Dataset with random transforms does."""

    def __len__(self):
        return 20

    def __getitem__(self, index):
        return torch.randint(0, 256, (3, 12, 12), dtype=torch.uint8), index % 2


def test_data_from_python_must_have_their_size_unless_another_is_asked_for():
    images = torch.randint(0, 256, (20, 3, 10, 12), dtype=torch.uint8)
    given = TensorDataset(images, torch.arange(20) % 2)
    assert rule(data.from_torch(given)) == ("none", 10, 12, None)
    assert rule(data.from_torch(given, image_size=16)) == ("cover", 16, 16, None)
    square = TensorDataset(images[..., :10], torch.arange(20) % 2)
    assert rule(data.from_torch(square, memory=0)) == ("shorter_side", 10, 10, 11)
    with pytest.warns(UserWarning, match="gives other images"):
        assert rule(data.from_torch(Drawing())) == ("none", 12, 12, None)
    # Drawn images are whole, also where they are not kept in memory.
    with pytest.warns(UserWarning, match="gives other images"):
        assert rule(data.from_torch(Drawing(), image_size=16, memory=0)) == ("cover", 16, 16, None)


def test_a_dataset_made_by_hand_is_read_by_what_its_parts_are():
    pixels, labels = torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.arange(4) % 2
    kept = ImageSet(pixels, labels)
    in_files = LazyImages(lambda index: pixels[index], torch.arange(4), labels, 1, 8)
    rest = (("a", "b"), (0.5,), (0.25,), AugmentPolicy(0, False), 1, "here")
    assert rule(Dataset("mine", kept, kept, *rest)) == ("none", 8, 8, None)
    assert rule(Dataset("mine", in_files, in_files, *rest)) == ("shorter_side", 8, 8, 9)


def test_mean_and_deviation_are_those_of_the_run(digits):
    changed = dataclasses.replace(digits, mean=(0.25,), std=(0.5,))
    assert (recorded(changed).channels, recorded(changed).mean, recorded(changed).std) == (1, (0.25,), (0.5,))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"resize": "stretch"}, "resize is 'stretch': it must be one of cover"),
        ({"resize": "shorter_side"}, "shorter_side is None: it must be at least"),
        ({"resize": "shorter_side", "shorter_side": 7}, "shorter_side is 7"),
        ({"channels": 2}, "channels is 2"),
        ({"mean": [0.5, 0.5]}, "mean is (0.5, 0.5)"),
        ({"interpolation": "bicubic"}, "interpolation is 'bicubic'"),
        ({"antialias": False}, "antialias is False"),
        ({"height": 0}, "height is 0"),
    ],
)
def test_a_preparation_that_nobody_can_follow_is_no_record(changes, says):
    good = {"channels": 1, "resize": "squash", "height": 8, "width": 8, "mean": [0.5], "std": [0.5]}
    assert Preparation.from_json(good).to_json()["antialias"] is True
    with pytest.raises(RecordError) as caught:
        Preparation.from_json(good | changes)
    assert says in str(caught.value)


def older(dataset):
    return dataclasses.replace(input_record(dataset), preparation=None)


@pytest.mark.parametrize("size", [32, 128])
def test_the_rule_of_an_older_run_on_a_folder_follows_from_its_settings(folder, tmp_path, size):
    for memory in (0.0, 8.0):
        dataset = data.load("image_folder", folder, image_size=size, memory=memory)
        config = Config(data="image_folder", data_dir=folder, image_size=size, data_memory=memory)
        with pytest.warns(UserWarning, match="older codistill"):
            assert preparation_of(tmp_path, config, older(dataset)) == recorded(dataset)


def test_the_rule_of_an_older_run_on_known_data_is_known(digits, tmp_path):
    with pytest.warns(UserWarning, match="older codistill"):
        assert preparation_of(tmp_path, Config(data="digits"), older(digits)) == recorded(digits)


def test_what_is_recorded_is_not_derived(digits, tmp_path):
    assert preparation_of(tmp_path, Config(data="own"), input_record(digits)) == recorded(digits)


def test_the_rule_of_an_older_run_on_data_from_python_is_not_guessed(digits, tmp_path):
    assert "(data own) do not settle it" in refusal(lambda: preparation_of(tmp_path, Config(data="own"), older(digits)))
