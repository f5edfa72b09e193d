"""What part of a frame a model looks at, and how that part becomes a square.

Stored with the model and in its ONNX file as two texts, `fit` and `region`, so that learning,
evaluation and inference look at the same pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from cfl_edge.errors import DataError, UsageError

Fit = Literal["pad", "crop", "stretch"]
FITS: tuple[Fit, ...] = get_args(Fit)
FIT: Fit = "pad"  # nothing that the camera sees is left out; DECISIONS.md, "Whole frames"

WHOLE, MOTION = "whole", "motion"
EXPECTED = (
    "x,y,w,h in fractions of the frame or in pixels, corners 'x,y x,y x,y' of a polygon, "
    f"{MOTION} or {WHOLE}"
)
EXAMPLE = "0.25,0.25,0.5,0.5"
MOST_CORNERS = 100
MOST_PX = 1 << 16  # sensors end below it
DECIMALS = 6  # of a fraction: finer than a pixel of any frame
REDUCTIONS = (8, 4, 2)  # by which a JPEG can be shrunk while it is decoded

Point = tuple[float, float]
Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; the last two are not in it."""


@dataclass(frozen=True)
class Region:
    """A part of the frame.

    Args:
        kind: A rectangle, a polygon, or what moves.
        corners: Upper left and lower right of a rectangle; 3 or more of a polygon; none for what
            moves. In fractions of the frame, or in pixels.
        in_px: Whether they are in pixels.

    Example:
        >>> parse_region("0.5,0,0.5,1").box((640, 480))
        (320, 0, 640, 480)
    """

    kind: Literal["rectangle", "polygon", "motion"]
    corners: tuple[Point, ...] = ()
    in_px: bool = False

    @property
    def text(self) -> str:
        """The region as `parse_region` reads it."""
        if self.kind == "motion":
            return MOTION
        if self.kind == "polygon":
            return " ".join(f"{_number(x)},{_number(y)}" for x, y in self.corners)
        (left, top), (right, bottom) = self.corners
        return ",".join(map(_number, (left, top, right - left, bottom - top)))

    def fractions(self, full_px: tuple[int, int]) -> list[Point]:
        """Return the corners in fractions of a frame of this width and height.

        Raises:
            DataError: They are in pixels, and not all of them lie in the frame.
        """
        if not self.in_px:
            return list(self.corners)
        width, height = full_px
        if any(x > width or y > height for x, y in self.corners):
            raise DataError(
                f"The region {self.text} does not lie in a frame of {width} x {height} pixels",
                hint=f"{EXAMPLE}: fractions fit frames of every size",
            )
        return [(x / width, y / height) for x, y in self.corners]

    def box(self, image_px: tuple[int, int], full_px: tuple[int, int] | None = None) -> Box:
        """Return the smallest rectangle around it in an image.

        Args:
            image_px: Width and height of the image.
            full_px: Those of the frame, where it was shrunk while it was decoded.

        Raises:
            DataError: As `fractions`.
        """
        corners = self.fractions(full_px or image_px)
        sides = []
        for values, length in zip(zip(*corners, strict=True), image_px, strict=True):
            low = min(round(min(values) * length), length - 1)
            sides.append((low, max(low + 1, min(round(max(values) * length), length))))
        (left, right), (top, bottom) = sides
        return left, top, right, bottom


@dataclass(frozen=True)
class View:
    """What a model looks at.

    Args:
        fit: How what is not square becomes so: `pad` with grey, `crop` to the central square, or
            `stretch`.
        region: The part of the frame; None for all of it.

    Example:
        >>> View.parse("crop", "0,0,640,360").texts()
        ('crop', '0,0,640,360')
    """

    fit: Fit = FIT
    region: Region | None = None

    @classmethod
    def parse(cls, fit: str, region: str | None) -> View:
        """Return the view of two texts.

        Raises:
            UsageError: One of them is none.
        """
        if fit not in FITS:
            raise UsageError(
                f"--fit is {fit!r}, expected one of {', '.join(FITS)}", hint=f"--fit {FIT}"
            )
        return cls(fit, parse_region(region))

    def texts(self) -> tuple[str, str]:
        """Return `fit` and `region` as text."""
        return self.fit, self.region.text if self.region else WHOLE

    def describe(self) -> str:
        """Return the view in words, such as "the region 0,0,0.5,1 of the frame, padded"."""
        how = {"pad": "padded to a square", "crop": "its central square", "stretch": "stretched"}
        what = "the whole frame"
        if self.region is not None:
            moves = self.region.kind == "motion"
            what = "what moves" if moves else f"the region {self.region.text} of the frame"
        return f"{what}, {how[self.fit]}"

    def reduction(self, size_px: int, full_px: tuple[int, int]) -> int:
        """Return by how much a frame may be shrunk while it is decoded: 1, 2, 4 or 8.

        What the model looks at keeps at least the model's own resolution.

        Args:
            size_px: Side of the model's input.
            full_px: Width and height of the frame.
        """
        if self.region is not None and self.region.kind == "motion":
            return 1  # what moves may be small
        left, top, right, bottom = (0, 0, *full_px)
        if self.region is not None:
            try:
                left, top, right, bottom = self.region.box(full_px)
            except DataError:  # who cuts says so
                return 1
        sides = right - left, bottom - top
        least = max(sides) if self.fit == "pad" else min(sides)
        return next((by for by in REDUCTIONS if least // by >= size_px), 1)


WHOLE_FRAME = View()

Reduce = Callable[[tuple[int, int]], int]
"""Says of a frame's width and height by how much it may be shrunk while it is decoded, see
`View.reduction`."""


def keep_whole(full_px: tuple[int, int]) -> int:
    """Return 1: nothing is shrunk."""
    return 1


def parse_region(text: str | None, source: str = "--region") -> Region | None:
    """Return the region that a text describes; None for the whole frame.

    Args:
        text: See `EXPECTED`. Numbers that are all at most 1 are fractions of the frame, others are
            pixels. None is the whole frame.
        source: What errors call it: the option, or the key of a file or of a request.

    Raises:
        UsageError: It is none, or has no area.

    Example:
        >>> parse_region("0.1,0.1 0.9,0.1 0.5,0.9").kind
        'polygon'
        >>> parse_region("0,0,1,1") is None
        True
        >>> parse_region("10,20")
        Traceback (most recent call last):
        cfl_edge.errors.UsageError: --region is '10,20', expected x,y,w,h in fractions of the...
          try: --region 0.25,0.25,0.5,0.5
    """
    if text is None or text.strip() == WHOLE:
        return None
    if text.strip() == MOTION:
        return Region("motion")
    try:
        groups = [tuple(map(float, group.split(","))) for group in text.split()]
    except ValueError:
        raise _wrong(source, text, EXPECTED) from None
    values = [value for group in groups for value in group]
    if not all(math.isfinite(value) and 0 <= value <= MOST_PX for value in values):
        raise _wrong(source, text, f"numbers from 0 to {MOST_PX}")
    in_px = any(value > 1 for value in values)
    if in_px and not all(value == int(value) for value in values):
        raise _wrong(
            source, text, "fractions, which are at most 1, or pixels, which are whole numbers"
        )
    if len(groups) == 1 and len(groups[0]) == 4:
        left, top, width, height = groups[0]
        kind: Literal["rectangle", "polygon"] = "rectangle"
        corners = [(left, top), (left + width, top + height)]
    elif 3 <= len(groups) <= MOST_CORNERS and {len(group) for group in groups} == {2}:
        kind, corners = "polygon", [(group[0], group[1]) for group in groups]
    else:
        raise _wrong(source, text, EXPECTED)
    corners = [(round(x, DECIMALS), round(y, DECIMALS)) for x, y in corners]
    if not in_px and max(value for corner in corners for value in corner) > 1:
        raise _wrong(source, text, "a part of the frame: x + w and y + h at most 1")
    if _area(corners) == 0:
        raise _wrong(source, text, "a region with an area")
    if corners == [(0, 0), (1, 1)]:
        return None
    return Region(kind, tuple(corners), in_px)


def _wrong(source: str, text: str, expected: str) -> UsageError:
    shown = text if len(text) <= 100 else f"{text[:100]}…"
    hint = f"{source}{' ' if source.startswith('-') else ' = '}{EXAMPLE}"
    return UsageError(f"{source} is {shown!r}, expected {expected}", hint=hint)


def _area(corners: list[Point]) -> float:
    """Return the area: of a rectangle by two corners, of a polygon by the shoelace formula."""
    if len(corners) == 2:
        (left, top), (right, bottom) = corners
        return (right - left) * (bottom - top)
    after = [*corners[1:], corners[0]]
    doubled = sum(x * b - a * y for (x, y), (a, b) in zip(corners, after, strict=True))
    return abs(doubled) / 2


def _number(value: float) -> str:
    return f"{round(value, DECIMALS):.{DECIMALS}f}".rstrip("0").rstrip(".")
