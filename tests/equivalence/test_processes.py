"""The executor in processes agrees with `loop`, shares what it should, and says what went wrong in a process."""

import copy
import gc
import os
import signal
import time

import pytest
import torch
from torch import nn

from codistill import methods, models
from codistill.errors import UserError
from codistill.execution import ExecutionOptions, LoopExecutor, ProcessExecutor, pool, sharing, worker
from codistill.peers import BranchedGroup, NetworkGroup
from codistill.types import Progress

CLASSES, BATCH = 5, 6


class Odd(nn.Module):
    """A network that fails as it is told to; it does so in the process only, being sent there as it is."""

    def __init__(self, fault=None, dropout=0.0):
        super().__init__()
        self.fault, self.unused = fault, nn.Parameter(torch.ones(3))
        self.norm, self.drop = nn.BatchNorm1d(12), nn.Dropout(dropout)
        self.fc = nn.Linear(12, CLASSES)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        if len(x) == BATCH and self.fault == "raises":
            raise KeyError("the cause")
        if len(x) == BATCH and self.fault == "replaces":
            self.calls = self.calls + 1
        out = self.fc(self.drop(self.norm(x.flatten(1)[:, :12])))
        return out[:2] if len(x) == BATCH and self.fault == "shape" else out


def network(name, seed):
    generator = torch.Generator().manual_seed(seed)
    net = models.build(name, CLASSES, 3, generator=generator)
    for part in net.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    return net


def group_of(*names):
    return NetworkGroup([network(name, peer) for peer, name in enumerate(names)]).double()


def odd(*faults, dropout=0.0):
    nets = [models.initialise(Odd(fault, dropout), torch.Generator().manual_seed(0)) for fault in faults]
    return NetworkGroup(nets, example=torch.zeros(2, 3, 8, 8)).train()


def batch(seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(BATCH, 3, 8, 8, generator=generator, dtype=dtype)
    return images, torch.randint(CLASSES, (BATCH,), generator=generator), Progress(5, 10)


def train(executor_class, group, method, icl_step=None, turn=None, amp="off", steps=3):
    """Some steps of SGD; the gradients of the last one, all state, and what the group predicts afterwards."""
    dtype = next(group.parameters()).dtype
    teachers = [network("wrn10_1", 99).to(dtype)] if method == "kd" else []
    own = methods.build(method, group, generator=torch.Generator().manual_seed(5), teachers=len(teachers)).to(dtype)
    executor = executor_class(group.train(), own, ExecutionOptions(amp=amp), teachers)
    trained = [*group.parameters(), *own.parameters()]
    optimizer = torch.optim.SGD(trained, lr=0.02, momentum=0.9, nesterov=True, weight_decay=5e-4)
    for step in range(steps):
        images, labels, progress = batch(step, dtype)
        views = [images + peer for peer in range(group.shape.peers)] if step == icl_step else images
        optimizer.zero_grad(set_to_none=True)
        out, outputs = executor.train_step(views, labels, progress, turn)
        gradients = {f"gradient {name}": p.grad.clone() for name, p in group.named_parameters() if p.grad is not None}
        optimizer.step()
    group.eval()
    predicted = executor.predict(batch(9, dtype)[0][:4])
    found = {"loss": out.loss.detach(), "logits": outputs.logits_PBC.detach(), "predicted": predicted.logits_PBC}
    found |= {f"feature {p}": h.detach() for p, h in enumerate((*outputs.features, *predicted.features))}
    return {**found, **gradients, **group.state_dict()}


@pytest.fixture(autouse=True)
def _lend(lent_pool):
    """No process of its own for any test."""


@pytest.mark.parametrize(
    ("method", "names", "options"),
    [
        ("baseline", ["resnet8_tiny"], {}),
        ("okddip", ["resnet8_tiny"] * 3, {"icl_step": 1}),
        ("kdcl_minlogit", ["resnet8_tiny", "vgg8_tiny", "densenet16_8"], {}),
        ("dml", ["resnet8_tiny", "wrn10_1"], {"turn": 1}),
        ("kd", ["resnet8_tiny"] * 2, {}),
    ],
)
def test_peers_in_processes_train_as_the_loop_trains_them(method, names, options):
    expected = train(LoopExecutor, group_of(*names), method, **options)
    found = train(ProcessExecutor, group_of(*names), method, **options)
    assert found.keys() == expected.keys()
    assert any(name.startswith("gradient") for name in found)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-11, msg=lambda text, n=name: f"{n} {text}")


def test_mixed_precision_and_channels_last_reach_the_processes():
    results = []
    for executor in (LoopExecutor, ProcessExecutor):
        group = group_of("resnet8_tiny", "resnet8_tiny").float().to(memory_format=torch.channels_last)
        results.append(train(executor, group, "dml", amp="bf16"))
        first = next(p for p in group.parameters() if p.ndim == 4)
        assert first.is_contiguous(memory_format=torch.channels_last)
        assert first.grad.stride() == first.stride()
    for name, value in results[0].items():
        torch.testing.assert_close(results[1][name], value, rtol=1e-6, atol=1e-6, check_dtype=False)


def test_gradients_are_added_and_only_where_the_loop_has_any():
    group = odd(None, None)
    executor = ProcessExecutor(group, methods.build("dml", group))
    executor.train_step(*batch())
    once = [None if p.grad is None else p.grad.clone() for p in group.parameters()]
    assert [p.grad is None for p in group.networks[0].parameters()].count(True) == 1
    held = [p.grad for p in group.parameters()]
    group.zero_grad(set_to_none=True)
    executor.train_step(*batch(1))
    for gradient, value in zip(held, once, strict=True):
        assert gradient is None or torch.equal(gradient, value)
    group.zero_grad(set_to_none=True)
    executor.train_step(*batch())
    group.networks[1].requires_grad_(False)
    executor.train_step(*batch())
    for parameter, gradient in zip(group.parameters(), once, strict=True):
        assert (parameter.grad is None) == (gradient is None)
        if gradient is not None:
            torch.testing.assert_close(parameter.grad, gradient * (2 if parameter.requires_grad else 1))


def test_a_module_in_a_mode_of_its_own_keeps_it():
    group = odd(None, None)
    executor = ProcessExecutor(group, methods.build("dml", group))
    executor.train_step(*batch())
    group.networks[1].norm.eval()
    before = [net.norm.running_mean.clone() for net in group.networks]
    executor.train_step(*batch())
    assert not torch.equal(group.networks[0].norm.running_mean, before[0])
    assert torch.equal(group.networks[1].norm.running_mean, before[1])


def test_dropout_differs_by_peer_and_step_and_repeats_with_the_random_state():
    runs = []
    for _ in range(2):
        torch.manual_seed(3)
        # Two peers with one set of weights: only their masks can tell them apart.
        group = odd(None, None, dropout=0.5)
        executor = ProcessExecutor(group, methods.build("dml", group))
        runs.append([executor.train_step(*batch())[1].logits_PBC for _ in range(2)])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
    assert not torch.equal(*runs[0])
    assert not torch.equal(*runs[0][0])
    group.eval()
    state = torch.get_rng_state()
    assert torch.equal(*executor.predict(batch()[0]).logits_PBC)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("fault", "error", "sentence"),
    [
        (
            "raises",
            RuntimeError,
            r"(?s)a process of the executor 'processes' failed.*in forward.*KeyError: 'the cause'",
        ),
        ("shape", UserError, r"a network returned shape \[2, 5\]"),
    ],
)
def test_what_goes_wrong_in_a_process_is_said_here_and_the_next_step_works(fault, error, sentence):
    group = odd(None, None, fault)
    executor = ProcessExecutor(group, methods.build("dml", group))
    with pytest.raises(error, match=sentence):
        executor.train_step(*batch())
    # The first and the third peer share a process, the second one's has not failed.
    images = batch()[0][:4]
    group.eval()
    torch.testing.assert_close(executor.predict(images).logits_PBC, group(images).logits_PBC)
    with pytest.raises(error, match=sentence):
        executor.predict(batch()[0])
    torch.testing.assert_close(executor.predict(images).logits_PBC, group(images).logits_PBC)


def test_what_the_processes_cannot_share_is_refused_by_name():
    group = odd(None, "replaces")
    with pytest.raises(UserError, match="a Odd puts new tensors in the place of its buffers"):
        ProcessExecutor(group, methods.build("dml", group)).train_step(*batch())


def test_students_and_copies_are_plain_and_the_networks_may_move_in_memory():
    group = group_of("resnet8_tiny", "resnet8_tiny").eval()
    executor = ProcessExecutor(group, methods.build("dml", group))
    images = batch(dtype=torch.float64)[0]
    executor.predict(images)
    assert all(tensor.is_shared() for tensor in (*group.parameters(), *group.buffers()))
    student = group.student(1)
    assert not any(tensor.is_shared() for tensor in (*student.parameters(), *student.buffers()))
    torch.testing.assert_close(student(images).float(), executor.predict(images).logits_PBC[1])
    group.load_state_dict({name: 1.1 * value for name, value in copy.deepcopy(group.state_dict()).items()}, assign=True)
    torch.testing.assert_close(executor.predict(images).logits_PBC, group(images).logits_PBC.float())


def test_what_cannot_run_in_processes_is_refused():
    branches = BranchedGroup(network("resnet8_tiny", 0), branches=2)
    with pytest.raises(UserError, match="executor 'processes' with a BranchedGroup: only networks that share nothing"):
        ProcessExecutor(branches, methods.build("dml", branches))
    elsewhere = group_of("resnet8_tiny", "resnet8_tiny").to("meta")
    with pytest.raises(UserError, match="executor 'processes' on the device 'meta': it shares the cores of a CPU"):
        ProcessExecutor(elsewhere, methods.build("dml", elsewhere))
    hooked = odd(None, None)
    hooked.networks[0].register_forward_hook(lambda *_: None)
    with pytest.raises(UserError, match=r"cannot send the networks to other processes \(.*lambda"):
        ProcessExecutor(hooked, methods.build("dml", hooked)).train_step(*batch())


def test_too_little_shared_memory_is_said_in_one_sentence(monkeypatch):
    def refuse(self):
        raise RuntimeError("No space left on device")

    monkeypatch.setattr(torch.Tensor, "share_memory_", refuse)
    with pytest.raises(UserError, match=r"needs 1 MiB of shared memory, and the system refuses them \(No space left"):
        sharing.SharedTensors([torch.zeros(2**18)])


def test_a_pool_that_is_forgotten_or_killed_ends_and_says_why(monkeypatch):
    monkeypatch.setattr(pool, "SECONDS", 0.0)
    forgotten, killed = pool.Pool(1, 1), pool.Pool(1, 1)
    process = forgotten._members[0][0]
    del forgotten
    gc.collect()
    assert process.exitcode is not None
    monkeypatch.setattr(pool, "SECONDS", 5.0)
    pid = killed._members[0][0].pid
    killed._members[0][0].kill()
    with pytest.raises(
        UserError, match=rf"the process {pid} was killed by signal 9 \(SIGKILL\); probably memory ran out"
    ):
        killed.ask([None])
    assert not killed.alive


def test_a_process_that_hangs_is_ended_and_named_after_a_while(monkeypatch):
    monkeypatch.setattr(pool, "PATIENCE", 0.2)
    hanging = pool.Pool(1, 1)
    process = hanging._members[0][0]
    os.kill(process.pid, signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(UserError, match=rf"the process {process.pid} has not answered for 0\.2 seconds and was ended"):
        hanging.ask([None])
    assert time.monotonic() - began < 8
    assert not hanging.alive
    assert process.exitcode == -signal.SIGKILL


def test_a_process_that_never_got_ready_points_at_the_main_module():
    class Ended:
        exitcode, pid = 1, 7

    fresh = pool.Pool(0, 1)
    assert "before it was ready" in str(fresh._death_of(Ended()))
    assert "if __name__ == '__main__':" in str(fresh._death_of(Ended()))
    fresh.ask([])
    assert "the process 7 ended with exit code 1, see what it printed" in str(fresh._death_of(Ended()))


def test_an_interrupted_pool_is_closed_and_a_closed_executor_starts_anew():
    class Stub:
        exitcode = None

        def send(self, request):
            raise KeyboardInterrupt

        def close(self):
            pass

        def join(self, seconds):
            pass

        def is_alive(self):
            return False

    interrupted = pool.Pool(0, 1)
    interrupted._members.append((Stub(), Stub()))
    with pytest.raises(KeyboardInterrupt):
        interrupted.ask([None])
    assert not interrupted.alive
    group = odd(None, None).eval()
    executor = ProcessExecutor(group, methods.build("dml", group))
    for _ in range(2):
        assert torch.equal(*executor.predict(batch()[0]).logits_PBC)
        executor.close()


def test_a_process_ends_when_the_other_end_of_its_connection_is_closed(monkeypatch):
    ignored = []
    monkeypatch.setattr(signal, "signal", lambda *what: ignored.append(what))
    here, there = torch.multiprocessing.get_context("spawn").Pipe()
    here.close()
    worker.serve(there, 1)
    assert ignored == [(signal.SIGINT, signal.SIG_IGN)]
