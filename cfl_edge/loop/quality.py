"""Is an image worth learning from: its exposure, its structure, its sharpness.

A frame with a flag is predicted like any other, and learned only on request.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median
from typing import final

import numpy as np
import numpy.typing as npt

FLAGS = ("dark", "bright", "flat", "blurred", "conflict")

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of R, G, B: ITU-R BT.601
ROUNDING = float((LUMA**2).sum()) / 12  # variance that whole levels of R, G and B add to grey
MARGIN = 20.0  # levels of 255 from black, or from white, that count as nearly black or white
FAINT = 10.0  # contrast below which a black or white image is empty; a MNIST digit has 35 to 107
FLAT = 3.0  # contrast of a wall or a covered lens; photographs and `demo:` have 8 and more
BLURRED = 0.4  # of the usual sharpness; DECISIONS.md, "Quality gate"
USUAL_FRAMES = 20  # after which it is known what is usual
WINDOW_FRAMES = 200  # over which that is measured: after half of them a new lens or room is usual


@dataclass(frozen=True)
class Quality:
    """Quality of an image.

    Args:
        sharpness: See `sharpness`; 0 for a uniform image.
        brightness: Mean of the grey image, 0 to 255.
        contrast: Standard deviation of the grey image, 0 to 127.5.
        flags: Those of `FLAGS` that apply; never `conflict`, which needs a label.
    """

    sharpness: float
    brightness: float
    contrast: float
    flags: tuple[str, ...] = ()


def grey(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return the brightness of every pixel, (H, W), 0 to 255, of an image (H, W, 3)."""
    levels: npt.NDArray[np.float32] = image.astype(np.float32) @ LUMA
    return levels


def sharpness(levels: npt.NDArray[np.float32]) -> float:
    """Return the variance of the Laplacian over the mean squared gradient.

    The variance of the Laplacian is the focus measure of Pech-Pacheco et al., "Diatom autofocusing
    in brightfield microscopy" (2000). It grows with the square of the contrast and with the length
    of the edges; so does the squared gradient. Their ratio says how steep the edges are, whatever
    the exposure and however much there is to see: a blur of s pixels makes it about 1 / s^2.

    Args:
        levels: Grey image (H, W), 0 to 255; 3 pixels a side at least.

    Returns:
        0 for a uniform image, up to about 20 for noise.

    Example:
        >>> edge = np.repeat([[0.0, 0, 0, 9, 9, 9]], 6, axis=0).astype(np.float32)
        >>> round(sharpness(edge), 2), round(sharpness(20 * edge), 2)
        (3.91, 4.0)
    """
    here = levels[1:-1, 1:-1]
    up, down, left, right = levels[:-2, 1:-1], levels[2:, 1:-1], levels[1:-1, :-2], levels[1:-1, 2:]
    laplacian = up + down + left + right - 4 * here
    squared_gradient = ((right - left) ** 2 + (down - up) ** 2).mean() / 4
    structure = max(0.0, float(laplacian.var()) - 20 * ROUNDING)  # 20 = 4^2 + 4 weights squared
    return structure / (float(squared_gradient) + ROUNDING)


def quality(image: npt.NDArray[np.uint8], *, usual_sharpness: float | None = None) -> Quality:
    """Measure an image.

    Args:
        image: uint8 RGB (H, W, 3), as the learner reads it, without padding.
        usual_sharpness: Median over the stream; None while unknown, when no image is
            `blurred`. Only that is compared: a set of small images scaled up is
            soft throughout.

    Returns:
        The measures and the flags. `dark` and `bright` need an image without contrast: a white
        digit on black is neither.

    Example:
        >>> quality(np.zeros((8, 8, 3), np.uint8)).flags
        ('dark',)
        >>> quality(np.full((8, 8, 3), 127, np.uint8)).flags
        ('flat',)
    """
    levels = grey(image)
    if min(levels.shape) < 3:  # a thin strip has no neighbours to compare
        levels = np.pad(levels, 1, mode="edge")
    brightness, contrast, sharp = float(levels.mean()), float(levels.std()), sharpness(levels)
    flag = None
    if brightness < MARGIN and contrast < FAINT:
        flag = "dark"
    elif brightness > 255 - MARGIN and contrast < FAINT:
        flag = "bright"
    elif contrast < FLAT:
        flag = "flat"
    elif usual_sharpness is not None and sharp < BLURRED * usual_sharpness:
        flag = "blurred"
    return Quality(sharp, brightness, contrast, () if flag is None else (flag,))


@final
class QualityGate:
    """Measure the images of one stream, each against what this stream usually shows.

    The median is taken over the newest frames. Blurred ones count too, so that a change that lasts
    (another lens, smooth objects after rough ones) becomes usual instead of being refused for good.

    Example:
        >>> gate = QualityGate()
        >>> gate.check(np.zeros((8, 8, 3), np.uint8)).flags
        ('dark',)
    """

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=WINDOW_FRAMES)

    @property
    def usual_sharpness(self) -> float | None:
        """The median; None before enough frames with structure."""
        return median(self._recent) if len(self._recent) >= USUAL_FRAMES else None

    def check(self, image: npt.NDArray[np.uint8]) -> Quality:
        """Measure the next image, uint8 (H, W, 3)."""
        result = quality(image, usual_sharpness=self.usual_sharpness)
        if result.flags in ((), ("blurred",)):
            self._recent.append(result.sharpness)
        return result


def withheld_notice(flag: str, shown: str, found: Quality, label: str, prediction: str) -> str:
    """Return the notice for the first frame that is not learned because of a flag.

    Args:
        flag: One of `FLAGS`.
        shown: What it is: "frame 7".
        found: Its quality.
        label: Its label.
        prediction: Its prediction.
    """
    what = {
        "dark": f"is nearly black (brightness {found.brightness:.0f} of 255)",
        "bright": f"is nearly white (brightness {found.brightness:.0f} of 255)",
        "flat": f"shows nothing (contrast {found.contrast:.1f})",
        "blurred": f"is blurred (sharpness {found.sharpness:.2g}, much below the usual)",
        "conflict": f"is labelled {label}, but looks like {prediction}",
    }[flag]
    return f"{shown} {what}: such frames are not learned; --learn-flagged learns them"
