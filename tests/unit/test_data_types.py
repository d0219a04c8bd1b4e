"""Image sets, data sets and policies refuse what does not fit together; batches cut a permutation."""

import pytest
import torch

from codistill.data import AugmentPolicy, Dataset, ImageSet, batch_count, batches
from codistill.errors import UserError


def image_set(n=4, channels=1, size=8, **changes):
    fields = {
        "images_NCHW": torch.arange(n * channels * size**2).to(torch.uint8).view(n, channels, size, size),
        "labels_N": torch.arange(n) % 2,
        "groups_N": torch.arange(n) // 2,
    }
    return ImageSet(**{**fields, **changes})


def dataset(**changes):
    fields = {
        "name": "mine",
        "train": image_set(),
        "test": image_set(),
        "classes": ("a", "b"),
        "mean": (0.5,),
        "std": (0.25,),
        "augment": AugmentPolicy(0, False),
        "epochs": 1,
        "found_at": "memory",
    }
    return Dataset(**{**fields, **changes})


def message(make):
    with pytest.raises(UserError) as caught:
        make()
    return str(caught.value)


def test_take_keeps_images_labels_and_groups_together_in_the_order_asked():
    whole = image_set()
    part = whole.take(torch.tensor([3, 0]))
    assert len(whole) == 4
    assert len(part) == 2
    assert torch.equal(part.images_NCHW, torch.stack([whole.images_NCHW[3], whole.images_NCHW[0]]))
    assert part.labels_N.tolist() == [1, 0]
    assert part.groups_N is not None
    assert part.groups_N.tolist() == [1, 0]


def test_take_of_images_without_groups_has_none():
    assert image_set(groups_N=None).take(torch.tensor([1])).groups_N is None


def test_an_image_set_refuses_floats_and_missing_axes():
    said = "give uint8 of shape [N, C, H, W]."
    assert message(lambda: image_set(images_NCHW=torch.rand(4, 1, 8, 8))) == (
        f"images are torch.float32 [4, 1, 8, 8]: {said}"
    )
    assert message(lambda: image_set(images_NCHW=torch.zeros(4, 8, 8, dtype=torch.uint8))) == (
        f"images are torch.uint8 [4, 8, 8]: {said}"
    )


def test_an_image_set_refuses_labels_and_groups_that_are_not_one_integer_per_image():
    assert message(lambda: image_set(labels_N=torch.zeros(3, dtype=torch.int64))) == (
        "labels are torch.int64 [3] for 4 images: give one int64 per image."
    )
    assert message(lambda: image_set(groups_N=torch.zeros(4))) == (
        "groups are torch.float32 [4] for 4 images: give one int64 per image."
    )


def test_a_dataset_refuses_test_images_of_another_shape():
    assert message(lambda: dataset(test=image_set(size=9))) == (
        "training images are [1, 8, 8] and test images [1, 9, 9]: give both the same [C, H, W]."
    )


def test_a_dataset_refuses_a_mean_that_is_not_one_number_per_channel():
    assert message(lambda: dataset(mean=(0.5, 0.5))) == (
        "2 means and 1 deviations for images of 1 channels: give one per channel."
    )


@pytest.mark.parametrize("label", [2, -1])
def test_a_dataset_refuses_a_label_without_a_class(label):
    assert message(lambda: dataset(test=image_set(labels_N=torch.tensor([0, 1, label, 0])))) == (
        f"label {label} with 2 classes: labels are 0 to 1; name every class or correct the label."
    )


def test_a_policy_refuses_negative_padding():
    assert message(lambda: dataset(augment=AugmentPolicy(-1, False))) == "crop_padding -1: give 0 or more pixels."


def test_batches_are_full_disjoint_and_random_by_generator_alone():
    before = torch.get_rng_state()
    first = list(batches(10, 3, torch.Generator().manual_seed(0)))
    again = list(batches(10, 3, torch.Generator().manual_seed(0)))
    other = list(batches(10, 3, torch.Generator().manual_seed(1)))
    assert [len(batch) for batch in first] == [3, 3, 3]
    seen = torch.cat(first).tolist()
    assert len(set(seen)) == 9
    assert set(seen) < set(range(10))
    assert torch.equal(torch.cat(first), torch.cat(again))
    assert not torch.equal(torch.cat(first), torch.cat(other))
    assert torch.equal(torch.get_rng_state(), before)


def test_one_batch_may_hold_all_images():
    (only,) = batches(4, 4, torch.Generator().manual_seed(0))
    assert sorted(only.tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize("size", [0, 5])
def test_a_batch_without_images_or_larger_than_the_data_is_refused_at_once(size):
    assert message(lambda: batches(4, size, torch.Generator())) == (
        f"batch_size {size} with 4 images: give at least 1 and at most 4."
    )


@pytest.mark.parametrize(
    ("n", "sizes"), [(12, [4, 4, 4]), (14, [4, 4, 4, 2]), (13, [4, 4, 5]), (5, [5]), (4, [4]), (7, [4, 3])]
)
def test_a_kept_last_batch_trains_on_every_image_and_leaves_none_alone(n, sizes):
    found = list(batches(n, 4, torch.Generator().manual_seed(0), "keep"))
    assert [len(index_B) for index_B in found] == sizes
    assert sorted(torch.cat(found).tolist()) == list(range(n))
    assert batch_count(n, 4, "keep") == len(sizes)
    dropped = list(batches(n, 4, torch.Generator().manual_seed(0)))
    assert batch_count(n, 4) == len(dropped) == n // 4
    # The same permutation, so that the whole batches are the same.
    assert all(torch.equal(a[:4], b) for a, b in zip(found, dropped, strict=False))
