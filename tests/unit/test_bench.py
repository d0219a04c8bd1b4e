"""The benchmark's arithmetic; times themselves are never tested."""

import json

import pytest
import torch

from codistill.errors import UserError
from codistill.execution import auto
from ratios import race, steps, suites
from ratios.memory import peak_bytes
from ratios.race import Ratio, ratio
from ratios.setting import Setting
from run import main


def test_steps_take_turns_after_one_call_of_each(monkeypatch):
    now = iter(range(100))
    monkeypatch.setitem(race.CLOCKS, "wall", lambda: float(next(now)))
    calls = []
    times = race.race({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, turns=2, calls=2)
    assert "".join(calls) == "ab" + "aabb" * 2
    assert times == {"a": [0.5, 0.5], "b": [0.5, 0.5]}


def test_a_ratio_is_the_median_of_the_turns_own_ratios():
    found = ratio({"a": [2.0, 3.0, 10.0], "b": [1.0, 2.0, 1.0]}, "a", "b", "suite", "what", "≤ 2")
    assert (found.median, found.least, found.most) == (2.0, 1.5, 10.0)
    assert (found.above_ms, found.below_ms) == (3000.0, 1000.0)
    assert found.reached


@pytest.mark.parametrize(("goal", "reached"), [("≤ 1.9", False), ("≥ 2", True), ("≥ 2.1", False), ("", None)])
def test_a_goal_is_reached_or_not(goal, reached):
    assert Ratio("s", "w", "a", "b", 2.0, 2.0, 2.0, 1.0, 1.0, goal).reached is reached


def test_the_peak_of_a_step_counts_what_is_held_at_a_time():
    def step():
        first = torch.ones(1000, 1000)
        second = first + 1
        del first
        return second + 1

    assert peak_bytes(step) == pytest.approx(2 * 4 * 1000 * 1000, rel=0.01)


def test_the_bare_convolutions_are_those_of_the_network(monkeypatch):
    size = steps.Size("small", steps.TINY.make, (1, 8, 8), 2, 10)
    seen = []
    convolve = steps.functional.conv2d
    step = steps.bare_convolutions(size, True)
    monkeypatch.setattr(steps.functional, "conv2d", lambda x, w, *rest: seen.append(w.shape) or convolve(x, w, *rest))
    step()
    wanted = [m.weight.shape for m in size.make(10, 1).modules() if isinstance(m, torch.nn.Conv2d)]
    assert sorted(seen) == sorted(wanted)


@pytest.mark.parametrize("best", ["loop", "fused"])
def test_the_choice_of_auto_is_that_of_its_trial(monkeypatch, best):
    times = {"loop": 1.0, "fused": 1.0, best: 0.1}
    monkeypatch.setattr(auto, "fastest", lambda steps, device: ({name: times[name] for name in steps}, {}))
    assert steps.chosen_executor(steps.Size("small", steps.TINY.make, (1, 8, 8), 2, 10), 2, "dml") == best


@pytest.mark.parametrize("executor", ["loop", "fused", "recompute"])
def test_a_training_step_moves_every_network(executor, monkeypatch):
    made = []

    def make(num_classes, in_channels):
        made.append(steps.TINY.make(num_classes, in_channels))
        return made[-1]

    step = steps.training_step(steps.Size("small", make, (1, 8, 8), 8, 10), 2, "dml", executor)
    before = [[p.detach().clone() for p in network.parameters()] for network in made]
    step()
    for network, old in zip(made, before, strict=True):
        assert not any(torch.equal(p, q) for p, q in zip(network.parameters(), old, strict=True) if p.ndim > 1)


def test_an_evaluation_scores_every_image_of_every_batch():
    size = steps.Size("small", steps.TINY.make, (1, 8, 8), 8, 10)
    assert steps.evaluation(size, 2, batches=3)().images == 3 * 512
    assert len(steps.bare_predictions(size, 2, batches=3)()) == 6


def test_the_program_prints_json_with_machine_and_goals(monkeypatch, capsys):
    found = Ratio("floor", "one network", "step", "convolutions", 1.2, 1.1, 1.3, 12.0, 10.0, "≤ 1.25")
    monkeypatch.setitem(suites.SUITES, "floor", lambda setting: iter([found]))
    main(["--suite", "floor", "--json", "--turns", "2"])
    printed = json.loads(capsys.readouterr().out)
    assert printed["rows"][0]["reached"] is True
    assert printed["setting"] == {"turns": 2, "clock": "wall", "threads": 1, "batches": 4}
    assert printed["machine"]["torch"] == torch.__version__
    main(["--suite", "floor"])
    assert "1.200 (1.100 to 1.300)  goal ≤ 1.25: reached" in capsys.readouterr().out


def test_an_unknown_suite_and_no_turns_are_refused_before_anything_runs():
    with pytest.raises(UserError, match="unknown suite 'flor': did you mean 'floor'"):
        next(suites.run_suites(["flor"], Setting()))
    with pytest.raises(UserError, match="turns 0: it must be at least 1"):
        next(suites.run_suites([], Setting(turns=0)))
