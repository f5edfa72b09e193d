"""Opening files of a folder that somebody else may have made: regular files, and nothing else.

A link leads out of the folder, a FIFO never answers, and opening a device may do something.
"""

from __future__ import annotations

import errno
import os
import stat

_KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def regular(path: str | os.PathLike[str], flags: int, *, follow: bool = False) -> int:
    """Open a regular file, as an `opener` of the built-in `open` or alone; never waits.

    Args:
        path: Of the file.
        flags: Of `os.open`.
        follow: Whether a link may lead to it: where a user named the file.

    Returns:
        The file descriptor.

    Raises:
        OSError: ELOOP for a link, a FIFO, a socket or a device; else as the system reports it.

    Example:
        >>> with open(__file__, "rb", opener=regular) as file:
        ...     file.read(3)
        b'\"\"\"'
        >>> open(os.devnull, "rb", opener=regular)
        Traceback (most recent call last):
        OSError: [Errno 40] null is a device, expected a regular file: '/dev/null'
    """
    try:
        _require_regular(path, os.stat(path, follow_symlinks=follow))
    except FileNotFoundError:
        if not flags & os.O_CREAT:
            raise
    if not follow:
        flags |= os.O_NOFOLLOW  # for a link that came since
    descriptor = os.open(path, flags | os.O_NONBLOCK, 0o644)
    try:
        _require_regular(path, os.fstat(descriptor))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def irregular(path: str | os.PathLike[str]) -> str | None:
    """Return what a path leads to if it is neither file nor folder; None for these and nothing.

    Example:
        >>> irregular(os.devnull), irregular(os.curdir), irregular("nowhere")
        ('a device', None, None)
    """
    try:
        return _KINDS.get(stat.S_IFMT(os.lstat(path).st_mode))
    except OSError:
        return None


def _require_regular(path: str | os.PathLike[str], status: os.stat_result) -> None:
    if kind := _KINDS.get(stat.S_IFMT(status.st_mode)):
        text = f"{os.path.basename(path)} is {kind}, expected a regular file"
        raise OSError(errno.ELOOP, text, os.fspath(path))
