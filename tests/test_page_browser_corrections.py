"""The page in a browser: what is corrected, named anew, paused, reviewed and taken back."""

import pytest
from browser_page import card, held, jpegs, opened, pictures
from page_session import until

from cfl_edge.errors import DataError
from cfl_edge.names import check_name

pytestmark = pytest.mark.browser


def test_a_class_that_is_gone_when_it_is_chosen_is_not_made_anew(browser, session):
    session.samples |= {"cup": 4, "mug": 5}
    with opened(browser, session.page.address) as page:
        page.get_by_role("button", name="No, that is …").click()
        session.mailbox.submit("rename", {"name": "cup", "to": "vase"}).result(5)
        card(page, "vase").wait_for()
        page.get_by_role("dialog").get_by_role("button", name="cup").click()
        page.get_by_text("There is no class cup any more").wait_for()
        assert session.samples == {"vase": 4, "mug": 5}


def test_the_review_tray_labels_and_drops_by_one_gesture(browser, session):
    session.samples.update(mug=40, pen=20)
    session.score = 0.3
    with opened(browser, session.page.address) as page:
        page.get_by_role("heading", name="Worth a second look").wait_for()
        first = page.locator("review-tray li").first
        picture = page.get_by_alt_text(first.locator("img").get_attribute("alt"), exact=True)
        first.get_by_role("button", name="mug is right").click()
        picture.wait_for(state="detached")
        assert session.pictures[0][0] == "mug"
        page.locator("review-tray li").first.get_by_role("button", name="Drop it").click()
        page.get_by_text("is dropped").wait_for()
        page.locator("review-tray li").first.get_by_role("button", name="Other …").click()
        page.get_by_role("dialog").get_by_role("button", name="pen").click()
        until(lambda: len(session.pictures) > 1)
        assert session.pictures[1][0] == "pen"
        session.mailbox.submit("rename", {"name": "mug", "to": "cup"}).result(5)
        page.locator("review-tray li").first.get_by_role("button", name="cup is right").wait_for()
        assert page.get_by_role("button", name="mug is right").count() == 0


def test_a_wrong_label_is_kept_corrected_or_dropped_by_one_gesture(browser, session):
    session.samples.update(mug=40, pen=20)
    for first in (100, 200, 300):
        run = {"frames": [first, first + 1], "label": "mug", "looks_like": "pen", "margin": 0.9}
        session.suspects = [*session.suspects, run]
        session.page.album.thumbnails.add(first, "mug", jpegs(pictures("scissors", [1], 1))[0])
    with opened(browser, session.page.address) as page:
        page.get_by_text("2 frames learned as mug; the others say pen").first.wait_for()
        page.get_by_role("button", name="Keep mug, frame 100").click()
        page.get_by_role("button", name="Keep mug, frame 100").wait_for(state="detached")
        page.get_by_role("button", name="It is pen, frame 200").click()
        until(lambda: session.done == [("relabel", {"label": "pen", "frames": [200, 201]})])
        page.get_by_role("button", name="Drop it, frame 300").click()
        page.get_by_role("heading", name="Worth a second look").wait_for(state="hidden")
        assert session.done[1:] == [("forget", {"frames": [300, 301]})]


def test_a_name_that_is_taken_offers_to_merge_in_the_words_of_the_page(browser, session):
    session.samples |= {"cup": 4, "mug": 5}
    with opened(browser, session.page.address) as page:
        card(page, "cup").get_by_role("button", name="cup", exact=True).click()
        page.get_by_role("textbox", name="Name of the class").fill(" mug ")
        page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog")
        dialog.get_by_text("There is a class mug already.").wait_for()
        assert "cfl-edge" not in dialog.inner_text()
        dialog.get_by_role("button", name="Merge").click()
        until(lambda: session.samples == {"mug": 9})
        assert session.done == [("merge", {"names": ["cup", "mug"], "into": "mug"})]


def test_a_name_that_is_refused_stays_to_be_changed_with_the_reason(browser, session):
    session.samples |= {"cup": 4}

    def refuses(name, to):
        check_name(to)

    session._do_rename = refuses
    with opened(browser, session.page.address) as page:
        card(page, "cup").get_by_role("button", name="cup", exact=True).click()
        field = page.get_by_role("textbox", name="Name of the class")
        field.fill("unknown")
        page.keyboard.press("Enter")
        note = page.locator(".note.bad")
        note.wait_for()
        assert "is 'unknown', which is no name for a class" in note.inner_text()
        assert "--" not in note.inner_text()
        field.wait_for()
        assert field.input_value() == "unknown"
        page.keyboard.press("Escape")
        field.wait_for(state="hidden")
        (complaint,) = page.complaints
        assert "400" in complaint
        page.complaints.clear()


def test_while_paused_the_page_says_so_and_learns_what_is_corrected_alone(browser, session):
    session.samples |= {"cup": 4, "mug": 5}
    with opened(browser, session.page.address) as page:
        page.get_by_role("button", name="Pause learning").click()
        page.get_by_text("Learning is paused", exact=True).wait_for()
        with held(page, "Hold to teach: mug"):
            page.get_by_text("Learning is paused: resume it to teach by holding").wait_for()
        page.get_by_role("button", name="No, that is …").click()
        page.get_by_role("dialog").get_by_role("button", name="cup").click()
        until(lambda: session.samples == {"cup": 5, "mug": 5})
        page.get_by_role("button", name="Resume learning").click()
        page.locator(".badge").wait_for(state="hidden")
        with held(page, "Hold to teach: mug"):
            until(lambda: session.samples["mug"] > 5)


def test_undo_of_a_correction_takes_back_that_frame_and_nothing_learned_since(browser, session):
    session.samples |= {"cup": 4, "mug": 5}
    with opened(browser, session.page.address) as page:
        page.get_by_role("button", name="No, that is …").click()
        page.get_by_role("dialog").get_by_role("button", name="cup").click()
        until(lambda: session.samples["cup"] == 5)
        with held(page, "Hold to teach: cup"):
            until(lambda: session.samples["cup"] > 9)
        until(lambda: session.label is None)
        taught = session.samples["cup"]
        page.get_by_role("button", name="Undo", exact=True).click()
        until(lambda: session.samples["cup"] < taught)
        assert session.samples["cup"] == taught - 1


def test_a_correction_of_spaces_alone_is_asked_for_again(browser, session):
    session.samples |= {"cup": 4, "mug": 5}
    with opened(browser, session.page.address) as page:
        page.get_by_role("button", name="No, that is …").click()
        field = page.get_by_label("or something new")
        field.fill("   ")
        page.keyboard.press("Enter")
        assert field.evaluate("field => field.validity.patternMismatch")
        assert page.get_by_role("dialog").is_visible()
        assert session.done == []
        field.fill(" pen ")
        page.keyboard.press("Enter")
        until(lambda: session.samples.get("pen") == 1)
        page.get_by_role("button", name="No, that is …").click()
        page.get_by_role("dialog").get_by_role("button", name="cup").click()  # needs no new name
        until(lambda: session.samples["cup"] == 5)


def test_a_hint_for_the_terminal_is_not_shown(browser, session):
    session.samples |= {"cup": 4}

    def refuses(**_):
        raise DataError("nothing can be undone", hint="cfl-edge classes list runs/kitchen shows it")

    session._do_undo = refuses
    with opened(browser, session.page.address) as page:
        page.get_by_role("button", name="Undo last hold").click()
        note = page.locator(".note.bad")
        note.wait_for()
        assert note.inner_text() == "nothing can be undone"
        page.complaints.clear()  # the browser notes the 409
