"""The link to a board: acknowledgements, tries, counts, and errors that say what to do."""

import errno
import os
import threading
from collections import deque

import pytest

from firmware_host.clock import BoardClock
from firmware_host.errors import (
    NoAnswerError,
    PortBusyError,
    PortError,
    PortLostError,
    PortNotFoundError,
    PortPermissionError,
    RefusedError,
)
from firmware_host.link import Link, open_link
from firmware_host.protocol import (
    Ack,
    Ctrl,
    Encoder,
    Event,
    Format,
    Hello,
    Image,
    Log,
    Parser,
    Result,
    Status,
    encode,
)
from firmware_host.serial_port import SerialPort, open_error
from firmware_host.simulator import Simulator


class FakePort:
    """Bytes that will be read; each write is answered by `reply`. Waiting moves the clock."""

    name = "fake"

    def __init__(self, *data: bytes, reply=lambda packet: b"") -> None:
        self.data, self.written, self.now_s, self.closed = deque(data), [], 100.0, False
        self._reply, self._parser = reply, Parser()

    def clock(self) -> float:
        return self.now_s

    def read(self, timeout_s: float) -> bytes:
        if self.data:
            return self.data.popleft()
        self.now_s += timeout_s
        return b""

    def write(self, data: bytes) -> None:
        for packet in self._parser.feed(data):
            self.written.append((self.now_s, packet))
            if answer := self._reply(packet):
                self.data.append(answer)

    def close(self) -> None:
        self.closed = True


def linked(*data: bytes, reply=lambda packet: b"") -> tuple[FakePort, Link]:
    port = FakePort(*data, reply=reply)
    return port, Link(port, clock=port.clock)


def receive_for_ever(link: Link) -> None:
    while True:
        link.receive(0.02)


def send_for_ever(link: Link) -> None:
    while True:
        link.send(Ctrl("stop"))


def acks(status: Status = Status.DONE):
    encoder = Encoder()
    return lambda packet: encoder.encode(Ack(packet.seq, status))


def test_a_request_that_is_acknowledged_is_sent_once():
    port, link = linked(reply=acks())
    link.request(Ctrl("stream", {"fps": 5}))
    ((_, packet),) = port.written
    assert packet.message == Ctrl("stream", {"fps": 5})
    assert packet.ack_wanted


def test_a_request_without_an_answer_is_sent_three_times_half_a_second_apart():
    port, link = linked()
    with pytest.raises(NoAnswerError, match="does not answer 'snap', sent 3 times\n  try: "):
        link.request(Ctrl("snap"))
    assert [packet.seq for _, packet in port.written] == [0, 1, 2]
    assert [time_s - 100 for time_s, _ in port.written] == pytest.approx([0.0, 0.5, 1.0])
    assert port.now_s == pytest.approx(101.5)


def test_an_answer_to_any_of_the_tries_will_do():
    port, link = linked()
    port._reply = lambda packet: encode(Ack(0)) if packet.seq == 1 else b""
    link.request(Ctrl("stop"))
    assert len(port.written) == 2


def test_an_answer_to_something_else_will_not_do():
    _, link = linked(reply=lambda packet: encode(Ack(packet.seq + 7)))
    with pytest.raises(NoAnswerError):
        link.request(Ctrl("stop"))


def test_a_refusal_is_final():
    port, link = linked(reply=acks(Status.REFUSED))
    with pytest.raises(RefusedError, match="refuses 'dance'\n  try: "):
        link.request(Ctrl("dance"))
    assert len(port.written) == 1


def test_a_busy_board_is_asked_again():
    answers = iter([Status.BUSY, Status.DONE])
    port, link = linked(reply=lambda packet: encode(Ack(packet.seq, next(answers))))
    link.request(Ctrl("snap"))
    assert len(port.written) == 2


def test_requests_wait_for_each_other():
    port, link = linked()
    first, second = link.ask(Ctrl("stop")), link.ask(Ctrl("snap"))
    assert [packet.message.command for _, packet in port.written] == ["stop"]
    port.data.append(encode(Ack(0)))
    assert link.receive(1) == []
    assert first.status is Status.DONE
    assert [packet.message.command for _, packet in port.written] == ["stop", "snap"]
    port.data.append(encode(Ack(1)))
    link.receive(1)
    assert second.over


def test_what_comes_while_a_request_waits_is_kept():
    _, link = linked(encode(Log("one"), 0) + encode(Log("two"), 1), reply=acks())
    link.request(Ctrl("snap"))
    assert [received.message.text for received in link.receive(0)] == ["one", "two"]
    assert link.receive(0) == []


def test_events_and_whole_images_are_acknowledged_and_others_not():
    image = Image(bytes(2000), Format.GRAY8, 50, 40, frame_id=1)
    encoder = Encoder()
    stream = encoder.encode(Event("press", "mug"), ack_wanted=True)
    stream += encoder.encode(image, ack_wanted=True) + encoder.encode(Log("no"))
    port, link = linked(stream)
    assert [received.message for received in link.receive(0)][1] == image
    assert [packet.message for _, packet in port.written] == [Ack(0), Ack(2)]
    first, last = [encode(chunk, seq, ack_wanted=True) for seq, chunk in enumerate(image.chunks())]
    port, link = linked(first[:-3] + b"\0" + last)
    assert link.receive(0) == []
    assert port.written == []


def test_a_hosts_words_from_a_board_are_refused():
    port, link = linked(encode(Ctrl("stop"), ack_wanted=True) + encode(Result("mug"), 1))
    assert link.receive(0) == []
    assert [packet.message for _, packet in port.written] == [Ack(0, Status.REFUSED)]


def test_statistics():
    encoder = Encoder()
    good = [encoder.encode(Log(str(number))) for number in range(4)]
    harmed = good[2][:-2] + bytes([good[2][-2] ^ 1]) + b"\0"
    image = Image(bytes(1100), Format.GRAY8, 110, 10, frame_id=1, t_ms=1500)
    late = encoder.encode(image)
    stream = [encode(Hello("x", receives=True)), good[1], b"boot\0", harmed, good[3]]
    port, link = linked(b"".join(stream))
    link.receive(0)
    port.now_s += 2
    port.data.append(late)
    link.receive(0)
    met = link.statistics
    assert (met.frames, met.packets, met.starts, met.incomplete) == (1, 5, 1, 0)
    assert (met.crc_errors, met.malformed, met.lost_packets) == (1, 1, 1)
    assert met.bytes == sum(map(len, stream)) + len(late)
    assert met.bytes_per_s == pytest.approx(met.bytes / 2)
    assert link.hello == Hello("x", receives=True)


def test_latency_is_what_an_image_needs_beyond_the_fastest_message():
    clock = BoardClock()
    clock.host_s(1000, 51.0)
    assert clock.host_s(1200, 51.5) == pytest.approx(51.2)
    assert clock.latency_s == pytest.approx(0.3)
    assert clock.host_s(1100, 51.6) == pytest.approx(51.1)  # older than what came before
    assert clock.host_s(0, 60.0) == 60.0  # a board without a clock


def test_the_clock_goes_on_where_32_bits_end():
    clock = BoardClock()
    clock.host_s(2**32 - 100, 50.0)
    assert clock.host_s(100, 50.3) == pytest.approx(50.2)


def test_the_clock_follows_one_that_is_slower():
    clock = BoardClock()
    for second in range(1000):  # 1 ms a second: 20 times worse than a bad crystal
        latency_s = (1000 + second) - clock.host_s(1 + 999 * second, 1000.0 + second)
        assert 0 <= latency_s < 0.125


def test_the_clock_begins_again_with_a_board_that_has_started_anew():
    clock = BoardClock()
    clock.host_s(3_600_000, 5000.0)
    assert clock.host_s(10, 5001.0) == 5001.0
    assert clock.host_s(1010, 5002.1) == pytest.approx(5002.0)


def test_a_port_is_for_one_program():
    with (
        Simulator([]) as board,
        open_link(board.port),
        pytest.raises(PortBusyError, match=f"another program is using it\n  try: .*{board.port}"),
    ):
        open_link(board.port)


def test_a_port_that_is_released_can_be_opened_again():
    with Simulator([]) as board:
        for _ in range(3):
            with open_link(board.port) as link:
                link.request(Ctrl("stop"))
            link.close()


def test_ports_that_do_not_open(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(PortNotFoundError, match=r"There is no serial port .*none\n  try: "):
        SerialPort(str(tmp_path / "none"))
    with pytest.raises(PortError, match="is not a serial port\n  try: "):
        SerialPort(str(tmp_path / "file"))


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (errno.ENOENT, PortNotFoundError, "There is no serial port"),
        (errno.EBUSY, PortBusyError, "another program is using it"),
        (errno.EACCES, PortPermissionError, "may not be opened by this user"),
        (errno.EIO, PortLostError, "does not answer any more"),
        (errno.EINVAL, PortError, "does not open at 9600 baud: Invalid argument"),
        (None, PortError, "does not open at 9600 baud: odd words"),
    ],
)
def test_each_reason_has_its_error(code, kind, words):
    error = open_error("/dev/ttyX", 9600, code, "odd words")
    assert type(error) is kind
    assert words in error.problem
    assert error.hint


@pytest.mark.parametrize("baud", [115200, 921600, 3_000_000, 123_456])
def test_baud_rates(baud):
    with Simulator([]) as board, open_link(board.port, baud=baud) as link:
        link.request(Ctrl("stop"))


def test_dtr_and_rts_are_off_before_it_opens(monkeypatch):
    import serial

    seen = []
    monkeypatch.setattr(serial.Serial, "open", lambda self: seen.append((self.dtr, self.rts)))
    SerialPort("/dev/ttyX")
    assert seen == [(False, False)]


def test_an_unplugged_board_is_an_error_while_reading_and_writing():
    with Simulator([]) as board, open_link(board.port) as link:
        link.request(Ctrl("stop"))
        board.unplug()
        with pytest.raises(PortLostError, match=r"is gone: unplugged.*\n  try: "):
            receive_for_ever(link)
        with pytest.raises(PortLostError, match="is gone"):
            link.send(Result("mug"))


def test_a_board_that_takes_no_bytes_is_an_error(monkeypatch):
    monkeypatch.setattr("firmware_host.serial_port.WRITE_TIMEOUT_S", 0.05)
    master, slave = os.openpty()
    try:
        with open_link(os.ttyname(slave)) as link, pytest.raises(PortLostError, match="no bytes"):
            send_for_ever(link)
    finally:
        os.close(master)
        os.close(slave)


def test_a_link_that_another_thread_closes_ends_with_an_error():
    with Simulator([]) as board, open_link(board.port) as link:
        closer = threading.Timer(0.05, link.close)
        closer.start()
        with pytest.raises(PortLostError):
            receive_for_ever(link)
        closer.join()
