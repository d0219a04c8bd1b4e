"""Students, exports and pictures."""

from __future__ import annotations

from case import Case
from spoiling import cut, edited, full_disk, made, no_token, read_only, removed, without, written

__all__ = ["SECTIONS"]


SECTIONS: dict[str, tuple[Case, ...]] = {
    "Students and pictures": (
        Case(
            "codistill predict nowhere pictures",
            "nowhere: there is no such file or folder; give a run directory or an exported student.",
        ),
        Case("codistill predict exported", "no pictures are given: name some, or folders with pictures."),
        Case(
            "codistill predict runs/done nowhere.png",
            "nowhere.png: there is no such file or folder; give pictures, or folders with pictures.",
        ),
        Case(
            "codistill predict runs/done own.py",
            "own.py cannot be read as a picture (cannot identify image file): give another file.",
        ),
        Case(
            "codistill predict runs/done empty",
            "there is no picture in empty (…): give pictures, or folders with pictures.",
            first=(made("empty"),),
        ),
        Case("codistill predict runs/done pictures --peer 2", "peer 2: this run has the students 0 to 1."),
        Case("codistill predict runs/done pictures --peer best", "peer 'best': give 'leader' or an index from 0 to 1."),
        Case(
            "codistill predict runs/done pictures --device cuda:7", "device 'cuda:7' is not there: this machine has …."
        ),
        Case("codistill predict runs/done pictures --json --csv", "--json and --csv: choose one of them."),
        Case(
            "codistill predict runs/done pictures --out page.txt",
            "out page.txt: name the file .csv or .json, or say which it is with --csv or --json.",
        ),
        Case(
            "codistill predict runs/done pictures --out pictures",
            "out pictures is a folder: give the name of a file, such as pictures/classes.csv.",
        ),
        Case(
            "codistill predict runs/stopped pictures",
            "runs/stopped is not finished, so its leader is not known: resume it, or name a peer by its index.",
        ),
        Case(
            "codistill predict own.py pictures",
            "own.py is no student: give a run directory, or a file or folder that 'codistill export' wrote.",
        ),
        Case(
            "codistill predict exported pictures",
            "exported has no student.json, which says what network the weights are of and what its classes "
            "are called: copy it there from the export, or export the student again.",
            first=(removed("exported/student.json"),),
        ),
        Case(
            "codistill predict exported pictures",
            "exported/student.safetensors cannot be read as weights (…): give a file of torch.save or safetensors.",
            first=(cut("exported/student.safetensors"),),
        ),
        Case(
            "codistill predict exported pictures",
            "exported/student.json has format version 9, and this codistill reads versions up to 1: install "
            "a newer codistill.",
            first=(edited("exported/student.json", '"version": 1', '"version": 9', "is of version 9"),),
        ),
        Case(
            "codistill predict exported pictures",
            "exported/student.safetensors does not fit resnet20 with the 10 classes of student.json (…): the "
            "files do not belong together; export the student again.",
            first=(edited("exported/student.json", '"resnet8_tiny"', '"resnet20"', "names resnet20"),),
        ),
        Case(
            "codistill predict student.onnx pictures",
            "onnxruntime is not installed: pip install 'codistill[onnx]'.",
            first=(written("student.onnx", "x", "is a text"), without("onnxruntime")),
        ),
        Case(
            "codistill predict student.pt2 pictures",
            "student.pt2 cannot be read as a program of torch.export (File is not a zip file): export the "
            "student again.",
            first=(written("student.pt2", "x", "is a text"),),
        ),
        Case(
            "codistill export nowhere",
            "no configuration at nowhere/config.yaml: give a run directory, or the path of a config.yaml.",
        ),
        Case(
            "codistill export runs/done --precision int8",
            "precision int8 with format safetensors: choose --precision float32 or float16, or --format onnx.",
        ),
        Case(
            "codistill export runs/done --format torch-export --precision float16",
            "precision float16 with format torch-export: choose --precision float32, or --format safetensors or onnx.",
        ),
        Case(
            "codistill export runs/done --with-preprocessing",
            "with_preprocessing has no effect here: leave it out, or choose --format onnx.",
        ),
        Case(
            "codistill export runs/done --push me/mine",
            "push has no effect here: leave it out, or choose --format hub.",
        ),
        Case("codistill export runs/done --format hub --push mine", "push 'mine': name the repository as OWNER/NAME."),
        Case(
            "codistill export runs/done --format hub --push me/mine",
            "push needs your token for the Hugging Face Hub, and there is none: run 'hf auth login', or set HF_TOKEN.",
            first=(no_token(),),
        ),
        Case(
            "codistill export runs/done --format onnx",
            "onnx is not installed: pip install 'codistill[onnx]'.",
            first=(without("onnx"),),
        ),
        Case("codistill export runs/done --peer 5", "peer 5: this run has the students 0 to 1."),
        Case(
            "codistill export runs/stopped",
            "runs/stopped is not finished, so its leader is not known: resume it, or name a peer by its index.",
        ),
        Case("codistill export runs/done --out own.py", "own.py is a file: give the path of a folder."),
        Case(
            "codistill export runs/done --out pictures",
            "pictures holds a README.md and no export: give an empty folder with --out.",
            first=(written("pictures/README.md", "mine", "is there"),),
        ),
        Case(
            "codistill export runs/done --data-dir nowhere",
            "data_dir nowhere with 'digits': this data comes with the package; leave out --data-dir.",
        ),
        Case(
            "codistill export runs/pictures --data-dir nowhere",
            "data_dir nowhere: there is no such folder; correct the path or create it.",
        ),
        Case(
            "codistill export runs/done",
            "runs/done/export cannot be written (No space left on device): make room, or give another folder "
            "with --out.",
            first=(full_disk(),),
        ),
        Case(
            "codistill export runs/done --out new",
            "new cannot be written (Read-only file system): make room, or give another folder with --out.",
            first=(read_only(),),
        ),
    ),
}
