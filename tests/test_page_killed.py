"""The browser, the server or the network is lost while a button is held."""

import contextlib
import json
import os
import signal
import socket
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from browser_page import ARGUMENTS, CHROMIUM, Teaching, card, held, opened, samples, says
from command_line import SMALL
from encoded import encoded
from mjpeg_server import Board, serve
from mosquitto import free_port
from page_session import CountingSession, until
from PIL import Image, ImageDraw

pytestmark = pytest.mark.browser
MARK = f"--cfl-edge-test={os.getpid()}"  # Chromium ignores it; it tells whose processes they are


def things(colour):
    """Draw JPEGs of a coloured disc at many places before a grey pattern."""
    rng, files = np.random.default_rng(0), []
    for _ in range(24):
        grey = rng.integers(60, 200, (12, 16, 1), np.uint8).repeat(3, 2)
        picture = Image.fromarray(grey).resize((160, 120))
        x, y = rng.uniform(40, 120), rng.uniform(40, 80)
        ImageDraw.Draw(picture).ellipse((x - 35, y - 35, x + 35, y + 35), fill=colour)
        files.append(encoded(picture, quality=90))
    return files


RED, BLUE = things((200, 40, 40)), things((30, 60, 200))


@pytest.fixture
def camera():
    with serve(Board(pictures=RED, interval_s=0.05)) as board:
        yield board


def teach(camera, model, port=0, **more):
    options = [text for name, value in more.items() for text in (f"--{name}", str(value))]
    return Teaching(camera.url, model, "--ui-port", str(port), *SMALL, *options)


def status(teaching):
    with urllib.request.urlopen(f"{teaching.address}api/v1/status", timeout=10) as answer:
        return json.load(answer)


def kill_9(mark):
    """Kill every process whose command line has a mark; return how many."""
    killed = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (folder / "cmdline").read_bytes().decode().split("\0"):
                os.kill(int(folder.name), signal.SIGKILL)
                killed += 1
    return killed


def labelled_s(teaching):
    """When the server told of frames with a label, by the clock of this process."""
    frames = [event for event in teaching.events if event["event"] == "frame"]
    return [event["read_s"] for event in frames if event["label"] is not None]


def test_learning_stops_within_a_second_of_the_end_of_the_browser(browser, camera, tmp_path):
    """By the log of the server; the browser has no time to say that the button is released."""
    other = browser.browser_type.launch(executable_path=CHROMIUM, args=[*ARGUMENTS, MARK])
    with teach(camera, tmp_path / "model") as teaching:
        page = other.new_context().new_page()
        page.goto(teaching.address)
        page.get_by_role("button", name="Hold to teach").hover()
        page.mouse.down()
        page.get_by_text("Learning: thing 1").wait_for()
        until(lambda: len(labelled_s(teaching)) > 5, 20)
        assert kill_9(MARK)
        until(lambda: not kill_9(MARK))
        killed_s = time.monotonic()
        time.sleep(max(0.0, killed_s + 2 - time.monotonic()))
        later = [event["read_s"] for event in teaching.events if event["event"] == "frame"]
        assert later[-1] > killed_s + 1  # frames went on
        assert labelled_s(teaching)[-1] < killed_s + 1
        assert status(teaching)["label"] is None


@pytest.mark.timeout(200)
def test_a_killed_server_starts_again_with_what_it_had_saved_and_the_page_is_back(
    browser, camera, tmp_path
):
    model, port = tmp_path / "model", free_port()
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(teach(camera, model, port))
        page = stack.enter_context(opened(browser, first.address))
        for pictures, text, name in (
            (RED, "Hold to teach", "thing 1"),
            (BLUE, "Hold to teach something new", "thing 2"),
        ):
            camera.pictures = pictures
            with held(page, text):
                page.get_by_text(f"Learning: {name}").wait_for()
                until(lambda name=name: counts(first).get(name, 0) >= 15, 30)
            page.keyboard.press("Enter")  # the name that is proposed
        says(page, "thing 2")
        page.get_by_role("button", name="Save now").click()
        page.get_by_role("log").get_by_text("saved").wait_for()
        saved = counts(first)
        button = page.get_by_role("button", name="Hold to teach: thing 2")
        button.hover()
        page.mouse.down()  # and it is held to the end
        until(lambda: counts(first)["thing 2"] > saved["thing 2"], 20)
        first.kill()
        page.get_by_role("status").get_by_text("Connection lost").wait_for()
        page.mouse.up()
        with teach(camera, model, port) as second:
            page.locator("#connection:empty").wait_for(state="attached")
            now = counts(second)
            assert set(now) == {"thing 1", "thing 2"}
            assert all(now[name] >= saved[name] for name in now)
            until(lambda: samples(page, "thing 1") == now["thing 1"], 20)
            says(page, "thing 2")
            camera.pictures = RED
            says(page, "thing 1")
            with held(page, "Hold to teach: thing 1"):  # nothing was left half done
                until(lambda: counts(second)["thing 1"] > now["thing 1"], 20)
            card(page, "thing 1").locator("img").first.wait_for()
            page.complaints.clear()  # of the browser, while nobody listened
            page.context.close()
        assert second.code == 0, second.errors
    assert first.code == -signal.SIGKILL


class Network:
    """A link to a server that can be cut as Wi-Fi is: nobody is told, nothing arrives."""

    def __init__(self, port):
        self._port, self._up = port, threading.Event()
        self._up.set()
        self._ended = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    def __enter__(self):
        self._sockets = [self._listener]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        return self

    def __exit__(self, *_):
        self._ended = True
        self._up.set()
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for one in self._sockets:
            one.close()

    def cut(self):
        self._up.clear()

    def mend(self):
        self._up.set()

    def _accept(self):
        while not self._ended:
            with contextlib.suppress(OSError):
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._port), 5)
                for source, target in ((near, far), (far, near)):
                    thread = threading.Thread(target=self._carry, args=(source, target))
                    self._threads.append(thread)
                    thread.start()
                self._sockets += [near, far]

    def _carry(self, source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self._up.wait()
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


def test_a_network_that_is_gone_is_told_and_the_page_comes_back(browser, tmp_path):
    """Nobody hangs up; the page has to notice by itself that nothing comes any more."""
    with (
        CountingSession(tmp_path, fps=20) as session,
        Network(session.port) as network,
        opened(browser, f"http://127.0.0.1:{network.port}/") as page,
    ):
        button = page.get_by_role("button", name="Hold to teach")
        button.hover()
        page.mouse.down()
        page.get_by_text("Learning: thing 1").wait_for()
        until(lambda: session.learned)
        network.cut()
        cut_s = time.monotonic()
        page.get_by_role("status").get_by_text("Connection lost").wait_for()
        assert session.learned[-1][2] < cut_s + 1.2
        assert page.get_by_role("button", name="Undo last hold").is_disabled()
        page.mouse.up()
        until(lambda: session.page._api.viewers.count == 0, 30)  # the server has noticed as well
        network.mend()
        page.locator("#connection:empty").wait_for(state="attached")
        seen = session.frame
        until(lambda: session.page._api.viewers.count == 1 and session.frame > seen + 5, 20)
        with held(page, "Hold to teach: thing 1"):
            page.get_by_text("Learning: thing 1").wait_for()
        page.complaints.clear()  # of the browser, while nobody answered


def counts(teaching):
    return {one["name"]: one["samples"] for one in status(teaching)["classes"]}
