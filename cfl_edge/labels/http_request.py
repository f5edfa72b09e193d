"""What a client may say over HTTP: a label for now, for some seconds, or for a past frame."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException

from cfl_edge.errors import UsageError
from cfl_edge.labels.hold import MOST_HOLD_S
from cfl_edge.names import check_name

KEYS = ("label", "seconds", "seconds_ago", "frame")
EXPECTED = 'expected {"label": "mug"}, {"label": "mug", "seconds": 3} or {"label": null}'


@dataclass(frozen=True)
class LabelRequest:
    """A label and what it holds for.

    Args:
        label: A checked name; None for no label.
        seconds: How long it holds from now on; without end by default.
        seconds_ago: It holds for one frame, captured this long before the newest.
        frame: It holds for the one frame of this number.
    """

    label: str | None
    seconds: float = math.inf
    seconds_ago: float | None = None
    frame: int | None = None

    @property
    def is_past(self) -> bool:
        """Whether one past frame is labelled."""
        return self.frame is not None or self.seconds_ago is not None


def read_request(body: bytes, reserved: str | None = None) -> LabelRequest:
    """Read the body of a POST.

    Args:
        body: JSON, UTF-8.
        reserved: See `cfl_edge.names.check_name`.

    Raises:
        HTTPException: It is not what `HttpLabels` describes.

    Example:
        >>> request = read_request(b'{"label": "mug", "seconds": 3}')
        >>> request.label, request.seconds
        ('mug', 3.0)
    """
    try:
        request: Any = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _bad(f"not JSON ({error}), {EXPECTED}") from error
    if not isinstance(request, dict) or "label" not in request or request.keys() - set(KEYS):
        raise _bad(EXPECTED)
    label, frame = request["label"], request.get("frame")
    if label is not None and not isinstance(label, str):
        raise _bad(f"label is not a text, {EXPECTED}")
    if len(request.keys() - {"label"}) > 1:
        raise _bad("expected one of seconds, seconds_ago and frame")
    if label is None and ("frame" in request or "seconds_ago" in request):
        raise _bad("label is null, expected a name for a past frame")
    if "frame" in request and (isinstance(frame, bool) or not isinstance(frame, int) or frame < 0):
        raise _bad("frame is not the number of a frame, expected 123")
    seconds = _seconds(request, "seconds")
    if seconds == 0:
        raise _bad(f"seconds is 0, expected above 0, at most {MOST_HOLD_S}")
    name = None if label is None else checked_label(label, reserved)
    held_s = math.inf if seconds is None else seconds
    return LabelRequest(name, held_s, _seconds(request, "seconds_ago"), frame)


def checked_label(label: str, reserved: str | None) -> str:
    """Return a label as `check_name` does.

    Raises:
        HTTPException: It can be no name.
    """
    try:
        return check_name(label, source="label", reserved=reserved)
    except UsageError as error:
        raise _bad(f"{error.problem}; {error.hint}") from error


def _seconds(request: dict[str, Any], key: str) -> float | None:
    """Return a number of seconds, 0 and more; None where it is not given."""
    if key not in request:
        return None
    seconds = request[key]
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise _bad(f"{key} is not a number, expected 3")
    if not 0 <= seconds <= MOST_HOLD_S:
        raise _bad(f"{key} is {seconds}, expected above 0, at most {MOST_HOLD_S}")
    return float(seconds)


def _bad(text: str) -> HTTPException:
    return HTTPException(HTTPStatus.BAD_REQUEST, text)
