"""The model of a step on many devices: its formulas by hand, and its bytes against what a launch counts."""

import pytest

from codistill.execution.world import Mesh
from on_meshes.costs import Student, count_student
from on_meshes.forecast import Row, crossover, traffic
from on_meshes.launching import fitted, launch
from on_meshes.measured import Measured
from on_meshes.model import Cluster, Job, Link, bytes_sent, seconds_of_messages, step_seconds
from on_meshes.page import busy_machine, goals_of
from on_meshes.setting import Launch

WIDE = Student("wide", macs=1000, parameters=300, features=7, norms=(4, 6), layers=5)
THIN = Student("thin", macs=100, parameters=50, features=3, norms=(2,), layers=2)
LINK = Link(bandwidth=100.0, latency=0.5)


def test_a_ring_sends_what_its_formula_says():
    assert LINK.gather(200, 3) == 2 * 0.5 + 200 * 2 / 100
    assert LINK.reduce(300, 3) == 4 * 0.5 + 2 * 300 * 2 / 3 / 100
    assert Link(100.0, 0.5, tree=2.0).gather(200, 5) == 3 * 2.0 + 200 * 4 / 100
    assert LINK.gather(200, 1) == LINK.reduce(300, 1) == 0


def test_students_on_devices_send_outputs_and_replicas_send_gradients_and_statistics():
    job = Job((WIDE, THIN), classes=5, batch=3)
    # 3 rows of 5 numbers are 60 bytes, 64 in a message.
    assert bytes_sent(job, Mesh(1, 2)) == {"outputs": 64}
    both = bytes_sent(job, Mesh(2, 1))
    # 2 rows of 2 students; 350 parameters; 12 channels in three layers: 2 C + 1 numbers forward, 2 C backward.
    assert both == {"outputs": 80, "gradients": 4 * 350, "norms": 4 * (2 * 12 + 3) + 4 * 2 * 12}
    plain = Job((WIDE, THIN), classes=5, batch=3, sync_norms=False, exchange=False)
    assert bytes_sent(plain, Mesh(2, 1)) == {"gradients": 4 * 350}
    assert not bytes_sent(job, Mesh(1, 1))


def test_all_send_as_much_as_the_one_with_the_most_outputs():
    job = Job((WIDE, THIN, THIN), classes=5, batch=4, features=True)
    assert job.placed(Mesh(1, 2)) == [[0], [1, 2]]
    # The two thin ones: 2 x 4 x 5 logits and twice 4 x 3 features; the wide one: 4 x 5 logits, 4 x 7 features.
    assert job.message(Mesh(1, 2)) == max(160 + 48 + 48, 80 + 112)
    assert bytes_sent(job, Mesh(1, 2), 1) == bytes_sent(job, Mesh(1, 2), 0) == {"outputs": 256}


def test_a_step_is_the_slowest_forward_pass_the_exchange_and_the_slowest_backward_pass():
    cluster = Cluster(flops=1000.0, layer=0.0, link=LINK)
    job = Job((WIDE, THIN), classes=5, batch=4)
    assert step_seconds(job, Mesh(1, 1), cluster) == pytest.approx(3 * 2 * 1100 * 4 / 1000)
    assert step_seconds(job, Mesh(1, 2), cluster) == pytest.approx(3 * 2 * 1000 * 4 / 1000 + 0.5 + 80 / 100)
    plain = Job((WIDE, THIN), classes=5, batch=4, sync_norms=False, exchange=False)
    # Two rows each; the gradients take 2 x 0.5 s + 1,400 bytes, all of which can only follow the backward pass.
    assert step_seconds(plain, Mesh(2, 1), cluster) == pytest.approx(3 * 2 * 1100 * 2 / 1000 + 1 + 14)


def test_gradients_hide_behind_the_backward_pass_but_for_the_last_message():
    big = Student("big", macs=10**9, parameters=25 * 2**20, features=1, norms=(), layers=1)
    link = Link(bandwidth=float(2**20), latency=0.0)
    job = Job((big,), classes=1, batch=2, exchange=False)
    # Four messages of 25 s each while the backward pass takes 40 s (80 s).
    assert step_seconds(job, Mesh(2, 1), Cluster(1e8, 0.0, link)) == pytest.approx(20 + 40 + 60)
    assert step_seconds(job, Mesh(2, 1), Cluster(5e7, 0.0, link)) == pytest.approx(40 + 80 + 25)
    assert step_seconds(job, Mesh(2, 1), Cluster(5e7, 0.0, link, overlap=0.0)) == pytest.approx(40 + 80 + 100)


def test_a_pass_takes_at_least_what_the_host_needs_for_its_layers():
    cluster = Cluster(flops=1e9, layer=0.25, link=LINK)
    assert step_seconds(Job((WIDE,), 5, batch=1), Mesh(1, 1), cluster) == 2 * 5 * 0.25


def test_a_batch_cannot_be_divided_among_more_replicas_than_images():
    cluster = Cluster(1e9, 0.0, LINK)
    assert step_seconds(Job((WIDE, THIN), 5, batch=3), Mesh(4, 1), cluster) is None


def test_statistics_cost_two_messages_per_layer():
    job = Job((WIDE,), classes=5, batch=4)
    found = seconds_of_messages(job, Mesh(2, 1), Link(1e12, 1.0), Link(1e12, 10.0))
    assert found["norms forward"] == pytest.approx(2)
    assert found["norms backward"] == pytest.approx(2 * 20)


def test_a_link_is_fitted_to_messages_that_were_timed():
    link = Link(bandwidth=1e6, latency=1e-3)
    gathers = [(size, link.gather(size, 4)) for size in (1, 10**6)]
    reduces = [(size, link.reduce(size, 4)) for size in (1, 10**6)]
    for found in (fitted(gathers, 4, reduce=False), fitted(reduces, 4, reduce=True)):
        assert found.latency == pytest.approx(link.latency, rel=1e-2)
        assert found.bandwidth == pytest.approx(link.bandwidth, rel=1e-2)


def test_a_network_is_counted_as_it_is():
    found = count_student("resnet50", 1000, (3, 224, 224))
    assert (found.parameters, found.macs, found.features) == (25_557_032, 4_089_184_256, 2048)
    assert (len(found.norms), sum(found.norms), found.layers) == (53, 26_560, 53 + 53 + 1)


def test_four_networks_on_four_devices_send_outputs_where_data_parallelism_sends_gradients():
    job = Job((WIDE,) * 4, classes=5, batch=4, features=True)
    gradients = 4 * 4 * 300 * 2 * 3 // 4
    # A message of four rows: 5 logits and 7 features. All students: one row each; 10 channels in two layers.
    outputs, norms = 4 * 4 * (5 + 7) * 3, 4 * (3 * 4 * (2 * 10 + 2) + 2 * 4 * 2 * 10 * 3 // 4)
    message = 80 + 4 * 32  # 20 logits; 7 features of each, which are 28 bytes, begin at multiples of 16
    assert traffic(job) == (outputs, gradients, gradients + norms + 3 * message)


def test_a_crossover_is_where_students_on_devices_become_faster_or_are_all_that_is_possible():
    times = {1: (4, 4), 2: (2, 3), 4: (2, 1), 8: (1, 1.5), 16: (0.5, None), 32: (None, None)}
    found = [Row(devices, peers, data, 0.1, None) for devices, (peers, data) in times.items()]
    assert crossover(found, "data") == "2, 8 to 16"
    assert crossover(found, "plain") == "none"


def _measured(seconds, loop, waiting):
    setting = Launch(("a", "b"), "peer=2", loop_threads=2)
    return Measured(setting, Mesh(1, 2), seconds, seconds, loop, seconds, [], [], waiting, None, None)


def test_the_rate_is_that_of_the_processes_by_turn_and_the_waiting_that_of_the_worst():
    rate, waiting = goals_of(_measured([1.0, 2.0, 1.0], [0.8, 1.9, 1.2], [[0.02, 0.04, 0.9], [0.05, 0.11, 0.12]]))
    assert "0.950 × (0.800 to 1.200, 3 turns" in rate
    assert rate.endswith("≥ 0.9: reached.")
    assert "waits 11.0 %" in waiting
    assert waiting.endswith("≤ 10 %: **not reached**.")
    assert goals_of(_measured([1.0], [0.89], [[0.1], [0.0]]))[0].endswith("≥ 0.9: **not reached**.")


def test_times_of_a_busy_machine_are_called_preliminary():
    assert busy_machine({"load": 0.4, "cores": 2}) is None
    assert "preliminary" in (busy_machine({"load": 0.6, "cores": 2}) or "")


def test_the_bytes_are_those_that_processes_count():
    names, image = ("resnet8_tiny", "wrn10_1", "resnet8_tiny"), (3, 8, 8)
    cases = (("okddip", "peer=2"), ("okddip", "data=2"), ("dml", "peer=2"))
    settings = [Launch(names, mesh, 5, 10, image, method, turns=0, calls=1) for method, mesh in cases]
    students = tuple(count_student(name, 10, image) for name in names)
    for setting, found in zip(settings, launch(settings, timeout=120), strict=True):
        mesh = Mesh.parse(setting.mesh)
        job = Job(students, classes=10, batch=5, features=setting.method == "okddip")
        for rank, process in enumerate(found["each"]):
            assert process["own"] == job.placed(mesh)[rank % mesh.peer]
            assert process["sent"] == bytes_sent(job, mesh, rank % mesh.peer)
