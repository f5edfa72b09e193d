"""Draw the pictures of the page: somebody teaches by hand, on the real page, in real time.

    python tests/teach_animation.py docs/images

writes the animated `teach.webp`, and `teach-desktop.webp` and `teach-phone.webp`.

It needs Chromium and the extra `browser`. A camera stand-in shows rendered things; `cfl-edge teach`
learns them; Playwright holds the buttons and takes a picture of the page as often as it can.
"""

import io
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from browser_page import Teaching, card, chromium, held, jpegs, name_it, says
from mjpeg_server import Board, serve
from PIL import Image

from cfl_edge.stream.demo.scene import Dwell

SIZE = (960, 720)
FILM_SIZE = (720, 540)
LONGEST_S = 20.0
MOST_BYTES = 700_000
QUALITIES = (60, 50, 40, 30, 20)
EVERY_S = 0.3  # between two pictures
CURSOR = """() => {
    const cursor = document.createElement("div");
    cursor.style.cssText = "position:fixed;z-index:9;width:22px;height:22px;margin:-11px;" +
        "border-radius:50%;border:2px solid #fff;background:#d33b;pointer-events:none";
    document.body.append(cursor);
    document.addEventListener("pointermove", ({ clientX, clientY }) => {
        cursor.style.left = `${clientX}px`;
        cursor.style.top = `${clientY}px`;
    }, true);
    for (const [kind, size] of [["pointerdown", 0.6], ["pointerup", 1]])
        document.addEventListener(kind, () => { cursor.style.scale = size; }, true);
}"""


class Film:
    """Pictures of a page, each with the time at which it was taken."""

    def __init__(self, page):
        self._page, self._pictures, self._times_s = page, [], []

    def roll(self, seconds):
        """Take pictures for some time; the page goes on by itself."""
        end_s = time.monotonic() + seconds
        while (now_s := time.monotonic()) < end_s:
            self._times_s.append(now_s)
            self._pictures.append(self._page.screenshot(type="jpeg", quality=95))
            time.sleep(max(0.0, now_s + EVERY_S - time.monotonic()))

    def move(self, locator):
        """Move the pointer to the middle of something, clear of the notes at the bottom."""
        locator.evaluate("element => element.scrollIntoView({ block: 'center' })")
        box = locator.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        self._page.mouse.move(x, y, steps=8)
        self.roll(0.3)

    def type(self, text):
        for part in (text[: len(text) // 2], text[len(text) // 2 :]):
            self._page.keyboard.type(part)
            self.roll(0.05)
        self._page.keyboard.press("Enter")

    def write(self, path):
        """Write the film in the best quality that is small enough."""
        opened = [Image.open(io.BytesIO(one)).convert("RGB") for one in self._pictures]
        images = [one.resize(FILM_SIZE, Image.Resampling.LANCZOS) for one in opened]
        times_ms = 1000 * np.diff([*self._times_s, self._times_s[-1] + 1.5])
        speed = max(1.0, times_ms.sum() / 1000 / LONGEST_S)
        durations = [round(one / speed) for one in times_ms]
        for quality in QUALITIES:
            file = io.BytesIO()
            images[0].save(
                *(file, "WEBP"),
                save_all=True,
                append_images=images[1:],
                duration=durations,
                loop=0,
                quality=quality,
                method=6,
            )
            if file.tell() <= MOST_BYTES:
                break
        path.write_bytes(file.getvalue())
        print(
            f"{path}: {len(images)} pictures, {sum(durations) / 1000:.1f} s, {speed:.2f} times as "
            f"fast as it was, quality {quality}, {file.tell():,} bytes"
        )


def scenes(name):
    """Draw a thing in three scenes, 10 frames each, as JPEGs: three seconds of a hold."""
    dwells = [Dwell(name, 10, np.random.default_rng([11, seed])) for seed in range(3)]
    return jpegs(dwell.render(number) for dwell in dwells for number in range(10))


def teach(page, camera, things):
    """Teach two things, look whether they are told apart, correct the third."""
    film = Film(page)
    film.roll(0.6)

    def hold(button, seconds):
        film.move(button)
        page.mouse.down()
        film.roll(seconds)
        page.mouse.up()

    def show(name, seconds):
        camera.pictures = things[name]
        film.roll(seconds)

    hold(page.get_by_role("button", name="Hold to teach", exact=True), 3.5)
    page.get_by_role("textbox", name="Name of the class").wait_for()
    film.type("mug")
    card(page, "mug").wait_for()
    camera.pictures = things["scissors"]
    hold(page.get_by_role("button", name="Hold to teach something new"), 4)
    page.get_by_role("textbox", name="Name of the class").wait_for()
    film.type("scissors")
    show("mug", 1.5)
    show("scissors", 1.5)
    show("leaf", 0.6)
    button = page.get_by_role("button", name="No, that is …")
    film.move(button)
    button.click()
    film.roll(0.3)
    page.get_by_label("or something new").focus()
    film.type("leaf")
    card(page, "leaf").wait_for()
    hold(page.get_by_role("button", name="Hold to teach: leaf"), 4)
    for name in ("mug", "leaf", "scissors"):
        camera.pictures = things[name]
        says(page, name)
        film.roll(1.2)
    return film


def shoot(page, path, width):
    """Write a picture of a page as it stands, so many pixels wide."""
    taken = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    size = width, round(width * taken.height / taken.width)
    picture = taken.resize(size, Image.Resampling.LANCZOS)
    picture.save(path, "WEBP", quality=80, method=6)
    print(f"{path}: {path.stat().st_size:,} bytes")


def teach_one_more(page, camera, pictures):
    """Teach a fourth thing, without a film."""
    camera.pictures = pictures
    button = page.get_by_role("button", name="Hold to teach something new")
    button.scroll_into_view_if_needed()
    with held(page, "Hold to teach something new"):
        page.wait_for_timeout(4000)
    name_it(page, "car")
    says(page, "car")


def on_a_phone(browser, address, folder):
    """Take a picture while a button is held."""
    options = {"color_scheme": "dark", "has_touch": True}
    context = browser.new_context(viewport={"width": 360, "height": 720}, **options)
    page = context.new_page()
    page.goto(address)
    button = card(page, "car").get_by_role("button", name="Hold to teach")
    button.evaluate("button => button.scrollIntoView({ block: 'start' })")
    with held(page, "Hold to teach: car"):
        page.get_by_text("Learning: car").wait_for()
        page.wait_for_timeout(1500)
        shoot(page, folder / "teach-phone.webp", 360)
    context.close()


def main(out):
    with (
        tempfile.TemporaryDirectory() as folder,
        chromium() as browser,
        serve(Board(interval_s=0.1)) as camera,
    ):
        things = {name: scenes(name) for name in ("mug", "scissors", "leaf", "car")}
        camera.pictures = things["mug"]
        os.chdir(folder)  # the page shows the folder of the model as it was given
        with Teaching(camera.url, "runs/kitchen", "--ui-port", "0") as teaching:
            context = browser.new_context(
                viewport=dict(zip(("width", "height"), SIZE, strict=True))
            )
            page = context.new_page()
            page.goto(teaching.address)
            page.get_by_text("Nothing taught yet").wait_for()
            page.evaluate(CURSOR)
            film = teach(page, camera, things)
            teach_one_more(page, camera, things["car"])
            camera.pictures = things["mug"]
            page.set_viewport_size({"width": 1280, "height": 960})
            page.reload()  # without the cursor
            says(page, "mug")
            page.evaluate("scrollTo(0, 0)")
            page.wait_for_timeout(2000)
            shoot(page, out / "teach-desktop.webp", 1000)
            camera.pictures = things["car"]
            context.close()
            on_a_phone(browser, teaching.address, out)
    film.write(out / "teach.webp")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
