"""ONE's gated ensemble in a run's results: the gate of the trained weights, in evaluation mode."""

import dataclasses

import pytest
import torch

from codistill.console import score_table
from codistill.data import normalise
from codistill.training import train
from codistill.training.evaluate import evaluate_run


class Keep:
    """The last session, and the gate's running means after every epoch's last step and after its validation."""

    def __init__(self):
        self.before, self.after = [], []

    def on_step(self, session, step, steps):
        self.session = session
        if step == steps:
            self.before.append(session.executor.method.gate.norm.running_mean.clone())

    def on_epoch(self, session, record):
        self.after.append(session.executor.method.gate.norm.running_mean.clone())


def test_the_gated_ensemble_of_one_is_scored_beside_the_means(quick, digits, tmp_path):
    config = dataclasses.replace(quick, out=tmp_path / "run", method="one", group="branches", split="4", epochs=2)
    keep = Keep()
    summary = train(config, dataset=digits, observers=[keep]).summary
    last = summary["last"]["test"]
    group, gate = keep.session.executor.group.eval(), keep.session.executor.method.gate.eval()
    with torch.no_grad():
        outputs = group(normalise(digits.test.images_NCHW, digits.mean, digits.std, "cpu"))
        weights = gate(outputs.trunk_features)
        gated = torch.stack([weights[n] @ outputs.logits_PBC[:, n] for n in range(len(weights))])
    nll = torch.nn.functional.cross_entropy(gated, digits.test.labels_N).item()
    assert last["ensemble_own"]["nll"] == pytest.approx(nll, rel=1e-5)
    assert last["ensemble_own"]["nll"] != pytest.approx(last["ensemble_logits"]["nll"], rel=1e-5)
    assert last["ensemble_own"].keys() == last["ensemble"].keys()
    assert evaluate_run(tmp_path / "run", dataset=digits) == last
    assert "ensemble (the method's own)" in list(score_table(last, "test").columns[0].cells)
    # Validation images leave the gate's running statistics as training made them.
    assert all(torch.equal(a, b) for a, b in zip(keep.before, keep.after, strict=True))


def test_methods_without_an_ensemble_of_their_own_have_none(finished_run, digits):
    record = evaluate_run(finished_run, dataset=digits)
    assert record["ensemble_own"] is None
    assert "ensemble (the method's own)" not in list(score_table(record, "test").columns[0].cells)
