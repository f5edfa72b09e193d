"""The examples for boards: the ESP32-CAM sketch and the OpenMV script, against stand-ins."""

import ast
import importlib.util
import itertools
import json
import random
import re
import sys
import time
from types import SimpleNamespace

import link_reference as reference
import pytest
from link_build import (
    CC,
    CXX,
    OPENMV,
    SKETCH,
    STRICT,
    TESTS,
    C,
    needs_cxx,
    run,
)
from link_reference import VECTORS, message_of

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
    Packet,
    Parser,
    Type,
    encode,
)


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
    images = [
        image
        for packet in packets
        if isinstance(packet.message, ImageChunk)
        and (image := assembler.add(packet.message)) is not None
    ]
    assert assembler.incomplete == 0
    assert [image.frame_id for image in images] == list(range(1, len(images) + 1))
    assert {(image.width, image.height, image.format) for image in images} == {
        (640, 480, Format.JPEG)
    }
    assert {image.data for image in images} == {bytes(n % 251 for n in range(3000))}
    steps = {second.t_ms - first.t_ms for first, second in itertools.pairwise(images)}
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
    images = [image for image in map(assembler.add, chunks) if image]
    assert [(image.frame_id, image.data) for image in images] == [(1, jpeg), (2, jpeg)]
    assert images[1].t_ms - images[0].t_ms == 200
    assert (
        calls == [("setinterrupt", -1), ("size", "qvga"), ("size", "vga")] + [("quality", 90)] * 2
    )


def test_the_readme_names_the_files_that_are_there():
    readme = (C / "README.md").read_text(encoding="utf-8")
    for name in re.findall(r"`((?:\.\./|examples/)[\w./]+)`", readme):
        assert (C / name).is_file(), name
    assert json.loads((C / "../vectors.json").read_text(encoding="utf-8"))["vectors"]
