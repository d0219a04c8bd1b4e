"""Pictures from elsewhere: what is opened, what is refused before it is decoded, and which links are followed."""

import io
import os
import socket
import struct
import zlib

import pytest
from PIL import Image, ImageFile, features

import codistill
from codistill import data
from codistill.data import opening
from codistill.data.listing import Tree
from codistill.data.opening import open_picture
from codistill.data.pictures import FilePictures, PictureReader
from codistill.data.suffixes import formats
from codistill.errors import UserError
from codistill.students import find_pictures
from codistill.students.labelled import labelled_folder


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(path, width, height, *, bits=1, colour=0):
    """A PNG whose header says this, with nothing after it that would be worth decoding."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b""))
    return path


def picture(path, colour=(10, 20, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 20), colour).save(path)
    return path


def classes(folder, names=("a", "b"), images=5):
    for name in names:
        for i in range(images):
            picture(folder / name / f"{i}.png", (40 * i, 0, 0))
    return folder


def refusal(call, *args, **options):
    with pytest.raises(UserError) as caught:
        call(*args, **options)
    return str(caught.value)


def reason(path):
    with pytest.raises((OSError, ValueError)) as caught:
        open_picture(path).close()
    return str(caught.value)


@pytest.mark.parametrize(
    ("width", "height", "bits", "colour", "said"),
    [
        (13_300, 13_300, 1, 0, "it has 13,300 × 13,300 pixels, and at most 100 million are read: scale it down"),
        (10_001, 10_000, 8, 2, "it has 10,001 × 10,000 pixels, and at most 100 million are read: scale it down"),
        (
            *(8_000, 8_000, 16, 0),
            "it has 8,000 × 8,000 pixels of mode I;16, which take 512 MB, and at most 400 MB are read: scale it down",
        ),
        (1, 101, 8, 2, "it has 1 × 101 pixels, and one side may be at most 100 times as long as the other: crop it"),
        (4_040, 40, 8, 2, "it has 4,040 × 40 pixels, and one side may be at most 100 times as long as the other: crop "
         "it"),
    ],
)  # fmt: skip
def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(
    tmp_path, monkeypatch, width, height, bits, colour, said
):
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("it was decoded"))
    assert reason(png(tmp_path / "x.png", width, height, bits=bits, colour=colour)) == said
    assert refusal(PictureReader(FilePictures([tmp_path / "x.png"]), 3), 0) == (
        f"{tmp_path / 'x.png'} cannot be decoded ({said}): replace or remove this image, or leave such images out with "
        "--bad-images skip."
    )


@pytest.mark.parametrize(("width", "height", "bits"), [(10_000, 10_000, 1), (7_000, 7_000, 16), (1, 100, 8)])
def test_pictures_up_to_the_limits_are_opened_without_a_warning_of_pillows(tmp_path, width, height, bits):
    # 100 million pixels are more than those of which Pillow warns.
    with open_picture(png(tmp_path / "x.png", width, height, bits=bits)) as image:
        assert image.size == (width, height)


def test_only_the_named_formats_are_asked_whatever_the_suffix(tmp_path, monkeypatch):
    (tmp_path / "x.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n")
    Image.init()
    asked = []
    for name, (factory, _) in list(Image.OPEN.items()):
        monkeypatch.setitem(Image.OPEN, name, (factory, lambda start, name=name: asked.append(name)))
    assert reason(tmp_path / "x.png") == "cannot identify image file"
    assert asked == list(formats())
    assert "EPS" not in asked


def test_every_format_that_is_read_is_opened(tmp_path):
    names = {"PNG": "png", "JPEG": "jpg", "BMP": "bmp", "GIF": "gif", "PPM": "ppm", "TIFF": "tif", "WEBP": "webp"}
    names |= {"AVIF": "avif"} if features.check("avif") else {}
    assert set(names) <= set(formats())
    for name, suffix in names.items():
        with open_picture(picture(tmp_path / f"x.{suffix}")) as image:
            assert (image.format, image.size, image.convert("RGB").size) == (name, (20, 20), (20, 20))
    first, second = Image.new("RGB", (20, 20)), Image.new("RGB", (20, 20), "white")
    first.save(tmp_path / "x.jpg", format="MPO", save_all=True, append_images=[second])
    with open_picture(tmp_path / "x.jpg") as image:
        assert image.format == "MPO"


def test_file_objects_are_read_from_their_beginning_and_stay_open(tmp_path):
    content = picture(tmp_path / "x.png", (1, 2, 3)).read_bytes()
    stream = io.BytesIO(content)
    stream.read()
    with open_picture(stream) as image:
        assert image.getpixel((0, 0)) == (1, 2, 3)
    assert not stream.closed

    class Pipe:
        def read(self):
            return content

    assert open_picture(Pipe()).size == (20, 20)


def test_pipes_sockets_and_folders_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.png"))
    assert reason(tmp_path / "pipe.png") == "it is a named pipe, not a file"
    assert reason(tmp_path / "socket.png") == "it is a socket, not a file"
    assert reason(tmp_path / "folder.png") == "it is a folder, not a file"
    (tmp_path / "device.png").symlink_to("/dev/zero")
    assert reason(tmp_path / "device.png") == "it is a device, not a file"


def test_a_pipe_among_the_pictures_is_left_out_and_said(tmp_path):
    folder = classes(tmp_path / "d")
    os.mkfifo(folder / "a" / "pipe.png")
    with pytest.warns(UserWarning, match="^1 pipe, socket or device is left out, such as .*/pipe.png$"):
        found = data.load("image_folder", folder, image_size=8)
    assert len(found.train) + len(found.test) == 10
    files, notes = find_pictures([folder])
    assert len(files) == 10
    assert notes == [f"1 pipe, socket or device is left out, such as {folder / 'a' / 'pipe.png'}"]


def linked(tmp_path):
    """A folder with a link to a file and one to a folder, both outside, and one link inside."""
    folder = classes(tmp_path / "d")
    picture(tmp_path / "elsewhere" / "secret.png")
    (folder / "a" / "file.png").symlink_to(tmp_path / "elsewhere" / "secret.png")
    (folder / "b" / "folder").symlink_to(tmp_path / "elsewhere")
    (folder / "b" / "inside.png").symlink_to(folder / "a" / "0.png")
    return folder


def test_links_that_leave_the_folder_are_followed_only_on_request(tmp_path):
    folder = linked(tmp_path)
    said = f"2 links that leave {folder} are left out, such as {folder / 'a' / 'file.png'}: --follow-links "
    with pytest.warns(UserWarning, match="links that leave") as warned:
        found = data.load("image_folder", folder, image_size=8)
    assert [str(one.message) for one in warned] == [f"{said}(follow_links=True) follows them"]
    assert len(found.train) + len(found.test) == 11
    found = data.load("image_folder", folder, image_size=8, follow_links=True)
    assert len(found.train) + len(found.test) == 13


def test_predict_and_evaluate_follow_the_same_rule(tmp_path):
    folder = linked(tmp_path)
    files, notes = find_pictures([folder])
    assert (len(files), len(notes), notes[0][:13]) == (11, 1, "2 links that ")
    assert [len(part) for part in find_pictures([folder], follow_links=True)] == [13, 0]
    found = labelled_folder(folder, ("a", "b"))
    assert (len(found.paths), found.notes[0][:13]) == (11, "2 links that ")
    assert len(labelled_folder(folder, ("a", "b"), follow_links=True).paths) == 13


def test_a_folder_that_the_user_names_may_itself_be_a_link(tmp_path):
    classes(tmp_path / "real")
    (tmp_path / "d").symlink_to(tmp_path / "real")
    found = data.load("image_folder", tmp_path / "d", image_size=8)
    assert len(found.train) + len(found.test) == 10
    assert len(find_pictures([tmp_path / "d"])[0]) == 10


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_a_part_that_is_a_link_out_of_the_folder_is_refused(tmp_path, part):
    folder = tmp_path / "d"
    for name in ("train", "val", "test"):
        classes(tmp_path / "elsewhere" if name == part else folder / name)
    (folder / part).symlink_to(tmp_path / "elsewhere")
    assert refusal(data.load, "image_folder", folder) == (
        f"{folder / part} is a link that leaves {folder}, and such links are not followed: follow it with "
        "--follow-links (follow_links=True), or put the images themselves there."
    )
    assert len(data.load("image_folder", folder, image_size=8, follow_links=True).test) == 10


def test_a_class_that_links_leave_empty_is_refused_with_their_number(tmp_path):
    folder = classes(tmp_path / "d", ("a",))
    classes(tmp_path / "elsewhere", ("b",))
    (folder / "b").symlink_to(tmp_path / "elsewhere" / "b")
    assert f"; 1 link leaves {folder}, such as {folder / 'b'}, and --follow-links " in refusal(
        data.load, "image_folder", folder
    )
    assert data.load("image_folder", folder, image_size=8, follow_links=True).classes == ("a", "b")
    assert "links that leave it" in refusal(find_pictures, [linked_alone(tmp_path)])


def linked_alone(tmp_path):
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "b").symlink_to(tmp_path / "elsewhere" / "b")
    return tmp_path / "alone"


def test_links_in_a_circle_end(tmp_path):
    (tmp_path / "d" / "a").mkdir(parents=True)
    (tmp_path / "d" / "a" / "self.png").symlink_to(tmp_path / "d" / "a" / "self.png")
    (tmp_path / "d" / "a" / "up").symlink_to(tmp_path / "d")
    tree = Tree(tmp_path / "d")
    assert list(tree.files_below(tmp_path / "d")) == [tmp_path / "d" / "a" / "self.png"]
    assert tree.loops == [tmp_path / "d" / "a" / "up"]


def test_follow_links_for_data_without_links_of_the_users_is_refused():
    config = codistill.Config(data="digits", follow_links=True)
    assert "follow_links with the data 'digits'" in refusal(config.check_data)


def test_a_table_names_no_file_outside_its_folder(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    secret = picture(tmp_path / "elsewhere" / "secret.png")
    own = picture(tmp_path / "d" / "own.png")
    cells = [{"bytes": None, "path": str(path)} for path in (own, own, own, secret)] * 2
    parquet.write_table(arrow.table({"image": cells, "label": [0, 1] * 4}), tmp_path / "d" / "train.parquet")
    said = refusal(data.load, f"parquet:{tmp_path / 'd'}", image_size=8)
    assert f"its row names the file {secret}, which is outside {tmp_path / 'd'}: --follow-links" in said
    found = data.load(f"parquet:{tmp_path / 'd'}", image_size=8, follow_links=True)
    assert len(found.train) + len(found.test) == 8


def test_a_small_table_that_promises_too_much_is_refused_by_what_it_unpacks_to(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "train.parquet"
    table = arrow.table({"image": [bytes(2**20) + bytes([i]) for i in range(8)], "label": [0, 1] * 4})
    parquet.write_table(table, path, compression="gzip", use_dictionary=False)
    assert path.stat().st_size < 2**18
    said = refusal(data.load, f"parquet:{path}", image_size=8, memory=2**-8)
    assert "has 0.0 GiB of images and labels, but at most 0.00390625 GiB are kept in memory" in said


def test_limits_are_those_of_the_documentation():
    assert (opening.MOST_PIXELS, opening.MOST_BYTES, opening.MOST_RATIO) == (100_000_000, 400_000_000, 100)
