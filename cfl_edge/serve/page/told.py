"""What all viewers are told alike: made once, as JSON, however many they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, final

from cfl_edge.frame.prediction import softmax
from cfl_edge.frame.step import Step
from cfl_edge.pipe import plain
from cfl_edge.serve.page.feed import Feed
from cfl_edge.serve.page.hand import Standing

SHOWN_CLASSES = 3  # of a frame


@final
class Told:
    """Says what is known of a frame, and of the session; used by the loop of the server alone.

    Args:
        feed: The frames.
        standing: What the session says of itself.
        extra: Returns what else goes with each status: thumbnails, the review tray.
    """

    def __init__(self, feed: Feed, standing: Standing, extra: Any) -> None:
        self._feed, self._standing, self._extra = feed, standing, extra
        self._of_frame: tuple[Step | None, str] = None, ""
        self._of_session: tuple[tuple[int, ...], str] = (), ""

    def refresh(self) -> None:
        """Ask the session again where answers are old."""
        self._standing.refresh()
        self._extra.refresh()

    def frame(self, step: Step) -> str:
        """Return what a page shows of a frame."""
        if self._of_frame[0] is not step:
            fields = frame_fields(step) | {"looked_at": self._feed.looked_at(step)}
            self._of_frame = step, as_json(fields)
        return self._of_frame[1]

    def status(self) -> str:
        """Return how the session stands, as far as it has said so."""
        version = self._standing.version, *self._extra.versions()
        if version != self._of_session[0]:
            status = self._standing.value
            self._of_session = version, as_json(status | self._extra.fields())
        return self._of_session[1]


def as_json(fields: Mapping[str, Any], **ready: str) -> str:
    """Return an object as JSON.

    Args:
        fields: Its members, at least one.
        ready: More of them, which are JSON already.

    Example:
        >>> as_json({"number": 7}, frame='{"frame": 3}')
        '{"number": 7, "frame": {"frame": 3}}'
    """
    members = [json.dumps(plain(fields), allow_nan=False)[1:-1]]
    members += [f'"{name}": {text}' for name, text in ready.items()]
    return "{" + ", ".join(members) + "}"


def frame_fields(step: Step) -> dict[str, Any]:
    """Return what a page shows of a frame, with names that JSON events have as well.

    Args:
        step: Of the session.
    """
    fields = step.fields()
    del fields["frames"], fields["peak_rss_mib"], fields["total"]
    return fields | {
        "samples": step.lesson.samples,
        "predict_ms": 1000 * step.predict_s,
        "captured_s": step.frame.timestamp_s,  # on the clock of `sent_s`: the frame's age
        "top": likeliest(step),
    }


def likeliest(step: Step) -> list[dict[str, Any]]:
    """Return the classes that a frame looks most like, at most three, the likeliest first.

    Args:
        step: Of the session; a class that it was the first to teach is not among its scores.
    """
    scores, names = step.prediction.scores, step.lesson.classes
    if not len(scores) or len(scores) > len(names):  # a class was removed since
        return []
    probabilities = softmax(scores)
    best = probabilities.argsort()[::-1][:SHOWN_CLASSES]
    return [{"name": names[z], "score": float(probabilities[z])} for z in best]
