"""The region in a browser: where the model looks, drawn, moved and resized on the page."""

import numpy as np
import pytest
from browser_page import (
    DESKTOP,
    PHONE,
    card,
    opened,
)
from page_session import until

from cfl_edge.frame.region import View

pytestmark = pytest.mark.browser


def colour_at(page, x, y):
    """Return the colour of the picture at a place in fractions of it."""
    script = """([x, y]) => {
        const shown = document.querySelector('.frame canvas');
        const copy = document.createElement('canvas');
        const drawing = copy.getContext('2d', {willReadFrequently: true});
        drawing.drawImage(shown, -x * shown.width, -y * shown.height);
        return [...drawing.getImageData(0, 0, 1, 1).data];
    }"""
    return page.evaluate(script, [x, y])


def test_where_it_looks_is_drawn_over_the_models_view(browser, session):
    session.samples.update(mug=40, pen=20)
    session.draw = lambda number: np.full((64, 64, 3), 40, np.uint8)
    with opened(browser, session.page.address) as page:
        page.get_by_role("button", name="Where it looks").click()
        assert page.get_by_role("button", name="Model's view").get_attribute("aria-pressed")
        until(lambda: colour_at(page, 0.95, 0.95)[0] > 150)
        assert max(colour_at(page, 0.1, 0.1)[:3]) < 60
        boxes = [page.locator(one).bounding_box() for one in (".frame canvas", ".says")]
        assert boxes[1]["y"] >= boxes[0]["y"] + boxes[0]["height"]  # every place is seen
        page.get_by_label("in", exact=True).select_option("layer 1")
        until(lambda: colour_at(page, 0.4, 0.4)[0] > 150)
        until(lambda: max(colour_at(page, 0.95, 0.95)[:3]) < 60)
        page.get_by_label("in", exact=True).select_option("all layers")
        until(lambda: colour_at(page, 0.95, 0.95)[0] > 150)
        page.get_by_label("Places that speak for").select_option("pen")
        page.get_by_role("button", name="Model's view").click()
        until(lambda: max(colour_at(page, 0.95, 0.95)[:3]) < 60)
        assert not page.get_by_label("Places that speak for").is_visible()


def picture_of(page):
    """Where the picture is: left, top, width and height of its part of the canvas."""
    return page.locator("live-picture canvas").evaluate(
        """canvas => {
            const box = canvas.getBoundingClientRect();
            const scale = Math.min(box.width / canvas.width, box.height / canvas.height);
            const [width, height] = [canvas.width * scale, canvas.height * scale];
            return [box.left + (box.width - width) / 2, box.top + (box.height - height) / 2,
                    width, height];
        }"""
    )


def drag(page, start, end, region):
    """Move the mouse between two places, in fractions of the picture, with its button down.

    Wait until the page shows this region, of fractions of the frame in percent.
    """
    before = picture_of(page)
    until(lambda: settled(page, before))
    left, top, width, height = picture_of(page)
    page.mouse.move(left + start[0] * width, top + start[1] * height)
    page.mouse.down()
    page.mouse.move(left + end[0] * width, top + end[1] * height, steps=5)
    page.mouse.up()
    said = "Region: {} % from the left, {} % from the top, {} % wide, {} % high".format(*region)
    page.get_by_label(said).wait_for()


def settled(page, before):
    """Whether the picture is where it was a moment before; if not, remember where it is."""
    now = page.evaluate("() => new Promise(requestAnimationFrame)") and picture_of(page)
    was, before[:] = before.copy(), now
    return was == now


def regions(session):
    asked = [arguments["region"] for verb, arguments in session.done if verb == "region"]
    return [[float(value) for value in region.split(",")] for region in asked if region != "whole"]


LOOKS_AT_A_PART = """async () => {
    const { session } = await import('./session.js');
    return session.frame.looked_at !== null && document.querySelector('region-editor').hidden;
}"""


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_a_region_is_drawn_moved_and_resized_by_pointer(browser, session, size):
    with opened(browser, session.page.address, size) as page:
        page.get_by_text("Nothing taught yet").wait_for()
        page.get_by_role("button", name="Change region").click()
        drag(page, (0.25, 0.25), (0.75, 0.75), (25, 25, 50, 50))
        page.get_by_role("button", name="Look at this").click()
        until(lambda: regions(session))
        assert regions(session)[-1] == pytest.approx([0.25, 0.25, 0.5, 0.5], abs=0.02)
        until(lambda: page.evaluate(LOOKS_AT_A_PART))  # the page knows of it with the next frame
        page.get_by_role("button", name="Change region").click()
        drag(page, (0.5, 0.5), (0.4, 0.6), (15, 35, 50, 50))  # as a whole
        drag(page, (0.65, 0.85), (0.95, 0.9), (15, 35, 80, 55))  # by a corner
        page.get_by_role("button", name="Look at this").click()
        until(lambda: len(regions(session)) == 2)
        assert regions(session)[-1] == pytest.approx([0.15, 0.35, 0.8, 0.55], abs=0.03)


def test_a_region_is_moved_by_the_keyboard_alone(browser, session):
    session.samples["mug"] = 3
    session.view = View.parse("pad", "0.25,0.25,0.5,0.5")
    with opened(browser, session.page.address) as page:
        card(page, "mug").wait_for()
        button = page.get_by_role("button", name="Change region")
        button.focus()
        page.keyboard.press("Enter")
        page.get_by_text("What was learned stays").wait_for()
        box = page.get_by_label("Region: 25 % from the left, 25 % from the top, 50 % wide")
        assert box.evaluate("box => box === document.activeElement")
        for key in ("ArrowRight", "Control+ArrowDown", "Shift+ArrowLeft"):
            page.keyboard.press(key)
        page.keyboard.press("Enter")
        until(lambda: regions(session))
        assert regions(session) == [[0.26, 0.35, 0.49, 0.5]]
        page.locator("region-editor").wait_for(state="hidden")
        page.keyboard.press("Enter")  # the button has the focus again
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Escape")
        page.locator("region-editor").wait_for(state="hidden")
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Whole frame").press("Enter")
        page.get_by_role("button", name="Look at this").press("Enter")
        until(lambda: session.view.region is None)
        assert len(regions(session)) == 1
