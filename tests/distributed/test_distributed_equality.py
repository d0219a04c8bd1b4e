"""Training on a mesh of processes gives what `loop` gives on the same batches."""

import pytest
from mesh_cases import CASES
from mesh_driver import precisions_of

from codistill.methods import METHODS

CLOSE = {"fp64": 1e-9, "fp32": 1e-5}
KINDS = {"loss", "outputs", "gradients", "weights", "statistics", "predicted"}
WITHOUT_STATISTICS = {"no norm", "group norm", "untracked"}
EACH = [
    (mesh, name, precision)
    for name, case in CASES.items()
    for mesh in case.meshes
    for precision in precisions_of(mesh, name)
]


@pytest.mark.parametrize(("mesh", "name", "precision"), EACH, ids=lambda value: value.replace(" ", "_"))
def test_losses_gradients_weights_statistics_and_predictions_are_those_of_the_loop(on_mesh, mesh, name, precision):
    each = on_mesh(mesh, f"{name} {precision}")
    for found in each:
        assert found.keys() == KINDS - ({"statistics"} if CASES[name].group in WITHOUT_STATISTICS else set())
        assert max(found.values()) < CLOSE[precision], found


def test_every_method_is_tried():
    assert CASES.keys() >= METHODS.keys()
