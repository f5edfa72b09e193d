"""Where labels come from: an option, the stream itself, keys, HTTP, or nowhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Any, ClassVar, Self, final

from cfl_edge.defaults import LABELS_PORT
from cfl_edge.errors import CflEdgeError, DataError, UsageError
from cfl_edge.labels.ring import FrameRing, Kept
from cfl_edge.stream.frame import Frame
from cfl_edge.visible import is_visible, visible

MAX_NAME = 64  # characters: a name is a row of a table and a line of labels.txt
KINDS = ("dirs", "keys", "http", "serial")


def check_name(
    name: str, *, source: str = "the class name", kind: type[CflEdgeError] = UsageError
) -> str:
    """Return a class name without the white space around it.

    Args:
        name: What a user, a folder or a client called the class.
        source: How to speak of it in the error: "--label", "the folder".
        kind: The error to raise: `UsageError` for options and keys, `DataError` for folders.

    Raises:
        CflEdgeError: Of that kind: the name is empty, longer than 64 characters, or holds
            something that cannot be shown (control characters, line breaks, bytes that are not
            UTF-8).

    Example:
        >>> check_name(" coffee mug ")
        'coffee mug'
    """
    name = name.strip()
    if not name:
        raise kind(f"{source} is empty, expected a name", hint="name it after what is seen: mug")
    if len(name) > MAX_NAME:
        raise kind(
            f"{source} {visible(name[:MAX_NAME])!r}… has {len(name)} characters, "
            f"expected at most {MAX_NAME}",
            hint="choose a shorter name",
        )
    if any("\ud800" <= character <= "\udfff" for character in name):
        raise kind(f"{source} '{visible(name)}' is not UTF-8", hint="rename it in UTF-8")
    if not all(map(is_visible, name)):
        raise kind(
            f"{source} '{visible(name)}' holds control characters, expected printable ones",
            hint="name it with letters, digits, spaces and signs",
        )
    return name


class LabelSource(ABC):
    """Says of each frame which class it shows: a context manager that holds what it reads from.

    Example:
        >>> import numpy as np
        >>> frame = Frame(np.zeros((2, 3, 3), np.uint8), timestamp_s=0.0, index=0, label="pen")
        >>> with open_labels(label="mug", labels_from=None, classes=[]) as labels:
        ...     labels.label(frame), labels.waiting
        ('mug', 'every frame is mug')
    """

    with_frame: ClassVar[bool] = False
    """Whether a label is known of its frame, not said by somebody who may be late."""

    looks_back: ClassVar[bool] = False
    """Whether a label may name a past frame: `late` returns those frames."""

    @abstractmethod
    def open(self) -> None:
        """Take the terminal or the port; entering the context calls it.

        Raises:
            UsageError: It is not to be had.
        """

    @abstractmethod
    def label(self, frame: Frame) -> str | None:
        """Return the class of a frame; None means: predict only. Never waits.

        Args:
            frame: The newest frame.

        Raises:
            DataError: The stream gives a name that no class can have.
        """

    def late(self, ring: FrameRing[Any]) -> list[Kept[Any]]:
        """Return the past frames that were labelled since the last call.

        Args:
            ring: The frames that labels may name, the same in every call.
        """
        return []

    @property
    @abstractmethod
    def waiting(self) -> str:
        """One line for the view: the keys, the address, "paused"; "" where there is none."""

    @abstractmethod
    def close(self) -> None:
        """Give back what `open` took. Calling it again does nothing."""

    @final
    def __enter__(self) -> Self:
        """Open the source and return it."""
        self.open()
        return self

    @final
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the source."""
        self.close()


@final
class FixedLabel(LabelSource):
    """Every frame shows the same class (`--label NAME`).

    Args:
        name: Of the class.

    Raises:
        UsageError: See `check_name`.
    """

    with_frame = True

    def __init__(self, name: str) -> None:
        self._name = check_name(name, source="--label")

    def open(self) -> None:
        """Do nothing: nothing is held."""

    def label(self, frame: Frame) -> str:
        """Return the name."""
        return self._name

    @property
    def waiting(self) -> str:
        """What every frame is."""
        return f"every frame is {self._name}"

    def close(self) -> None:
        """Do nothing: nothing is held."""


@final
class StreamLabels(LabelSource):
    """The stream knows the class: a folder's subfolder, `demo:` (`--labels-from dirs`)."""

    with_frame = True

    def open(self) -> None:
        """Do nothing: nothing is held."""

    def label(self, frame: Frame) -> str | None:
        """Return the frame's own label, None where it has none."""
        if frame.label is None:
            return None
        return check_name(frame.label, source="the class folder", kind=DataError)

    @property
    def waiting(self) -> str:
        """Nothing: nobody has to act."""
        return ""

    def close(self) -> None:
        """Do nothing: nothing is held."""


@final
class NoLabels(LabelSource):
    """No frame is labelled: the model predicts and learns nothing."""

    with_frame = True

    def open(self) -> None:
        """Do nothing: nothing is held."""

    def label(self, frame: Frame) -> str | None:
        """Return None."""
        return None

    @property
    def waiting(self) -> str:
        """That nothing is learned."""
        return "no labels: predicting only"

    def close(self) -> None:
        """Do nothing: nothing is held."""


def open_labels(
    *,
    label: str | None,
    labels_from: str | None,
    labels_port: int = LABELS_PORT,
    classes: Sequence[str],
) -> LabelSource:
    """Return the label source that the options ask for.

    Args:
        label: `--label`: the class of every frame.
        labels_from: `--labels-from`: "dirs", "keys", "http" or "serial". With neither, nothing
            is learned.
        labels_port: `--labels-port` of "http"; 0 chooses a free one.
        classes: Names that the model knows, in their order: "keys" binds them.

    Raises:
        UsageError: Both options are given, a value is not one of these, or "keys" without a
            terminal. What can only be known by trying (a port in use) raises when it is entered.

    Example:
        >>> open_labels(label=None, labels_from=None, classes=[]).waiting
        'no labels: predicting only'
    """
    if label is not None and labels_from is not None:
        raise UsageError(
            f"--label {visible(label)} and --labels-from {visible(labels_from)} are both given, "
            "expected one of them",
            hint="leave one of them out",
        )
    if label is not None:
        return FixedLabel(label)
    if labels_from is None:
        return NoLabels()
    if labels_from == "dirs":
        return StreamLabels()
    if labels_from == "keys":
        from cfl_edge.labels.keys import KeyLabels  # a terminal: not on every system

        return KeyLabels(classes)
    if labels_from == "http":
        from cfl_edge.labels.http import HttpLabels  # http.server costs time to import

        return HttpLabels(labels_port)
    if labels_from == "serial":
        from cfl_edge.labels.serial import ButtonLabels

        return ButtonLabels()
    raise UsageError(
        f"--labels-from is {visible(labels_from)!r}, expected one of {', '.join(KINDS)}",
        hint="use --labels-from keys to label with the keyboard",
    )
