"""Python for the card: programs that classify one picture file, and need nothing but what they import."""

from __future__ import annotations

from codistill.export.building import Recipe
from codistill.rundir import ENTRY, FileRecord

__all__ = ["snippet"]

PICTURE = "picture.jpg"
"""The file that the programs classify."""


def snippet(name: str, file: FileRecord, recipe: Recipe, channels: int, pushed: str | None = None) -> str:
    """Return a program that loads a file from the folder of the card and prints the probabilities of one picture.

    Args:
        name: of the file.
        file: what it is.
        recipe: how its network is built, where the file holds weights alone.
        channels: of the images.
        pushed: the repository on the Hugging Face Hub that holds the folder.
    """
    if file.format == "onnx":
        return _of_pictures(name, channels) if file.reads == "pictures" else _program(_ONNX_IMPORTS, _onnx(name), _RUN)
    if file.format == "torch-export":
        return _program(["import torch"], [f'network = torch.export.load("{name}").module()'], _CALL)
    if file.format == "hub" and recipe.library == "timm":
        where = f"hf-hub:{pushed}" if pushed else "local-dir:."
        load = [f'network = timm.create_model("{where}", pretrained=True).eval()']
        return _program(["import timm", "import torch"], load, _CALL)
    # float16 weights are widened while they are loaded.
    load = [*recipe.lines, f'network.load_state_dict(load_file("{name}"))', "network.eval()"]
    return _program(["import torch", "from safetensors.torch import load_file", *recipe.imports], load, _CALL)


_CALL = [
    "with torch.no_grad():",
    "    logits = network(torch.from_numpy(image)[None])[0]",
    "return logits.softmax(0).tolist()",
]
_ONNX_IMPORTS = ["import numpy as np", "import onnxruntime"]
_RUN = [
    'logits = network.run(None, {"images": image[None]})[0][0]',
    "exp = np.exp(logits - logits.max())",
    "return (exp / exp.sum()).tolist()",
]


def _onnx(name: str) -> list[str]:
    return [f'network = onnxruntime.InferenceSession("{name}", providers=["CPUExecutionProvider"])']


def _program(imports: list[str], load: list[str], use: list[str]) -> str:
    return "\n".join(
        [
            "import json",
            "",
            *imports,
            "from prepare import prepare  # the file in this folder, printed above",
            "",
            'student = json.load(open("student.json", encoding="utf-8"))',
            *load,
            "",
            "",
            "def classify(picture):",
            '    image = prepare(picture, student["preparation"])',
            *(f"    {line}" for line in use),
            "",
            "",
            f'for name, probability in zip(student["classes"], classify("{PICTURE}")):',
            '    print(f"{probability:.4f} {name}")',
        ]
    )


def _of_pictures(name: str, channels: int) -> str:
    mode, pixels = ("L", "np.asarray(image)[None, :, :, None]") if channels == 1 else ("RGB", "np.asarray(image)[None]")
    return "\n".join(
        [
            "import json",
            "",
            *_ONNX_IMPORTS,
            "from PIL import Image, ImageOps",
            "",
            *_onnx(name),
            f'student = json.loads(network.get_modelmeta().custom_metadata_map["{ENTRY}"])',
            "",
            "",
            "def classify(picture):",
            f'    image = ImageOps.exif_transpose(Image.open(picture)).convert("{mode}")',
            f'    return network.run(None, {{"pictures": {pixels}}})[0][0].tolist()',
            "",
            "",
            f'for name, probability in zip(student["classes"], classify("{PICTURE}")):',
            '    print(f"{probability:.4f} {name}")',
        ]
    )
