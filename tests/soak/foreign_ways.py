"""The commands of foreign_code.py with the files that they open: what prepares one, or makes a function that does."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import Any

import torch
from foreign_places import Evil, Place, package


def trained(**changes: Any) -> Callable[[Place], Sequence[object]]:
    """Train with a configuration in which PATH stands for foreign code."""

    def prepare(place: Place) -> Sequence[object]:
        path = str(place.code())
        return ["train", "--config", place.config(**_filled(changes, path)), "--out", place.out]

    return prepare


def _filled(changes: Any, path: str) -> Any:
    if isinstance(changes, dict):
        return {name: _filled(value, path) for name, value in changes.items()}
    if isinstance(changes, list):
        return [_filled(value, path) for value in changes]
    return changes.replace("PATH", path) if isinstance(changes, str) else changes


def named(model: str, *files: str) -> Callable[[Place], Sequence[object]]:
    """Train with a configuration that names a network in one of these files."""

    def prepare(place: Place) -> Sequence[object]:
        for file in files:
            place.code(file)
        model_here = model.replace("ROOT", str(place.root))
        return ["train", "--config", place.config(model=[model_here]), "--out", place.out]

    return prepare


def opened(*arguments: str, finished: bool = True, run: str = "run") -> Callable[[Place], Sequence[object]]:
    """Open a run whose network foreign code defines; RUN and PICTURES stand for paths."""

    def prepare(place: Place) -> Sequence[object]:
        path = place.run(run, finished=finished, model=[f"{place.code()}:net"])
        pictures = place.pictures() if "PICTURES" in arguments else None
        values = {"RUN": path, "OUT": place.out, "PICTURES": pictures, "CONFIG": path / "config.yaml"}
        return [values.get(argument, argument) for argument in arguments]

    return prepare


def text_of(text: str, *arguments: str) -> Callable[[Place], Sequence[object]]:
    """Open a run with this text as config.yaml; SHELL stands for a shell command."""

    def prepare(place: Place) -> Sequence[object]:
        run = place.run(known=True)
        (run / "config.yaml").write_text(text.replace("SHELL", place.shell))
        return [{"RUN": run, "CONFIG": run / "config.yaml", "OUT": place.out}.get(one, one) for one in arguments]

    return prepare


def started(make: Callable[[Place], Path]) -> Callable[[Place], Sequence[object]]:
    """Train from a file of weights."""
    return lambda place: ["train", "--config", place.config(), "--out", place.out, "--init", make(place)]


def predicted(make: Callable[[Place], Path]) -> Callable[[Place], Sequence[object]]:
    """Classify pictures with a foreign student."""
    return lambda place: ["predict", *(place.pictures(), make(place))[::-1]]


def weighed(weights: str) -> Callable[[Place], Sequence[object]]:
    """A teacher whose network foreign code defines, with weights in a file."""

    def prepare(place: Place) -> Sequence[object]:
        shutil.copy(place.base.weights / "student.safetensors", place.root / weights)
        teacher = f"{place.code()}:net@{place.root / weights}"
        return ["train", "--config", place.config(method="kd", teachers=[teacher]), "--out", place.out]

    return prepare


def misprepared(place: Place) -> Path:
    """An export that names code as the way in which pictures are prepared."""
    how = json.loads((place.base.plain / "student.json").read_text())["preparation"]
    return place.export(known=True, preparation={**how, "resize": f"{place.code()}:net"})


def linked(place: Place) -> Sequence[object]:
    """A link, without a suffix that says so, to foreign code."""
    (place.root / "innocent.py").symlink_to(place.code("their/net.py"))
    return ["train", "--config", place.config(model=[f"{place.root}/innocent.py:net"]), "--out", place.out]


def linked_folder(place: Place) -> Sequence[object]:
    """A link to a folder with foreign code."""
    place.code("their/net.py")
    (place.root / "ours").symlink_to(place.root / "their")
    return ["train", "--config", place.config(model=[f"{place.root}/ours/net.py:net"]), "--out", place.out]


def folder_like_code(place: Place) -> Sequence[object]:
    """A run whose own path, which the user types, looks as if it named the code next to it."""
    return ["evaluate", place.run("net.py:run", model=[f"{place.code()}:net"])]


def picture_like_code(place: Place) -> Sequence[object]:
    """A picture whose path looks as if it named the code next to it."""
    pictures = place.pictures()
    run = place.run(model=[f"{place.code()}:net"])
    (pictures / "train/class0/0.png").rename(place.root / "net.py:0.png")
    return ["predict", run, place.root / "net.py:0.png"]


def changed_since(place: Place) -> Sequence[object]:
    """Code that this user has named, and that was changed afterwards."""
    path = place.root / "net.py"
    path.write_text(path.read_text() + place.program_text)
    return ["train", "--config", place.config(model=[f"{path}:net"]), "--out", place.out]


def cached(mode: PycInvalidationMode) -> Callable[[Place], Sequence[object]]:
    """Trusted code next to a compiled file of other code."""

    def prepare(place: Place) -> Sequence[object]:
        path = place.compiled(mode)
        return ["train", "--config", place.config(model=[f"{path}:net"]), "--out", place.out]

    return prepare


def forged_state(place: Place) -> Sequence[object]:
    """A checkpoint's state that runs code."""
    run = place.run(known=True, finished=False)
    for state in run.glob("checkpoints/*/state.pt"):
        torch.save(Evil(place.shell), state)
    return ["resume", run]


def forged_weights(place: Place) -> Sequence[object]:
    """A checkpoint's weights that are a pickle."""
    run = place.run(known=True)
    for weights in run.glob("checkpoints/*/weights.safetensors"):
        weights.write_bytes(pickle.dumps(Evil(place.shell), protocol=2))
    return ["evaluate", run]


def forged_records(place: Place) -> Sequence[object]:
    """A run whose records name code in every field that holds text."""
    code = f"{place.code()}:net"
    run = place.run(known=True)
    for name in ("input.json", "summary.json", "mistakes.json"):
        path = run / name
        text = path.read_text().replace('"bilinear"', f'"{code}"').replace('"dml"', f'"{code}"')
        path.write_text(text.replace('"version": 1', f'"version": 1, "code": "{code}", "class": "{code}"'))
    return ["report", run]


def forged_manifest(place: Place) -> Sequence[object]:
    """A checkpoint whose manifest names code."""
    code = place.code()
    run = place.run(known=True, finished=False)
    for manifest in place.base.known.glob("checkpoints/*/manifest.json"):
        text = manifest.read_text().replace('"code": {', f'"code": {{"{code}:net": "{code}", ')
        (run / manifest.relative_to(place.base.known)).write_text(text)
    return ["resume", run]


def littered_export(place: Place) -> Path:
    """An export among files that other libraries would execute."""
    folder = place.export(known=True)
    place.litter(
        folder, ("hubconf", "prepare", "__init__", "modeling", "configuration", "student", "torch", "codistill")
    )
    (folder / "config.json").write_text('{"auto_map": {"AutoModel": "modeling.net"}, "custom_pipelines": "modeling"}')
    (folder / "evil.pth").write_text(f"import os; os.system({place.shell!r})\n")
    return folder


def littered_run(place: Place) -> Sequence[object]:
    """A run among modules that shadow those of programs."""
    run = place.run(known=True, finished=False)
    place.litter(run)
    place.litter(run / "checkpoints")
    place.litter(run / "extra")
    return ["resume", run]


def littered_data(place: Place) -> Sequence[object]:
    """Pictures among modules, with a script that loads them."""
    pictures = place.pictures("digits_of_others")
    names = ("__init__", "torch", "dataset", "prepare", "hubconf", "digits_of_others", "sitecustomize")
    place.litter(pictures, names)
    place.litter(pictures / "train" / "class0", names)
    (pictures / "evil.pth").write_text(f"import os; os.system({place.shell!r})\n")
    changes = {"data": "image_folder", "data_dir": str(pictures), "image_size": 16, "batch_size": 4}
    config = place.config(train_subset=None, **changes)
    return ["train", "--config", config, "--out", place.out]


def bad_picture(name: str, content: Callable[[Place], bytes]) -> Callable[[Place], Sequence[object]]:
    """Classify a file that is no picture."""

    def prepare(place: Place) -> Sequence[object]:
        path = place.root / name
        path.write_bytes(content(place))
        return ["predict", place.run(known=True), path]

    return prepare


def cifar(place: Place) -> Sequence[object]:
    """CIFAR's files, which are pickles, with others' content."""
    for name in ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"):
        place.pickled(f"data/cifar-10-batches-py/{name}")
    place.pickled("data/cifar-10-batches-py/batches.meta")
    config = place.config(data="cifar10", data_dir=str(place.root / "data"), download=False)
    return ["train", "--config", config, "--out", place.out]


def fashion_mnist(place: Place) -> Sequence[object]:
    """Fashion-MNIST's files with a pickle in them."""
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        place.pickled(f"data/{name}-ubyte")
    config = place.config(data="fashion_mnist", data_dir=str(place.root / "data"), download=False)
    return ["train", "--config", config, "--out", place.out]


def loading_script(place: Place) -> Sequence[object]:
    """A folder of the package datasets, with the script that older versions of it executed."""
    folder = place.litter(place.root / "theirs", ("theirs", "dataset", "__init__"))
    return ["train", "--config", place.config(data=f"hf:{folder}"), "--out", place.out]


def parquet(place: Place) -> Sequence[object]:
    """A table whose pictures are pickles, with a type of pyarrow that older versions unpickled."""
    import pyarrow
    from pyarrow import parquet as files

    evil = pickle.dumps(Evil(place.shell), protocol=2)
    meta = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": evil}
    image = pyarrow.field("image", pyarrow.binary(), metadata=meta)
    schema = pyarrow.schema([image, pyarrow.field("label", pyarrow.int64())])
    table = pyarrow.table({"image": [evil] * 8, "label": [0, 1] * 4}, schema=schema)
    files.write_table(table, place.root / "train.parquet")
    config = place.config(data=f"parquet:{place.root / 'train.parquet'}", image_size=16)
    return ["train", "--config", config, "--out", place.out]


def table_of_code(place: Place) -> Sequence[object]:
    """A table that names files of code and pickles as its pictures."""
    import pyarrow
    from pyarrow import parquet as files

    names = [str(path.relative_to(place.root)) for path in (place.code(), place.pickled("0.npy"), place.saved("1.png"))]
    rows = {"image": [{"bytes": None, "path": name} for name in (names * 3)[:8]], "label": [0, 1] * 4}
    files.write_table(pyarrow.table(rows), place.root / "train.parquet")
    config = place.config(data=f"parquet:{place.root / 'train.parquet'}", image_size=16)
    return ["train", "--config", config, "--out", place.out]


def onnx_outside(place: Place) -> Path:
    """An ONNX file whose weights lie outside its folder."""
    onnx = package("onnx")
    kinds, helper = onnx.TensorProto, onnx.helper

    place.pickled("secret.bin")
    weight = helper.make_tensor("w", kinds.FLOAT, [1], [0.0])
    weight.ClearField("float_data")
    weight.data_location = kinds.EXTERNAL
    weight.external_data.add(key="location", value="../secret.bin")
    images = [helper.make_tensor_value_info(name, kinds.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", images[:1], images[1:], [weight])
    folder = place.root / "onnx"
    folder.mkdir()
    (folder / "student.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    return folder


def comparison(place: Place) -> Sequence[object]:
    """The folder of a comparison in which a run of others lies where one of ours would."""
    code = place.code()
    place.run("out/runs/alone-seed0", model=[f"{code}:net"], finished=False)
    return [
        "compare",
        "--config",
        place.config(),
        "--methods",
        "dml",
        "--seeds",
        "1",
        "--jobs",
        "1",
        "--out",
        place.out,
    ]


def shadowed(*arguments: str) -> Callable[[Place], Sequence[object]]:
    """A command in a folder with modules that shadow those of programs."""

    def prepare(place: Place) -> Sequence[object]:
        folder = place.litter(place.root / "here")
        (folder / "evil.pth").write_text(f"import os; os.system({place.shell!r})\n")
        (folder / "matplotlibrc").write_text("backend: module://torch\naxes.prop_cycle: cycler('color', [exit()])\n")
        values = {"KNOWN": place.run(known=True), "CONFIG": place.config(), "OUT": place.out}
        values["PICTURES"] = place.pictures() if "PICTURES" in arguments else None
        return [values.get(argument, argument) for argument in arguments]

    return prepare


def star(place: Place) -> Sequence[object]:
    """A folder with a file called --trust-code, for which a shell writes the option where the user types a star."""
    pictures = place.pictures("here/pictures")
    (place.root / "here/--trust-code").write_text("")
    run = place.run(model=[f"{place.code()}:net"])
    return ["predict", run, "--trust-code", pictures]


def student(**changes: Any) -> Callable[[Place], Path]:
    """An export whose card has other entries; PATH stands for foreign code."""
    return lambda place: place.export(**_filled(changes, str(place.code())))


def taught(place: Place) -> Sequence[object]:
    """A teacher that is an export whose card names code."""
    teacher = place.export(model=f"{place.code()}:net")
    return ["train", "--config", place.config(method="kd"), "--teachers", teacher, "--out", place.out]


def taught_by_pickle(place: Place) -> Sequence[object]:
    """A teacher whose weights are a pickle."""
    teacher = f"resnet8_tiny@{place.saved('t.pt')}"
    return ["train", "--config", place.config(method="kd"), "--teachers", teacher, "--out", place.out]


def scored(place: Place) -> Sequence[object]:
    """An export, where a run is expected."""
    return ["evaluate", place.export(model=f"{place.code()}:net"), "--data-dir", place.pictures()]


def with_samples(place: Place) -> Path:
    """A program whose sample inputs are a pickle."""
    return place.program("sample_inputs/model.pt", place.saved_bytes())


def with_expression(place: Place) -> Path:
    """A program in which the expression for a size is code; sympy evaluates it."""
    new = f"__import__('os').system('{place.shell}') + Symbol('s"
    return place.program("models/model.json", old="Symbol('s", new=new)


def pickled_bytes(place: Place) -> bytes:
    """A pickle that runs code."""
    return pickle.dumps(Evil(place.shell), protocol=2)


def postscript(place: Place) -> bytes:
    """A program of PostScript."""
    return f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%{place.shell}) (w) file\n".encode()


def vectors(place: Place) -> bytes:
    """A vector graphic with a script."""
    return f"<svg><script>{place.shell}</script></svg>".encode()


def pickled_student(place: Place) -> Path:
    """An export whose weights are a pickle."""
    return place.pickled("export/student.safetensors").parent
