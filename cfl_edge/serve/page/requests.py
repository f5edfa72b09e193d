"""What a request of the API says: the body of a verb, and the frame that an address names."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request


async def arguments(request: Request) -> dict[str, Any]:
    """Read the body of a verb: a JSON object, or nothing.

    Raises:
        HTTPException: It is something else.
    """
    body, kind = await request.body(), request.headers.get("content-type") or ""
    if not body:
        return {}
    if kind.partition(";")[0].strip().lower() != "application/json":
        # A form of another page can be sent without asking; JSON cannot.
        raise HTTPException(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected Content-Type: application/json"
        )
    try:
        given = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(HTTPStatus.BAD_REQUEST, f"not JSON ({error})") from error
    if not isinstance(given, dict):
        raise HTTPException(HTTPStatus.BAD_REQUEST, 'expected an object: {"label": "mug"}')
    return given


def frame_number(request: Request) -> int:
    """Return the number of a frame in an address; -1, which no frame has, for anything else."""
    number: str = request.path_params["frame"]
    return int(number) if re.fullmatch(r"[0-9]{1,18}", number) else -1
