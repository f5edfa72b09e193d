"""Try written ONNX files in a process of their own before they replace anything.

ONNX Runtime holds a model several times while it loads it. In a child process that memory does not
come on top of the learner's, and a file that crashes or never ends costs the trial alone.

    python -m cfl_edge.onnx.trial MODEL INPUT [MODEL INPUT ...] < inputs.npz > outputs.npz
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cfl_edge.errors import ExportError
from cfl_edge.onnx.child import PYTHON, child_environment
from cfl_edge.onnx.errors import session_errors, session_options

TRIAL_S = 120.0  # the default model takes about 1 s; a slow board with a large one a minute
FAILED = 3  # exit code of a trial whose last line of stderr says why

_children: set[subprocess.Popen[bytes]] = set()

Outputs = list[npt.NDArray[np.float32]]


def try_files(trials: Sequence[tuple[Path, str, npt.NDArray[Any]]]) -> list[Outputs]:
    """Check files, and run each on its whole batch and on its first input.

    Args:
        trials: For each file its path, the name of its input, and what it is run on, (M, ...).

    Returns:
        For each file its outputs, (M + 1, ...): for the batch, then for its first input alone.

    Raises:
        ExportError: A file is not valid ONNX, ONNX Runtime refuses it, or the trial takes too long
            or crashes.
    """
    request, answer = io.BytesIO(), io.BytesIO()
    batches = {f"{i}": batch for i, (_, _, batch) in enumerate(trials)}
    np.savez(request, **batches)  # type: ignore[arg-type]
    words = [word for path, name, _ in trials for word in (os.fspath(path), name)]
    try:
        child = run_child("cfl_edge.onnx.trial", words, request.getvalue())
    except TimeoutError:
        raise refused(f"the trial did not end within {TRIAL_S:g} s") from None
    if child.returncode:
        last = child.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        crash = f"the trial ended with exit code {child.returncode}"
        raise refused(last if child.returncode == FAILED else f"{crash}: {last}" if last else crash)
    answer.write(child.stdout)
    answer.seek(0)
    with np.load(answer) as arrays:
        return [
            [arrays[name] for name in arrays if name.startswith(f"{i}.")]
            for i in range(len(trials))
        ]


def run_child(
    module: str, words: Sequence[str], request: bytes, timeout_s: float = TRIAL_S
) -> subprocess.CompletedProcess[bytes]:
    """Run a module of this package in a process of its own, which `end_children` can end.

    Args:
        module: Its name.
        words: Of its command line.
        request: What it reads from its standard input.
        timeout_s: How long to wait.

    Raises:
        TimeoutError: It took longer, and was ended.
    """
    command = [*PYTHON, module, *words]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=child_environment(),
        start_new_session=True,  # Ctrl-C is for the parent, which may finish the export
    ) as process:
        _children.add(process)
        try:
            out, err = process.communicate(request, timeout_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError from None
        finally:
            process.kill()  # a no-op once it has ended
            process.wait()  # an interrupt leaves `with` without it
            _children.discard(process)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def end_children() -> None:
    """End the trials that run in other threads, at once."""
    for process in list(_children):
        process.kill()


def refused(what: str) -> ExportError:
    """Return the error of an export that was not accepted."""
    return ExportError(
        f"ONNX Runtime and torch disagree, so nothing was written: {what}",
        hint="cfl-edge doctor shows the versions; other ones of torch or onnxruntime may agree",
    )


def run_graph(model: Path | bytes, name: str, batches: Sequence[npt.NDArray[Any]]) -> list[Outputs]:
    """Run a graph with one thread: a camera may need the other cores.

    Args:
        model: A file, or what it holds.
        name: Of its input.
        batches: One after the other.

    Returns:
        The outputs of each batch.

    Raises:
        ExportError: ONNX Runtime refuses it.
    """
    import onnxruntime

    options = session_options(threads=1)
    # All fusions, but not the layout for this processor, which doubles the memory of a session.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    try:
        session = onnxruntime.InferenceSession(
            model, sess_options=options, providers=["CPUExecutionProvider"]
        )
        if session.get_inputs()[0].shape[:1] == [1]:  # it takes one at a time only
            return [_one_by_one(session, name, batch) for batch in batches]
        return [session.run(None, {name: batch}) for batch in batches]
    except session_errors() as error:
        raise refused(" ".join(str(error).split())) from error


def _one_by_one(session: Any, name: str, batch: npt.NDArray[Any]) -> Outputs:
    rows = [session.run(None, {name: batch[i : i + 1]}) for i in range(len(batch))]
    return [np.concatenate(parts) for parts in zip(*rows, strict=True)]


def _try_file(path: Path, name: str, batch: npt.NDArray[Any]) -> Outputs:
    import onnx

    try:
        onnx.checker.check_model(path, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise refused(" ".join(str(error).split())) from error
    outputs = run_graph(path, name, [batch, batch[:1]])
    return [np.concatenate(pair) for pair in zip(*outputs, strict=True)]


def main() -> int:
    """Try the files that the command line names."""
    words = sys.argv[1:]
    with np.load(io.BytesIO(sys.stdin.buffer.read())) as batches:
        tries = [
            (Path(path), name, batches[f"{i}"])
            for i, (path, name) in enumerate(zip(words[::2], words[1::2], strict=True))
        ]
    outputs: dict[str, npt.NDArray[np.float32]] = {}
    for i, (path, name, batch) in enumerate(tries):
        try:
            found = _try_file(path, name, batch)
        except ExportError as error:
            print(error.problem.partition(": ")[2], file=sys.stderr)
            return FAILED
        outputs |= {f"{i}.{number}": array for number, array in enumerate(found)}
    answer = io.BytesIO()
    np.savez(answer, **outputs)  # type: ignore[arg-type]
    sys.stdout.buffer.write(answer.getvalue())
    return 0


if __name__ == "__main__":
    sys.exit(main())
