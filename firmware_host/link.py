"""A link to a board: messages both ways over a port, with acknowledgements and counts.

```
port ─▶ Parser ─▶ ACKs ─▶ requests that wait for them
           │└─ chunks ─▶ ImageAssembler ─▶ images ─▶ receive()
           └── everything else ───────────────────────▶ receive()
```
"""

from __future__ import annotations

import statistics
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self, final

from firmware_host.clock import BoardClock
from firmware_host.errors import NoAnswerError, RefusedError
from firmware_host.messages import Message
from firmware_host.protocol import (
    ACK_TIMEOUT_S,
    BAUD,
    MAX_TRIES,
    Ack,
    Ctrl,
    Encoder,
    Hello,
    Image,
    ImageAssembler,
    ImageChunk,
    Packet,
    Parser,
    Result,
    Status,
)
from firmware_host.serial_port import BytePort, SerialPort

LATENCIES = 100
"""Images whose latency is averaged: a few seconds."""


@dataclass(frozen=True)
class Received:
    """A message from the board.

    Args:
        message: What it says; chunks of images come as whole images.
        time_s: When the board made it (captured the image), on the host's monotonic clock.
    """

    message: Message | Image
    time_s: float


@dataclass
class Request:
    """A message that needs an acknowledgement, and its state.

    Args:
        message: What was sent.
        status: The board's answer; None before it arrives.
        tries: How often it was sent.
        given_up: Whether all attempts ended without an answer.
    """

    message: Message
    status: Status | None = None
    tries: int = 0
    given_up: bool = False
    seqs: set[int] = field(default_factory=set, repr=False)
    due_s: float = field(default=0.0, repr=False)

    @property
    def over(self) -> bool:
        """Whether it is finished."""
        return self.given_up or self.status in (Status.DONE, Status.REFUSED)


@dataclass(frozen=True)
class LinkStatistics:
    """What a link has counted since it was opened.

    Args:
        frames: Complete images.
        incomplete: Images that lacked a chunk.
        packets: Valid packets.
        lost_packets: Packets that never arrived, by the gaps in their numbers.
        crc_errors: Packets with a wrong checksum.
        malformed: Anything else that was not a packet: text on the line.
        bytes: Bytes received.
        seconds: Time since the link was opened.
        latency_ms: Median latency of the last images beyond the fastest message's, by the board's
            clock.
        starts: How often the board reported a start.
    """

    frames: int
    incomplete: int
    packets: int
    lost_packets: int
    crc_errors: int
    malformed: int
    bytes: int
    seconds: float
    latency_ms: float | None
    starts: int

    @property
    def bytes_per_s(self) -> float:
        """Average since the link was opened."""
        return self.bytes / self.seconds if self.seconds else 0.0


@final
class Link:
    """Talks to one board; made by `open_link`.

    It has no thread: one thread calls `receive` repeatedly, which also resends what was not
    acknowledged. Only `send` may be called from other threads.

    Args:
        port: Port to read and write, closed together with the link.
        clock: Returns monotonic seconds.
    """

    def __init__(self, port: BytePort, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.hello: Hello | None = None
        self._port, self._clock = port, clock
        self._parser, self._assembler = Parser(), ImageAssembler()
        self._board_clock, self._latencies_s = BoardClock(), deque[float](maxlen=LATENCIES)
        self._encoder, self._sending = Encoder(), threading.Lock()
        self._requests: deque[Request] = deque()
        self._kept: deque[Received] = deque()  # came while `request` waited
        self._bytes, self._starts = 0, 0
        self._opened_s = clock()

    @property
    def name(self) -> str:
        """The port's name."""
        return self._port.name

    @property
    def statistics(self) -> LinkStatistics:
        """What was counted so far."""
        counts = self._parser.counts
        latencies_s = list(self._latencies_s)
        return LinkStatistics(
            frames=self._assembler.complete,
            incomplete=self._assembler.incomplete,
            packets=counts.packets,
            lost_packets=counts.lost,
            crc_errors=counts.crc_errors,
            malformed=counts.malformed,
            bytes=self._bytes,
            seconds=self._clock() - self._opened_s,
            latency_ms=1000 * statistics.median(latencies_s) if latencies_s else None,
            starts=self._starts,
        )

    def receive(self, timeout_s: float) -> list[Received]:
        """Return what the board sent, waiting until something arrives; empty after the timeout.

        Args:
            timeout_s: How long to wait, in seconds; less if something must be resent.

        Raises:
            PortLostError: The port is gone.
        """
        if self._kept:
            kept = list(self._kept)
            self._kept.clear()
            return kept
        return self._receive(timeout_s)

    def send(self, message: Message) -> None:
        """Send a message once, without waiting for anything.

        Raises:
            PortLostError: The port is gone, or accepts no bytes.
        """
        self._send(message)

    def ask(self, message: Message) -> Request:
        """Send a message until it is acknowledged, at most three times, while `receive` is called.

        One message is in transit at a time; the next one waits for it.

        Returns:
            Its state: look at `over` and `status` after `receive`.
        """
        request = Request(message)
        self._requests.append(request)
        self._send_due()
        return request

    def request(self, message: Message) -> None:
        """Send a message and wait until the board has it; `receive` returns what arrives meanwhile.

        Args:
            message: `Ctrl` or `Result`.

        Raises:
            NoAnswerError: No acknowledgement after three attempts.
            RefusedError: The board does not understand it, or cannot do it.
            PortLostError: The port is gone.
        """
        request = self.ask(message)
        while not request.over:
            self._kept.extend(self._receive(ACK_TIMEOUT_S))
        what = describe(message)
        if request.status is Status.REFUSED:
            raise RefusedError(
                f"The board on {self.name} refuses {what}",
                hint="look up in its sketch which commands it knows",
            )
        if request.status is not Status.DONE:
            raise NoAnswerError(
                f"The board on {self.name} does not answer {what}, sent {request.tries} times",
                hint="check the baud rate, and that the board listens (HELLO says rx: true)",
            )

    def close(self) -> None:
        """Release the port. Calling it again does nothing."""
        self._port.close()

    def __enter__(self) -> Self:
        """Return the link itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the link."""
        self.close()

    def _receive(self, timeout_s: float) -> list[Received]:
        self._send_due()
        if self._requests:
            timeout_s = min(timeout_s, max(0.0, self._requests[0].due_s - self._clock()))
        data = self._port.read(timeout_s)
        arrived_s = self._clock()
        self._bytes += len(data)
        received = []
        for packet in self._parser.feed(data):
            message = self._take(packet)
            if isinstance(packet.message, Hello) and packet.seq == 0:
                self._board_clock.reset()
                self._starts += 1
            if message is None:
                continue
            time_s = self._board_clock.host_s(message.t_ms, arrived_s)
            if isinstance(message, Image):
                self._latencies_s.append(self._board_clock.latency_s)
            received.append(Received(message, time_s))
        self._send_due()
        return received

    def _take(self, packet: Packet) -> Message | Image | None:
        """Return what the packet says, or completes; answer it where it wants that."""
        message: Message | Image | None = packet.message
        status = Status.DONE
        if isinstance(message, ImageChunk):
            message = self._assembler.add(message)
        elif isinstance(message, Ack):
            self._acknowledge(message)
            self._board_clock.host_s(message.t_ms, self._clock())
            return None
        elif isinstance(message, Hello):
            self.hello = message
        elif isinstance(message, Ctrl | Result):  # a host's words from a board
            status = Status.REFUSED
        if packet.ack_wanted and message is not None:
            self._send(Ack(packet.seq, status))
        return message if status is Status.DONE else None

    def _acknowledge(self, ack: Ack) -> None:
        if self._requests and ack.seq in self._requests[0].seqs:
            self._requests[0].status = ack.status
            if self._requests[0].over:
                self._requests.popleft()

    def _send_due(self) -> None:
        """Send the first request where it is time, and give up one whose tries are over."""
        while self._requests:
            request, now_s = self._requests[0], self._clock()
            if now_s < request.due_s:
                return
            if request.tries == MAX_TRIES:
                request.given_up = True
                self._requests.popleft()
                continue
            request.tries += 1
            request.due_s = now_s + ACK_TIMEOUT_S
            request.seqs.add(self._send(request.message, ack_wanted=True))
            return

    def _send(self, message: Message, *, ack_wanted: bool = False) -> int:
        with self._sending:
            seq = self._encoder.seq
            self._port.write(self._encoder.encode(message, ack_wanted=ack_wanted))
        return seq


def open_link(device: str, *, baud: int = BAUD) -> Link:
    """Open a port and return the link to the board on it.

    Args:
        device: "/dev/ttyACM0"; see `firmware_host.ports.choose_port` to find it.
        baud: Bits per second.

    Raises:
        PortError: It does not open; the class says how.
    """
    return Link(SerialPort(device, baud))


def describe(message: Message) -> str:
    """Return what a message is, for errors.

    Example:
        >>> describe(Ctrl("stream", {"fps": 5})), describe(Result("mug"))
        ("'stream'", 'RESULT')
    """
    return repr(message.command) if isinstance(message, Ctrl) else message.TYPE.name
