"""Tables of images: local parquet files, and every refusal; tests/extras reads data sets of the hub's package."""

import io
import json
import sys

import pytest
import torch
from PIL import Image

from codistill import data
from codistill.data import ImageSet, LazyImages
from codistill.errors import UserError

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def encoded(shade, size=(12, 10), form="PNG"):
    stream = io.BytesIO()
    Image.new("RGB", size, (shade, shade // 2, 7)).save(stream, form)
    return stream.getvalue()


def write(path, labels, *, names=None, struct=True, label="label", images=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    blobs = [encoded(10 * i) for i in range(len(labels))] if images is None else images
    cells = [{"bytes": blob, "path": None} for blob in blobs] if struct else blobs
    table = arrow.table({"note": [1.5] * len(labels), "image": cells, label: labels})
    if names is not None:
        features = {label: {"names": names, "_type": "ClassLabel"}}
        note = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": note})
    parquet.write_table(table, path)
    return path


def message(name, **options):
    with pytest.raises(UserError) as caught:
        data.load(name, **options)
    return str(caught.value)


def test_parts_labels_and_class_names_come_from_hugging_faces_layout(tmp_path):
    write(tmp_path / "data" / "train-00000-of-00002.parquet", [0, 1, 1], names=["cat", "dog"])
    write(tmp_path / "data" / "train-00001-of-00002.parquet", [1, 0], names=["cat", "dog"])
    write(tmp_path / "data" / "test-00000-of-00001.parquet", [1], names=["cat", "dog"])
    write(tmp_path / "data" / "validation-00000-of-00001.parquet", [0, 0], names=["cat", "dog"])
    found = data.load(f"parquet:{tmp_path}", image_size=8)
    assert isinstance(found.train, ImageSet)
    assert found.classes == ("cat", "dog")
    assert (found.train.labels_N.tolist(), found.test.labels_N.tolist()) == ([0, 1, 1, 1, 0, 0, 0], [1])
    assert found.train.images_NCHW[:, 0, 4, 4].tolist() == [0, 10, 20, 0, 10, 0, 10]
    assert found.validation_images == 2
    assert found.mean[0] == pytest.approx(8 / 255)
    assert (found.found_at, found.train.shape) == (str(tmp_path), (3, 8, 8))


@pytest.mark.parametrize("struct", [True, False])
def test_one_file_gives_up_a_constant_fifth_and_names_text_labels(tmp_path, struct):
    path = write(tmp_path / "all.parquet", ["b", "a"] * 10, struct=struct, label="class")
    found = data.load(f"parquet:{path}", image_size=8)
    assert found.classes == ("a", "b")
    assert (len(found.train), len(found.test)) == (16, 4)
    assert found.train.labels_N.bincount().tolist() == [8, 8]


def test_large_images_are_decoded_from_their_bytes_in_every_step(tmp_path):
    path = write(tmp_path / "all.parquet", [0, 1] * 5)
    found = data.load(f"parquet:{path}", image_size=128)
    assert isinstance(found.train, LazyImages)
    images = found.train.decode(torch.arange(len(found.train)))
    shades = {10 * i for i in range(10)}
    assert set(images[:, 0, 64, 64].tolist()) < shades


def test_a_damaged_file_is_refused_by_its_path(tmp_path):
    path = write(tmp_path / "all.parquet", [0, 1] * 5)
    path.write_bytes(path.read_bytes()[:-20])
    said = message(f"parquet:{path}")
    assert said.startswith(f"{path} is not a valid parquet file (")
    assert said.endswith("): get it again.")


def test_a_damaged_image_is_refused_by_its_row(tmp_path):
    blobs = [encoded(1), encoded(2), b"no image", encoded(3)]
    path = write(tmp_path / "all.parquet", [0, 1, 0, 1], images=blobs)
    write(tmp_path / "two" / "train.parquet", [0, 1, 0, 1], images=blobs)
    assert message(f"parquet:{tmp_path / 'two'}", image_size=8).startswith(
        f"image 2 of {tmp_path / 'two'} cannot be decoded ("
    )
    assert "cannot be decoded" in message(f"parquet:{path}", image_size=8)


@pytest.mark.parametrize(
    ("columns", "what"),
    [
        ({"label": [0, 1]}, "images"),
        ({"image": [b"x", b"y"]}, "labels"),
        ({"image": [1, 2], "label": [0, 1]}, "images"),
    ],
)
def test_a_table_without_images_or_labels_is_refused_with_its_columns(tmp_path, columns, what):
    path = tmp_path / "all.parquet"
    parquet.write_table(arrow.table(columns), path)
    assert message(f"parquet:{path}") == (
        f"{path} has no column of {what} (its columns: {', '.join(columns)}): images must be bytes and labels "
        "numbers or text; give another table."
    )


def test_rows_without_a_label_and_new_test_classes_are_refused(tmp_path):
    path = write(tmp_path / "all.parquet", [0, None, 1])
    assert message(f"parquet:{path}") == f"the training part of {path} has rows without a label: remove them."
    write(tmp_path / "two" / "train.parquet", ["a", "b"])
    write(tmp_path / "two" / "test.parquet", ["a", "c"])
    assert message(f"parquet:{tmp_path / 'two'}") == (
        f"{tmp_path / 'two'} has the classes c in its test part only: add training images of them, or remove their "
        "rows."
    )


def test_names_of_labels_that_differ_between_files_or_parts_are_refused(tmp_path):
    write(tmp_path / "train-0.parquet", [0, 1], names=["cat", "dog"])
    other = write(tmp_path / "train-1.parquet", [0, 1], names=["dog", "cat"])
    said = "label 0 is 'cat' in the training part and 'dog' in {}: give both the same classes in the same order."
    assert message(f"parquet:{tmp_path}") == said.format(other)
    other.rename(tmp_path / "test.parquet")
    assert message(f"parquet:{tmp_path}") == said.format(f"the test part of {tmp_path}")


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("my-train.parquet", "my-test.parquet"),
        ("Training_1.parquet", "eval.parquet"),
        ("trainset.parquet", "testset.parquet"),
        ("train/0.parquet", "test/0.parquet"),
        ("train/test_like.parquet", None),
        ("train.parquet", "dev-0.parquet"),
    ],
)
def test_words_of_names_say_which_part_a_file_is(tmp_path, train, test):
    write(tmp_path / train, [0, 1, 0, 1])
    if test is None:
        said = f"parquet:{tmp_path} has test_like.parquet and no file whose name says train: rename the training "
        assert message(f"parquet:{tmp_path}") == said + "files to train-*.parquet, or give the path of one file."
        return
    write(tmp_path / test, [1, 0, 1])
    write(tmp_path / "unsupervised.parquet", [0] * 9)
    found = data.load(f"parquet:{tmp_path}", image_size=8)
    assert (found.train.labels_N.tolist(), found.test.labels_N.tolist()) == ([0, 1, 0, 1], [1, 0, 1])


def test_a_test_part_without_labels_is_ignored(tmp_path):
    write(tmp_path / "train.parquet", [0, 1] * 5)
    write(tmp_path / "test.parquet", [-1, -1])
    assert len(data.load(f"parquet:{tmp_path}", image_size=8).test) == 2  # a fifth of the training part
    write(tmp_path / "validation.parquet", [0, 1, 1])
    found = data.load(f"parquet:{tmp_path}", image_size=8)
    assert (found.test.labels_N.tolist(), found.validation_images) == ([0, 1, 1], 0)
    assert [note.text for note in found.findings.notes] == [
        f"the test part of {tmp_path} has no labels and is not used",
        f"{tmp_path} has no test part with labels: its validation part is the test part",
    ]
    write(tmp_path / "test.parquet", [0, -1])
    assert message(f"parquet:{tmp_path}") == (
        f"the label of image 1 of the test part of {tmp_path} is -1: labels must be class indices from 0 to 9999 (with "
        "2 images); correct it."
    )


@pytest.mark.parametrize("part", ["training", "test"])
def test_parts_without_rows_are_refused(tmp_path, part):
    for name in ("training", "test"):
        path = write(tmp_path / f"{name}.parquet", [0, 1])
        table = parquet.read_table(path)
        parquet.write_table(table.slice(0, 0 if name == part else 2), path)
    assert message(f"parquet:{tmp_path}") == (
        f"the {part} part of {tmp_path} has no rows: add images, or remove the empty files."
    )


def test_types_that_do_not_go_together_are_refused_and_widths_of_integers_do(tmp_path):
    write(tmp_path / "train-0.parquet", arrow.array([0, 1] * 5, arrow.int8()))
    second = write(tmp_path / "train-1.parquet", arrow.array([0, 1] * 5, arrow.int64()))
    assert len(data.load(f"parquet:{tmp_path}", image_size=8).train) == 16
    write(second, ["a", "b"])
    said = message(f"parquet:{tmp_path}")
    assert said.startswith(f"the files train-0.parquet to train-1.parquet of {tmp_path} have columns of different ")
    assert said.endswith("): write them again with the same types.")
    second.rename(tmp_path / "test.parquet")
    assert message(f"parquet:{tmp_path}") == (
        f"{tmp_path} has labels that are text in one part and numbers in the other: use the same kind in both."
    )


@pytest.mark.parametrize("note", ["{no json", "[1]", '{"info": {"features": [1]}}', "\udce9"])
def test_metadata_in_the_schema_that_cannot_be_read_are_refused(tmp_path, note):
    path = write(tmp_path / "all.parquet", [0, 1])
    table = parquet.read_table(path).replace_schema_metadata({"huggingface": note.encode(errors="surrogateescape")})
    parquet.write_table(table, path)
    said = message(f"parquet:{path}")
    assert said.startswith(f"{path} has Hugging Face metadata in its schema that cannot be read (")
    assert said.endswith("): write the table again.")


def test_columns_without_a_usual_name_are_never_guessed(tmp_path):
    path = write(tmp_path / "all.parquet", [0, 1] * 5, label="species")
    table = parquet.read_table(path).append_column("id", [list(range(10))])
    parquet.write_table(table, path)
    assert message(f"parquet:{path}") == (
        f"{path} has several columns that could be the labels (species, id): rename the right one to 'label'."
    )
    write(path, [0, 1] * 5, label="species", names=["cat", "dog"])
    table = parquet.read_table(path).append_column("id", [list(range(10))])
    parquet.write_table(table, path)
    assert data.load(f"parquet:{path}", image_size=8).classes == ("cat", "dog")


def test_missing_files_and_names_are_refused(tmp_path):
    said = f"parquet:{tmp_path}: there is no parquet file; give the path of a file, or of a folder with some."
    assert message(f"parquet:{tmp_path}") == said
    assert message("parquet") == "data set 'parquet' is incomplete: write parquet:PATH."
    assert message("hf:") == "data set 'hf:' is incomplete: write hf:NAME."
    assert message("digits:x").startswith("unknown data set 'digits:x'")
    path = write(tmp_path / "all.parquet", [0, 1])
    assert message(f"parquet:{path}", data_dir=tmp_path) == (
        f"data_dir {tmp_path} with 'parquet': write parquet:PATH and leave out --data-dir."
    )


def test_files_that_do_not_fit_into_memory_are_refused_with_the_way_that_needs_none(tmp_path):
    path = write(tmp_path / "all.parquet", [0, 1])
    assert message(f"parquet:{path}", memory=0) == (
        f"parquet:{path} has 0.0 GiB of images and labels, but at most 0 GiB are kept in memory (--data-memory): write "
        f"hf:{tmp_path}, which reads rows from disk."
    )


@pytest.mark.parametrize(("name", "package"), [("parquet:x", "pyarrow"), ("hf:x", "datasets")])
def test_a_missing_package_is_named_with_its_extra(name, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, f"{package}.parquet", None)
    assert message(name) == (
        f"tables of images need the package {package}: install it with pip install 'codistill[hf]'."
    )
