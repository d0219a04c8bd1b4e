"""Export one student: written to a folder of its own, checked against the student in its group, then published."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from codistill.errors import UserError, unknown
from codistill.export.card import card, source_of_prepare
from codistill.export.check import compare, described, outputs_of, refuse_difference, tolerance_of
from codistill.export.chosen import Chosen, choose
from codistill.export.folder import README, joined, publish, refuse_run_folder, staged
from codistill.export.hub import CONFIG_FILE, check_token, push_folder, write_hub
from codistill.export.job import Job, Written
from codistill.export.onnx_file import write_onnx
from codistill.export.pictures import from_pictures
from codistill.export.request import CALIBRATION, ExportRequest, check_request
from codistill.export.samples import RunImages, Samples, open_samples, random_samples
from codistill.export.torch_program import write_program
from codistill.export.weights import write_weights
from codistill.rundir import OWN_DATA, STUDENT, FileRecord, write_json
from codistill.training.groups import NetworkSource
from codistill.training.out_folder import EXPORT
from codistill.training.run_data import DataSource
from codistill.trusted import trust

__all__ = ["Exported", "export", "export_student"]

CHECKED = 256
"""Images on which a file is compared with the student."""

SCORED = 5000
"""Images on which the error of int8 is measured: its standard deviation is below 0.7 points there."""

PREPARE = "prepare.py"


@dataclass(frozen=True)
class Exported:
    """Where a student was written to, and what to tell of it, a sentence each."""

    folder: Path
    lines: tuple[str, ...]


def export_student(
    run_dir: Path | str,
    out: Path | str | None = None,
    *,
    format: Any = "safetensors",
    peer: int | str = "leader",
    checkpoint: Any = "last",
    network: NetworkSource | None = None,
    dataset: DataSource | None = None,
    data_dir: Path | str | None = None,
    **options: Any,
) -> Path:
    """Write one student to a folder, in one of FORMATS, and return the folder (docs/export.md).

    Args:
        run_dir: the run directory.
        out: folder to write to; RUN/export if left out.
        format: one of FORMATS.
        peer: "leader", or the index of a student.
        checkpoint: "last" or "selected".
        network: the networks again, if `train` was given them.
        dataset: the data again, if `train` was given them.
        data_dir: where the run's data are now, if they were moved.
        options: the other fields of `ExportRequest`: precision, with_preprocessing, calibration, averaged, license and
            push.

    Raises:
        UserError: as `export`.
    """
    known = [field.name for field in fields(ExportRequest)]
    wrong = next((name for name in options if name not in known), None)
    if wrong is not None:
        raise unknown("option of export_student", wrong, known)
    places = {"out": None if out is None else Path(out), "data_dir": None if data_dir is None else Path(data_dir)}
    request = ExportRequest(Path(run_dir), format, peer=str(peer), checkpoint=checkpoint, **places, **options)
    return export(request, network=network, dataset=dataset).folder


def export(
    request: ExportRequest, *, network: NetworkSource | None = None, dataset: DataSource | None = None
) -> Exported:
    """Write one student as the request says.

    The file is read again, and its outputs are compared with those of the student in its group on validation images of
    the run. If they differ by more than rounding explains, nothing is written.

    Args:
        request: what to write, and where.
        network: the networks again, if `train` was given them.
        dataset: the data again, if `train` was given them.

    Raises:
        UserError: the request cannot be met (see `check_request`), its folder is a run directory, there is
            no run or no such student, its networks or the data that were named are missing or others, int8 has no
            images to calibrate on, the network cannot be exported in this format, or the file computes something else
            than the student.
    """
    check_request(request)
    folder = request.out or request.run / EXPORT
    refuse_run_folder(folder)
    if request.push is not None:
        check_token()
    chosen = choose(request, network)
    if request.with_preprocessing and chosen.unprepared is not None:
        raise UserError(chosen.unprepared)
    images, lines = _open_images(request, chosen, dataset)
    if chosen.unprepared is not None:
        lines.append(f"the export does not say how pictures are prepared: {chosen.unprepared}")
    with staged(folder) as stage:
        written, file = _written(request, chosen, stage, images)
        record, stale = joined(folder, replace(chosen.record, files={written.name: file}))
        write_json(stage / STUDENT, record.to_json())
        (stage / README).write_text(card(record, chosen.recipe, chosen.story(request)), encoding="utf-8")
        if record.preparation is not None:
            (stage / PREPARE).write_text(source_of_prepare(), encoding="utf-8")
        publish(stage, folder, stale)
    if request.format == "torch-export":
        # A program, which whoever has made it may open.
        trust(folder / written.name)
    lines += [_sentence(folder / written.name, file)]
    lines += [f"removed from {folder}, since they hold another student: {', '.join(stale)}"] if stale else []
    if request.push is not None:
        names = [*record.files, STUDENT, README, PREPARE, CONFIG_FILE]
        lines.append(f"pushed: {push_folder(folder, names, request.push, f'{record.model}, exported by codistill')}")
    return Exported(folder, tuple(lines))


def _open_images(
    request: ExportRequest, chosen: Chosen, dataset: DataSource | None
) -> tuple[RunImages | None, list[str]]:
    """Return the run's images, or None and why there are none."""
    try:
        return open_samples(request.run, chosen.config, chosen.record, request.data_dir, dataset), []
    except UserError as error:
        if request.data_dir is not None or dataset is not None:
            raise
        if request.precision == "int8":
            raise UserError(f"int8 is calibrated on the run's images, which cannot be read here: {error}") from error
        remedy = "" if chosen.config.data == OWN_DATA else "; --data-dir says where they are now"
        reason = str(error).rstrip(".")
        return None, [f"checked on random pixels, since the run's data cannot be read here ({reason}){remedy}"]


def _written(
    request: ExportRequest, chosen: Chosen, stage: Path, images: RunImages | None
) -> tuple[Written, FileRecord]:
    """Write the file into the stage, and check what it computes."""
    int8 = request.precision == "int8"
    calibration = None
    if int8 and images is not None:
        calibration = images.training(CALIBRATION if request.calibration is None else request.calibration)
    job = Job(stage, request, chosen.config, chosen.network, chosen.build, chosen.record, calibration)
    if request.format == "onnx":
        written = write_onnx(job)
    elif request.format == "torch-export":
        written = write_program(job)
    else:
        written = write_hub(job, chosen.recipe) if request.format == "hub" else write_weights(job)
    samples = random_samples(chosen.record) if images is None else images.validation(SCORED if int8 else CHECKED)
    return written, _checked(written, chosen, samples)


def _checked(written: Written, chosen: Chosen, samples: Samples) -> FileRecord:
    """Return the file's record with its check; UserError if it computes something else."""
    file, how = written.record, chosen.record.preparation
    share = tolerance_of(file.format, file.precision, file.reads)
    if file.reads == "pictures":
        assert how is not None
        student_NC, file_NC, labels_N = from_pictures(chosen.in_group, written.network, samples, how)
        of = f"pictures made of {samples.of}"
    else:
        student_NC, file_NC = (outputs_of(run, samples.batches()) for run in (chosen.in_group, written.network))
        labels_N, of = samples.labels_N, samples.of
    check = compare(student_NC, file_NC, labels_N, of, file.gives, share)
    refuse_difference(check, chosen.record.model, file.format, file.precision)
    return replace(file, check=check)


def _sentence(path: Path, file: FileRecord) -> str:
    opset = "" if file.opset is None else f", opset {file.opset}"
    ranges = (
        "" if file.calibration_images is None else f", with the ranges of {file.calibration_images} training images"
    )
    check = "" if file.check is None else described(file.check)
    return f"exported to {path} ({file.precision}{opset}, {path.stat().st_size / 2**20:.1f} MiB){ranges}: {check}"
