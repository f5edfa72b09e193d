"""One dwell of the rendered camera: a thing before a cluttered background, moving a little.

What costs time (sprite, background) is made once a dwell; a frame is a perspective warp, a paste,
a shadow, light, blur and noise.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from cfl_edge.stream import frame as _frame
from cfl_edge.stream.demo.objects import draw_object
from cfl_edge.stream.demo.pen import SPRITE_PX, Colour, any_colour, shade

WIDTH_PX, HEIGHT_PX = 320, 240
_MARGIN_PX = 24  # how far the camera may sway over the background, each way
_UPRIGHT = {"mug": 0.35, "car": 0.3}  # these stand: tilt in radians; the others lie at any angle

Floats = npt.NDArray[np.float32]


def draw_background(unlike: Floats, rng: np.random.Generator) -> Image.Image:
    """Draw a surface (cloudy, striped, tiled or plain) with shapes that belong to no class.

    Args:
        unlike: RGB that the surface keeps away from, so that the thing stands out, shape (3,).
        rng: Chooses all of it.

    Returns:
        RGB, larger than a frame by the margin that the camera may sway over.
    """
    size = (WIDTH_PX + 2 * _MARGIN_PX, HEIGHT_PX + 2 * _MARGIN_PX)
    first, second = _colour_unlike(unlike, rng), _colour_unlike(unlike, rng)
    kind = rng.integers(4)
    if kind == 0:  # cloudy: coarse noise, enlarged
        cells = int(rng.integers(4, 24))
        pattern = rng.uniform(0, 1, (cells, cells)).astype(np.float32)
    elif kind == 1:  # stripes, as of planks
        cells = int(rng.integers(4, 18))
        pattern = np.repeat(rng.uniform(0, 0.6, (1, cells)).astype(np.float32), 2, axis=0)
        pattern = pattern.T.copy() if rng.uniform() < 0.5 else pattern
    elif kind == 2:  # tiles
        cells = int(rng.integers(4, 12))
        pattern = np.indices((cells, cells)).sum(axis=0).astype(np.float32) % 2
        pattern = 0.5 * pattern + rng.uniform(0, 0.3, (cells, cells)).astype(np.float32)
    else:  # plain, lighter to one corner
        pattern = rng.uniform(0, 0.7, (2, 2)).astype(np.float32)
    sharp = Image.Resampling.NEAREST if kind in (1, 2) else Image.Resampling.BICUBIC
    mask = Image.fromarray((255 * pattern).astype(np.uint8)).resize(size, sharp)
    image = Image.composite(Image.new("RGB", size, first), Image.new("RGB", size, second), mask)
    _draw_clutter(ImageDraw.Draw(image), size, rng)
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(1, 3.5)))


def _colour_unlike(colour: Floats, rng: np.random.Generator) -> Colour:
    """Draw a colour at some distance, or after a few vain tries any."""
    for _ in range(8):
        other = any_colour(rng)
        if np.linalg.norm(colour - np.array(other)) > 90:  # of 442 from black to white
            break
    return other


def _draw_clutter(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: np.random.Generator
) -> None:
    """Scatter bars, discs, rings, boxes and triangles."""
    for _ in range(int(rng.integers(2, 9))):
        x, y = rng.uniform(0, size[0]), rng.uniform(0, size[1])
        across, down = rng.uniform(8, 55, 2)
        colour, kind = any_colour(rng), rng.integers(5)
        box = [x - across, y - down, x + across, y + down]
        if kind == 0:
            draw.ellipse(box, fill=colour)
        elif kind == 1:
            draw.ellipse(box, outline=colour, width=int(rng.integers(3, 10)))
        elif kind == 2:
            draw.rectangle(box, fill=colour, outline=shade(colour, 0.7), width=2)
        elif kind == 3:
            angle = rng.uniform(0, np.pi)
            dx, dy = 1.5 * across * np.cos(angle), 1.5 * across * np.sin(angle)
            draw.line([x - dx, y - dy, x + dx, y + dy], fill=colour, width=int(rng.integers(3, 14)))
        else:
            corners = [(x + dx, y + dy) for dx, dy in rng.uniform(-45, 45, (3, 2)).tolist()]
            draw.polygon(corners, fill=colour)


def make_noise(rng: np.random.Generator) -> Floats:
    """Return unit sensor noise somewhat larger than a frame, to be cut at a new place each time."""
    return rng.standard_normal((HEIGHT_PX + 64, WIDTH_PX + 64, 3), dtype=np.float32)


class Dwell:
    """One thing in view for a few frames.

    Args:
        name: Its class, a key of `demo_objects.OBJECTS`.
        frames: For how many frames it stays.
        noise: What `make_noise` returned.
        rng: Chooses everything else; the images depend on nothing but its seed.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> Dwell("mug", 8, make_noise(rng), rng).render(0).shape
        (240, 320, 3)
    """

    def __init__(self, name: str, frames: int, noise: Floats, rng: np.random.Generator) -> None:
        self._frames, self._noise, self._rng = frames, noise, rng
        sprite = draw_object(name, rng)
        self._box = np.array(sprite.getbbox() or (0, 0, *sprite.size))
        self._sprite = sprite.crop(tuple(self._box.tolist()))
        pixels = np.asarray(self._sprite, np.float32).reshape(-1, 4)
        self._background = draw_background(pixels[pixels[:, 3] > 128, :3].mean(axis=0), rng)
        # From the first frame to the last: x, y, size, angle, and the camera's sway.
        tilt = _UPRIGHT.get(name, 0.9)
        size = rng.uniform(0.7, 1.0) * HEIGHT_PX  # of the whole sprite
        centre = rng.uniform((0.42, 0.42), (0.58, 0.58)) * (WIDTH_PX, HEIGHT_PX)
        self._centre = np.stack([centre, centre + rng.uniform(-20, 20, 2)])
        self._size = size * np.array([1.0, rng.uniform(0.85, 1.18)])
        self._angle = rng.uniform(-tilt, tilt) + np.array([0.0, rng.uniform(-0.35, 0.35)])
        self._sway = rng.uniform(0, 2 * _MARGIN_PX, (2, 2))
        self._flip = -1.0 if rng.uniform() < 0.5 else 1.0
        self._corner_shift = rng.uniform(-0.12, 0.12, (2, 4, 2))  # perspective, of half the size
        self._light = _make_light(rng)
        self._drift = np.array([1.0, rng.uniform(0.8, 1.25)])
        self._blur_px = rng.uniform(0, 0.8)
        self._noise_level = rng.uniform(2, 8)  # of 255
        self._shadow_shift = rng.uniform(-12, 12, 2)
        self._occluder = _make_occluder(rng) if rng.uniform() < 0.2 else None

    def render(self, step: int) -> _frame.Image:
        """Render frame number `step` of the dwell; call it with 0, 1, 2 and so on.

        Returns:
            uint8 RGB, shape (240, 320, 3).
        """
        part = step / max(1, self._frames - 1)
        left, top = (round(value) for value in _between(self._sway, part))
        image = self._background.crop((left, top, left + WIDTH_PX, top + HEIGHT_PX))
        corners = self._corners(part)
        self._paste_thing(image, corners)
        if self._occluder is not None:
            points, colour = self._occluder
            span = corners.max(axis=0) - corners.min(axis=0)
            placed = corners.mean(axis=0) + points * span / 2
            ImageDraw.Draw(image).polygon([(float(x), float(y)) for x, y in placed], fill=colour)
        if self._blur_px > 0.2:
            image = image.filter(ImageFilter.BoxBlur(self._blur_px))
        lit = np.asarray(image, np.float32) * self._light
        lit *= np.float32(_between(self._drift, part))
        y, x = self._rng.integers(0, 64, 2)
        grain = self._noise[y : y + HEIGHT_PX, x : x + WIDTH_PX]
        lit += np.float32(self._noise_level) * grain
        return np.clip(lit, 0, 255, out=lit).astype(np.uint8)

    def _corners(self, part: float) -> npt.NDArray[np.float64]:
        """Return where the sprite's corners fall in the frame, shape (4, 2)."""
        angle = float(_between(self._angle, part))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        left, top, right, bottom = 2 * self._box / SPRITE_PX - 1
        corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
        corners = (corners + _between(self._corner_shift, part)) * (self._flip, 1.0)
        corners = corners @ turn.T * _between(self._size, part) / 2
        placed: npt.NDArray[np.float64] = corners + _between(self._centre, part)
        return placed

    def _paste_thing(self, image: Image.Image, corners: npt.NDArray[np.float64]) -> None:
        """Warp the sprite onto four corners and paste it over its own soft shadow."""
        left, top = (int(value) for value in np.floor(corners.min(axis=0)))
        width, height = (int(value) + 1 for value in np.ceil(np.ptp(corners, axis=0)))
        warp = solve_perspective(corners - (left, top), self._sprite.size)
        thing = self._sprite.transform(
            (width, height), Image.Transform.PERSPECTIVE, warp, Image.Resampling.BILINEAR
        )
        alpha = thing.getchannel("A")
        shadow = alpha.point([level * 45 // 100 for level in range(256)])
        shadow = shadow.filter(ImageFilter.BoxBlur(5))
        shift_x, shift_y = (round(value) for value in self._shadow_shift)
        image.paste((0, 0, 0), (left + shift_x, top + shift_y), shadow)
        image.paste(thing, (left, top), alpha)


def solve_perspective(corners: npt.NDArray[np.float64], size: tuple[int, int]) -> list[float]:
    """Return Pillow's 8 coefficients that map a quadrilateral back onto a rectangle.

    Args:
        corners: Where the rectangle's corners fall, clockwise from its top left, shape (4, 2),
            pixels.
        size: Width and height of the rectangle in pixels.

    Example:
        >>> corners = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 10.0], [0.0, 10.0]])
        >>> bool(np.allclose(solve_perspective(corners, (20, 20)), [2, 0, 0, 0, 2, 0, 0, 0]))
        True
    """
    rectangle = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]]) * size
    rows, values = [], []
    for (x, y), (u, v) in zip(corners, rectangle, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    return [float(value) for value in np.linalg.solve(np.array(rows), np.array(values))]


def _between(ends: npt.NDArray[np.float64], part: float) -> npt.NDArray[np.float64]:
    """Go from the first of `ends` to the second, slowly at both: part is 0 to 1."""
    eased = part * part * (3 - 2 * part)
    result: npt.NDArray[np.float64] = ends[0] + (ends[1] - ends[0]) * eased
    return result


def _make_light(rng: np.random.Generator) -> Floats:
    """Return the gain of each pixel and channel: exposure, colour of the light, its fall-off.

    Returns:
        shape (240, 320, 3).
    """
    warm = rng.uniform(-0.18, 0.18)
    tint = np.array([1 + warm, 1.0, 1 - warm], np.float32) * np.float32(rng.uniform(0.6, 1.2))
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.sin(angle) * np.linspace(-1, 1, 60), np.cos(angle) * np.linspace(-1, 1, 80)
    slant = y[:, None] + x
    gain = 1 + rng.uniform(0, 0.4) * slant
    if rng.uniform() < 0.35:  # the edge of a cast shadow
        gain *= 1 - rng.uniform(0.2, 0.5) / (1 + np.exp(-12 * (slant - rng.uniform(-0.6, 0.6))))
    smooth = Image.fromarray(gain.astype(np.float32)).resize((WIDTH_PX, HEIGHT_PX))
    light: Floats = np.asarray(smooth)[..., None] * tint
    return light


def _make_occluder(rng: np.random.Generator) -> tuple[npt.NDArray[np.float64], Colour]:
    """Return a strip that covers one side of the thing: corners in half spans of it, and colour."""
    angle, depth = rng.uniform(0, 2 * np.pi), rng.uniform(0.45, 0.7)
    out = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-out[1], out[0]]) * rng.uniform(0.5, 1.3)
    near, far = depth * out, (depth + rng.uniform(0.3, 0.7)) * out
    return np.stack([near - across, near + across, far + across, far - across]), any_colour(rng)
