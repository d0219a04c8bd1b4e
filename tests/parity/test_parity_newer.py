"""PCL and SwitOKD against the slow reference on random inputs: loss, loss_by_peer, parts and all gradients."""

from __future__ import annotations

import dataclasses

import pytest
import reference_newer
import torch
from harness import Case, build, call, compare, make_case, rows_of

DTYPES = [torch.float64, torch.float32]


def pcl_case(m: int = 3, dtype: torch.dtype = torch.float64, seed: int = 0, **arguments) -> Case:
    """A case with the averages' logits, which ask for gradient to show that none comes."""
    case = make_case(m=m, dtype=dtype, seed=seed, **arguments)
    draw = torch.Generator().manual_seed(500 + seed)
    values = 2 * torch.randn(case.logits.shape, generator=draw, dtype=torch.float64)
    return dataclasses.replace(case, averaged=values.to(dtype).requires_grad_())


def pair_case(seed: int, dtype: torch.dtype = torch.float64, teacher: int = 0, **arguments) -> Case:
    """Two networks, of which `teacher` knows the labels better, the more the higher the seed."""
    case = make_case(m=2, seed=seed, dtype=dtype, scale=1.0, **arguments)
    logits = case.logits.detach().clone()
    logits[teacher].scatter_add_(-1, case.labels.unsqueeze(-1), torch.full_like(logits[0, ..., :1], 0.4 * seed))
    return unshared(dataclasses.replace(case, logits=logits.requires_grad_()))


def unshared(case: Case) -> Case:
    class Apart(Case):
        @property
        def shape(self):
            return dataclasses.replace(super().shape, shares_trunk=False)

    return Apart(**vars(case))


def is_paused(case: Case, teacher: int = 0) -> bool:
    x = rows_of(case, {k: v.detach().double() for k, v in case.leaves().items()})
    return reference_newer.paused(x.z, x.y, x.r, teacher)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("C", [2, 5, 11])
@pytest.mark.parametrize("m", [2, 3, 4])
def test_pcl_agrees(m: int, C: int, dtype: torch.dtype) -> None:
    for seed in (0, 1):
        compare("pcl", pcl_case(m, dtype, seed, C=C, B=3))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("ramp_up", [0.0, 80 / 300, 1.0])
@pytest.mark.parametrize("fraction", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_pcl_agrees_with_every_temperature_and_ramp_up(
    temperature: float, fraction: float, ramp_up: float, dtype: torch.dtype
) -> None:
    compare("pcl", pcl_case(3, dtype, 2, fraction=fraction), temperature=temperature, ramp_up=ramp_up)


def test_pcl_agrees_where_feature_widths_differ() -> None:
    compare("pcl", pcl_case(3, seed=3, widths=(4, 9, 16)))


def test_the_decay_of_pcl_is_the_executors_business() -> None:
    losses = [call(build("pcl", pcl_case(), decay=decay), pcl_case()).loss for decay in (0.0, 0.9)]
    assert torch.equal(*losses)
    assert build("pcl", pcl_case(), decay=0.9).needs.averaged == 0.9


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("C", [2, 5, 11])
@pytest.mark.parametrize("teacher", [0, 1])
def test_switokd_agrees_on_both_sides_of_the_switch(teacher: int, C: int, dtype: torch.dtype) -> None:
    found = []
    for seed in range(8):
        case = pair_case(seed, dtype, teacher, C=C)
        compare("switokd", case, teacher=teacher)
        step = call(build("switokd", case, teacher=teacher), case)
        stops = is_paused(case, teacher)
        assert step.update_P is not None
        assert step.update_P.tolist() == [not (stops and peer == teacher) for peer in (0, 1)]
        assert step.diagnostics["paused"].item() == stops
        found.append(stops)
    assert {True, False} == set(found)


@pytest.mark.parametrize("seed", [2, 7])
def test_the_better_network_is_never_paused_where_it_is_the_smaller_one(seed: int) -> None:
    case = pair_case(seed, teacher=0)
    step = call(build("switokd", case, teacher=1), case)
    assert step.diagnostics["paused"].item() == 0
    compare("switokd", case, teacher=1)


WAYS = {
    "weights": lambda case: {"sample_weights": torch.tensor([0.5, 0.0, 2.0, 1.0], dtype=torch.float64)},
    "ignored": lambda case: {"ignore_index": -100},
}


@pytest.mark.parametrize("positions", [(), (2,)], ids=["images", "dense"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["pcl", "switokd"])
def test_weights_ignored_rows_and_dense_predictions_agree(name: str, way: str, positions: tuple[int, ...]) -> None:
    for seed in (0, 5):
        case = (pcl_case if name == "pcl" else pair_case)(seed=seed, positions=positions)
        case = dataclasses.replace(case, **WAYS[way](case))
        if way == "ignored":
            case.labels[1] = -100
        compare(name, case)


def test_soft_labels_agree_with_pcl() -> None:
    case = pcl_case(seed=6)
    case.labels = torch.randn(4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64).softmax(-1)
    compare("pcl", case)


@pytest.mark.parametrize("positions", [(), (2,)], ids=["images", "dense"])
def test_pcls_own_ensemble_is_its_classifier_on_all_features(positions: tuple[int, ...]) -> None:
    case = pcl_case(seed=7, positions=positions, widths=(3, 5, 2))
    method = build("pcl", case)
    found = method.eval().own_ensemble(case.outputs)
    expected = sum(
        torch.einsum("cd,b...d->b...c", part, h)
        for part, h in zip(method.classifier.weight.split([3, 5, 2], dim=1), case.features, strict=True)
    )
    torch.testing.assert_close(found, expected)


def test_a_feature_of_the_whole_image_stands_at_every_position_in_pcls_ensemble() -> None:
    case = pcl_case(seed=7, positions=(2,))
    outputs = dataclasses.replace(case.outputs, features=tuple(h[:, 0] for h in case.features))
    found = build("pcl", case).own_ensemble(outputs)
    assert found.shape == (4, 2, 5)
    assert torch.equal(found[:, 0], found[:, 1])
