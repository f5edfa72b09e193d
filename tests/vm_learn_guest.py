"""In the VM: `cfl-edge learn` from a camera, twice, and from one that is unplugged meanwhile.

Run by `test_vm_learn.py`; one JSON line for each start. It prints what happened and judges nothing.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vm_uvc import Sent, UvcCamera, nodes, wait_for_node
from vm_uvc_guest import SIZE, motion_jpeg

# Emulated, the default backbone and the export take ten minutes: no backbone, no export.
QUICK = ["--backbone", "none", "--no-export", "--label", "bars"]
PAGE = "http://127.0.0.1:8080/api/v1"
Report = dict[str, Any]


def say(scenario: str, report: Report, model: Path | None = None) -> None:
    if model is not None and model.is_dir():
        shutil.copytree(model, Path(os.environ["VM_SHARE"]) / scenario)
    print(json.dumps({"scenario": scenario} | report), flush=True)


def learn(device: str, frames: int, *options: str, then: Callable[[Report], None]) -> Report:
    """Learn until so many frames were learned, and `then` has returned; end it by SIGTERM."""
    command = [sys.executable, "-m", "cfl_edge", "learn", "--stream", device, *QUICK, *options]
    begin_s, report = time.monotonic(), {"notices": [], "summary": None, "first_s": None}
    process = subprocess.Popen(
        [*command, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    errors: list[str] = []
    reader = threading.Thread(target=lambda: errors.extend(process.stderr), daemon=True)
    reader.start()

    def end() -> None:
        then(report)
        process.send_signal(signal.SIGTERM)

    ender = threading.Thread(target=end, daemon=True)
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "notice":
            report["notices"].append(event["text"])
        elif event["event"] == "frame":
            report["learned"] = event["learned_frames"]
            report["first_s"] = report["first_s"] or round(time.monotonic() - begin_s, 1)
            if event["learned_frames"] >= frames and ender.ident is None:
                ender.start()
        elif event["event"] == "summary":
            report["summary"] = event
    report["status"] = process.wait()
    reader.join()
    return report | {"stderr": "".join(errors), "took_s": round(time.monotonic() - begin_s, 1)}


def at_once(_: Report) -> None:
    """End it."""


def picture() -> str:
    """Return what the page shows, in base64."""
    with urllib.request.urlopen(f"{PAGE}/frame.jpg", timeout=20) as answer:
        return base64.b64encode(answer.read()).decode()


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> bool:
    end_s = time.monotonic() + seconds
    while not condition() and time.monotonic() < end_s:
        time.sleep(0.05)
    return condition()


def unplugged(model: Path) -> Report:
    """Learn from a USB camera with the page, pull it out and plug it in again."""
    before = set(nodes())
    with UvcCamera(SIZE, lambda number: Sent(motion_jpeg(number % 4, SIZE)), fps=5) as camera:
        camera.plug()
        wait_until(lambda: bool(set(nodes()) - before))
        device = min(set(wait_for_node()) - before)
        pictures: list[str] = []

        def pull_out(report: Report) -> None:
            notices: list[str] = report["notices"]
            pictures.append(picture())
            camera.unplug()
            wait_until(lambda: any("next try" in text for text in notices))
            pictures.append(picture())  # the last one
            time.sleep(2)
            camera.plug()
            wait_until(lambda: any("is back after" in text for text in notices))
            learned = report["learned"]
            wait_until(lambda: report["learned"] >= learned + 3)
            pictures.append(picture())

        options = ["--model", str(model), "--ui", "--ui-port", "8080"]
        report = learn(device, 5, *options, then=pull_out)
    return report | {"device": device, "pictures": pictures}


def main() -> None:
    os.chdir(tempfile.mkdtemp())
    model = Path("runs/model")  # the default of --model
    say("first", learn("/dev/video0", 30, then=at_once), model)
    listed = subprocess.run(
        [sys.executable, "-m", "cfl_edge", "classes", "list", str(model), "--json"],
        capture_output=True,
        text=True,
    )
    say("list", {"status": listed.returncode, "stdout": listed.stdout, "stderr": listed.stderr})
    say("second", learn("/dev/video0", 5, then=at_once), model)
    say("unplugged", unplugged(Path("runs/usb")), Path("runs/usb"))
    sys.stdout.flush()
    os._exit(0)  # emulated interpreter exit takes seconds


if __name__ == "__main__":
    main()
