"""Every error that a user can meet, and the commands that its hint proposes.

```
CflEdgeError                 exit code
├── UsageError               2   an option or argument has a wrong value
├── StreamError              3   the source of frames
│   ├── StreamNotFoundError      no such device, host, file or folder
│   ├── StreamBusyError          another program holds the device
│   ├── StreamPermissionError    the user may not open it
│   ├── StreamFormatError        it opened, but what it sends cannot be read
│   └── StreamLostError          it stopped sending and did not come back
├── ModelError               4   the model folder or an ONNX file
│   ├── ModelNotFoundError       nothing is there
│   ├── ModelDamagedError        no checkpoint of it verifies
│   ├── ModelVersionError        written by a newer cfl-edge
│   ├── ModelLockedError         another process is at work on it
│   ├── ModelWriteError          disk full, no permission
│   ├── SessionError             the process that learns on it cannot do that now
│   └── ExportError              ONNX Runtime and torch disagree
└── DataError                4   images or labels that cannot be used
```

Two exit codes have no error: 5, stdout could not be written and everything else was done; 130,
Ctrl-C, SIGTERM or SIGHUP before the work was complete. `learn` and `run` go on until they are
ended: 0 then.
"""

from __future__ import annotations

import os
import shlex
import sys
from difflib import SequenceMatcher
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

OUTPUT_LOST = 5  # exit code: stdout could not be written, everything else was done
INTERRUPTED = 130  # exit code after a signal, as shells have it for Ctrl-C: work is not complete


class CflEdgeError(Exception):
    """A problem that the user can do something about.

    Args:
        problem: The thing, its value and what was expected, in one sentence.
        hint: The next command or action to try.

    Example:
        >>> print(UsageError("--chunk is 0, expected at least 1", hint="use --chunk 1"))
        --chunk is 0, expected at least 1
          try: use --chunk 1
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, problem: str, *, hint: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint

    def __str__(self) -> str:
        """Return the problem, and the hint on a line of its own."""
        return f"{self.problem}\n  try: {self.hint}"

    @property
    def in_a_line(self) -> str:
        """The problem and the hint, for a notice."""
        return f"{self.problem}; try: {self.hint}"


class UsageError(CflEdgeError):
    """An option or argument has a wrong value."""

    exit_code = 2


class StreamError(CflEdgeError):
    """The source of frames fails."""

    exit_code = 3


class StreamNotFoundError(StreamError):
    """No such device, host, file or folder."""


class StreamBusyError(StreamError):
    """Another program holds the device."""


class StreamPermissionError(StreamError):
    """The user may not open the source."""


class StreamFormatError(StreamError):
    """The source opened, but what it sends cannot be read."""


class StreamLostError(StreamError):
    """The source stopped sending and did not come back."""


class ModelError(CflEdgeError):
    """A model folder or an ONNX file fails."""

    exit_code = 4


class ModelNotFoundError(ModelError):
    """There is no model at this place."""


class ModelDamagedError(ModelError):
    """No checkpoint of the model verifies."""


class ModelVersionError(ModelError):
    """The model was written by a newer cfl-edge."""


class ModelLockedError(ModelError):
    """Another process is learning on the model."""


class ModelWriteError(ModelError):
    """The model cannot be written: disk full, no permission."""


class SessionError(ModelError):
    """The process that learns on a model cannot do what it is asked, or has ended."""


class ExportError(ModelError):
    """ONNX Runtime and torch disagree on an exported model."""


class DataError(CflEdgeError):
    """Images or labels cannot be used."""

    exit_code = 4


UPGRADE_HINT = "git pull in the checkout of cfl-edge, then pip install . there"
DIVERGED_HINT = "learn again, from what was saved before: other --optimizer or --learner"


def export_command(onnx: Path) -> str:
    """Return the command that writes the ONNX files of a folder again, or what it takes.

    Args:
        onnx: One of the files, or their folder. A model folder is recognised where it is this
            folder or the one above, as `learn` has it.

    Example:
        >>> export_command(Path("nowhere/model.onnx")), export_command(Path("nowhere"))[-10:]
        ('export its model folder again, with -o nowhere', '-o nowhere')
    """
    folder = onnx.parent if onnx.suffix == ".onnx" and not onnx.is_dir() else onnx
    if onnx.is_file() and onnx.suffix != ".onnx":
        return exported_near(onnx)
    models = [place for place in (folder, folder.parent) if any(place.glob("checkpoint-*"))]
    out = shlex.quote(str(folder / "onnx" if folder in models else folder))
    if not models:
        return f"export its model folder again, with -o {out}"
    return f"cfl-edge export {shlex.quote(str(models[0]))} -o {out}"


def quoted(word: object) -> str:
    """Return a path or another word of a command as a shell takes it.

    Example:
        >>> quoted(Path("my models/cups")), quoted("pets")
        ("'my models/cups'", 'pets')
    """
    return shlex.quote(str(word))


def install_command(extra: str) -> str:
    """Return the command that installs what an extra brings, whether or not a checkout is there.

    Args:
        extra: Such as `fleet`.

    Example:
        >>> "pip install" in install_command("fleet")
        True
    """
    try:
        required = metadata.requires("cfl-edge") or []
    except metadata.PackageNotFoundError:  # it runs from a folder
        required = []
    parts = (text.partition(";") for text in required)
    names = [name.strip() for name, _, when in parts if when.strip() == f"extra == '{extra}'"]
    if not names:
        return f"pip install '.[{extra}]' in the checkout of cfl-edge"
    return pip("install", *names)


def pip(*words: str) -> str:
    """Return a command of pip for this Python, whichever comes first on the path.

    Args:
        words: Such as `install` and a package.

    Example:
        >>> pip("install", "av>=15").endswith("-m pip install 'av>=15'")
        True
    """
    return shlex.join([sys.executable, "-m", "pip", *words])


TORCH = ("torch", "torchvision")
CPU_INDEX = "https://download.pytorch.org/whl/cpu"  # other builds bring gigabytes of CUDA
TORCH_COMMAND = pip("install", *TORCH, "--index-url", CPU_INDEX)
PACKAGES = {"PIL": "pillow", "paho": "paho-mqtt", "serial": "pyserial", "sklearn": "scikit-learn"}


def not_installed(module: str | None, who: object = "this command") -> UsageError:
    """Return the error that a package is missing, with the command that installs it.

    Args:
        module: What could not be imported.
        who: Needs it.

    Example:
        >>> not_installed("PIL.Image").problem
        'this command needs pillow, which is not installed'
    """
    top = (module or "").partition(".")[0]
    package = PACKAGES.get(top, top.replace("_", "-"))
    command = TORCH_COMMAND if package in TORCH else pip("install", package)
    return UsageError(f"{who} needs {package}, which is not installed", hint=command)


def require(module: str, who: str) -> None:
    """Refuse to begin without a package.

    Raises:
        UsageError: It is not installed.
    """
    if find_spec(module) is None:
        raise not_installed(module, who)


def nearest_export(path: Path) -> Path | None:
    """Return the exported file whose path resembles one that is none the most; None without any.

    Args:
        path: A file or folder, there or not: it is looked for there, and in the nearest folder.
    """
    patterns = ("*.onnx", "onnx/*.onnx", "*/onnx/model.onnx", "*/*/onnx/model.onnx")
    for place in (path, next(one for one in path.parents if one.is_dir())):
        files = [file for pattern in patterns for file in sorted(place.glob(pattern))]
        if found := [file for file in files if file.name != "classifier.onnx"]:  # a part of one
            return max(found, key=lambda file: SequenceMatcher(None, f"{path}", f"{file}").ratio())
    return None


def exported_near(path: Path) -> str:
    """Return, as a hint, the nearest exported file, or what makes one where there is none."""
    if near := nearest_export(path):
        return f"{near}, which is there"
    return "cfl-edge learn --stream demo: --model demo writes demo/onnx/model.onnx"


def existing(path: Path) -> Path:
    """Return the path itself, or the nearest folder above it that exists.

    Example:
        >>> existing(Path("/nowhere/at/all"))
        PosixPath('/')
    """
    places = (path.absolute(), *path.absolute().parents)
    # Where it may not look, os.path raises nothing.
    return next(place for place in places if os.path.exists(place))
