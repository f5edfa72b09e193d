"""The page in a browser: what a person does on it, by what a person sees."""

import contextlib
import json
import subprocess
import sys
import time

import pytest
from browser_page import (
    ARGUMENTS,
    CHROMIUM,
    DESKTOP,
    PHONE,
    Teaching,
    card,
    held,
    jpegs,
    name_it,
    opened,
    pictures,
    samples,
    says,
)
from mjpeg_server import Board, serve
from page_session import CountingSession, until
from PIL import Image

from cfl_edge.serve.page import live

pytestmark = pytest.mark.browser
THINGS = ("mug", "scissors", "leaf")
BOARD_HZ = 10
ENOUGH = 75  # frames of a hold: all that the camera shows, once
COUNT_GESTURES = """() => {
    window.gestures = 0;
    addEventListener('pointerdown', () => { gestures += 1; }, true);
    addEventListener('keydown', ({ key }) => { gestures += key === 'Enter'; }, true);
}"""


@pytest.fixture(scope="module")
def scenes():
    """Folder A: what the camera stand-in shows."""
    return {name: jpegs(pictures(name, range(12))) for name in THINGS}


@pytest.mark.timeout(400)
def test_teaching_from_the_first_hold_to_the_exported_model(browser, scenes, tmp_path):
    """Two things, a third, a correction, undo, rename, merge, export; then the file alone."""
    with serve(Board(pictures=scenes["mug"], interval_s=1 / BOARD_HZ)) as board:
        teaching = Teaching(board.url, tmp_path / "model", "--ui-port", "0")
        with teaching, opened(browser, teaching.address, accept_downloads=True) as page:
            # The first class: two gestures, the hold and the name.
            page.evaluate(COUNT_GESTURES)
            with held(page, "Hold to teach"):
                page.get_by_text("Learning: thing 1").wait_for()
                until(lambda: samples(page, "thing 1") >= ENOUGH, 60)
            name_it(page, "mug")
            assert page.evaluate("gestures") <= 2
            assert card(page, "mug").locator("img").count() > 0
            # The second; by now they are told apart, after 20 s of holding at most.
            board.pictures = scenes["scissors"]
            with held(page, "Hold to teach something new"):
                until(lambda: samples(page, "thing 2") >= ENOUGH, 60)
            name_it(page, "scissors")
            assert page.evaluate("gestures") <= 4
            assert samples(page, "mug") + samples(page, "scissors") <= 20 * BOARD_HZ
            for name in ("scissors", "mug"):
                board.pictures = scenes[name]
                says(page, name)
                assert share_right(teaching, name) >= 0.9
            # A third one while it runs, by key.
            board.pictures = scenes["leaf"]
            with held(page, "Hold to teach something new"):
                time.sleep(3)
            name_it(page, "leef")
            page.keyboard.down("3")
            until(lambda: samples(page, "leef") >= ENOUGH, 60)
            page.keyboard.up("3")
            says(page, "leef")
            # Renamed in place.
            card(page, "leef").get_by_role("button", name="leef", exact=True).click()
            name_it(page, "leaf")
            assert page.locator("class-card").count() == 3
            says(page, "leaf")
            # A wrong hold, taken back.
            before = samples(page, "mug")
            with held(page, "Hold to teach: mug"):
                time.sleep(2)
            until(lambda: samples(page, "mug") > before)
            page.get_by_role("button", name="Undo last hold").click()
            until(lambda: samples(page, "mug") == before)
            # A correction makes a class and learns the frame at once.
            page.get_by_role("button", name="No, that is …").click()
            page.get_by_label("or something new").fill("plant")
            page.get_by_role("button", name="Teach it").click()
            card(page, "plant").wait_for()
            assert samples(page, "plant") == 1
            # Merged by the menu.
            card(page, "plant").get_by_label("More for plant").click()
            page.get_by_role("button", name="Merge into …").click()
            page.get_by_role("dialog").get_by_role("button", name="leaf").click()
            page.get_by_role("dialog").get_by_role("button", name="Merge").click()
            card(page, "plant").wait_for(state="detached")
            # Taken along.
            with page.expect_download(timeout=60_000) as download:
                page.get_by_role("button", name="Download model.onnx").click()
            download.value.save_as(tmp_path / "model.onnx")
    assert teaching.code == 0, teaching.errors
    right = answers(tmp_path / "model.onnx", tmp_path / "folder-b")
    assert right >= 0.9


def share_right(teaching, name, count=3 * BOARD_HZ):
    """Return how many of the frames from now on are taken for a thing."""
    start_s = time.monotonic()

    def predictions():
        frames = [one for one in teaching.events if one["event"] == "frame"]
        return [one["prediction"] for one in frames if one["read_s"] > start_s]

    until(lambda: len(predictions()) >= count, 60)
    return predictions().count(name) / len(predictions())


def answers(model, folder):
    """Run the model in a process of its own on scenes that the page never showed."""
    for name in THINGS:
        (folder / name).mkdir(parents=True)
        for number, image in enumerate(pictures(name, range(100, 110), each=3)):
            Image.fromarray(image).save(folder / name / f"{number}.png")
    command = [sys.executable, "-m", "cfl_edge", "run", str(model), "--stream", str(folder)]
    done = subprocess.run(
        [*command, "--labels-from", "dirs", "--json"], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])["accuracy"]


def test_a_browser_that_is_killed_in_a_hold_stops_learning(browser, session):
    other = browser.browser_type.launch(executable_path=CHROMIUM, args=ARGUMENTS)
    with contextlib.ExitStack() as stack:
        page = stack.enter_context(opened(other, session.page.address))
        button = page.get_by_role("button", name="Hold to teach")
        button.hover()
        page.mouse.down()
        page.get_by_text("Learning: thing 1").wait_for()
        stack.pop_all()
        other.close()
        killed_s = time.monotonic()
    time.sleep(1.5)
    assert session.learned
    assert session.learned[-1][2] - killed_s < 1


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_the_page_comes_back_by_itself_and_says_so(browser, tmp_path, size):
    with CountingSession(tmp_path) as session:
        port = session.port
        context = opened(browser, session.page.address, size)
        page = context.__enter__()
        page.get_by_text("Nothing taught yet").wait_for()
    page.get_by_role("status").get_by_text("Connection lost").wait_for()
    assert page.get_by_role("button", name="Undo last hold").is_disabled()
    with CountingSession(tmp_path, port=port) as session:
        session.samples["mug"] = 5
        card(page, "mug").wait_for()
        page.locator("#connection:empty").wait_for(state="attached")
        page.complaints.clear()  # of the browser, while nobody listened
        context.__exit__(None, None, None)


def test_the_keyboard_alone_teaches_renames_and_removes(browser, session):
    with opened(browser, session.page.address) as page:
        page.get_by_role("button", name="Hold to teach").focus()
        page.keyboard.down("Space")
        page.get_by_text("Learning: thing 1").wait_for()
        until(lambda: session.learned)
        page.keyboard.up("Space")
        page.get_by_role("textbox", name="Name of the class").wait_for()
        page.keyboard.type("mug")
        page.keyboard.press("Enter")
        card(page, "mug").wait_for()
        card(page, "mug").get_by_label("More for mug").focus()
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Remove").press("Enter")
        page.get_by_role("dialog").get_by_role("button", name="Remove").press("Enter")
        card(page, "mug").wait_for(state="detached")
        assert session.samples == {}


def test_a_screen_reader_presses_once_to_begin_and_once_to_end(browser, session):
    with opened(browser, session.page.address) as page:
        button = page.get_by_role("button", name="Hold to teach", exact=True)
        button.evaluate("button => button.click()")  # as assistive technology does
        page.get_by_text("Learning: thing 1").wait_for()
        # Heartbeats go on.
        until(lambda: session.learned and session.learned[-1][2] - session.learned[0][2] > 1.5, 20)
        button.evaluate("button => button.click()")
        page.get_by_role("textbox", name="Name of the class").wait_for()


def test_names_are_shown_and_never_run(browser, session):
    hostile = "<img src=x onerror=alert(1)>"
    session.samples[hostile] = 3
    with opened(browser, session.page.address) as page:
        card(page, hostile).wait_for()
        assert page.locator("class-card img").count() == 0
        page.get_by_role("button", name="No, that is …").click()
        page.get_by_role("heading", name=f"This is not {hostile}").wait_for()


def test_two_pages_show_one_session(browser, session):
    with (
        opened(browser, session.page.address) as one,
        opened(browser, session.page.address, PHONE) as other,
    ):
        with held(one, "Hold to teach"):
            other.get_by_text("Learning: thing 1").wait_for()
            with held(other, "Hold to teach: thing 1"):
                other.get_by_text("somebody else is teaching thing 1").wait_for()
        card(other, "thing 1").wait_for()


def test_a_phone_holds_by_touch_and_nothing_is_wider_than_it(browser, session):
    for name in ("mug", "x" * 64, "a name with many words that goes on and on and does not end"):
        session.samples[name] = 3
    with opened(browser, session.page.address, PHONE, has_touch=True) as page:
        button = page.get_by_role("button", name="Hold to teach: mug")
        button.scroll_into_view_if_needed()
        button.dispatch_event("pointerdown", {"pointerType": "touch", "pointerId": 1, "button": 0})
        page.get_by_text("Learning: mug").wait_for()
        button.dispatch_event("pointerup", {"pointerType": "touch", "pointerId": 1})
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= PHONE[0]
    assert session.learned


def test_a_finger_that_leaves_its_button_ends_no_hold_of_another(browser, session):
    session.samples.update(mug=3, pen=3)
    with opened(browser, session.page.address, PHONE, has_touch=True) as page:
        first = page.get_by_role("button", name="Hold to teach: mug")
        second = page.get_by_role("button", name="Hold to teach: pen")
        for number, button in enumerate((first, second), 1):
            finger = {"pointerType": "touch", "pointerId": number, "button": 0}
            button.evaluate("button => (button.setPointerCapture = () => {})")  # no real finger
            button.dispatch_event("pointerdown", finger)
        page.get_by_text("Learning: pen").wait_for()
        first.dispatch_event("pointerup", {"pointerType": "touch", "pointerId": 1})
        taught = session.samples["pen"]
        until(lambda: session.samples["pen"] > taught + 75)  # longer than one heartbeat lasts
        second.dispatch_event("pointerup", {"pointerType": "touch", "pointerId": 2})
        page.locator(".badge").wait_for(state="hidden")


def test_one_viewer_too_many_is_told_why_and_let_in_later(browser, session, monkeypatch):
    monkeypatch.setattr(live, "MOST_VIEWERS", 1)
    with opened(browser, session.page.address) as one, opened(browser, one.url) as other:
        other.get_by_text("too many pages are open").wait_for()
        one.context.close()
        other.get_by_text("too many pages are open").wait_for(state="detached")
        other.get_by_text("Nothing taught yet").wait_for()
        assert all("503" in text for text in other.complaints)
        other.complaints.clear()


def test_one_hold_after_the_other_teaches_each_for_as_long_as_it_lasts(browser, session):
    """The button that had the focus loses it to the one that is pressed: that ends no hold."""
    session.samples.update(mug=3, pen=3)
    with opened(browser, session.page.address) as page:
        for name in ("mug", "pen", "mug"):
            before = session.samples[name]
            with held(page, f"Hold to teach: {name}"):
                until(lambda name=name, before=before: session.samples[name] > before + 15)
        assert page.get_by_text("Keep the button down").count() == 0
