"""`codistill.prepare` gives the pixels that evaluation gives a network, whatever kind of file a picture is."""

import io
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

import codistill.prepare
from codistill import data
from codistill.data import ImageSet, LazyImages
from codistill.data.decode import decode_images
from codistill.data.lazy import shorter_side_of
from codistill.data.pictures import FilePictures, PictureReader
from codistill.data.pixels import resize
from codistill.prepare import prepare

SIZES = ((8, 8), (32, 48), (224, 224))
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LIMIT = 1.01
"""In grey levels: one, and what the arithmetic of floats adds."""


def noise(height, width, channels=3):
    """Pixels of every value, smooth in places and rough in others."""
    rng = np.random.default_rng(height * width)
    waves = 127 + 120 * np.sin(np.arange(height)[:, None, None] / 5 + np.arange(width)[None, :, None] / 7)
    return np.clip(waves + rng.integers(-60, 60, (height, width, channels)), 0, 255).astype(np.uint8)


def rgb(height=75, width=90):
    return Image.fromarray(noise(height, width))


def grey(height=75, width=90):
    return Image.fromarray(noise(height, width, 1)[..., 0])


def sixteen_bits():
    return Image.fromarray((noise(75, 90, 1)[..., 0].astype(np.uint16) * 257 + 100).clip(0, 65535).astype(np.uint16))


def with_alpha(image):
    image.putalpha(Image.fromarray(noise(image.height, image.width, 1)[..., 0]))
    return image


def transparent_palette():
    image = rgb().quantize(50)
    image.info["transparency"] = bytes(range(50))
    return image


def turned(orientation, damaged=False):
    """A JPEG whose EXIF data turn it; a damaged one also has a resolution that is written as text."""
    file = io.BytesIO()
    rgb().save(file, "JPEG", quality=95)
    entries = [(0x0112, 3, 1, struct.pack("<HH", orientation, 0))]
    entries += [(0x011A, 2, 4, b"72\0\0")] if damaged else []
    body = struct.pack("<H", len(entries))
    body += b"".join(struct.pack("<HHI", tag, kind, count) + value for tag, kind, count, value in entries)
    segment = b"Exif\0\0II*\0" + struct.pack("<I", 8) + body + struct.pack("<I", 0)
    jpeg = file.getvalue()
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]


def broken_exif():
    """EXIF data that end in the middle."""
    photo = turned(6)
    at = photo.index(b"Exif\0\0")
    return photo[: at + 16] + b"\xff" * 12 + photo[at + 28 :]


KINDS = {
    **{f"EXIF orientation {number}": (lambda number=number: turned(number), "jpg") for number in range(1, 9)},
    "EXIF with a resolution as text": (lambda: turned(6, damaged=True), "jpg"),
    "EXIF cut off": (broken_exif, "jpg"),
    "JPEG in CMYK": (lambda: rgb().convert("CMYK"), "jpg"),
    "grey JPEG": (grey, "jpg"),
    "large JPEG": (lambda: rgb(1300, 1700), "jpg"),
    "16-bit PNG": (sixteen_bits, "png"),
    "16-bit TIFF": (sixteen_bits, "tif"),
    "floats in TIFF": (lambda: Image.fromarray(noise(75, 90, 1)[..., 0].astype(np.float32) / 255), "tif"),
    "palette": (lambda: rgb().quantize(50), "png"),
    "palette with transparency": (transparent_palette, "png"),
    "RGBA": (lambda: with_alpha(rgb()), "png"),
    "grey with alpha": (lambda: with_alpha(grey()), "png"),
    "one bit": (lambda: grey().convert("1"), "png"),
    "180 x 60": (lambda: rgb(60, 180), "png"),
    "60 x 181": (lambda: rgb(181, 60), "png"),
    "1 x 1": (lambda: rgb(1, 1), "png"),
    "3 x 2": (lambda: rgb(2, 3), "png"),
    "as large as is wanted": (lambda: rgb(32, 48), "png"),
    "GIF": (lambda: rgb().quantize(50), "gif"),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kinds")
    found = {}
    for place, (kind, (make, suffix)) in enumerate(KINDS.items()):
        found[kind] = folder / f"{place}.{suffix}"
        made = make()
        if isinstance(made, bytes):
            found[kind].write_bytes(made)
        else:
            made.save(found[kind])
    return found


def as_evaluated(path, rule, channels, height, width):
    """What evaluation reads of the file, uint8 [1, C, height, width]; None where its images are always square."""
    pictures = FilePictures([path])
    if rule == "cover":
        pixels, _ = decode_images(pictures, [0], channels, (height, width))
        return pixels
    read, label_1 = PictureReader(pictures, channels), torch.zeros(1, dtype=torch.int64)
    if rule == "shorter_side":
        return LazyImages(read, torch.arange(1), label_1, channels, height).decode(label_1) if height == width else None
    whole = read(0)[None]
    if height == width:
        return resize(ImageSet(whole, label_1), height).images_NCHW
    return functional.interpolate(whole, (height, width), mode="bilinear", antialias=True)


def difference(path, rule, channels, height, width):
    """The largest difference of a pixel in grey levels."""
    pixels_1CHW = as_evaluated(path, rule, channels, height, width)
    if pixels_1CHW is None:
        return 0.0
    how = {
        "channels": channels, "resize": rule, "height": height, "width": width, "shorter_side": shorter_side_of(height),
        "interpolation": "bilinear", "antialias": True, "mean": MEAN[:channels], "std": STD[:channels],
    }  # fmt: skip
    made_CHW = prepare(path, how)
    assert made_CHW.shape == (channels, height, width)
    assert made_CHW.dtype == np.float32
    expected_CHW = data.normalise(pixels_1CHW, MEAN[:channels], STD[:channels], "cpu")[0].numpy()
    return float((np.abs(made_CHW - expected_CHW) * 255 * np.array(STD[:channels])[:, None, None]).max())


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_is_prepared_as_in_evaluation_to_one_grey_level(files, kind, record_property):
    found = {
        (rule, channels, *size): difference(files[kind], rule, channels, *size)
        for rule in ("cover", "shorter_side", "squash")
        for channels in (1, 3)
        for size in SIZES
    }
    record_property("largest difference in grey levels", max(found.values()))
    assert {case: value for case, value in found.items() if value > LIMIT} == {}
    # The pictures that are kept in memory come from the same code.
    assert {case: value for case, value in found.items() if case[0] == "cover" and value > 0} == {}


def how_of(**changes):
    return {"channels": 3, "resize": "squash", "height": 8, "width": 8, "mean": MEAN, "std": STD, **changes}


def test_a_picture_that_is_not_resized_must_have_the_size(files):
    how = how_of(resize="none", height=32, width=48)
    expected = noise(32, 48).transpose(2, 0, 1) / 255
    found = prepare(files["as large as is wanted"], how)
    assert found == pytest.approx((expected - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1)), abs=1e-5)
    with pytest.raises(ValueError, match="180 × 60 pixels, not 48 × 32"):
        prepare(files["180 x 60"], how)


def test_a_path_a_file_and_an_open_picture_give_the_same(files):
    path = files["EXIF orientation 6"]
    expected = prepare(path, how_of())
    with path.open("rb") as file, Image.open(path) as opened:
        assert (prepare(file, how_of()) == expected).all()
        assert (prepare(opened, how_of()) == expected).all()
    assert (prepare(str(path), how_of()) == expected).all()


def test_sixteen_bits_are_divided_by_257(tmp_path):
    Image.fromarray(np.array([[0, 256, 257, 25_699, 65_278, 65_535]], np.uint16)).save(tmp_path / "x.png")
    how = how_of(channels=1, resize="none", height=1, width=6, mean=(0.0,), std=(1.0,))
    assert (prepare(tmp_path / "x.png", how) * 255).round().tolist() == [[[0, 0, 1, 99, 254, 255]]]


def test_numbers_that_nothing_scales_are_refused(tmp_path):
    Image.fromarray(np.full((4, 4), 70_000, np.int32)).save(tmp_path / "x.tif")
    with pytest.raises(ValueError, match="integers of 32 bits from 70000"):
        prepare(tmp_path / "x.tif", how_of())


def test_a_copy_of_the_file_prepares_pictures_without_codistill_and_torch(files, tmp_path):
    (tmp_path / "prepare.py").write_text(Path(codistill.prepare.__file__).read_text("utf-8"), "utf-8")
    program = (
        "import sys\n"
        "class Hidden:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.partition('.')[0] in ('codistill', 'torch'): raise ImportError(name)\n"
        "sys.meta_path.insert(0, Hidden())\n"
        "from prepare import prepare\n"
        f"print(prepare({str(files['large JPEG'])!r}, {how_of()!r}).shape)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert ended.stdout == "(3, 8, 8)\n"
