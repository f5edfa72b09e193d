"""A picture of what a model looks at: the frame with the region drawn in, and the model's square.

`cfl-edge look` writes one, and so does `learn` at its start.
"""

from __future__ import annotations

import io
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cfl_edge.config.models import LookSettings
from cfl_edge.defaults import IMAGE_PX_WITH_BACKBONE
from cfl_edge.errors import CflEdgeError, UsageError, quoted
from cfl_edge.frame.frame import Frame, cut_frame
from cfl_edge.frame.preprocess import inside, looked_at
from cfl_edge.frame.region import FIT, View
from cfl_edge.loop.gaze import Gaze
from cfl_edge.model.replacing import replace_files
from cfl_edge.model.store import VIEW_FILE, Store
from cfl_edge.notices import Notice, log_notice
from cfl_edge.stream.open import open_stream
from cfl_edge.stream.options import StreamOptions
from cfl_edge.stream.source import no_frame_error

if TYPE_CHECKING:
    from cfl_edge.learner.learner import Learner

LONG_PX = 960  # of the frame in the picture
SQUARE_PX = 288  # of the model's square
GAP_PX = 16
OUTLINE = (255, 80, 0)
GREYED_OUT = 0.7  # how much of what is not looked at becomes grey
KINDS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}
MOTION_S = 10.0  # for something to move


def look(settings: LookSettings, *, on_notice: Notice = log_notice) -> tuple[View, Frame]:
    """Write the picture of the first good frame of a stream.

    Args:
        settings: The stream, the view, and where the picture goes.
        on_notice: Called with what the user should know.

    Returns:
        The view, and the frame.

    Raises:
        StreamError: The source fails.
        DataError: It holds no frame, or not the region.
        ModelError: There is no model.
        ModelWriteError: The picture cannot be written.
        UsageError: Its name is of no kind of picture, or its folder does not exist.
    """
    fit, region, size_px = FIT, None, IMAGE_PX_WITH_BACKBONE
    if settings.model is not None:
        from cfl_edge.learner.saved_checks import check_saved

        saved = Store(settings.model, on_notice=on_notice).load()
        check_saved(saved)
        network = saved.manifest["network"]
        fit, region, size_px = network["fit"], network["region"], network["image_px"]
    kind = picture_kind(settings.out)  # before a camera is opened for nothing
    if settings.out.exists() and not settings.out.is_file():
        raise UsageError(f"-o is {settings.out}, expected a file", hint=f"-o {VIEW_FILE}")
    if not settings.out.parent.exists():
        raise UsageError(
            f"-o is {settings.out}, expected a name in a folder that exists",
            hint=f"mkdir -p {shlex.quote(str(settings.out.parent))}, or -o {settings.out.name}",
        )
    view = View.parse(settings.fit or fit, settings.region or region)
    gaze = Gaze(on_notice, lambda: (view, size_px))
    with open_stream(settings.stream, StreamOptions(labels=False), on_notice=on_notice) as stream:
        frame, start_s = None, time.monotonic()
        for shown in stream:
            frame = gaze(shown)
            follows = view.region is not None and view.region.kind == "motion"
            if not follows or frame.moving or time.monotonic() > start_s + MOTION_S:
                break
        if frame is None:
            raise no_frame_error(stream.uri)
    picture = view_picture(frame, size_px, view, kind)
    replace_files(settings.out.parent, {settings.out.name: picture})
    return view, frame


def picture_kind(path: Path) -> str:
    """Return the kind of picture that a name stands for.

    Raises:
        UsageError: For none.

    Example:
        >>> picture_kind(Path("shown/view.PNG"))
        'PNG'
    """
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise UsageError(
            f"-o is {path}, expected a name that ends in {', '.join(KINDS)}",
            hint=f"-o {quoted(path.with_suffix('.png') if path.stem else VIEW_FILE)}",
        )
    return kind


def draw_view(store: Store, frame: Frame, learner: Learner, on_notice: Notice) -> None:
    """Write the picture into the folder of a model that learns; where that fails, say so alone."""
    try:
        picture = view_picture(frame, learner.image_px, learner.view)
        replace_files(store.folder, {VIEW_FILE: picture}, written=store.written)
    except (CflEdgeError, OSError, MemoryError) as error:
        reason = getattr(error, "problem", str(error))
        on_notice(f"{VIEW_FILE}, which shows what the model looks at, was not written: {reason}")


def view_picture(frame: Frame, size_px: int, view: View, kind: str = "JPEG") -> bytes:
    r"""Return the picture as a file of one of `KINDS`.

    Example:
        >>> view_picture(Frame(np.zeros((48, 64, 3), np.uint8), 0.0, 0), 96, View())[:2]
        b'\xff\xd8'
    """
    from PIL import Image as Pillow
    from PIL import ImageDraw

    height, width, _ = frame.image.shape
    box = looked_at((width, height), view, full_px=frame.full_px, moving=frame.moving)
    outline = [(box[x] / width, box[y] / height) for x, y in ((0, 1), (2, 1), (2, 3), (0, 3))]
    if view.region is not None and view.region.kind == "polygon":
        outline = view.region.fractions(frame.full_px or (width, height))
    scale = min(1.0, LONG_PX / max(width, height))
    shown_px = max(1, round(width * scale)), max(1, round(height * scale))
    shown = np.array(Pillow.fromarray(frame.image).resize(shown_px, reducing_gap=3.0))
    outside = ~inside(outline, shown_px)
    grey = shown[outside].mean(axis=1, keepdims=True) * 0.5 + 64
    shown[outside] = (shown[outside] * (1 - GREYED_OUT) + grey * GREYED_OUT).astype(np.uint8)
    square = Pillow.fromarray(cut_frame(frame, size_px, view).square)
    made = Pillow.new(
        "RGB",
        (shown_px[0] + SQUARE_PX + 2 * GAP_PX, max(shown_px[1], SQUARE_PX + 2 * GAP_PX)),
        (255, 255, 255),
    )
    made.paste(Pillow.fromarray(shown), (0, 0))
    corners = [(x * (shown_px[0] - 1), y * (shown_px[1] - 1)) for x, y in outline]
    ImageDraw.Draw(made).polygon(corners, outline=OUTLINE, width=2)
    side = SQUARE_PX, SQUARE_PX
    made.paste(square.resize(side, Pillow.Resampling.NEAREST), (shown_px[0] + GAP_PX, GAP_PX))
    file = io.BytesIO()
    made.save(file, kind, quality=88, subsampling=0)  # thin lines keep their colour
    return file.getvalue()
