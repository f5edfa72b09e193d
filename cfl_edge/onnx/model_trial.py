"""Try a whole model in a process of its own before this one loads it.

A file may never end, take all memory or crash ONNX Runtime. In a child process with limits that
costs the trial alone, and a signal still reaches whoever waits for it.

    python -m cfl_edge.onnx.model_trial MODEL < image.npy
"""

from __future__ import annotations

import io
import json
import math
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from cfl_edge import errors
from cfl_edge.errors import CflEdgeError, not_installed
from cfl_edge.frame.frame import Frame, Shown
from cfl_edge.frame.region import MOST_PX
from cfl_edge.onnx.errors import damaged
from cfl_edge.onnx.file_checks import require_plain_file
from cfl_edge.onnx.trial import FAILED, TRIAL_S, run_child

if TYPE_CHECKING:
    from cfl_edge.frame.prediction import Prediction

Sample = TypeVar("Sample", contravariant=True)

# Memory on top of what the runtime takes: the default model (17 MB) needs 64 MiB.
MEMORY_BYTES, MEMORY_PER_BYTE = 160 << 20, 4
# Processor time, in terms of what importing the runtime takes on the same board (0.2 s on x86; the
# default model then takes 0.1 s): a slow board gets more.
LEAST_S, IMPORTS, BYTES_AN_IMPORT = 1.5, 10, 10 << 20


class Answering(Protocol[Sample]):
    """A model that predicts one sample at a time: an `OnnxModel` an image."""

    @property
    def path(self) -> Path:
        """Where it was read from, for errors."""

    @property
    def classes(self) -> Sequence[str]:
        """Class names, in the order of the scores."""

    def predict_one(self, sample: Sample, /, *, reject: float | None = None) -> Prediction:
        """Say what a sample shows."""


def try_model(path: Path, image: Shown) -> None:
    """Load a file and let it predict an image, in a child process with limits.

    Args:
        path: The `.onnx` file.
        image: uint8 RGB, shape (H, W, 3), or a frame.

    Raises:
        ModelError: As `OnnxModel`; or its weights or scores are not all numbers, or it takes more
            time or memory than a model of its size may, or crashes.
    """
    request = io.BytesIO()
    np.save(request, image.image if isinstance(image, Frame) else image)
    run_trial("cfl_edge.onnx.model_trial", path, request.getvalue())


def run_trial(module: str, path: Path, request: bytes) -> bytes:
    """Try a file in a child process that `answer_trial` answers for.

    Args:
        module: Its name.
        path: The `.onnx` file.
        request: What it reads from its standard input.

    Returns:
        What it answered, as JSON.

    Raises:
        ModelError: The file's bytes are refused, or the child refused it, took too long, or
            crashed.
    """
    require_plain_file(path)  # what its bytes say costs no process
    start_s = time.monotonic()
    try:
        child = run_child(module, [os.fspath(path)], request)
    except TimeoutError:
        raise damaged(path, f"cannot be used: its trial did not end within {TRIAL_S:g} s") from None
    if child.returncode == FAILED:
        kind, problem, hint = json.loads(child.stdout)
        raise getattr(errors, kind)(problem, hint=hint)
    if child.returncode == -signal.SIGXCPU:
        seconds = time.monotonic() - start_s
        raise damaged(path, f"cannot be used: its trial did not end, stopped after {seconds:.1f} s")
    if child.returncode:
        last = child.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        crash = f"cannot be used: its trial ended with exit code {child.returncode}"
        raise damaged(path, f"{crash}: {last}" if last else crash)
    return child.stdout


def predict_checked(
    model: Answering[Sample], image: Sample, *, reject: float | None = None
) -> Prediction:
    """Let a model predict an image, and return that if the model can be used.

    `OnnxModel` has checked that its metadata is readable and asks for our preprocessing.

    Args:
        model: The model.
        image: What it predicts: for an `OnnxModel` uint8 RGB, shape (H, W, 3), or a frame.
        reject: See `OnnxModel.predict_one`.

    Raises:
        ModelDamagedError: Its scores are not all finite, or not as many as its classes.
    """
    with np.errstate(invalid="ignore"):  # the probability of infinite scores: refused below
        prediction = model.predict_one(image, reject=reject)
    scores = prediction.scores
    if scores.shape != (len(model.classes),):
        shape = f"scores of shape {scores.shape}, not {len(model.classes)}"
        raise damaged(model.path, f"cannot be used: {shape}")
    if not np.isfinite(scores).all():
        count = (~np.isfinite(scores)).sum()
        finite = f"{count} of {len(scores)} scores that are not finite"
        raise damaged(model.path, f"cannot be used: {finite}")
    return prediction


def _limit(size_bytes: int, import_s: float, more_bytes: int) -> None:
    """Limit this process to what a model of this size may take on this board."""
    with open("/proc/self/status") as status:
        data = next(line for line in status if line.startswith("VmData:"))
    most_bytes = (int(data.split()[1]) << 10) + MEMORY_BYTES + MEMORY_PER_BYTE * size_bytes
    most_bytes += more_bytes
    most_s = max(LEAST_S, import_s * (IMPORTS + size_bytes / BYTES_AN_IMPORT))
    end_s = math.ceil(time.process_time() + most_s)
    for what, most in (
        (resource.RLIMIT_DATA, most_bytes),
        (resource.RLIMIT_CPU, end_s),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        resource.setrlimit(what, (most if hard < 0 else min(most, hard), hard))


def require_numbers(path: Path) -> None:
    """Refuse weights that are NaN: a ReLU may hide them from the scores.

    Raises:
        ModelDamagedError: Some are.
    """
    import onnx
    from onnx import numpy_helper

    model = onnx.load(path, load_external_data=False)
    attributes = (entry for node in model.graph.node for entry in node.attribute)
    inner = [entry.t for entry in attributes if entry.HasField("t")]
    for tensor in (*model.graph.initializer, *inner):
        with suppress(ValueError, TypeError):  # no numbers, or none that numpy has: it loaded
            values = numpy_helper.to_array(tensor)
            if values.dtype.kind == "f" and np.isnan(values).any():
                weights = f"its weights {tensor.name!r} are not all numbers (NaN)"
                raise damaged(path, f"cannot be used: {weights}")


def answer_trial(attempt: Callable[[Path, bytes], Any], more_bytes: int = 0) -> int:
    """Try the file that the command line names, and print what came of it.

    Args:
        attempt: Given the file and the request, it returns what JSON can hold.
        more_bytes: Memory that it may take beside that of a model of its size.

    Returns:
        The exit code.
    """
    path, request = Path(sys.argv[1]), sys.stdin.buffer.read()
    try:
        import onnx  # noqa: F401 what the trial needs, before its limits
        import onnxruntime  # noqa: F401
    except ModuleNotFoundError as error:
        missing = not_installed(error.name, path)
        print(json.dumps(["ModelError", missing.problem, missing.hint]))
        return FAILED
    import_s = time.process_time()
    _limit(path.stat().st_size if path.is_file() else 0, import_s, more_bytes)
    try:
        try:
            answer = attempt(path, request)
        except CflEdgeError:
            raise
        except Exception as error:  # whatever three libraries raise for a file of a stranger
            raise damaged(path, "cannot be used", str(error) or type(error).__name__) from error
    except CflEdgeError as error:
        print(json.dumps([type(error).__name__, error.problem, error.hint]))
        return FAILED
    print(json.dumps(answer))
    return 0


def _try(path: Path, request: bytes) -> None:
    from cfl_edge.onnx.inference import OnnxModel

    model = OnnxModel(path, threads=1)
    require_numbers(path)
    image = np.load(io.BytesIO(request))
    # A region in pixels lies in a frame of that size: whether it lies in the camera's is for
    # whoever has one.
    predict_checked(model, Frame(image, 0.0, 0, full_px=(MOST_PX, MOST_PX)))


if __name__ == "__main__":
    sys.exit(answer_trial(_try))
