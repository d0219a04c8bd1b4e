"""Data sets of the user's own: map-style torch Datasets, in memory and not, and every refusal."""

import threading
from enum import Enum

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from codistill import data
from codistill.data import ImageSet, LazyImages
from codistill.data.labels import class_indices
from codistill.errors import UserError


class Own(Dataset):
    def __init__(self, images, labels, **attributes):
        self.images, self.labels = images, labels
        self.__dict__.update(attributes)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], self.labels[index]


def pictures(n, size=(12, 10), mode="RGB"):
    return [Image.new(mode, size, 20 * i if mode == "L" else (20 * i, 5, 200)) for i in range(n)]


def message(given, **options):
    with pytest.raises(UserError) as caught:
        data.from_torch(given, **options)
    return str(caught.value)


def test_a_pair_keeps_size_order_and_class_names():
    train = Own(pictures(6), [0, 1, 2, 0, 1, 2], classes=["x", "y", "z"])
    found = data.from_torch((train, Own(pictures(2), [2, 0])))
    assert isinstance(found.train, ImageSet)
    assert found.train.shape == (3, 10, 12)
    assert found.classes == ("x", "y", "z")
    assert (found.train.labels_N.tolist(), found.test.labels_N.tolist()) == ([0, 1, 2, 0, 1, 2], [2, 0])
    assert found.train.images_NCHW[:, :, 3, 4].tolist() == [[20 * i, 5, 200] for i in range(6)]


@pytest.mark.parametrize("scale", [1, 255])
def test_tensors_of_either_range_are_the_same_images_and_one_set_gives_up_a_fifth(scale):
    images = (torch.arange(10 * 64).view(10, 1, 8, 8) % 256).to(torch.uint8)
    given = images if scale == 1 else images.float() / 255
    found = data.from_torch(TensorDataset(given, torch.tensor([0, 1] * 5)))
    assert (len(found.train), len(found.test), found.classes) == (8, 2, ("0", "1"))
    both = torch.cat([found.train.images_NCHW, found.test.images_NCHW])
    assert sorted(both.flatten(1).sum(1).tolist()) == sorted(images.flatten(1).sum(1).tolist())


def test_large_images_are_asked_for_again_in_every_step():
    train = Own(pictures(4, (200, 130), "L"), [0, 1, 0, 1])
    found = data.from_torch((train, train), image_size=128)
    assert isinstance(found.train, LazyImages)
    assert found.train.decode(torch.tensor([2]))[0, 0, 5, 5] == 40
    assert found.train.shape == (1, 128, 128)


def test_targets_spare_reading_the_images_for_their_labels():
    class Watched(Own):
        read = 0

        def __getitem__(self, index):
            Watched.read += 1
            return super().__getitem__(index)

    data.from_torch((Watched(pictures(40), [0, 1] * 20, targets=torch.tensor([0, 1] * 20)),) * 2)
    assert Watched.read == 2 * (40 + 2 * 16)  # a sample is read twice


def test_what_is_no_map_style_data_set_is_refused():
    class Stream(IterableDataset):
        def __iter__(self):
            yield from ()

    assert message(Stream()) == (
        "Stream has no length or cannot be indexed: give a map-style torch Dataset with __len__ and __getitem__."
    )
    assert message((Own([], []),)) == "Own is empty: give a data set with images."
    assert (
        message((Own(pictures(1), [0]),) * 4) == "4 data sets: give one, (train, test), or (train, validation, test)."
    )


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_list_of_pairs_is_named_as_that(count):
    assert message([(picture, 0) for picture in pictures(count)]) == (
        "a list of (image, label) pairs is no data set: wrap it in a torch Dataset, such as "
        "torch.utils.data.TensorDataset(images, labels)."
    )


def test_images_of_different_channels_are_refused():
    given = Own([*pictures(3), *pictures(1, mode="L")], [0, 1, 0, 1])
    assert message((given, given)) == (
        "image 3 of the training part is grey and the first training image is colour: give all images the same "
        "channels."
    )
    tensors = Own([torch.zeros(1, 8, 8), torch.zeros(3, 8, 8)], [0, 1])
    assert message((tensors, tensors)) == (
        "image 1 of the training part is colour and the first training image is grey: give all images the same "
        "channels."
    )


def test_images_of_different_sizes_need_a_size():
    given = Own([*pictures(1), *pictures(1, (9, 9))], [0, 1])
    assert message((given, given)) == (
        "image 1 of the training part has 9 × 9 pixels and the first training image has 10 × 12: give all images the "
        "same size, or set image_size."
    )
    assert data.from_torch((given, given), image_size=9).train.shape == (3, 9, 9)


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (torch.randn(3, 8, 8), "give uint8, or floats in 0 to 1; codistill does the normalisation."),
        (torch.zeros(4, 8, 8), "has shape [4, 8, 8]: give [C, H, W] with one channel (grey) or three (RGB)."),
        (torch.zeros(8), "has shape [8]: give [C, H, W]"),
        (torch.zeros(3, 8, 8, dtype=torch.int64), "is torch.int64: give uint8, or floats in 0 to 1."),
        ([[0]], "is a list: give a PIL image, or a tensor [C, H, W]."),
    ],
)
def test_images_of_other_kinds_are_refused(image, says):
    given = Own([image] * 2, [0, 1])
    assert message((given, given)).startswith("image 0 of the training part ")
    assert says in message((given, given))


@pytest.mark.parametrize("label", ["cat", 1.0, -1, 10000, 2**63, torch.tensor([1, 0])])
def test_labels_that_are_no_class_indices_are_refused(label):
    given = Own(pictures(3), [0, label, 1])
    assert message((given, given)) == (
        f"the label of image 1 of the training part is {label!r}: labels must be class indices from 0 to 9999 (with 3 "
        "images); correct it."
    )


@pytest.mark.parametrize("many", [10000, 20000])
def test_labels_may_be_as_large_as_the_number_of_images_or_ten_thousand(many):
    labels = torch.zeros(many, dtype=torch.int64)
    labels[5] = many - 1
    assert class_indices(labels, "the training part")[5] == many - 1
    labels[5] = many
    with pytest.raises(UserError, match=f"is {many}: labels must be class indices from 0 to {many - 1} "):
        class_indices(labels, "the training part")


def test_classes_that_differ_between_the_parts_are_refused_by_the_first_of_them():
    train = Own(pictures(3), [0, 1, 2], classes=["x", "y", "z"])
    assert message((train, Own(pictures(3), [0, 1, 2], classes=["x", "z", "y"]))) == (
        "label 1 is 'y' in the training part and 'z' in the test part: give both the same classes in the same order."
    )
    fewer = Own(pictures(2), [0, 1], classes=["x", "y"])
    assert data.from_torch((train, fewer)).classes == ("x", "y", "z")


def test_synonyms_of_a_class_are_joined_and_other_forms_of_names_refused():
    named = Own(pictures(3), [0, 1, 1], classes=[("tench", "Tinca tinca"), ("goldfish",)])
    assert data.from_torch((named, named)).classes == ("tench, Tinca tinca", "goldfish")
    Kind = Enum("Kind", ["cat", "dog"])
    for names in ([0, 1], range(2), np.arange(2), {0: "a", 1: "b"}.keys()):
        given = Own(pictures(3), [0, 1, 1], classes=names)
        assert data.from_torch((given, given)).classes == ("0", "1")
    for names in (Kind, list(Kind)):
        given = Own(pictures(3), [0, 1, 1], classes=names)
        assert data.from_torch((given, given)).classes == ("cat", "dog")
    for names in (3, "ab", [], [0.5, 1.5], {"a": 0, "b": 1}):
        given = Own(pictures(3), [0, 1, 1], classes=names)
        assert message((given, given)) == (
            f"the class names of the training part are {names!r}: give a list of strings, one per class."
        )


@pytest.mark.parametrize("targets", [5, [7], {0: 7, 1: 7, 2: 7}, iter([7, 7, 7])])
def test_targets_that_are_no_list_of_all_labels_are_not_read(targets):
    given = Own(pictures(3), [0, 1, 1], targets=targets)
    assert data.from_torch((given, given)).train.labels_N.tolist() == [0, 1, 1]


def test_targets_are_not_read_where_the_items_labels_are_transformed():
    given = Own(pictures(3), [0, 1, 1], targets=[7, 8, 8], target_transform=lambda label: label - 7)
    assert data.from_torch((given, given)).train.labels_N.tolist() == [0, 1, 1]


@pytest.mark.parametrize("item", [{"image": 0, "label": 1}, torch.zeros(3, 8, 8), "text", (0,)])
def test_items_that_are_no_pairs_are_refused(item):
    class Other(Own):
        def __getitem__(self, index):
            return item

    assert message(Other(pictures(2), [0, 1])) == (
        f"item 0 of the training part is a {type(item).__name__}: give tuples (image, label)."
    )
    assert message({"train": Own(pictures(1), [0])}).startswith("dict has no length or cannot be indexed")


def test_a_data_set_is_asked_by_the_calling_thread_alone():
    asked = set()

    class Packed(Own):
        def __getitem__(self, index):
            asked.add(threading.get_ident())
            return super().__getitem__(index)

    given = Packed(pictures(12), [0, 1] * 6)
    data.from_torch((given, given))
    assert asked == {threading.get_ident()}


def test_images_that_are_not_square_need_a_size_where_they_are_not_kept_in_memory():
    given = Own(pictures(4), [0, 1, 0, 1])
    assert data.from_torch((given, given)).train.shape == (3, 10, 12)
    assert message((given, given), memory=0) == (
        "images of 10 × 12 pixels are too large to keep in memory (a side of 128 or more, or more than data_memory in "
        "total): such images are decoded in every step and must be square; set image_size to the side of the square."
    )
    assert data.from_torch((given, given), memory=0, image_size=12).train.shape == (3, 12, 12)
    square = Own(pictures(4, (12, 12)), [0, 1, 0, 1])
    assert data.from_torch((square, square), memory=0).train.shape == (3, 12, 12)


def test_images_without_enough_pixels_are_refused():
    given = Own(pictures(2, (20, 7)), [0, 1])
    assert message((given, given)) == "the first image has 7 × 20 pixels: give at least 8, or set image_size."
    empty = Own([torch.zeros(3, 0, 8)] * 2, [0, 1])
    assert message((empty, empty)) == ("image 0 of the training part has shape [3, 0, 8]: give images with pixels.")


@pytest.mark.parametrize("memory", [1, 0])
def test_floats_in_0_to_1_and_sixteen_bits_are_scaled_and_other_numbers_refused(memory):
    ramp = np.arange(64).reshape(8, 8)
    for pixels in ((ramp / 63).astype(np.float32), (ramp * 65535 // 63).astype(np.uint16)):
        given = Own([Image.fromarray(pixels)] * 2, [0, 1])
        found = data.from_torch((given, given), memory=memory)
        shown = found.train.images_NCHW if memory else torch.stack([found.train.read(0), found.train.read(1)])
        assert (shown.float() - torch.from_numpy(ramp * 255 / 63)).abs().max() <= 1
    for pixels, kind in ((ramp.astype(np.float32), "floats"), (ramp.astype(np.int32), "integers of 32 bits")):
        given = Own([Image.fromarray(pixels)] * 2, [0, 1])
        with pytest.raises(UserError) as caught:
            data.from_torch((given, given), memory=memory)
        why = f"({kind} from 0 to 63, but only 8 bits, 16 bits (I;16) and floats in 0 to 1 work)"
        if memory:
            first, second, *_ = str(caught.value).splitlines()
            assert first.startswith("4 images cannot be decoded: ")
            assert second == f"  image 0 of the training part {why}"
        else:
            assert str(caught.value).startswith(f"image 0 of the training part cannot be decoded {why}: replace")
