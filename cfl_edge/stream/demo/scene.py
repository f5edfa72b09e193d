"""One dwell of the rendered camera: a thing in front of a cluttered background, moving a little.

What costs time (sprite, background) is made once a dwell; a frame is a perspective warp, a paste,
a shadow, light, blur and noise.
"""

from __future__ import annotations

from typing import NamedTuple, final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from cfl_edge.frame import frame as _frame
from cfl_edge.stream.demo.objects import SPRITE_PX, any_colour, draw_object

WIDTH_PX, HEIGHT_PX = 320, 240
_SWAY_PX = 48  # how far the camera may sway over the background
_UPRIGHT = {"mug": 0.35, "car": 0.3}  # these stand: tilt in radians; the others lie at any angle

Floats = npt.NDArray[np.float64]


class Pose(NamedTuple):
    """How a thing stands in a frame.

    Args:
        x: Its centre from the left, in pixels.
        y: Its centre from the top, in pixels.
        size: Side of its sprite in the frame, in pixels.
        angle: How far it is turned, in radians.
        lean_x: How much farther away its right side is, in parts of its distance.
        lean_y: How much farther away its lower side is.
        brightness: Factor of the light.
    """

    x: float
    y: float
    size: float
    angle: float = 0.0
    lean_x: float = 0.0
    lean_y: float = 0.0
    brightness: float = 1.0


def _draw_background(unlike: Floats, rng: np.random.Generator) -> Image.Image:
    """Draw a cluttered surface unlike an RGB, (3,), larger than a frame by the camera's sway."""
    size = (WIDTH_PX + _SWAY_PX, HEIGHT_PX + _SWAY_PX)
    colours = [any_colour(rng) for _ in range(12)]
    colours.sort(key=lambda colour: float(np.linalg.norm(unlike - colour)), reverse=True)
    cells = [(2, 2), (1, 12), (12, 1), (8, 10), (20, 24)][rng.integers(5)]
    pattern = Image.fromarray(rng.integers(0, 200, cells, np.uint8))
    smooth = Image.Resampling.BICUBIC if rng.uniform() < 0.5 else Image.Resampling.NEAREST
    first, second = (Image.new("RGB", size, colour) for colour in colours[:2])
    image = Image.composite(first, second, pattern.resize(size, smooth))
    draw = ImageDraw.Draw(image)
    for colour in colours[2 : rng.integers(4, 12)]:
        x, y, radius = rng.uniform(0, size[0]), rng.uniform(0, size[1]), rng.uniform(8, 45)
        corners = int(rng.integers(2, 7))
        if corners > 2:
            draw.regular_polygon((x, y, radius), corners, rng.uniform(0, 360), fill=colour)
        else:
            draw.ellipse([x - radius, y - radius / 2, x + radius, y + radius / 2], fill=colour)
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(1, 3.5)))


def _make_light(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Return the gain of each pixel and channel, (240, 320, 3): exposure, tint, fall-off."""
    warm, angle = rng.uniform(-0.18, 0.18), rng.uniform(0, 2 * np.pi)
    tint = np.array([1 + warm, 1, 1 - warm]) * rng.uniform(0.7, 1.2)
    down, right = np.linspace(-1, 1, HEIGHT_PX)[:, None], np.linspace(-1, 1, WIDTH_PX)
    slant = 1 + rng.uniform(0, 0.4) * (np.sin(angle) * down + np.cos(angle) * right)
    light: npt.NDArray[np.float32] = (slant[..., None] * tint).astype(np.float32)
    return light


@final
class Dwell:
    """One thing in view for a few frames.

    Args:
        name: Its class, a key of `OBJECTS`.
        frames: For how many frames it stays.
        rng: Chooses everything; the images depend on nothing but its seed.

    Example:
        >>> Dwell("mug", 8, np.random.default_rng(0)).render(0).shape
        (240, 320, 3)
    """

    def __init__(self, name: str, frames: int, rng: np.random.Generator) -> None:
        self._frames, self._rng = frames, rng
        self._sprite = draw_object(name, rng)
        if rng.uniform() < 0.5:
            self._sprite = ImageOps.mirror(self._sprite)
        pixels = np.asarray(self._sprite, np.float64).reshape(-1, 4)
        self._background = _draw_background(pixels[pixels[:, 3] > 128, :3].mean(axis=0), rng)
        self._light = _make_light(rng)
        tilt, size = _UPRIGHT.get(name, 0.9), rng.uniform(0.75, 1.05) * HEIGHT_PX
        first = Pose(
            x=rng.uniform(0.42, 0.58) * WIDTH_PX,
            y=rng.uniform(0.42, 0.58) * HEIGHT_PX,
            size=size,
            angle=rng.uniform(-tilt, tilt),
            lean_x=rng.uniform(-0.15, 0.15),
            lean_y=rng.uniform(-0.15, 0.15),
            brightness=1.0,
        )
        step = np.array(Pose(20, 20, 0.15 * size, 0.35, 0.1, 0.1, 0.2))
        self._poses = np.array(first), np.array(first) + rng.uniform(-step, step)
        self._sway = rng.integers(0, _SWAY_PX + 1, (2, 2))
        self._blur_px, self._noise = rng.uniform(0, 0.8), int(rng.integers(2, 11))  # of 255
        self._shadow_shift = rng.integers(-12, 13, 2)

    def render(self, step: int) -> _frame.Image:
        """Render frame number `step` of the dwell; call it with 0, 1, 2 and so on.

        Returns:
            uint8 RGB, shape (240, 320, 3).
        """
        part = step / max(1, self._frames - 1)
        part *= part * (3 - 2 * part)  # slow at both ends
        pose = Pose(*_between(*self._poses, part))
        left, top = (int(place) for place in _between(self._sway[0], self._sway[1], part))
        image = self._background.crop((left, top, left + WIDTH_PX, top + HEIGHT_PX))
        warp = perspective(pose)
        thing = self._sprite.transform(
            image.size, Image.Transform.PERSPECTIVE, warp, Image.Resampling.BILINEAR
        )
        alpha = thing.getchannel("A")
        shadow = alpha.point([level * 45 // 100 for level in range(256)])
        down, right = self._shadow_shift.tolist()
        image.paste((0, 0, 0), (right, down), shadow.filter(ImageFilter.BoxBlur(5)))
        image.paste(thing, (0, 0), alpha)
        if self._blur_px > 0.2:
            image = image.filter(ImageFilter.BoxBlur(self._blur_px))
        lit = np.asarray(image, np.float32) * (self._light * np.float32(pose.brightness))
        lit += self._rng.integers(-self._noise, self._noise + 1, lit.shape, np.int8)
        return np.clip(lit, 0, 255, out=lit).astype(np.uint8)


def _between(first: Floats, last: Floats, part: float) -> list[float]:
    between: list[float] = (first + (last - first) * part).tolist()
    return between


def perspective(pose: Pose) -> list[float]:
    """Return Pillow's 8 coefficients that put a sprite into a frame.

    Example:
        >>> perspective(Pose(x=100, y=100, size=100))
        [2.0, 0.0, -100.0, 0.0, 2.0, -100.0, 0.0, 0.0]
    """
    scale, middle = SPRITE_PX / pose.size, SPRITE_PX / 2
    cos, sin = scale * np.cos(pose.angle), scale * np.sin(pose.angle)
    lean = np.array([pose.lean_x, pose.lean_y]) / pose.size
    # From frame to sprite: move, turn and scale, divide by 1 plus the lean.
    turn = np.array([[cos, sin, middle], [-sin, cos, middle], [*lean, 1]])
    turn[:2, :2] += middle * lean
    whole = turn @ np.array([[1, 0, -pose.x], [0, 1, -pose.y], [0, 0, 1]])
    return [float(value) for value in (whole / whole[2, 2]).flat[:8]]
