"""The model folder: every save is whole or has not happened.

```
DIR/
├── checkpoint-000004/   older ones that the caller asked to keep: where undo begins
├── checkpoint-000011/   the one before: what is left if the newest is damaged
├── checkpoint-000012/   the newest
├── view.jpg             a picture of what it looks at, from the last start of learning
├── .writing-…/          an interrupted save: ignored, removed by the next
├── boards/              of a merged model, see cfl_edge/fleet/folder.py
├── fleet/               what other boards taught, see cfl_edge/fleet/shared.py
├── onnx/                an export of it, see cfl_edge/onnx/export.py
├── session.sock         see cfl_edge/loop/session_socket.py
└── lock                 see lock.py
```

A save writes into a folder of its own, waits for the disk, and renames; only then older
checkpoints go. Groups of tensors that did not change (a frozen backbone, an idle replay memory) are
linked instead of written again, so an SD card wears by what was learned.
"""

from __future__ import annotations

import errno
import os
import shlex
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from cfl_edge.errors import (
    ModelDamagedError,
    ModelError,
    ModelLockedError,
    ModelNotFoundError,
    quoted,
)
from cfl_edge.model.checkpoint import (
    FORMAT_VERSION,
    Damage,
    Group,
    Saved,
    file_name,
    number_of,
    read,
    to_manifest,
    verify,
    write,
)
from cfl_edge.model.last_stream import is_zone, learn_command, merge_command, taught_zones
from cfl_edge.model.lock import LOCK, SOCKET, ModelLock, holder
from cfl_edge.model.older import older_than
from cfl_edge.model.opening import irregular
from cfl_edge.model.replacing import is_being_written, remove_leftover
from cfl_edge.model.tensors import Array, digest, to_parts
from cfl_edge.model.writing import TEMPORARY, discard, make_folder, write_error
from cfl_edge.notices import Notice, log_notice

__all__ = ["FORMAT_VERSION", "Saved", "Store"]


VIEW_FILE = "view.jpg"  # what the model looks at, as `learn` drew it at its start
BOARDS = "boards"  # of a merged model: what each board contributed
FLEET_FOLDER = "fleet"  # of a board: the sums of the others
ONNX_FOLDER = "onnx"  # where an export may lie
# The last: DIR is the root of its own disk.
_NOT_FOREIGN = {LOCK, SOCKET, VIEW_FILE, BOARDS, FLEET_FOLDER, ONNX_FOLDER, "lost+found"}

T = TypeVar("T")


class Store:
    """A folder that stores a model and survives crashes, power cuts and full disks.

    One process writes it at a time: hold a `ModelLock` while you do.

    Args:
        folder: The model folder; need not exist yet.
        on_notice: Called with a sentence when something was repaired or given up, such as a
            damaged checkpoint that was skipped. Default: `log_notice`.

    Attributes:
        lock: That of the process that learns, which each save makes sure of; None elsewhere.
        written: Bytes that this object has written, by file; a link counts nothing.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> store = Store(Path(tempfile.mkdtemp()) / "pets")
        >>> store.exists()
        False
        >>> store.save({"classes": ["cat"]}, {"state": {"rows": np.ones((1, 4))}}).name
        'checkpoint-000001'
        >>> saved = store.load()
        >>> saved.manifest["classes"], saved.tensors["state"]["rows"].shape
        (['cat'], (1, 4))
    """

    def __init__(self, folder: Path, *, on_notice: Notice = log_notice) -> None:
        self.folder = folder
        self.lock: ModelLock | None = None
        self.written: Counter[str] = Counter()
        self._on_notice = on_notice
        self._told: set[str] = set()  # damages
        self._good: Path | None = None  # the newest checkpoint this object saved or verified

    def exists(self) -> bool:
        """Return whether a model was ever saved here, damaged or not.

        Raises:
            ModelError: The folder cannot be read.
        """
        return bool(self._checkpoints())

    def require_usable(self) -> None:
        """Refuse a folder that holds anything but a model, before anything is learned.

        Raises:
            ModelError: There are other files and no model in it, or it cannot be read.
            ModelWriteError: A file is in the way.
        """
        if self._is_file():
            raise write_error(NotADirectoryError(errno.ENOTDIR, ""), self.folder)
        if self._checkpoints():
            return
        if foreign := self._foreign():
            self._refuse_zones()
            more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
            raise ModelError(
                f"{self.folder} holds other files but no model ({foreign[0]}{more}), "
                "expected a model folder, an empty folder or a new one",
                hint=f"--model {quoted(self.folder / 'model')}",
            )

    def load(self) -> Saved:
        """Read the newest checkpoint that verifies.

        Returns:
            The manifest and the tensors, as given to `save`.

        Raises:
            ModelNotFoundError: No model was saved here.
            ModelLockedError: None was saved yet: another process is learning it.
            ModelDamagedError: None of its checkpoints verifies.
            ModelVersionError: The newest was written by a newer cfl-edge.
            ModelError: The folder cannot be read.
        """
        damages: list[str] = []
        checkpoints = self._checkpoints()
        for checkpoint in checkpoints:
            try:
                saved = self._checked(read, checkpoint)
            except (Damage, ModelError) as error:
                if not os.path.lexists(checkpoint):  # whoever learns has saved twice since
                    return self.load()
                if isinstance(error, ModelError):
                    raise
                damages.append(f"{checkpoint.name}: {error}")
            else:
                for damage_text in damages:
                    what = older_than(checkpoints[0], saved.manifest)
                    self._tell_damage(damage_text, f"; using {checkpoint.name} instead{what}")
                self._good = checkpoint
                return saved
        if damages:
            raise ModelDamagedError(
                f"{self.folder} has no usable model ({'; '.join(damages)})",
                hint="restore it from a backup, or learn anew with --model "
                f"{quoted(f'{self.folder}-new')}",
            )
        if self._is_file():
            raise ModelNotFoundError(
                f"{self.folder} is a file, expected a model folder",
                hint="an ONNX file is for run; else the folder that learn --model was given",
            )
        learning = holder(self.folder)
        if learning is not None:
            raise ModelLockedError(
                f"{self.folder} holds no model yet: process {learning} is learning it",
                hint="wait until it saves, within half a minute",
            )
        self._refuse_zones()
        reason = "holds no model" if os.path.exists(self.folder) else "does not exist"
        place = self.folder / "model" if self._foreign() else self.folder
        raise ModelNotFoundError(
            f"{self.folder} {reason}",
            hint=f"cfl-edge teach --stream demo: --model {quoted(place)} makes one",
        )

    def numbers(self) -> list[int]:
        """Return the numbers of the checkpoints present, newest first, damaged or not.

        Raises:
            ModelError: The folder cannot be read.
        """
        return [number_of(folder) or 0 for folder in self._checkpoints()]

    def load_older(self, number: int) -> Saved | None:
        """Read the checkpoint with this number; None, with a notice, if it is not usable.

        Raises:
            ModelVersionError: It was written by a newer cfl-edge.
            ModelError: The folder cannot be read.
        """
        checkpoint = self.folder / f"checkpoint-{number:06d}"
        if checkpoint in self._checkpoints():
            try:
                return self._checked(read, checkpoint)
            except Damage as damage:
                self._tell_damage(f"{checkpoint.name}: {damage}")
        return None

    def save(
        self,
        manifest: Mapping[str, Any],
        tensors: Mapping[str, Mapping[str, Array]],
        *,
        keep: Collection[int] = (),
    ) -> Path:
        """Write a new checkpoint; keep the one before it; remove older ones.

        Args:
            manifest: JSON values to store beside the tensors (no NaN). `format_version`,
                `created`, `files` and `checksum` are set here.
            tensors: Group to name to array. Each group becomes a file, linked to the one before
                if its content is the same.
            keep: Numbers of older checkpoints to keep as well. On a full disk they are dropped,
                the oldest first, with a notice.

        Returns:
            The checkpoint's folder.

        Raises:
            ModelWriteError: Disk full, no permission. What was saved before is intact.
            ModelVersionError: A newer cfl-edge wrote the newest checkpoint.
            ModelError: The folder holds something else, or is another one than `lock` is of.
        """
        if self.lock is not None:
            self.lock.renew()
        self.require_usable()
        groups: dict[str, Group] = {}
        for group, arrays in tensors.items():
            parts = to_parts(arrays)
            groups[file_name(group)] = Group(parts, *digest(parts))
        text = to_manifest(manifest, groups)
        previous = self._previous()
        try:
            make_folder(self.folder)
            self._remove_leftovers()
            new = self._write(groups, text, previous)
        except OSError as error:
            intact = f"{previous.name} is intact." if previous else ""
            needed_bytes = sum(group.size_bytes for group in groups.values())
            raise write_error(
                error, self.folder, intact=intact, needed_bytes=needed_bytes
            ) from error
        self._good = new
        for checkpoint in self._checkpoints():
            if checkpoint not in (new, previous) and number_of(checkpoint) not in keep:
                self._remove_checkpoint(checkpoint)
        return new

    def _write(self, groups: Mapping[str, Group], text: bytes, previous: Path | None) -> Path:
        new = self.folder / f"checkpoint-{max(self.numbers(), default=0) + 1:06d}"
        while True:
            try:
                return write(new, groups, text, previous, written=self.written)
            except OSError as error:
                older = [folder for folder in self._checkpoints() if folder != previous]
                if error.errno not in {errno.ENOSPC, errno.EDQUOT} or not previous or not older:
                    raise
                if not self._remove_checkpoint(older[-1]):
                    raise
            self._on_notice(
                f"{self.folder}: the disk is full; dropped {older[-1].name} and tried again: "
                "cfl-edge undo can now undo less"
            )

    def _tell_damage(self, damage: str, consequence: str = "") -> None:
        """Tell of a damaged checkpoint, once each."""
        if damage not in self._told:
            self._told.add(damage)
            self._on_notice(f"{self.folder}: {damage}{consequence}")

    def _previous(self) -> Path | None:
        """Return the newest checkpoint that verifies: what must outlive a failed save."""
        checkpoints = self._checkpoints()
        if checkpoints and checkpoints[0] == self._good:
            return self._good
        for checkpoint in checkpoints:
            try:
                self._checked(verify, checkpoint)
            except Damage as damage:
                self._tell_damage(f"{checkpoint.name}: {damage}")
            else:
                return checkpoint
        return None

    def _remove_checkpoint(self, checkpoint: Path) -> bool:
        # Renamed first: a half removed checkpoint must not look like a damaged one.
        doomed = self.folder / f"{TEMPORARY}{checkpoint.name}"
        try:
            os.rename(checkpoint, doomed)
        except OSError as error:
            self._on_notice(f"{checkpoint} could not be removed: {error.strerror}")
            return False
        self._tell_stuck(doomed, discard(doomed))
        return True

    def _remove_leftovers(self) -> None:
        for name in self._names():
            path = self.folder / name
            if name.startswith(TEMPORARY) and not is_being_written(path):
                self._tell_stuck(path, remove_leftover(path))

    def _tell_stuck(self, path: Path, error: OSError | None) -> None:
        if error is not None:
            self._on_notice(f"{path} could not be removed: {error.strerror}")

    def _checkpoints(self) -> list[Path]:
        """Return the checkpoints' folders, newest first."""
        found = [self.folder / name for name in self._names() if number_of(Path(name)) is not None]
        return sorted(found, key=lambda folder: number_of(folder) or 0, reverse=True)

    def _is_file(self) -> bool:
        return os.path.exists(self.folder) and not os.path.isdir(self.folder)

    def _refuse_zones(self) -> None:
        """Refuse a folder of models, of `learn --zones` or a fleet, where a model is expected."""
        zones = sorted({place.parent.name for place in self.folder.glob("*/checkpoint-*")})
        if zones:
            one = next(iter(taught_zones(self.folder)), self.folder / zones[0])
            if merged := merge_command(self.folder):
                raise ModelNotFoundError(
                    f"{self.folder} holds reports of boards ({', '.join(zones)}), expected a model",
                    hint=f"{merged} makes one model of them",
                )
            raise ModelNotFoundError(
                f"{self.folder} holds models of zones ({', '.join(zones)}) and none of its own",
                hint=f"the same command with {shlex.quote(str(one))}; "
                f"{learn_command(one)} goes on teaching" + " all of them" * is_zone(one),
            )

    def _foreign(self) -> list[str]:
        """Return the names of files that are no part of a model."""
        return [
            name
            for name in self._names()
            if name not in _NOT_FOREIGN and not name.startswith(TEMPORARY)
        ]

    def _names(self) -> list[str]:
        try:
            names = sorted(os.listdir(self.folder))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise self._read_error(error, self.folder) from error
        is_model = any(number_of(Path(name)) is not None for name in names)
        for path in (self.folder / name for name in names if is_model or name in _NOT_FOREIGN):
            kind = irregular(path)
            if kind is not None and (path.name, kind) != (SOCKET, "a socket"):  # never opened here
                raise ModelError(
                    f"{path} is {kind}, expected nothing but files and folders in a model folder",
                    hint=f"ls -l {quoted(path)}, then rm {quoted(path)} if it is not needed",
                )
        return names

    def _checked(self, action: Callable[[Path], T], checkpoint: Path) -> T:
        try:
            return action(checkpoint)
        except OSError as error:
            if error.errno == errno.EIO:  # a bad block: what the older checkpoint is for
                raise Damage(f"the disk cannot read it ({error.strerror})") from error
            # A missing permission is no damage: an older state must not stand in for it.
            raise self._read_error(error, checkpoint) from error

    def _read_error(self, error: OSError, path: Path) -> ModelError:
        place = path if error.errno == errno.ELOOP else self.folder
        return ModelError(
            f"{path} cannot be read: {error.strerror}",
            hint=f"ls -l {quoted(place)}" + ("" if place == path else ", and run as its owner"),
        )
