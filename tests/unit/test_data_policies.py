"""Augmentation policies: torchvision's operations image by image, draws of their own, and every refusal."""

import math

import pytest
import torch
from one_step import step_views
from torchvision.transforms.v2 import functional as vision

from codistill.data import AugmentPolicy, mix_views
from codistill.data.distort import BINS, OPERATIONS, apply_operations, randaugment, trivialaugment
from codistill.errors import UserError

LIMITS = {"Shear": 0.3, "Rotate": 30.0, "blend": 0.9, "Posterize": 4, "TranslateX": 12.0, "TranslateY": 9.0}


def images(n, channels=3, height=24, width=32):
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, 256, (n, channels, height, width), generator=generator, dtype=torch.uint8)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def expected(name, image, level, sign):
    """torchvision's operation of this strength on one image, as its RandAugment applies it."""
    share = level / (BINS - 1)
    signed = {key: sign * share * top for key, top in LIMITS.items()}
    shear = math.degrees(math.atan(signed["Shear"]))

    def affine(translate=(0, 0), shear=(0.0, 0.0), center=None):
        return vision.affine(image, angle=0.0, translate=list(translate), scale=1.0, shear=list(shear), center=center)

    made = {
        "Identity": lambda: image,
        "ShearX": lambda: affine(shear=(shear, 0.0), center=[0, 0]),
        "ShearY": lambda: affine(shear=(0.0, shear), center=[0, 0]),
        "TranslateX": lambda: affine(translate=(int(signed["TranslateX"]), 0)),
        "TranslateY": lambda: affine(translate=(0, int(signed["TranslateY"]))),
        "Rotate": lambda: vision.rotate(image, signed["Rotate"]),
        "Brightness": lambda: vision.adjust_brightness(image, 1 + signed["blend"]),
        "Color": lambda: vision.adjust_saturation(image, 1 + signed["blend"]),
        "Contrast": lambda: vision.adjust_contrast(image, 1 + signed["blend"]),
        "Sharpness": lambda: vision.adjust_sharpness(image, 1 + signed["blend"]),
        "Posterize": lambda: vision.posterize(image, round(8 - share * LIMITS["Posterize"])),
        "Solarize": lambda: vision.solarize(image, 255 * (1 - share)),
        "AutoContrast": lambda: vision.autocontrast(image),
        "Equalize": lambda: vision.equalize(image),
    }
    return made[name]()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_image_gets_torchvisions_operation_at_its_own_strength_and_sign(name, channels):
    levels, signs = torch.tensor([0, 7, 9, 16, 23, 30] * 2), torch.tensor([1] * 6 + [-1] * 6)
    # Few levels, so that the contrast is not at its full range already.
    batch = images(12, channels) // 2 + 30
    made = batch.clone()
    apply_operations(made, torch.full((12,), OPERATIONS.index(name)), levels, signs, LIMITS)
    for image, after, level, sign in zip(batch, made, levels.tolist(), signs.tolist(), strict=True):
        difference = (after.int() - expected(name, image, level, sign).int()).abs()
        # Where a position lies between two pixels, rounding decides which one is taken.
        assert (difference > 1).float().mean() < (0.02 if name in ("ShearX", "ShearY", "Rotate") else 1e-9)


def test_a_batch_of_all_operations_is_each_operation_alone():
    batch = images(len(OPERATIONS))
    op, level, sign = torch.randperm(len(OPERATIONS)), torch.full((len(batch),), 20), torch.ones(len(batch))
    made = batch.clone()
    apply_operations(made, op, level, sign.long(), LIMITS)
    for i in range(len(batch)):
        alone = batch[i : i + 1].clone()
        apply_operations(alone, op[i : i + 1], level[:1], sign[:1].long(), LIMITS)
        assert torch.equal(made[i], alone[0])


def test_randaugment_draws_operations_evenly_and_signs_of_their_own(monkeypatch):
    seen = []
    monkeypatch.setattr("codistill.data.distort.apply_operations", lambda *given: seen.append(given))
    randaugment(images(2800, height=8, width=8), 2, 9, seeded())
    assert len(seen) == 2
    for _, op, level, sign, limits in seen:
        assert all(130 < count < 270 for count in op.bincount(minlength=14).tolist())  # 200 each, deviation 14
        assert level.unique().tolist() == [9]
        assert 0.45 < (sign == 1).float().mean() < 0.55
        assert limits["TranslateX"] == pytest.approx(8 * 150 / 331)
    assert not torch.equal(seen[0][1], seen[1][1])


def test_trivialaugment_draws_one_operation_and_any_strength(monkeypatch):
    seen = []
    monkeypatch.setattr("codistill.data.distort.apply_operations", lambda *given: seen.append(given))
    trivialaugment(images(3100, height=8, width=8), seeded())
    ((_, op, level, _, limits),) = seen
    assert len(op.unique()) == 14
    assert all(50 < count < 150 for count in level.bincount(minlength=31).tolist())  # 100 each, deviation 10
    assert (limits["Shear"], limits["Rotate"], limits["TranslateY"]) == (0.99, 135.0, 32.0)


@pytest.mark.parametrize("name", ["randaugment", "trivialaugment", "cutout", "randaugment+cutout"])
def test_policies_repeat_by_seed_and_leave_batch_and_global_generator_alone(name):
    batch, before = images(16), torch.get_rng_state()
    kept, policy = batch.clone(), AugmentPolicy(0, False, (name,))
    first, again, other = (step_views(batch, policy, count=2, seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[0], first[1])
    assert torch.equal(batch, kept)
    assert torch.equal(torch.get_rng_state(), before)


def test_each_view_has_its_own_policy():
    batch, plain = images(8), (0.5,) * 3
    policy = AugmentPolicy(0, False, ("standard", "cutout"))
    first, second = step_views(batch, policy, count=2, mean=plain, std=plain)
    torch.testing.assert_close(first, batch / 255 * 2 - 1)
    assert (second != first).flatten(1).any(1).all()
    with pytest.raises(UserError) as caught:
        step_views(batch, policy, count=3)
    assert str(caught.value) == "2 augmentation policies for 3 views: give one for all, or one per view."


def test_cutout_sets_a_square_that_the_edge_may_cut_to_the_mean_colour():
    batch = torch.full((400, 1, 16, 16), 255, dtype=torch.uint8)
    policy = AugmentPolicy(0, False, ("cutout",), cutout_size=6)
    (view,) = step_views(batch, policy, mean=(0.5,), std=(0.5,))
    assert view.unique().tolist() == [0.0, 1.0]
    cut = view[:, 0] == 0
    heights, widths = cut.any(2).sum(1), cut.any(1).sum(1)
    assert torch.equal(cut.sum((1, 2)), heights * widths)
    assert (int(heights.max()), int(heights.min())) == (6, 3)
    # Centres are uniform: 11 of 16 leave the whole side inside.
    assert 0.6 < (heights == 6).float().mean() < 0.78
    assert 0.6 < (widths == 6).float().mean() < 0.78


def test_mixup_mixes_images_and_labels_by_one_share_with_one_partner_for_all_views():
    labels = torch.arange(10)
    views = tuple(labels.float().view(10, 1, 1, 1).expand(10, 1, 4, 4) + 100 * v for v in range(3))
    before = torch.get_rng_state()
    mixed, prob = mix_views(views, labels, 10, "mixup", 1.0, seeded())
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(prob.sum(1), torch.ones(10))
    for v in range(3):
        torch.testing.assert_close(mixed[v][:, 0, 0, 0] - 100 * v, prob @ labels.float(), atol=1e-4, rtol=0)
    shares = prob.gather(1, labels[:, None]).squeeze(1)
    assert len({round(share, 5) for share in shares.tolist() if share < 1}) == 1


def test_cutmix_weighs_labels_by_the_pixels_that_it_keeps():
    labels = torch.arange(10)
    views = tuple(labels.float().view(10, 1, 1, 1).expand(10, 1, 9, 7).clone() for _ in range(2))
    kept = []
    for seed in range(40):
        mixed, prob = mix_views(views, labels, 10, "cutmix", None, seeded(seed))
        assert torch.equal(mixed[0], mixed[1])
        torch.testing.assert_close(mixed[0].mean((1, 2, 3)), prob @ labels.float())
        own = mixed[0][:, 0] == labels.float()[:, None, None]
        kept.append(float(own.float().mean((1, 2))[0]))
    assert min(kept) < 0.4
    assert max(kept) > 0.9
    assert torch.equal(views[0][3], torch.full((1, 9, 7), 3.0))


def test_the_share_of_mixup_follows_the_beta_distribution():
    view = (torch.zeros(2, 1, 1, 1),)
    shares = []
    for seed in range(300):
        _, prob = mix_views(view, torch.tensor([0, 1]), 2, "mixup", 0.2, seeded(seed))
        shares.append(float(prob[0, 0]))
    # Beta(0.2, 0.2) lies near the ends: P(λ < 0.1 or λ > 0.9) = 0.67; half of the pairs are an image with itself.
    ends = sum(share < 0.1 or share > 0.9 for share in shares) / 300
    assert 0.75 < ends < 0.92


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"policies": ("cutuot",)}, "unknown augmentation policy 'cutuot': did you mean 'cutout'"),
        ({"policies": ()}, "no augmentation policy: give one of standard, randaugment"),
        (
            {"policies": ("randaugment+trivialaugment",)},
            "policy 'randaugment+trivialaugment': randaugment and trivialaugment exclude each other; name one of them.",
        ),
        ({"policies": ("mixup+cutmix",)}, "mixup and cutmix exclude each other"),
        (
            {"policies": ("standard", "mixup")},
            "policies standard, mixup: mixup and cutmix change the labels, which all students share; name the same one "
            "in every policy, or in none.",
        ),
        ({"crop_min_area": 0.0}, "crop_min_area 0.0: give a share above 0 and at most 1."),
        ({"randaugment_ops": 0}, "randaugment_ops 0: give at least 1 operation."),
        ({"randaugment_magnitude": 31}, "randaugment_magnitude 31: give 0 to 30."),
        ({"cutout_size": 0}, "cutout_size 0: give at least 1 pixel."),
        ({"mix_alpha": 0.0}, "mix_alpha 0.0: give a finite number above 0."),
        ({"mix_alpha": math.inf}, "mix_alpha inf: give a finite number above 0."),
        ({"policies": "standard, x"}, "unknown augmentation policy 'x'"),
        ({"policies": (1,)}, "policies (1,): give names, one for all views or one per view."),
    ],
)
def test_a_wrong_policy_is_refused_in_one_sentence(fields, says):
    with pytest.raises(UserError) as caught:
        AugmentPolicy(0, False, **fields).check()
    assert says in str(caught.value)
