"""What only several processes have: drawn numbers, statistics apart, refusals, traffic, batch norm over replicas."""

import pytest
from mesh_cases import BOTH, EACH, ONE, QUARTERS, ROWS, STUDENTS
from mesh_scenarios import NORMS


@pytest.mark.parametrize("mesh", [ONE, ROWS, STUDENTS, BOTH])
def test_dropout_differs_for_each_student_and_replica_and_repeats_from_the_seed(on_mesh, mesh):
    each = on_mesh(mesh, "dropout")
    for found in each:
        # Four students and the mixed network, on 17 rows of one picture.
        assert found["distinct"] == 5 * 17
        assert found["repeated"]
        assert found["another"]
    assert len({tuple(found["values"]) for found in each}) == 1
    assert len({found["state"] for found in each}) == 1


@pytest.mark.parametrize("mesh", [ROWS, BOTH])
def test_without_sync_each_replica_normalises_its_own_rows_and_the_first_ones_statistics_stay(on_mesh, mesh):
    for found in on_mesh(mesh, "statistics apart"):
        assert found.keys() == {"gradients", "statistics", "averaged"}
        assert max(found.values()) < 1e-12, found


def test_what_does_not_fit_is_refused_in_every_process(on_mesh):
    for found in on_mesh(BOTH, "refusals"):
        assert found["size"].startswith("mesh data=2,peer=1 needs 2 processes, and there are 4: start torchrun with")
        assert found["students"] == "mesh data=1,peer=4 with 2 students: peer can be 1 to 2; use data for the rest."
        assert found["trunk"].startswith("mesh data=2,peer=2 with students that share a trunk: each process would have")
        assert found["synced"].startswith("executor 'distributed' with a SyncBatchNorm, which would mix the statistics")
        assert found["fp16"].startswith("amp fp16 with mesh data=2,peer=2: students in processes of their own")
        assert found["batch"].startswith("a batch of 1 images for 2 replicas: give larger batches (--last-batch drop")
        assert found["views"] == "3 views for 2 peers: give one tensor for all peers, or one for each."
        assert found["world"] == "mesh data=2,peer=1 with 4 processes: the sizes must multiply to that."


@pytest.mark.parametrize("mesh", [ROWS, STUDENTS, BOTH])
def test_a_paused_student_has_no_gradient_in_any_process(on_mesh, mesh):
    for moved, own, learned, still in on_mesh(mesh, "paused"):
        assert moved == [False, True]
        assert learned == [peer for peer in own if moved[peer]]
        assert still == [peer for peer in range(2) if peer not in learned]


def test_what_is_sent_is_counted_by_the_bytes_of_ring_algorithms(on_mesh):
    # A network has 168 + 12 + 330 + 12 + 35 = 557 parameters of 8 bytes, and 2 norms of 6 channels. Four images have 20
    # logits, in a message that is a multiple of 16 bytes; dml reads no features.
    outputs, parameters, buffers = 20 * 8, 557 * 8, 2 * (2 * 6 + 1) * 8
    assert {kind: size for kind, size in on_mesh(ONE, "traffic")[0].items() if size} == {}
    for found in on_mesh(STUDENTS, "traffic"):
        assert found == {"outputs": outputs, "weights": parameters + buffers}
    # Two students on two images; 2 (n - 1) / n = 1. A norm sends mean, squares and count, and then two sums.
    norms = 2 * 2 * ((2 * 6 + 1) * 8 + 2 * 6 * 8)
    for found in on_mesh(ROWS, "traffic"):
        assert found == {"outputs": outputs, "gradients": 2 * parameters, "norms": norms}


def test_processes_know_their_place_and_hear_each_other(on_mesh):
    each = on_mesh(BOTH, "world")
    assert [found["place"] for found in each] == [[0, 0, 0, True], [1, 0, 1, False], [2, 1, 0, False], [3, 1, 1, False]]
    for rank, found in enumerate(each):
        assert found["rows"] == [[0, 4], [4, 7]][rank // 2]
        assert found["alone"] == [[0, 2], [2, 4], [4, 6], [6, 7]][rank]
        assert found["whole"] == [True, True]
        assert found["largest"] == [3, 0]
        assert found["leader"] == "of 0"
        assert found["gathered"] == ([0, 1, 2, 3] if rank == 0 else None)
        # Of the second process of each column, and of the first row.
        assert found["spread"] == [rank // 2 * 2 + 1, rank % 2]
    (alone,) = on_mesh(ONE, "world")
    assert (alone["place"], alone["rows"], alone["spread"]) == ([0, 0, 0, True], [0, 7], [0, 0])


def test_expensive_students_are_placed_first(on_mesh):
    # Their costs are, in thousands for an image, 9.2, 41.5, 15.6, 27.2 and 64.5.
    assert on_mesh(STUDENTS, "placed") == [[[2, 4], [0, 1, 3]]] * 2
    assert on_mesh(EACH, "placed") == [[[4], [1], [3], [0, 2]]] * 4


def test_half_precision_agrees_as_far_as_it_has_digits(on_mesh):
    for found in on_mesh(BOTH, "half precision"):
        assert max(found.values()) < 0.02, found
        assert found["loss"] > 0


@pytest.mark.parametrize("mesh", [ROWS, QUARTERS])
@pytest.mark.parametrize("name", NORMS)
def test_batch_norm_over_replicas_is_torchs_on_the_joined_batch(on_mesh, mesh, name):
    # Inputs lie around 100, where single precision has 4 digits after the point, and bf16 outputs have 2.
    close = {"single precision": 1e-3, "bf16 activations": 0.1}.get(name, 1e-9)
    for found in on_mesh(mesh, "norms"):
        assert found.keys() == NORMS.keys()
        assert found[name] < close


@pytest.mark.parametrize("mesh", [ROWS, QUARTERS])
def test_gradients_over_replicas_are_slopes_of_the_whole_loss(on_mesh, mesh):
    assert max(on_mesh(mesh, "slopes")) < 1e-8


@pytest.mark.parametrize("mesh", [BOTH, QUARTERS])
def test_all_processes_end_with_the_same_bits(on_mesh, mesh):
    assert all(all(found) for found in on_mesh(mesh, "twins"))
