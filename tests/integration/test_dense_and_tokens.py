"""Networks whose outputs have positions, pixels and tokens, from the group to the student."""

from __future__ import annotations

import copy
from collections import OrderedDict
from dataclasses import dataclass

import pytest
import torch
from dense_tasks import IGNORED, METHODS, MIDDLE, SEGMENTATION, Task, language, seeded, segmentation
from torch import Tensor, nn
from torch.nn import functional

from codistill import methods
from codistill.errors import UserError
from codistill.peers import BranchedGroup, NetworkGroup
from codistill.types import PeerOutputs


@pytest.fixture(scope="module", params=[segmentation, language], ids=["segmentation", "language"])
def task(request) -> Task:
    return request.param()


@pytest.fixture(scope="module")
def words() -> Task:
    return language()


@pytest.fixture(scope="module")
def pixels() -> Task:
    return segmentation()


def test_logits_are_those_of_the_networks_with_the_classes_last(task):
    group = task.group().eval()
    logits_PBC = group(task.inputs).logits_PBC
    assert logits_PBC.shape == (3, *task.labels.shape, group.shape.num_classes)
    for peer, net in enumerate(group.networks):
        assert torch.equal(logits_PBC[peer], task.logits(net(task.inputs)))


def test_features_keep_the_positions_of_tokens(words):
    group = words.group().eval()
    outputs = group(words.inputs)
    assert group.shape.feature_widths == (64, 64, 64)
    for peer, net in enumerate(group.networks):
        assert outputs.features[peer].shape == (4, 32, 64)
        assert torch.equal(net.lm_head(outputs.features[peer]), outputs.logits_PBC[peer])


def test_features_of_fewer_positions_than_the_logits_are_pooled(pixels):
    group = pixels.group().eval()
    outputs = group(pixels.inputs)
    entered = []
    for net in group.networks:
        net.classifier.high_classifier.register_forward_pre_hook(lambda _, args: entered.append(args[0]))
        net(pixels.inputs)
    for peer, x in enumerate(entered):
        assert x.shape == (4, 128, 8, 8)
        assert torch.equal(outputs.features[peer], x.mean((2, 3)))


@pytest.mark.parametrize("name", METHODS)
def test_training_lowers_the_loss_of_every_peer(task, name):
    group = task.group(3 if name == "okddip" else 2).train()
    method = seeded(name, group)
    optimizer = torch.optim.AdamW([*group.parameters(), *method.parameters()], lr=3e-3)
    losses = []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(6):
            optimizer.zero_grad()
            step = method(group(task.inputs), task.labels, MIDDLE, ignore_index=task.ignore_index)
            step.loss.backward()
            if not losses:
                for net in group.networks:
                    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in head_and_stem(net))
            optimizer.step()
            losses.append(step.loss_by_peer.detach())
    assert (losses[-1] < 0.8 * losses[0]).all()


def head_and_stem(net: nn.Module) -> list[nn.Parameter]:
    parameters = [p for p in net.parameters() if p.ndim > 1]
    return [parameters[0], parameters[-1]]


@pytest.mark.parametrize("name", METHODS)
def test_ignored_pixels_count_for_nothing(pixels, name):
    group = pixels.group().eval()
    method, kept = seeded(name, group), pixels.labels != IGNORED
    assert 0.01 < float((~kept).float().mean()) < 0.2
    outputs = group(pixels.inputs).at_boundary()
    step = method(outputs, pixels.labels, MIDDLE, ignore_index=IGNORED)
    step.loss.backward()
    gradient_PBC = outputs.logits_PBC.grad
    assert not gradient_PBC[:, ~kept].any()
    assert gradient_PBC[:, kept].any(-1).all()
    # The kept pixels alone, as rows like images; each has the features of its image.
    features = tuple(h[kept.nonzero()[:, 0]].detach() for h in outputs.features)
    alone = method(PeerOutputs(outputs.logits_PBC[:, kept].detach(), features), pixels.labels[kept], MIDDLE)
    torch.testing.assert_close(step.loss_by_peer, alone.loss_by_peer, rtol=1e-5, atol=1e-6)


def test_dml_of_the_kept_pixels_is_its_equation(pixels):
    group, kept = pixels.group(2).eval(), pixels.labels != IGNORED
    outputs = group(pixels.inputs)
    step = methods.build("dml", group)(outputs, pixels.labels, MIDDLE, ignore_index=IGNORED)
    logits, labels = [z[kept] for z in outputs.logits_PBC], pixels.labels[kept]
    for i, j in ((0, 1), (1, 0)):
        target = logits[j].detach().softmax(-1)
        kl = functional.kl_div(logits[i].log_softmax(-1), target, reduction="batchmean")
        torch.testing.assert_close(step.loss_by_peer[i], functional.cross_entropy(logits[i], labels) + kl)


def test_okddip_attends_at_every_position_of_a_text(words):
    group = words.group(4).eval()
    method = seeded("okddip", group)
    with torch.no_grad():
        outputs = group(words.inputs)
    dis1 = method(outputs, words.labels, MIDDLE).parts["dis1"]
    h_ABTD, z_ABTC = torch.stack(outputs.features[:3]), outputs.logits_PBC[:3]
    left, right = method.attention.left(h_ABTD).detach(), method.attention.right(h_ABTD).detach()
    score_AABT = torch.einsum("abtd,cbtd->acbt", left, right)
    score_AABT[range(3), range(3)] = -torch.inf
    alpha_AABT, prob_ABTC = score_AABT.softmax(1), (z_ABTC / 3).softmax(-1)
    assert float(alpha_AABT.std(-1).max()) > 0.01
    target_ABTC = torch.einsum("acbt,cbtk->abtk", alpha_AABT, prob_ABTC)
    kl = (target_ABTC * (target_ABTC.log() - (z_ABTC / 3).log_softmax(-1))).sum(-1)
    torch.testing.assert_close(dis1, kl.mean((1, 2)).sum(), rtol=1e-4, atol=1e-7)


def test_students_are_the_plain_networks_with_equal_outputs(task):
    group = task.group().eval()
    with torch.no_grad():
        logits_PBC = group(task.inputs).logits_PBC
        for peer, net in enumerate(group.networks):
            student = group.student(peer)
            assert type(student) is type(net)
            assert student.state_dict().keys() == net.state_dict().keys()
            assert torch.equal(task.logits(student(task.inputs)), logits_PBC[peer])


def test_tied_weights_stay_tied_in_training_and_in_the_student(words):
    group = words.group(2).train()
    optimizer = torch.optim.SGD(group.parameters(), lr=0.1)
    before = group.networks[0].lm_head.weight.detach().clone()
    methods.build("dml", group)(group(words.inputs), words.labels, MIDDLE).loss.backward()
    optimizer.step()
    for net in (group.networks[0], group.student(0)):
        assert net.lm_head.weight is net.transformer.wte.weight
        assert not torch.equal(net.lm_head.weight, before)


class Returns(nn.Module):
    """A network of 1x1 convolutions that returns its logits in one of several forms."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.body, self.head = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 5, 1)

    def forward(self, x: Tensor) -> object:
        logits = self.head(self.body(x).relu())
        if self.form == "dataclass":
            return Returned(logits)
        return {"tensor": logits, "dict": OrderedDict(out=logits), "tuple": (logits,)}[self.form]


@dataclass
class Returned:
    out: Tensor


TAKEN = {
    "tensor": lambda returned: returned,
    "dict": lambda returned: returned["out"],
    "dataclass": lambda returned: returned.out,
    "tuple": lambda returned: returned[0],
}
FORMS = {"tensor": None, "dict": "out", "dataclass": "out", "tuple": lambda returned: returned[0]}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["networks", "branches"])
def test_a_network_may_return_its_logits_in_any_form(form, kind):
    options = {"example": torch.zeros(2, 3, 4, 7), "output": FORMS[form], "class_axis": 1}
    if kind == "networks":
        group = NetworkGroup([Returns(form), Returns(form)], **options)
    else:
        group = BranchedGroup(Returns(form), 2, "head", **options)
    x = torch.randn(2, 3, 4, 7)
    outputs = group.eval()(x)
    assert outputs.features[0].shape == (2, 4, 7, 6)
    for peer in range(2):
        returned = group.student(peer)(x)
        assert torch.equal(outputs.logits_PBC[peer], TAKEN[form](returned).permute(0, 2, 3, 1))


def test_a_segmentation_network_makes_branches(pixels):
    group = BranchedGroup(SEGMENTATION.net(), 3, "backbone.4", example=pixels.inputs[:2], **pixels.options).train()
    assert (group.shape.trunk_width, group.shape.feature_widths) == (24, (128, 128, 128))
    method = methods.build("one", group)
    step = method(group(pixels.inputs), pixels.labels, MIDDLE, ignore_index=IGNORED)
    step.loss.backward()
    assert all(p.grad is not None for p in group.parameters())
    group.eval()
    with torch.no_grad():
        logits_PBC = group(pixels.inputs).logits_PBC
        for peer in range(3):
            student = group.student(peer)
            assert type(student) is type(SEGMENTATION.net())
            assert torch.equal(pixels.logits(student(pixels.inputs)), logits_PBC[peer])


REFUSED_PIXELS = [
    ({"output": None}, "a network returned OrderedDict: a peer must return one tensor of logits [B, C]; name the entry "
     'that holds them, output="out", switch auxiliary outputs off, or wrap the network.'),
    ({"output": "logits"}, "output 'logits': the network returned ['out']; name an entry that is there, "
     'output="out".'),
    ({"class_axis": -1}, "class_axis -1 of LRASPP has 64 entries, but its last linear layer "
     "'classifier.high_classifier' gives 3 classes: set class_axis=1."),
    ({"class_axis": 2}, "class_axis 2: classes lie on axis 1 ([B, C, H, W]) or -1 ([B, T, C])."),
]  # fmt: skip
REFUSED_WORDS = [
    ({"output": "logit"}, "output 'logit': the network returned ['logits']; name an entry that is there, "
     'output="logits".'),
    ({"class_axis": 1}, "class_axis 1 of GPT2LMHeadModel has 32 entries, but its last linear layer 'lm_head' gives 256 "
     "classes: set class_axis=-1."),
    ({"example": None}, "GPT2LMHeadModel takes no images (its first layer, 'transformer.wte', is an embedding): pass "
     "example=, a batch that it accepts, such as torch.zeros(2, 32, dtype=torch.long)."),
    ({"example": torch.zeros(2, 128, dtype=torch.long)}, "GPT2LMHeadModel does not run on zeros of shape [2, 128] "
     "(IndexError: index out of range in self): give an example that it accepts."),
]  # fmt: skip
REFUSED_SPLITS = [
    (segmentation, "backbone.9", "split 'backbone.9' cuts through a skip connection: 2 tensors cross it, from "
     "'backbone.4' and 'backbone.8'; split at the block around it, 'backbone'."),
    (language, "transformer.h.1", "split 'transformer.h.1': torch.fx cannot trace the forward of GPT2LMHeadModel "
     "around it (GPT2LMHeadModel overrides train(), which would not be called); choose a module further out, or remove "
     "that."),
]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [(segmentation, *row) for row in REFUSED_PIXELS] + [(language, *row) for row in REFUSED_WORDS],
)
def test_a_wrong_description_of_the_networks_is_refused(make, options, message):
    task = make()
    with pytest.raises(UserError) as refused:
        NetworkGroup([task.file.net()], **{"example": task.inputs[:2], **task.options, **options})
    assert str(refused.value) == message


@pytest.mark.parametrize(("make", "split", "message"), REFUSED_SPLITS)
def test_a_split_that_cannot_be_is_refused(make, split, message):
    task = make()
    with pytest.raises(UserError) as refused:
        BranchedGroup(task.file.net(), 2, split, example=task.inputs[:2], **task.options)
    assert str(refused.value) == message


def test_positions_of_floats_before_the_classes_must_be_asked_for():
    frames = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5))
    x = torch.zeros(2, 7, 4)
    with pytest.raises(UserError, match=r"positions before the classes: output=lambda logits: logits\)"):
        NetworkGroup([frames], example=x)
    group = NetworkGroup([frames], example=x, output=lambda logits: logits)
    assert group(x).logits_PBC.shape == (1, 2, 7, 5)
    assert group(x).features[0].shape == (2, 7, 6)


def test_a_group_of_texts_can_be_copied(words):
    group = words.group(1).eval()
    assert torch.equal(copy.deepcopy(group)(words.inputs).logits_PBC, group(words.inputs).logits_PBC)
