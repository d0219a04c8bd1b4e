"""The ways in which foreign_code.py tries to have files of others execute Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from py_compile import PycInvalidationMode

import foreign_ways as ways
from foreign_places import Place

__all__ = ["ATTEMPTS", "Attempt"]


@dataclass(frozen=True)
class Attempt:
    """One way to have code executed.

    Attributes:
        name: what it is.
        prepare: writes the files into a place, and returns the arguments of the command.
        control: "trust": the same command with --trust-code executes it; "unpickle": pickle executes one of the files
            that are opened; "": there is nothing that would.
        how: "fork": in a fork of this process; "console": as the program codistill; "module": as python -m codistill.
        folder: the current folder, in the place.
        ours: a file in the place that the user has named before.
    """

    name: str
    prepare: Callable[[Place], Sequence[object]]
    control: str = ""
    how: str = "fork"
    folder: str = "."
    ours: str | None = None


COMPARE = ("compare", "--config", "CONFIG", "--methods", "dml", "--out", "OUT")
TAUGHT = ("train", "--method", "kd", "--teachers", "RUN", "--out", "OUT", "--epochs", "1")
STARTED = ("train", "--init", "RUN", "--out", "OUT", "--epochs", "1", "--data", "digits")
PICTURES = ("--data-dir", "PICTURES", "--set", "train_subset=null")
ONE = ("--seeds", "1", "--jobs", "1")
WORKERS = ("--data", "image_folder", "--image-size", "16", "--batch-size", "4", "--data-memory", "0", "--workers", "2")
TRAIN = ("train", "--config", "CONFIG", "--out", "OUT")
NO_CODE = "version: 1\nmethod: dml\nmodel: [resnet8_tiny]\npeers: 2\ndata: digits\nlabel: "
TAGS = {
    "object/apply": "!!python/object/apply:os.system ['SHELL']",
    "object/new": "!!python/object/new:os.system ['SHELL']",
    "object/apply of subprocess": "!!python/object/apply:subprocess.check_output [['sh', '-c', 'SHELL']]",
    "name": "!!python/name:os.system",
    "module": "!!python/module:antigravity",
    "object": "!!python/object:codistill.config.Config {method: x}",
    "a tag of one's own": "!<tag:yaml.org,2002:python/object/apply:os.system> ['SHELL']",
}

ATTEMPTS = [
    # How a file can be named.
    Attempt("model, absolute path", ways.trained(model=["PATH:net"]), "trust"),
    Attempt("model, relative path", ways.named("net.py:net", "net.py"), "trust"),
    Attempt("model, ./ before it", ways.named("./net.py:net", "net.py"), "trust"),
    Attempt("model, .. in the path", ways.named("ROOT/a/../net.py:net", "net.py", "a/other.py"), "trust"),
    Attempt("model, // in the path", ways.named("/ROOT//net.py:net", "net.py"), "trust"),
    Attempt("model, ~ for the home folder", ways.named("~/net.py:net", "net.py"), "trust"),
    Attempt("model, link to a file", ways.linked, "trust"),
    Attempt("model, link to a folder", ways.linked_folder, "trust"),
    Attempt("model, suffix .PY", ways.named("ROOT/net.PY:net", "net.PY")),
    Attempt("model, suffix .pyc", ways.named("ROOT/net.pyc:net", "net.pyc")),
    Attempt("model, suffix .txt", ways.named("ROOT/net.txt:net", "net.txt")),
    Attempt("model, file in a folder x.py:y", ways.named("ROOT/x.py:y/net.py:net", "x.py:y/net.py"), "trust"),
    Attempt("model, package", ways.named("ROOT/net.py:net", "net.py/__init__.py")),
    Attempt("model, name with two colons", ways.named("ROOT/net.py:net:net", "net.py")),
    Attempt("model, file called net.py:net.py", ways.named("ROOT/net.py:net.py:net", "net.py:net.py"), "trust"),
    Attempt("model, space before it", ways.named(" ROOT/net.py:net", "net.py")),
    Attempt("model, file://", ways.named("file://ROOT/net.py:net", "net.py")),
    Attempt("model, module name", ways.named("net.net", "net.py")),
    Attempt("model of the second peer", ways.trained(model=["resnet8_tiny", "PATH:net"]), "trust"),
    Attempt("model, changed since it was named", ways.changed_since, "trust", ours="net.py"),
    Attempt("model, other code in __pycache__", ways.cached(PycInvalidationMode.UNCHECKED_HASH), ours="net.py"),
    Attempt("model, other code in __pycache__ by time", ways.cached(PycInvalidationMode.TIMESTAMP), ours="net.py"),
    # What can name it.
    Attempt("method", ways.trained(method="PATH:net"), "trust"),
    Attempt("optim.name", ways.trained(optim={"name": "PATH:net"}), "trust"),
    Attempt("teachers, function", ways.trained(method="kd", teachers=["PATH:net"]), "trust"),
    Attempt("teachers, network@weights", ways.weighed("x.safetensors"), "trust"),
    Attempt("teachers, network@a:b", ways.weighed("a:b.safetensors"), "trust"),
    Attempt("teachers, network@x.py:y", ways.weighed("x.py:y.safetensors"), "trust"),
    Attempt("init", ways.trained(init=["PATH:net"])),
    Attempt("logger", ways.trained(logger=["PATH:net"])),
    Attempt("observers", ways.trained(observers=["PATH:net"])),
    Attempt("recipe", ways.trained(recipe="PATH:net")),
    Attempt("executor", ways.trained(executor="PATH:net")),
    Attempt("data", ways.trained(data="PATH:net")),
    Attempt("normalise", ways.trained(normalise="PATH:net")),
    Attempt("augment.policies", ways.trained(augment={"policies": ["PATH:net"]})),
    Attempt("method_options", ways.trained(method_options={"temperature": "PATH:net"})),
    Attempt("optim.options", ways.trained(optim={"options": {"foreach": "PATH:net"}})),
    Attempt("split and classifier", ways.trained(group="branches", split="__class__", classifier="PATH:net")),
    Attempt("device", ways.trained(device="PATH:net")),
    Attempt("label, which reports show", ways.trained(label="{{ ''.__class__.__mro__ }} PATH:net")),
    # Commands that open a run.
    Attempt("resume", ways.opened("resume", "RUN", finished=False), "trust"),
    Attempt("evaluate", ways.opened("evaluate", "RUN"), "trust"),
    Attempt("evaluate of a folder", ways.opened("evaluate", "RUN", "--data-dir", "PICTURES"), "trust"),
    Attempt("export", ways.opened("export", "RUN", "--out", "OUT"), "trust"),
    Attempt("predict", ways.opened("predict", "RUN", "PICTURES"), "trust"),
    Attempt("report", ways.opened("report", "RUN")),
    Attempt("a teacher's run", ways.opened(*TAUGHT), "trust"),
    Attempt("a start's run", ways.opened(*STARTED)),
    Attempt("compare", ways.opened(*COMPARE, "--dry-run"), "trust"),
    Attempt("compare, a run in its folder", ways.comparison),
    Attempt("a run in a folder net.py:run", ways.folder_like_code, "trust"),
    Attempt("a picture net.py:0.png", ways.picture_like_code, "trust"),
    Attempt("records of a run", ways.forged_records),
    Attempt("manifest of a checkpoint", ways.forged_manifest),
    # YAML.
    *(Attempt(f"YAML, {tag}", ways.text_of(NO_CODE + text, *TRAIN)) for tag, text in TAGS.items()),
    Attempt("YAML, report", ways.text_of(NO_CODE + TAGS["object/apply"], "report", "RUN")),
    Attempt("YAML, resume", ways.text_of(NO_CODE + TAGS["object/apply"], "resume", "RUN")),
    # Exports.
    Attempt("student.json, model", ways.predicted(ways.student(model="PATH:net")), "trust"),
    Attempt("student.json, model, ~", ways.predicted(ways.student(model="~/net.py:net"))),
    Attempt("student.json, as a teacher", ways.taught, "trust"),
    Attempt("student.json, evaluate", ways.scored),
    Attempt("student.json, preparation", ways.predicted(ways.misprepared)),
    Attempt("student.json of an own network", ways.predicted(ways.student(model="own", code="PATH:net"))),
    Attempt("hubconf.py, prepare.py, auto_map", ways.predicted(ways.littered_export)),
    Attempt("student.safetensors, a pickle", ways.predicted(ways.pickled_student), "unpickle"),
    Attempt("student.pt2, a pickle", ways.predicted(lambda p: p.pickled("export/student.pt2")), "unpickle"),
    Attempt("student.pt2, TorchScript", ways.predicted(lambda p: p.script("export/student.pt2"))),
    Attempt("student.pt2, sample inputs", ways.predicted(ways.with_samples), "trust"),
    Attempt("student.pt2, an expression", ways.predicted(ways.with_expression), "trust"),
    Attempt("student.pt2, a folder", ways.predicted(lambda p: ways.with_samples(p).parent), "trust"),
    Attempt("ONNX, weights outside", ways.predicted(ways.onnx_outside)),
    # Weights.
    Attempt("--init, torch.save", ways.started(lambda p: p.saved("start.pt")), "unpickle"),
    Attempt("--init, older torch.save", ways.started(lambda p: p.saved("start.pt", legacy=True)), "unpickle"),
    Attempt("--init, a pickle", ways.started(lambda p: p.pickled("start.pkl")), "unpickle"),
    Attempt("--init, a pickle called .npy", ways.started(lambda p: p.pickled("start.npy")), "unpickle"),
    Attempt("--init, a pickle called .safetensors", ways.started(lambda p: p.pickled("start.safetensors")), "unpickle"),
    Attempt("--init, TorchScript", ways.started(lambda p: p.script("start.pt"))),
    Attempt("--init, a program", ways.started(ways.with_samples)),
    Attempt("--teachers network@pickle", ways.taught_by_pickle),
    Attempt("state of a checkpoint", ways.forged_state),
    Attempt("weights of a checkpoint", ways.forged_weights),
    # Data.
    Attempt("modules among pictures", ways.littered_data),
    Attempt("modules in a run", ways.littered_run),
    Attempt("a pickle called .png", ways.bad_picture("x.png", ways.pickled_bytes), "unpickle"),
    Attempt("PostScript called .png", ways.bad_picture("x.png", ways.postscript)),
    Attempt("SVG called .png", ways.bad_picture("x.png", ways.vectors)),
    Attempt("pickles for CIFAR", ways.cifar),
    Attempt("pickles for Fashion-MNIST", ways.fashion_mnist),
    Attempt("a loading script", ways.loading_script),
    Attempt("parquet, a type that unpickles", ways.parquet),
    Attempt("parquet, names of code", ways.table_of_code),
    # The current folder.
    Attempt("a file --trust-code, and a star", ways.star, folder="here"),
    Attempt("modules here, predict", ways.shadowed("predict", "KNOWN", "PICTURES"), how="console", folder="here"),
    Attempt("modules here, report", ways.shadowed("report", "KNOWN"), how="console", folder="here"),
    Attempt("modules here, workers", ways.shadowed(*TRAIN, *WORKERS, *PICTURES), how="console", folder="here"),
    Attempt("modules here, compare", ways.shadowed(*COMPARE, *ONE), how="console", folder="here"),
    Attempt("modules here, python -m", ways.shadowed("list", "methods"), how="module", folder="here"),
]  # fmt: skip
