"""The data sets inside the package, the list of all, resizing, and folders that are refused."""

import json
from pathlib import Path

import pytest
import torch

from codistill import data
from codistill.data import SOURCES, AugmentPolicy, pixels, split_validation
from codistill.data.types import ImageSet
from codistill.errors import UserError

NAMES = [
    "digits", "glyphs", "fashion_mnist", "cifar10", "cifar100", "imagenet", "image_folder", "hf:NAME", "parquet:PATH",
]  # fmt: skip


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture(scope="module")
def glyphs():
    return data.load("glyphs")


def message(*args, **options):
    with pytest.raises(UserError) as caught:
        data.load(*args, **options)
    return str(caught.value)


def test_digits_are_all_1797_scans_with_a_fifth_of_every_class_as_test(digits):
    assert (len(digits.train), len(digits.test)) == (1438, 359)
    assert digits.train.images_NCHW.shape == (1438, 1, 8, 8)
    assert digits.classes == tuple("0123456789")
    total = digits.train.labels_N.bincount() + digits.test.labels_N.bincount()
    assert total.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert set(digits.test.labels_N.bincount().tolist()) <= {35, 36, 37}
    assert digits.augment == AugmentPolicy(1, False)
    assert (digits.name, digits.epochs, digits.found_at) == ("digits", 40, "scikit-learn")


def test_digits_spread_their_seventeen_levels_over_eight_bits(digits):
    assert digits.train.images_NCHW.unique().tolist() == [
        0, 16, 32, 48, 64, 80, 96, 112, 128, 143, 159, 175, 191, 207, 223, 239, 255,
    ]  # fmt: skip


def test_the_test_set_of_digits_is_a_constant_of_the_code(digits):
    # Every published number stands on this set: a change of it must be seen and noted in the changelog.
    weight = torch.arange(1, 360)
    assert int((weight * digits.test.labels_N).sum()) == 299708
    assert int(digits.test.images_NCHW.long().sum()) == 1794307
    assert torch.equal(data.load("digits").test.images_NCHW, digits.test.images_NCHW)


def test_mean_and_deviation_are_those_of_the_training_images(digits):
    scaled = digits.train.images_NCHW.double() / 255
    assert digits.mean == pytest.approx((scaled.mean().item(),), abs=1e-12)
    assert digits.std == pytest.approx((scaled.std(correction=0).item(),), abs=1e-12)


def test_images_of_one_constant_grey_get_a_deviation_above_zero():
    mean, std = pixels.channel_statistics(torch.full((3, 2, 4, 4), 51, dtype=torch.uint8))
    assert mean == pytest.approx((0.2, 0.2))
    assert std == (1 / 255, 1 / 255)


def test_statistics_are_kept_by_channel():
    images = torch.zeros(2, 2, 4, 4, dtype=torch.uint8)
    images[0, 1] = 255
    mean, std = pixels.channel_statistics(images)
    assert mean == pytest.approx((0.0, 0.5))
    assert std == pytest.approx((1 / 255, 0.5))


def test_glyphs_have_their_published_counts(glyphs):
    assert (len(glyphs.train), len(glyphs.test)) == (44867, 12525)
    assert glyphs.train.images_NCHW.shape[1:] == (1, 32, 32)
    assert (len(glyphs.classes), glyphs.classes[:3], glyphs.classes[10]) == (100, ("0", "1", "2"), "A")
    counts = glyphs.train.labels_N.bincount()
    assert (int(counts.min()), int(counts.max()), len(counts)) == (326, 509, 100)
    assert glyphs.augment == AugmentPolicy(2, False)
    assert (glyphs.epochs, glyphs.found_at) == (30, "shipped with codistill")


def test_no_font_face_of_glyphs_stands_in_training_and_test(glyphs):
    train, test = set(glyphs.train.groups_N.tolist()), set(glyphs.test.groups_N.tolist())
    assert (len(train), len(test)) == (509, 140)
    assert not train & test


def test_no_font_face_of_glyphs_stands_on_both_sides_of_the_validation_split(glyphs):
    kept, drawn = split_validation(glyphs.train, 0.1, torch.Generator().manual_seed(0))
    faces = glyphs.train.groups_N
    assert not set(faces[kept].tolist()) & set(faces[drawn].tolist())
    assert len(kept) + len(drawn) == 44867
    assert 4487 <= len(drawn) < 4487 + 100  # a face has at most 100 images
    assert len(glyphs.train.labels_N[drawn].unique()) == 100


def test_every_source_is_listed_with_its_defaults():
    assert data.available() == NAMES
    defaults = {name: (s.crop_padding, s.flip, s.epochs) for name, s in SOURCES.items()}
    assert defaults == {
        "digits": (1, False, 40),
        "glyphs": (2, False, 30),
        "fashion_mnist": (2, True, 20),
        "cifar10": (4, True, 300),
        "cifar100": (4, True, 300),
        "imagenet": (None, True, 90),
        "image_folder": (None, True, 60),
        "hf": (None, True, 60),
        "parquet": (None, True, 60),
    }


def test_descriptions_are_json_and_agree_with_the_data(digits, glyphs, monkeypatch, tmp_path):
    monkeypatch.setenv("CODISTILL_DATA", str(tmp_path))
    records = {record["name"]: record for record in data.describe()}
    assert list(records) == NAMES
    json.dumps(list(records.values()))
    for dataset in (digits, glyphs):
        record, shape = records[dataset.name], dataset.train.images_NCHW.shape
        assert (record["train_images"], record["test_images"]) == (len(dataset.train), len(dataset.test))
        assert (record["classes"], record["channels"], record["image_size"]) == (len(dataset.classes), *shape[1:3])
        assert record["found_at"] == dataset.found_at
    assert records["cifar10"]["found_at"] is None
    assert records["imagenet"]["found_at"] is None
    for part in ("train", "val"):
        (tmp_path / "imagenet" / part / "n01").mkdir(parents=True)
    assert {r["name"]: r["found_at"] for r in data.describe()}["imagenet"] == str(tmp_path / "imagenet")
    assert records["image_folder"]["found_at"] is None


def test_describing_loads_nothing(monkeypatch):
    def refuse(*_args, **_options):
        raise AssertionError("describe() must not load")

    for name, source in SOURCES.items():
        monkeypatch.setitem(SOURCES, name, type(source)(**{**vars(source), "load": refuse}))
    assert len(data.describe()) == 9


def test_image_size_resizes_shipped_data_with_antialias(digits):
    resized = data.load("digits", image_size=16)
    assert resized.train.images_NCHW.shape == (1438, 1, 16, 16)
    assert resized.train.images_NCHW.dtype == torch.uint8
    assert torch.equal(resized.train.labels_N, digits.train.labels_N)
    assert resized.mean == pytest.approx(digits.mean, abs=0.01)


def test_resizing_averages_all_pixels_and_keeps_labels_and_groups():
    stripes = torch.tensor([0, 255, 255, 0] * 8, dtype=torch.uint8)
    source = ImageSet(stripes.expand(1500, 1, 32, 32).contiguous(), torch.arange(1500), torch.arange(1500) + 1)
    made = pixels.resize(source, 8)
    assert made.images_NCHW.shape == (1500, 1, 8, 8)
    # Without antialias only the two white columns in the middle of each four would be read.
    assert made.images_NCHW[..., 1:-1].float().sub(127.5).abs().max() <= 20
    assert torch.equal(made.images_NCHW[-1], made.images_NCHW[0])
    assert torch.equal(made.labels_N, source.labels_N)
    assert made.groups_N is not None
    assert torch.equal(made.groups_N, torch.arange(1500) + 1)


def test_resizing_to_the_same_size_changes_nothing(digits):
    assert pixels.resize(digits.train, 8) is digits.train


def test_loading_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    data.load("digits", image_size=9)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_unknown_name_is_refused_with_the_nearest_one():
    assert message("cifar-100") == "unknown data set 'cifar-100': did you mean 'cifar100' or 'cifar10'?"


@pytest.mark.parametrize("name", ["digits", "glyphs"])
def test_a_folder_for_data_that_comes_with_the_package_is_refused(name, tmp_path):
    assert message(name, tmp_path) == (
        f"data_dir {tmp_path} with {name!r}: this data comes with the package; leave out --data-dir."
    )


@pytest.mark.parametrize("name", ["fashion_mnist", "cifar10", "cifar100", "image_folder"])
def test_a_missing_or_empty_folder_is_refused(name, tmp_path):
    gone = tmp_path / "gone"
    assert message(name, gone) == f"data_dir {gone}: there is no such folder; correct the path or create it."
    assert message(name, tmp_path) == (f"data_dir {tmp_path}: the folder is empty; put the files of {name!r} there.")


def test_a_folder_that_cannot_be_read_is_refused(tmp_path, monkeypatch):
    def refuse(_path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert message("cifar10", tmp_path) == (
        f"data_dir {tmp_path} cannot be read (Permission denied): make it readable."
    )


@pytest.mark.parametrize("size", [7, 0, -1])
def test_images_below_eight_pixels_are_refused(size):
    assert message("digits", image_size=size) == f"image_size {size}: give at least 8 pixels."


def test_images_that_do_not_fit_into_memory_are_refused_with_the_size_that_would():
    assert message("glyphs", image_size=512) == (
        "57392 images of 512 × 512 pixels and 1 channels take 14.0 GiB: at most 8 GiB are kept in memory "
        "(--data-memory); give "
        "--image-size 386 or less."
    )
    pixels.check_memory(57392, 1, 386)
    with pytest.raises(UserError, match="387 × 387"):
        pixels.check_memory(57392, 1, 387)


def test_images_that_fit_at_no_size_are_refused_with_another_remedy():
    with pytest.raises(UserError) as caught:
        pixels.check_memory(10**9, 3, 8)
    assert str(caught.value) == (
        "1000000000 images of 8 × 8 pixels and 3 channels take 178.8 GiB: at most 8 GiB are kept in memory "
        "(--data-memory); use fewer "
        "images."
    )
