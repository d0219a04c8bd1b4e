"""CIFAR from archives and folders of the published format, small ones, with torchvision's checksums replaced."""

import hashlib
import pickle
import tarfile
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10, CIFAR100

from codistill import data
from codistill.data import AugmentPolicy
from codistill.errors import UserError
from file_server import serve

PARTS = {
    "cifar10": (CIFAR10, [f"data_batch_{i}" for i in range(1, 6)], ["test_batch"], "labels", 10),
    "cifar100": (CIFAR100, ["train"], ["test"], "fine_labels", 100),
}


def write_folder(root, name, monkeypatch):
    """Four images a file; the pixels of a file's image i are 3 i, 3 i + 1 and 3 i + 2 by channel."""
    reader, train, test, key, classes = PARTS[name]
    folder = root / reader.base_folder
    folder.mkdir(parents=True)

    def write(file, content):
        (folder / file).write_bytes(pickle.dumps(content, protocol=2))
        return [file, hashlib.md5((folder / file).read_bytes()).hexdigest()]

    lists = {}
    for title, files in (("train_list", train), ("test_list", test)):
        lists[title] = []
        for number, file in enumerate(files):
            pixels = np.repeat(np.arange(12, dtype=np.uint8).reshape(4, 3), 1024, axis=1)
            lists[title].append(write(file, {"data": pixels, key: [number, 1, 2, classes - 1]}))
    key = str(reader.meta["key"])
    file, md5 = write(str(reader.meta["filename"]), {key: [f"class {i}" for i in range(classes)]})
    monkeypatch.setattr(reader, "meta", {"filename": file, "key": key, "md5": md5})
    for title, entries in lists.items():
        monkeypatch.setattr(reader, title, entries)
    return folder


def write_archive(root, name, monkeypatch, build):
    """The archive of a folder that is written under `build`."""
    folder, reader = write_folder(build, name, monkeypatch), PARTS[name][0]
    root.mkdir(parents=True)
    with tarfile.open(root / reader.filename, "w:gz") as archive:
        archive.add(folder, reader.base_folder)
    monkeypatch.setattr(reader, "tgz_md5", hashlib.md5((root / reader.filename).read_bytes()).hexdigest())
    return root / reader.filename


TORCHVISIONS_DOWNLOAD = CIFAR10.download


@pytest.fixture(autouse=True)
def no_files_elsewhere(tmp_path, monkeypatch):
    def no_network(*_args):
        raise URLError("no network in tests")

    monkeypatch.setenv("CODISTILL_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr(CIFAR10, "download", no_network)


@pytest.fixture(params=list(PARTS))
def name(request):
    return request.param


def message(*args, **options):
    with pytest.raises(UserError) as caught:
        data.load(*args, **options)
    return str(caught.value)


def test_images_labels_and_class_names_come_from_the_folder(tmp_path, name, monkeypatch):
    folder = write_folder(tmp_path / "mine", name, monkeypatch)
    found, files = data.load(name, tmp_path / "mine"), len(PARTS[name][1])
    assert found.train.images_NCHW.shape == (4 * files, 3, 32, 32)
    assert found.train.images_NCHW[2].flatten(1).unique(dim=1).flatten().tolist() == [6, 7, 8]
    assert found.train.images_NCHW.is_contiguous()
    last = PARTS[name][4] - 1
    assert found.train.labels_N.tolist() == [label for i in range(files) for label in (i, 1, 2, last)]
    assert found.test.labels_N.tolist() == [0, 1, 2, last]
    assert found.test.labels_N.dtype == torch.int64
    assert found.classes == tuple(f"class {i}" for i in range(last + 1))
    assert (found.augment, found.epochs, found.found_at) == (AugmentPolicy(4, True), 300, str(folder))


def test_normalisation_uses_the_published_constants(tmp_path, monkeypatch):
    for name in PARTS:
        write_folder(tmp_path, name, monkeypatch)
    ten, hundred = data.load("cifar10", tmp_path), data.load("cifar100", tmp_path)
    assert (ten.mean, ten.std) == ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
    assert (hundred.mean, hundred.std) == ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))


def test_the_standard_archive_is_unpacked_once(tmp_path, name, monkeypatch):
    archive = write_archive(tmp_path / "mine", name, monkeypatch, tmp_path / "build")
    folder = tmp_path / "mine" / PARTS[name][0].base_folder
    assert len(data.load(name, tmp_path / "mine").test) == 4
    assert sorted(path.name for path in archive.parent.iterdir()) == sorted([archive.name, folder.name])
    archive.unlink()
    assert data.load(name, tmp_path / "mine").found_at == str(folder)


def test_the_extracted_folder_itself_may_be_given(tmp_path, name, monkeypatch):
    folder = write_folder(tmp_path / "mine", name, monkeypatch)
    assert data.load(name, folder).found_at == str(folder)


def test_the_cache_is_searched_where_no_folder_is_given(tmp_path, name, monkeypatch):
    folder = write_folder(tmp_path / "cache", name, monkeypatch)
    assert data.load(name, download=False).found_at == str(folder)


def test_describe_names_the_folder_or_archive_in_the_cache(tmp_path, name, monkeypatch):
    def found_at():
        return next(record["found_at"] for record in data.describe() if record["name"] == name)

    assert found_at() is None
    archive = write_archive(tmp_path / "cache", name, monkeypatch, tmp_path / "build")
    assert found_at() == str(archive)
    folder = archive.parent / PARTS[name][0].base_folder
    folder.mkdir()
    assert found_at() == str(folder)


def test_torchvision_downloads_missing_data_whole_into_the_cache(tmp_path, name, monkeypatch):
    archive, reader = write_archive(tmp_path / "mirror", name, monkeypatch, tmp_path / "build"), PARTS[name][0]
    monkeypatch.setattr(CIFAR10, "download", TORCHVISIONS_DOWNLOAD)
    with serve(archive.parent, monkeypatch) as (url, asked):
        monkeypatch.setattr(reader, "url", f"{url}/{archive.name}")
        for paths in ({f"/{archive.name}"}, set()):
            assert data.load(name).found_at == str(tmp_path / "cache" / reader.base_folder)
            assert set(asked) == paths
            asked.clear()
        assert [path.name for path in (tmp_path / "cache").iterdir()] == [reader.base_folder]


def test_a_download_with_another_checksum_is_refused_and_leaves_nothing(tmp_path, name, monkeypatch):
    archive, reader = write_archive(tmp_path / "mirror", name, monkeypatch, tmp_path / "build"), PARTS[name][0]
    monkeypatch.setattr(CIFAR10, "download", TORCHVISIONS_DOWNLOAD)
    monkeypatch.setattr(reader, "tgz_md5", "0" * 32)
    with serve(archive.parent, monkeypatch) as (url, _):
        monkeypatch.setattr(reader, "url", f"{url}/{archive.name}")
        assert message(name).startswith(f"{reader.__name__} could not be downloaded (File not found or corrupted")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_failed_download_says_why_and_what_to_do_and_leaves_nothing(tmp_path, name):
    reader = PARTS[name][0]
    assert message(name) == (
        f"{reader.__name__} could not be downloaded (<urlopen error no network in tests>): put {reader.filename} into "
        f"{tmp_path / 'cache'} or give its folder with --data-dir."
    )
    assert list((tmp_path / "cache").iterdir()) == []


def test_without_data_and_download_the_place_for_it_is_named(tmp_path, name):
    reader = PARTS[name][0]
    assert message(name, download=False) == (
        f"{reader.__name__} is not on this machine: put {reader.filename} into {tmp_path / 'cache'} or give its folder "
        "with --data-dir, or leave out --no-download."
    )


def test_a_given_folder_without_the_data_is_refused_and_nothing_is_downloaded(tmp_path, name):
    (tmp_path / "notes.txt").write_text("no data here")
    reader = PARTS[name][0]
    assert message(name, tmp_path) == (
        f"{tmp_path} holds neither {reader.filename} nor {reader.base_folder}: put one of them there, or leave out "
        "--data-dir."
    )


def test_a_truncated_archive_is_refused_by_name_and_not_unpacked(tmp_path, name, monkeypatch):
    archive = write_archive(tmp_path / "mine", name, monkeypatch, tmp_path / "build")
    archive.write_bytes(archive.read_bytes()[:-20])
    assert message(name, tmp_path / "mine") == (
        f"{archive} is truncated or damaged: its {archive.stat().st_size} bytes do not have the published MD5 sum "
        f"{PARTS[name][0].tgz_md5}; get the archive again."
    )
    assert list(archive.parent.iterdir()) == [archive]


@pytest.mark.parametrize("position", ["first", "last", "meta"])
def test_a_truncated_file_of_the_folder_is_refused_by_name(tmp_path, name, monkeypatch, position):
    reader, train, test = PARTS[name][:3]
    folder = write_folder(tmp_path / "mine", name, monkeypatch)
    file = {"first": train[0], "last": test[0], "meta": str(reader.meta["filename"])}[position]
    md5 = dict([*reader.train_list, *reader.test_list, [reader.meta["filename"], reader.meta["md5"]]])[file]
    path = folder / file
    path.write_bytes(path.read_bytes()[:-1])
    assert message(name, tmp_path / "mine") == (
        f"{path} is truncated or damaged: its {path.stat().st_size} bytes do not have the published MD5 sum {md5}; "
        f"delete the folder and unpack {reader.filename} again."
    )


def test_a_missing_file_of_the_folder_is_refused_by_name(tmp_path, name, monkeypatch):
    path = write_folder(tmp_path / "mine", name, monkeypatch) / PARTS[name][2][0]
    path.unlink()
    assert message(name, tmp_path / "mine") == (
        f"{path} is missing: delete the folder and unpack {PARTS[name][0].filename} again."
    )


def test_a_sound_archive_that_cannot_be_unpacked_is_refused(tmp_path, name, monkeypatch):
    archive = write_archive(tmp_path / "mine", name, monkeypatch, tmp_path / "build")

    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "extractall", full)
    assert message(name, tmp_path / "mine") == (
        f"{archive} could not be unpacked ([Errno 28] No space left on device): make its folder writable or unpack it "
        "yourself."
    )


def test_the_cache_is_in_the_home_folder_unless_named(monkeypatch, tmp_path):
    monkeypatch.delenv("CODISTILL_DATA")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert f"into {tmp_path / '.cache' / 'codistill'} or" in message("cifar10", download=False)
