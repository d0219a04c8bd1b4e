"""A group and its method as one module: the executor's gradients, the position, the averages, and what is forgotten."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional

import probes
from codistill import Joint, Progress, UserError, methods
from codistill.execution import build
from codistill.methods import METHODS
from codistill.peers import NetworkGroup, Teachers

KINDS = {"cl_ilr": "branches", "one": "branches", "clnn": "tree"}
PARTIAL = {"switokd"}
"""Methods that move only some of the students, which a single backward pass cannot do."""


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def made(name, dtype=torch.float64, **options):
    """Group, method and teachers."""
    peers = {"baseline": 1, "switokd": 2}.get(name, probes.PEERS)
    example = torch.zeros(2, 3, probes.SIZE, probes.SIZE)
    if peers == probes.PEERS:
        group = probes.group_of(KINDS.get(name, "networks"))
    else:
        group = NetworkGroup([probes.staged(peer) for peer in range(peers)], example=example)
    teachers = [probes.staged(8).to(dtype)] if name == "kd" else []
    method = methods.build(
        name, group.to(dtype), teachers=len(teachers), generator=torch.Generator().manual_seed(0), **options
    )
    return group, method.to(dtype), teachers


def joint_of(name="okddip", epochs=10, steps=4, dtype=torch.float64, options=None, **given):
    group, method, teachers = made(name, dtype, **(options or {}))
    return Joint(group, method, epochs, steps, teachers=teachers, **given)


def batch(dtype=torch.float64, images=6):
    (views,), labels = probes.batch_of(images)
    return views.to(dtype), labels


def train(joint, steps=1, lr=0.1, optimizer=None):
    optimizer = optimizer or torch.optim.SGD(joint.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        joint(*batch(next(joint.group.parameters()).dtype)).loss.backward()
        optimizer.step()


def assert_same_gradients(module, other):
    pairs = list(zip(module.parameters(), other.parameters(), strict=True))
    assert any(p.grad is not None and p.grad.any() for p, _ in pairs)
    for p, q in pairs:
        assert (p.grad is None) == (q.grad is None)
        assert p.grad is None or torch.equal(p.grad, q.grad)


@pytest.mark.parametrize("amp", [False, True], ids=["fp64", "autocast"])
@pytest.mark.parametrize("name", [name for name in METHODS if name not in PARTIAL])
def test_losses_and_gradients_are_those_of_the_executor_loop_to_the_bit(name, amp):
    dtype = torch.float32 if amp else torch.float64
    group, method, teachers = made(name, dtype)
    twins = copy.deepcopy((group, method, teachers))
    executor = build("loop", *twins[:2], teachers=twins[2], amp="bf16" if amp else "off")
    joint = Joint(group, method, 10, 4, teachers=teachers)
    executor.train()
    views, labels = batch(dtype)
    optimizers = [torch.optim.SGD(owner.parameters(), lr=0.1, momentum=0.9) for owner in (joint, executor)]
    for step in range(3):
        for optimizer in optimizers:
            optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            out = joint(views, labels)
        out.loss.backward()
        wanted, outputs = executor.train_step(views, labels, Progress(step / 4, 10))
        assert out.loss.dtype == out.logits.dtype == out.logits_BPC.dtype == dtype
        assert torch.equal(out.loss, wanted.loss)
        assert torch.equal(out.logits_BPC.movedim(1, 0), outputs.logits_PBC)
        assert torch.equal(out.loss_by_peer, wanted.loss_by_peer)
        assert out.parts.keys() == wanted.parts.keys()
        assert_same_gradients(group, executor.group)
        if list(method.parameters()):
            assert_same_gradients(method, executor.method)
        for optimizer in optimizers:
            optimizer.step()
        executor.after_step()


def test_heads_maps_the_mixed_network_and_averages_are_provided_as_by_the_executor(tmp_path):
    for name in (f"{probes.write_probes(tmp_path)}:{kind}" for kind in ("Maps", "Heads", "Mixed", "Averaged")):
        group = probes.group_of("networks")
        method = methods.build(name, group).double()
        executor = build("loop", *copy.deepcopy((group, method)))
        joint = Joint(group, method, 10, 4)
        executor.train()
        views, labels = batch()
        for _ in range(2):
            out = joint(views, labels)
            out.loss.backward()
            step, _ = executor.train_step(views, labels, Progress(0, 10))
            assert torch.equal(out.loss, step.loss)
            assert_same_gradients(group, executor.group)


class TestAverages:
    def expected(self, steps):
        group, method, _ = made("pcl")
        executor = build("loop", group, method)
        executor.train()
        optimizer = torch.optim.SGD(executor.parameters(), lr=0.1)
        for step in range(steps):
            optimizer.zero_grad()
            executor.train_step(*batch(), Progress(step / 4, 10))
            optimizer.step()
            executor.after_step()
        return executor

    def assert_like(self, joint, executor):
        state = joint.state_dict()  # takes in the last step
        assert joint.averages.steps == executor.averages.steps
        for name, value in executor.averages.group.state_dict().items():
            assert torch.equal(state[f"averages.group.{name}"], value), name

    def test_they_follow_each_step_of_the_optimizer(self):
        joint = joint_of("pcl")
        train(joint, 3)
        self.assert_like(joint, self.expected(3))

    def test_they_do_not_follow_batches_whose_gradients_are_accumulated(self):
        joint = joint_of("pcl")
        optimizer = torch.optim.SGD(joint.parameters(), lr=0.1)
        for number in range(6):
            joint(*batch()).loss.backward()
            if number % 2:
                optimizer.step()
        joint.state_dict()
        assert joint.averages.steps == 3

    def test_an_optimizer_that_writes_to_data_is_announced(self):
        joint = joint_of("pcl")
        for _ in range(2):
            joint.zero_grad()
            joint(*batch()).loss.backward()
            for p in joint.parameters():
                if p.grad is not None:
                    p.data.add_(p.grad, alpha=-0.1)
            joint.after_step()
        self.assert_like(joint, self.expected(2))

    def test_weights_that_change_without_training_are_no_step(self):
        joint = joint_of("pcl")
        with torch.no_grad():
            for p in joint.group.parameters():
                p.copy_(p.clone())  # as DistributedDataParallel does when it begins
        joint(*batch())
        assert joint.averages.steps == 0

    def test_loading_and_moving_are_no_steps(self):
        joint = joint_of("pcl")
        train(joint, 2)
        state = copy.deepcopy(joint.state_dict())
        train(joint, 1)  # a step that nothing has followed yet
        joint.load_state_dict(state)
        joint(*batch())
        assert joint.averages.steps == 2
        train(joint, 1)
        joint.float().double()
        joint(*batch())
        assert joint.averages.steps == 3

    def test_they_are_what_is_scored_and_handed_back(self):
        joint = joint_of("dml", average=0.5)
        train(joint, 3)
        student = joint.student(1)
        joint.eval()
        views, _ = batch()
        with torch.no_grad():
            wanted, peer = joint.averages.group.networks[1](views), joint.group.networks[1](views)
            assert torch.equal(student.eval()(views), wanted)
            assert torch.equal(joint(views).logits_BPC[:, 1], wanted.float())
        assert not torch.equal(wanted, peer)

    def test_they_stay_in_evaluation_mode_and_count_in_integers(self):
        joint = joint_of("pcl")
        assert joint.train().training
        assert not any(module.training for module in joint.averages.modules())
        assert joint.bfloat16().averages._steps.dtype == torch.int64


class TestPosition:
    def seen(self, joint, steps):
        """What the method is told in each of some steps."""
        told = []
        forward = joint.method.forward
        joint.method.forward = lambda outputs, labels, progress, *rest: (
            told.append(progress.epoch) or forward(outputs, labels, progress, *rest)
        )
        for _ in range(steps):
            joint(*batch()).loss.backward()
        del joint.method.forward
        return told

    def test_it_advances_with_every_batch_in_training(self):
        assert self.seen(joint_of(), 6) == [0, 0.25, 0.5, 0.75, 1, 1.25]

    def test_what_does_not_train_does_not_count(self):
        joint = joint_of()
        with torch.no_grad():
            joint(*batch())
        joint.eval()
        joint(*batch())
        joint.train()
        with pytest.warns(UserWarning, match="got no labels"):
            joint(batch()[0])
        assert joint.position.epoch == 0

    def test_the_user_may_set_it(self):
        joint = joint_of(steps=None)
        joint.set_epoch(3)
        assert self.seen(joint, 2) == [3, 3]
        counting = joint_of()
        counting.set_epoch(2.5)
        assert self.seen(counting, 2) == [2.5, 2.75]

    def test_a_checkpoint_holds_it(self):
        joint, other = joint_of(), joint_of()
        train(joint, 5)
        other.load_state_dict(joint.state_dict())
        assert other.position.epoch == 1.25
        assert self.seen(other, 1) == [1.25]

    @pytest.mark.parametrize(("given", "value"), [({"epochs": 0}, "epochs 0"), ({"steps": -1}, "steps_per_epoch -1")])
    def test_numbers_out_of_range_are_refused(self, given, value):
        with pytest.raises(UserError, match=f"{value}: give a number above 0"):
            joint_of(**given)
        with pytest.raises(UserError, match="epoch -1: give the number of epochs done"):
            joint_of().set_epoch(-1)


class TestForgotten:
    def test_parameters_of_the_method_that_the_optimizer_lacks(self):
        joint = joint_of()
        optimizer = torch.optim.SGD(joint.group.parameters(), lr=0.1)
        with pytest.raises(UserError, match=r"the optimizer lacks 'method.*' and 1 more of the \d+ parameters"):
            joint.check(optimizer)
        with pytest.warns(UserWarning, match="OKDDip have not changed in 2 steps that moved the students") as seen:
            train(joint, 5, optimizer=optimizer)
        assert len(seen) == 1

    def test_an_optimizer_that_holds_everything_passes(self):
        joint = joint_of("kd")
        joint.check(torch.optim.SGD(joint.parameters(), lr=0.1))
        joint.check(torch.optim.SGD([p for p in joint.parameters() if p.requires_grad], lr=0.1))

    def test_a_position_that_nobody_advances(self):
        joint = joint_of(steps=None)
        with pytest.warns(UserWarning, match="does not know how far the training is.*steps_per_epoch=len") as seen:
            train(joint, 3)
        assert len(seen) == 1

    def test_a_position_that_runs_past_its_end(self):
        joint = joint_of(epochs=1)
        train(joint, 4)
        with pytest.warns(UserWarning, match="trains beyond its 1 epochs of 4 steps, each a batch") as seen:
            train(joint, 3)
        assert len(seen) == 1

    def test_training_in_evaluation_mode(self):
        joint = joint_of().eval()
        joint(*batch())  # without backward, this is an evaluation that somebody runs with gradients enabled
        with pytest.warns(UserWarning, match=r"evaluation mode.*call joint.train\(\) before training") as seen:
            train(joint, 2)
        assert len(seen) == 1

    def test_labels_in_training(self):
        joint = joint_of()
        with pytest.warns(UserWarning, match="in training mode and got no labels") as seen:
            losses = [joint(batch()[0]).loss for _ in range(2)]
        assert losses == [None, None]
        assert len(seen) == 1

    def test_held_out_images(self):
        joint = joint_of("kdcl_general", steps=2)
        held_out = [batch(), batch()]
        train(joint, 2)
        joint.renew(held_out)
        train(joint, 3)
        with pytest.warns(UserWarning, match="has seen no held-out images for more than an epoch") as seen:
            train(joint, 3)
        assert len(seen) == 1

    def test_nothing_is_said_of_a_training_without_fault(self):
        for name in ("okddip", "dml", "pcl"):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                joint = joint_of(name, epochs=3)
                train(joint, 12)
                joint.eval()
                joint(*batch())


class TestEvaluation:
    def test_the_loss_is_the_mean_cross_entropy_and_the_logits_are_the_leaders(self):
        joint = joint_of().eval()
        views, labels = batch()
        out = joint(views, labels)
        each = [functional.cross_entropy(net(views), labels).detach() for net in joint.group.networks]
        assert float(out.loss.detach()) == pytest.approx(float(sum(each)) / len(each), rel=1e-12)
        assert out.loss_by_peer.tolist() == pytest.approx([float(value) for value in each], rel=1e-12)
        assert torch.equal(out.logits, joint.group.networks[-1](views))
        assert out[0] is out.loss
        assert out[1] is out.logits
        assert not out.logits.requires_grad

    def test_without_a_leader_the_logits_are_those_of_the_ensemble_or_of_the_peer_that_was_chosen(self):
        views, labels = batch()
        joint = joint_of("dml").eval()
        out = joint(views, labels)
        prob = torch.stack([net(views).softmax(-1) for net in joint.group.networks]).mean(0)
        assert torch.allclose(out.logits.exp(), prob, rtol=1e-12)
        chosen = joint_of("dml", peer=2).eval()
        assert torch.equal(chosen(views).logits, chosen.group.networks[2](views))

    def test_weights_and_ignored_labels_count_as_in_training(self):
        joint = joint_of("ind", ignore_index=0)
        views, _ = batch()
        labels, weights = torch.tensor([0, 1, 2, 3, 4, 0]), torch.tensor([9.0, 1, 2, 3, 4, 9]).double()
        trained = joint(views, labels, weights)
        for layer in joint.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum, layer.track_running_stats, layer.running_mean, layer.running_var = (
                    0.1,
                    False,
                    None,
                    None,
                )
        scored = joint.eval()(views, labels, weights)
        assert float(scored.loss.detach()) == pytest.approx(float(trained.loss.detach()) / probes.PEERS, rel=1e-12)

    def test_probabilities_as_labels(self):
        views, labels = batch()
        soft = functional.one_hot(labels, probes.CLASSES).double()
        joint = joint_of("dml").eval()
        assert torch.equal(joint(views, soft).loss, joint(views, labels).loss)


class TestNames:
    @pytest.mark.parametrize("name", ["inputs", "pixel_values", "input_ids", "x"])
    def test_inputs_may_have_several(self, name):
        joint = joint_of("dml", input_name="x", label_name="y").eval()
        views, labels = batch()
        assert torch.equal(joint(**{name: views}, y=labels).loss, joint(views, labels).loss)

    def test_what_is_ignored_is_said_once(self):
        joint = joint_of("dml").eval()
        views, labels = batch()
        with pytest.warns(UserWarning, match="the Joint ignores attention_mask: its networks get the inputs") as seen:
            [joint(views, labels, attention_mask=labels, num_items_in_batch=None) for _ in range(3)]
        assert len(seen) == 1

    def test_inputs_must_come_once(self):
        joint = joint_of("dml")
        views, labels = batch()
        with pytest.raises(UserError, match="got inputs as inputs and pixel_values: give them by one name"):
            joint(views, pixel_values=views)
        with pytest.raises(UserError, match="got no inputs but image, labels: give them first, by one of the names"):
            joint(image=views, labels=labels)

    def test_the_trainer_of_transformers_is_told_to_divide_the_loss(self):
        assert Joint.accepts_loss_kwargs is False


class Language(nn.Module):
    """Logits [B, T, C] of tokens; with its head tied to its embedding."""

    def __init__(self, seed):
        super().__init__()
        self.embedding = nn.Embedding(7, 5)
        self.head = nn.Linear(5, 7, bias=False)
        with torch.no_grad():
            self.head.weight.copy_(torch.randn(7, 5, generator=torch.Generator().manual_seed(seed)))
        self.embedding.weight = self.head.weight

    def forward(self, tokens):
        return self.head(self.embedding(tokens).cumsum(1))


def language_group():
    nets = [Language(seed) for seed in range(4)]
    return NetworkGroup(nets, output=lambda logits: logits, example=torch.zeros(2, 3, dtype=torch.long)).double()


class TestLanguageModels:
    @pytest.mark.parametrize("name", ["okddip", "dml", "kdcl_linear"])
    def test_shifted_labels_are_those_of_the_next_position(self, name):
        tokens = torch.randint(7, (3, 6), generator=torch.Generator().manual_seed(0))
        labels = tokens.clone()
        labels[0, 4:] = -100
        results = []
        for shift in (True, False):
            group = language_group()
            method = methods.build(name, group, generator=torch.Generator().manual_seed(0)).double()
            joint = Joint(group, method, 10, 4, shift_labels=shift, ignore_index=None if shift else -100)
            by_hand = torch.cat([labels[:, 1:], torch.full((3, 1), -100)], 1)
            loss = joint(input_ids=tokens, labels=labels if shift else by_hand).loss
            loss.backward()
            results.append((loss, group))
        assert torch.equal(results[0][0], results[1][0])
        assert_same_gradients(results[0][1], results[1][1])

    def test_the_loss_is_that_of_causal_language_models(self):
        group = language_group()
        joint = Joint(group, methods.build("ind", group), 1, 1, shift_labels=True).eval()
        tokens = torch.randint(7, (3, 6), generator=torch.Generator().manual_seed(0))
        logits = group.networks[0](tokens)[:, :-1].flatten(0, 1)
        wanted = functional.cross_entropy(logits.detach(), tokens[:, 1:].flatten())
        assert float(joint(tokens, tokens).loss_by_peer[0]) == pytest.approx(float(wanted), rel=1e-12)

    def test_labels_without_positions_cannot_be_shifted(self):
        group = language_group()
        joint = Joint(group, methods.build("ind", group), 1, 1, shift_labels=True)
        with pytest.raises(UserError, match=r"shift_labels with labels of shape \[3\]: give one for each token"):
            joint(torch.zeros(3, 6, dtype=torch.long), torch.zeros(3, dtype=torch.long))

    def test_a_state_dict_holds_tied_weights_apart_and_loads_tied(self, tmp_path):
        safetensors = pytest.importorskip("safetensors.torch")
        joints = []
        for _ in range(2):
            group = language_group()
            joints.append(Joint(group, methods.build("ind", group), 1, 4))
        with torch.no_grad():
            joints[0].group.networks[0].head.weight.add_(1)
        joints[0].position.steps = 3
        safetensors.save_file(joints[0].state_dict(), tmp_path / "joint.safetensors")
        joints[1].load_state_dict(safetensors.load_file(tmp_path / "joint.safetensors"))
        net = joints[1].group.networks[0]
        assert net.embedding.weight is net.head.weight
        assert torch.equal(net.head.weight, joints[0].group.networks[0].head.weight)
        assert joints[1].position.epoch == 0.75


class TestLimits:
    def test_students_that_take_turns(self):
        with pytest.raises(UserError, match=r"DML with alternating updates in a Joint.*updates='simultaneous'"):
            joint_of("dml", options={"updates": "alternating"})

    def test_a_step_that_moves_some_of_the_students(self):
        joint = joint_of("switokd")
        with pytest.raises(UserError, match=r"SwitOKD in a Joint: a step moves only some of its students.*execution"):
            joint(*batch())

    def test_another_number_of_teachers(self):
        group, method, _ = made("kd")
        with pytest.raises(UserError, match="0 teachers for a method built for 1: give Joint"):
            Joint(group, method, 1, 1)

    def test_a_peer_that_is_not_there(self):
        with pytest.raises(UserError, match="peer 9 of a group of 4: give 0 to 3, or None for the leader"):
            joint_of(peer=9)

    def test_replicas_of_data_parallel(self):
        replica = joint_of()._replicate_for_data_parallel()
        with pytest.raises(UserError, match=r"wrapped in DataParallel over several devices.*DistributedDataParallel"):
            replica(*batch())

    def test_a_leader_that_the_method_does_not_name(self):
        with pytest.raises(UserError, match="peer 'leader': DML names none; give 0 to 3, by the validation error"):
            joint_of("dml").student()

    def test_renewing_what_needs_no_renewal(self):
        with pytest.raises(UserError, match="renew with DML: it takes nothing from held-out images"):
            joint_of("dml").renew([batch()])
        with pytest.raises(UserError, match="renew got no batches"):
            joint_of("kdcl_general").renew([])
        with pytest.raises(UserError, match="renew got a batch without labels"):
            joint_of("kdcl_general").renew([{"pixel_values": batch()[0]}])


def test_renew_shows_the_method_the_probabilities_of_held_out_images_and_keeps_the_modes():
    joint = joint_of("kdcl_general")
    joint.group.networks[0].eval()
    views, labels = batch()
    shown = []
    joint.method.renew = lambda *given: shown.extend(given)
    modes = [module.training for module in joint.modules()]
    joint.renew([(views[:4], labels[:4]), {"pixel_values": views[4:], "labels": labels[4:]}])
    assert [module.training for module in joint.modules()] == modes
    wanted = torch.stack([net.eval()(views).softmax(-1) for net in joint.group.networks])
    assert torch.allclose(shown[0].double(), wanted, atol=1e-6)
    assert torch.equal(shown[1], labels)


def test_renew_leaves_out_ignored_labels_and_a_trainers_autocast_that_has_ended():
    joint = joint_of("kdcl_general", dtype=torch.float32, ignore_index=1)
    views, _ = batch(torch.float32)
    labels = torch.tensor([0, 1, 2, 1, 4, 3])
    with torch.autocast("cpu", torch.bfloat16):
        joint(views, labels)
    shown = []
    joint.method.renew = lambda *given: shown.extend(given)
    joint.renew([(views, labels)])
    wanted = torch.stack([net.eval()(views).softmax(-1) for net in joint.group.networks])
    assert torch.equal(shown[0], wanted[:, labels != 1])
    assert shown[1].tolist() == [0, 2, 4, 3]


def test_the_student_is_the_plain_network_with_its_own_names():
    joint = joint_of()
    student = joint.student()
    assert type(student) is nn.Sequential
    assert student.state_dict().keys() == probes.staged().state_dict().keys()
    assert torch.equal(student.fc.weight, joint.group.networks[3].fc.weight)


def test_teachers_move_with_the_joint_and_are_in_its_state():
    joint = joint_of("kd", dtype=torch.float32)
    assert isinstance(joint.teachers, Teachers)
    assert next(joint.double().teachers.parameters()).dtype == torch.float64
    assert any(name.startswith("teachers.") for name in joint.state_dict())


def test_a_copy_trains_on_its_own():
    joint = joint_of("pcl")
    train(joint, 2)
    other = copy.deepcopy(joint)
    train(other, 1)
    assert (joint.position.epoch, other.position.epoch) == (0.5, 0.75)
    assert not torch.equal(joint.group.networks[0].fc.weight, other.group.networks[0].fc.weight)
    joint.state_dict()
    other.state_dict()
    assert (joint.averages.steps, other.averages.steps) == (2, 3)
