"""Give memory that was freed back to the system."""

from __future__ import annotations

import ctypes
from functools import cache

LARGE_BYTES = 16 * 2**20  # below, what is given back is small and soon needed again


def give_back() -> None:
    """Return freed pages to the system; where the C library cannot, do nothing.

    Chunks of several sizes leave holes in glibc's heap that are too small for the next chunk by a
    few bytes of alignment, so that its heap grows layer by layer. The holes stay, but without this
    they would stay resident.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> ctypes._NamedFuncPointer | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return None
