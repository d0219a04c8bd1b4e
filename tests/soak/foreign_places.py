"""What foreign_code.py opens: honest runs and exports, and copies of them in which others have left Python code."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import pickle
import py_compile
import shutil
import sys
import zipfile
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from child import forked
from PIL import Image

from codistill import cli

__all__ = ["HONEST", "Base", "Evil", "Place", "command", "package"]

HONEST = """
from torch import nn


def net(num_classes, in_channels):
    return nn.Sequential(
        nn.Conv2d(in_channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, num_classes),
    )
"""
SETTINGS: dict[str, Any] = {
    "version": 1, "method": "dml", "model": ["resnet8_tiny"], "peers": 2, "data": "digits", "epochs": 1, "threads": 1,
    "train_subset": 300, "device": "cpu", "executor": "loop",
}  # fmt: skip
LOADED = ("torchvision.models", "torch.export", "timm", "codistill.reports", "codistill.export", "codistill.students")
"""Loaded once, and not again in each fork; what is not installed is left out."""

MODULES = (
    "torch",
    "numpy",
    "codistill",
    "yaml",
    "multiprocessing",
    "pickle",
    "struct",
    "sitecustomize",
    "usercustomize",
)
"""Modules that a program of ours imports, or that Python imports by itself."""


class Evil:
    """An object that runs a shell command when it is unpickled."""

    def __init__(self, shell: str) -> None:
        self.shell = shell

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.shell,)


for name in LOADED:
    with contextlib.suppress(ImportError):
        importlib.import_module(name)


def package(name: str) -> Any:
    """A package of an extra; ImportError where it is not installed, and the attempt is left out."""
    return importlib.import_module(name)


def command(*arguments: object, settings: Path, folder: Path, home: Path | None = None) -> None:
    """Run a command of codistill in this process, as a user whose list of trusted code lies in `settings`."""
    os.environ["CODISTILL_CONFIG"] = str(settings)
    os.environ["HOME"] = str(home or settings)
    os.chdir(folder)
    # Those of this process's start may be files, which its pipe is not.
    sys.stdout, sys.stderr = (open(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))  # noqa: SIM115
    cli.main([str(argument) for argument in arguments])


class Base:
    """Honest runs and exports, made once, each when it is first asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "net.py").write_text(HONEST)

    @cached_property
    def run(self) -> Path:
        """A run of a network that the file net.py defines."""
        (self.root / "run.yaml").write_text(yaml.safe_dump({**SETTINGS, "model": [f"{self.root}/net.py:net"]}))
        return self._made("run", "train", "--config", "run.yaml", "--model", f"{self.root}/net.py:net", "--out", "run")

    @cached_property
    def known(self) -> Path:
        """A run of a network of ours."""
        (self.root / "known.yaml").write_text(yaml.safe_dump(SETTINGS))
        return self._made("known", "train", "--config", "known.yaml", "--out", "known")

    @cached_property
    def weights(self) -> Path:
        """The run's student as weights."""
        return self._made("weights", "export", self.run, "--out", "weights")

    @cached_property
    def plain(self) -> Path:
        """The student of a network of ours, as weights."""
        return self._made("plain", "export", self.known, "--out", "plain")

    @cached_property
    def program(self) -> Path:
        """The run's student as a program of torch.export."""
        return self._made("program", "export", self.run, "--out", "program", "--format", "torch-export")

    def _made(self, name: str, *arguments: object) -> Path:
        done = forked(lambda: command(*arguments, settings=self.root / "settings", folder=self.root))
        assert done.code == 0, done.text
        return self.root / name


class Place:
    """A folder with what others have sent, for one attempt; `canary` grows whenever code in it is executed."""

    def __init__(self, root: Path, base: Base) -> None:
        self.root, self.base, self.canary = root, base, root.with_name(f"{root.name}.ran")
        self.settings, self.out = root / "mine", root / "out"
        self.settings.mkdir(parents=True)
        self.shell = f"echo ran >> {self.canary}"

    @property
    def ran(self) -> bool:
        """Whether anything was executed."""
        return self.canary.exists()

    @property
    def program_text(self) -> str:
        """A file of Python that leaves a trace and then fails, so that nobody waits for what follows."""
        trace = f"with open({str(self.canary)!r}, 'a') as file:\n    file.write('ran')\n"
        return f"{trace}raise RuntimeError('code of others')\n{HONEST}"

    def code(self, name: str = "net.py") -> Path:
        """Write a file of Python, and return it."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.program_text)
        return path

    def compiled(self, mode: py_compile.PycInvalidationMode) -> Path:
        """The user's own, trusted file, next to which lies other code in __pycache__; return the file."""
        path, size = self.root / "net.py", len(HONEST)
        path.write_text(self.program_text)
        place = py_compile.compile(str(path), invalidation_mode=mode, doraise=True)
        assert place is not None
        path.write_text(HONEST)
        # A cached file is valid for the time and the size of its source, which whoever sends both can choose.
        content, cached = path.stat(), Path(place)
        header = cached.read_bytes()
        stamp = int(content.st_mtime).to_bytes(4, "little") + size.to_bytes(4, "little")
        cached.write_bytes(header[:8] + (stamp if header[4] == 0 else header[8:16]) + header[16:])
        return path

    def config(self, name: str = "config.yaml", **changes: Any) -> Path:
        """Write a configuration, and return it."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump({**SETTINGS, **changes}))
        return path

    def run(self, name: str = "run", known: bool = False, finished: bool = True, **changes: Any) -> Path:
        """A copy of an honest run whose settings were changed wherever they are recorded."""
        run = self.root / name
        shutil.copytree(self.base.known if known else self.base.run, run)
        settings = yaml.safe_load((run / "config.yaml").read_text()) | changes
        (run / "config.yaml").write_text(yaml.safe_dump(settings))
        if not finished:
            (run / "summary.json").unlink()
        for state in run.glob("checkpoints/*/state.pt"):
            held = torch.load(state, weights_only=True)
            held["config"] = json.dumps({k: v for k, v in settings.items() if k != "version"})
            torch.save(held, state)
        # A run without checksums is one of an older version.
        for manifest in run.glob("checkpoints/*/manifest.json"):
            manifest.unlink()
        return run

    def export(self, name: str = "export", known: bool = False, **changes: Any) -> Path:
        """A copy of an honest export whose card was changed."""
        folder = self.root / name
        shutil.copytree(self.base.plain if known else self.base.weights, folder)
        card = folder / "student.json"
        card.write_text(json.dumps(json.loads(card.read_text()) | changes))
        return folder

    def program(self, member: str, content: bytes | None = None, old: str = "", new: str = "") -> Path:
        """A copy of an honest program of torch.export with another member in its archive, or another text in one."""
        folder = self.root / "program"
        shutil.copytree(self.base.program, folder)
        with zipfile.ZipFile(self.base.program / "student.pt2") as honest:
            members = {entry.filename: honest.read(entry) for entry in honest.infolist()}
        name = next(one for one in members if one.endswith(member))
        members[name] = members[name].replace(old.encode(), new.encode()) if content is None else content
        with zipfile.ZipFile(folder / "student.pt2", "w") as forged:
            for one, held in members.items():
                forged.writestr(one, held)
        return folder / "student.pt2"

    def pickled(self, name: str) -> Path:
        """A pickle that runs code, as pickle.dump writes it."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(Evil(self.shell), protocol=2))
        return path

    def saved(self, name: str, legacy: bool = False) -> Path:
        """A file of torch.save that runs code."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"0.weight": Evil(self.shell)}, path, _use_new_zipfile_serialization=not legacy)
        return path

    def script(self, name: str) -> Path:
        """A TorchScript program."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.jit.save(torch.jit.script(torch.nn.Flatten()), path)
        return path

    def saved_bytes(self) -> bytes:
        """The content of a file of torch.save that runs code."""
        stream = io.BytesIO()
        torch.save(Evil(self.shell), stream)
        return stream.getvalue()

    def pictures(self, name: str = "pictures", classes: int = 2, each: int = 6) -> Path:
        """A folder of pictures, by class."""
        draw = np.random.default_rng(0)
        for number in range(classes):
            for part in ("train", "test"):
                folder = self.root / name / part / f"class{number}"
                folder.mkdir(parents=True)
                for at in range(each):
                    pixels = draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(folder / f"{at}.png")
        return self.root / name

    def litter(self, folder: Path, names: tuple[str, ...] = MODULES) -> Path:
        """Leave modules in a folder that shadow those which programs import."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            (folder / f"{name}.py").write_text(self.program_text)
        return folder
