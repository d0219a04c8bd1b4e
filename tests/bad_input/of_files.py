"""Configuration files, data and folders to write to."""

from __future__ import annotations

from case import Case
from spoiling import cut, full_disk, locked, read_only, removed, without, written

__all__ = ["SECTIONS"]

QUICK = (
    "codistill train --method ind --peers 2 --model resnet8_tiny --executor loop --epochs 1 --device cpu "
    "--batch-size 4 --out new"
)
DIGITS = f"{QUICK} --train-subset 16"
TRAIN = "codistill train --data digits --model resnet8_tiny"
FOLDER = "codistill train --data image_folder --data-dir pictures --model resnet8_tiny --image-size 8 --batch-size 4"

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
"""Nine lists of nine lists of ..., a billion values in all."""

SECTIONS: dict[str, tuple[Case, ...]] = {
    "Data": (
        Case(
            "codistill train --data image_folder",
            "data set 'image_folder' needs a folder: give the folder of your images with --data-dir.",
        ),
        Case(
            "codistill train --data image_folder --data-dir nowhere",
            "data_dir nowhere: there is no such folder; correct the path or create it.",
        ),
        Case(
            "codistill train --data digits --data-dir pictures",
            "data_dir pictures with 'digits': this data comes with the package; leave out --data-dir.",
        ),
        Case(
            "codistill train --data digits --follow-links",
            "follow_links with the data 'digits': only image_folder, imagenet, parquet, hf are folders with "
            "links of yours; leave it out.",
        ),
        Case(
            "codistill train --data parquet:nowhere.parquet",
            "parquet:nowhere.parquet: there is no parquet file; give the path of a file, or of a folder with some.",
        ),
        Case(
            "codistill train --data hf:somebody/cats",
            "tables of images need the package datasets: install it with pip install 'codistill[hf]'.",
            first=(without("datasets"),),
        ),
        Case(
            "codistill train --data own",
            "data 'own' stands for data that were given from Python, and none are given here: pass the same "
            "dataset= from Python (to train, resume or evaluate_run), or name a data set.",
        ),
        Case(
            FOLDER,
            "pictures has only one class, 'cat': at least two are needed; add a class folder.",
            first=(removed("pictures/dog"),),
        ),
        Case(
            FOLDER,
            "pictures/dog has no images (…): put images in the class folder, or remove it.",
            first=(removed("pictures/dog/*"),),
        ),
        Case(
            FOLDER,
            "data_dir pictures: the folder is empty; put the files of 'image_folder' there.",
            first=(removed("pictures/*"),),
        ),
        Case(
            FOLDER,
            "pictures/dog/0.png cannot be decoded (cannot identify image file): replace or remove this "
            "image, or leave such images out with --bad-images skip.",
            first=(written("pictures/dog/0.png", "no picture", "is a text"),),
        ),
        Case(
            FOLDER,
            "pictures/dog/0.png cannot be decoded (image file is truncated): replace or remove this image, "
            "or leave such images out with --bad-images skip.",
            first=(cut("pictures/dog/0.png"),),
        ),
        Case(
            FOLDER,
            "pictures/dog/0.png cannot be decoded (cannot identify image file): replace or remove this "
            "image, or leave such images out with --bad-images skip.",
            first=(
                written("pictures/dog/0.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is PostScript"),
            ),
        ),
        Case(
            FOLDER,
            "pictures has val and valid: both could be the validation part; keep one of them, or put them together.",
            first=(
                written("pictures/val/cat/0.png", "x", "is there too"),
                written("pictures/train/cat/0.png", "x", "is there too"),
                written("pictures/valid/cat/0.png", "x", "is there too"),
            ),
        ),
        Case(
            FOLDER + " --validation-dir nowhere",
            "validation_dir nowhere: there is no such folder; correct the path or create it.",
        ),
        Case(
            FOLDER + " --validation-dir pictures",
            "validation_dir pictures is the training part: give a folder of other images, or leave it out.",
        ),
        Case(
            "codistill train --data parquet:table.parquet",
            "table.parquet is not a valid parquet file (…): get it again.",
            first=(written("table.parquet", "no table", "is a text"),),
        ),
    ),
    "Places": (
        Case(f"{TRAIN} --out own.py", "out own.py is a file: give the path of a folder."),
        Case(f"{TRAIN} --out own.py/run", "out own.py is a file: give the path of a folder."),
        Case(
            f"{TRAIN} --out pictures",
            "out pictures is not empty and holds no run (there is cat, dog): give another --out, or empty it yourself.",
        ),
        Case(
            f"{TRAIN} --out pictures --overwrite",
            "out pictures is not empty and holds no run (there is cat, dog): give another --out, or empty it yourself.",
        ),
        Case(
            f"{TRAIN} --out pictures --overwrite",
            "out pictures is not empty and holds no run (there is cat, config.yaml, dog): give another "
            "--out, or empty it yourself.",
            first=(written("pictures/config.yaml", "name: site\n", "is of another program"),),
        ),
        Case(
            f"{TRAIN} --out runs/done",
            "out runs/done already holds a run: continue it with 'codistill resume runs/done', replace it "
            "with --overwrite, or give another --out.",
        ),
        Case(
            f"{TRAIN} --out runs/stopped --overwrite",
            "runs/stopped is in use: another process trains into it; wait until it has ended, or use another folder.",
            first=(locked("runs/stopped"),),
        ),
        Case(
            f"{TRAIN} --init runs/done --out runs/done --overwrite",
            "out runs/done is the start of this run, which would be replaced: give another --out.",
        ),
        Case(DIGITS, "out new cannot be written (Read-only file system): give another --out.", first=(read_only(),)),
        Case(
            DIGITS,
            "out new/config.yaml cannot be written (No space left on device): make room on the disk.",
            first=(full_disk(),),
        ),
        Case(
            f"{TRAIN} --init runs/stopped --peers 2 --out new",
            "init runs/stopped: this run is not finished; finish it with 'codistill resume runs/stopped'.",
        ),
        Case(
            f"{TRAIN} --init runs/done --peers 3 --out new",
            "init runs/done: this run has 2 student(s), the group 3; give --peers 2, or start all from one "
            "student with 'codistill export runs/done' and --init runs/done/export.",
        ),
        Case(
            "codistill study okddip/table2 --profile smoke --out own.py",
            "out own.py is a file: give the path of a folder.",
        ),
    ),
    "Configuration files": (
        Case(
            "codistill train --config nowhere.yaml",
            "no configuration at nowhere.yaml: give a run directory, or the path of a config.yaml.",
        ),
        Case(
            "codistill train --config c.yaml",
            "c.yaml holds no settings: it must be a mapping such as 'method: okddip'.",
            first=(written("c.yaml", "- dml\n", "is a list"),),
        ),
        Case(
            "codistill train --config c.yaml",
            "c.yaml holds no settings: it must be a mapping such as 'method: okddip'.",
            first=(written("c.yaml", "", "is empty"),),
        ),
        Case(
            "codistill train --config c.yaml",
            "c.yaml cannot be read as YAML (…): give a config.yaml that codistill wrote.",
            first=(written("c.yaml", "method: [dml\n", "is no YAML"),),
        ),
        Case(
            "codistill train --config c.yaml",
            "c.yaml cannot be read as YAML (…): give a config.yaml that codistill wrote.",
            first=(written("c.yaml", b"\xff\xfe\x00", "is no text"),),
        ),
        Case(
            "codistill train --config c.yaml",
            "unknown setting 'optim.learning_rate': did you mean 'optim.clip_grad' or 'optim.min_lr' or "
            "'optim.head_lr'?",
            first=(written("c.yaml", "optim: {learning_rate: 1}\n", "says optim: {learning_rate: 1}"),),
        ),
        Case(
            "codistill train --config c.yaml",
            "unknown setting '1': choose one of: accumulate, amp, …",
            first=(written("c.yaml", "1: dml\n", "says 1: dml"),),
        ),
        Case(
            "codistill train --config c.yaml",
            "c.yaml has format version 9, this codistill reads 1: install a newer codistill.",
            first=(written("c.yaml", "version: 9\n", "says version: 9"),),
        ),
        Case(
            "codistill train --config c.yaml",
            "unknown recipe 'finetun': did you mean 'finetune'?",
            first=(written("c.yaml", "recipe: finetun\n", "says recipe: finetun"),),
        ),
        Case(
            "codistill train --config c.yaml",
            "c.yaml cannot be read as YAML (it has more than … values, with aliases written out): give a "
            "config.yaml that codistill wrote.",
            first=(written("c.yaml", BOMB, "has nine aliases of nine aliases of ..."),),
        ),
        Case(
            "codistill train --config c.yaml",
            "c.yaml cannot be read as YAML (could not determine a constructor for the tag …): give a "
            "config.yaml that codistill wrote.",
            first=(written("c.yaml", "label: !!python/object/apply:os.system [ls]\n", "calls a program"),),
        ),
        Case(
            "codistill train --config c.yaml",
            "own.py would be run as a program, and only a file names it, or it has changed since you named "
            "it: read it, and allow it with --trust-code (from Python: codistill.trust('own.py')).",
            first=(
                written("c.yaml", "model: [own.py:make]\n", "names own.py:make, which nobody has named"),
                written("own.py", "import shutil\n", "is somebody else's"),
            ),
        ),
        Case(
            "codistill train --config c.yaml",
            "c.yaml cannot be read as YAML (it has more than … bytes, and settings never do): give a "
            "config.yaml that codistill wrote.",
            first=(written("c.yaml", "x" * 2**21, "has 2 MB"),),
        ),
    ),
}
