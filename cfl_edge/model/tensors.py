"""Groups of named arrays as safetensors files, written without a second copy in memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# https://github.com/huggingface/safetensors#format
_NAMES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
}


def to_parts(tensors: Mapping[str, Array]) -> list[memoryview]:
    """Return a safetensors file as its parts in order: the header, then each array.

    `safetensors.numpy.save` copies every array twice; on a board with a replay memory that is the
    peak of the whole process. These parts share the arrays' memory.

    Args:
        tensors: Name to array of any shape.

    Raises:
        TypeError: An array's dtype is not one of safetensors'.

    Example:
        >>> import safetensors.numpy
        >>> parts = to_parts({"a": np.arange(3, dtype=np.int16), "b": np.ones((1, 2), np.float32)})
        >>> loaded = safetensors.numpy.load(b"".join(bytes(part) for part in parts))
        >>> loaded["a"].tolist(), loaded["b"].shape
        ([0, 1, 2], (1, 2))
    """
    header: dict[str, Any] = {}
    parts: list[memoryview] = []
    start = 0
    # Widest first, so that every array is aligned in a memory-mapped file.
    for name in sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name)):
        array = tensors[name]
        if array.dtype.name not in _NAMES:
            raise TypeError(f"tensor {name!r} is {array.dtype}, expected one of {list(_NAMES)}")
        flat = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1)
        header[name] = {
            "dtype": _NAMES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [start, start + flat.nbytes],
        }
        start += flat.nbytes
        parts.append(flat.view(np.uint8).data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return [memoryview(len(text).to_bytes(8, "little") + text), *parts]


def digest(parts: list[memoryview]) -> tuple[str, int]:
    """Return the SHA-256 (hexadecimal) and the size in bytes of what the parts make together.

    Example:
        >>> sha256, size_bytes = digest([memoryview(b"ab"), memoryview(b"c")])
        >>> sha256 == hashlib.sha256(b"abc").hexdigest(), size_bytes
        (True, 3)
    """
    sha256 = hashlib.sha256()
    size_bytes = 0
    for part in parts:
        sha256.update(part)
        size_bytes += part.nbytes
    return sha256.hexdigest(), size_bytes


def network_digest(state: Mapping[str, Array]) -> str:
    """Return the first 16 hex digits of the SHA-256 of a saved network's weights.

    An exported file names it: label embeddings only fit the features of the same weights.

    Example:
        >>> weights = {"network.w": np.ones(2), "readout": np.zeros(3)}
        >>> network_digest(weights) == network_digest({"network.w": np.ones(2)})
        True
    """
    names = sorted(name for name in state if name.startswith("network."))
    return digest(to_parts({name: state[name] for name in names}))[0][:16]


def read_tensors(path: Path) -> dict[str, Array]:
    """Read a safetensors file.

    Raises:
        ValueError: It is not one.
        OSError: As the system reports it.
    """
    import safetensors
    import safetensors.numpy

    try:
        return safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{path.name}: {error}") from error
