"""Classification as a run's task: whose score counts, what ranks epochs, and what becomes of labels."""

import math

import torch

from codistill.data import AugmentPolicy
from codistill.rundir import Bins, Evaluation, Score
from codistill.training.task import Classification
from codistill.types import GroupShape

THREE = Classification(GroupShape(3, 4, (8,) * 3))
ONE = Classification(GroupShape(1, 4, (8,)))


def score(error, nll=1.0):
    return Score(top1_error=error, top5_error=None, nll=nll, ece=0.0)


def evaluation(*peers):
    bins = Bins(count=(1,), confidence=(1.0,), accuracy=(1.0,))
    return Evaluation(
        images=1, peers=peers, mean=score(5.0, 0.5), leader_peer=0, leader=peers[0], ensemble=peers[0],
        ensemble_logits=peers[0], diversity=None, reliability={"leader": bins, "ensemble": bins},
    )  # fmt: skip


def test_epochs_are_ranked_by_the_headline_and_then_by_its_nll():
    found = evaluation(score(3.0, 0.25), score(7.0))
    assert THREE.rank(found, "leader") == (3.0, 0.25)
    assert THREE.rank(found, "mean") == (5.0, 0.5)


def test_the_headline_is_the_leaders_or_that_of_the_only_network():
    assert (THREE.headline(2), THREE.headline(0), THREE.headline(None)) == ("leader", "leader", "mean")
    assert ONE.headline(None) == "leader"


def test_one_diverged_student_makes_the_likelihood_of_all_nan():
    assert THREE.likelihood(evaluation(score(1.0, 0.5), score(2.0, 1.5))) == 2.0
    assert math.isnan(THREE.likelihood(evaluation(score(1.0, 0.5), score(2.0, math.nan))))


def test_labels_are_mixed_only_if_the_policy_says_so():
    views, labels = (torch.randn(8, 1, 6, 6),), torch.arange(8) % 4
    generator = torch.Generator().manual_seed(0)
    same, learned, counted = THREE.mix(views, labels, AugmentPolicy(0, False), generator)
    assert same is views
    assert learned is labels
    assert counted is labels
    mixed, learned, counted = THREE.mix(views, labels, AugmentPolicy(0, False, ("mixup",)), generator)
    assert not torch.equal(mixed[0], views[0])
    assert learned.shape == (8, 4)
    assert torch.equal(counted, learned.argmax(-1))
