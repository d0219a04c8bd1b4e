"""A method of one's own may use every need, and every executor gives the same numbers or names what it cannot do."""

import pytest
import torch

import probes
from codistill import methods
from codistill.errors import UserError
from codistill.execution import EXECUTORS, build
from codistill.types import Progress
from refusals import refusal

HALF = Progress(5, 10)
EXACT = {"rtol": 1e-9, "atol": 1e-12}
ALL = [
    *[("Maps", path) for path in ("stem", "stage2", "stage1.0", "last")],
    *[("Heads", path) for path in ("stem", "stage2", "last")],
    *[(name, "last") for name in ("Mixed", "Averaged", "Taught", "TaughtTree", "Paused", "Turns", "Everything")],
]
FUSED = ["Mixed", "Averaged", "Taught", "TaughtTree", "Paused", "Turns"]


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    return probes.write_probes(tmp_path_factory.mktemp("probes"))


def made(own, executor, group, probe, path="last", teachers=2, **options):
    needs = methods.needs_of(f"{own}:{probe}", {"path": path})
    taught = needs.teachers == "allowed"
    nets = [probes.staged(100 + k).double() for k in range(teachers)] if taught else []
    generator = torch.Generator().manual_seed(5)
    method = methods.build(f"{own}:{probe}", group, generator=generator, teachers=len(nets), path=path).double()
    executor = build(executor, group, method, teachers=nets, **options)
    executor.train()
    return executor


def trained(executor, icl=False, steps=3, images=6):
    """Some steps; every loss, output, gradient, parameter, statistic and average, by name."""
    optimizer = torch.optim.SGD(executor.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-2)
    found = {}
    for step in range(steps):
        views, labels = probes.batch_of(images, probes.PEERS if icl else 1, seed=step)
        for turn in range(probes.PEERS) if executor.method.needs.turns else (None,):
            optimizer.zero_grad(set_to_none=True)
            out, outputs = executor.train_step(views if icl else views[0], labels, HALF, turn)
            key = f"{step} {turn}"
            found |= {f"{key} loss": out.loss.detach(), f"{key} by peer": out.loss_by_peer.detach()}
            found |= {f"{key} output {i}": t.detach().clone() for i, t in enumerate(outputs.tensors())}
            found |= {f"{key} grad {n}": p.grad.clone() for n, p in named(executor) if p.grad is not None}
            optimizer.step()
            executor.after_step()
    modules = executor.modules()
    states = {f"{part}.{k}": v for part, module in modules.items() for k, v in module.state_dict().items()}
    return {**found, **{k: v.detach().clone() for k, v in states.items()}}


def named(executor):
    parts = (("group", executor.group), ("method", executor.method))
    return [(f"{part}.{name}", p) for part, module in parts for name, p in module.named_parameters()]


def assert_agree(found, expected, **close):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        torch.testing.assert_close(found[name], value, **close, msg=lambda text, name=name: f"{name} {text}")


@pytest.mark.parametrize("icl", [False, True])
@pytest.mark.parametrize("kind", ["networks", "branches", "tree"])
@pytest.mark.parametrize(("probe", "path"), ALL)
def test_recomputed_peers_give_what_the_loop_gives(own, probe, path, kind, icl):
    if icl and probe in ("Taught", "TaughtTree", "Everything"):
        return  # A frozen teacher answers one view.
    results = []
    for name in ("loop", "recompute"):
        torch.manual_seed(0)
        results.append(trained(made(own, name, probes.group_of(kind, dropout=0.3), probe, path), icl))
        results[-1]["random"] = torch.get_rng_state()
    assert any("grad" in key for key in results[0])
    assert_agree(results[1], results[0], rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["networks", "branches"])
@pytest.mark.parametrize("probe", FUSED)
def test_fused_peers_give_what_the_loop_gives(own, probe, kind):
    loop, fused = (trained(made(own, name, probes.group_of(kind), probe)) for name in ("loop", "fused"))
    assert_agree(fused, loop, **EXACT)


@pytest.mark.parametrize(
    ("probe", "kind", "reason"),
    [
        ("Maps", "networks", "executor 'fused' with a method that reads last: it gives logits and features only"),
        ("Heads", "branches", "executor 'fused' with a method that reads last: it gives logits and features only"),
        ("Everything", "networks", "executor 'fused' with a method that reads last, stage2: it gives logits"),
        ("Averaged", "tree", "executor 'fused' cannot fuse a tree of several splits"),
    ],
)
def test_what_cannot_be_fused_is_named_and_auto_takes_the_loop(own, probe, kind, reason):
    assert reason in refusal(lambda: made(own, "fused", probes.group_of(kind), probe))
    executor = made(own, "auto", probes.group_of(kind), probe, deterministic=True)
    before = {k: v.clone() for k, v in executor.group.state_dict().items()}
    (view,), labels = probes.batch_of()
    chosen, trial = executor.settled(view, labels, HALF)
    assert chosen.name == trial.chosen == "loop"
    assert reason in trial.refused["fused"]
    assert all(torch.equal(v, before[k]) for k, v in chosen.group.state_dict().items())
    assert_agree(trained(chosen), trained(made(own, "loop", probes.group_of(kind), probe)), rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["networks", "branches", "tree"])
@pytest.mark.parametrize(
    ("probe", "path"), [("Maps", "stem"), ("Maps", "last"), ("Heads", "stage2"), ("Everything", "last")]
)
def test_micro_batches_carry_maps_and_heads(own, probe, path, kind):
    results = []
    for size in (None, 2):
        executor = made(own, "recompute", probes.group_of(kind, norm=False), probe, path, micro_batch=size)
        results.append(trained(executor))
    assert_agree(results[1], results[0], rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("kind", ["networks", "branches", "tree"])
@pytest.mark.parametrize(("probe", "path"), [("Maps", "stem"), ("Maps", "last"), ("Heads", "stem"), ("Mixed", "last")])
def test_gradients_through_the_boundary_equal_those_of_one_graph(own, probe, path, kind):
    results = []
    for through in (True, False):
        executor = made(own, "loop", probes.group_of(kind), probe, path)
        (view,), labels = probes.batch_of()
        if through:
            executor.train_step(view, labels, HALF)
        else:
            executor.method(executor.forward(view), labels, HALF).loss.backward()
        results.append({name: p.grad for name, p in named(executor) if p.grad is not None})
    assert_agree(*results, **EXACT)


@pytest.mark.parametrize("executor", ["loop", "recompute", "fused"])
def test_gradients_into_the_trunk_are_divided_with_teachers_too(own, executor):
    (view,), labels = probes.batch_of()
    found = []
    for probe in ("Taught", "TaughtTree"):
        group = probes.group_of("branches")
        made(own, executor, group, probe).train_step(view, labels, HALF)
        found.append(
            (group.trunk.get_parameter("stem.0.weight").grad, group.levels[0][1].get_parameter("fc.weight").grad)
        )
    (plain_trunk, plain_branch), (trunk, branch) = found
    torch.testing.assert_close(trunk, plain_trunk / probes.PEERS, **EXACT)
    torch.testing.assert_close(branch, plain_branch, **EXACT)


def test_teachers_change_what_a_method_that_allows_them_teaches(own):
    (view,), labels = probes.batch_of()
    losses = []
    for teachers in (0, 2):
        step, outputs = made(own, "loop", probes.group_of("networks"), "Taught", teachers=teachers).train_step(
            view, labels, HALF
        )
        losses.append(step.loss.item())
        assert (outputs.teacher_logits_KBC is None) == (teachers == 0)
    assert losses[1] > losses[0] + 1e-3


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"micro_batch": 2}, "micro_batch 2 with the executor 'loop': only recompute, auto can do that"),
        ({"average": 1.5}, "average 1.5: it must be a decay of 0 or more and below 1"),
        ({"averages": 0.9}, "option of executors"),
    ],
)
def test_options_that_an_executor_does_not_take_are_refused_in_an_own_loop(own, given, sentence):
    group = probes.group_of("networks")
    assert sentence in refusal(lambda: made(own, "loop", group, "Maps", **given))


def test_every_executor_is_under_the_name_that_it_gives_itself():
    assert {name: kind.name for name, kind in EXECUTORS.items()} == {name: name for name in EXECUTORS}
    with pytest.raises(UserError, match="executor 'lopo'"):
        build("lopo", None, None)
