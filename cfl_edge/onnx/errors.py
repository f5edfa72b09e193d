"""The error of an ONNX file that cannot be used, and what ONNX Runtime raises of one."""

from __future__ import annotations

from pathlib import Path

from cfl_edge.errors import ModelDamagedError, export_command
from cfl_edge.names import visible

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
