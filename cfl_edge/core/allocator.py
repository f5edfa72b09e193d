"""Where freed memory goes: back to the system at once, or kept for the next frame.

glibc takes large blocks from the system one by one and its own heap for the others. Both cost: a
block from the system comes in pages that must be cleared, which took half of a learning step's
time here; blocks in the heap leave holes that the next block, a few bytes larger for its
alignment, does not fit into. The functions below do nothing where the C library is another one.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache

MIB = 2**20
LARGE_BYTES = 16 * MIB  # features above this size are given back layer by layer
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
RETURNED_BYTES = 256 * 1024  # blocks from here on go back at once: resident is what is alive
KEPT_BLOCK_BYTES = 32 * MIB  # glibc's largest value
KEPT_BYTES = 64 * MIB  # free memory that is kept at the end of the heap


def keep_freed_memory() -> None:
    """Keep what one frame frees for the next: faster, and resident memory is larger.

    A learning step of the default network takes 0.8 and a refresh of the label embeddings 0.5 of
    its time with it (DECISIONS.md, "Freed memory").
    """
    _mallopt(M_MMAP_THRESHOLD, KEPT_BLOCK_BYTES)
    _mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def return_freed_memory() -> None:
    """Give blocks back to the system when they are freed, so that a limit can be kept.

    Resident memory then is what is alive; learning takes up to twice the time.
    """
    _mallopt(M_MMAP_THRESHOLD, RETURNED_BYTES)
    _mallopt(M_TRIM_THRESHOLD, RETURNED_BYTES)
    give_back()


def give_back() -> None:
    """Return the free pages of the heap to the system: its holes stay, but not resident."""
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


def _mallopt(parameter: int, value: int) -> None:
    if (libc := _glibc()) is not None:
        libc.mallopt(parameter, value)


@cache
def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None
