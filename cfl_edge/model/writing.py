"""Replacing files so that a crash leaves the old one or the new one, never half of either."""

from __future__ import annotations

import errno
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cfl_edge.errors import ModelWriteError, existing, quoted
from cfl_edge.notices import size_text

TEMPORARY = ".writing-"  # what every name starts with that a crash may leave behind

FEW_FILES = 64  # a checkpoint has a dozen and is there twice for a moment, exports stand beside it

_NO_SUCH_CALL = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS}  # as SMB says of fsync on a folder


def write_error(
    error: OSError, target: Path, *, intact: str = "", needed_bytes: int | None = None
) -> ModelWriteError:
    """Explain why a model could not be written, and what to do about it.

    Args:
        error: What the system reported.
        target: The folder or file that the user asked for.
        intact: A sentence on what is still intact.
        needed_bytes: What was to be written; None where that is not known.

    Example:
        >>> error = OSError(errno.EROFS, "Read-only")
        >>> print(write_error(error, Path("pets"), intact="Still there."))
        pets cannot be written: its file system is read-only. Still there.
          try: remount it writable, or name a place on another disk
    """
    if error.errno == errno.ENOSPC:
        reason, hint = "the disk is full", "free some space, or name a place on another disk"
        with suppress(OSError):
            disk = os.statvfs(existing(target))
            free = size_text(shutil.disk_usage(existing(target)).free)
            if needed_bytes is None:
                reason += f": {free} free is too little"
            else:
                reason += f": it needs {size_text(needed_bytes)}, {free} free"
            if disk.f_files and disk.f_favail < FEW_FILES:  # some count no files
                reason = f"the disk has room for {disk.f_favail} more files, however small"
                hint = f"df -i {quoted(existing(target))} counts them: remove some, or name a place"
                hint += " on another disk"
    elif error.errno == errno.EDQUOT:
        reason = "what you may store on this disk is used up"
        hint = "quota -s shows your limit; free some space, or name a place on another disk"
    elif error.errno in {errno.EACCES, errno.EPERM}:
        reason = "you may not write there"
        place, command = existing(target), "sudo chown -R $USER"
        if os.stat(place).st_uid == os.geteuid() and not os.access(place, os.W_OK):
            command = "chmod u+w"
        elif place != target.absolute():  # a folder of others stays theirs: /, /opt
            place, command = target, "sudo install -d -o $USER"
        hint = f"{command} {quoted(place)}, or name a place of your own"
    elif error.errno == errno.EROFS:
        reason = "its file system is read-only"
        hint = "remount it writable, or name a place on another disk"
    elif error.errno == errno.ENOLCK:
        reason = "its file system has no locks"
        hint = "mount it with -o nolock (NFS), or name a place on another disk"
    elif error.errno == errno.ELOOP and error.filename is not None:
        reason = str(error.strerror)
        hint = f"rm {quoted(error.filename)}, or name another folder"
    elif error.errno in {errno.ENOTDIR, errno.EEXIST}:
        reason = "a file is in the way where a folder is expected"
        hint = "name another folder, or move the file away"
    else:
        reason = f"the system reports {error.strerror or error}"
        hint = "check the disk (dmesg), or name a place on another one"
    tail = f". {intact}" if intact else ""
    return ModelWriteError(f"{target} cannot be written: {reason}{tail}", hint=hint)


def write_file(
    path: Path, parts: Iterable[memoryview], *, written: Counter[str] | None = None
) -> None:
    """Write a new file and wait until the disk has it.

    Args:
        path: Where; must not exist yet.
        parts: Its bytes, in order (format B); none is copied.
        written: Adds up the bytes by the file's name, including those of a write that fails.

    Raises:
        OSError: As the system reports it.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a"
        >>> write_file(path, [memoryview(b"1"), memoryview(b"2")])
        >>> path.read_bytes()
        b'12'
    """
    with open(path, "xb", buffering=0) as file:
        for part in parts:
            rest = part
            while rest:  # an unbuffered write may take only a part
                taken = file.write(rest)
                rest = rest[taken:]
                if written is not None:
                    written[path.name] += taken
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the disk knows which names are in a folder, where its file system can do that.

    Raises:
        OSError: As the system reports it.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SUCH_CALL:
            raise
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> list[Path]:
    """Create a folder and its parents, and wait until the disk knows of each.

    Returns:
        Those that were not there, the folder itself first.

    Raises:
        OSError: As the system reports it.
    """
    missing = [place for place in (folder, *folder.parents) if not os.path.lexists(place)]
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        sync_folder(made.parent)
    return missing


@contextmanager
def made_folder(folder: Path) -> Iterator[None]:
    """Create a folder, as `make_folder`; if the `with` block fails, remove it where it is empty.

    Raises:
        OSError: As the system reports it.

    Example:
        >>> import tempfile
        >>> parent = Path(tempfile.mkdtemp())
        >>> with suppress(ZeroDivisionError), made_folder(parent / "deep" / "x"):
        ...     1 / 0
        >>> list(parent.iterdir())
        []
    """
    made = make_folder(folder)
    try:
        yield
    except BaseException:
        with suppress(OSError):  # not empty, or not ours any more
            for place in made:
                place.rmdir()
        raise


def discard(path: Path) -> OSError | None:
    """Remove a file or a folder, and return what stood in the way, if anything did."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        return error
    return None
