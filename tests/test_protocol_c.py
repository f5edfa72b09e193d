"""The C implementation and the examples for boards, against the vectors of the protocol."""

from __future__ import annotations

import ast
import importlib.util
import itertools
import json
import random
import re
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import link_reference as reference
import pytest
from link_reference import FIRMWARE_HOST, REFUSED, VECTORS, message_of

from firmware_host.protocol import (
    Ack,
    Ctrl,
    Encoder,
    Event,
    Format,
    Hello,
    Image,
    ImageAssembler,
    ImageChunk,
    Log,
    Packet,
    Parser,
    Result,
    Type,
    encode,
)

TESTS = FIRMWARE_HOST.parent / "tests"
C = FIRMWARE_HOST / "c"
OPENMV = C / "examples/openmv/cfl_link_openmv.py"
SKETCH = C / "examples/esp32cam/esp32cam.ino"
CC = next(filter(shutil.which, ("cc", "gcc", "clang")), None)
CXX = next(filter(shutil.which, ("c++", "g++", "clang++")), None)
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{C}"]
SANITIZED = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]

needs_cc = pytest.mark.skipif(CC is None, reason="no C compiler (cc, gcc or clang)")
needs_cxx = pytest.mark.skipif(
    CC is None or CXX is None, reason="no C++ compiler (c++, g++ or clang++)"
)


def run(*command, stdin: bytes = b"") -> bytes:
    result = subprocess.run(command, input=stdin, capture_output=True, timeout=60)
    assert result.returncode == 0, result.stderr.decode(errors="replace")
    return result.stdout


def build_driver(folder, *options):
    program = folder / "driver"
    run(CC, *STRICT, *options, C / "cfl_link.c", TESTS / "cfl_link_driver.c", "-o", program)

    def drive(*lines: str) -> list[str]:
        out = run(program, stdin=("\n".join(lines) + "\n").encode()).decode()
        first, *answers = out.splitlines()
        assert first == "00"  # cfl_begin ends the start-up text
        assert len(answers) == len(lines)
        return answers

    return drive


@pytest.fixture(scope="module", params=["optimised", "sanitized"])
def drive(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("c")
    if request.param == "optimised":
        return build_driver(folder, "-Os")
    probe = folder / "probe.c"
    probe.write_text("int main(void) { return 0; }\n")
    try:
        run(CC, *SANITIZED, probe, "-o", folder / "probe")
        run(folder / "probe")
    except AssertionError as error:
        pytest.skip(f"{CC} has no sanitizers: {str(error).splitlines()[0]}")
    return build_driver(folder, *SANITIZED)


def sending(message, seq: int, ack_wanted: bool) -> str:
    """The driver's line for a message of a board."""
    fields: list[object] = [message.TYPE.name.lower() if message is not None else "", seq]
    if isinstance(message, Event):
        fields += [message.frame_id, message.t_ms, int(ack_wanted), message.payload().hex()]
    elif isinstance(message, Ack):
        fields += [message.t_ms, message.seq, message.status.value]
    else:
        fields += [message.t_ms, message.payload().hex()]
    return " ".join(map(str, fields))


def sending_image(image: Image, seq: int, ack_wanted: bool) -> str:
    return (
        f"image {seq} {image.frame_id} {image.t_ms} {image.format.value} {image.width} "
        f"{image.height} {int(ack_wanted)} {image.data.hex()}"
    )


@needs_cc
def test_c_sends_the_vectors(drive):
    lines, expected = [], []
    for vector in VECTORS.values():
        message, arguments = message_of(vector), (vector["seq"], vector["ack_wanted"])
        if isinstance(message, Image):
            lines.append(sending_image(message, *arguments))
        elif isinstance(message, Hello | Event | Log | Ack):
            lines.append(sending(message, *arguments))
        else:
            continue
        expected.append(vector["bytes"])
    assert len(lines) == len(VECTORS) - 4  # CTRL and RESULT are the host's
    assert drive(*lines) == expected


def received(vector_packets) -> list[str]:
    """What the driver prints of packets."""
    lines = []
    for packet in vector_packets:
        payload = bytes.fromhex(packet["payload"])
        if packet["type"] == Type.ACK:
            extra = [int.from_bytes(payload[:2], "little"), payload[2]]
        else:
            text = payload.split(b"\0")[0].decode(errors="replace")
            number = re.search(r'"fps":(-?\d+)', text)
            extra = [int('"cmd":"stream"' in text), number.group(1) if number else -7]
        fields = [packet[name] for name in ("type", "flags", "seq", "frame_id", "t_ms")]
        lines.append(",".join(map(str, [*fields, packet["payload"], *extra])))
    return lines


@needs_cc
def test_c_receives_the_vectors(drive):
    packets = [packet for vector in VECTORS.values() for packet in vector["packets"]]
    framing = ("wrong checksum", "start-up text", "header without checksum", "version 2")
    framing += ("COBS code beyond the end", "1025 bytes of payload", "1025 zeros of payload")
    framing += ("15 bytes and their checksum",)
    stream = ""
    for number, vector in enumerate(VECTORS.values()):
        stream += REFUSED[framing[number % len(framing)]]["bytes"] + "00" + vector["bytes"]
    (answer,) = drive("receive " + stream)
    assert answer.split() == received(packets)


@needs_cc
def test_c_blocks_of_every_length(drive):
    generator = random.Random(1)
    lines, expected = [], []
    for size in [*range(1, 40), *range(230, 262), *range(490, 520), *range(1008, 1030), 2038, 2039]:
        for data in (
            b"\x01" * size,
            bytes(size),
            bytes(generator.choices((0, 1, 255), (1, 300, 1), k=size)),
        ):
            image = Image(data, Format.JPEG, 0x0101, 0x0101, frame_id=0x01010101, t_ms=0x01010101)
            lines.append(sending_image(image, 0x0101, True))
            expected.append(encode(image, 0x0101, ack_wanted=True).hex())
    assert drive(*lines) == expected


@needs_cc
def test_c_takes_no_flipped_bit(drive):
    first, middle, last = (
        encode(Result("cup", 0.5)),
        encode(Ctrl("stream", {"fps": 12}), 1, ack_wanted=True),
        encode(Ack(3), 2),
    )
    whole = drive(*("receive " + part.hex() for part in (first, last)))
    lines = []
    for place in range(len(middle) - 1):
        for bit in range(8):
            damaged = bytearray(middle)
            damaged[place] ^= 1 << bit
            lines.append(f"receive {(first + bytes(damaged) + last).hex()}")
    assert set(drive(*lines)) == {"".join(whole)}


@needs_cc
def test_c_survives_random_bytes(drive):
    generator = random.Random(2)
    good = encode(Ctrl("snap"), 5)
    lines = [
        f"receive {(generator.randbytes(generator.randrange(6000)) + bytes(1) + good).hex()}"
        for _ in range(60)
    ]
    (expected,) = drive(f"receive {good.hex()}")
    assert set(drive(*lines)) == {expected}


@needs_cc
def test_c_values_of_json(drive):
    def answer(text: str) -> list[str]:
        payload = text.encode()
        stream = reference.packet_bytes(
            type=4, flags=0, seq=0, frame_id=0, t_ms=0, offset=0, payload=payload
        )
        return drive(f"receive {stream.hex()}")[0].strip().split(",")[-2:]

    assert answer('{"cmd":"stream","fps":15}') == ["1", "15"]
    assert answer('{"cmd":"streams","fps":-3}') == ["0", "-3"]
    assert answer('{"cmd":"stop","x":"\\"fps\\":9","fps":"4"}') == ["0", "-7"]
    assert answer('{"x":"fps","cmd":"stream"}') == ["1", "-7"]
    assert answer('{"x":"cmd","y":"stream"}') == ["0", "-7"]
    assert answer('{"cmd":"str') == ["0", "-7"]
    assert answer('{"fps":') == ["0", "-7"]
    assert answer("") == ["0", "-7"]


@needs_cc
def test_c_passes_over_what_its_buffer_does_not_hold(tmp_path):
    small = build_driver(tmp_path, "-DCFL_RECEIVE_MAX=64")
    short, fits, over = (Ctrl("x" * size) for size in (1, 34, 35))
    assert len(fits.payload()) + 20 == 64
    stream = encode(over) + encode(short) + encode(fits) + encode(over) + encode(short)
    stream += encode(fits)[:-1] + b"\x03xy\0"  # what fits is a packet, and goes on
    (answer,) = small(f"receive {stream.hex()}")
    assert [line.split(",")[5] for line in answer.split()] == [
        message.payload().hex() for message in (short, fits, short)
    ]


# The sketch for the ESP32-CAM, with Arduino and the camera played by tests/arduino_stubs


@pytest.fixture(scope="module")
def sketch(tmp_path_factory):
    """Runs the sketch: bytes of the host in, packets of the board out."""
    folder = tmp_path_factory.mktemp("sketch")
    run(CC, *STRICT, "-c", C / "cfl_link.c", "-o", folder / "cfl_link.o")
    stubs = TESTS / "arduino_stubs"
    options = ["-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{stubs}", f"-I{C}"]
    sources = ["-include", "Arduino.h", "-x", "c++", SKETCH, stubs / "main.cpp", "-x", "none"]
    run(CXX, *options, *sources, folder / "cfl_link.o", "-o", folder / "sketch")

    def start(host: bytes) -> list[Packet]:
        parser = Parser()
        packets = parser.feed(run(folder / "sketch", stdin=host))
        assert parser.counts.malformed + parser.counts.crc_errors + parser.counts.lost == 0
        return packets

    return start


@needs_cxx
def test_sketch_repeats_hello_until_a_host_speaks(sketch):
    hello = Hello("esp32cam", "1.0", ("jpeg",), receives=True)
    hellos = [packet.message for packet in sketch(b"") if packet.message.TYPE == Type.HELLO]
    assert [message.t_ms for message in hellos] == [0, 2000, 4000]
    assert {(message.board, message.formats, message.receives) for message in hellos} == {
        (hello.board, hello.formats, hello.receives)
    }
    answered = sketch(encode(Ctrl("stop"), ack_wanted=True))
    assert sum(packet.message.TYPE == Type.HELLO for packet in answered) == 2


@needs_cxx
def test_sketch_streams_as_it_is_told(sketch):
    host = Encoder()
    packets = sketch(
        b"garbage\0"
        + host.encode(Ctrl("stream", {"fps": 10, "size": "vga", "q": 12}), ack_wanted=True)
        + host.encode(Ctrl("dance"), ack_wanted=True)
    )
    acks = [packet.message for packet in packets if isinstance(packet.message, Ack)]
    assert [(ack.seq, ack.status.name) for ack in acks] == [(0, "DONE"), (1, "REFUSED")]
    assembler = ImageAssembler()
    pictures = [
        picture
        for packet in packets
        if isinstance(packet.message, ImageChunk)
        and (picture := assembler.add(packet.message)) is not None
    ]
    assert assembler.incomplete == 0
    assert [picture.frame_id for picture in pictures] == list(range(1, len(pictures) + 1))
    assert {(picture.width, picture.height, picture.format) for picture in pictures} == {
        (640, 480, Format.JPEG)
    }
    assert {picture.data for picture in pictures} == {bytes(n % 251 for n in range(3000))}
    steps = {second.t_ms - first.t_ms for first, second in itertools.pairwise(pictures)}
    assert min(steps) == 100  # 10 a second, and a pause while the button waits for its ACK


@needs_cxx
def test_sketch_repeats_a_press_until_it_is_acknowledged(sketch):
    packets = sketch(encode(Ctrl("stop"), ack_wanted=True))
    presses = [packet for packet in packets if isinstance(packet.message, Event)]
    assert [packet.message.t_ms for packet in presses] == [4000, 4500, 5000]
    assert {(p.message.name, p.message.label, p.ack_wanted) for p in presses} == {
        ("press", "mug", True)
    }
    assert len({packet.seq for packet in presses}) == 3


@needs_cxx
def test_sketch_without_a_host_does_not_wait_for_an_ack(sketch):
    presses = [packet for packet in sketch(b"") if isinstance(packet.message, Event)]
    assert [(packet.message.t_ms, packet.ack_wanted) for packet in presses] == [(4000, False)]


# The script for OpenMV, with the camera played by the test


@pytest.fixture
def openmv():
    spec = importlib.util.spec_from_file_location("cfl_link_openmv_under_test", OPENMV)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_openmv_imports_only_what_micropython_has():
    tree = ast.parse(OPENMV.read_text(encoding="utf-8"))
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert imported == {"binascii", "json", "struct", "time", "pyb", "sensor"}
    assert not any(isinstance(node, ast.ImportFrom) for node in ast.walk(tree))


@pytest.mark.parametrize("name", VECTORS)
def test_openmv_sends_and_receives_the_vectors(openmv, name):
    vector = VECTORS[name]
    sent = []
    link = openmv.Link(sent.append)
    assert sent.pop() == b"\0"
    link.seq = vector["seq"]
    message = message_of(vector)
    if isinstance(message, Image):
        link.send_image(
            message.data,
            message.width,
            message.height,
            message.frame_id,
            message.t_ms,
            message.format.value,
            vector["ack_wanted"],
        )
    else:
        flags = openmv.ACK_WANTED if vector["ack_wanted"] else 0
        link.send(message.TYPE, message.payload(), message.frame_id, message.t_ms, flags)
    assert b"".join(sent).hex() == vector["bytes"]
    assert link.receive(b"noise\0" + b"".join(sent)) == [
        (packet["type"], packet["flags"], packet["seq"], bytes.fromhex(packet["payload"]))
        for packet in vector["packets"]
    ]


def test_openmv_blocks_of_every_length(openmv):
    generator = random.Random(1)
    for size in [*range(0, 20), *range(250, 260), *range(505, 515), *range(760, 770)]:
        for data in (
            b"\x01" * size,
            bytes(size),
            bytes(generator.choices((0, 1), (1, 300), k=size)),
        ):
            stuffed = openmv.stuff(data)
            assert stuffed == reference.stuff(data) + b"\0"
            assert openmv.unstuff(stuffed[:-1]) == data


def test_openmv_stays_bounded_and_in_step(openmv):
    link = openmv.Link(lambda data: None)
    generator = random.Random(3)
    for _ in range(300):
        assert link.receive(generator.randbytes(500)) == []
        assert link.receive(b"\x01" * 500) == []
        assert len(link.buffer) <= 1100
    assert link.receive(b"\0" + encode(Ctrl("snap"), 9)) == [(4, 0, 9, b'{"cmd":"snap"}')]


def test_openmv_main(openmv, monkeypatch):
    clock = iter(range(0, 1_000_000, 50))
    monkeypatch.setattr(time, "ticks_ms", lambda: next(clock), raising=False)
    monkeypatch.setattr(time, "ticks_diff", lambda end, start: end - start, raising=False)
    host = Encoder()
    arriving = [
        None,
        host.encode(Ctrl("stream", {"fps": 5, "size": "vga", "q": 90}), ack_wanted=True),
        host.encode(Ctrl("dance"), ack_wanted=True),
    ]
    sent, calls = [], []
    port = SimpleNamespace(
        send=sent.append,
        setinterrupt=lambda key: calls.append(("setinterrupt", key)),
        read=lambda: arriving.pop(0) if arriving else None,
    )
    jpeg = bytes(range(256)) * 9
    camera = SimpleNamespace(
        RGB565="rgb565",
        QVGA="qvga",
        VGA="vga",
        reset=lambda: None,
        set_pixformat=lambda name: None,
        set_framesize=lambda size: calls.append(("size", size)),
        snapshot=lambda: SimpleNamespace(
            width=lambda: 640, height=lambda: 480, compress=lambda quality: compressed(quality)
        ),
    )

    def compressed(quality):
        calls.append(("quality", quality))
        return SimpleNamespace(bytearray=lambda: bytearray(jpeg))

    monkeypatch.setitem(sys.modules, "pyb", SimpleNamespace(USB_VCP=lambda: port))
    monkeypatch.setitem(sys.modules, "sensor", camera)
    openmv.main(frames=2)

    parser, assembler = Parser(), ImageAssembler()
    packets = parser.feed(b"".join(sent))
    messages = [packet.message for packet in packets]
    assert [packet.seq for packet in packets] == list(range(len(packets)))
    assert (parser.counts.malformed, parser.counts.crc_errors) == (0, 0)
    assert isinstance(messages[0], Hello)
    assert (messages[0].board, messages[0].receives) == ("openmv", True)
    acks = [message for message in messages if isinstance(message, Ack)]
    assert [(ack.seq, ack.status.name) for ack in acks] == [(0, "DONE"), (1, "REFUSED")]
    chunks = [message for message in messages if isinstance(message, ImageChunk)]
    pictures = [picture for picture in map(assembler.add, chunks) if picture]
    assert [(picture.frame_id, picture.data) for picture in pictures] == [(1, jpeg), (2, jpeg)]
    assert pictures[1].t_ms - pictures[0].t_ms == 200
    assert (
        calls == [("setinterrupt", -1), ("size", "qvga"), ("size", "vga")] + [("quality", 90)] * 2
    )


def test_the_readme_names_the_files_that_are_there():
    readme = (C / "README.md").read_text(encoding="utf-8")
    for name in re.findall(r"`((?:\.\./|examples/)[\w./]+)`", readme):
        assert (C / name).is_file(), name
    assert json.loads((C / "../vectors.json").read_text(encoding="utf-8"))["vectors"]
