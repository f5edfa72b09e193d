"""The five things that `demo:` shows, each drawn anew with other proportions and colours.

Coordinates are in units of half the sprite (see `Pen`). Colours come from one palette for all
classes, so colour alone tells nothing about the class.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from cfl_edge.stream.demo.pen import Pen, Point, any_colour, shade


def draw_mug(pen: Pen, rng: np.random.Generator) -> None:
    """Draw a mug from a little above: a shaded cylinder with a handle and something to drink."""
    colour, band, drink = any_colour(rng), any_colour(rng), shade(any_colour(rng), 0.5)
    top, bottom = 0.50, 0.50 * rng.uniform(0.75, 1.0)  # half widths
    height, flat, left = rng.uniform(0.5, 0.68), rng.uniform(0.14, 0.24), -0.15
    reach = rng.uniform(0.28, 0.36)
    pen.ellipse((left + 0.47, 0.06), (reach, 0.62 * height), shade(colour, 0.8), ring=0.12)
    has_band, band_from, band_to = rng.uniform() < 0.6, rng.uniform(0.2, 0.5), rng.uniform(0.6, 0.9)
    edges = np.linspace(-1, 1, 41)
    for a, b in itertools.pairwise(edges):  # strips around the cylinder
        light = 0.55 + 0.6 * float(np.cos(1.4 * ((a + b) / 2 + 0.35)))
        sag_a, sag_b = flat * (1 - a * a) ** 0.5, flat * (1 - b * b) ** 0.5

        def strip(
            start: float,
            end: float,
            a: float = a,
            b: float = b,
            sag_a: float = sag_a,
            sag_b: float = sag_b,
        ) -> list[Point]:
            wide, narrow = (top + (bottom - top) * part for part in (start, end))
            y_start, y_end = (-height + 2 * height * part for part in (start, end))
            return [
                (left + a * wide, y_start + sag_a),
                (left + b * wide, y_start + sag_b),
                (left + b * narrow, y_end + sag_b),
                (left + a * narrow, y_end + sag_a),
            ]

        pen.polygon(strip(0, 1), shade(colour, light))
        if has_band:
            pen.polygon(strip(band_from, band_to), shade(band, light))
    pen.ellipse((left, -height), (top, flat), shade(colour, 1.25))
    pen.ellipse((left, -height + 0.01), (top - 0.05, flat - 0.035), shade(colour, 0.45))
    pen.ellipse((left, -height + 0.05), (top - 0.09, flat - 0.065), drink)


def draw_scissors(pen: Pen, rng: np.random.Generator) -> None:
    """Draw scissors: two blades that cross at a screw, two rings for the fingers."""
    handle, metal = any_colour(rng), shade((205, 210, 218), rng.uniform(0.6, 1.15))
    opening = rng.uniform(0.16, 0.5)
    blade, arm, ring = rng.uniform(0.75, 0.9), rng.uniform(0.42, 0.5), rng.uniform(0.2, 0.25)
    for side in (-1, 1):
        angle = side * opening / 2
        along = np.array([np.sin(angle), -np.cos(angle)])
        across = np.array([np.cos(angle), np.sin(angle)]) * side

        def at(
            forward: float, sideways: float, along: np.ndarray = along, across: np.ndarray = across
        ) -> Point:
            x, y = forward * along + sideways * across
            return float(x), float(y)

        tone = shade(metal, 1.0 if side > 0 else 0.8)
        pen.polygon([at(-0.12, -0.08), at(blade, 0.02), at(blade, -0.02), at(0.05, 0.1)], tone)
        pen.polygon([at(-0.05, 0.075), at(blade, 0.02), at(0.0, 0.0)], shade(tone, 0.75))
        ring_at = at(-arm - ring, -0.12)
        pen.line([at(0.02, 0.0), at(-0.2, -0.02), at(-arm, -0.1)], handle, 0.14)
        pen.ellipse(ring_at, (ring, ring * 1.25), shade(handle, 0.9 + 0.1 * side), ring=0.09)
    pen.ellipse((0, 0), (0.055, 0.055), shade(metal, 0.55))
    pen.ellipse((-0.01, -0.01), (0.03, 0.03), shade(metal, 1.1))


def draw_car(pen: Pen, rng: np.random.Generator) -> None:
    """Draw a toy car from the side: body, cabin with windows, two wheels, lights."""
    colour, hub = any_colour(rng), any_colour(rng)
    glass = shade((150, 190, 215), rng.uniform(0.5, 1.1))
    sill, waist = 0.32, rng.uniform(-0.08, 0.04)
    roof = waist - rng.uniform(0.3, 0.42)
    front, rear = rng.uniform(0.28, 0.5), rng.uniform(-0.75, -0.45)  # where the cabin ends
    slope_front, slope_rear = rng.uniform(0.16, 0.3), rng.uniform(0.04, 0.25)
    pen.polygon(
        [
            (rear - 0.06, waist + 0.02),
            (rear + slope_rear, roof),
            (front - slope_front, roof),
            (front + 0.06, waist + 0.02),
        ],
        shade(colour, 1.1),
    )
    middle = (rear + front) / 2
    for a, b, lean_a, lean_b in (
        (rear + 0.06, middle - 0.03, slope_rear, 0.0),
        (middle + 0.03, front - 0.04, 0.0, -slope_front),
    ):
        pen.polygon(
            [
                (a, waist),
                (a + lean_a * 0.9, roof + 0.07),
                (b + lean_b * 0.9, roof + 0.07),
                (b, waist),
            ],
            glass,
        )
        pen.line(
            [(a + 0.06, waist - 0.03), (a + 0.06 + 0.12, roof + 0.12)], shade(glass, 1.3), 0.03
        )
    nose = waist + rng.uniform(0.04, 0.12)
    pen.polygon(
        [
            (-0.93, waist + 0.06),
            (-0.88, waist),
            (front, waist),
            (0.88, nose),
            (0.95, nose + 0.1),
            (0.95, sill - 0.03),
            (0.9, sill),
            (-0.92, sill),
            (-0.95, sill - 0.05),
        ],
        colour,
    )
    pen.polygon(
        [(-0.95, sill - 0.1), (0.95, sill - 0.1), (0.9, sill), (-0.92, sill)], shade(colour, 0.6)
    )
    pen.line([(middle, waist), (middle, sill - 0.1)], shade(colour, 0.6), 0.015)
    pen.line(
        [(middle - 0.16, waist + 0.08), (middle - 0.06, waist + 0.08)], shade(colour, 0.45), 0.03
    )
    pen.ellipse((0.89, nose + 0.1), (0.055, 0.05), (250, 240, 190))
    pen.ellipse((-0.91, waist + 0.12), (0.035, 0.05), (190, 40, 35))
    wheel = rng.uniform(0.19, 0.24)
    for x in (-0.56, 0.55):
        pen.ellipse((x, sill), (wheel + 0.04, wheel + 0.04), shade(colour, 0.35))
        pen.ellipse((x, sill + 0.02), (wheel, wheel), (32, 32, 35))
        pen.ellipse((x, sill + 0.02), (wheel * 0.55, wheel * 0.55), shade(hub, 1.1))
        pen.ellipse((x, sill + 0.02), (wheel * 0.18, wheel * 0.18), (60, 60, 64))


def draw_leaf(pen: Pen, rng: np.random.Generator) -> None:
    """Draw a leaf: pointed outline with a toothed edge, a stalk, a midrib and side veins."""
    colour = any_colour(rng)
    vein = shade(colour, 1.45 if sum(colour) < 420 else 0.7)
    width, belly = rng.uniform(0.34, 0.52), rng.uniform(0.6, 0.95)
    bend, teeth, depth = rng.uniform(-0.25, 0.25), int(rng.integers(7, 14)), rng.uniform(0.02, 0.09)
    along = np.linspace(0, 1, 8 * teeth + 1)
    half = width * np.sin(np.pi * along**belly) ** 0.8 * (1 - depth * 2 * ((along * teeth) % 1))
    y = 0.62 - 1.5 * along
    spine = bend * np.sin(np.pi * along)
    right = list(zip((spine + half).tolist(), y.tolist(), strict=True))
    left = list(zip((spine - half).tolist(), y.tolist(), strict=True))
    pen.line([(bend * -0.4, 0.97), (0.0, 0.6)], shade(vein, 0.8), 0.05)
    pen.polygon(right + left[::-1], colour)
    pen.polygon(
        list(zip(spine.tolist(), y.tolist(), strict=True)) + left[::-1], shade(colour, 0.82)
    )
    for part in np.linspace(0.12, 0.8, int(rng.integers(5, 9))):
        root, tip = (int(step * (len(along) - 1)) for step in (part, min(part + 0.16, 0.97)))
        for side in (-0.82, 0.82):
            end = (float(spine[tip] + side * half[tip]), float(y[tip]))
            pen.line([(float(spine[root]), float(y[root])), end], vein, 0.018)
    pen.line(list(zip(spine.tolist(), y.tolist(), strict=True)), vein, 0.035)


def draw_clock(pen: Pen, rng: np.random.Generator) -> None:
    """Draw an alarm clock: a round dial with twelve marks and two hands, feet and two bells."""
    colour, bell, dial = (
        any_colour(rng),
        any_colour(rng),
        shade((240, 238, 228), rng.uniform(0.7, 1)),
    )
    ink = shade(any_colour(rng), 0.3)
    radius, rim, y = rng.uniform(0.6, 0.68), rng.uniform(0.08, 0.14), 0.12
    for side in (-1, 1):
        pen.line([(side * 0.3, y + 0.4), (side * 0.5, y + radius + 0.18)], shade(colour, 0.6), 0.1)
        if rng.uniform() < 0.9:
            pen.line(
                [(side * 0.2, y - 0.4), (side * 0.42, y - radius - 0.1)], shade(bell, 0.6), 0.05
            )
            pen.ellipse((side * 0.42, y - radius - 0.06), (0.25, 0.2), shade(bell, 1 + 0.1 * side))
    pen.ellipse((0, y), (radius, radius), colour)
    pen.ellipse((0, y), (radius - rim, radius - rim), shade(colour, 0.55))
    face = radius - rim - 0.03
    pen.ellipse((0, y), (face, face), dial)

    def ray(turn: float, start: float, end: float) -> list[Point]:
        x, down = float(np.sin(turn)), -float(np.cos(turn))
        return [
            (x * start * face, y + down * start * face),
            (x * end * face, y + down * end * face),
        ]

    for hour in range(12):
        long = hour % 3 == 0
        pen.line(ray(hour * np.pi / 6, 0.74 if long else 0.82, 0.94), ink, 0.05 if long else 0.03)
    pen.line(ray(rng.uniform(0, 2 * np.pi), -0.1, 0.5), ink, 0.07)
    pen.line(ray(rng.uniform(0, 2 * np.pi), -0.1, 0.78), ink, 0.045)
    pen.ellipse((0, y), (0.05, 0.05), shade(colour, 0.8))


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
    pen = Pen()
    OBJECTS[name](pen, rng)
    sprite = pen.image.reduce(2)
    alpha = sprite.getchannel("A")
    height = np.asarray(alpha.filter(ImageFilter.BoxBlur(6)), np.float32) / 255
    angle = rng.uniform(0, 2 * np.pi)
    shift = (round(2 * np.sin(angle)), round(2 * np.cos(angle)))
    relief = 1 + 1.2 * (np.roll(height, shift, axis=(0, 1)) - height)  # lit from one side
    relief += 0.05 * rng.standard_normal(relief.shape, dtype=np.float32)
    colour = np.asarray(sprite.convert("RGB")) * np.clip(relief, 0.5, 1.5)[..., None]
    shaded = Image.fromarray(np.minimum(colour, 255, out=colour).astype(np.uint8))
    shaded.putalpha(alpha)
    return shaded
