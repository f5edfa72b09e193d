"""The picture of what a model looks at: `cfl-edge look`, and `view.jpg` of a model folder."""

import errno

import numpy as np
import pytest
from command_line import SMALL, assert_error, cfl_edge
from PIL import Image

from cfl_edge import Frame
from cfl_edge.frame.region import View
from cfl_edge.loop.gaze import Gaze
from cfl_edge.loop.look import GAP_PX, LONG_PX, OUTLINE, SQUARE_PX, view_picture
from cfl_edge.model import replacing

WHITE = np.full((360, 640, 3), 240, np.uint8)


def drawn(tmp_path, view, **more):
    (tmp_path / "view.jpg").write_bytes(view_picture(Frame(WHITE, 0.0, 0, **more), 96, view))
    return np.asarray(Image.open(tmp_path / "view.jpg")).astype(int)


def is_outline(pixels):
    return (np.abs(pixels - np.array(OUTLINE)).sum(axis=-1) < 120).mean()


@pytest.mark.parametrize(
    ("fit", "region", "box"),
    [
        ("pad", "whole", (0, 0, 640, 360)),
        ("crop", "whole", (140, 0, 500, 360)),
        ("pad", "160,90,320,180", (160, 90, 480, 270)),
        ("pad", "0.25,0.25 0.75,0.25 0.75,0.75 0.25,0.75", (160, 90, 480, 270)),
        ("crop", "0,0,0.5,0.25", (115, 0, 205, 90)),
    ],
)
def test_what_is_looked_at_is_outlined_and_the_rest_is_greyed_out(tmp_path, fit, region, box):
    picture = drawn(tmp_path, View.parse(fit, region))
    left, top, right, bottom = box
    assert (picture[top + 9 : bottom - 9, left + 9 : right - 9] > 225).all()
    outside = np.ones((360, 640), bool)
    outside[max(0, top - 9) : bottom + 9, max(0, left - 9) : right + 9] = False
    assert (picture[:360, :640][outside] < 215).all()
    middle = (top + bottom) // 2
    assert is_outline(picture[middle, max(0, left - 2) : left + 4]) > 0


def test_the_square_of_the_model_stands_beside(tmp_path):
    picture = drawn(tmp_path, View())
    assert picture.shape[1] == 640 + SQUARE_PX + 2 * GAP_PX
    square = picture[GAP_PX : GAP_PX + SQUARE_PX, 640 + GAP_PX : 640 + GAP_PX + SQUARE_PX]
    assert np.abs(square[:40] - np.array([124, 116, 104])).max() < 25  # the padding
    assert (square[144] > 225).all()


def test_a_large_frame_becomes_a_picture_to_look_at():
    data = view_picture(Frame(np.zeros((3000, 4000, 3), np.uint8), 0.0, 0), 96, View())
    assert len(data) < 100_000
    assert LONG_PX == 960


def test_look_writes_the_first_frame(tmp_path):
    out = tmp_path / "view.jpg"
    asked = ("--region", "0.5,0.25,0.25,0.5", "-o", out, "--json")
    summary = cfl_edge("look", "--stream", "demo:", *asked).summary
    assert (summary["region"], summary["fit"], summary["out"]) == (
        "0.5,0.25,0.25,0.5",
        "pad",
        str(out),
    )
    with Image.open(out) as picture:
        assert picture.format == "JPEG"


@pytest.mark.parametrize(
    ("name", "kind"), [("a.png", "PNG"), ("b.JPEG", "JPEG"), ("c.jpg", "JPEG")]
)
def test_the_ending_says_what_kind_of_picture_it_is(name, kind, tmp_path):
    assert cfl_edge("look", "--stream", "demo:", "-o", tmp_path / name).code == 0
    with Image.open(tmp_path / name) as picture:
        assert picture.format == kind


@pytest.mark.parametrize("name", ["a.gif", "a.jpg.bak", "a", ".png"])
def test_a_picture_of_another_kind_is_refused_before_a_camera_is_opened(name, tmp_path):
    result = cfl_edge("look", "--stream", "/dev/video99", "-o", tmp_path / name)
    assert_error(result, 2, "expected a name that ends in .jpg, .jpeg, .png")
    assert list(tmp_path.iterdir()) == []


def test_look_takes_the_view_of_a_model(tmp_path, scenes_model):
    summary = cfl_edge(
        "look", "--stream", "demo:", "--model", scenes_model, "-o", tmp_path / "a.jpg", "--json"
    ).summary
    assert (summary["region"], summary["fit"]) == ("0.25,0.25,0.5,0.5", "stretch")
    result = cfl_edge("look", "--stream", "demo:", "--model", tmp_path, "-o", tmp_path / "b.jpg")
    assert_error(result, 4, "holds no model")
    assert not (tmp_path / "b.jpg").exists()


@pytest.fixture(scope="module")
def scenes_model(tmp_path_factory):
    model = tmp_path_factory.mktemp("look") / "model"
    view = ("--region", "0.25,0.25,0.5,0.5", "--fit", "stretch")
    asked = ("--max-frames", "6", "--model", model, "--no-export", *view, *SMALL)
    assert cfl_edge("learn", "--stream", "demo:", *asked).code == 0
    return model


def test_learn_draws_what_it_looks_at(scenes_model):
    with Image.open(scenes_model / "view.jpg") as picture:
        assert picture.format == "JPEG"


def test_a_folder_with_nothing_but_the_picture_is_a_new_model(tmp_path):
    """The first start was killed before its first checkpoint."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "view.jpg").write_bytes(b"")
    asked = ("--max-frames", "3", "--model", model, "--no-export", *SMALL)
    assert cfl_edge("learn", "--stream", "demo:", *asked).code == 0


def test_a_picture_that_cannot_be_written_costs_learning_nothing(tmp_path):
    model = tmp_path / "model"
    (model / "view.jpg").mkdir(parents=True)
    asked = ("--max-frames", "6", "--model", model, "--no-export", "--json", *SMALL)
    result = cfl_edge("learn", "--stream", "demo:", *asked)
    assert result.summary["learned"] == 6
    assert [text for text in result.notices if text.startswith("view.jpg, which shows")]


def test_look_says_why_it_cannot_write(tmp_path, monkeypatch):
    (tmp_path / "taken").write_text("")
    result = cfl_edge("look", "--stream", "demo:", "-o", tmp_path / "taken" / "view.jpg")
    assert_error(result, 4, "taken cannot be written")
    assert_error(cfl_edge("look", "--stream", "demo:", "-o", "/dev/null"), 2, "-o is /dev/null")
    (tmp_path / "view.jpg").write_text("old")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(replacing, "write_file", full)
    result = cfl_edge("look", "--stream", "demo:", "-o", tmp_path / "view.jpg")
    assert_error(result, 4, "the disk is full")
    assert (tmp_path / "view.jpg").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["taken", "view.jpg"]


def test_look_at_nothing(tmp_path):
    result = cfl_edge("look", "--stream", tmp_path, "-o", tmp_path / "view.jpg")
    assert result.code == 3
    assert_error(cfl_edge("look", "--stream", "demo:", "--region", "9"), 2, "--region is '9'")


def test_a_small_region_is_said_once(notices):
    gaze = Gaze(notices.append, lambda: (View.parse("pad", "0,0,40,60"), 96))
    for _ in range(3):
        gaze(Frame(WHITE, 0.0, 0))
    (said,) = notices
    assert "the region 0,0,40,60 of the frame has 40 x 60 pixels, fewer than 48" in said


@pytest.mark.parametrize("region", ["whole", "motion", "0,0,48,48"])
def test_other_regions_are_not(notices, region):
    gaze = Gaze(notices.append, lambda: (View.parse("pad", region), 96))
    gaze(Frame(WHITE[:32, :32] if region == "whole" else WHITE, 0.0, 0))
    assert not notices


def test_pixels_before_a_frame_was_shrunk_count(notices):
    gaze = Gaze(notices.append, lambda: (View.parse("pad", "0,0,100,100"), 32))
    gaze(Frame(WHITE[::4, ::4], 0.0, 0, full_px=(640, 360)))
    assert not notices


def test_look_makes_no_folder(tmp_path):
    out = tmp_path / "typo" / "view.jpg"
    result = cfl_edge("look", "--stream", "demo:", "-o", out)
    assert_error(result, 2, f"-o is {out}, expected a name in a folder that exists")
    assert f"try: mkdir -p {out.parent}" in result.err
    assert not out.parent.exists()
    few = cfl_edge("look", "--stream", "demo:", "-o", tmp_path / "v.jpg", "--region", "0,0,40,40")
    assert "fewer than 48 a side" in few.err
