"""The page in a browser: what is pressed twice, and what another person changes meanwhile."""

import pytest
from browser_page import card, held, opened
from page_session import until

pytestmark = pytest.mark.browser
RECONNECTED = """async () => {
    const { session } = await import('./session.js');
    session.dispatchEvent(new CustomEvent('connection'));
}"""


def name_field(page):
    return page.get_by_role("textbox", name="Name of the class")


def settle(page):
    """Wait until the session has done, and answered, all that the page has asked for."""
    with page.expect_response("**/api/v1/save"):
        page.get_by_role("button", name="Save now").click()


def test_a_question_about_a_class_that_is_gone_meanwhile_removes_no_other(browser, session):
    session.samples = {"cup": 4, "mug": 5}
    with opened(browser, session.page.address) as page:
        card(page, "mug").get_by_label("More for mug").click()
        page.get_by_role("button", name="Remove").click()
        session.samples = {"cup": 4, "pen": 9}
        page.get_by_label("More for pen", exact=True).wait_for()
        page.get_by_role("dialog").get_by_role("button", name="Remove").click()
        page.get_by_text("there is no class mug").wait_for()
        page.get_by_label("More for cup", exact=True).click()
        page.get_by_role("button", name="Merge into …").click()
        session.samples = {"vase": 4, "pen": 9}
        page.get_by_label("More for vase", exact=True).wait_for()
        page.get_by_role("dialog").get_by_role("button", name="pen").click()
        page.get_by_role("dialog").get_by_role("button", name="Merge").click()
        page.get_by_text("there is no class cup").wait_for()
        assert session.samples == {"vase": 4, "pen": 9}
        page.complaints.clear()  # of the browser, on status 400


def test_a_name_that_is_typed_is_given_to_no_class_at_another_place(browser, session):
    session.samples = {"cup": 4, "mug": 5}
    with opened(browser, session.page.address) as page:
        card(page, "cup").get_by_role("button", name="cup", exact=True).click()
        name_field(page).fill("glass")
        session.samples = {"mug": 5, "pen": 2}
        page.get_by_label("More for pen", exact=True).wait_for()
        page.keyboard.press("Enter")
        card(page, "pen").wait_for()
        settle(page)
        assert session.samples == {"mug": 5, "pen": 2}
        page.complaints.clear()  # of the browser, where it still asked for the class that is gone


def test_a_name_that_nobody_typed_undoes_no_rename_by_another(browser, session):
    with opened(browser, session.page.address) as page:
        with held(page, "Hold to teach"):
            until(lambda: session.samples)
        name_field(page).wait_for()
        session.mailbox.submit("rename", {"name": "thing 1", "to": "scissors"}).result(5)
        page.get_by_label("More for scissors", exact=True).wait_for()
        page.keyboard.press("Enter")
        settle(page)
        assert list(session.samples) == ["scissors"]


def test_a_new_class_is_named_once_no_other_is_held(browser, session):
    """A field that takes the focus would end the hold, and take the key for a letter."""
    session.samples = {"mug": 3}
    with opened(browser, session.page.address) as page:
        card(page, "mug").wait_for()
        with held(page, "Hold to teach something new"):
            card(page, "thing 2").wait_for()
            page.keyboard.down("1")
            until(lambda: session.samples["mug"] > 20)
            page.keyboard.down("1")  # as a key repeats that is held
            assert not name_field(page).is_visible()
        session.mailbox.submit("add", {"name": "pen"}).result(5)
        card(page, "pen").wait_for()
        assert not name_field(page).is_visible()
        page.keyboard.up("1")
        name_field(page).wait_for()
        assert name_field(page).input_value() == "thing 2"


def test_a_double_click_decides_a_frame_of_the_tray_once(browser, session):
    session.samples = {"mug": 40, "pen": 20}
    session.score = 0.3
    with opened(browser, session.page.address) as page:
        button = page.locator("review-tray li").first.get_by_role("button", name="mug is right")
        button.wait_for()
        with session.turn:
            button.dblclick()
        settle(page)
        assert len(session.pictures) == 1
        assert page.locator(".note.bad").count() == 0


def test_a_double_click_on_undo_takes_back_one_hold(browser, session):
    session.samples = {"mug": 1, "pen": 1, "cup": 1}
    session.learned = [(frame, name, 0.0) for frame, name in enumerate(session.samples)]
    with opened(browser, session.page.address) as page:
        button = page.get_by_role("button", name="Undo last hold")
        button.dblclick()
        settle(page)
        assert session.samples == {"mug": 1, "pen": 1, "cup": 0}
        with session.turn:
            button.evaluate("button => { button.click(); button.click(); }")
        settle(page)
        assert session.samples == {"mug": 1, "pen": 0, "cup": 0}


def test_a_download_that_outlives_the_connection_leaves_its_button_as_it_was(browser, session):
    with opened(browser, session.page.address, accept_downloads=True) as page:
        page.get_by_text("Nothing taught yet").wait_for()
        with session.turn:
            page.get_by_role("button", name="Download labels.txt").click()
            page.get_by_role("button", name="Writing labels.txt …").wait_for()
            page.evaluate(RECONNECTED)
            page.get_by_role("button", name="Writing labels.txt …").click()
        settle(page)
        assert [verb for verb, _ in session.done] == ["export", "export", "save"]
        assert page.get_by_role("button", name="Download labels.txt").is_visible()
