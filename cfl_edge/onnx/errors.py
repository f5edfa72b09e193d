"""What ONNX Runtime raises when it refuses a model or a run of it."""

from __future__ import annotations


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
