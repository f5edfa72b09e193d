"""What a model looks at: regions, their texts, and their errors."""

import numpy as np
import pytest

from cfl_edge.errors import UsageError
from cfl_edge.frame.region import FITS, Region, View, parse_region


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("0.25,0.5,0.5,0.5", (160, 240, 480, 480)),
        ("10,20,30,40", (10, 20, 40, 60)),
        ("0.5,0 1,0 1,0.5", (320, 0, 640, 240)),
        ("10,20 30,20 30,60", (10, 20, 30, 60)),
        (" 0,0,640,480 ", (0, 0, 640, 480)),
    ],
)
def test_a_text_is_a_part_of_the_frame(text, box):
    region = parse_region(text)
    assert region is not None
    assert region.box((640, 480)) == box
    assert parse_region(region.text) == region


def test_what_is_written_is_read_again():
    for x, y, share_x, share_y in np.random.default_rng(0).uniform(0, 1, (500, 4)):
        width, height = (1 - x) * share_x, (1 - y) * share_y
        region = parse_region(f"{x},{y},{width},{height}")
        assert region is not None
        assert parse_region(region.text) == region
        left, top, right, bottom = region.box((640, 480))
        assert abs(left - x * 640) <= 1
        assert abs(bottom - (y + height) * 480) < 1.5  # at least one pixel
        assert 0 <= left < right <= 640
        assert 0 <= top < bottom <= 480


@pytest.mark.parametrize("text", ["whole", "0,0,1,1", None])
def test_the_whole_frame(text):
    assert parse_region(text) is None
    assert View.parse("pad", text).texts() == ("pad", "whole")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "x,y,w,h in fractions"),
        ("left", "x,y,w,h in fractions"),
        ("0.1,0.2,0.3", "x,y,w,h in fractions"),
        ("0.1,0.2 0.3,0.4", "x,y,w,h in fractions"),
        ("0.1,0.2 0.3,0.4 0.5", "x,y,w,h in fractions"),
        ("1,2,3,4,5,6,7,8", "x,y,w,h in fractions"),
        ("-0.1,0,0.5,0.5", "numbers from 0 to"),
        ("0,0,nan,1", "numbers from 0 to"),
        ("0,0,inf,1", "numbers from 0 to"),
        ("0,0,99999,10", "numbers from 0 to"),
        ("0.5,0,200,200", "fractions, which are at most 1, or pixels"),
        ("0.6,0,0.5,1", "at most 1"),
        ("0.5,0.5,0,0.5", "an area"),
        ("10,10,0,5", "an area"),
        ("0,0 0.5,0.5 1,1", "an area"),
        (" ".join(["0.1,0.1", "0.2,0.1", "0.2,0.2"] * 40), "x,y,w,h in fractions"),
        ("9" * 5000, "numbers from 0 to"),
    ],
)
def test_what_is_no_region_is_refused_in_one_sentence(text, words):
    with pytest.raises(UsageError) as error:
        parse_region(text)
    assert words in error.value.problem
    assert len(error.value.problem) < 400
    assert error.value.hint == "--region 0.25,0.25,0.5,0.5"


def test_an_unknown_fit_is_refused():
    with pytest.raises(UsageError, match="--fit is 'zoom', expected one of pad, crop, stretch"):
        View.parse("zoom", None)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("text", ["whole", "100,50,400,400", "0.5,0.5,0.4,0.5", "0,0 1,0 0,0.5"])
@pytest.mark.parametrize("full_px", [(640, 480), (4000, 3000), (900, 3000)])
def test_a_frame_is_shrunk_only_as_far_as_the_model_can_still_see_all(full_px, text, fit):
    view = View.parse(fit, text)
    by = view.reduction(96, full_px)
    assert by in (1, 2, 4, 8)
    left, top, right, bottom = (0, 0, *full_px) if view.region is None else view.region.box(full_px)
    sides = (right - left) // by, (bottom - top) // by
    assert by == 1 or (max(sides) if fit == "pad" else min(sides)) >= 96
    if by < 8:  # the next step would be too far
        assert (max(sides) if fit == "pad" else min(sides)) < 2 * 96 + 2


def test_a_region_outside_of_the_frame_is_left_to_who_cuts():
    assert View.parse("pad", "5000,0,400,400").reduction(96, (4000, 3000)) == 1


def test_a_region_in_fractions_is_the_same_part_of_every_frame():
    region = Region("rectangle", ((0.25, 0.25), (0.75, 0.75)))
    assert region.box((640, 480)) == (160, 120, 480, 360)
    assert region.box((1280, 960)) == (320, 240, 960, 720)
