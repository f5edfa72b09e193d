"""The page for everyone: axe-core, keyboard alone, 200 % zoom, and dragging with a pointer."""

import json
import time
import urllib.request

import pytest
from browser_page import DESKTOP, PHONE, card, held, opened
from page_session import CountingSession, until
from test_report import mixed, page_of

from cfl_edge.loop.operating_point import Requirement, Threshold

pytestmark = pytest.mark.browser
SERIOUS = ("serious", "critical")
ZOOMED = (DESKTOP[0] // 2, DESKTOP[1] // 2)  # what is left of a desktop at 200 %
MOST_TABS = 80


@pytest.fixture
def taught(session):
    """Three classes, thumbnails of one, doubtful frames, and some that may be mislabelled."""
    session.samples.update(mug=40, pen=20, leaf=7)
    session.mailbox.submit("label", {"label": "mug", "seconds": 0.5}).result(5)
    until(lambda: session.page.album.thumbnails.shown().get("mug"))
    session.mailbox.submit("unlabel", {}).result(5)
    session.score = 0.3
    shown = session.page.album.thumbnails.shown()["mug"]
    session.suspects = [{"frames": shown, "label": "mug", "looks_like": "pen", "margin": 0.9}]
    return session


def complaints_of_axe(page):
    """Return what axe-core finds that keeps people out: rule and elements."""
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python"
    )
    found = axe.Axe().run(page).response["violations"]
    return [
        (one["id"], node["target"], node["failureSummary"])
        for one in found
        for node in one["nodes"]
        if one["impact"] in SERIOUS
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_a_report_needs_no_network_and_axe_finds_nothing_serious(browser, tmp_path, size, scheme):
    threshold = Threshold(Requirement("bad", 0.75), ["good", "bad"])
    threshold.of_class += [0.9, 0.8, 0.3, 0.1]
    threshold.of_others += [0.05, 0.2, 0.4]
    report = tmp_path / "report.html"
    report.write_text(page_of(mixed(["good", "bad"]), ["good", "bad"], threshold=threshold))
    # its policy lets no script in, axe neither
    options = {"color_scheme": scheme, "bypass_csp": True, "offline": True}
    with opened(browser, "about:blank", size, **options) as page:
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(report.as_uri())
        page.get_by_role("heading", name="Wrong pictures").wait_for()
        assert complaints_of_axe(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_axe_finds_nothing_serious(browser, taught, size, scheme):
    address = taught.page.address
    with opened(browser, address, size, color_scheme=scheme) as page:
        page.locator("review-tray li").first.wait_for()
        page.get_by_text("learned as mug; the others say pen").wait_for()
        page.get_by_role("button", name="Where it looks").click()
        page.get_by_label("Places that speak for").wait_for()
        assert complaints_of_axe(page) == []
        card(page, "pen").get_by_label("More for pen").click()
        assert complaints_of_axe(page) == []
        page.get_by_role("button", name="Merge into …").click()
        page.get_by_role("dialog").wait_for()
        assert complaints_of_axe(page) == []
        page.keyboard.press("Escape")
        page.get_by_role("button", name="No, that is …").click()
        page.get_by_role("dialog").wait_for()
        assert complaints_of_axe(page) == []
        page.keyboard.press("Escape")
        with held(page, "Hold to teach: mug"):
            page.get_by_text("Learning: mug").wait_for()
            assert complaints_of_axe(page) == []
        page.goto(f"{address}api.html")
        for path in json.loads(urllib.request.urlopen(f"{address}api/v1/openapi.json").read())[
            "paths"
        ]:
            page.get_by_role("heading", name=path).first.wait_for()
        assert complaints_of_axe(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_on_an_empty_page_and_a_lost_one(browser, tmp_path, scheme):
    with CountingSession(tmp_path, fps=20) as session:
        context = opened(browser, session.page.address, color_scheme=scheme)
        page = context.__enter__()
        page.get_by_text("Nothing taught yet").wait_for()
        assert complaints_of_axe(page) == []
    page.get_by_role("status").get_by_text("Connection lost").wait_for()
    assert complaints_of_axe(page) == []
    page.complaints.clear()  # of the browser: nobody listens
    page.context.close()


COVERED = """() => {
    const { bottom, right } = document.querySelector('.camera').getBoundingClientRect();
    return [...document.querySelectorAll('section')].filter((section) => {
        const { height, left, top } = section.getBoundingClientRect();
        return height && left < right && top < bottom;
    }).map((section) => section.querySelector('h2').textContent);
}"""


def test_the_picture_that_stays_in_view_covers_nothing_below_it(browser, taught):
    taught.samples |= {f"thing {number}": 5 for number in range(8)}
    with opened(browser, taught.page.address, (1280, 900)) as page:
        page.locator("review-tray li").first.wait_for()
        page.get_by_role("button", name="Where it looks").click()
        page.get_by_label("Places that speak for").wait_for()
        end = page.evaluate("document.documentElement.scrollHeight")
        assert end > 1200
        for top in range(0, end, 100):
            page.evaluate("top => scrollTo(0, top)", top)
            assert page.evaluate(COVERED) == []
        page.evaluate("scrollTo(0, 100)")  # while there are classes beside it, it stays
        assert page.locator(".camera").bounding_box()["y"] >= 0


def test_the_focus_stays_where_the_keyboard_was(browser, taught):
    """After each press that removes or replaces what had it."""
    focus = "() => document.activeElement.getAttribute('aria-label')"
    with opened(browser, taught.page.address) as page:
        page.get_by_text("learned as mug; the others say pen").wait_for()
        page.get_by_role("link", name="Skip these pictures").press("Enter")
        page.keyboard.press("Tab")
        assert page.evaluate("() => document.activeElement.id") == "export"
        page.get_by_role("button", name="mug is right").first.wait_for()
        page.get_by_role("button", name="Keep mug").focus()
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Keep mug").wait_for(state="detached")
        assert page.evaluate(focus).startswith("mug is right, frame ")
        card(page, "pen").get_by_label("More for pen").focus()
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Merge into …").press("Enter")
        page.get_by_role("dialog").wait_for()
        page.keyboard.press("Escape")
        assert page.evaluate(focus) == "More for pen"
        page.keyboard.press("Enter")
        card(page, "pen").get_by_role("button", name="Rename", exact=True).press("Enter")
        page.keyboard.type("biro")
        page.keyboard.press("Enter")
        card(page, "biro").wait_for()
        assert page.evaluate("() => document.activeElement.textContent") == "biro"
        card(page, "biro").get_by_label("More for biro").press("Enter")
        card(page, "biro").get_by_role("button", name="Remove").press("Enter")
        page.get_by_role("dialog").get_by_role("button", name="Remove").press("Enter")
        card(page, "biro").wait_for(state="detached")
        assert page.evaluate("() => document.activeElement.textContent") == "leaf"


def test_the_focus_stays_in_the_tray_when_all_of_it_changes(browser, taught):
    taught.score = 0.99  # nothing more to review
    with opened(browser, taught.page.address) as page:
        page.get_by_role("button", name="Keep mug").focus()
        taught.suspects = [{**one, "looks_like": "leaf"} for one in taught.suspects]
        page.get_by_text("the others say leaf").wait_for()
        page.get_by_text("the others say pen").wait_for(state="detached")
        tray = "() => document.activeElement.closest('review-tray') !== null"
        assert page.evaluate(tray)


@pytest.mark.parametrize("size", [PHONE, (640, 400)], ids=["phone", "200 percent"])
def test_the_picture_covers_nothing_that_has_the_focus(browser, taught, size):
    """Neither downwards nor upwards."""
    covered = """() => {
        const focused = document.activeElement, box = focused.getBoundingClientRect();
        const found = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
        return !focused.closest('class-list') || focused.contains(found) ? null : focused.outerHTML;
    }"""
    with opened(browser, taught.page.address, size) as page:
        card(page, "leaf").wait_for()
        page.get_by_role("button", name="Change region").focus()
        for key in ["Tab"] * 12 + ["Shift+Tab"] * 10:
            page.keyboard.press(key)
            assert page.evaluate(covered) is None


def test_a_note_is_in_nobodys_way_but_for_its_button(browser, taught):
    at = """(note) => {
        const box = note.getBoundingClientRect();
        const found = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
        return note === found;
    }"""
    with opened(browser, taught.page.address, PHONE) as page:
        page.get_by_role("button", name="mug is right").first.click()
        page.locator(".note").first.wait_for()
        assert not page.locator(".note").first.evaluate(at)
        assert page.locator(".note").get_by_role("button", name="Undo").first.evaluate(at)


def test_a_card_dragged_onto_another_is_merged_into_it(browser, taught):
    with opened(browser, taught.page.address) as page:
        source, target = card(page, "pen").locator(".head"), card(page, "mug")
        start, end = source.bounding_box(), target.bounding_box()
        page.mouse.move(start["x"] + start["width"] * 0.7, start["y"] + start["height"] / 2)
        page.mouse.down()
        page.mouse.move(start["x"] + 10, start["y"] + 10, steps=3)
        page.mouse.move(end["x"] + end["width"] / 2, end["y"] + end["height"] / 2, steps=5)
        page.locator("class-card.target").get_by_role("button", name="mug", exact=True).wait_for()
        page.mouse.up()
        page.get_by_role("heading", name="Merge pen into mug?").wait_for()
        before = dict(taught.samples)
        page.get_by_role("dialog").get_by_role("button", name="Merge").click()
        card(page, "pen").wait_for(state="detached")
        assert taught.samples == {"mug": before["mug"] + before["pen"], "leaf": before["leaf"]}
        assert page.locator("class-card.target").count() == 0


def test_a_card_dropped_on_itself_or_beside_changes_nothing(browser, taught):
    with opened(browser, taught.page.address) as page:
        for target in (card(page, "pen").locator(".facts"), page.get_by_role("heading", level=1)):
            card(page, "pen").locator(".head").drag_to(target)
            assert page.get_by_role("dialog").count() == 0
        assert "merge" not in [verb for verb, _ in taught.done]


def tab_to(page, name):
    """Press Tab until something with this name has the focus, which must be visible."""
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        here = page.evaluate(
            """() => {
                const { ariaLabel, textContent, labels } = document.activeElement;
                const style = getComputedStyle(document.activeElement);
                const label = labels?.[0]?.textContent;
                return {
                    name: (ariaLabel ?? label ?? textContent).trim(),
                    outlined: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0,
                };
            }"""
        )
        if here["name"].partition(", frame")[0] == name:
            assert here["outlined"], f"{name} has the focus, and nothing shows it"
            return
    raise AssertionError(f"{MOST_TABS} times Tab do not reach {name}")


def hold_key(page, session, key="Space"):
    learned = len(session.learned)
    page.keyboard.down(key)
    until(lambda: len(session.learned) > learned + 10, 20)
    page.keyboard.up(key)


def test_every_task_is_possible_with_the_keyboard_alone(browser, session):
    """No pointer, and no focus set by a script: Tab, Space, Enter, Escape and letters."""
    with opened(browser, session.page.address) as page:
        page.get_by_text("Nothing taught yet").wait_for()
        tab_to(page, "Hold to teach")
        hold_key(page, session)
        page.get_by_role("textbox", name="Name of the class").wait_for()
        page.keyboard.type("mug")
        page.keyboard.press("Enter")
        card(page, "mug").wait_for()
        tab_to(page, "Hold to teach “nothing there”")
        hold_key(page, session)
        card(page, "nothing there").wait_for()
        for key in ("1", "2"):
            hold_key(page, session, key)
        # Rename in place.
        tab_to(page, "mug")
        page.keyboard.press("Enter")
        page.keyboard.type("cup")
        page.keyboard.press("Enter")
        card(page, "cup").wait_for()
        # Correct what is predicted by a new class.
        tab_to(page, "No, that is …")
        page.keyboard.press("Enter")
        page.get_by_role("dialog").wait_for()
        tab_to(page, "or something new")
        page.keyboard.type("plant")
        page.keyboard.press("Enter")
        card(page, "plant").wait_for()
        # Merge by the menu, and leave a dialog without doing anything.
        for choice in ("Escape", "Enter"):
            tab_to(page, "More for plant")
            page.keyboard.press("Enter")
            tab_to(page, "Merge into …")
            page.keyboard.press("Enter")
            page.get_by_role("dialog").wait_for()
            if choice == "Enter":
                tab_to(page, "cup")
                page.keyboard.press("Enter")
                page.get_by_role("heading", name="Merge plant into cup?").wait_for()
                tab_to(page, "Merge")
            page.keyboard.press(choice)
            page.get_by_role("dialog").wait_for(state="detached")
        card(page, "plant").wait_for(state="detached")
        # Take back, pause, save.
        count = len(session.learned)
        tab_to(page, "Undo last hold")
        page.keyboard.press("Enter")
        until(lambda: len(session.learned) < count)
        tab_to(page, "Pause learning")
        page.keyboard.press("Enter")
        until(lambda: session.paused)
        tab_to(page, "Save now")
        page.keyboard.press("Enter")
        until(lambda: session.done[-1][0] == "save")
        # Review.
        session.score = 0.3
        page.locator("review-tray li").first.wait_for()
        tab_to(page, "Drop it")
        page.keyboard.press("Enter")
        page.get_by_text("is dropped").wait_for()


@pytest.mark.parametrize("by", ["browser", "text"])
def test_at_200_percent_nothing_is_cut_off_and_a_hold_teaches(browser, taught, by):
    size = ZOOMED if by == "browser" else DESKTOP
    with opened(browser, taught.page.address, size) as page:
        page.locator("review-tray li").first.wait_for()
        if by == "text":
            page.evaluate("document.documentElement.style.fontSize = '200%'")
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        cut = page.evaluate(
            """() => [...document.querySelectorAll("button, h1, h2, h3, p, dd, dt")]
                .filter((one) => one.checkVisibility() && !one.closest(".clamp"))
                .filter((one) => one.scrollWidth > one.clientWidth + 1 && one.clientWidth > 0)
                .filter((one) => getComputedStyle(one).overflowX !== "visible")
                .map((one) => one.outerHTML)"""
        )
        assert cut == []
        for button in page.get_by_role("button").all():
            box = button.bounding_box()
            if box is not None:
                assert box["x"] >= 0, button
                assert box["x"] + box["width"] <= size[0], button
        before = len(taught.learned)
        with held(page, "Hold to teach: leaf"):
            page.get_by_text("Learning: leaf").wait_for()
            assert page.locator("live-picture canvas").bounding_box()["height"] > 60
            time.sleep(0.5)
        assert len(taught.learned) > before
