"""In the VM: frames of a camera board on /dev/ttyUSB0, which is pulled out and put back.

Run by `test_vm_serial.py`. It prints what happened and judges nothing.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time

NODE = "/dev/ttyUSB0"


def say(scenario: str, **values: object) -> None:
    values = {"scenario": scenario, "time_s": round(time.monotonic(), 3), **values}
    print(json.dumps(values), flush=True)


def watch() -> None:
    """Tell when the kernel's device goes and comes."""
    was_there = False
    while True:
        is_there = os.path.exists(NODE)
        if is_there != was_there:
            say("there" if is_there else "gone")
        was_there = is_there
        time.sleep(0.005)


def main() -> None:
    from cfl_edge.stream.open import open_stream

    uri, label = sys.argv[1:]
    threading.Thread(target=watch, daemon=True).start()
    while not os.path.exists(NODE):
        time.sleep(0.05)
    with open_stream(uri, on_notice=lambda text: say("notice", text=text)) as stream:
        for frame in stream:
            say("frame", index=frame.index, label=frame.label, size=frame.image.shape)
            if frame.label == label:
                break
    sys.stdout.flush()
    os._exit(0)  # emulated interpreter exit takes seconds


if __name__ == "__main__":
    main()
