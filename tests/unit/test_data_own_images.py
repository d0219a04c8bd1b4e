"""The user's own images as they are: EXIF, suffixes, damaged files, links, and the summary before training."""

import io
import struct
import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image, features
from PIL.PngImagePlugin import PngInfo

from codistill import data
from codistill.data import LazyImages, suffixes
from codistill.data.pictures import FilePictures
from codistill.data.split import split_validation
from codistill.data.summary import DataSummary
from codistill.errors import UserError
from codistill.prepare import upright
from refusals import refusal

QUARTERS = np.zeros((16, 16, 3), dtype=np.uint8)
QUARTERS[:8, :8] = 60
QUARTERS[:8, 8:] = 120
QUARTERS[8:, :8] = 180
QUARTERS[8:, 8:] = 240
UPRIGHT = [60, 120, 180, 240]


def write(path, shade=10, size=(20, 20), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, 7, 9)).save(path, **options)
    return path


def write_classes(folder, names=("a", "b"), images=5, first=0):
    for n, name in enumerate(names):
        for i in range(images):
            write(folder / name / f"{i}.png", first + 20 * n + i)
    return folder


def load(folder, **options):
    return data.load("image_folder", folder, **{"image_size": 16, **options})


def notes(found):
    return [note.text for note in found.findings.notes]


def summary(found: data.Dataset) -> DataSummary:
    count = found.training_images
    if found.validation_images:
        training_N, validation_N = torch.arange(len(found.train)).tensor_split([count])
    else:
        training_N, validation_N = split_validation(found.train, 0.2, torch.Generator().manual_seed(0))
    made = data.summarise_data(found, training_N, validation_N)
    assert made is not None
    return made


def with_exif(orientation, *, kind=3, wrong_resolution=False):
    """A JPEG of the quarters, stored so that the orientation turns them upright, with hand-made EXIF entries."""
    stored = {
        1: QUARTERS, 2: QUARTERS[:, ::-1], 3: QUARTERS[::-1, ::-1], 4: QUARTERS[::-1], 5: QUARTERS.transpose(1, 0, 2),
        6: np.rot90(QUARTERS), 7: np.rot90(QUARTERS, 2).transpose(1, 0, 2), 8: np.rot90(QUARTERS, -1),
    }  # fmt: skip
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(stored.get(orientation, QUARTERS))).save(stream, "JPEG", quality=95)
    value = struct.pack("<HH", orientation, 0) if kind == 3 else b"up\0\0"
    entries = [(0x0112, kind, 1 if kind == 3 else 3, value)]
    entries += [(0x011A, 2, 4, b"72\0\0")] * wrong_resolution
    body = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHI", t, k, n) + v for t, k, n, v in entries)
    segment = b"Exif\0\0II*\0" + struct.pack("<I", 8) + body + struct.pack("<I", 0)
    jpeg = stream.getvalue()
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]


def quarters(image):
    pixels = np.asarray(image)[..., 0].astype(int)
    return [pixels[y, x] for y in (4, 12) for x in (4, 12)]


@pytest.mark.parametrize("wrong_resolution", [False, True])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright_whatever_other_tags_hold(orientation, wrong_resolution):
    image = Image.open(io.BytesIO(with_exif(orientation, wrong_resolution=wrong_resolution)))
    assert quarters(upright(image, 3)) == pytest.approx(UPRIGHT, abs=6)


@pytest.mark.parametrize(("orientation", "kind"), [(0, 3), (9, 3), (6, 2)])
def test_an_orientation_that_means_nothing_leaves_the_photo_as_it_is(orientation, kind):
    photo = with_exif(orientation if kind == 3 else 1, kind=kind)
    assert quarters(upright(Image.open(io.BytesIO(photo)), 3)) == pytest.approx(UPRIGHT, abs=6)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("exif", [b"", b"Exif\0\0", b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\xff\xff\x7f"])
def test_exif_data_that_cannot_be_read_refuse_no_photo(tmp_path, exif):
    stream = io.BytesIO()
    Image.fromarray(QUARTERS).save(stream, "JPEG", quality=95)
    jpeg = stream.getvalue()
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    folder = write_classes(tmp_path)
    (folder / "a" / "photo.jpg").write_bytes(jpeg[:2] + segment + jpeg[2:])
    assert len(load(folder).train) + len(load(folder).test) == 11


def test_a_profile_that_pillow_cannot_parse_refuses_no_png(tmp_path):
    text = PngInfo()
    text.add_text("Raw profile type exif", "\nexif\n 4\nno hexadecimal numbers")
    Image.fromarray(QUARTERS).save(tmp_path / "x.png", pnginfo=text)
    image = Image.open(tmp_path / "x.png")
    assert quarters(upright(image, 3)) == UPRIGHT
    with pytest.raises(ValueError, match="non-hexadecimal"):
        Image.open(tmp_path / "x.png").getexif()


def test_a_tiff_with_an_orientation_is_turned_once(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "x.tif"
    Image.fromarray(np.ascontiguousarray(np.rot90(QUARTERS))).save(path, exif=exif)
    assert quarters(upright(FilePictures([path]).open(0), 3)) == UPRIGHT


def test_jfif_and_avif_files_are_images(tmp_path):
    folder = write_classes(tmp_path)
    write(folder / "a" / "old.JFIF", format="JPEG")
    count = 11
    if features.check("avif"):
        write(folder / "a" / "new.avif")
        count = 12
    found = load(folder)
    assert len(found.train) + len(found.test) == count
    assert notes(found) == []


@pytest.fixture
def fresh_suffixes():
    def clear():
        suffixes.suffixes.cache_clear()
        suffixes.register_plugin.cache_clear()

    clear()
    yield
    clear()


@pytest.fixture
def no_plugin(monkeypatch, fresh_suffixes):
    find = suffixes.importlib.util.find_spec
    monkeypatch.setattr(
        suffixes.importlib.util, "find_spec", lambda name: None if name == "pillow_heif" else find(name)
    )


def test_files_left_out_are_counted_by_suffix_with_what_would_read_them(tmp_path, no_plugin):
    for part in ("train", "test"):
        write_classes(tmp_path / part)
    for i in (1, 3):
        (tmp_path / "train" / "a" / f"{i}.png").rename(tmp_path / "train" / "a" / f"{i}.HEIC")
    (tmp_path / "test" / "b" / "notes.txt").write_text("no image")
    with pytest.warns(UserWarning, match="files left out: 2 .heic") as caught:
        found = load(tmp_path)
    assert len(caught) == 1
    assert notes(found) == [
        "files left out: 2 .heic (the plugin of 'pip install pillow-heif' reads them), 1 .txt; images among them are "
        "in train/a"
    ]
    assert len(found.train) == 8


def test_files_that_are_no_images_are_counted_without_a_warning(tmp_path):
    folder = write_classes(tmp_path)
    (folder / "a" / "notes.txt").write_text("no image")
    (folder / "a" / "LICENSE").write_text("no image")
    (folder / "b" / "more.txt").write_text("no image")
    assert notes(load(folder)) == ["files left out: 2 .txt, 1 without suffix"]


def test_a_class_of_unreadable_images_says_what_it_holds(tmp_path, no_plugin):
    folder = write_classes(tmp_path)
    for path in list((folder / "b").iterdir()):
        path.rename(path.with_suffix(".heic"))
    said = refusal(load, folder)
    assert said.startswith(f"{folder / 'b'} has no images (")
    assert "it holds 5 .heic (the plugin of 'pip install pillow-heif' reads them)): put images" in said


def test_heic_files_are_read_where_the_plugin_is_installed(tmp_path, monkeypatch, fresh_suffixes):
    registered = []
    plugin = types.ModuleType("pillow_heif")
    plugin.__spec__ = types.SimpleNamespace(name="pillow_heif")
    plugin.register_heif_opener = lambda: registered.append(True)
    monkeypatch.setitem(sys.modules, "pillow_heif", plugin)
    folder = write_classes(tmp_path)
    write(folder / "a" / "photo.heic", format="PNG")
    found = load(folder)
    assert len(found.train) + len(found.test) == 11
    assert registered == [True]


def test_folders_beside_the_parts_are_named(tmp_path):
    for part in ("train", "test", "unlabelled"):
        write_classes(tmp_path / part)
    assert notes(load(tmp_path)) == [f"folders of {tmp_path} beside train and test are not read: unlabelled"]


def test_val_that_serves_as_the_test_part_is_said(tmp_path):
    for part in ("train", "val"):
        write_classes(tmp_path / part)
    assert notes(load(tmp_path)) == [f"{tmp_path} has no test folder: {tmp_path / 'val'} is the test part"]


def test_links_that_lead_back_are_not_followed(tmp_path):
    folder = write_classes(tmp_path / "train")
    write_classes(tmp_path / "test")
    (folder / "a" / "up").symlink_to(folder)
    (folder / "a" / "further").symlink_to(tmp_path)
    (folder / "loop").symlink_to(folder)
    (folder / "b" / "x.png").symlink_to(folder / "b" / "x.png")
    said = refusal(load, tmp_path)
    assert said.startswith(f"{folder / 'b' / 'x.png'} cannot be decoded (")
    (folder / "b" / "x.png").unlink()
    found = load(tmp_path)
    assert found.classes == ("a", "b")
    assert found.train.labels_N.tolist() == [0] * 5 + [1] * 5
    assert len(notes(found)) == 1
    assert notes(found)[0].startswith("links that lead back to a folder above them are not followed, such as ")


def damage(folder, names):
    """Files that are no images, and one that is cut off behind its header."""
    for i, name in enumerate(names):
        path = folder / name
        if i == 0:
            noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(noise).save(path)
            path.write_bytes(path.read_bytes()[:2000])
        else:
            path.write_bytes(b"no image")
    return [str(folder / name) for name in names]


@pytest.mark.parametrize("size", [16, 128])
def test_all_damaged_files_are_listed_at_once(tmp_path, size):
    for part in ("train", "val", "test"):
        write_classes(tmp_path / part)
    bad = damage(tmp_path, ["train/a/1.png", "train/b/0.png", "train/b/3.png", "val/a/2.png", "test/b/4.png"])
    with pytest.raises(UserError) as caught:
        load(tmp_path, image_size=size)
    first, *listed = str(caught.value).splitlines()
    # A file that is cut off has a good header: where images stay in their files, it is found when it is decoded.
    expected = bad if size == 16 else bad[1:]
    assert first == (
        f"{len(expected)} images cannot be decoded: replace or remove them, or leave them out with --bad-images skip:"
    )
    assert [line.strip().partition(" (")[0] for line in listed] == expected


def test_of_many_damaged_files_twenty_are_listed_and_the_others_counted(tmp_path):
    folder = write_classes(tmp_path, images=15)
    for i in range(14):
        for name in "ab":
            (folder / name / f"{i}.png").write_bytes(b"no image")
    with pytest.raises(UserError) as caught:
        load(folder)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("28 images cannot be decoded: ")
    assert len(lines) == 1 + 20 + 1
    assert lines[-1] == "  and 8 more"


@pytest.mark.parametrize("size", [16, 128])
def test_damaged_files_can_be_left_out_and_are_counted_by_class(tmp_path, size):
    for n, part in enumerate(("train", "val", "test")):
        write_classes(tmp_path / part, first=60 * n)
    good = load(tmp_path, image_size=size)
    bad = damage(tmp_path, ["train/b/1.png", "train/a/2.png", "train/b/3.png", "val/b/2.png", "test/b/0.png"])
    with pytest.warns(UserWarning, match=r"5 images that cannot be decoded are left out \(4 of b, 1 of a\)"):
        found = load(tmp_path, image_size=size, bad_images="skip")
    assert isinstance(found.train, LazyImages) == (size == 128)
    assert (found.training_images, found.validation_images, len(found.test)) == (7, 9, 9)
    assert found.findings.skipped == {"a": 1, "b": 4}
    assert bad[1] in notes(found)[-1]
    kept = torch.tensor([i for i in range(20) if i not in (2, 6, 8, 17)])
    assert torch.equal(found.train.labels_N, good.train.labels_N[kept])
    pixels = [
        part.decode(torch.arange(len(part))) if size == 128 else part.images_NCHW
        for part in (found.train, good.train.take(kept))
    ]
    assert torch.equal(*pixels)
    assert summary(found).per_class["training"] == (4, 3)


def test_a_part_of_which_nothing_can_be_decoded_is_refused_also_if_bad_images_are_left_out(tmp_path):
    for part in ("train", "test"):
        write_classes(tmp_path / part, images=2)
    damage(tmp_path, [f"test/{name}/{i}.png" for name in "ab" for i in range(2)])
    with pytest.raises(UserError, match="no image of the test part can be decoded"):
        load(tmp_path, bad_images="skip")


def test_a_validation_folder_elsewhere_takes_the_place_of_val(tmp_path):
    for n, part in enumerate(("data/train", "data/val", "data/test", "other")):
        write_classes(tmp_path / part, images=n + 2, first=50 * n)
    folder, other = tmp_path / "data", tmp_path / "other"
    with pytest.warns(UserWarning, match="val is not read: .*other is the validation part"):
        found = load(folder, validation_dir=other)
    assert (found.training_images, found.validation_images, len(found.test)) == (4, 10, 8)
    # Named by itself, val is validation even where no other part could be the test part.
    (folder / "test").rename(tmp_path / "gone")
    found = load(folder, validation_dir=folder / "val")
    assert (found.training_images, found.validation_images, len(found.test)) == (3, 6, 1)
    said = refusal(lambda: load(folder, validation_dir=folder / "train"))
    assert said == (
        f"validation_dir {folder / 'train'} is the training part: give a folder of other images, or leave it out."
    )
    write(other / "c" / "0.png")
    assert refusal(lambda: load(folder / "train", validation_dir=other)) == (
        f"{other} has the classes c, but {folder / 'train'} does not: add training images of them, or remove their "
        "validation folders."
    )
    assert refusal(lambda: load(folder, validation_dir=tmp_path / "nowhere")) == (
        f"validation_dir {tmp_path / 'nowhere'}: there is no such folder; correct the path or create it."
    )


@pytest.mark.parametrize(("size", "compared"), [(16, "pixels at 16 × 16"), (128, "bytes")])
def test_the_summary_counts_classes_duplicates_missing_classes_and_sizes(tmp_path, size, compared):
    for n, (name, images) in enumerate((("ant", 6), ("bee", 2), ("cow", 3))):
        for i in range(images):
            write(tmp_path / "train" / name / f"{i}.png", 40 * n + i, (30 + 10 * n, 20))
    for name in ("ant", "bee"):
        write(tmp_path / "val" / name / "0.png", 200)
        write(tmp_path / "test" / name / "1.png", 210, (9, 70))
    write(tmp_path / "test" / "ant" / "0.png", 3, (30, 20))  # also a training image
    write(tmp_path / "test" / "bee" / "0.png", 200)  # also a validation image, twice
    made = summary(load(tmp_path, image_size=size))
    assert made.per_class == {"training": (6, 2, 3), "validation": (1, 1, 0), "test": (2, 2, 0)}
    assert made.duplicates.compared == compared
    assert made.duplicates.counts == {"validation in training": 0, "test in training": 1, "test in validation": 1}
    assert (made.sizes, made.channels) == (((9, 20), (30, 20), (50, 70)), 3)
    assert list(made.lines) == [
        "images per class, training/validation/test: ant 6/1/2, cow 3/0/0, bee 2/1/2",
        "imbalance: ant has 3.0 times as many training images as bee",
        "no validation images of cow",
        "no test images of cow",
        "the same image in two parts: 1 test images are also training images; 1 test images are also validation images "
        f"(same {compared})",
        "width × height in pixels: smallest 9 × 20, median 30 × 20, largest 50 × 70 (each side by itself); used at "
        f"{size} × {size}, RGB",
        f"{tmp_path / 'val'} is the validation part",
    ]


def test_the_summary_of_many_classes_stays_short(tmp_path):
    for n in range(40):
        for i in range(5 + n % 7):
            write(tmp_path / f"c{n:02}" / f"{i}.png", 6 * n + i)
    lines = summary(load(tmp_path)).lines
    assert len(lines) <= 10
    assert "34 more" in lines[0]
    assert max(map(len, lines)) < 300


def test_images_that_would_take_too_long_to_compare_are_not_and_a_line_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("codistill.data.summary.MOST_BYTES", 100)
    for part in ("train", "test"):
        write_classes(tmp_path / part)
    for size in (16, 128):
        made = summary(load(tmp_path, image_size=size))
        assert made.duplicates.counts == {}
        assert any(line.startswith("not checked whether an image is in two parts: ") for line in made.lines)


def test_data_sets_of_known_content_have_no_summary():
    digits = data.load("digits")
    assert data.summarise_data(digits, torch.arange(9), torch.arange(9)) is None
