"""`evaluate --report`: one page that holds all it shows, whatever the classes are called."""

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from command_line import SMALL, assert_error, cfl_edge, learn, write_images
from PIL import Image
from service_checks import HOSTILE

from cfl_edge.defaults import UNKNOWN
from cfl_edge.frame.frame import Frame
from cfl_edge.frame.prediction import Prediction
from cfl_edge.frame.step import Lesson, Step
from cfl_edge.lab.report import gallery as gallery_module
from cfl_edge.lab.report.advice import advice
from cfl_edge.lab.report.gallery import THUMB_PX, Gallery
from cfl_edge.lab.report.page import CSS, POLICY, Source, report_page
from cfl_edge.loop.evaluate import Evaluation, UnknownEvaluation
from cfl_edge.loop.metrics import Confusion
from cfl_edge.loop.operating_point import Requirement, Threshold
from cfl_edge.text import visible

VOID = {"meta", "img", "br", "line", "polyline"}


class Page(HTMLParser):
    """Elements and text of a page; fails where an element is not closed."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.texts, self.open = [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        self.texts.append(text)

    def values(self, name):
        return [attributes[name] for _, attributes in self.elements if name in attributes]

    @property
    def text(self):
        return " ".join(self.texts)


def step(true, said, score=0.9, index=0, rejected=False):
    image = np.full((300, 200, 3), index % 256, np.uint8)
    name = f"{true}/{index}.png"
    return Step(
        Frame(image, timestamp_s=0.0, index=index, label=true, name=name),
        Prediction(said, score, None, np.zeros(2, np.float32), rejected),
        Lesson(true),
    )


def evaluated(steps, classes, **values):
    """What `evaluate` returns of these answers, and their pictures."""
    confusion, gallery = Confusion(), Gallery()
    for one in steps:
        confusion.add(one.label, one.prediction.label)
        gallery.add(one)
    foreign = sorted({one.label for one in steps} - set(classes))
    result = Evaluation(
        **{
            "confusion": confusion,
            "rejected": 0,
            "answered_accuracy": None,
            "unknown": None,
            "unknown_classes": foreign,
            "skipped": [],
            "peak_rss_mib": 1.0,
            "learned": dict.fromkeys(classes, 100),
            "threshold": None,
            **values,
        }
    )
    return result, gallery


def page_of(steps, classes, **values):
    return report_page(
        Source(Path("runs/m"), "d/test", "today"), *evaluated(steps, classes, **values)
    )


def mixed(names):
    """Each class recognised twice and taken once for each other one."""
    pairs = [(true, said) for true in names for said in names]
    pairs += [(name, name) for name in names]
    return [step(true, said, 0.5 + i / 1000, i) for i, (true, said) in enumerate(pairs)]


@pytest.mark.parametrize("names", [["good", "bad"], HOSTILE, [f"class {i}" for i in range(30)]])
def test_the_page_holds_all_it_shows(names):
    page = Page(page_of(mixed(names), names))
    assert not {tag for tag, _ in page.elements} & {"script", "link", "iframe", "object", "form"}
    assert not [name for _, one in page.elements for name in one if name.startswith("on")]
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.values("src"))
    ids, links = page.values("id"), page.values("href")
    assert len(set(ids)) == len(ids)
    assert links
    assert {link.removeprefix("#") for link in links} <= set(ids)
    assert POLICY in page.values("content")
    assert "url(" not in CSS
    assert "@import" not in CSS


def test_names_of_classes_stay_text():
    text = Page(page_of(mixed(HOSTILE), HOSTILE)).text
    for name in HOSTILE:
        assert visible(name) in text


def test_every_wrong_picture_comes_before_every_right_one_and_leads_the_surest():
    steps = [step("a", "b", 0.6, 1), step("a", "b", 0.8, 2), step("b", "b", 0.9, 3)]
    steps += [step("b", "a", 0.7, 4), step("b", "b", 0.5, 5)]
    page = Page(page_of(steps, ["a", "b"]))
    names = [name for name in page.values("alt") if name.endswith(".png")]
    assert names == ["a/2.png", "a/1.png", "b/4.png", "b/5.png", "b/3.png"]


def test_pictures_are_small_jpegs():
    gallery = Gallery()
    gallery.add(step("a", "b"))
    ((_, picture),) = gallery.wrong()
    with Image.open(io.BytesIO(picture.jpeg)) as image:
        assert (image.format, max(image.size)) == ("JPEG", THUMB_PX)
        assert abs(image.width / image.height - 200 / 300) < 0.02


def test_pictures_are_bounded_and_the_surest_mistakes_are_kept(monkeypatch):
    monkeypatch.setattr(gallery_module, "MOST_PICTURES", 30)
    gallery = Gallery()
    scores = np.random.default_rng(0).permutation(500) / 500
    for number, score in enumerate(scores):
        gallery.add(step("a", "b", float(score), number))
        gallery.add(step(f"{number % 100}", "b", 0.5, number))
    kept = [picture.score for picture in gallery.pictures(("a", "b"))]
    assert kept == sorted(scores)[::-1][: len(kept)]
    assert 1 < len(kept) <= gallery_module.WRONG_IN_CELL
    assert len(gallery.wrong()) <= 30 + 101
    for cell in [("a", "b"), *((f"{number}", "b") for number in range(100))]:
        assert gallery.pictures(cell)  # a cell that is counted has a picture behind it


def test_the_threshold_and_what_it_costs_are_shown():
    names = ["Bad", "good"]
    threshold = Threshold(Requirement("Bad", 0.9), names)
    threshold.of_class += [0.9, 0.8, 0.7]
    threshold.of_others += [0.1, 0.75]
    text = Page(page_of(mixed(names), names, threshold=threshold)).text
    assert "The threshold that stops 90 % of Bad" in text
    assert "Stop what is Bad with 0.7 or more: 100.0 % (43.9 to 100.0), 3 of 3." in text
    assert "Of other images this stops 50.0 %" in text
    assert "3 images of Bad show no more than 43.9 %" in text


def said_of(steps, classes, **values):
    result, gallery = evaluated(steps, classes, **values)
    return advice(result, gallery, Path("my runs/m"))


def test_advice_names_the_largest_mistake_first_with_its_command():
    steps = [step("a", "b", 0.6, i) for i in range(3)] + [step("b", "a", 0.6)]
    first, second, *_ = said_of([*steps, step("a", "a")], ["a", "b"])
    assert first.text.startswith("3 of 4 pictures of a are taken for b.")
    assert first.command == "cfl-edge learn --stream /dev/video0 --label a --model 'my runs/m'"
    assert second.text.startswith("1 of 1 picture of b is taken for a.")


def test_advice_on_what_is_missing():
    unknown = UnknownEvaluation(90, 30, 0.9, 0.2, None, [])
    said = said_of([step("c", "a", 0.99), step("a", "b", 0.99)], ["a", "b"], unknown=unknown)
    text = " ".join(one.text for one in said)
    assert "The model has no class c. Teach it:" in text
    assert "Look at the labels of the 1 wrong picture with more than 95 %" in text
    assert "No picture shows b: " in text
    assert "--reject 0.95 reports them as unknown instead (AUROC 0.90" in text
    few = said_of([step("a", "a")], ["a"], unknown=replace(unknown, samples=9))
    assert few[1].text.startswith("30 known images and 9 unknown are too few to say how well")
    assert not any("AUROC" in one.text for one in few)
    useless = UnknownEvaluation(90, 30, 0.5, 0.9, None, [])
    text = " ".join(one.text for one in said_of([step("a", "a")], ["a"], unknown=useless))
    assert "teach them as a class of their own" in text
    assert "No class is taken for another one here." in text


@pytest.mark.parametrize(("true", "said"), [("few", "many"), ("many", "few")])
def test_advice_teaches_the_class_that_has_few_frames(true, said):
    """Whichever of them is taken for the other, and however sure the model is of it."""
    steps = [step(true, said, 0.99, i) for i in range(5)] + [step("many", "many")]
    unequal = said_of(steps, ["few", "many"], learned={"few": 4, "many": 300})
    assert unequal[0].command.startswith("cfl-edge learn --stream /dev/video0 --label few --model")
    assert "4 frames of few were learned and 300 of many: teach more of few:" in unequal[0].text
    assert not any("Look at the labels" in one.text for one in unequal)
    equal = said_of(steps, ["few", "many"], learned={"few": 250, "many": 300})
    assert f"--label {true} --model" in equal[0].command
    assert "Look at the labels of the 5 wrong pictures" in " ".join(one.text for one in equal)


def test_a_class_that_was_only_added_is_the_one_to_teach():
    """Nothing of it was learned: that its pictures are wrong says nothing of their labels."""
    steps = [step("new", "many", 0.99, i) for i in range(5)]
    said = said_of(steps, ["new", "many"], learned={"new": 0, "many": 3})
    assert "0 frames of new were learned and 3 of many" in said[0].text
    assert not any("Look at the labels" in one.text for one in said)


def test_an_unknown_answer_is_a_column_and_no_mistake_to_teach():
    page = Page(page_of([step("a", UNKNOWN, 0.97, rejected=True)], ["a"], rejected=1))
    assert "a, taken for unknown: 1" in page.text
    assert "Reported as unknown, which counts as wrong: 1 image." in page.text
    assert not any("taken for unknown" in one.text for one in said_of([step("a", UNKNOWN)], ["a"]))


@pytest.mark.parametrize(("refused", "told"), [(3, False), (8, True)])
def test_known_pictures_that_are_often_refused_are_told(refused, told):
    steps = [step("a", UNKNOWN, 0.97, i, rejected=True) for i in range(refused)]
    steps += [step("a", "a", 0.9, 100 + i) for i in range(40 - refused)]
    text = " ".join(one.text for one in said_of(steps, ["a"], rejected=refused))
    assert (f"{refused} of 40 pictures of known classes are refused as unknown" in text) == told
    assert ("No class is taken for another one here." in text) != told


def test_pictures_of_no_class_are_refused_as_they_should():
    steps = [step("foreign", UNKNOWN, 0.97, i, rejected=True) for i in range(50)]
    steps += [step("a", "a", 0.9, i) for i in range(40)]
    said = said_of(steps, ["a"], rejected=50)
    assert not any("pictures of known classes are refused" in one.text for one in said)


def luminance(colour):
    """WCAG 2.2, relative luminance of red, green and blue from 0 to 255."""
    linear = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (part / 255 for part in colour)
    ]
    return np.dot(linear, [0.2126, 0.7152, 0.0722])


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_text_has_contrast_in_both_colour_schemes():
    schemes = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
    assert len(schemes) == 2
    for scheme in schemes:
        colours = {
            name: [int(text[i : i + 2], 16) for i in (0, 2, 4)]
            for name, text in re.findall(r"--(\w+): #(\w{6})", scheme)
        }
        cell = np.array(list(map(int, re.search(r"--cell: (\d+) (\d+) (\d+)", scheme).groups())))
        darkest = 0.3 * cell + 0.7 * np.array(colours["ground"])
        for name in ("text", "dim", "accent", "wrong"):
            assert contrast(colours[name], colours["ground"]) >= 4.5
        assert contrast(colours["text"], darkest) >= 4.5


@pytest.fixture(scope="module")
def two_classes(tmp_path_factory):
    """A model, and images of which some stand in the wrong folder."""
    folder = tmp_path_factory.mktemp("report")
    data = write_images(folder / "data", count=40)
    assert learn(data, folder / "m", *SMALL).code == 0
    write_images(folder / "test", count=6, seed=9)
    (folder / "test" / "above" / "0.png").rename(folder / "test" / "left" / "wrong place.png")
    return folder


def test_the_command_writes_one_file(two_classes, tmp_path):
    out = tmp_path / "deep" / "report"
    words = (
        "--data",
        two_classes / "test",
        "--report",
        out,
        "--require",
        "above=0.9",
        "--reject",
        "0.1",
    )
    words += ("--json",)
    result = cfl_edge("evaluate", two_classes / "m", *words)
    assert result.code == 0, result.err
    assert [path.name for path in out.iterdir()] == ["report.html"]
    assert result.summary["report"] == str(out / "report.html")
    summary = cfl_edge("evaluate", two_classes / "m", *words).summary  # and once more over it
    assert summary["precision"].keys() == {"above", "left"}  # unknown is an answer, no class
    low, high = summary["accuracy_interval"]
    assert low <= summary["accuracy"] <= high
    assert summary["required"]["recall"] >= 0.9
    text = (out / "report.html").read_text()
    page = Page(text)
    assert f"{100 * summary['accuracy']:.1f} % right" in page.text
    assert "left/wrong place.png" in page.text
    for source in page.values("src"):
        Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).load()


def test_a_report_that_cannot_be_written(two_classes, tmp_path):
    (tmp_path / "file").write_text("mine")
    words = ("evaluate", two_classes / "m", "--data", two_classes / "test", "--report")
    result = cfl_edge(*words, tmp_path / "file")
    assert_error(result, 4, "--report", "is no folder, expected one or a new one")
    assert "try: --report report\n" in result.err
    assert (tmp_path / "file").read_text() == "mine"
    result = cfl_edge(*words, tmp_path / "file" / "deeper")
    assert_error(result, 4, "cannot be written")
    assert "accuracy " in result.out  # what was measured is not lost


def test_a_requirement_is_refused_before_the_work(two_classes):
    words = ("evaluate", two_classes / "m", "--data", two_classes / "test", "--require")
    assert_error(cfl_edge(*words, "bed=0.9"), 2, "--require", "no class 'bed'")
    assert_error(cfl_edge(*words, "above"), 2, "expected CLASS=RECALL")


def test_the_threshold_is_a_line_for_people(two_classes):
    words = ("--data", two_classes / "test", "--require", "left=1")
    result = cfl_edge("evaluate", two_classes / "m", *words)
    assert "threshold  stop what is left with" in result.out
