"""The five things that `demo:` shows, each time with other proportions and colours.

Colours come from one palette for all classes, so colour alone tells nothing about the class.
"""

from __future__ import annotations

import colorsys
import itertools
from collections.abc import Callable, Sequence
from typing import final

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SPRITE_PX = 200
_DRAWN_PX = 2 * SPRITE_PX  # drawn twice as large, then averaged: smooth edges

Colour = tuple[int, int, int]
Point = tuple[float, float]


def any_colour(rng: np.random.Generator) -> Colour:
    """Choose a colour of any hue, from greyish to strong, from dark to light."""
    red, green, blue = colorsys.hsv_to_rgb(
        rng.uniform(), rng.uniform(0.1, 0.95), rng.uniform(0.35, 0.97)
    )
    return round(255 * red), round(255 * green), round(255 * blue)


def shade(colour: Colour, factor: float) -> Colour:
    """Darken (factor below 1) or lighten (above 1) a colour."""
    red, green, blue = (min(255, round(channel * factor)) for channel in colour)
    return red, green, blue


@final
class Pen:
    """Draws on a transparent sprite: x to the right, y down, both from -1 to 1.

    Args:
        stretch: Factors of x and y, at most 1.
    """

    def __init__(self, stretch: Point = (1.0, 1.0)) -> None:
        self.image = Image.new("RGBA", (_DRAWN_PX, _DRAWN_PX))
        self._draw, self._stretch = ImageDraw.Draw(self.image), stretch

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        """Fill a polygon."""
        self._draw.polygon(self._pixels(points), fill=colour)

    def line(self, points: Sequence[Point], colour: Colour, width: float) -> None:
        """Draw a line through points."""
        self._draw.line(self._pixels(points), colour, round(width * SPRITE_PX), joint="curve")

    def disc(self, centre: Point, radius: Point | float, colour: Colour) -> None:
        """Fill an ellipse, or a circle where only one radius is given."""
        self._draw.ellipse(self._box(centre, radius), fill=colour)

    def ring(self, centre: Point, radius: Point, colour: Colour, width: float) -> None:
        """Draw the edge of an ellipse, `width` thick to its inside."""
        self._draw.ellipse(
            self._box(centre, radius), outline=colour, width=round(width * SPRITE_PX)
        )

    def _box(self, centre: Point, radius: Point | float) -> list[Point]:
        (x, y), (across, down) = centre, np.broadcast_to(radius, 2)
        return self._pixels([(x - across, y - down), (x + across, y + down)])

    def _pixels(self, points: Sequence[Point]) -> list[Point]:
        wide, high = self._stretch
        return [((x * wide + 1) * SPRITE_PX, (y * high + 1) * SPRITE_PX) for x, y in points]


def draw_mug(pen: Pen, rng: np.random.Generator) -> None:
    """Draw a mug from a little above: a shaded cylinder with a handle and something to drink."""
    colour, drink = any_colour(rng), shade(any_colour(rng), 0.5)
    left, half, flat = -0.15, 0.5, rng.uniform(0.12, 0.22)
    top, bottom = -0.6, rng.uniform(0.4, 0.65)
    pen.ring((0.32, (top + bottom) / 2), (0.36, 0.4), shade(colour, 0.8), 0.13)
    for a, b in itertools.pairwise(np.linspace(-1, 1, 25).tolist()):  # strips around the cylinder
        edges = [(left + half * x, flat * (1 - x * x) ** 0.5) for x in (a, b)]
        upper, lower = ([(x, y + sag) for x, sag in edges] for y in (top, bottom))
        pen.polygon(upper + lower[::-1], shade(colour, 0.6 + 0.55 * np.cos(1.4 * (a + 0.35))))
    pen.disc((left, top), (half, flat), shade(colour, 1.25))
    pen.disc((left, top + 0.02), (half - 0.06, flat - 0.04), shade(colour, 0.45))
    pen.disc((left, top + 0.05), (half - 0.1, flat - 0.07), drink)


def draw_scissors(pen: Pen, rng: np.random.Generator) -> None:
    """Draw scissors: two blades that cross at a screw, two rings for the fingers."""
    handle, metal = any_colour(rng), shade((205, 210, 218), rng.uniform(0.6, 1.15))
    opening = rng.uniform(0.12, 0.3)
    for side in (-1, 1):
        along = np.array([side * np.sin(opening), -np.cos(opening)])
        across = np.array([np.cos(opening), side * np.sin(opening)]) * side

        def at(forward: float, out: float, x: np.ndarray = along, y: np.ndarray = across) -> Point:
            right, down = (forward * x + out * y).tolist()
            return right, down

        tone = shade(metal, 0.9 + 0.1 * side)
        pen.polygon([at(-0.12, -0.08), at(0.88, 0.02), at(0.86, -0.02), at(0.05, 0.1)], tone)
        pen.polygon([at(-0.05, 0.075), at(0.88, 0.02), at(0, 0)], shade(tone, 0.75))
        pen.line([at(0, 0), at(-0.2, -0.02), at(-0.48, -0.1)], handle, 0.14)
        pen.ring(at(-0.68, -0.12), (0.23, 0.27), shade(handle, 0.9 + 0.1 * side), 0.09)
    pen.disc((0, 0), 0.055, shade(metal, 0.55))


def draw_car(pen: Pen, rng: np.random.Generator) -> None:
    """Draw a toy car from the side: body, cabin with windows, two wheels, lights."""
    colour, hub = any_colour(rng), any_colour(rng)
    glass = shade((150, 190, 215), rng.uniform(0.5, 1.1))
    roof, waist, sill = rng.uniform(-0.45, -0.32), 0.0, 0.34
    rear, front = rng.uniform(-0.75, -0.5), rng.uniform(0.3, 0.5)  # where the cabin ends
    middle, slope = (rear + front) / 2, rng.uniform(0.1, 0.25)
    cabin = [(rear, waist), (rear + slope / 2, roof), (front - slope, roof), (front, waist)]
    pen.polygon(cabin, shade(colour, 1.1))
    windows = np.array(cabin) * (1, 0.8) + (0, -0.02)
    pen.polygon([(x * 0.9 + middle * 0.1, y) for x, y in windows.tolist()], glass)
    pen.line([(middle, roof), (middle, waist)], shade(colour, 1.1), 0.07)
    nose = rng.uniform(0.04, 0.12)
    body = [(-0.95, 0.06), (-0.88, waist), (front, waist), (0.88, nose), (0.95, sill)]
    pen.polygon([*body, (-0.95, sill)], colour)
    pen.polygon([(-0.95, sill - 0.1), (0.95, sill - 0.1), (0.9, sill), (-0.92, sill)], (60, 60, 64))
    pen.line([(middle, waist), (middle, sill - 0.1)], shade(colour, 0.6), 0.015)
    pen.line([(middle - 0.16, 0.08), (middle - 0.06, 0.08)], shade(colour, 0.45), 0.03)
    pen.disc((0.88, nose + 0.08), (0.055, 0.05), (250, 240, 190))
    pen.disc((-0.91, 0.12), (0.035, 0.05), (190, 40, 35))
    for x in (-0.56, 0.55):
        for radius, tone in ((0.26, shade(colour, 0.35)), (0.22, (32, 32, 35)), (0.12, hub)):
            pen.disc((x, sill), radius, tone)


def draw_leaf(pen: Pen, rng: np.random.Generator) -> None:
    """Draw a leaf: pointed outline with a toothed edge, a stalk, a midrib and side veins."""
    colour = any_colour(rng)
    vein = shade(colour, 1.45 if sum(colour) < 420 else 0.7)
    bend, teeth, depth = rng.uniform(-0.25, 0.25), int(rng.integers(7, 14)), rng.uniform(0.04, 0.18)
    along = np.linspace(0, 1, 8 * teeth + 1)
    width = rng.uniform(0.36, 0.52) * np.sin(np.pi * along ** rng.uniform(0.6, 0.95)) ** 0.8
    width *= 1 - depth * ((along * teeth) % 1)
    spine, y = bend * np.sin(np.pi * along), 0.6 - 1.5 * along
    left, rib, right = (
        list(zip((spine + side * width).tolist(), y.tolist(), strict=True)) for side in (-1, 0, 1)
    )
    pen.line([(bend * -0.4, 0.95), rib[0]], shade(vein, 0.8), 0.05)
    pen.polygon(left + right[::-1], colour)
    pen.polygon(left + rib[::-1], shade(colour, 0.82))
    for root in range(teeth, 6 * teeth, teeth):  # the side veins lean towards the tip
        for edge in (left, right):
            pen.line([rib[root], edge[root + teeth]], vein, 0.018)
    pen.line(rib, vein, 0.035)


def draw_clock(pen: Pen, rng: np.random.Generator) -> None:
    """Draw an alarm clock: a round dial with twelve marks and two hands, feet and two bells."""
    colour, bell, ink = any_colour(rng), any_colour(rng), shade(any_colour(rng), 0.3)
    dial = shade((240, 238, 228), rng.uniform(0.7, 1))
    y, radius = 0.12, rng.uniform(0.6, 0.66)
    face = radius - rng.uniform(0.1, 0.17)
    for side in (-0.42, 0.42):
        pen.line([(0.7 * side, y + 0.4), (1.2 * side, y + radius + 0.15)], shade(colour, 0.6), 0.1)
        pen.disc((side, y - radius - 0.04), (0.25, 0.2), shade(bell, 1 + 0.2 * side))
    pen.disc((0, y), radius, colour)
    pen.disc((0, y), face + 0.03, shade(colour, 0.55))
    pen.disc((0, y), face, dial)
    hands = [(rng.uniform(0, 12), -0.1, end, 0.055) for end in (0.5, 0.78)]
    marks = [(hour, 0.74 if hour % 3 == 0 else 0.82, 0.94, 0.04) for hour in range(12)]
    for hour, *reach, width in hands + marks:
        x, down = np.sin(hour * np.pi / 6), -np.cos(hour * np.pi / 6)
        pen.line([(face * x * part, y + face * down * part) for part in reach], ink, width)
    pen.disc((0, y), 0.05, shade(colour, 0.8))


OBJECTS: dict[str, Callable[[Pen, np.random.Generator], None]] = {
    "mug": draw_mug,
    "scissors": draw_scissors,
    "car": draw_car,
    "leaf": draw_leaf,
    "clock": draw_clock,
}


def draw_object(name: str, rng: np.random.Generator) -> Image.Image:
    """Draw one thing of a class, with edges that look raised and a little grain.

    Args:
        name: A key of `OBJECTS`.
        rng: Chooses proportions, colours and the direction of the light.

    Returns:
        RGBA sprite of `SPRITE_PX` a side, transparent around the thing.

    Example:
        >>> draw_object("mug", np.random.default_rng(0)).size
        (200, 200)
    """
    pen = Pen((rng.uniform(0.85, 1), rng.uniform(0.85, 1)))
    OBJECTS[name](pen, rng)
    sprite = pen.image.reduce(2)
    alpha = sprite.getchannel("A")
    height = np.asarray(alpha.filter(ImageFilter.BoxBlur(6)), np.float32) / 255
    shift = tuple(int(step) for step in rng.integers(-2, 3, 2))
    relief = 1 + 1.2 * (np.roll(height, shift, axis=(0, 1)) - height)  # lit from one side
    relief += 0.05 * rng.standard_normal(relief.shape, dtype=np.float32)
    colour = np.asarray(sprite.convert("RGB")) * np.clip(relief, 0.5, 1.5)[..., None]
    shaded = Image.fromarray(np.minimum(colour, 255, out=colour).astype(np.uint8))
    shaded.putalpha(alpha)
    return shaded
