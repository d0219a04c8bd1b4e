"""Many runs at once: finished ones are kept, interrupted ones go on, a failed one does not stop the others."""

import dataclasses
import io
import json

import pytest
from rich.console import Console

from codistill.studies import run_cells
from codistill.studies.demo import Demo, cells
from codistill.training import Config, OptimConfig, Silent, train


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    base = Config(
        model="resnet8_tiny",
        data="digits",
        train_subset=100,
        epochs=2,
        batch_size=50,
        device="cpu",
        threads=1,
        optim=OptimConfig(lr=0.05),
    )
    root = tmp_path_factory.mktemp("study")
    return [
        dataclasses.replace(base, method="baseline", peers=1, out=root / "done"),
        dataclasses.replace(base, method="dml", peers=2, out=root / "interrupted"),
        dataclasses.replace(base, method="dml", peers=2, out=root / "wrong", method_options={"temperature": -1.0}),
        dataclasses.replace(base, method="ind", peers=2, out=root / "fresh"),
    ]


def test_a_study_keeps_resumes_reports_and_goes_on(study):
    class Stop(Silent):
        def on_step(self, session, step, steps):
            if session.epoch == 1:
                raise KeyboardInterrupt

    train(study[0])
    with pytest.raises(KeyboardInterrupt):
        train(study[1], observers=[Stop()])
    written = (study[0].out / "summary.json").stat().st_mtime_ns
    first_line = (study[1].out / "metrics.jsonl").read_text().splitlines()[0]
    screen = io.StringIO()
    results = run_cells(study, 2, Console(file=screen, width=200))
    assert [r.kept for r in results] == [True, False, False, False]
    assert (study[0].out / "summary.json").stat().st_mtime_ns == written
    lines = (study[1].out / "metrics.jsonl").read_text().splitlines()
    assert lines[0] == first_line
    assert len(lines) == 2
    assert "temperature -1.0: it must be greater than 0" in results[2].error
    assert "temperature -1.0" in (study[2].out / "log.txt").read_text()
    assert json.loads((study[3].out / "summary.json").read_text())["method"] == "ind"
    assert "[4/4]" in screen.getvalue()
    assert "kept from an earlier call" in screen.getvalue()


def test_the_demo_compares_seven_variants_under_one_protocol(tmp_path):
    runs = cells(Demo(out=tmp_path))
    assert len(runs) == 21
    assert len({c.out for c in runs}) == 21
    shared = {(c.model, c.data, c.epochs, c.batch_size, c.validation, c.optim, c.train_subset) for c in runs}
    assert len(shared) == 1
    assert {c.seed for c in runs} == {0, 1, 2}
    first = [(c.method, c.group, c.icl, c.peers) for c in runs[:7]]
    assert first == [
        ("baseline", "networks", False, 1),
        ("ind", "networks", False, 4),
        ("dml", "networks", False, 4),
        ("okddip", "networks", False, 4),
        ("okddip", "branches", False, 4),
        ("kdcl_minlogit", "networks", False, 4),
        ("kdcl_minlogit", "networks", True, 4),
    ]
