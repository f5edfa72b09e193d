"""Pictures in a ZIP archive, a folder for each class: read one by one, within limits.

Nothing of an archive is written anywhere, so the names in it lead nowhere: the last folder of each
is a class. What an archive says of itself is not believed: the bytes that come out are counted.
"""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO

from cfl_edge.errors import DataError
from cfl_edge.names import check_name
from cfl_edge.stream.finder import MAX_BYTES
from cfl_edge.text import visible

MOST_PICTURES = 2000  # more are a folder for `cfl-edge learn --stream FOLDER`
MOST_PICTURE_BYTES = MAX_BYTES
MOST_BYTES = 512 << 20  # of all pictures, unpacked
MOST_DIRECTORY_BYTES = 1 << 20  # of the list of files, which is read into memory as a whole
SUFFIXES = (".jpg", ".jpeg", ".png")
READ_BYTES = 1 << 16
HINT = "a ZIP file with one folder for each class, with JPEG or PNG files in it"

# Of APPNOTE.TXT, 4.3.16 and 4.3.15.
END, END_BYTES, LONGEST_COMMENT = b"PK\x05\x06", 22, 0xFFFF
ZIP64_LOCATOR, LOCATOR_BYTES = b"PK\x06\x07", 20
ENCRYPTED = 1
# What reading an entry raises that is damaged, or packed in a way of its own.
DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError),
    *(OSError, ValueError),
)


@dataclass(frozen=True)
class Packed:
    """A picture in an archive.

    Args:
        label: Its class, the name of its folder.
        name: Its path in the archive, to be shown.
        info: Where it is.
    """

    label: str
    name: str
    info: zipfile.ZipInfo


def packed_pictures(archive: IO[bytes]) -> tuple[zipfile.ZipFile, list[Packed]]:
    """Open an archive and list its pictures, in order.

    Files that are no JPEG or PNG by their name, hidden ones and those of macOS are passed over.

    Args:
        archive: The file; stays open.

    Raises:
        DataError: It is no ZIP file, holds too many files or no picture in a folder, a name in it
            leads out of it, or a folder has a name that no class can have.
    """
    _check_directory(archive)
    try:
        opened = zipfile.ZipFile(archive)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError) as error:
        raise DataError(f"The archive cannot be read: {error}", hint=HINT) from error
    pictures = []
    for info in opened.infolist():
        path = PurePosixPath(info.filename)
        if ".." in path.parts or path.is_absolute() or "\\" in info.filename:
            raise DataError(
                f"The archive names {visible(info.filename[:64])}, expected paths within it",
                hint=HINT,
            )
        is_hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
        if info.is_dir() or is_hidden or path.suffix.lower() not in SUFFIXES:
            continue
        if len(path.parts) > 1:
            label = check_name(path.parts[-2], source="the folder", kind=DataError)
            pictures.append(Packed(label, str(path), info))
    if not pictures:
        raise DataError("The archive holds no picture in a folder", hint=HINT)
    if len(pictures) > MOST_PICTURES:
        raise DataError(
            f"The archive holds {len(pictures)} pictures, expected at most {MOST_PICTURES}",
            hint="several archives, or cfl-edge learn --stream with the unpacked folder",
        )
    return opened, pictures


def unpacked(opened: zipfile.ZipFile, pictures: list[Packed]) -> Iterator[tuple[Packed, bytes]]:
    """Yield the bytes of each picture; empty for one that cannot be unpacked.

    Args:
        opened: Of `packed_pictures`.
        pictures: Of it.

    Raises:
        DataError: More bytes come out than a picture, or all of them, may have.
    """
    left = MOST_BYTES
    for picture in pictures:
        data = _read(opened, picture)
        left -= len(data)
        if left < 0:
            raise DataError(
                f"The archive unpacks to more than {MOST_BYTES >> 20} MiB",
                hint="smaller pictures: 640 pixels a side are enough",
            )
        yield picture, data


def _read(opened: zipfile.ZipFile, picture: Packed) -> bytes:
    if picture.info.flag_bits & ENCRYPTED:
        return b""
    data = bytearray()
    try:
        with opened.open(picture.info) as file:
            while part := file.read(READ_BYTES):
                data += part
                if len(data) > MOST_PICTURE_BYTES:
                    raise DataError(
                        f"{visible(picture.name[-64:])} unpacks to more than "
                        f"{MOST_PICTURE_BYTES >> 20} MiB",
                        hint="smaller pictures: 640 pixels a side are enough",
                    )
    except DAMAGED:
        return b""
    return bytes(data)


def _check_directory(archive: IO[bytes]) -> None:
    """Refuse an archive whose list of files would fill the memory: `zipfile` reads all of it."""
    size = archive.seek(0, 2)
    start = max(0, size - END_BYTES - LONGEST_COMMENT - LOCATOR_BYTES)
    archive.seek(start)
    tail = archive.read()
    place = tail.rfind(END)
    if place < 0 or len(tail) - place < END_BYTES:
        raise DataError("The file is no ZIP archive, or cut off", hint=HINT)
    (directory_bytes,) = struct.unpack_from("<I", tail, place + 12)
    is_large = tail[max(0, place - LOCATOR_BYTES) : place].startswith(ZIP64_LOCATOR)
    if is_large or directory_bytes > MOST_DIRECTORY_BYTES:
        raise DataError(
            "The archive lists too many files", hint=f"at most {MOST_PICTURES} pictures in one"
        )
    archive.seek(0)
