"""In the VM: read a USB camera's motion JPEG through the kernel's uvcvideo; one JSON line each.

Run by `test_vm_uvc.py`. It prints what happened and judges nothing.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable

import numpy as np
from PIL import Image
from vm_scenarios import Report, run_scenarios
from vm_uvc import Sent, UvcCamera, nodes, wait_for_node

from cfl_edge.frame.frame import Frame
from cfl_edge.serve.pictures import live_jpeg
from cfl_edge.stream.open import open_stream
from cfl_edge.stream.options import StreamOptions

BITS = 8
SIZE, ODD_SIZE = (640, 360), (641, 361)
PADDING = bytes(700)


def draw(number: int, size_px: tuple[int, int]) -> np.ndarray:
    """Return a picture that has its number in black and white at its top and at its bottom."""
    width, height = size_px
    across, down = np.linspace(0, 255, width), np.linspace(0, 255, height)[:, None]
    picture = np.empty((height, width, 3), np.uint8)
    picture[..., 0], picture[..., 1] = across, down
    picture[..., 2] = np.random.default_rng(number).integers(0, 256, (height, width)) // 4 + 96
    for bit in range(BITS):
        columns = slice(width * bit // BITS, width * (bit + 1) // BITS)
        for rows in (slice(0, 32), slice(-32, None)):
            picture[rows, columns] = 255 * (number >> bit & 1)
    return picture


def numbers(picture: np.ndarray) -> list[int]:
    """Return the number at the top of a picture, and the one at its bottom."""
    width, found = picture.shape[1], []
    for row in (picture[12], picture[-12]):
        middles = [row[width * (2 * bit + 1) // (2 * BITS)].mean() > 127 for bit in range(BITS)]
        found.append(sum(1 << bit for bit, is_white in enumerate(middles) if is_white))
    return found


def motion_jpeg(number: int, size_px: tuple[int, int]) -> bytes:
    """Return it as webcams send it: colours at half the width, without Huffman tables."""
    file = io.BytesIO()
    Image.fromarray(draw(number, size_px)).save(file, "JPEG", quality=85, subsampling="4:2:2")
    return without_tables(file.getvalue())


def without_tables(jpeg: bytes) -> bytes:
    """Return a JPEG without its Huffman tables, which decoders then take from the standard."""
    kept, place = [jpeg[:2]], 2
    while jpeg[place + 1] != 0xDA:  # the scan
        end = place + 2 + int.from_bytes(jpeg[place + 2 : place + 4], "big")
        if jpeg[place + 1] != 0xC4:
            kept.append(jpeg[place:end])
        place = end
    return b"".join([*kept, jpeg[place:]])


def shown(frame: Frame) -> Report:
    """Return what a viewer of the page gets, and how far that is from what the model sees."""
    sent = live_jpeg(frame)
    with Image.open(io.BytesIO(sent)) as picture:
        picture.load()
        seen = np.asarray(picture.convert("RGB"))
    same_size = seen.shape == frame.image.shape
    off = float(np.abs(seen.astype(int) - frame.image).mean()) if same_size else None
    return {
        "numbers": [*numbers(frame.image), *numbers(seen)],
        "off": off,
        "as_sent": sent == frame.jpeg,
        "tables": b"\xff\xc4" in sent,
        "shape": frame.image.shape,
    }


def read(send: Callable[[int], Sent], size_px: tuple[int, int], count: int, **query: str) -> Report:
    """Read frames of a camera, and tell what came of each."""
    notices: list[str] = []
    with UvcCamera(size_px, send) as camera:
        camera.plug()
        device = wait_for_node()[0]
        uri = f"{device}?" + "&".join(f"{key}={value}" for key, value in query.items())
        with open_stream(uri.rstrip("?"), on_notice=notices.append) as stream:
            frames = [frame for frame, _ in zip(stream, range(count), strict=False)]
            report = {
                "description": stream.description(),
                "dropped": stream.dropped,
                "damaged": stream.damaged,
            }
        report["frames"] = [shown(frame) for frame in frames]
        sent = camera.sent
    return report | {"sent": sent, "notices": notices}


def plain() -> Report:
    return read(lambda number: Sent(motion_jpeg(number, SIZE) + PADDING), SIZE, 8)


def odd_size() -> Report:
    return read(lambda number: Sent(motion_jpeg(number, ODD_SIZE)), ODD_SIZE, 8, format="mjpeg")


def zeroed(jpeg: bytes) -> bytes:
    middle = len(jpeg) * 2 // 3
    return jpeg[:middle] + bytes(2000) + jpeg[middle + 2000 :]


DAMAGE: dict[str, Callable[[bytes, bytes], Sent]] = {
    "cut off": lambda jpeg, before: Sent(jpeg[: len(jpeg) // 2]),
    "cut off, with an end": lambda jpeg, before: Sent(jpeg[: len(jpeg) // 2] + b"\xff\xd9"),
    "begun by another": lambda jpeg, before: Sent(
        before[: len(before) * 2 // 3] + jpeg[len(jpeg) // 2 :]
    ),
    "without a piece": lambda jpeg, before: Sent(jpeg[:9000] + jpeg[12_000:]),
    "zeroed": lambda jpeg, before: Sent(zeroed(jpeg)),
    "no image": lambda jpeg, before: Sent(bytes(range(256)) * 40),
    "a mere header": lambda jpeg, before: Sent(jpeg[:200] + b"\xff\xd9"),
    "marked": lambda jpeg, before: Sent(jpeg, error=True),
}


def damaged() -> Report:
    """Every second frame is damaged, each in another way; the others are whole."""
    kinds = list(DAMAGE)

    def send(number: int) -> Sent:
        jpeg = motion_jpeg(number % 256, SIZE)
        if number % 2 == 0:
            return Sent(jpeg)
        return DAMAGE[kinds[number // 2 % len(kinds)]](jpeg, motion_jpeg(number - 1, SIZE))

    return read(send, SIZE, 2 * len(kinds))


def unplugged() -> Report:
    """Pull it out and plug it in again: at once, and after some seconds."""
    notices: list[str] = []
    back_s, devices = [], []
    options = StreamOptions(timeout_s=3)
    with UvcCamera(SIZE, lambda number: Sent(motion_jpeg(number % 256, SIZE))) as camera:
        camera.plug()
        device = wait_for_node()[0]
        with open_stream(device, options, on_notice=notices.append) as stream:
            frames = iter(stream)
            last = [next(frames) for _ in range(3)][-1]
            for away_s in (0.0, 2.0):
                camera.unplug()
                time.sleep(away_s)
                camera.plug()
                begin_s, told = time.monotonic(), len(notices)
                while not any("is back" in text for text in notices[told:]):
                    frame = next(frames)
                    assert frame.index > last.index
                    last = frame
                back_s.append(round(time.monotonic() - begin_s, 2))
                devices.append(nodes())
            after = [shown(next(frames)) for _ in range(3)]
    return {"back_s": back_s, "devices": devices, "notices": notices, "frames": after}


SCENARIOS: dict[str, Callable[[], Report]] = {
    "plain": plain,
    "odd_size": odd_size,
    "damaged": damaged,
    "unplugged": unplugged,
}


if __name__ == "__main__":
    run_scenarios(SCENARIOS, limit_s=100)
