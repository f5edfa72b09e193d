"""Pictures that a browser brings: of an archive, a folder, and the camera of its device."""

import io

import pytest
from browser_page import (
    DESKTOP,
    PHONE,
    card,
    jpegs,
    opened,
    pictures,
)
from page_session import CountingSession, until
from PIL import Image
from test_page_import import archive

from cfl_edge.stream.inbox import Inbox

pytestmark = pytest.mark.browser
COUNT_STREAMS = """() => {
    const devices = navigator.mediaDevices;
    const start = devices.getUserMedia.bind(devices);
    window.streams = 0;
    devices.getUserMedia = async (wanted) => {
        streams += 1;
        await new Promise((resolve) => setTimeout(resolve, 500)); // a person is asked
        return start(wanted);
    };
}"""


def test_pictures_of_a_zip_archive_are_learned(browser, session, tmp_path):
    images = jpegs(pictures("mug", [1], 3))
    (tmp_path / "things.zip").write_bytes(
        archive([(f"mug/{i}.jpg", x) for i, x in enumerate(images)])
    )
    (tmp_path / "other.zip").write_bytes(b"no archive")
    with opened(browser, session.page.address, PHONE) as page:
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Import a ZIP file …").click()
        chooser.value.set_files(tmp_path / "things.zip")
        page.get_by_text("3 pictures learned: mug 3").wait_for()
        card(page, "mug").locator("img").nth(2).wait_for()
        page.locator("picture-import input[accept]").set_input_files(tmp_path / "other.zip")
        page.get_by_text("The file is no ZIP archive, or cut off").wait_for()
        page.complaints.clear()  # of the browser, on status 400
    assert [label for label, _ in session.pictures] == ["mug"] * 3


def test_pictures_of_a_folder_are_learned(browser, session, tmp_path):
    """Each as small as the live picture; what is no picture is left out, and said."""
    things = tmp_path / "things"
    for name, image in (("mug", pictures("mug", [1], 1)[0]), ("été", pictures("leaf", [1], 1)[0])):
        (things / name).mkdir(parents=True)
        for number, kind in enumerate(("JPEG", "PNG", "WEBP")):
            large = Image.fromarray(image).resize((1600, 1200))
            large.save(things / name / f"{number}.{kind.lower()}", kind)
    (things / "mug" / "notes.txt").write_text("no picture")
    (things / "mug" / ".hidden.png").write_bytes(b"no picture")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "torn.jpg").write_bytes(b"no picture")
    with opened(browser, session.page.address, PHONE) as page:
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Import a folder …").click()
        chooser.value.set_files(things)
        page.get_by_text("6 pictures learned").wait_for()
        until(lambda: session.samples == {"mug": 3, "été": 3})
        assert page.locator(".note button").count() == 0  # it could take back what came since
        page.get_by_role("button", name="Undo last hold").click()  # all of it
        page.get_by_text("undo done").wait_for()
        for name in ("mug", "été"):
            card(page, name).locator("img").first.wait_for(state="detached")
            assert session.samples[name] == 0
        page.locator("picture-import input[webkitdirectory]").set_input_files(tmp_path / "empty")
        page.get_by_text("empty holds no picture that this browser can read").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]


@pytest.mark.parametrize(
    ("where", "note"),
    [
        ("HTMLCanvasElement.prototype.toBlob", "things holds no picture that this"),
        ("Blob.prototype.arrayBuffer", "things cannot be packed: no memory. Try: fewer pictures"),
    ],
)
def test_a_folder_that_memory_is_too_short_for_can_be_imported_later(
    browser, session, tmp_path, where, note
):
    (tmp_path / "things" / "mug").mkdir(parents=True)
    (tmp_path / "things" / "mug" / "1.jpg").write_bytes(jpegs(pictures("mug", [1], 1))[0])
    with opened(browser, session.page.address) as page:
        page.get_by_text("Nothing taught yet").wait_for()
        page.evaluate(f"() => {{ {where} = () => {{ throw new Error('no memory'); }}; }}")
        page.locator("picture-import input[webkitdirectory]").set_input_files(tmp_path / "things")
        page.get_by_text(note).wait_for()
        assert page.get_by_role("button", name="Import a folder …").is_enabled()
        assert page.get_by_text("Pictures, one folder for each class").is_visible()


def test_a_double_click_starts_the_camera_once(browser, tmp_path):
    with (
        CountingSession(tmp_path, inbox=Inbox()) as session,
        opened(browser, session.page.address) as page,
    ):
        page.evaluate(COUNT_STREAMS)
        page.get_by_role("button", name="Use this device's camera").dblclick()
        page.get_by_text("Sending pictures").wait_for()
        assert page.evaluate("streams") == 1


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_the_camera_of_the_device_is_that_of_the_session(browser, tmp_path, size):
    inbox = Inbox()
    with (
        CountingSession(tmp_path, inbox=inbox) as session,
        opened(browser, session.page.address, size) as page,
    ):
        page.get_by_role("button", name="Use this device's camera").click()
        sizes = {Image.open(io.BytesIO(inbox.take(10).data)).size for _ in range(3)}
        assert max(max(size) for size in sizes) == 640
        page.get_by_text("Sending pictures").wait_for()
        page.get_by_role("button", name="Stop this device's camera").click()
        page.get_by_role("button", name="Use this device's camera").wait_for()
        until(lambda: inbox.take(0.5) is None)
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]


def test_a_page_that_may_not_use_the_camera_says_why_and_sends_single_pictures(browser, tmp_path):
    inbox = Inbox()
    (tmp_path / "mug.jpg").write_bytes(jpegs(pictures("mug", [1], 1))[0])
    with (
        CountingSession(tmp_path, inbox=inbox) as session,
        opened(browser, session.page.address, PHONE) as page,
    ):
        page.add_init_script("Object.defineProperty(window, 'isSecureContext', {value: false})")
        page.reload()
        page.get_by_text("only to pages that come by HTTPS or from localhost").wait_for()
        assert not page.get_by_role("button", name="Use this device's camera").is_visible()
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Take one picture …").click()
        chooser.value.set_files(tmp_path / "mug.jpg")
        page.get_by_text("One was sent").wait_for()
        assert inbox.take(0) is not None


def test_a_session_with_a_camera_of_its_own_asks_for_none(browser, session):
    with opened(browser, session.page.address) as page:
        page.get_by_text("Nothing taught yet").wait_for()
        assert not page.locator("phone-camera").is_visible()
