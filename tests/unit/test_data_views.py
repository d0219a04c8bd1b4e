"""Views: torchvision's crop and flip pixel by pixel, one distortion a peer under ICL, exact normalisation."""

import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from codistill.data import AugmentPolicy, make_views, normalise
from codistill.errors import UserError

# With these constants a normalised pixel is the pixel's value.
PLAIN_MEAN, PLAIN_STD = (0.0, 0.0, 0.0), (1 / 255,) * 3


def images(n, height=6, width=5):
    generator = torch.Generator().manual_seed(7)
    return torch.randint(1, 256, (n, 3, height, width), generator=generator, dtype=torch.uint8)


def views(batch, policy, *, peers=1, distinct=False, seed=0, mean=PLAIN_MEAN, std=PLAIN_STD):
    generator = torch.Generator().manual_seed(seed)
    return make_views(batch, policy, mean, std, peers=peers, distinct=distinct, generator=generator, device="cpu")


def one(*args, **options):
    view = views(*args, **options)
    assert isinstance(view, torch.Tensor)
    return view


def several(*args, **options):
    made = views(*args, distinct=True, **options)
    assert isinstance(made, tuple)
    return made


@pytest.fixture
def draws(monkeypatch):
    """What make_views drew: offsets as "randint", flips as "rand"."""
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
    made = several(batch, AugmentPolicy(padding, False), peers=3)
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


def test_distinct_views_differ_between_peers_but_show_the_same_images_in_the_same_order():
    # Each image is one colour, so that its number can be read off any view of it.
    batch = torch.arange(1, 101, dtype=torch.uint8)[:, None, None, None].expand(100, 3, 8, 8).contiguous()
    made = several(batch, AugmentPolicy(3, True), peers=4)
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


def test_without_distinct_all_peers_share_one_tensor_of_one_distortion(draws):
    batch, policy = images(8), AugmentPolicy(2, True)
    view = views(batch, policy, peers=4)
    assert isinstance(view, torch.Tensor)
    assert view.shape == (8, 3, 6, 5)
    assert draws["randint"].shape == (2, 1, 8)
    assert torch.equal(view, one(batch, policy, peers=1))


def test_distinct_gives_a_tuple_even_for_one_peer():
    assert len(several(images(4), AugmentPolicy(1, True), peers=1)) == 1


def test_equal_generators_give_equal_views_and_the_next_batch_others():
    batch, policy = images(20), AugmentPolicy(2, True)
    generator = torch.Generator().manual_seed(3)
    options = {"peers": 2, "distinct": True, "device": "cpu"}
    first = make_views(batch, policy, PLAIN_MEAN, PLAIN_STD, generator=generator, **options)
    state = generator.get_state()
    second = make_views(batch, policy, PLAIN_MEAN, PLAIN_STD, generator=generator, **options)
    again = make_views(batch, policy, PLAIN_MEAN, PLAIN_STD, generator=generator.set_state(state), **options)
    assert all(torch.equal(a, b) for a, b in zip(second, again, strict=True))
    assert not torch.equal(first[0], second[0])


def test_making_views_leaves_the_batch_and_the_global_generator_alone():
    before, batch = torch.get_rng_state(), images(10)
    kept = batch.clone()
    several(batch, AugmentPolicy(2, True), peers=2)
    one(batch, AugmentPolicy(0, False))
    assert torch.equal(batch, kept)
    assert torch.equal(torch.get_rng_state(), before)


def test_no_distortion_gives_the_images_of_evaluation_bit_by_bit():
    batch, mean, std = images(5), (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    expected = normalise(batch, mean, std, "cpu")
    assert torch.equal(one(batch, AugmentPolicy(0, False), mean=mean, std=std), expected)
    for view in several(batch, AugmentPolicy(0, False), peers=2, mean=mean, std=std):
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


def test_views_for_no_peer_are_refused():
    with pytest.raises(UserError) as caught:
        views(images(2), AugmentPolicy(0, False), peers=0)
    assert str(caught.value) == "peers 0: views need at least one peer."
