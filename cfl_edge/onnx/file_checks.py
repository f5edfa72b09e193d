"""An ONNX file before any library reads it: what it says of itself, from its bytes.

ONNX Runtime reads numbers from wherever a model says, and runs loops that never end. A library that
parses a file takes several times its memory first. So the messages of onnx.proto that matter are
walked here: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from cfl_edge.errors import (
    ModelDamagedError,
    ModelError,
    ModelNotFoundError,
    export_command,
    exported_near,
    quoted,
)
from cfl_edge.model.last_stream import merge_command, taught_zones
from cfl_edge.model.opening import regular
from cfl_edge.notices import size_text

MOST_BYTES = 512 << 20  # the largest model of torchvision that fits a board has 350 MB
MOST_FIELDS = 200_000  # the default model has 6,000; each takes some microseconds
MOST_NODES = 10_000  # the default model has 150, the longest of torchvision some thousand
MOST_METADATA_BYTES = 4 << 20  # 15,000 class names, twice
VALUES_A_BYTE = 4  # the smallest types have 2 bits
# Of protobuf: groups, two more wire types, are older than ONNX.
VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = WIRE_TYPES = (0, 1, 2, 5)
FIXED_BYTES = {FIXED64: 8, FIXED32: 4}
VARINT_BYTES = 10  # at most
CUT = "is not an ONNX file, or was cut short"

# Message to the numbers of its fields that hold another one: onnx.proto.
INNER = {
    "model": {7: "graph", 14: "metadata"},
    "graph": {1: "node", 5: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 10: "tensor"},
}
# What no export of ours has, by message and number of the field.
REFUSED = {
    ("model", 20): "a training graph",
    ("model", 25): "functions",
    ("graph", 15): "sparse tensors",
    ("attribute", 6): "a loop or a branch",
    ("attribute", 11): "a loop or a branch",
    ("attribute", 22): "sparse tensors",
    ("attribute", 23): "sparse tensors",
    ("tensor", 13): "numbers in another file",
    ("tensor", 14): "numbers in another file",
}
GRAPH, NODE, DIMS, DATA_LOCATION = 7, 1, 1, 14
MOST_DIMS_BYTES = 640  # 64 axes of 10 bytes


class _Field(NamedTuple):
    number: int
    value: int  # of a varint, else 0
    start: int  # of what is length-delimited, else 0
    end: int


class _Unusable(Exception):
    """What is wrong with the file."""


def require_plain_file(path: Path) -> None:
    """Refuse what is no ONNX file, or one that does more than compute a graph.

    Args:
        path: A file, or a link to one.

    Raises:
        ModelNotFoundError: There is none.
        ModelDamagedError: It is empty, cut short, too large, or no ONNX file; or it has numbers in
            another file, loops, or claims that no export has.
        ModelError: It cannot be read, or is no regular file.
    """
    if path.is_dir():
        models = [path] if any(path.glob("checkpoint-*")) else taught_zones(path)
        exports = " && ".join(map(export_command, models))
        if merged := merge_command(path):
            exports = f"{merged} makes one model of them"
        raise ModelNotFoundError(
            f"{path} is a folder, expected an ONNX file", hint=exports or exported_near(path)
        )
    hint = export_command(path)
    try:
        with open(path, "rb", opener=partial(regular, follow=True)) as file:
            size_bytes = os.fstat(file.fileno()).st_size
            if not size_bytes:
                raise ModelDamagedError(f"{path} is empty, expected an ONNX file", hint=hint)
            if size_bytes > MOST_BYTES:
                raise ModelDamagedError(
                    f"{path} has {size_text(size_bytes)}, expected at most {size_text(MOST_BYTES)}",
                    hint=hint,
                )
            _Walk(file.fileno(), size_bytes).model()
    except FileNotFoundError:
        raise ModelNotFoundError(f"{path} does not exist", hint=hint) from None
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read: {error.strerror}", hint=f"ls -lL {quoted(path)}"
        ) from error
    except _Unusable as error:
        raise ModelDamagedError(f"{path} {error}", hint=hint) from None


class _Walk:
    """Visits the messages of a model once, with reads that a file cut meanwhile only ends."""

    def __init__(self, descriptor: int, size_bytes: int) -> None:
        self._descriptor, self._size_bytes = descriptor, size_bytes
        self._fields = self._metadata_bytes = 0

    def model(self) -> None:
        if not self._message("model", 0, self._size_bytes)[GRAPH]:
            raise _Unusable("is not an ONNX file: it holds no graph")

    def _message(self, kind: str, start: int, end: int) -> Counter[int]:
        """Visit a message; return how often it has each field."""
        found: Counter[int] = Counter()
        inner, dims = INNER.get(kind, {}), list[int]()
        for field in self._each(start, end):
            found[field.number] += 1
            what = REFUSED.get((kind, field.number))
            if what and (field.number != DATA_LOCATION or field.value):
                raise _Unusable(f"has {what}, expected the plain graph that cfl-edge exports")
            if kind == "tensor" and field.number == DIMS:
                dims += self._numbers(field)
            if field.start and field.number in inner:
                self._message(inner[field.number], field.start, field.end)
        if kind == "graph" and found[NODE] > MOST_NODES:
            raise _Unusable(f"has {found[NODE]} operations, expected at most {MOST_NODES}")
        if kind == "metadata":
            self._metadata_bytes += end - start
            if self._metadata_bytes > MOST_METADATA_BYTES:
                raise _Unusable(f"has more than {MOST_METADATA_BYTES >> 20} MiB of metadata")
        if kind == "tensor" and math.prod(dims) > VALUES_A_BYTE * (end - start):
            raise _Unusable(f"has a tensor of shape {dims[:8]} in {end - start} bytes")
        return found

    def _each(self, place: int, end: int) -> Iterator[_Field]:
        while place < end:
            self._fields += 1
            if self._fields > MOST_FIELDS:
                raise _Unusable(f"has more than {MOST_FIELDS} fields, expected fewer")
            head = os.pread(self._descriptor, min(2 * VARINT_BYTES, end - place), place)
            tag, used = varint(head)
            number, wire_type = tag >> 3, tag & 7
            value = start = 0
            if wire_type in (VARINT, LENGTH_DELIMITED):
                value, length = varint(head[used:])
                used += length
            if wire_type == LENGTH_DELIMITED:
                start, value, place = place + used, 0, place + used + value
            else:
                place += used + FIXED_BYTES.get(wire_type, 0)
            if not 0 < number < 1 << 29 or wire_type not in WIRE_TYPES or place > end:
                raise _Unusable(CUT)
            yield _Field(number, value, start, place)

    def _numbers(self, field: _Field) -> list[int]:
        """Return the numbers of a repeated field, one each or packed."""
        if not field.start:
            return [field.value]
        if field.end - field.start > MOST_DIMS_BYTES:
            raise _Unusable("has a tensor of too many axes")
        packed = os.pread(self._descriptor, field.end - field.start, field.start)
        numbers = []
        while packed:
            number, used = varint(packed)
            numbers.append(number)
            packed = packed[used:]
        return numbers


def varint(content: bytes) -> tuple[int, int]:
    """Return the number at the beginning, in groups of 7 bits, the lowest first, and its length.

    Raises:
        _Unusable: It has no end.

    Example:
        >>> varint(bytes.fromhex("ac0299"))
        (300, 2)
    """
    number = 0
    for i, byte in enumerate(content[:VARINT_BYTES]):
        number |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return number & (1 << 64) - 1, i + 1
    raise _Unusable(CUT)
