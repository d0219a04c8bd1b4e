"""Splits go by seed and class or by whole groups, put every image in one part, and leave global randomness alone."""

import pytest
import torch

from codistill.data import ImageSet, split_validation, take_subset
from codistill.data.split import _apportion, fixed_test_split
from codistill.errors import UserError


def images(counts, groups=None):
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(99))]
    return ImageSet(torch.zeros(len(labels), 1, 1, 1, dtype=torch.uint8), labels, groups)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def assert_parts_of(n, kept, drawn):
    assert torch.equal(torch.cat([kept, drawn]).sort().values, torch.arange(n))
    assert torch.equal(kept, kept.sort().values)
    assert torch.equal(drawn, drawn.sort().values)


def test_every_class_gives_its_share_to_validation():
    data = images([100, 50, 10])
    kept, drawn = split_validation(data, 0.1, seeded(0))
    assert data.labels_N[drawn].bincount().tolist() == [10, 5, 1]
    assert data.labels_N[kept].bincount().tolist() == [90, 45, 9]
    assert_parts_of(160, kept, drawn)


def test_rounding_keeps_the_total_and_favours_the_largest_remainders():
    data = images([7, 5, 4])
    _, drawn = split_validation(data, 0.25, seeded(0))
    # Shares 1.75, 1.25 and 1: four images in all.
    assert data.labels_N[drawn].bincount(minlength=3).tolist() == [2, 1, 1]


def test_a_class_of_one_image_stays_in_training():
    data = images([10, 1, 1])
    for seed in range(5):
        kept, _ = split_validation(data, 0.5, seeded(seed))
        assert data.labels_N[kept].bincount(minlength=3).tolist()[1:] == [1, 1]


def test_a_split_repeats_with_its_seed_and_changes_with_another():
    data = images([40, 40])
    first, again, other = (split_validation(data, 0.25, seeded(seed))[1] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_which_images_are_drawn_is_uniform_within_a_class():
    data = images([10, 10])
    drawn = torch.cat([split_validation(data, 0.2, seeded(seed))[1] for seed in range(400)])
    # 400 draws of 2 in 10: 80 times each; standard deviation 8.
    assert all(50 < n < 110 for n in drawn.bincount(minlength=20).tolist())


def test_groups_are_drawn_whole_until_the_share_is_reached():
    groups = torch.arange(100) // 10 * 7
    data = images([50, 50], groups)
    kept, drawn = split_validation(data, 0.25, seeded(0))
    assert not set(groups[kept].tolist()) & set(groups[drawn].tolist())
    assert_parts_of(100, kept, drawn)
    assert len(drawn) == 30  # three groups of ten are the fewest that reach 25


def test_groups_that_reach_the_share_exactly_are_not_joined_by_another():
    data = images([50, 50], torch.arange(100) // 10)
    assert len(split_validation(data, 0.2, seeded(0))[1]) == 20


def test_groups_drawn_differ_by_seed_and_repeat_with_it():
    groups = torch.arange(100) // 10
    data = images([50, 50], groups)
    first, again, other = (set(groups[split_validation(data, 0.3, seeded(s))[1]].tolist()) for s in (0, 0, 1))
    assert first == again
    assert first != other


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5])
def test_a_share_out_of_range_is_refused(fraction):
    with pytest.raises(UserError) as caught:
        split_validation(images([4, 4]), fraction, seeded(0))
    assert str(caught.value) == f"validation {fraction}: give a share above 0 and below 1."


def test_a_share_that_draws_no_image_is_refused():
    with pytest.raises(UserError) as caught:
        split_validation(images([4, 4]), 0.01, seeded(0))
    assert str(caught.value) == (
        "validation 0.01 of 8 images: one part would be empty; give another share or more images."
    )


def test_a_single_group_cannot_be_split():
    with pytest.raises(UserError) as caught:
        split_validation(images([4, 4], torch.zeros(8, dtype=torch.int64)), 0.5, seeded(0))
    assert str(caught.value) == (
        "validation 0.5 of 8 images in 1 groups: one part would be empty; give another share or more images."
    )


def test_a_subset_has_exactly_its_size_and_the_share_of_each_class():
    data = images([60, 30, 10])
    index = torch.arange(100).flip(0)[:90]
    subset = take_subset(index, data.labels_N[index], 45, seeded(0))
    counts, had = data.labels_N[subset].bincount(), data.labels_N[index].bincount()
    assert len(subset) == len(set(subset.tolist())) == 45
    assert set(subset.tolist()) <= set(index.tolist())
    assert all(abs(int(n) - int(m) / 2) <= 0.5 for n, m in zip(counts, had, strict=True))
    assert torch.equal(subset, subset.sort(descending=True).values)  # the order of the given indices


def test_a_subset_keeps_an_image_of_every_class_however_rare():
    data = images([97, 2, 1])
    subset = take_subset(torch.arange(100), data.labels_N, 3, seeded(0))
    assert data.labels_N[subset].bincount().tolist() == [1, 1, 1]


def test_a_subset_of_all_is_all_and_classes_that_are_absent_do_not_count():
    labels = torch.tensor([5, 5, 9])
    assert take_subset(torch.tensor([3, 1, 7]), labels, 3, seeded(0)).tolist() == [3, 1, 7]
    assert len(take_subset(torch.tensor([3, 1, 7]), labels, 2, seeded(0))) == 2


def test_subsets_repeat_with_their_seed_and_change_with_another():
    labels = images([50, 50]).labels_N
    first, again, other = (take_subset(torch.arange(100), labels, 20, seeded(s)) for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("size", [101, 2, 0])
def test_a_subset_larger_than_the_data_or_smaller_than_the_classes_is_refused(size):
    data = images([60, 30, 10])
    with pytest.raises(UserError) as caught:
        take_subset(torch.arange(100), data.labels_N, size, seeded(0))
    assert str(caught.value) == (
        f"train_subset {size} of 100 images in 3 classes: give at least one image per class and at most all of them."
    )


def test_the_fixed_test_split_is_a_fifth_of_every_class_and_always_the_same():
    labels = images([50, 100]).labels_N
    kept, drawn = fixed_test_split(labels)
    assert labels[drawn].bincount().tolist() == [10, 20]
    assert_parts_of(150, kept, drawn)
    torch.rand(3)
    assert torch.equal(fixed_test_split(labels)[1], drawn)


def test_too_few_images_for_a_test_set_are_refused():
    with pytest.raises(UserError) as caught:
        fixed_test_split(torch.tensor([0, 1, 2, 3, 4]))
    assert str(caught.value) == (
        "5 images in 5 classes: 20 % of each class is set aside as the test set, which would be empty; give more "
        "images, at least two in some class."
    )


def test_splitting_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    data = images([20, 20])
    split_validation(data, 0.2, seeded(0))
    split_validation(images([20, 20], torch.arange(40) // 4), 0.2, seeded(0))
    take_subset(torch.arange(40), data.labels_N, 10, seeded(0))
    fixed_test_split(data.labels_N)
    assert torch.equal(torch.get_rng_state(), before)


def test_shares_are_the_largest_remainders_one_image_at_a_time():
    draws = torch.Generator().manual_seed(0)
    for _ in range(200):
        counts = torch.randint(0, 9, (7,), generator=draws).tolist()
        for lowest, most in ((1, counts), (0, [max(count - 1, 0) for count in counts])):
            total = int(torch.randint(sum(most) + 1, (), generator=draws))
            total = max(total, sum(min(lowest, top) for top in most))
            exact = [count * total / max(sum(counts), 1) for count in counts]
            expected = [min(max(int(share), lowest), top) for share, top in zip(exact, most, strict=True)]
            while sum(expected) != total:
                step = 1 if sum(expected) < total else -1
                free = [
                    c for c in range(7) if (expected[c] < most[c] if step > 0 else expected[c] > min(lowest, most[c]))
                ]
                expected[max(free, key=lambda c: step * (exact[c] - expected[c]))] += step
            assert _apportion(counts, total, lowest, most) == expected


def test_a_hundred_thousand_classes_are_split():
    # Work in the square of the number of classes would take hours.
    kept, drawn = fixed_test_split(torch.arange(200_000) // 2)
    assert (len(kept), len(drawn)) == (160_000, 40_000)
