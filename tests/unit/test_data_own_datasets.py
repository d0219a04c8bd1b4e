"""Datasets from Python as people have them: random transforms, changed labels, code that fails, three parts."""

import json
import pickle
import random

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from codistill import data
from codistill.data import AugmentPolicy, ImageSet
from codistill.data.drawn import DrawnImages, drawing_from
from codistill.data.items import DatasetError
from codistill.errors import UserError
from refusals import refusal

CPU = torch.device("cpu")


class Own(Dataset):
    """Grey images of 12 × 12 pixels, whose shade is their index."""

    def __init__(self, count=40, **attributes):
        self.count = count
        self.__dict__.update(attributes)

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return Image.new("L", (12, 12), index), index % 2


class Drawing(Own):
    """Adds a random number to the shade, below 100, from the generator that `draw` asks."""

    def __getitem__(self, index):
        return Image.new("L", (12, 12), 100 + index % 2 * 10 + self.draw()), index % 2


DRAWS = {
    "torch": lambda: int(torch.randint(100, ())),
    "numpy": lambda: int(np.random.randint(100)),  # noqa: NPY002
    "python": lambda: random.randrange(100),
}


def take(dataset, **options):
    with pytest.warns(UserWarning, match="gives other images when it is read again") as caught:
        return data.from_torch(dataset, **options), [str(one.message) for one in caught]


def views(images, seed=0, count=1, workers=0):
    generator = torch.Generator().manual_seed(seed)
    steps = torch.arange(len(images)).split(8)[:2]
    options = {"views": count, "generator": generator, "workers": workers, "device": CPU}
    policy = AugmentPolicy(0, False)
    made = data.training_views(images, steps, policy, (0.0,), (1 / 255,), **options)
    return torch.cat([torch.stack(one).clone() for one, _ in made], 1)


@pytest.mark.parametrize("kind", DRAWS)
def test_a_dataset_that_draws_at_random_is_drawn_anew_in_training_and_once_in_evaluation(kind):
    found, said = take(Drawing(draw=DRAWS[kind]))
    assert len(said) == 1
    assert "cannot be repeated" not in said[0]
    assert isinstance(found.train, DrawnImages)
    assert isinstance(found.test, DrawnImages)
    assert found.augment == AugmentPolicy(0, False)
    everything = torch.arange(len(found.train))
    once = found.train.decode(everything)
    assert torch.equal(found.train.decode(everything.flip(0)), once.flip(0))
    assert len(once.flatten(1)[:, 0].unique()) > 15
    first, again, other = views(found.train), views(found.train), views(found.train, seed=1)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    two = views(found.train, count=2)
    assert not torch.equal(two[0], two[1])
    assert torch.equal(views(found.train, workers=1), first)


def test_mean_and_deviation_of_random_images_are_the_same_each_time():
    means = [take(Drawing(draw=DRAWS["torch"]))[0].mean for _ in range(2)]
    assert means[0] == means[1]


def test_random_images_are_neither_cropped_nor_flipped_by_default():
    class Tilted(Own):
        def __getitem__(self, index):
            pixels = torch.arange(144, dtype=torch.uint8).view(1, 12, 12) + torch.randint(100, (), dtype=torch.uint8)
            return pixels, index % 2

    found, _ = take(Tilted())
    made = views(found.train)[0, :, 0]
    assert torch.equal(made - made[:, :1, :1], torch.arange(144.0).view(12, 12).expand(16, 12, 12))


def test_random_images_of_other_sizes_are_resized_to_the_square_that_is_asked_for():
    class Wide(Drawing):
        def __getitem__(self, index):
            image, label = super().__getitem__(index)
            return image.resize((30, 20)), label

    given = Wide(draw=DRAWS["torch"])
    assert refusal(data.from_torch, given) == (
        "images of 20 × 30 pixels from a Dataset that draws at random: such images are drawn again in every step and "
        "must be square; set image_size to the side of the square."
    )
    found, _ = take(given, image_size=16)
    assert found.train.decode(torch.arange(3)).shape == (3, 1, 16, 16)
    assert views(found.train).shape == (1, 16, 1, 16, 16)


def test_only_the_parts_that_draw_at_random_are_read_again():
    found, said = take((Drawing(draw=DRAWS["torch"]), Own()))
    assert [one.partition(" gives")[0] for one in said] == ["the training part"]
    assert isinstance(found.train, DrawnImages)
    assert isinstance(found.test, ImageSet)


def test_draws_from_a_generator_of_its_own_are_said_to_be_unrepeatable():
    own = np.random.default_rng(0)
    _, said = take(Drawing(draw=lambda: int(own.integers(100))))
    assert "so that a run cannot be repeated, and resuming it may be refused" in said[0]


def test_a_dataset_without_random_draws_stays_in_memory_without_a_word():
    found = data.from_torch(Own())
    assert isinstance(found.train, ImageSet)
    assert found.findings.notes == ()


def test_the_scope_of_draws_puts_all_global_generators_back():
    def drawn():
        return float(torch.rand(())), random.random(), float(np.random.rand())  # noqa: NPY002

    def states():
        _, key, place, *_ = np.random.get_state()  # noqa: NPY002
        return torch.get_rng_state().tolist(), random.getstate(), key.tolist(), place

    before = states()
    with drawing_from(5):
        first = drawn()
    with pytest.raises(KeyError), drawing_from(5):
        raise KeyError(drawn())
    with drawing_from(5):
        assert drawn() == first
    assert states() == before


def test_stale_targets_are_noticed_and_the_labels_of_the_items_used():
    given = Own(targets=[index % 4 for index in range(40)], classes=["cat", "dog", "owl", "wolf"])
    with pytest.warns(UserWarning, match="targets of the training part are not the labels of its items") as caught:
        found = data.from_torch(given)
    assert "(item 2: 2 in .targets, 0 in the item)" in str(caught[0].message)
    assert found.classes == ("0", "1")
    assert found.train.labels_N.bincount().tolist() == [16, 16]
    assert [note.text for note in found.findings.notes] == [str(caught[0].message)]


@pytest.mark.parametrize("memory", [1, 0])
def test_one_stale_target_that_no_sample_finds_is_refused_when_the_item_is_read(memory):
    targets = [index % 2 for index in range(40)]
    targets[3] = 1 - targets[3]
    given = Own(targets=targets)

    def read():
        found = data.from_torch((given, given), memory=memory)
        found.train.decode(torch.arange(40))

    assert refusal(read) == (
        "image 3 of the training part has the label 1, and 0 in the Dataset's .targets: correct .targets, or remove "
        "them so that the labels of the items are read."
    )


class Broken(Own):
    def __getitem__(self, index):
        if index == 7:
            raise self.error
        return super().__getitem__(index)


def place_of_the_error():
    first = Broken.__getitem__.__code__.co_firstlineno
    return f"{__file__}:{first + 2}"


def test_an_error_in_the_datasets_own_code_is_reported_as_its_own_with_its_cause():
    error = ValueError("row 7 of labels.csv\nhas no label")
    with pytest.raises(UserError) as caught:
        data.from_torch(Broken(error=error))
    assert str(caught.value) == (
        "image 7 of the training part: the Dataset's own code failed (ValueError: row 7 of labels.csv has no label, at "
        f"{place_of_the_error()}): correct the Dataset or its files."
    )
    assert caught.value.__cause__ is error


def test_an_error_below_the_datasets_own_code_is_placed_in_that_code():
    class Parsing(Own):
        def __getitem__(self, index):
            return json.loads("{"), 0

    said = refusal(data.from_torch, Parsing())
    line = Parsing.__getitem__.__code__.co_firstlineno + 1
    assert said.startswith("image 0 of the training part: the Dataset's own code failed (JSONDecodeError: Expecting ")
    assert f", at {__file__}:{line}): correct" in said


class BrokenLater(Own):
    """Fails for one image, once a run has begun."""

    def __getitem__(self, index):
        if index == 7 and self.begun:
            raise KeyError("no label")
        return super().__getitem__(index)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_the_datasets_own_code_in_training_is_the_same_from_a_process(workers):
    given = BrokenLater(begun=False)
    found = data.from_torch((given, Own()), memory=0)
    given.begun = True
    with pytest.raises(DatasetError) as caught:
        views(found.train, workers=workers)
    assert str(caught.value).startswith(
        "image 7 of the training part: the Dataset's own code failed (KeyError: 'no label', at "
    )
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_cause_that_no_other_process_can_have_is_told_in_words():
    class LocalError(Exception):
        pass

    error = DatasetError("it failed")
    error.__cause__ = LocalError("why")
    sent = pickle.loads(pickle.dumps(error))
    assert str(sent) == "it failed"
    assert repr(sent.__cause__) == """RuntimeError("LocalError('why')")"""


def test_an_image_that_the_dataset_cannot_open_can_be_left_out():
    given = Broken(error=OSError("truncated"), targets=[index % 2 for index in range(40)])
    said = refusal(data.from_torch, (given, Own()))
    assert said.startswith("image 7 of the training part: the Dataset's own code failed (OSError: truncated, at ")
    with pytest.warns(UserWarning, match=r"1 image that cannot be decoded is left out \(1 of 1\)"):
        found = data.from_torch((given, Own()), bad_images="skip")
    assert len(found.train) == 39
    assert found.findings.skipped == {"1": 1}
    # An error of another kind is a fault of the code, not of an image.
    with pytest.raises(DatasetError):
        data.from_torch((Broken(error=ValueError(), targets=given.targets), Own()), bad_images="skip")


def test_three_datasets_are_training_validation_and_test():
    found = data.from_torch((Own(10), Own(6), Own(4)))
    assert (found.training_images, found.validation_images, len(found.test)) == (10, 6, 4)
    assert found.train.images_NCHW[:, 0, 0, 0].tolist() == [*range(10), *range(6)]
    assert found.mean[0] == pytest.approx(4.5 / 255)
    lazy = data.from_torch((Own(10), Own(6), Own(4)), memory=0)
    assert lazy.train.decode(torch.arange(16))[:, 0, 0, 0].tolist() == [*range(10), *range(6)]
