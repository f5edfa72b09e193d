"""One saved state of a model: a folder with a manifest and the tensor files it vouches for.

```
checkpoint-000012/
├── manifest.json        what the model is, in words; size and SHA-256 of every other file
├── state.safetensors    one file for each group of tensors
└── replay.safetensors
```
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from cfl_edge.errors import UPGRADE_HINT, ModelVersionError
from cfl_edge.model.opening import regular
from cfl_edge.model.tensors import Array, read_tensors
from cfl_edge.model.writing import TEMPORARY, discard, sync_folder, write_file

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
MANIFEST_BYTES = 4 << 20  # 60,000 classes; parsed, JSON may take 25 times its bytes

_FOLDER = re.compile(r"checkpoint-(\d{6,})")
_GROUP = re.compile(r"[a-z0-9_]+")


class Damage(Exception):
    """Why a checkpoint cannot be used; the store turns it into a notice or an error."""


@dataclass
class Saved:
    """What a model folder holds.

    Args:
        manifest: What the caller of `Store.save` gave, and `format_version`, `created`, `files`.
        tensors: Group (`state`, `replay`, ...) to name to array.
        number: Of the checkpoint it was read from; 0 before it is saved.
    """

    manifest: dict[str, Any]
    tensors: dict[str, dict[str, Array]]
    number: int = 0


class Group(NamedTuple):
    """The file of a group of tensors: its parts in order, and what the manifest says of it."""

    parts: list[memoryview]
    sha256: str
    size_bytes: int


def number_of(folder: Path) -> int | None:
    """Return the number in a checkpoint's name, None for any other name.

    Example:
        >>> number_of(Path("pets/checkpoint-000012")), number_of(Path("pets/lock"))
        (12, None)
    """
    match = _FOLDER.fullmatch(folder.name)
    return int(match[1]) if match else None


def file_name(group: str) -> str:
    """Return the file name of a group of tensors.

    Raises:
        ValueError: The group's name has other characters than a-z, 0-9 and _.

    Example:
        >>> file_name("replay")
        'replay.safetensors'
    """
    if not _GROUP.fullmatch(group):
        raise ValueError(f"group {group!r} may only have the characters a-z, 0-9 and _")
    return f"{group}.safetensors"


def to_manifest(given: Mapping[str, Any], groups: Mapping[str, Group]) -> bytes:
    """Return the text of a manifest.

    Args:
        given: JSON values; the manifest's own keys among them are replaced.
        groups: File name to what it will hold.

    Raises:
        TypeError, ValueError: `given` has something that JSON cannot express, NaN among others, or
            more than `MANIFEST_BYTES`.
    """
    manifest = {
        **given,
        "format_version": FORMAT_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": {
            name: {"sha256": group.sha256, "bytes": group.size_bytes}
            for name, group in groups.items()
        },
    }
    manifest.pop("checksum", None)
    # As it will be read: JSON turns keys into text, which may sort in another order.
    manifest = json.loads(json.dumps(manifest, allow_nan=False))
    manifest = {"checksum": _checksum(manifest), **manifest}
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    content = text.encode(errors="surrogatepass")  # a label may be a file name that is not UTF-8
    if len(content) > MANIFEST_BYTES:  # it could not be read again
        raise ValueError(f"{MANIFEST} would have {len(content)} bytes, more than {MANIFEST_BYTES}")
    return content


def write(
    new: Path,
    groups: Mapping[str, Group],
    manifest: bytes,
    previous: Path | None,
    *,
    written: Counter[str] | None = None,
) -> Path:
    """Write a checkpoint into a folder of its own, wait for the disk, and give it its name.

    Args:
        new: The checkpoint's folder; must not exist yet, its parent must.
        groups: File name to content.
        manifest: From `to_manifest`.
        previous: A checkpoint whose files are linked where they have the same content.
        written: Adds up the bytes written, by file; a link counts nothing.

    Returns:
        `new`.

    Raises:
        OSError: As the system reports it; nothing is left of what was written.
    """
    temporary = new.parent / f"{TEMPORARY}{os.urandom(4).hex()}"
    os.mkdir(temporary)  # mkdtemp's 0700 would keep others from reading, and FAT has no chmod
    try:
        for name, group in groups.items():
            if previous is None or not _link(previous / name, temporary / name, group):
                write_file(temporary / name, group.parts, written=written)
        write_file(temporary / MANIFEST, [memoryview(manifest)], written=written)
        sync_folder(temporary)
        os.rename(temporary, new)
        try:
            sync_folder(new.parent)
        except OSError:
            os.rename(new, temporary)  # a save that is reported as failed must not be loaded
            raise
    except BaseException:
        discard(temporary)  # if that fails too, the next save tries again
        raise
    return new


def _link(old: Path, new: Path, group: Group) -> bool:
    """Link a file that has the same content; False if there is none.

    It is read again first: a byte that turned must not live on in the new checkpoint.
    """
    try:
        _require_content(old, group.sha256, group.size_bytes)
        os.link(old, new)
    except (Damage, OSError):  # no such file before, or a file system without links (FAT): write it
        return False
    return True


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a checkpoint and check it, not yet the files it names.

    Raises:
        Damage: Missing, cut, changed, or not of the expected shape.
        ModelVersionError: Written by a newer cfl-edge.
        OSError: It is there, but the system does not let us read it.
    """
    try:
        with open(folder / MANIFEST, "rb", opener=regular) as file:
            text = file.read(MANIFEST_BYTES + 1)
        if len(text) > MANIFEST_BYTES:
            raise Damage(f"{MANIFEST} has more than {MANIFEST_BYTES >> 20} MiB")
        manifest = json.loads(text)
    except (FileNotFoundError, NotADirectoryError):
        raise Damage(f"{MANIFEST} is missing") from None
    except (ValueError, RecursionError) as error:
        raise Damage(f"{MANIFEST} is not JSON ({error})") from None
    if not isinstance(manifest, dict):
        raise Damage(f"{MANIFEST} holds no table")
    version = manifest.get("format_version")
    if type(version) is not int or not 1 <= version < 10**6:
        shown = f"{version!r}"[:100]
        raise Damage(f"{MANIFEST} has format_version {shown}, expected a number from 1")
    if version > FORMAT_VERSION:
        # Before the checksum: a newer format may compute it in another way.
        raise ModelVersionError(
            f"{folder} has format {version}, this cfl-edge reads up to {FORMAT_VERSION}",
            hint=UPGRADE_HINT,
        )
    expected = manifest.pop("checksum", None)
    if expected != _checksum(manifest):
        raise Damage(f"{MANIFEST} does not fit its checksum: damaged, or edited by hand")
    _require_files(manifest.get("files"))
    return manifest


def verify(folder: Path) -> dict[str, Any]:
    """Check that every file of a checkpoint is what its manifest says, and return the manifest.

    Raises:
        Damage, ModelVersionError, OSError: As `read_manifest`.
    """
    manifest = read_manifest(folder)
    for name, expected in manifest["files"].items():
        _require_content(folder / name, expected["sha256"], expected["bytes"])
    return manifest


def _require_content(path: Path, sha256: str, size_bytes: int) -> None:
    try:
        with open(path, "rb", opener=regular) as file:
            found_bytes = os.fstat(file.fileno()).st_size
            if found_bytes != size_bytes:
                raise Damage(f"{path.name} has {found_bytes} bytes, expected {size_bytes}")
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                raise Damage(f"{path.name} does not fit its SHA-256")
    except (FileNotFoundError, IsADirectoryError):
        raise Damage(f"{path.name} is missing") from None


def read(folder: Path) -> Saved:
    """Verify a checkpoint and read it.

    Raises:
        Damage, ModelVersionError, OSError: As `read_manifest`.
    """
    manifest = verify(folder)
    tensors = {}
    for name in manifest["files"]:
        try:
            tensors[name.removesuffix(".safetensors")] = read_tensors(folder / name)
        except ValueError as error:
            raise Damage(str(error)) from None
    return Saved(manifest, tensors, number_of(folder) or 0)


def _checksum(manifest: Mapping[str, Any]) -> str:
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _require_files(files: object) -> None:
    if not isinstance(files, dict):
        raise Damage(f"{MANIFEST} has no table `files`")
    for name, entry in files.items():
        backbone = name.removesuffix(".safetensors")
        if backbone == name or not _GROUP.fullmatch(backbone):  # never a path that leads elsewhere
            raise Damage(f"{MANIFEST} names the file {name!r}, expected NAME.safetensors")
        if not (
            isinstance(entry, dict)
            and type(entry.get("bytes")) is int
            and isinstance(entry.get("sha256"), str)
        ):
            raise Damage(f"{MANIFEST} has no size and SHA-256 for {name}")
