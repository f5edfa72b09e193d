"""The stream that `learn` reads, and the labels that come with it."""

from __future__ import annotations

from cfl_edge.config.learn import LearnSettings
from cfl_edge.defaults import PICTURE_PX
from cfl_edge.frame.region import WHOLE_FRAME, Reduce
from cfl_edge.notices import Notice
from cfl_edge.stream.inbox import Inbox
from cfl_edge.stream.open import open_stream
from cfl_edge.stream.options import StreamOptions
from cfl_edge.stream.source import Stream
from cfl_edge.stream.uri import KINDS, parse_uri

BY_HAND_HZ = 15.0  # of a recording that is taught by hand: as a slow camera
BY_HAND_DEMO = "demo:?dwell=75"  # a thing stays for 5 seconds


def open_learn_stream(
    settings: LearnSettings, reduce: Reduce, on_notice: Notice, inbox: Inbox | None = None
) -> Stream:
    """Open the stream of `learn`; what is taught by hand plays like a camera, again and again.

    Args:
        settings: See `cfl_edge.config`.
        reduce: Says how far JPEGs may be shrunk for the model; for a page, not below its picture.
        on_notice: See `open_stream`.
        inbox: Where the pictures of `push://` come in; None without a page.

    Raises:
        UsageError, StreamError: See `open_stream`.
    """
    epochs: int | None = settings.epochs
    realtime_hz = settings.realtime
    kind = KINDS[parse_uri(settings.stream).kind]
    if settings.ui and not kind.live:  # whoever teaches by hand needs time
        realtime_hz = realtime_hz or BY_HAND_HZ
        if epochs == 1 and ("epochs" in kind.takes or settings.stream == "demo:"):
            epochs = None
    options = StreamOptions(
        order=settings.order,
        epochs=epochs,
        seed=settings.seed,
        labels=(settings.labels_from or default_labels(settings)) == "dirs",
        new_classes=True,
        realtime_hz=realtime_hz,
        reduce=_for_page(reduce) if settings.ui else reduce,
        inbox=inbox,
    )
    address = BY_HAND_DEMO if settings.ui and settings.stream == "demo:" else settings.stream
    return open_stream(address, options, on_notice=on_notice)


def _for_page(reduce: Reduce) -> Reduce:
    return lambda full_px: min(reduce(full_px), WHOLE_FRAME.reduction(PICTURE_PX, full_px))


def inbox_of(settings: LearnSettings) -> Inbox | None:
    """Return where pictures come in that the page sends; None where the camera is another."""
    return Inbox() if settings.ui and parse_uri(settings.stream).kind == "push" else None


def default_labels(settings: LearnSettings) -> str | None:
    """Return where labels come from by default: `dirs` for the demo of one model, else nowhere."""
    if settings.zones is not None:
        return None
    if not settings.ui and settings.label is None and settings.stream.startswith("demo:"):
        return "dirs"
    return None
