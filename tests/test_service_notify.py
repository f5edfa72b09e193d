"""What systemd is told, read from a socket that stands in for it."""

import os
import socket
import threading

import onnx
import pytest
from browser_page import Teaching
from command_line import SMALL, cfl_edge, learn, write_images
from page_session import until
from service_checks import colours
from steps import changed

from cfl_edge.loop.service_notify import STATUS_S, ServiceNotify, watchdog_s


class Manager:
    """Listens as systemd does."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.setblocking(False)
        self.environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "20000000"}

    def heard(self):
        messages = []
        while True:
            try:
                messages.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return messages


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    name = f"@cfl-edge-test-{os.getpid()}"
    one = Manager(name if request.param == "abstract" else str(tmp_path / "notify"))
    yield one
    one.socket.close()


def step(frames=1):
    return changed(
        frame=frames - 1,
        prediction="mug",
        score=0.9,
        frames=frames,
        learned_frames=3,
        dropped=2,
        damaged=1,
        fps=24.8,
    )


def test_ready_is_said_once_and_the_watchdog_fed_at_half_its_time(manager):
    now = [100.0]
    service = ServiceNotify(manager.environ, lambda: now[0])
    assert manager.heard() == []
    service.step(step(1))
    assert manager.heard() == [
        "READY=1",
        "STATUS=frame 1, 24.8 per second, 1 seen, 3 learned, 2 dropped, 1 damaged",
    ]
    for count in range(300):  # 30 s at 10 frames a second
        now[0] = 100.0 + (count + 1) / 10
        service.step(step(2 + count))
    messages = manager.heard()
    assert messages.count("READY=1") == 0
    assert messages.count("WATCHDOG=1") == 3  # half of 20 s
    assert len([m for m in messages if m.startswith("STATUS=")]) == 30 / STATUS_S
    service.stopping()
    assert manager.heard() == ["STOPPING=1"]


def test_a_loop_that_hangs_feeds_nothing(manager):
    now = [0.0]
    service = ServiceNotify(manager.environ, lambda: now[0])
    service.step(step())
    manager.heard()
    now[0] += 1000
    assert manager.heard() == []


def test_a_loop_that_tells_of_a_lost_camera_lives(manager):
    now, told = [0.0], []
    service = ServiceNotify(manager.environ, lambda: now[0])
    service.ready()
    tell = service.on_notice(told.append)
    for _ in range(4):
        now[0] += 15.0
        tell("/dev/video0 is gone; next try in 15 s")
    assert manager.heard() == ["READY=1"] + ["WATCHDOG=1"] * 4
    for wait_s in (1.0, 70.0):  # a notice soon after another, and then a slow try
        now[0] += wait_s
        tell("/dev/video0 is gone; next try in 15 s")
    assert manager.heard() == ["WATCHDOG=1"] * 2
    now[0] += 15.0
    other = threading.Thread(target=tell, args=["label server: a request was refused"])
    other.start()
    other.join()
    assert manager.heard() == []  # another thread lives, which says nothing of the loop
    assert len(told) == 7


def test_a_status_is_one_line(manager):
    ServiceNotify(manager.environ).status("mug\nREADY=1\x1b[2J")
    (message,) = manager.heard()
    assert message.startswith("STATUS=mug")
    assert "\n" not in message
    assert "\x1b" not in message


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "3000000"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": ""}, None),
    ],
)
def test_whose_watchdog_it_is(environ, expected):
    assert watchdog_s(environ) == expected


def test_without_a_manager_nothing_is_said():
    service = ServiceNotify({})
    assert service.on_notice(print) is print
    service.step(step())
    service.stopping()
    service.alive()


def test_a_manager_that_is_gone_or_full_does_not_stop_the_loop(tmp_path):
    ServiceNotify({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()
    manager = Manager(str(tmp_path / "full"))
    service = ServiceNotify(manager.environ)
    for _ in range(5000):
        service.stopping()
    assert 0 < len(manager.heard()) < 5000
    manager.socket.close()


def test_learn_and_run_say_what_a_service_says(tmp_path, monkeypatch):
    images = write_images(tmp_path / "images", count=4)
    manager = Manager(str(tmp_path / "notify"))
    for name, value in manager.environ.items():
        monkeypatch.setenv(name, value)
    done = learn(images, tmp_path / "model", *SMALL)
    assert done.code == 0, done.err
    messages = manager.heard()
    assert messages[0] == "READY=1"
    assert messages[-1] == "STOPPING=1"
    assert messages[1].startswith("STATUS=frame 1, ")
    onnx.save(colours(), tmp_path / "model.onnx")
    done = cfl_edge("run", tmp_path / "model.onnx", "--stream", images, "--json")
    assert done.code == 0, done.err
    messages = manager.heard()
    assert (messages[0], messages[-1]) == ("READY=1", "STOPPING=1")
    manager.socket.close()


def test_a_camera_that_is_not_there_is_never_ready(tmp_path, monkeypatch):
    manager = Manager(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", manager.environ["NOTIFY_SOCKET"])
    done = learn("/dev/video77", tmp_path / "model", *SMALL)
    assert done.code != 0
    assert "READY=1" not in manager.heard()
    manager.socket.close()


def test_a_service_that_waits_for_the_pictures_of_a_phone_lives(tmp_path, monkeypatch):
    manager, heard = Manager(str(tmp_path / "notify")), []
    for name, value in (manager.environ | {"WATCHDOG_USEC": "1000000"}).items():
        monkeypatch.setenv(name, value)

    def is_fed():
        heard.extend(manager.heard())
        return heard.count("WATCHDOG=1") > 1

    with Teaching("push://", tmp_path / "model", *SMALL, "--ui-port", "0"):
        until(is_fed, 30)
    assert heard[0] == "READY=1"
    manager.socket.close()
