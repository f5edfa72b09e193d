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
from pathlib import Path

MIB = 2**20
LARGE_BYTES = 16 * MIB  # features above this size are given back layer by layer
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
RETURNED_BYTES = 256 * 1024  # blocks from here on go back at once: resident is what is alive
KEPT_BLOCK_BYTES = 32 * MIB  # glibc's largest value
KEPT_BYTES = 64 * MIB  # free memory that is kept at the end of the heap
MADV_DONTNEED = 4  # of Linux's mman.h
SMAPS = Path("/proc/self/smaps")


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


def drop_idle_code() -> None:
    """Take the code of libraries out of resident memory: what runs again comes back by itself.

    Loading torch runs through 60 MiB of code, most of it once. Its pages stay in the cache of the
    file system, which Linux frees first when memory is short. Code that was changed in memory, as
    by a debugger, stays resident.
    """
    if (libc := _glibc()) is None or not SMAPS.exists():  # a kernel may be built without it
        return
    start = end = 0
    for line in SMAPS.read_text(errors="surrogateescape").splitlines():
        first, second, *rest = line.split(maxsplit=5)
        if not first.endswith(":"):  # a mapping begins: "7f00-7f20 r-xp 0000 fe:01 42 /lib/a.so"
            start, end = (int(address, 16) for address in first.split("-"))
            if second != "r-xp" or not rest[-1].startswith("/"):
                end = start
        elif first == "Anonymous:" and second == "0" and end > start:
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), MADV_DONTNEED)


def _mallopt(parameter: int, value: int) -> None:
    if (libc := _glibc()) is not None:
        libc.mallopt(parameter, value)


@cache
def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None
