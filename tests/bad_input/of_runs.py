"""Run directories, and what happens while a run trains."""

from __future__ import annotations

from case import Case
from spoiling import (
    cut,
    dying_reader,
    edited,
    filled_up,
    flipped,
    full_after_an_epoch,
    locked,
    made,
    no_device,
    removed,
    vanishing,
    without,
    written,
)

__all__ = ["SECTIONS"]

QUICK = (
    "codistill train --method ind --peers 2 --model resnet8_tiny --executor loop --epochs 1 --device cpu "
    "--batch-size 4 --out new"
)
DIGITS = f"{QUICK} --train-subset 16"
PICTURES = f"{QUICK} --data image_folder --data-dir pictures --image-size 8 --data-memory 0"

SECTIONS: dict[str, tuple[Case, ...]] = {
    "Runs": (
        Case(
            "codistill resume nowhere",
            "no configuration at nowhere/config.yaml: give a run directory, or the path of a config.yaml.",
        ),
        Case(
            "codistill resume pictures",
            "no configuration at pictures/config.yaml: give a run directory, or the path of a config.yaml.",
        ),
        Case("codistill resume runs/stopped --device cuda:7", "device 'cuda:7' is not there: this machine has …."),
        Case(
            "codistill resume runs/stopped",
            "runs/stopped trains on cpu, which is not here, and on another device its numbers will differ "
            "from those of an undisturbed run; to go on all the same: codistill resume runs/stopped --device "
            "cpu",
            first=(no_device("runs/stopped"),),
        ),
        Case(
            "codistill resume runs/stopped",
            "runs/stopped/config.yaml was edited after the run began (changed: device; it began with "
            "{'device': 'cpu'}): undo the change, or start a new run with 'codistill train --config ... "
            "--out ...' (from these weights with --init runs/stopped).",
            first=(edited("runs/stopped/config.yaml", "device: cpu", "device: cuda:7", "says device: cuda:7"),),
        ),
        Case(
            "codistill resume runs/stopped",
            "runs/stopped/config.yaml was edited after the run began (changed: epochs; it began with "
            "{'epochs': 3}): undo the change, or start a new run with 'codistill train --config ... --out "
            "...' (from these weights with --init runs/stopped).",
            first=(edited("runs/stopped/config.yaml", "epochs: 3", "epochs: 5", "has other epochs"),),
        ),
        Case(
            "codistill resume runs/stopped",
            "runs/stopped is in use: another process trains into it; wait until it has ended, or use another folder.",
            first=(locked("runs/stopped"),),
        ),
        Case(
            "codistill resume runs/stopped",
            "runs/stopped has no whole last checkpoint "
            "(runs/stopped/checkpoints/epoch_0001/weights.safetensors is damaged (its SHA-256 differs); "
            "runs/stopped/checkpoints/epoch_0000/weights.safetensors is damaged (its SHA-256 differs)): "
            "restore it from a copy, or train the run again with --overwrite.",
            first=(flipped("runs/stopped/checkpoints/*/weights.safetensors"),),
        ),
        Case(
            "codistill resume runs/stopped",
            "runs/stopped has no last checkpoint: start it again with 'codistill train --overwrite'.",
            first=(removed("runs/stopped/checkpoints"),),
        ),
        Case(
            "codistill resume runs/stopped",
            "no configuration at runs/stopped/config.yaml: give a run directory, or the path of a config.yaml.",
            first=(removed("runs/stopped/config.yaml"),),
        ),
        Case(
            "codistill resume runs/stopped",
            "no input.json in runs/stopped: give a folder that 'codistill train' wrote.",
            first=(removed("runs/stopped/input.json"),),
        ),
        Case(
            "codistill resume runs/stopped --data-dir pictures",
            "data_dir pictures for runs/stopped, which reads no folder of yours: leave it out.",
        ),
        Case(
            "codistill resume runs/stopped --logger wandb",
            "wandb is not installed: pip install 'codistill[wandb]'.",
            first=(without("wandb"),),
        ),
        Case(
            "codistill resume runs/pictures --data-dir nowhere",
            "data_dir nowhere: there is nothing; give the place where the data of runs/pictures are now.",
        ),
        Case(
            "codistill resume runs/done",
            "runs/done/summary.json is damaged (…): it must hold complete "
            "records of format 1 (docs/run-directory.md); restore the file, train the run again, or leave "
            "the run out.",
            first=(cut("runs/done/summary.json"),),
        ),
        Case(
            "codistill evaluate nowhere",
            "no configuration at nowhere/config.yaml: give a run directory, or the path of a config.yaml.",
        ),
        Case("codistill evaluate runs/done --device tpu", "device 'tpu' is not there: this machine has …."),
        Case(
            "codistill evaluate runs/done --report page.html",
            "report page.html without --data-dir: 'codistill report' writes the page of a run.",
        ),
        Case(
            "codistill evaluate runs/done --follow-links",
            "follow-links without --data-dir: a run's own data follow the run's own setting; leave it out.",
        ),
        Case(
            "codistill evaluate runs/done",
            "runs/done has no whole last checkpoint (runs/done/checkpoints/epoch_0001/weights.safetensors is "
            "damaged (its SHA-256 differs)): restore it from a copy, or train the run again with --overwrite.",
            first=(flipped("runs/done/checkpoints/epoch*/weights.safetensors"),),
        ),
        Case(
            "codistill evaluate runs/done --checkpoint selected",
            "runs/done is finished, but the selected checkpoint, to which its results belong, is gone: "
            "restore it from a copy, or train the run again with --overwrite.",
            first=(removed("runs/done/checkpoints/selected"),),
        ),
        Case(
            "codistill evaluate runs/done",
            "runs/done/input.json has format version 9, and this codistill reads versions up to 1: install a "
            "newer codistill.",
            first=(edited("runs/done/input.json", '"version": 1', '"version": 9', "is of version 9"),),
        ),
        Case(
            "codistill evaluate runs/pictures",
            "data_dir pictures of runs/pictures: there is no such folder; if the data were moved, say where "
            "to (they are checked to be the same): codistill resume runs/pictures --data-dir NEW",
            first=(removed("pictures"),),
        ),
        Case(
            "codistill evaluate runs/pictures",
            "runs/pictures was trained on other data (19 training images then, 18 now): restore the data, or "
            "for data from Python give the same dataset=; for new data start a new run.",
            first=(removed("pictures/cat/0.png"),),
        ),
        Case(
            "codistill evaluate runs/done --data-dir nowhere",
            "data_dir nowhere: there is no such folder; give a folder with one folder per class.",
        ),
        Case(
            "codistill evaluate runs/done --data-dir pictures",
            "pictures has folders that are no classes of the run, cat, dog: the run knows 0, 1, 2, 3, 4, 5, "
            "6, 7, 8, 9; rename these folders, or leave them out.",
        ),
        Case(
            "codistill evaluate runs/pictures --data-dir pictures",
            "the class folders in pictures hold no pictures: put pictures there.",
            first=(removed("pictures/*/*"),),
        ),
        Case(
            "codistill evaluate runs/pictures --data-dir empty",
            "empty has no class folders: put the pictures of each class in a folder of its name.",
            first=(made("empty"),),
        ),
        Case(
            "codistill report",
            "no path given: a report needs at least one run; name a run directory or a folder of runs.",
        ),
        Case(
            "codistill report nowhere",
            "nowhere is not a folder: a run is a folder with config.yaml and metrics.jsonl; give a directory "
            "that `codistill train --out` wrote, or a folder above such directories.",
        ),
        Case(
            "codistill report empty",
            "empty has no run in it or below it: a run is a folder with config.yaml and metrics.jsonl; give "
            "a directory that `codistill train --out` wrote, or a folder above such directories.",
            first=(made("empty"),),
        ),
        Case(
            "codistill report runs/done",
            "runs/done/config.yaml is damaged (no settings in it): it must hold complete records of format 1 "
            "(docs/run-directory.md); restore the file, train the run again, or leave the run out.",
            first=(written("runs/done/config.yaml", "- a\n", "is a list"),),
        ),
        Case(
            "codistill report runs/done",
            "runs/done/summary.json is damaged (…): it must hold complete "
            "records of format 1 (docs/run-directory.md); restore the file, train the run again, or leave "
            "the run out.",
            first=(cut("runs/done/summary.json"),),
        ),
        Case(
            "codistill report runs/done",
            "runs/done/summary.json is damaged (headline is 'best', neither 'leader' nor 'mean'): it must "
            "hold complete records of format 1 (docs/run-directory.md); restore the file, train the run "
            "again, or leave the run out.",
            first=(
                edited("runs/done/summary.json", '"headline": "mean"', '"headline": "best"', "has an unknown headline"),
            ),
        ),
        Case(
            "codistill report runs/done",
            "runs/done/metrics.jsonl, line 1, is damaged (Expecting value: …): it must hold complete records "
            "of format 1 (docs/run-directory.md); restore the file, train the run again, or leave the run "
            "out.",
            first=(filled_up("runs/done/metrics.jsonl", "ouch", "has a line of text"),),
        ),
        Case(
            "codistill report runs/done",
            "runs/done/metrics.jsonl, line 1, is damaged (…): it must hold complete "
            "records of format 1 (docs/run-directory.md); restore the file, train the run again, or leave "
            "the run out.",
            first=(cut("runs/done/metrics.jsonl"),),
        ),
        Case(
            "codistill report runs/done",
            "runs/done/metrics.jsonl is empty though the run is complete: restore the file, or run again.",
            first=(written("runs/done/metrics.jsonl", "", "is empty"),),
        ),
        Case(
            "codistill report runs/done",
            "runs/done/input.json is damaged (classes.0 is 1, not a text): it must hold complete records of "
            "format 1 (docs/run-directory.md); restore the file, train the run again, or leave the run out.",
            first=(
                edited("runs/done/input.json", '"classes": [', '"classes": [1, ', "has a number among its classes"),
            ),
        ),
        Case(
            "codistill report runs/done --out pictures",
            "pictures is a folder: the report is one file; give a name such as pictures/report.html.",
        ),
        Case(
            "codistill report runs/done --out own.py/page.html",
            "own.py/page.html cannot be written (File exists): the report needs a folder that you may write "
            "to; give another file.",
        ),
    ),
    "While a run trains": (
        Case(
            f"{DIGITS} --optim.lr 1e30",
            "logits of peer 0 hold NaN or infinity: the training of this peer has diverged; lower its "
            "learning rate, or look at its input.",
            code=1,
            leaves=("new",),
        ),
        Case(
            DIGITS,
            "new/metrics.jsonl cannot be written (No space left on device): make room on the disk, then "
            "continue from the last checkpoint with 'codistill resume new'.",
            first=(full_after_an_epoch("new"),),
            code=1,
            leaves=("new",),
        ),
        Case(
            f"{PICTURES} --workers 0",
            "pictures/dog/0.png cannot be decoded (No such file or directory): replace or remove this image, "
            "or leave such images out with --bad-images skip.",
            first=(vanishing("pictures/dog/0.png"),),
            code=1,
            leaves=("new", "pictures"),
        ),
        Case(
            f"{PICTURES} --workers 1",
            "the process … that decodes images was killed by signal: Killed (SIGKILL); probably memory ran "
            "out: give fewer --workers, or a smaller --batch-size.",
            first=(dying_reader(),),
            code=1,
            leaves=("new",),
        ),
    ),
}
