import math

import pytest
import torch

from codistill.config import OptimConfig
from codistill.training.schedule import learning_rate
from codistill.training.seeds import PURPOSES, derive_seed, generator_for


def test_every_purpose_and_peer_has_a_seed_of_its_own():
    seeds = {derive_seed(s, p, i) for s in range(5) for p in PURPOSES for i in range(8)}
    assert len(seeds) == 5 * len(PURPOSES) * 8


def test_seeds_are_the_same_on_every_machine():
    assert derive_seed(0, "order") == 3991725939186754870


def test_generators_leave_the_global_random_state_alone():
    before = torch.get_rng_state()
    torch.rand(3, generator=generator_for(3, "order"))
    assert torch.equal(before, torch.get_rng_state())


def test_the_papers_schedule_has_the_right_rate_in_every_epoch():
    optim = OptimConfig(lr=0.1)
    rates = [learning_rate(optim, e, 300) for e in range(300)]
    assert rates == pytest.approx([0.1] * 150 + [0.01] * 75 + [0.001] * 75)


@pytest.mark.parametrize("epochs", [3, 10, 24, 40])
def test_a_short_run_never_changes_the_rate_within_an_epoch_under_the_step_schedule(epochs):
    optim = OptimConfig(lr=0.1)
    for epoch in range(epochs):
        assert len({learning_rate(optim, epoch + k / 7, epochs) for k in range(7)}) == 1


def test_cosine_falls_from_the_full_rate_to_zero_after_a_linear_warm_up():
    optim = OptimConfig(lr=0.2, schedule="cosine", warmup_epochs=2)
    assert learning_rate(optim, 0, 10) == 0
    assert learning_rate(optim, 1, 10) == pytest.approx(0.1)
    assert learning_rate(optim, 2, 10) == pytest.approx(0.2)
    assert learning_rate(optim, 6, 10) == pytest.approx(0.1)
    assert learning_rate(optim, 4, 10) == pytest.approx(0.1 * (1 + math.cos(math.pi / 4)))
    assert learning_rate(optim, 10, 10) == pytest.approx(0)


def test_constant_stays():
    optim = OptimConfig(lr=0.3, schedule="constant")
    assert {learning_rate(optim, e / 3, 30) for e in range(90)} == {0.3}
