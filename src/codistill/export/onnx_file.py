"""The network as an ONNX file: in half precision or int8 if asked for, and with the preparation of pictures in it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from codistill.export.job import Job, Written, inside, quiet, refusing
from codistill.export.picture_graph import PictureGraph
from codistill.export.samples import Samples
from codistill.export.torch_program import example_of
from codistill.rundir import ENTRY, FileRecord, Preparation

__all__ = ["run_onnx", "write_onnx"]

IMAGES, PICTURES, LOGITS, PROBABILITIES = "images", "pictures", "logits", "probabilities"
"""Names of inputs and outputs."""


def write_onnx(job: Job) -> Written:
    """Write student.onnx, for batches of any size, with the student's record among its metadata.

    Raises:
        UserError: torch cannot export the network.
    """
    import onnx  # pyright: ignore[reportMissingImports]

    path, precision = job.stage / "student.onnx", job.request.precision
    network = InHalf(job.student) if precision == "float16" else job.student
    with refusing(job.record.model, "onnx"):
        _export(network, example_of(job), (IMAGES, LOGITS), path, ("batch",))
    if precision == "int8":
        assert job.calibration is not None
        _quantise(path, job.calibration)
    pictures = job.request.with_preprocessing
    if pictures:
        assert job.record.preparation is not None
        _prepend(job.record.preparation, path)
    model = onnx.load(path)
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    reads, gives = (PICTURES, PROBABILITIES) if pictures else (IMAGES, LOGITS)
    ranges_of = None if job.calibration is None else len(job.calibration)
    record = FileRecord(
        format="onnx", precision=precision, reads=reads, gives=gives, opset=opset, calibration_images=ranges_of
    )
    onnx.helper.set_model_props(model, {ENTRY: inside(job, path.name, record)})
    onnx.save(model, path)
    onnx.checker.check_model(path)
    return Written(path.name, record, run_onnx(path))


def run_onnx(path: Path) -> Any:
    """Return a function that runs the file on the CPU: a tensor in, a tensor out."""
    import onnxruntime  # pyright: ignore[reportMissingImports]

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()

    def run(batch: Tensor) -> Tensor:
        (out,) = session.run(None, {entry.name: batch.contiguous().numpy()})
        return torch.from_numpy(out)

    return run


class InHalf(nn.Module):
    """A network in half precision between inputs and outputs in single precision."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).half().eval()

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        return self.network(images.half()).float()


def _export(network: nn.Module, example: Tensor, names: tuple[str, str], path: Path, free: tuple[str, ...]) -> None:
    """Write a graph of one input and one output; `free` names the leading axes whose length is left open."""
    shapes = ({axis: torch.export.Dim(name) for axis, name in enumerate(free)},)
    with quiet():
        program = torch.onnx.export(
            network.eval(), (example,), dynamo=True, verbose=False, dynamic_shapes=shapes,
            input_names=[names[0]], output_names=[names[1]],
        )  # fmt: skip
        assert program is not None
        program.save(path, external_data=False)


class Reader:
    """Gives ONNX Runtime the images of a calibration, batch by batch."""

    def __init__(self, batches: Iterator[Tensor]) -> None:
        self.batches = batches

    def get_next(self) -> dict[str, Any] | None:
        """Return the inputs of the next batch; None at the end."""
        batch = next(self.batches, None)
        return None if batch is None else {IMAGES: batch.contiguous().numpy()}


def _quantise(path: Path, calibration: Samples) -> None:
    """Make the file int8 with nodes that quantise and dequantise, one scale per channel of the weights."""
    from onnxruntime.quantization import QuantFormat, quantize_static  # pyright: ignore[reportMissingImports]
    from onnxruntime.quantization.shape_inference import quant_pre_process  # pyright: ignore[reportMissingImports]

    folded = path.with_suffix(".folded.onnx")
    with quiet():
        # Batch norms become part of the convolutions before them, so that these are what is quantised.
        quant_pre_process(path, folded, skip_symbolic_shape=True)
        reader: Any = Reader(calibration.batches())
        quantize_static(folded, path, reader, quant_format=QuantFormat.QDQ, per_channel=True)
    folded.unlink()


def _prepend(how: Preparation, path: Path) -> None:
    """Put the preparation before the graph in the file, and a softmax behind it."""
    import onnx  # pyright: ignore[reportMissingImports]

    before = path.with_suffix(".pictures.onnx")
    size = (how.height, how.width) if how.resize == "none" else (how.height + 3, how.width + 5)
    free = ("batch",) if how.resize == "none" else ("batch", "height", "width")
    example = torch.zeros(2, *size, how.channels, dtype=torch.uint8)
    _export(PictureGraph(how), example, (PICTURES, IMAGES), before, free)
    first, second = onnx.load(before), onnx.load(path)
    before.unlink()
    second.ir_version = first.ir_version
    # Both graphs number their nodes.
    first = onnx.compose.add_prefix(first, "pictures/", rename_inputs=False, rename_outputs=False)
    merged = onnx.compose.merge_models(first, second, [(IMAGES, IMAGES)])
    merged.graph.node.append(onnx.helper.make_node("Softmax", [LOGITS], [PROBABILITIES], axis=1))
    merged.graph.output[0].name = PROBABILITIES
    onnx.save(merged, path)
