"""In the VM: drive the camera stream through vivid's faults; one JSON line for each scenario.

Run by `test_vm_camera.py`. It prints what happened and judges nothing.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

from vm_scenarios import Report, run_scenarios

from cfl_edge.errors import StreamError
from cfl_edge.frame.frame import Frame
from cfl_edge.stream.open import open_stream
from cfl_edge.stream.options import StreamOptions

DEVICE = "/dev/video0"
DRIVER = Path("/sys/bus/platform/drivers/vivid")


def control(name: str, value: int = 1) -> None:
    subprocess.run(["v4l2-ctl", "-d", DEVICE, "-c", f"{name}={value}"], check=True, timeout=20)


def read_for(frames: Iterator[Frame], seconds: float) -> list[Frame]:
    got, end_s = [], time.monotonic() + seconds
    while time.monotonic() < end_s:
        got.append(next(frames))
    return got


PATIENT, IMPATIENT = StreamOptions(), StreamOptions(timeout_s=1.5)


def later(seconds: float, action: Callable[[], None]) -> threading.Timer:
    timer = threading.Timer(seconds, action)
    timer.start()
    return timer


def failing(uri: str, options: StreamOptions = PATIENT) -> Report:
    start_s = time.monotonic()
    try:
        with open_stream(uri, options) as stream:
            return {"opened": stream.description()}
    except StreamError as error:
        text, name = str(error), type(error).__name__
    return {"error": name, "text": text, "seconds": time.monotonic() - start_s}


def lost_and_back(
    fault: Callable[[], None], repair: Callable[[], None] | None, repair_after_s: float = 1.0
) -> Report:
    """Read, break it, repair it later, and read until a frame that was taken after the fault."""
    notices: list[str] = []
    with open_stream(f"{DEVICE}?fps=30", IMPATIENT, on_notice=notices.append) as stream:
        frames = iter(stream)
        before = len(read_for(frames, 0.5))
        fault()
        fault_s = time.monotonic()
        timer = later(repair_after_s, repair) if repair else None
        while not any("is back" in text for text in notices):
            frame = next(frames)
            if time.monotonic() - fault_s > 30:
                break
        back_s = time.monotonic() - fault_s
        after = read_for(frames, 0.5)
        if timer:
            timer.join()
        report = {
            "before": before,
            "back_s": back_s,
            "after": len(after),
            "index_ok": all(a.index < b.index for a, b in pairwise([frame, *after])),
            "dropped": stream.dropped,
            "notices": notices,
        }
    return report


def normal() -> Report:
    notices: list[str] = []
    start_s = time.monotonic()
    uri = f"v4l2://{DEVICE}?format=yuyv&size=640x360&fps=30"
    with open_stream(uri, on_notice=notices.append) as stream:
        frames = iter(stream)
        first = next(frames)
        first_s = time.monotonic() - start_s
        got = read_for(frames, 3.0)
        image = got[-1].image
        report = {
            "description": stream.description(),
            "first_frame_s": first_s,
            # With those that it drops: an emulated reader is slower than the camera.
            "fps": (got[-1].index - first.index) / (got[-1].timestamp_s - first.timestamp_s),
            "shape": image.shape,
            "age_s": time.monotonic() - got[-1].timestamp_s,
            "distinct": len({frame.image.tobytes() for frame in got[-10:]}),
            "bright": float(image.mean()),
            "dropped": stream.dropped,
            "notices": notices,
        }
        close_s = time.monotonic()
    return report | {"close_s": time.monotonic() - close_s, "threads": threading.active_count()}


def differs() -> Report:
    notices: list[str] = []
    uri = f"{DEVICE}?size=8x8&fps=31"
    with open_stream(uri, on_notice=notices.append) as stream:
        next(iter(stream))
        return {"description": stream.description(), "notices": notices}


def slow_reader() -> Report:
    with open_stream(f"{DEVICE}?fps=30") as stream:
        got, ages_s = [], []
        for frame in stream:
            got.append(frame)
            ages_s.append(time.monotonic() - frame.timestamp_s)
            if len(got) == 8:
                break
            time.sleep(0.3)
        return {
            "frames": len(got),
            "dropped": stream.dropped,
            "last_index": got[-1].index,
            "last_dropped": got[-1].dropped,
            "oldest_s": max(ages_s[1:]),
        }


def buffers_lost() -> Report:
    control("percentage_of_dropped_buffers", 60)
    try:
        notices: list[str] = []
        with open_stream(f"{DEVICE}?fps=30", on_notice=notices.append) as stream:
            got = read_for(iter(stream), 3.0)
        return {"fps": len(got) / 3.0, "dropped": stream.dropped, "notices": notices}
    finally:
        control("percentage_of_dropped_buffers", 0)


def hang() -> Report:
    return lost_and_back(
        lambda: control("percentage_of_dropped_buffers", 100),
        lambda: control("percentage_of_dropped_buffers", 0),
        repair_after_s=3.0,
    )


def hang_and_close() -> Report:
    with open_stream(f"{DEVICE}?fps=30") as stream:
        read_for(iter(stream), 0.3)
        control("percentage_of_dropped_buffers", 100)
        try:
            time.sleep(0.5)
            start_s = time.monotonic()
            stream.close()
            close_s = time.monotonic() - start_s
        finally:
            control("percentage_of_dropped_buffers", 0)
    return {"close_s": close_s, "threads": threading.active_count(), "again": failing(DEVICE)}


def hang_at_start() -> Report:
    control("percentage_of_dropped_buffers", 100)
    try:
        return failing(DEVICE, IMPATIENT)
    finally:
        control("percentage_of_dropped_buffers", 0)


def exit_without_close() -> Report:
    """A process that forgets the stream, its camera silent, ends; the camera is free then."""
    script = (
        "import subprocess, sys\n"
        "from cfl_edge.stream.open import open_stream\n"
        f"frames = iter(open_stream('{DEVICE}'))\n"
        "next(frames)\n"
        f"subprocess.run(['v4l2-ctl', '-d', '{DEVICE}', '-c', "
        "'percentage_of_dropped_buffers=100'], check=True)\n"
    )
    start_s = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
        )
    finally:
        control("percentage_of_dropped_buffers", 0)
    seconds = time.monotonic() - start_s
    return {"status": done.returncode, "stderr": done.stderr, "seconds": seconds} | failing(DEVICE)


def busy() -> Report:
    with open_stream(DEVICE) as stream:
        next(iter(stream))
        report = failing(DEVICE)
        return report | {"first_goes_on": len(read_for(iter(stream), 0.5))}


def unplug() -> Report:
    return lost_and_back(
        lambda: void((DRIVER / "unbind").write_text("vivid.0")),
        lambda: void((DRIVER / "bind").write_text("vivid.0")),
        repair_after_s=2.0,
    )


def void(_: object) -> None:
    """Turn an expression into an action."""


def streamon_fails() -> Report:
    control("inject_vidioc_streamon_error")
    return {"first": failing(DEVICE), "second": failing(DEVICE)}


SCENARIOS: dict[str, Callable[[], Report]] = {
    "normal": normal,
    "differs": differs,
    "slow_reader": slow_reader,
    "buffers_lost": buffers_lost,
    "buffer_error": lambda: lost_or_not("inject_v4l2_buf_flag_error"),
    "qbuf_error": lambda: lost_or_not("inject_vidioc_qbuf_error"),
    "fatal_error": lambda: lost_and_back(lambda: control("inject_fatal_streaming_error"), None),
    "streamon_fails": streamon_fails,
    "hang": hang,
    "hang_and_close": hang_and_close,
    "hang_at_start": hang_at_start,
    "exit_without_close": exit_without_close,
    "busy": busy,
    "wrong_format": lambda: failing(f"{DEVICE}?format=mjpeg"),
    "missing": lambda: failing("/dev/video9"),
    "no_camera": lambda: failing("/dev/null"),
    "disconnect": lambda: lost_and_back(lambda: control("disconnect"), None),
    "unplug": unplug,
}


def lost_or_not(fault: str) -> Report:
    """Inject one fault while reading; report the frames before and after, and the notices."""
    notices: list[str] = []
    with open_stream(f"{DEVICE}?fps=30", IMPATIENT, on_notice=notices.append) as stream:
        frames = iter(stream)
        before = len(read_for(frames, 0.5))
        control(fault)
        after = len(read_for(frames, 2.5))
        return {"before": before, "after": after, "dropped": stream.dropped, "notices": notices}


if __name__ == "__main__":
    run_scenarios(SCENARIOS, limit_s=40)
