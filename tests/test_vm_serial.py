"""A camera board on a real /dev/ttyUSB0 (a USB serial adapter of the VM) that is unplugged."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vm_lab
from vm_power import Report, processor, reports

from firmware_host.simulator import Simulator

TIMEOUT_S = 180
BACK_S = 2.0  # what is promised
AWAY_S = (0.0, 3.0, 20.0)  # the last is longer than the stream's waits have grown by then
END = "that was all"
ADAPTER = {"driver": "usb-serial", "chardev": "ser", "id": "board"}

pytestmark = [pytest.mark.vm, pytest.mark.timeout(TIMEOUT_S + 60)]


class Qmp:
    """The machine's control socket: a context manager."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._file = self._socket.makefile("rw")
        self._file.readline()
        self("qmp_capabilities")

    def __call__(self, name: str, **arguments: Any) -> bool:
        """Ask for something, and return whether it was done."""
        self._file.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
        self._file.flush()
        while not (answer := json.loads(self._file.readline())).keys() & {"return", "error"}:
            pass  # an event
        return "return" in answer

    def __enter__(self) -> Qmp:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()


class Cable:
    """Carries bytes between the simulated board and the machine's USB adapter while plugged in."""

    def __init__(self, board: Simulator, adapter: Path) -> None:
        self.plugged = True
        self._far = socket.socket(socket.AF_UNIX)
        self._far.connect(str(adapter))
        self._near = os.open(board.port, os.O_RDWR | os.O_NOCTTY)
        self._stop, self._over = os.pipe()
        self._thread = threading.Thread(target=self._carry, daemon=True)

    def _carry(self) -> None:
        while True:
            readable, _, _ = select.select([self._far, self._near, self._stop], [], [])
            if self._stop in readable:
                return
            if self._near in readable:
                data = os.read(self._near, 4096)
                if self.plugged:
                    self._far.sendall(data)
            if self._far in readable:
                data = self._far.recv(4096)
                if not data:
                    return
                os.write(self._near, data)

    def __enter__(self) -> Cable:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._over)  # which the other end sees
        self._thread.join()
        self._far.close()
        for descriptor in (self._near, self._stop):
            os.close(descriptor)


def images() -> Iterator[np.ndarray]:
    while True:
        yield np.full((24, 32), 128, np.uint8)


def wait(condition: Callable[[], bool], what: str, machine: subprocess.Popen[bytes]) -> None:
    while not condition():
        assert machine.poll() is None, f"the machine ended before {what}"
        time.sleep(0.02)


@pytest.fixture(scope="module", params=["serial:///dev/ttyUSB0?proto=cfl", "serial:"])
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Report]:
    if reason := vm_lab.missing():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("vm")
    adapter, control, console = folder / "adapter", folder / "qmp", folder / "console"
    usb = f"-device qemu-xhci,id=x -chardev socket,id=ser,path={adapter},server=on,wait=off "
    usb += "-device usb-serial,chardev=ser,id=board"
    command = [sys.executable, str(Path(os.environ["CFL_EDGE_VM"]) / "vmlab.py"), "run"]
    command += ["-m", "xhci_pci", "-m", "ftdi_sio", "--qmp", str(control), "--qemu", usb]
    command += ["--console", str(console), "--timeout", str(TIMEOUT_S)]
    command += ["--", "env", f"PYTHONPATH={vm_lab.REPOSITORY}", sys.executable]
    command += [str(Path(__file__).with_name("vm_serial_guest.py")), request.param, END]
    machine = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=vm_lab.REPOSITORY)

    try:
        unplug_and_plug(machine, adapter, control, console)
    finally:
        if machine.poll() is None:
            os.kill(processor(machine.pid), signal.SIGKILL)
            machine.wait()
        print(console.read_text(errors="replace")[-4000:])
    return reports(console)


def unplug_and_plug(
    machine: subprocess.Popen[bytes], adapter: Path, control: Path, console: Path
) -> None:
    """Let frames come, and pull the cable in between."""

    def frames() -> int:
        return sum(report["scenario"] == "frame" for report in reports(console))

    wait(adapter.exists, "its adapter was there", machine)
    with (
        Simulator(images(), fps=5) as board,
        Cable(board, adapter) as cable,
        Qmp(control) as qmp,
    ):
        for away_s in AWAY_S:
            before = frames()
            wait(lambda before=before: frames() >= before + 5, "frames came", machine)
            cable.plugged = False
            assert qmp("device_del", id="board")
            wait(lambda: reports(console)[-1]["scenario"] != "frame", "it was gone", machine)
            again_s = time.monotonic() + away_s
            wait(lambda again_s=again_s: time.monotonic() >= again_s, "it came back", machine)
            wait(lambda: qmp("device_add", **ADAPTER), "the old one was gone", machine)
            board.reset()  # it has no power without the cable
            cable.plugged = True
        before = frames()
        wait(lambda: frames() >= before + 5, "frames came again", machine)
        board.press(END)
        assert machine.wait() == 0


def test_frames_come_back_within_two_seconds_of_the_device(told: list[Report]) -> None:
    back_s = []
    for place, report in enumerate(told):
        if report["scenario"] == "there" and place > 0:
            next_frame = next(r for r in told[place:] if r["scenario"] == "frame")
            back_s.append(round(next_frame["time_s"] - report["time_s"], 2))
    print(f"frames {back_s} s after the device was there again")
    assert len(back_s) == len(AWAY_S)
    assert max(back_s) <= BACK_S


def test_each_loss_is_told_and_each_return(told: list[Report]) -> None:
    notices = [report["text"] for report in told if report["scenario"] == "notice"]
    assert sum(" is back after " in text for text in notices) == len(AWAY_S)
    assert "Traceback" not in "".join(notices)
    frames = [report for report in told if report["scenario"] == "frame"]
    indices = [report["index"] for report in frames]
    assert indices == sorted(set(indices))
    assert all(report["size"] == [24, 32, 3] for report in frames)
    assert frames[-1]["label"] == END
