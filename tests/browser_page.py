"""The page in Debian's Chromium, and what a person does on it."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from command_line import MAIN, UNSYNCED
from encoded import encoded

from cfl_edge.stream.demo.scene import Dwell

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--use-fake-device-for-media-stream",  # a camera that draws
    "--use-fake-ui-for-media-stream",  # and is allowed
]
PHONE, DESKTOP = (360, 740), (1280, 800)


@contextlib.contextmanager
def chromium():
    """Start the browser; skip the test where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    if not os.path.exists(CHROMIUM):
        pytest.skip(f"there is no {CHROMIUM}: apt-get install chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(browser, address, size=DESKTOP, **options):
    """Open the page; a message of its console or an error of its code fails the test."""
    width, height = size
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    context.set_default_timeout(20_000)
    page = context.new_page()
    complaints = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console",
        lambda message: message.type in ("error", "warning") and complaints.append(message.text),
    )
    page.complaints = complaints
    page.goto(address)
    yield page
    context.close()
    assert complaints == [], complaints


@contextlib.contextmanager
def held(page, name):
    """Hold a button with the mouse."""
    button = page.get_by_role("button", name=name)
    button.scroll_into_view_if_needed()
    box = button.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    yield
    page.mouse.up()


def says(page, text):
    """Wait until the page predicts something."""
    page.locator(".answer", has_text=re.compile(f"^{re.escape(text)}\\??$")).wait_for()


def card(page, name):
    return page.locator("class-card").filter(has=page.get_by_role("button", name=name, exact=True))


def name_it(page, name):
    """Type the name of a class over the one that it has."""
    page.get_by_role("textbox", name="Name of the class").fill(name)
    page.keyboard.press("Enter")
    card(page, name).wait_for()


def samples(page, name):
    """Return how many samples a card shows."""
    return int(card(page, name).locator(".facts").inner_text().split()[0])


def pictures(name, seeds, each=6):
    """Draw a thing in other scenes: (H, W, 3) images."""
    return [
        Dwell(name, each, np.random.default_rng([7, seed])).render(number)
        for seed in seeds
        for number in range(each)
    ]


def jpegs(images):
    return [encoded(image, quality=90) for image in images]


class Teaching:
    """`cfl-edge teach` in a process of its own; its notices are read as they come."""

    def __init__(self, stream, model, *options, verb="teach"):
        command = [sys.executable, "-c", UNSYNCED + MAIN, verb, "--json", "--stream", stream]
        self.process = subprocess.Popen(
            [*command, "--model", str(model), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.notices, self.events = [], []
        self._address = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            event = json.loads(line) | {"read_s": time.monotonic()}
            self.events = [*self.events[-200:], event]
            if event["event"] == "notice":
                self.notices.append(event["text"])
                if event["text"].startswith("teach at "):
                    self.address = event["text"].removeprefix("teach at ")
                    self._address.set()
        self._address.set()

    def __enter__(self):
        assert self._address.wait(60)
        return self

    def kill(self):
        """End it as a power cut does; leaving the `with` block does nothing more to it."""
        self.process.kill()
        self.process.wait(60)

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self._reader.join(60)
        with self.process.stderr as errors:
            self.errors = errors.read()
        self.process.stdout.close()
        self.code = self.process.wait(60)
