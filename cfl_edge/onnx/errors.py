"""The error of an ONNX file that cannot be used, and how ONNX Runtime runs one, and fails."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cfl_edge.errors import ModelDamagedError, export_command
from cfl_edge.text import visible

if TYPE_CHECKING:
    import onnxruntime

SHOWN = 300  # characters of what a file or a runtime says, which may be megabytes


def damaged(path: Path, what: str, reason: str = "") -> ModelDamagedError:
    """Return the error of a file that cannot be used; its hint is the command that writes it again.

    Args:
        path: Of the file.
        what: What is wrong with it: "is not an ONNX file".
        reason: What a library or the file itself says, shortened.

    Example:
        >>> damaged(Path("m.onnx"), "is not an ONNX file", "Protobuf  parsing failed").problem
        'm.onnx is not an ONNX file (Protobuf parsing failed)'
    """
    shown = visible(" ".join(reason.split()))[:SHOWN]
    return ModelDamagedError(
        f"{path} {what}" + (f" ({shown})" if shown else ""), hint=export_command(path)
    )


def session_errors() -> tuple[type[Exception], ...]:
    """Return the errors of ONNX Runtime, for an `except`; loads it.

    They share no class but `Exception`, which would catch too much.

    Example:
        >>> import onnxruntime
        >>> try:
        ...     onnxruntime.InferenceSession(b"no model")
        ... except session_errors():
        ...     print("refused")
        refused
    """
    from onnxruntime.capi import onnxruntime_pybind11_state as failures

    return (
        failures.Fail,
        failures.InvalidArgument,
        failures.InvalidGraph,
        failures.InvalidProtobuf,
        failures.NotImplemented,
        failures.RuntimeException,
    )


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """Return the options of every session.

    Args:
        threads: Of one prediction.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False  # the arena grows in powers of two and keeps them
    options.log_severity_level = 4  # failures reach the user through our errors, once
    # Threads that wait must sleep: spinning took twice the CPU time (20 ms against 11 an image,
    # MobileNetV2 x 1.4 at 160 px, 2 busy x86 cores) and the same 22 ms by the clock.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
