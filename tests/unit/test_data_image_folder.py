"""The user's own images: both layouts, what is done to the pixels, and every refusal."""

import numpy as np
import pytest
import torch
from PIL import Image

from codistill import data
from codistill.data import AugmentPolicy, opening
from codistill.data.suffixes import suffixes
from codistill.errors import UserError

SUFFIXES = ", ".join(sorted(suffixes()))


def write(path, colour=(10, 20, 30), size=(20, 20), mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **options)
    return path


def save(pixels, path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def write_classes(folder, names, images=5, **options):
    for name in names:
        for i in range(images):
            write(folder / name / f"{i}.png", **options)
    return folder


def message(*args, **options):
    with pytest.raises(UserError) as caught:
        data.load("image_folder", *args, **options)
    return str(caught.value)


def first_image(folder, path, **options):
    """Decode `path` as the first training image, with another class next to it."""
    write(folder / "train" / "z" / "0.png", (1, 2, 3))
    write(folder / "test" / "z" / "0.png", (1, 2, 3))
    assert path.parent.parent == folder / "train"
    return data.load("image_folder", folder, **options).train.images_NCHW[0]


@pytest.mark.parametrize("part", ["test", "val", "valid", "validation"])
def test_train_and_test_folders_are_the_two_parts(tmp_path, part):
    write_classes(tmp_path / "train", ["dog", "cat"], 3)
    write_classes(tmp_path / part, ["dog"], 2)
    found = data.load("image_folder", tmp_path)
    assert found.classes == ("cat", "dog")
    assert found.train.labels_N.tolist() == [0, 0, 0, 1, 1, 1]
    assert found.test.labels_N.tolist() == [1, 1]
    assert found.train.images_NCHW.shape == (6, 3, 64, 64)
    assert (found.augment, found.epochs, found.found_at) == (AugmentPolicy(8, True), 60, str(tmp_path))


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_val_next_to_test_is_the_validation_part_the_last_of_the_training_images(tmp_path, name):
    for part, images, colour in (("train", 5, (10, 0, 0)), (name, 3, (20, 0, 0)), ("test", 1, (30, 0, 0))):
        write_classes(tmp_path / part, ["a", "b"], images, colour=colour)
    found = data.load("image_folder", tmp_path, image_size=8)
    assert (len(found.train), found.validation_images, found.training_images, len(found.test)) == (16, 6, 10, 2)
    assert found.train.images_NCHW[:, 0, 0, 0].tolist() == [10] * 10 + [20] * 6
    assert found.train.labels_N.tolist() == [0] * 5 + [1] * 5 + [0] * 3 + [1] * 3
    assert found.mean[0] == pytest.approx(10 / 255)
    assert [note.text for note in found.findings.notes] == [f"{tmp_path / name} is the validation part"]
    large = data.load("image_folder", tmp_path, image_size=128)
    assert large.train.decode(torch.arange(16))[:, 0, 0, 0].tolist() == [10] * 10 + [20] * 6
    assert large.mean == found.mean


def test_two_folders_that_could_be_the_validation_part_are_refused(tmp_path):
    for part in ("train", "val", "valid", "test"):
        write_classes(tmp_path / part, ["a", "b"], 1)
    assert message(tmp_path) == (
        f"{tmp_path} has val and valid: both could be the validation part; keep one of them, or put them together."
    )


@pytest.mark.parametrize("layout", [".", "train"])
def test_without_a_test_part_a_constant_fifth_of_each_class_is_set_aside(tmp_path, layout):
    for name in "abc":
        for i in range(10):
            write(tmp_path / layout / name / f"{i}.png", (i, i, i))
    first, second = (data.load("image_folder", tmp_path, image_size=8) for _ in range(2))
    assert first.train.labels_N.bincount().tolist() == [8, 8, 8]
    assert first.test.labels_N.bincount().tolist() == [2, 2, 2]
    assert torch.equal(first.test.images_NCHW, second.test.images_NCHW)
    for label in range(3):
        seen = [part.images_NCHW[part.labels_N == label, 0, 0, 0].tolist() for part in (first.train, first.test)]
        assert sorted(seen[0] + seen[1]) == list(range(10))


def test_a_folder_of_pictures_called_train_is_a_class(tmp_path):
    write_classes(tmp_path, ["bus", "train"])
    assert data.load("image_folder", tmp_path, image_size=8).classes == ("bus", "train")


def test_images_keep_the_order_of_their_sorted_names(tmp_path):
    for i in (3, 1, 2):
        write(tmp_path / "train" / "a" / f"{i}.png", (i, 0, 0))
    write(tmp_path / "train" / "b" / "0.png", (9, 0, 0))
    write(tmp_path / "test" / "a" / "0.png")
    images = data.load("image_folder", tmp_path, image_size=8).train.images_NCHW
    assert images[:, 0, 0, 0].tolist() == [1, 2, 3, 9]
    assert images[:, 1].unique().tolist() == [0]


def test_other_files_and_hidden_ones_are_ignored_and_suffixes_may_be_capitals(tmp_path):
    write_classes(tmp_path, ["a", "b"])
    write(tmp_path / "a" / "x.PNG")
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / "a" / "._x.png").write_bytes(b"a resource fork")
    (tmp_path / "readme.md").write_text("no class")
    (tmp_path / ".git").mkdir()
    found = data.load("image_folder", tmp_path, image_size=8)
    assert found.classes == ("a", "b")
    assert len(found.train) + len(found.test) == 11


def test_folders_in_a_class_belong_to_it_and_links_are_not_followed_in_circles(tmp_path):
    for part in ("train", "test"):
        write_classes(tmp_path / part, ["a", "b"], 1)
        write(tmp_path / part / "a" / "deep" / "er" / "x.png", (9, 9, 9))
        (tmp_path / part / "a" / "deep" / "back").symlink_to(tmp_path / part / "a")
    write(tmp_path / "elsewhere" / "y.png", (8, 8, 8))
    (tmp_path / "train" / "a" / "link").symlink_to(tmp_path / "elsewhere")
    found = data.load("image_folder", tmp_path, image_size=8)
    assert found.train.images_NCHW[:, 2, 0, 0].tolist() == [30, 9, 8, 30]
    assert (found.train.labels_N.tolist(), found.test.labels_N.tolist()) == ([0, 0, 0, 1], [0, 0, 1])


@pytest.mark.parametrize("names", [("Training", "Testing"), ("Train", "Test")])
def test_parts_of_other_names_are_not_taken_for_classes(tmp_path, names):
    for name in names:
        write_classes(tmp_path / name, ["a", "b"], 1)
    assert message(tmp_path) == (
        f"{tmp_path / sorted(names)[0]} has subfolders and is named like a part of the data: if it is one, rename the "
        "parts to train, val and test, in lower case; if it is a class, give it another name."
    )


@pytest.mark.parametrize("name", ["Test", "Val", "testing"])
def test_a_part_of_another_name_is_not_left_out_silently(tmp_path, name):
    for part in ("train", "val", name):
        write_classes(tmp_path / part, ["a", "b"], 1)
    assert message(tmp_path).startswith(f"{tmp_path / name} has subfolders and is named like a part of the data")


def test_a_class_that_is_not_named_in_utf_8_is_refused(tmp_path):
    write_classes(tmp_path, ["a"], 1)
    try:
        (tmp_path / "caf\udce9").mkdir()
    except OSError:
        pytest.skip("this file system takes no such name")
    assert message(tmp_path) == f"the name of the class folder 'caf\\udce9' in {tmp_path} is not UTF-8: rename it."


@pytest.mark.parametrize(("mode", "colour", "grey"), [("L", 1, 1), ("1", 1, 255), ("LA", (90, 0), 90)])
def test_images_that_are_all_grey_with_or_without_alpha_get_one_channel(tmp_path, mode, colour, grey):
    write_classes(tmp_path, ["a", "b"], mode=mode, colour=colour)
    found = data.load("image_folder", tmp_path, image_size=8)
    assert found.train.images_NCHW.shape == (8, 1, 8, 8)
    assert found.train.images_NCHW.unique().tolist() == [grey]


def test_one_image_in_colour_makes_all_of_them_colour(tmp_path):
    write_classes(tmp_path, ["a", "b"], mode="L", colour=7)
    write(tmp_path / "b" / "colour.png", (1, 2, 3))
    found = data.load("image_folder", tmp_path, image_size=8)
    assert found.train.images_NCHW.shape[1] == 3
    assert found.train.images_NCHW[0].unique().tolist() == [7]


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path):
    for name, value in (("a", 257 * 100), ("b", 65535)):
        for i in range(3):
            save(np.full((9, 9), value, dtype=np.uint16), tmp_path / name / f"{i}.png")
    found = data.load("image_folder", tmp_path, image_size=8)
    assert found.train.images_NCHW.shape[1] == 1
    assert [found.train.images_NCHW[found.train.labels_N == c].unique().tolist() for c in (0, 1)] == [[100], [255]]


def test_palettes_with_transparency_and_alpha_become_rgb(tmp_path):
    palette = Image.new("P", (9, 9), 1)
    palette.putpalette([0, 0, 0, 40, 50, 60])
    path = tmp_path / "train" / "a" / "0.png"
    path.parent.mkdir(parents=True)
    palette.save(path, transparency=b"\xff\x80")
    assert first_image(tmp_path, path)[:, 5, 5].tolist() == [40, 50, 60]
    write(path, (70, 80, 90, 255), mode="RGBA")
    assert first_image(tmp_path, path)[:, 5, 5].tolist() == [70, 80, 90]


def test_the_shorter_side_is_resized_and_the_centre_kept(tmp_path):
    wide = np.zeros((16, 48, 3), dtype=np.uint8)
    wide[:, :16, 0], wide[:, 16:32, 1], wide[:, 32:, 2] = 200, 200, 200
    path = save(wide, tmp_path / "train" / "a" / "0.png")
    image = first_image(tmp_path, path, image_size=16)
    assert image[1].unique().tolist() == [200]
    assert image[[0, 2]].unique().tolist() == [0]
    smaller = first_image(tmp_path, path, image_size=8)
    assert smaller[1, :, 1:-1].unique().tolist() == [200]


def test_images_are_resized_with_antialias(tmp_path):
    checks = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    path = save(checks[..., None].repeat(3, axis=2), tmp_path / "train" / "a" / "0.png")
    assert first_image(tmp_path, path, image_size=8).float().sub(127.5).abs().max() <= 2


def test_a_large_jpeg_keeps_its_colours(tmp_path):
    path = write(tmp_path / "train" / "a" / "0.jpg", (200, 100, 50), size=(700, 500), quality=95)
    image = first_image(tmp_path, path, image_size=16).float()
    assert (image - torch.tensor([200.0, 100.0, 50.0]).view(3, 1, 1)).abs().max() <= 2


def test_exif_orientation_turns_the_image_upright(tmp_path):
    pixels = np.zeros((16, 16, 3), dtype=np.uint8)
    pixels[:, :8] = 200
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it a quarter clockwise
    path = save(pixels, tmp_path / "train" / "a" / "0.png", exif=exif)
    image = first_image(tmp_path, path, image_size=16)
    assert image[:, :8].unique().tolist() == [200]
    assert image[:, 8:].unique().tolist() == [0]


def test_the_default_crop_is_an_eighth_of_the_side(tmp_path):
    write_classes(tmp_path, ["a", "b"])
    assert data.load("image_folder", tmp_path, image_size=40).augment == AugmentPolicy(5, True)


def test_a_folder_must_be_named():
    assert message() == "data set 'image_folder' needs a folder: give the folder of your images with --data-dir."


def test_a_folder_without_class_folders_is_refused(tmp_path):
    write(tmp_path / "0.png")
    assert message(tmp_path) == (
        f"{tmp_path} has no class folders: put the images of each class in their own folder, DIR/train/CLASS or "
        "DIR/CLASS."
    )


def test_a_single_class_is_refused(tmp_path):
    write_classes(tmp_path, ["only"])
    assert message(tmp_path) == f"{tmp_path} has only one class, 'only': at least two are needed; add a class folder."


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_class_folder_without_images_is_refused_by_name(tmp_path, part):
    write_classes(tmp_path / "train", ["a", "b"])
    write_classes(tmp_path / "test", ["a"])
    folder = tmp_path / part / "c"
    (tmp_path / "train" / "c").mkdir()
    if part == "test":
        write(tmp_path / "train" / "c" / "0.png")
        write(folder / ".hidden" / "0.png")
    assert message(tmp_path) == (f"{folder} has no images ({SUFFIXES}): put images in the class folder, or remove it.")


def test_test_classes_that_training_lacks_are_refused(tmp_path):
    write_classes(tmp_path / "train", ["a", "b"])
    write_classes(tmp_path / "test", ["a", "y", "z"])
    assert message(tmp_path) == (
        f"{tmp_path / 'test'} has the classes y, z, but {tmp_path / 'train'} does not: add training images of them, "
        "or remove their test folders."
    )


def test_a_test_part_without_classes_is_refused(tmp_path):
    write_classes(tmp_path / "train", ["a", "b"])
    write(tmp_path / "test" / "0.png")
    assert message(tmp_path) == (
        f"{tmp_path / 'test'} has no class folders: add test images of the classes, or remove the folder."
    )


def test_a_file_that_is_no_image_is_refused_by_its_path(tmp_path):
    write_classes(tmp_path, ["a", "b"])
    path = tmp_path / "b" / "broken.jpg"
    path.write_bytes(b"not a picture")
    assert message(tmp_path) == (
        f"{path} cannot be decoded (cannot identify image file): replace or remove this image, or leave such images "
        "out with --bad-images skip."
    )


def test_a_truncated_image_is_refused_by_its_path(tmp_path):
    write_classes(tmp_path, ["a", "b"])
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    path = save(noise, tmp_path / "a" / "cut.png")
    path.write_bytes(path.read_bytes()[:2000])
    said = message(tmp_path)
    assert said.startswith(f"{path} cannot be decoded (")
    assert said.endswith("): replace or remove this image, or leave such images out with --bad-images skip.")


def test_a_decompression_bomb_is_refused_by_its_path(tmp_path, monkeypatch):
    write_classes(tmp_path, ["a", "b"])
    path = write(tmp_path / "a" / "huge.png", size=(40, 40))
    monkeypatch.setattr(opening, "MOST_PIXELS", 1_599)
    assert message(tmp_path).startswith(f"{path} cannot be decoded (it has 40 × 40 pixels, and at most")


def test_loading_leaves_the_global_generator_alone(tmp_path):
    before = torch.get_rng_state()
    data.load("image_folder", write_classes(tmp_path, ["a", "b"]), image_size=8)
    assert torch.equal(torch.get_rng_state(), before)
