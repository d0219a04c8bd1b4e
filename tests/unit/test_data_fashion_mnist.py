"""Fashion-MNIST from IDX files: where they are looked for, and every way in which they can be wrong."""

import gzip
import hashlib
import struct
import tracemalloc
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torchvision.datasets import FashionMNIST

from codistill import data
from codistill.data import AugmentPolicy, fashion_mnist
from codistill.data.idx import read_idx
from codistill.errors import UserError
from file_server import serve

TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
ALL = f"{TRAIN_IMAGES}, {TRAIN_LABELS}, {TEST_IMAGES}, {TEST_LABELS}"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def idx(*shape, values=None):
    """An IDX file's bytes; by default its elements count up."""
    n = 1
    for size in shape:
        n *= size
    content = bytes(values) if values is not None else bytes(i % 10 for i in range(n))
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape) + content


def write_four(folder, *, packed=False, **replaced):
    """The four files with 12 training and 5 test images of 8 × 8; `replaced` by the start of their names."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {TRAIN_IMAGES: idx(12, 8, 8), TRAIN_LABELS: idx(12), TEST_IMAGES: idx(5, 8, 8), TEST_LABELS: idx(5)}
    for name, content in files.items():
        content = replaced.get("_".join(name.split("-")[:2]), content)
        if content is not None:
            (folder / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(content) if packed else content)
    return folder


@pytest.fixture(autouse=True)
def no_files_elsewhere(tmp_path, monkeypatch):
    """Neither Debian's files, nor the user's cache, nor the network: all of them empty."""

    def no_network(*_args, **_options):
        raise URLError("no network in tests")

    monkeypatch.setattr(fashion_mnist, "SYSTEM_DIR", tmp_path / "system")
    monkeypatch.setenv("CODISTILL_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr(FashionMNIST, "download", no_network)


def message(*args, **options):
    with pytest.raises(UserError) as caught:
        data.load("fashion_mnist", *args, **options)
    return str(caught.value)


@pytest.mark.parametrize("packed", [False, True])
def test_images_and_labels_are_read_plain_and_packed(tmp_path, packed):
    found = data.load("fashion_mnist", write_four(tmp_path / "mine", packed=packed))
    assert found.train.images_NCHW.shape == (12, 1, 8, 8)
    assert found.train.images_NCHW.flatten().tolist() == [i % 10 for i in range(12 * 64)]
    assert found.train.labels_N.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert (len(found.test), found.test.labels_N.dtype) == (5, torch.int64)
    assert (found.classes[0], found.classes[9], len(found.classes)) == ("T-shirt/top", "Ankle boot", 10)
    assert (found.augment, found.epochs) == (AugmentPolicy(2, True), 20)
    assert found.found_at == str(tmp_path / "mine")


def test_torchvisions_folders_inside_the_given_one_are_found(tmp_path):
    raw = write_four(tmp_path / "mine" / "FashionMNIST" / "raw")
    assert data.load("fashion_mnist", tmp_path / "mine").found_at == str(raw)


@pytest.mark.parametrize("packed", [False, True])
def test_the_system_folder_comes_before_the_cache_and_the_cache_before_a_download(tmp_path, packed):
    raw = write_four(tmp_path / "cache" / "FashionMNIST" / "raw")
    assert data.load("fashion_mnist").found_at == str(raw)
    cache = write_four(tmp_path / "cache")
    assert data.load("fashion_mnist").found_at == str(cache)
    system = write_four(tmp_path / "system", packed=packed)
    assert data.load("fashion_mnist").found_at == str(system)


def test_describe_says_where_the_files_are_without_reading_them(tmp_path):
    def found_at():
        return next(r["found_at"] for r in data.describe() if r["name"] == "fashion_mnist")

    assert found_at() is None
    write_four(tmp_path / "system", train_images=b"no idx file")
    assert found_at() == str(tmp_path / "system")


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="the package dataset-fashion-mnist is not installed")
def test_debians_files_hold_the_published_70000_images(monkeypatch):
    monkeypatch.setattr(fashion_mnist, "SYSTEM_DIR", DEBIAN)
    found = data.load("fashion_mnist")
    assert found.train.images_NCHW.shape == (60000, 1, 28, 28)
    assert found.test.images_NCHW.shape == (10000, 1, 28, 28)
    assert found.train.labels_N.bincount().tolist() == [6000] * 10
    assert found.test.labels_N.bincount().tolist() == [1000] * 10
    assert found.mean == pytest.approx((0.2860,), abs=5e-5)
    assert found.std == pytest.approx((0.3530,), abs=5e-5)


def test_a_given_folder_is_the_only_one_looked_at_and_names_what_it_lacks(tmp_path):
    write_four(tmp_path / "system")
    mine = write_four(tmp_path / "mine", t10k_images=None)
    assert message(mine) == (
        f"{mine} lacks {TEST_IMAGES} of Fashion-MNIST: put the files there, plain or with .gz, or leave out --data-dir."
    )


def test_without_files_and_download_the_places_for_them_are_named(tmp_path):
    assert message(download=False) == (
        f"Fashion-MNIST is not on this machine: put {ALL} (plain or .gz) into {tmp_path / 'cache'}, give their folder "
        "with --data-dir, install Debian's dataset-fashion-mnist or leave out --no-download."
    )


def test_a_failed_download_says_why_and_what_to_do_and_leaves_nothing(tmp_path):
    assert message() == (
        f"Fashion-MNIST could not be downloaded (<urlopen error no network in tests>): put {ALL} (plain or .gz) into "
        f"{tmp_path / 'cache'}, give their folder with --data-dir, install Debian's dataset-fashion-mnist or try again."
    )
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """torchvision's own download, from a server on this machine; yields the paths that were requested."""
    monkeypatch.undo()
    monkeypatch.setattr(fashion_mnist, "SYSTEM_DIR", tmp_path / "system")
    monkeypatch.setenv("CODISTILL_DATA", str(tmp_path / "cache"))
    folder = write_four(tmp_path / "mirror", packed=True)
    sums = [(file.name, hashlib.md5(file.read_bytes()).hexdigest()) for file in sorted(folder.iterdir())]
    monkeypatch.setattr(FashionMNIST, "resources", sums)
    with serve(folder, monkeypatch) as (url, asked):
        monkeypatch.setattr(FashionMNIST, "mirrors", [f"{url}/"])
        yield asked


def test_torchvision_downloads_into_the_cache_and_completes_what_is_there(tmp_path, mirror):
    raw = tmp_path / "cache" / "FashionMNIST" / "raw"
    files = {f"/{name}.gz" for name in (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)}
    for paths in (files, set()):
        found = data.load("fashion_mnist")
        assert (found.found_at, len(found.train), len(found.test)) == (str(raw), 12, 5)
        assert set(mirror) == paths
        mirror.clear()
    for suffix in ("", ".gz"):
        (raw / f"{TEST_LABELS}{suffix}").unlink()
    assert len(data.load("fashion_mnist").test) == 5
    assert set(mirror) == files
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["FashionMNIST"]


def test_a_download_with_another_checksum_is_refused_and_leaves_nothing(tmp_path, mirror, monkeypatch):
    changed = [(name, "0" * 32) for name, _ in FashionMNIST.resources]
    monkeypatch.setattr(FashionMNIST, "resources", changed)
    assert "File not found or corrupted" in message()
    assert list((tmp_path / "cache").iterdir()) == []


def test_another_magic_number_is_refused(tmp_path):
    mine = write_four(tmp_path / "mine", train_images=idx(12))
    assert message(mine) == (
        f"{mine / TRAIN_IMAGES} starts with the bytes 00000801, but an IDX file with 3 axes starts with 00000803: this "
        "is a different file; replace it with the right one."
    )


@pytest.mark.parametrize("bytes_left", [783, 16, 10, 0])
def test_a_truncated_file_is_refused_with_both_sizes(tmp_path, bytes_left):
    mine = write_four(tmp_path / "mine", train_images=idx(12, 8, 8)[:bytes_left])
    expected = 16 if bytes_left < 16 else 16 + 12 * 64
    assert message(mine) == (
        f"{mine / TRAIN_IMAGES} is truncated: {expected} bytes expected by its header and {bytes_left} found; get the "
        "file again."
    )


def test_a_truncated_gzip_file_is_refused_with_both_sizes(tmp_path):
    mine = write_four(tmp_path / "mine", packed=True)
    path = mine / f"{TRAIN_LABELS}.gz"
    path.write_bytes(gzip.compress(idx(12), compresslevel=0)[:-14])
    assert message(mine) == (
        f"{path} is truncated: 20 bytes expected by its header and 14 found (unpacked); get the file again."
    )


def test_a_gzip_file_that_lacks_only_its_checksum_is_refused(tmp_path):
    mine = write_four(tmp_path / "mine", packed=True)
    path = mine / f"{TRAIN_LABELS}.gz"
    path.write_bytes(path.read_bytes()[:-4])
    assert "is truncated" in message(mine)


def test_a_file_with_bytes_too_many_is_refused(tmp_path):
    mine = write_four(tmp_path / "mine", t10k_labels=idx(5) + b"\0\0")
    assert message(mine) == (
        f"{mine / TEST_LABELS} is damaged: 13 bytes expected by its header and 15 found; get the file again."
    )


def test_a_gzip_file_is_unpacked_no_further_than_its_header_promises(tmp_path):
    path = tmp_path / "labels.gz"
    path.write_bytes(gzip.compress(idx(12) + bytes(2**26)))
    tracemalloc.start()
    try:
        with pytest.raises(UserError) as caught:
            read_idx(path, 1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert str(caught.value) == (
        f"{path} is damaged: 20 bytes expected by its header and more found (unpacked); get the file again."
    )
    assert peak < 2**22


@pytest.mark.parametrize("packed", [False, True])
def test_a_header_that_promises_more_than_the_limit_is_refused(tmp_path, packed):
    path = tmp_path / ("images.gz" if packed else "images")
    content = struct.pack(">4B3I", 0, 0, 8, 3, 2**16, 2**16, 2**16)
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(UserError) as caught:
        read_idx(path, 3)
    assert str(caught.value) == (
        f"{path} promises {2**48:,} bytes in its header, and at most {2**30:,} are read: replace it with the right "
        "file."
    )


@pytest.mark.parametrize("size", [3, 2**20, 2**22 + 1])
def test_a_gzip_file_of_any_size_is_unpacked_whole(tmp_path, size):
    values = bytes(range(256)) * (size // 256 + 1)
    (tmp_path / "labels.gz").write_bytes(gzip.compress(idx(size, values=values[:size]), compresslevel=1))
    assert bytes(read_idx(tmp_path / "labels.gz", 1).numpy()) == values[:size]


def test_a_bad_gzip_file_is_refused(tmp_path):
    mine = write_four(tmp_path / "mine", packed=True)
    path = mine / f"{TRAIN_IMAGES}.gz"
    path.write_bytes(b"<html>not found</html>")
    assert message(mine) == (
        f"{path} is not a sound gzip file (Error -3 while decompressing data: incorrect header check): get the file "
        "again."
    )


def test_a_gzip_file_with_a_changed_byte_is_refused(tmp_path):
    mine = write_four(tmp_path / "mine", packed=True)
    path = mine / f"{TRAIN_LABELS}.gz"
    content = bytearray(gzip.compress(idx(12), compresslevel=0))
    content[-9] ^= 1
    path.write_bytes(content)
    assert "incorrect data check" in message(mine)


def test_a_file_that_cannot_be_read_is_refused(tmp_path, monkeypatch):
    def refuse(_path, _mode):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError) as caught:
        read_idx(tmp_path / "labels", 1)
    assert str(caught.value) == (
        f"{tmp_path / 'labels'} cannot be read (Permission denied): make it readable or give another folder."
    )


@pytest.mark.parametrize(("images", "labels"), [(12, 11), (0, 0)])
def test_numbers_of_images_and_labels_that_differ_or_are_zero_are_refused(tmp_path, images, labels):
    mine = write_four(tmp_path / "mine", train_images=idx(images, 8, 8), train_labels=idx(labels))
    assert message(mine) == (
        f"{mine / TRAIN_IMAGES} holds {images} images and {mine / TRAIN_LABELS} {labels} labels: there must be "
        "one label per image and at least one image; get both files again."
    )


def test_labels_out_of_range_are_refused(tmp_path):
    mine = write_four(tmp_path / "mine", t10k_labels=idx(5, values=[0, 9, 10, 3, 200]))
    assert message(mine) == (
        f"{mine / TEST_LABELS} holds the label 200: labels of Fashion-MNIST are 0 to 9; get the file again."
    )
