"""Colours, and a pen that draws on a transparent sprite."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

SPRITE_PX = 200
_DRAWN_PX = 2 * SPRITE_PX  # drawn twice as large, then averaged: smooth edges

Colour = tuple[int, int, int]
Point = tuple[float, float]


def any_colour(rng: np.random.Generator) -> Colour:
    """Draw a colour of any hue, from greyish to strong, from dark to light."""
    red, green, blue = colorsys.hsv_to_rgb(
        rng.uniform(), rng.uniform(0.1, 0.95), rng.uniform(0.35, 0.97)
    )
    return round(255 * red), round(255 * green), round(255 * blue)


def shade(colour: Colour, factor: float) -> Colour:
    """Darken (factor below 1) or lighten (above 1) a colour."""
    red, green, blue = (max(0, min(255, round(channel * factor))) for channel in colour)
    return red, green, blue


class Pen:
    """Draws on a transparent sprite in units of half its side.

    x goes to the right, y down, both from -1 to 1.
    """

    def __init__(self) -> None:
        self.image = Image.new("RGBA", (_DRAWN_PX, _DRAWN_PX))
        self._draw = ImageDraw.Draw(self.image)

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        """Fill a polygon."""
        self._draw.polygon([self._pixel(point) for point in points], fill=colour)

    def ellipse(self, centre: Point, radius: Point, colour: Colour, *, ring: float = 0.0) -> None:
        """Fill an ellipse, or with `ring` above 0 only a ring of that thickness."""
        (x, y), (across, down) = centre, radius
        box = [self._pixel((x - across, y - down)), self._pixel((x + across, y + down))]
        if ring > 0:
            self._draw.ellipse(box, outline=colour, width=round(ring * _DRAWN_PX / 2))
        else:
            self._draw.ellipse(box, fill=colour)

    def line(self, points: Sequence[Point], colour: Colour, thickness: float) -> None:
        """Draw a line through points."""
        width = max(1, round(thickness * _DRAWN_PX / 2))
        self._draw.line([self._pixel(point) for point in points], colour, width, joint="curve")

    @staticmethod
    def _pixel(point: Point) -> Point:
        return (point[0] + 1) * _DRAWN_PX / 2, (point[1] + 1) * _DRAWN_PX / 2
