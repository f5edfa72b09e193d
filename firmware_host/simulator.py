"""A board without a board: a pseudo terminal that says what a camera board would say.

One thread does all that the board does; what the board is made to suffer (`reset`, `unplug`) is
handed to it as orders. All that is random comes from the seed.
"""

from __future__ import annotations

import os
import select
import threading
import time
import tty
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Literal, Self, final

from firmware_host.damage import BadWire, Faults
from firmware_host.messages import Message, Value
from firmware_host.protocol import (
    ACK_TIMEOUT_S,
    HELLO_PERIOD_S,
    MAX_TRIES,
    Ack,
    Ctrl,
    Encoder,
    Event,
    Hello,
    Image,
    Packet,
    Parser,
    Result,
    Status,
)
from firmware_host.simulated_images import SIZES_PX, Shown, resize, to_image

KEPT = 10_000
"""How many images, results and commands it remembers."""

FASTEST_FPS = 1000.0

READ_BYTES = 4096


@final
class Simulator:
    """A board on a pseudo terminal: a context manager.

    It streams when it is asked to (CTRL `stream`), or at once if it does not listen. Leaving the
    context raises the error of its thread, if there was one.

    Args:
        shown: Images and events in their order; after the last one nothing more is sent.
        fps: Images per second until a host asks for others.
        receives: Whether it listens. False: it streams at once, without acknowledgements.
        proto: "cfl", or "jpeg" for JPEGs back to back and nothing else.
        start_text: What a boot loader prints first.
        faults: Faults of the wire to the host.
        seed: Random seed of the faults.
        link: Where to put a symbolic link to the terminal, whose own name changes each time.
        name: Name of the board, in HELLO.

    Example:
        >>> import numpy as np
        >>> from firmware_host.link import open_link
        >>> with Simulator([np.zeros((3, 4), np.uint8)]) as board, open_link(board.port) as link:
        ...     link.request(Ctrl("snap"))
        ...     while not link.statistics.frames:
        ...         _ = link.receive(1.0)
        ...     link.statistics.frames
        1
    """

    def __init__(
        self,
        shown: Iterable[Shown],
        *,
        fps: float = 10.0,
        receives: bool = True,
        proto: Literal["cfl", "jpeg"] = "cfl",
        start_text: bytes = b"",
        faults: Faults | None = None,
        seed: int = 0,
        link: str | os.PathLike[str] | None = None,
        name: str = "simulator",
    ) -> None:
        self._shown, self._fps, self._receives = iter(shown), fps, receives and proto == "cfl"
        self._proto, self._start_text, self._name = proto, start_text, name
        self._wire = BadWire(faults or Faults(), seed)
        self._link = None if link is None else Path(link)
        self._orders: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()  # guards what others look at
        self._stopping = False
        self._error: BaseException | None = None
        self.sent: deque[int] = deque(maxlen=KEPT)
        self.intact: deque[int] = deque(maxlen=KEPT)
        self.results: deque[Result] = deque(maxlen=KEPT)
        self.commands: deque[Ctrl] = deque(maxlen=KEPT)
        self.port = ""
        self._master = self._slave = -1
        self._clock_started_s, self._images, self._others = 0.0, 0, 0
        self._size_px: tuple[int, int] | None = None
        self._quality = 80
        self._browning_out = self._dead = False
        self._wake_read, self._wake_write = os.pipe()
        try:
            self._plug()
        except BaseException:
            self._release()
            raise
        self._thread = threading.Thread(target=self._work, name=f"board {self.port}", daemon=True)

    def __enter__(self) -> Self:
        """Switch the board on."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Switch it off, and raise the error that its thread failed with."""
        self._stopping = True
        self._wake()
        self._thread.join()
        self._release()
        if self._error is not None:
            raise self._error

    @property
    def failed(self) -> bool:
        """Whether it has ended with an error, which leaving the context raises."""
        return self._error is not None

    def wait_for(self, predicate: Callable[[], bool], timeout_s: float = 5.0) -> bool:
        """Wait until something is true of the board, and return whether it became so.

        Args:
            predicate: Looks at `sent`, `intact`, `results`, `commands`.
            timeout_s: How long to wait, in seconds.
        """
        with self._changed:
            over = self._changed.wait_for(lambda: predicate() or self._error is not None, timeout_s)
            return over and self._error is None

    def press(self, label: str) -> None:
        """Press the button of a label."""
        self._order(lambda: self._say_event(Event("press", label)))

    def release(self, label: str) -> None:
        """Let the button go."""
        self._order(lambda: self._say_event(Event("release", label)))

    def reset(self) -> None:
        """Press the reset button: whatever was under way is cut off."""
        self._order(self._boot)

    def brown_out(self) -> None:
        """Let the voltage drop: it falls silent in the middle of the next image."""

        def order() -> None:
            self._browning_out = True

        self._order(order)

    def unplug(self) -> None:
        """Pull the cable; returns when the port is gone."""
        self._order(self._unplug)
        self.wait_for(lambda: self._master < 0)

    def plug(self) -> None:
        """Put the cable in again: the board starts; returns when the port is there."""

        def order() -> None:
            self._plug()
            self._boot()

        self._order(order)
        self.wait_for(lambda: self._master >= 0)

    def _order(self, order: Callable[[], None]) -> None:
        self._orders.append(order)
        self._wake()

    def _wake(self) -> None:
        os.write(self._wake_write, b"!")

    def _plug(self) -> None:
        self._master, self._slave = os.openpty()  # the slave is held: else reads fail with EIO
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        terminal = os.ttyname(self._slave)
        if self._link is not None:
            self._link.unlink(missing_ok=True)
            self._link.symlink_to(terminal)
        self.port = str(self._link or terminal)

    def _unplug(self) -> None:
        if self._link is not None:
            self._link.unlink(missing_ok=True)
        for descriptor in (self._master, self._slave):
            if descriptor >= 0:
                os.close(descriptor)
        self._master = self._slave = -1

    def _release(self) -> None:
        self._unplug()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _work(self) -> None:
        try:
            self._boot()
            while not self._stopping:
                while self._orders:
                    self._orders.popleft()()
                if self._master >= 0 and not self._dead:
                    self._do_due(time.monotonic())
                with self._changed:
                    self._changed.notify_all()
                self._wait()
        except BaseException as error:  # raised where the board is left
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _boot(self) -> None:
        self._encoder, self._parser = Encoder(), Parser()
        self._clock_started_s = time.monotonic()
        self._frame_id, self._heard = 0, not self._receives
        self._streaming, self._snaps = not self._receives, 0
        self._image_due_s = self._clock_started_s
        self._hello_due_s = self._clock_started_s
        self._events: deque[Event] = deque()  # the first is under way
        self._event_seqs: set[int] = set()
        self._event_due_s = 0.0
        self._browning_out = self._dead = False
        self._pending = bytearray(self._start_text)
        if self._proto == "cfl":
            self._pending += b"\0"
            self._say_hello()

    def _do_due(self, now_s: float) -> None:
        if not self._heard and now_s >= self._hello_due_s and not self._pending:
            self._say_hello()
        if self._events and now_s >= self._event_due_s:
            self._try_event(now_s)
        if self._wants_image() and now_s >= self._image_due_s:
            period_s = 1 / self._fps
            late = self._image_due_s + period_s < now_s  # a camera does not catch up
            self._image_due_s = (now_s if late else self._image_due_s) + period_s
            self._show_next(now_s)

    def _wants_image(self) -> bool:
        return (self._streaming or self._snaps > 0) and not self._pending

    def _wait(self) -> None:
        """Sleep until something comes, may be sent, or is due."""
        reads, writes, due_s = [self._wake_read], [], None
        if self._master >= 0:
            reads.append(self._master)
            writes = [self._master] if self._pending else []
            if not self._dead:
                times_s = [self._image_due_s] if self._wants_image() else []
                times_s += [self._hello_due_s] if not self._heard and not self._pending else []
                times_s += [self._event_due_s] if self._events else []
                due_s = min(times_s, default=None)
        timeout_s = None if due_s is None else max(0.0, due_s - time.monotonic())
        readable, writable, _ = select.select(reads, writes, [], timeout_s)
        if self._wake_read in readable:
            os.read(self._wake_read, READ_BYTES)
        if self._master in writable:
            del self._pending[: os.write(self._master, self._pending)]
        if self._master in readable:
            data = os.read(self._master, READ_BYTES)
            if self._receives and not self._dead:
                for packet in self._parser.feed(data):
                    self._hear(packet)

    def _hear(self, packet: Packet) -> None:
        self._heard = True
        message, status = packet.message, Status.DONE
        with self._changed:
            if isinstance(message, Ctrl):
                self.commands.append(message)
                status = self._obey(message)
            elif isinstance(message, Result):
                self.results.append(message)
            elif isinstance(message, Ack) and message.seq in self._event_seqs:
                self._end_event()
        if packet.ack_wanted:
            self._say(Ack(packet.seq, status))

    def _obey(self, ctrl: Ctrl) -> Status:
        """Do what the host asks; see Commands in PROTOCOL.md."""
        fps: Value = ctrl.options.get("fps", self._fps)
        size, quality = ctrl.options.get("size"), ctrl.options.get("q", self._quality)
        if (
            ctrl.command not in ("stream", "snap", "stop")
            or isinstance(fps, str)
            or not 0 < fps <= FASTEST_FPS
            or (size is not None and size not in SIZES_PX)
            or isinstance(quality, str)
            or not 1 <= quality <= 95
        ):
            return Status.REFUSED
        self._fps, self._quality = float(fps), int(quality)
        if size is not None:
            self._size_px = SIZES_PX[str(size)]
        if ctrl.command == "snap":
            self._snaps = 1  # what shall be, not what shall change: it may arrive twice
        else:
            self._streaming = ctrl.command == "stream"
        self._image_due_s = min(self._image_due_s, time.monotonic() + 1 / self._fps)
        return Status.DONE

    def _show_next(self, now_s: float) -> None:
        for shown in self._shown:
            if isinstance(shown, Event):
                self._say_event(shown)
                continue
            self._send_image(to_image(shown), now_s)
            self._snaps = 0
            return
        self._streaming, self._snaps = False, 0  # nothing is left to show

    def _send_image(self, image: Image, now_s: float) -> None:
        if self._size_px is not None:
            image = resize(image, self._size_px, self._quality)
        self._frame_id += 1
        self._images += 1
        image = replace(image, frame_id=self._frame_id, t_ms=self._t_ms(now_s))
        if self._proto == "jpeg":
            packets = [image.data]
        else:
            packets = [self._encoder.encode(chunk) for chunk in image.chunks()]
        data, whole = self._wire.carry(packets, (1, self._images))
        if self._browning_out:
            data, whole, self._dead = data[: len(data) // 2], False, True
        self._pending += data
        with self._changed:
            self.sent.append(image.frame_id)
            if whole:
                self.intact.append(image.frame_id)

    def _say_hello(self) -> None:
        self._hello_due_s = time.monotonic() + HELLO_PERIOD_S
        formats = ("jpeg", "gray8", "rgb565le", "yuyv")
        self._say(Hello(self._name, "1.0", formats, receives=self._receives))

    def _say_event(self, event: Event) -> None:
        """Say that a button was pressed; until the host has it, if the board listens."""
        event = replace(event, frame_id=self._frame_id)
        if self._receives:
            self._events.append(event)
            if len(self._events) == 1:
                self._event_tries = 0
                self._try_event(time.monotonic())
        else:
            self._say(event)

    def _try_event(self, now_s: float) -> None:
        if self._event_tries == MAX_TRIES:
            self._end_event()
            return
        self._event_tries += 1
        self._event_seqs.add(self._encoder.seq)
        self._event_due_s = now_s + ACK_TIMEOUT_S
        self._say(self._events[0], ack_wanted=True)

    def _end_event(self) -> None:
        self._events.popleft()
        self._event_seqs.clear()
        self._event_tries, self._event_due_s = 0, 0.0

    def _say(self, message: Message, *, ack_wanted: bool = False) -> None:
        if self._proto == "jpeg":
            return
        self._others += 1
        message = replace(message, t_ms=self._t_ms(time.monotonic()))
        packet = self._encoder.encode(message, ack_wanted=ack_wanted)
        self._pending += self._wire.carry([packet], (0, self._others))[0]

    def _t_ms(self, now_s: float) -> int:
        """Return the board's clock; 1 at its start, since 0 is a board without one."""
        return 1 + int(1000 * (now_s - self._clock_started_s)) & 0xFFFFFFFF
