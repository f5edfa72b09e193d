"""What boards and hosts say to each other: immutable messages, checked when they are made.

A message that exists is valid; what it looks like on the wire is in `PROTOCOL.md`.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from types import MappingProxyType
from typing import ClassVar, Self

from firmware_host.payloads import (
    MAX_PAYLOAD_BYTES,
    check_range,
    check_text,
    check_value,
    from_json,
    get_value,
    is_hidden,
    to_json,
)

ACK = struct.Struct("<HB")
"""Sequence number of the packet that is acknowledged, status."""


class Type(IntEnum):
    """Kind of a packet: the low four bits of its first byte."""

    HELLO = 0
    IMAGE = 1
    EVENT = 2
    LOG = 3
    CTRL = 4
    ACK = 5
    RESULT = 6


class Status(IntEnum):
    """What became of a message that wanted an acknowledgement."""

    DONE = 0
    REFUSED = 1  # not understood, or not possible: do not repeat
    BUSY = 2  # not now: repeat later


@dataclass(frozen=True)
class Message(ABC):
    """What every message has.

    Args:
        frame_id: Number of the image that it is about, counted by the board; 0 if it is about no
            image.
        t_ms: The board's clock in milliseconds, of an image at its capture; wraps after 49 days.

    Raises:
        ValueError: A field is outside of what the wire holds.
    """

    TYPE: ClassVar[Type]

    frame_id: int = field(default=0, kw_only=True)
    t_ms: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        """Refuse what the wire does not hold."""
        check_range("frame_id", self.frame_id, 32)
        check_range("t_ms", self.t_ms, 32)

    @abstractmethod
    def payload(self) -> bytes:
        """Return the bytes between header and checksum."""

    @classmethod
    @abstractmethod
    def from_payload(cls, payload: bytes, frame_id: int = 0, t_ms: int = 0) -> Self:
        """Return the message of these bytes; ValueError if they are not one."""


@dataclass(frozen=True)
class Hello(Message):
    """A board says what it is: at its start, and until a host answers.

    Args:
        board: Name of the board.
        firmware: Version of what runs on it.
        formats: Names of the image formats that it sends: "jpeg", "gray8", …
        receives: Whether it listens; else it only sends.

    Example:
        >>> Hello("esp32cam", formats=("jpeg",)).payload()
        b'{"board":"esp32cam","fw":"","formats":["jpeg"],"rx":false}'
    """

    TYPE = Type.HELLO

    board: str
    firmware: str = ""
    formats: tuple[str, ...] = ()
    receives: bool = False

    def __post_init__(self) -> None:
        """See `Message`."""
        super().__post_init__()
        for text in (self.board, self.firmware, *self.formats):
            check_text(text)

    def payload(self) -> bytes:
        """See `Message`."""
        return to_json(
            board=self.board, fw=self.firmware, formats=list(self.formats), rx=self.receives
        )

    @classmethod
    def from_payload(cls, payload: bytes, frame_id: int = 0, t_ms: int = 0) -> Self:
        """See `Message`."""
        values = from_json(payload)
        formats = get_value(values, "formats", list, [])
        return cls(
            get_value(values, "board", str),
            firmware=get_value(values, "fw", str, ""),
            formats=tuple(formats),
            receives=get_value(values, "rx", bool, False),
            frame_id=frame_id,
            t_ms=t_ms,
        )


@dataclass(frozen=True)
class Event(Message):
    """Something happened at the board: a button that teaches a label, a sensor.

    Args:
        name: "press" and "release" hold a label from then to then; others are the caller's.
        label: What the image shows; "" if the event has no label.

    Example:
        >>> Event("press", "mug", frame_id=7).payload()
        b'{"event":"press","label":"mug"}'
    """

    TYPE = Type.EVENT

    name: str
    label: str = ""

    def __post_init__(self) -> None:
        """See `Message`."""
        super().__post_init__()
        check_text(self.name)
        check_text(self.label)

    def payload(self) -> bytes:
        """See `Message`."""
        return to_json(event=self.name, label=self.label)

    @classmethod
    def from_payload(cls, payload: bytes, frame_id: int = 0, t_ms: int = 0) -> Self:
        """See `Message`."""
        values = from_json(payload)
        return cls(
            get_value(values, "event", str),
            get_value(values, "label", str, ""),
            frame_id=frame_id,
            t_ms=t_ms,
        )


@dataclass(frozen=True)
class Log(Message):
    r"""A line for a person.

    Args:
        text: One line. Read from a board, bytes that are not UTF-8 and control characters have
            become "?".

    Example:
        >>> Log.from_payload(b"camera\x1b[2J ready\r\n")
        Log(frame_id=0, t_ms=0, text='camera?[2J ready')
    """

    TYPE = Type.LOG

    text: str

    def __post_init__(self) -> None:
        """See `Message`."""
        super().__post_init__()
        check_text(self.text, MAX_PAYLOAD_BYTES)

    def payload(self) -> bytes:
        """See `Message`."""
        return self.text.encode()

    @classmethod
    def from_payload(cls, payload: bytes, frame_id: int = 0, t_ms: int = 0) -> Self:
        """See `Message`."""
        text = payload.decode("utf-8", "replace").rstrip("\r\n\0")
        return cls(
            "".join(
                "?" if is_hidden(character) or character == "\ufffd" else character
                for character in text
            ),
            frame_id=frame_id,
            t_ms=t_ms,
        )


Value = str | int | float | bool
"""Of an option."""


@dataclass(frozen=True)
class Ctrl(Message):
    """A host asks a board for something.

    Args:
        command: "stream", "snap", "stop"; a board may know more.
        options: Its settings: short texts and finite numbers by name.

    Example:
        >>> Ctrl("stream", {"fps": 5, "size": "qvga"}).payload()
        b'{"cmd":"stream","fps":5,"size":"qvga"}'
    """

    TYPE = Type.CTRL

    command: str
    options: Mapping[str, Value] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """See `Message`."""
        super().__post_init__()
        check_text(self.command)
        for name, value in self.options.items():
            if name == "cmd" or not isinstance(value, Value):
                raise ValueError(f"Option {name!r} is {value!r}, expected a text or a number")
        check_value(dict(self.options))
        object.__setattr__(self, "options", MappingProxyType(dict(self.options)))

    def payload(self) -> bytes:
        """See `Message`."""
        return to_json(cmd=self.command, **self.options)

    @classmethod
    def from_payload(cls, payload: bytes, frame_id: int = 0, t_ms: int = 0) -> Self:
        """See `Message`."""
        values = from_json(payload)
        command = get_value(values, "cmd", str)
        del values["cmd"]
        return cls(command, values, frame_id=frame_id, t_ms=t_ms)


@dataclass(frozen=True)
class Ack(Message):
    """The other side has a packet that wanted to be acknowledged.

    Args:
        seq: Number of that packet, 0 to 65535.
        status: What became of it.

    Example:
        >>> Ack(258).payload().hex(" ")
        '02 01 00'
    """

    TYPE = Type.ACK

    seq: int
    status: Status = Status.DONE

    def __post_init__(self) -> None:
        """See `Message`."""
        super().__post_init__()
        check_range("seq", self.seq, 16)

    def payload(self) -> bytes:
        """See `Message`."""
        return ACK.pack(self.seq, self.status)

    @classmethod
    def from_payload(cls, payload: bytes, frame_id: int = 0, t_ms: int = 0) -> Self:
        """See `Message`."""
        if len(payload) < ACK.size:
            raise ValueError(f"An ACK of {len(payload)} bytes, expected {ACK.size}")
        seq, status = ACK.unpack_from(payload)
        return cls(seq, Status(status), frame_id=frame_id, t_ms=t_ms)


@dataclass(frozen=True)
class Result(Message):
    """What the host saw in the image `frame_id`.

    Args:
        label: "" where nothing known was seen.
        p: How sure it is, 0 to 1.

    Example:
        >>> Result("mug", 0.91, frame_id=7).payload()
        b'{"label":"mug","p":0.91}'
    """

    TYPE = Type.RESULT

    label: str
    p: float = 0.0

    def __post_init__(self) -> None:
        """See `Message`."""
        super().__post_init__()
        check_text(self.label)
        if not 0 <= self.p <= 1:
            raise ValueError(f"p is {self.p}, expected 0 to 1")

    def payload(self) -> bytes:
        """See `Message`."""
        return to_json(label=self.label, p=self.p)

    @classmethod
    def from_payload(cls, payload: bytes, frame_id: int = 0, t_ms: int = 0) -> Self:
        """See `Message`."""
        values = from_json(payload)
        p = values.get("p", 0.0)
        if isinstance(p, bool) or not isinstance(p, int | float):
            raise ValueError(f"p is {p!r}, expected a number")
        return cls(get_value(values, "label", str), p, frame_id=frame_id, t_ms=t_ms)
