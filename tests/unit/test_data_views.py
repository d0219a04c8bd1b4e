"""Views: torchvision's crop and flip pixel by pixel, one distortion per view, exact normalisation."""

import pytest
import torch
from one_step import step_views
from torchvision.transforms.v2 import functional as reference

from codistill.data import AugmentPolicy, ImageSet, normalise, training_views


def images(n, height=6, width=5):
    generator = torch.Generator().manual_seed(7)
    return torch.randint(1, 256, (n, 3, height, width), generator=generator, dtype=torch.uint8)


def one(*args, **options):
    (view,) = step_views(*args, **options)
    return view


@pytest.fixture
def draws(monkeypatch):
    """What a step drew: offsets as "randint", flips as "rand"."""
    drawn = {}

    def recorded(name, original):
        def record(*args, **options):
            drawn[name] = original(*args, **options)
            return drawn[name]

        return record

    for name in ("randint", "rand"):
        monkeypatch.setattr(torch, name, recorded(name, getattr(torch, name)))
    return drawn


def test_each_view_is_torchvisions_crop_of_the_zero_padded_image_at_the_offset_drawn(draws):
    batch, padding = images(40), 2
    made = step_views(batch, AugmentPolicy(padding, False), count=3)
    top_VB, left_VB = draws["randint"]
    assert top_VB.shape == (3, 40)
    padded = reference.pad(batch, [padding])
    for view in range(3):
        for image in range(40):
            top, left = int(top_VB[view, image]), int(left_VB[view, image])
            expected = reference.crop(padded[image], top, left, 6, 5)
            assert torch.equal(made[view][image], expected.float())


def test_offsets_cover_zero_to_twice_the_padding_evenly(draws):
    one(images(2500), AugmentPolicy(2, False))
    for axis in draws["randint"]:
        counts = axis.flatten().bincount().tolist()
        assert len(counts) == 5
        assert all(400 < count < 600 for count in counts)  # 500 each, standard deviation 20


def test_flips_mirror_left_and_right_where_drawn_and_half_of_the_images(draws):
    batch = images(1000)
    made = one(batch, AugmentPolicy(0, True))
    flipped = draws["rand"][0] < 0.5
    assert torch.equal(made[flipped], reference.horizontal_flip(batch[flipped]).float())
    assert torch.equal(made[~flipped], batch[~flipped].float())
    assert 420 < int(flipped.sum()) < 580


def test_crop_comes_before_flip(draws):
    batch = images(50)
    made = one(batch, AugmentPolicy(1, True))
    (top_B,), (left_B,) = draws["randint"]
    padded = reference.pad(batch, [1])
    for image in range(50):
        expected = reference.crop(padded[image], int(top_B[image]), int(left_B[image]), 6, 5)
        if draws["rand"][0, image] < 0.5:
            expected = reference.horizontal_flip(expected)
        assert torch.equal(made[image], expected.float())


def test_views_differ_from_each_other_but_show_the_same_images_in_the_same_order():
    # Each image is one colour, so that its number can be read off any view of it.
    batch = torch.arange(1, 101, dtype=torch.uint8)[:, None, None, None].expand(100, 3, 8, 8).contiguous()
    made = step_views(batch, AugmentPolicy(3, True), count=4)
    assert len(made) == 4
    for view in made:
        assert view.shape == (100, 3, 8, 8)
        assert view.dtype == torch.float32
        assert view.is_contiguous()
        assert view.amax((1, 2, 3)).tolist() == list(range(1, 101))
    for first in range(4):
        for second in range(first):
            same = (made[first] == made[second]).flatten(1).all(1).float().mean()
            assert same < 0.1  # 49 offsets: one pair in 49 agrees by chance


def test_one_view_is_one_distortion_of_each_image(draws):
    view = one(images(8), AugmentPolicy(2, True))
    assert view.shape == (8, 3, 6, 5)
    assert draws["randint"].shape == (2, 1, 8)
    assert draws["rand"].shape == (1, 8)


def test_equal_generators_give_equal_views_and_the_next_step_others():
    batch, policy = ImageSet(images(20), torch.arange(20)), AugmentPolicy(2, True)
    generator = torch.Generator().manual_seed(3)
    constants = {"mean": (0.0,) * 3, "std": (1 / 255,) * 3, "workers": 0, "device": torch.device("cpu")}

    def epoch():
        made = training_views(batch, [torch.arange(20)] * 2, policy, views=2, generator=generator, **constants)
        # Views hold until the next step only.
        return [torch.stack(views) for views, _ in made]

    state = generator.get_state()
    (first, second), (third, _) = epoch(), epoch()
    generator.set_state(state)
    again = epoch()
    assert torch.equal(first, again[0])
    assert torch.equal(second, again[1])
    assert not torch.equal(first, second)
    assert not torch.equal(first, third)


def test_making_views_leaves_the_batch_and_the_global_generator_alone():
    before, batch = torch.get_rng_state(), images(10)
    kept = batch.clone()
    step_views(batch, AugmentPolicy(2, True), count=2)
    one(batch, AugmentPolicy(0, False))
    assert torch.equal(batch, kept)
    assert torch.equal(torch.get_rng_state(), before)


def test_no_distortion_gives_the_images_of_evaluation_bit_by_bit():
    batch, mean, std = images(5), (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    expected = normalise(batch, mean, std, "cpu")
    assert torch.equal(one(batch, AugmentPolicy(0, False), mean=mean, std=std), expected)
    for view in step_views(batch, AugmentPolicy(0, False), count=2, mean=mean, std=std):
        assert torch.equal(view, expected)


def test_normalisation_subtracts_the_mean_and_divides_by_the_deviation_of_each_channel():
    batch = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    made = normalise(batch, (0.5, 0.1, 0.0), (0.25, 0.5, 2.0), "cpu")
    assert made.dtype == torch.float32
    assert made.flatten().tolist() == pytest.approx([-2.0, 0.2, 0.5], abs=1e-6)


def test_padding_is_black_before_normalisation():
    batch = torch.full((200, 1, 4, 4), 255, dtype=torch.uint8)
    made = one(batch, AugmentPolicy(1, False), mean=(0.5,), std=(0.25,))
    assert sorted(made.unique().tolist()) == [-2.0, 2.0]
