"""The files of examples/ are the library's methods: same loss, same gradients; and docs/own-method.md is what it shows.

The examples share no line with the library, so this is one more independent check of both.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import inspect
import json
import math
import re
from collections import OrderedDict
from pathlib import Path
from types import ModuleType

import pytest
import torch
from harness import Case, build, call, deviation, gradients, make_case
from torch import Tensor, nn
from torch.nn import functional

from codistill import UserError, methods, targets
from codistill.cli import main
from codistill.peers import TreeGroup
from codistill.training import train

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "own-method.md"
OWN = f"{ROOT / 'examples' / 'own_method.py'}:MostCertainPeer"
TOLERANCE = 1e-9
# What examples/kdcl.py states for the cross-entropy of the linear rule, and what the library certifies.
STATED, CERTIFIED = 1e-6, 5e-7


@pytest.fixture(autouse=True)
def one_thread():
    """The examples' small networks gain nothing from a second thread, and lose much to it on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def example(name: str) -> ModuleType:
    """Load examples/NAME.py by its path, as a reader would copy it."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def copy_parameters(source: nn.Module, target: nn.Module) -> nn.Module:
    """`target` in float64 with the values of `source`, parameter by parameter in their order."""
    target = target.double()
    pairs = list(zip(source.parameters(), target.parameters(), strict=True))
    assert pairs
    with torch.no_grad():
        for value, parameter in pairs:
            parameter.copy_(value)
    return target


def hold_equal(
    case: Case,
    method: methods.Method,
    loss: Tensor,
    own: nn.Module | None = None,
    reads: tuple[str, ...] = ("logits",),
    tolerance: float = TOLERANCE,
) -> None:
    """Hold the example's loss and its gradients (outputs, then the parameters of `own`) to the library's.

    `reads` begins the names of the outputs that must get a gradient, so that two zeros cannot pass for agreement.
    """
    step = call(method, case)
    leaves = case.leaves()
    ours = gradients(step.loss, leaves)
    theirs = gradients(loss, leaves)
    assert deviation(loss, step.loss) <= tolerance
    for name in leaves:
        assert deviation(theirs[name], ours[name]) <= tolerance, name
    for prefix in reads:
        assert any(bool((theirs[name] != 0).any()) for name in leaves if name.startswith(prefix)), prefix
    if own is not None:
        mine = gradients(step.loss, dict(method.named_parameters()))
        other = gradients(loss, dict(own.named_parameters()))
        for (name, expected), found in zip(mine.items(), other.values(), strict=True):
            assert deviation(found, expected) <= tolerance, name
            assert bool((found != 0).any()), name


@pytest.mark.parametrize("T", [1.0, 3.0])
@pytest.mark.parametrize("m", [2, 4])
def test_dml_is_the_library_s(m: int, T: float) -> None:
    case = make_case(m=m, seed=40)
    loss = example("dml").dml_loss(case.logits, case.labels, T)
    hold_equal(case, build("dml", case, temperature=T), loss)


@pytest.mark.parametrize("name", ["cl_ilr", "clnn"])
@pytest.mark.parametrize("fraction", [0.1, 0.9])
def test_collaborative_is_the_library_s_during_and_after_the_ramp_up(name: str, fraction: float) -> None:
    case, file = make_case(m=4, seed=41, fraction=fraction), example("collaborative")
    ramp = file.ramp_up(case.progress.epoch, case.progress.epochs)
    hold_equal(case, build(name, case), file.collaborative_loss(case.logits, case.labels, ramp=ramp))


@pytest.mark.parametrize("splits", [(2, 2), (1, 4), (3, 2)], ids=str)
def test_the_tree_divides_gradients_where_the_library_s_does(splits: tuple[int, int]) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        file = example("collaborative")
        tree, images = file.Tree(splits, width=2).double(), torch.randn(5, 1, 8, 8, dtype=torch.float64)
        plain = nn.Sequential(OrderedDict(trunk=tree.trunk, middle=tree.middles[0], head=tree.heads[0]))
        forks = {name: n for name, n in zip(("middle", "head"), splits, strict=True) if n > 1}
        group = TreeGroup(plain, forks, torch.Generator().manual_seed(0)).double()
    method = methods.build("clnn", group)
    labels = torch.arange(5)
    progress = make_case().progress
    pairs: list[tuple[nn.Module, dict[str, nn.Module]]] = []
    for p in range(math.prod(splits)):
        parts = {"trunk": tree.trunk, "middle": tree.middles[p // splits[1]], "head": tree.heads[p]}
        pairs += [(segment, parts) for segment in group.path(p)]
    for segment, parts in pairs:
        segment.load_state_dict(
            {k: parts[k.split(".")[0]].state_dict()[k.partition(".")[2]] for k in segment.state_dict()}
        )

    step = method(group(images), labels, progress)
    step.loss.backward()
    ramp = file.ramp_up(progress.epoch, progress.epochs)
    file.collaborative_loss(tree(images), labels, ramp=ramp).backward()
    for segment, parts in pairs:
        for k, value in segment.named_parameters():
            found = parts[k.split(".")[0]].get_parameter(k.partition(".")[2]).grad
            assert bool((found != 0).any()), k
            assert deviation(found, value.grad) <= TOLERANCE, k


@pytest.mark.parametrize("fraction", [0.1, 0.9])
def test_one_is_the_library_s_with_its_gate(fraction: float) -> None:
    case, file = make_case(m=3, seed=42, B=6, fraction=fraction), example("one")
    method = build("one", case)
    gate = copy_parameters(method, file.Gate(width=8, branches=3))
    ramp = file.ramp_up(case.progress.epoch, case.progress.epochs)
    loss = file.one_loss(case.logits, case.trunk, case.labels, gate, ramp=ramp)
    hold_equal(case, method, loss, own=gate, reads=("logits", "trunk"))


@pytest.mark.parametrize("fraction", [0.1, 0.9])
@pytest.mark.parametrize(
    ("m", "options"),
    [(m, {}) for m in (2, 3, 4, 5)] + [(m, {"include_self": s}) for m in (2, 3, 5) for s in (True, False)],
    ids=str,
)
def test_okddip_is_the_library_s_with_its_attention(m: int, options: dict, fraction: float) -> None:
    case, file = make_case(m=m, seed=43, fraction=fraction), example("okddip")
    method = build("okddip", case, **options)
    attention = copy_parameters(method, file.Attention(width=16))
    ramp = file.ramp_up(case.progress.epoch, case.progress.epochs)
    loss = file.okddip_loss(case.logits, torch.stack(case.features), case.labels, attention, ramp=ramp, **options)
    # The attention has something to learn where a peer can choose: one alone cannot, nor two that have each other.
    chooses = m > 3 or (m == 3 and options.get("include_self", False))
    reads = ("logits", "feature 0", f"feature {m - 2}") if chooses else ("logits",)
    hold_equal(case, method, loss, own=attention if chooses else None, reads=reads)


def test_okddip_s_include_self_is_the_library_s_by_default() -> None:
    stated = inspect.signature(example("okddip").okddip_loss).parameters["include_self"].default
    assert stated is build("okddip", make_case(m=4)).include_self is False


@pytest.mark.parametrize("teachers", [1, 3])
def test_kd_is_the_library_s(teachers: int) -> None:
    case = make_case(m=2, seed=44, teachers=teachers)
    loss = example("kd").kd_loss(case.logits, case.teachers, case.labels, T=4.0, weight=0.7)
    hold_equal(case, build("kd", case, weight=0.7), loss)


@pytest.mark.parametrize("rule", ["naive", "minlogit"])
@pytest.mark.parametrize("m", [2, 4])
def test_kdcl_s_rules_for_a_sample_are_the_library_s(rule: str, m: int) -> None:
    case, file = make_case(m=m, seed=45, B=8), example("kdcl")
    target = getattr(file, rule)(case.logits, case.labels)
    loss = file.kdcl_loss(case.logits, target, case.labels, weight=0.7)
    hold_equal(case, build(f"kdcl_{rule}", case, weight=0.7), loss)


@pytest.mark.parametrize("alike", [False, True], ids=["regular", "two students nearly alike"])
def test_kdcl_s_general_rule_is_the_library_s_with_the_weights_of_held_out_images(alike: bool) -> None:
    case, held_out, file = make_case(m=4, seed=46), make_case(m=4, seed=47, B=40), example("kdcl")
    prob = held_out.logits.detach().softmax(-1)
    # With its labels half right no student is idle or alone.
    labels = torch.where(torch.arange(40) % 2 == 0, prob.mean(0).argmax(-1), held_out.labels)
    if alike:
        prob[1] = 0.99 * prob[0] + 0.01 * prob[1]
    method = build("kdcl_general", case)
    even = file.general(case.logits, torch.full((4,), 0.25, dtype=torch.float64))
    hold_equal(case, method, file.kdcl_loss(case.logits, even, case.labels))
    method.renew(prob, labels)
    weights = file.general_weights(prob, labels)
    assert deviation(weights, method.weights_P) <= TOLERANCE
    assert float(weights.max()) < 0.99
    hold_equal(case, method, file.kdcl_loss(case.logits, file.general(case.logits, weights), case.labels))


@pytest.mark.parametrize("scale", [0.5, 2.0, 10.0])
@pytest.mark.parametrize("m", [2, 4])
def test_kdcl_s_linear_rule_reaches_the_library_s_minimum_to_the_stated_accuracy(m: int, scale: float) -> None:
    case, file = make_case(m=m, C=10, seed=48, B=32, scale=scale), example("kdcl")
    assert f"{STATED:.0e}".replace("e-0", "e-") + " nats" in file.__doc__
    exact, weights = targets.linear(case.logits, case.labels)
    assert ((weights > 0.01).sum(0) > 1).any()
    own = file.linear(case.logits, case.labels).detach()
    found = functional.cross_entropy(own, case.labels, reduction="none")
    minimum = functional.cross_entropy(exact, case.labels, reduction="none")
    assert float((found - minimum).max()) <= STATED
    assert float((minimum - found).max()) <= CERTIFIED


def test_kdcl_with_the_linear_rule_is_the_library_s() -> None:
    case, file = make_case(m=3, C=10, seed=49, B=16), example("kdcl")
    method = build("kdcl_linear", case)
    # With one and the same target nothing is left of the solvers' accuracy.
    exact = targets.linear(case.logits, case.labels)[0]
    hold_equal(case, method, file.kdcl_loss(case.logits, exact, case.labels))
    # KL(optimum, found) is at most the cross-entropy's distance e from the minimum, since the problem is convex; so a
    # probability is off by sqrt(e / 2) at most (Pinsker), on either side.
    own = file.kdcl_loss(case.logits, file.linear(case.logits, case.labels), case.labels, T=1.0)
    tolerance = (STATED / 2) ** 0.5 + (CERTIFIED / 2) ** 0.5
    hold_equal(case, build("kdcl_linear", case, temperature=1.0), own, tolerance=tolerance)


@pytest.mark.parametrize(
    ("name", "lines"),
    [("dml", 2), ("collaborative", 2), ("one", 3), ("okddip", 3), ("kd", 4), ("kdcl", 4), ("own_loop", 3)],
)
def test_an_example_trains_and_prints_errors_of_students_and_ensemble(name: str, lines: int, capsys) -> None:
    with torch.random.fork_rng():
        example(name).main(epochs=1)
    printed = [line for line in capsys.readouterr().out.splitlines() if " %" in line]
    assert len(printed) == lines
    errors = [float(value) for value in re.findall(r"([\d.]+) %", "\n".join(printed))]
    # Guessing is wrong in 90 of 100; batch norm's statistics lag so far behind after one epoch that some still guess.
    assert min(errors) < 80
    assert max(errors) <= 100
    assert any("ensemble" in line for line in printed)


def test_plain_examples_import_nothing_of_codistill() -> None:
    plain = {"dml", "collaborative", "one", "okddip", "kd", "kdcl"}
    importing = {
        p.stem for p in (ROOT / "examples").glob("*.py") if re.search(r"^(from|import) codistill", p.read_text(), re.M)
    }
    assert {p.stem for p in (ROOT / "examples").glob("*.py")} == plain | {
        "own_loop",
        "own_method",
        "segmentation",
        "language_model",
    }
    assert not importing & plain


def own_method_by_loops(logits: Tensor, labels: Tensor, T: float) -> Tensor:
    """The equation of examples/own_method.py, one sample and one student at a time."""
    P, B, C = logits.shape
    total = logits.new_zeros(())
    for n in range(B):
        prob = [logits[i, n].detach().softmax(-1) for i in range(P)]
        entropy = [-sum(float(q) * math.log(float(q)) for q in p) for p in prob]
        for i in range(P):
            k = min((j for j in range(P) if j != i), key=lambda j: entropy[j])
            target = (logits[k, n].detach() / T).softmax(-1)
            kl = (target * (target.log() - (logits[i, n] / T).log_softmax(-1))).sum()
            total = total - logits[i, n].log_softmax(-1)[labels[n]] + T**2 * (1 - entropy[k] / math.log(C)) * kl
    return total / B


@pytest.mark.parametrize("m", [2, 4])
def test_own_method_is_its_equation(m: int) -> None:
    case = make_case(m=m, seed=50, B=6)
    method = methods.build(OWN, case.shape, temperature=3.0)
    hold_equal(case, method, own_method_by_loops(case.logits, case.labels, 3.0))
    listens = call(method, case).diagnostics["attention"]
    assert listens.sum(1).tolist() == pytest.approx([1.0] * m)
    assert listens.diagonal().tolist() == [0.0] * m
    # All but the most certain student of a sample learn from the same one.
    assert float(listens.max()) > 0.3


def test_own_method_trains_from_the_command_line_with_its_option(tmp_path: Path) -> None:
    out = tmp_path / "run"
    size = ["--model", "resnet8_tiny", "--peers", "3", "--train-subset", "100", "--batch-size", "50", "--epochs", "1"]
    option = ["--set", "method_options.temperature=3"]
    main(["train", "--method", OWN, *size, "--device", "cpu", "--out", str(out), *option])
    assert json.loads((out / "summary.json").read_text())["label"] == "MostCertainPeer"
    line = json.loads((out / "metrics.jsonl").read_text())
    assert line["train"]["parts"].keys() == {"ce", "kd"}
    assert line["train"]["parts"]["kd"] > 0
    assert [sum(row) for row in line["diagnostics"]["attention"]] == pytest.approx([1.0] * 3)
    assert re.search(r"temperature: 3\b", (out / "config.yaml").read_text())


def test_own_method_trains_from_python(quick, digits, tmp_path: Path) -> None:
    config = dataclasses.replace(quick, method=OWN, method_options={"temperature": 3.0}, epochs=1, out=tmp_path / "run")
    result = train(config, dataset=digits)
    assert 0 <= result.test_error < 100
    assert result.summary["headline"] == "mean"


def test_own_method_names_its_option_and_refuses_a_wrong_value() -> None:
    assert methods.options(OWN) == {"temperature": 2.0}
    with pytest.raises(UserError, match=r"temperature 0\.0: it must be greater than 0; try 1 to 4\."):
        methods.build(OWN, make_case().shape, temperature=0)


def test_own_method_has_at_most_25_lines() -> None:
    (shown,) = (n for n in ast.parse(Path(OWN.rpartition(":")[0]).read_text()).body if isinstance(n, ast.ClassDef))
    assert shown.name == "MostCertainPeer"
    assert shown.end_lineno - shown.lineno + 1 <= 25


def test_the_page_shows_the_file_as_it_is() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    assert blocks[0] == (ROOT / "examples" / "own_method.py").read_text(encoding="utf-8")


def test_the_tests_on_the_page_pass(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    scope: dict = {}
    exec(compile(blocks[-1], str(PAGE), "exec"), scope)
    tests = [function for name, function in scope.items() if name.startswith("test_")]
    assert len(tests) == 3
    for function in tests:
        function()
