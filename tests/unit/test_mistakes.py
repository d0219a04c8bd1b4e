"""The most confident mistakes: the right images, in order, with their pixels, small."""

import base64
import io
from types import SimpleNamespace

import torch
from PIL import Image

from codistill.data import ImageSet
from codistill.data.findings import Findings
from codistill.training.mistakes import MOST, MistakeCollector

LABELS_N = torch.arange(40) % 4


def collected(confidence_N, side=8, channels=3, findings=None):
    """Student 1 is wrong about every image, by the confidence given; student 0 is always right."""
    wrong_N = (LABELS_N + 1) % 4
    rest_N = (1 - confidence_N) / 3
    prob_NC = rest_N[:, None].repeat(1, 4).scatter(1, wrong_N[:, None], confidence_N[:, None])
    right_NC = torch.nn.functional.one_hot(LABELS_N, 4) * 9.0
    logits_PNC = torch.stack([right_NC, prob_NC.log()])
    collector = MistakeCollector()
    collector.begin(1)
    for start in range(0, 40, 16):
        part = slice(start, start + 16)
        collector.add(SimpleNamespace(logits_PBC=logits_PNC[:, part]), LABELS_N[part])
    pixels = torch.arange(40, dtype=torch.uint8)[:, None, None, None].expand(40, channels, side, side).contiguous()
    dataset = SimpleNamespace(test=ImageSet(pixels, LABELS_N), findings=findings)
    return collector, SimpleNamespace(dataset=dataset)


def picture(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_the_most_confident_ones_are_kept_over_all_batches_with_their_own_pixels():
    confidence_N = torch.linspace(0.4, 0.95, 40).flip(0)
    confidence_N[39] = 0.99
    collector, session = collected(confidence_N)
    images = collector.record(session).images
    assert [one.index for one in images] == [39, *range(MOST - 1)]
    assert images[0].confidence == torch.tensor(0.99).item() or abs(images[0].confidence - 0.99) < 1e-6
    for one in images:
        assert (one.truth, one.predicted) == (one.index % 4, (one.index + 1) % 4)
        assert one.name is None
        shown = picture(one.picture)
        assert shown.size == (8, 8)
        assert shown.getpixel((3, 3)) == (one.index,) * 3


def test_a_student_without_mistakes_has_none():
    collector, session = collected(torch.full((40,), 0.9))
    collector.begin(0)
    collector.add(SimpleNamespace(logits_PBC=torch.nn.functional.one_hot(LABELS_N, 4)[None] * 9.0), LABELS_N)
    assert collector.record(session).images == ()


def test_files_are_named_and_large_images_shrunk():
    findings = Findings(test_names=[f"{n}.jpg" for n in range(40)])
    collector, session = collected(torch.linspace(0.95, 0.4, 40), side=200, channels=1, findings=findings)
    first = collector.record(session).images[0]
    assert first.name == "0.jpg"
    assert first.picture.startswith("data:image/jpeg;base64,")
    assert picture(first.picture).size == (96, 96)
