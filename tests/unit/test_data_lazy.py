"""Images that stay in their files: when they do, what is cropped out of them, and that only the seed decides."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from codistill import data
from codistill.data import AugmentPolicy, ImageSet, LazyImages, gather
from codistill.data.lazy import crop_box
from codistill.data.pictures import FilePictures, PictureReader
from codistill.errors import UserError

CPU = torch.device("cpu")


def write_folder(folder, sizes=((40, 32), (30, 50), (64, 64)), parts=("train", "val"), images=6):
    draws = np.random.default_rng(0)
    for part in parts:
        for name in ("ant", "bee"):
            (folder / part / name).mkdir(parents=True)
            for i in range(images):
                width, height = sizes[i % len(sizes)]
                coarse = draws.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
                Image.fromarray(coarse).resize((width, height)).save(folder / part / name / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("imagenet"))


@pytest.fixture(scope="module")
def imagenet(folder):
    return data.load("imagenet", folder, image_size=24)


def views(images, seed=0, count=2, workers=0, mean=(0.0,) * 3, std=(1 / 255,) * 3, **policy):
    """Two steps' views; with these constants they are pixels."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.arange(len(images)).split(5)[:2]
    options = {"views": count, "generator": generator, "workers": workers, "device": CPU}
    made = data.training_views(images, steps, AugmentPolicy(0, True, **policy), mean, std, **options)
    # Views hold until the next step only.
    return [(torch.stack(made_views), labels) for made_views, labels in made], generator.get_state()


def test_imagenet_is_read_from_its_two_folders_at_224_pixels_with_the_usual_constants(folder):
    found = data.load("imagenet", folder)
    assert isinstance(found.train, LazyImages)
    assert (found.train.shape, found.test.shape) == ((3, 224, 224), (3, 224, 224))
    assert (found.classes, len(found.train), len(found.test)) == (("ant", "bee"), 12, 12)
    assert found.train.labels_N.tolist() == [0] * 6 + [1] * 6
    assert found.mean == (0.485, 0.456, 0.406)
    assert found.augment == AugmentPolicy(0, True)
    assert found.found_at == str(folder)


@pytest.mark.parametrize(("there", "missing"), [("train", "val"), ("val", "train")])
def test_imagenet_without_a_part_is_refused(tmp_path, there, missing):
    write_folder(tmp_path, parts=(there,), images=1)
    with pytest.raises(UserError) as caught:
        data.load("imagenet", tmp_path)
    assert str(caught.value) == (
        f"ImageNet is not in {tmp_path} (no {missing} with one folder per class): put its train and val folders there, "
        "or give their parent folder with --data-dir."
    )


def test_imagenet_is_found_in_the_cache(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("CODISTILL_DATA", str(tmp_path))
    with pytest.raises(UserError, match="ImageNet is not in"):
        data.load("imagenet")
    (tmp_path / "imagenet").symlink_to(folder)
    assert len(data.load("imagenet").train) == 12


def test_evaluation_sees_torchvisions_resize_and_centre_crop(imagenet, folder):
    transform = v2.Compose([v2.Resize(27, antialias=True), v2.CenterCrop(24)])
    pixels, labels = zip(*data.evaluation_batches(imagenet.test, 5, 0, CPU), strict=True)
    assert [len(part) for part in pixels] == [5, 5, 2]
    assert torch.equal(torch.cat(labels), imagenet.test.labels_N)
    for image, path in zip(torch.cat(pixels), sorted((folder / "val").rglob("*.png")), strict=True):
        expected = transform(v2.functional.pil_to_tensor(Image.open(path)))
        assert torch.equal(image, expected)


def test_a_view_is_torchvisions_resized_crop_of_the_box_drawn(imagenet):
    # Among the boxes of all images are some that shrink, that grow, and that do one in height and one in width.
    N = len(imagenet.train)
    made = imagenet.train.decode_views(torch.arange(N), 3, 0.08, True, torch.Generator().manual_seed(3))
    draws = torch.rand(N, 3, 23, generator=torch.Generator().manual_seed(3))
    assert made.shape == (3, N, 3, 24, 24)
    for b in range(N):
        pixels = imagenet.train.read(b)
        for v in range(3):
            draw = draws[b, v].tolist()
            expected = v2.functional.resized_crop(pixels, *crop_box(draw, *pixels.shape[1:], 0.08), [24, 24])
            expected = expected.flip(-1) if draw[-1] < 0.5 else expected
            # Flipping before or after resizing may round another way.
            assert (made[v, b].int() - expected.int()).abs().max() <= 1


def test_crop_boxes_have_the_areas_and_ratios_of_random_resized_crop():
    draws = torch.rand(4000, 23, generator=torch.Generator().manual_seed(0)).tolist()
    boxes = torch.tensor([crop_box(draw, 300, 400, 0.25) for draw in draws], dtype=torch.float64)
    top, left, height, width = boxes.unbind(1)
    area, ratio = height * width / 120000, width / height
    assert 0.245 < area.min() < 0.26
    assert 0.95 < area.max() <= 1.0
    assert 0.745 < ratio.min() < 0.76
    assert 1.31 < ratio.max() < 1.34
    assert (top + height).max() == 300
    assert (left + width).max() == 400
    assert top.min() == left.min() == 0
    theirs, image = v2.RandomResizedCrop(24, scale=(0.25, 1.0)), torch.zeros(3, 300, 400)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        params = [theirs.make_params([image]) for _ in range(4000)]
    expected = torch.tensor([[p[k] for k in ("top", "left", "height", "width")] for p in params], dtype=torch.float64)
    # Means of 4000 boxes: standard errors below 1.1 pixels.
    assert (boxes.mean(0) - expected.mean(0)).abs().max() < 5
    assert (boxes.std(0) - expected.std(0)).abs().max() < 5


def test_an_image_that_no_box_fits_gets_the_largest_centre_crop():
    assert crop_box([1.0] * 23, 100, 10, 0.9) == (43, 0, 13, 10)
    assert crop_box([1.0] * 23, 10, 100, 0.9) == (0, 43, 10, 13)


def test_each_image_is_decoded_once_for_all_views(imagenet, monkeypatch):
    read, count = imagenet.train.read, []
    watched = dataclasses.replace(imagenet.train, read=lambda index: count.append(index) or read(index))
    (first, _), _ = views(watched, count=4)[0]
    assert count == list(range(10))
    assert first.shape == (4, 5, 3, 24, 24)
    assert not torch.equal(first[0], first[1])


def test_views_depend_on_the_seed_and_not_on_the_number_of_processes(imagenet):
    # Without processes, crops are normalised one by one; with them, a step's at once.
    constants = {"mean": imagenet.mean, "std": imagenet.std}
    here, state = views(imagenet.train, **constants)
    for other, other_state in (views(imagenet.train, **constants), views(imagenet.train, workers=1, **constants)):
        assert torch.equal(state, other_state)
        for (pixels, labels), (same, same_labels) in zip(here, other, strict=True):
            assert torch.equal(pixels, same)
            assert torch.equal(labels, same_labels)
    assert not torch.equal(here[0][0], views(imagenet.train, seed=1, **constants)[0][0][0])


@pytest.mark.parametrize("workers", [0, 1])
def test_views_are_the_crops_that_the_steps_seed_draws_normalised(imagenet, workers):
    ((made, _), _), _ = views(imagenet.train, count=3, workers=workers, mean=imagenet.mean, std=imagenet.std)
    seed = int(torch.randint(2**62, (2,), generator=torch.Generator().manual_seed(0))[0])
    pixels = imagenet.train.decode_views(torch.arange(5), 3, 0.08, True, torch.Generator().manual_seed(seed))
    mean, std = (
        torch.tensor(constant, dtype=torch.float64)[:, None, None] for constant in (imagenet.mean, imagenet.std)
    )
    assert pixels.dtype == torch.uint8
    assert made.dtype == torch.float32
    assert (made - (pixels.double() / 255 - mean) / std).abs().max() < 1e-6


def test_one_policy_per_view_is_required_before_any_image_is_read(imagenet):
    unread = dataclasses.replace(imagenet.train, read=pytest.fail)
    with pytest.raises(UserError, match="2 augmentation policies for 3 views: give one for all, or one per view"):
        views(unread, count=3, policies=("standard", "standard"))


def test_loading_draws_nothing_from_the_global_generator(imagenet):
    before = torch.get_rng_state()
    views(imagenet.train, workers=1)
    list(data.evaluation_batches(imagenet.test, 5, 1, CPU))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_decoded_is_named_in_one_sentence(tmp_path, workers):
    folder = write_folder(tmp_path, images=3)
    broken = folder / "train" / "bee" / "0.png"
    broken.write_bytes(broken.read_bytes()[:60])
    found = data.load("imagenet", folder, image_size=16)
    with pytest.raises(UserError) as caught:
        views(found.train, workers=workers)
    assert str(caught.value).startswith(f"{broken} cannot be decoded (")
    assert str(caught.value).endswith(
        "): replace or remove this image, or leave such images out with --bad-images skip."
    )


def test_a_folder_stays_in_its_files_where_images_are_large_or_too_many(folder):
    small = data.load("image_folder", folder, image_size=127)
    assert isinstance(small.train, ImageSet)
    assert isinstance(data.load("image_folder", folder, image_size=128).train, LazyImages)
    gib = 24 * 3 * 64 * 64 / 2**30
    assert isinstance(data.load("image_folder", folder, memory=gib).train, ImageSet)
    assert isinstance(data.load("image_folder", folder, memory=gib * 0.99).train, LazyImages)
    assert isinstance(data.load("image_folder", folder, memory=0).train, LazyImages)


def test_grey_images_are_kept_in_memory_where_they_fit_as_grey(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        for i in range(5):
            Image.new("L", (9, 9), 7).save(tmp_path / name / f"{i}.png")
    gib = 10 * 8 * 8 / 2**30
    assert isinstance(data.load("image_folder", tmp_path, image_size=8, memory=gib).train, ImageSet)
    assert isinstance(data.load("image_folder", tmp_path, image_size=8, memory=gib * 0.99).train, LazyImages)


@pytest.mark.parametrize("name", ["imagenet", "image_folder"])
@pytest.mark.parametrize("part", ["train", "val"])
def test_files_that_are_no_images_are_found_before_training(tmp_path, name, part):
    path = write_folder(tmp_path) / part / "bee" / "1.png"
    path.write_bytes(b"not a picture")
    with pytest.raises(UserError) as caught:
        data.load(name, tmp_path, image_size=128)
    assert str(caught.value).startswith(f"{path} cannot be decoded (cannot identify image file)")


@pytest.mark.parametrize(("checked", "looked"), [(12, list(range(12))), (11, [0, 6])])
def test_all_headers_of_the_test_part_are_read_and_a_sample_of_too_many_training_images(
    folder, monkeypatch, checked, looked
):
    asked, read = [], gather.read_headers
    monkeypatch.setattr(gather, "SAMPLE", 2)
    monkeypatch.setattr(gather, "CHECKED", checked)
    monkeypatch.setattr(
        gather, "read_headers", lambda pictures, indices: asked.append(indices) or read(pictures, indices)
    )
    data.load("imagenet", folder, image_size=16)
    assert asked == [looked, list(range(12))]


def test_a_lazy_folder_knows_mean_deviation_and_colour_of_its_images(folder, tmp_path):
    lazy, memory = (data.load("image_folder", folder, image_size=32, memory=m) for m in (0, 1))
    assert lazy.mean == pytest.approx(memory.mean, abs=0.02)
    assert lazy.augment == AugmentPolicy(0, True)
    assert memory.augment == AugmentPolicy(4, True)
    for part in ("train", "val"):
        for name in "ab":
            (tmp_path / part / name).mkdir(parents=True)
            Image.new("L", (20, 20), 77).save(tmp_path / part / name / "0.png")
    grey = data.load("image_folder", tmp_path, image_size=16, memory=0)
    assert grey.train.shape == (1, 16, 16)
    assert grey.train.decode(torch.tensor([0])).unique().tolist() == [77]


def test_files_are_read_upright_and_in_the_wanted_colours(tmp_path):
    pixels = np.zeros((8, 16), dtype=np.uint8)
    pixels[:, :8] = 200
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "0.png", exif=exif)
    image = PictureReader(FilePictures([tmp_path / "0.png"]), 3)(0)
    assert image.shape == (3, 16, 8)
    assert image[:, :8].unique().tolist() == [200]


def test_parts_of_a_lazy_set_keep_labels_and_groups(imagenet):
    grouped = dataclasses.replace(imagenet.train, groups_N=torch.arange(12) // 3)
    part = grouped.take(torch.tensor([7, 2]))
    assert (part.labels_N.tolist(), part.groups_N.tolist(), len(part)) == ([1, 0], [2, 0], 2)
    assert torch.equal(part.decode(torch.tensor([1])), grouped.decode(torch.tensor([2])))
