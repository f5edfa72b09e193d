"""What a person decides on pictures: frames worth a second look, and labels that may be wrong."""

from __future__ import annotations

import base64
import json
import re
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cfl_edge.serve.page.album import Album, Thumbnails
from cfl_edge.serve.page.hand import Standing
from cfl_edge.web.app import answer
from cfl_edge.web.long_answer import expect_type

SEARCH_S = 10.0  # between two searches, while somebody watches and nobody teaches
SHOWN = 12  # at a time, the clearest
REMEMBERED = 10_000  # frames whose label somebody has looked at


@final
class Mislabelled:
    """What the verb `suspects` found, without what was decided; used by the server alone.

    Args:
        suspects: What it said last.
        thumbnails: A run without a picture cannot be judged, and is left out.

    Attributes:
        version: Counts the decisions.
    """

    def __init__(self, suspects: Standing, thumbnails: Thumbnails) -> None:
        self._suspects, self._thumbnails = suspects, thumbnails
        self._decided: deque[int] = deque(maxlen=REMEMBERED)
        self.version = 0

    def shown(self) -> dict[int, Mapping[str, Any]]:
        """Return the runs to decide, each by the frame whose picture shows it."""
        decided, runs = set(self._decided), dict[int, Mapping[str, Any]]()
        for run in self._suspects.value.get("suspects", ()):
            pictured = [frame for frame in run["frames"] if self._thumbnails.get(frame)]
            if pictured and decided.isdisjoint(run["frames"]) and len(runs) < SHOWN:
                runs[pictured[len(pictured) // 2]] = run
        return runs

    def decide(self, run: Mapping[str, Any]) -> None:
        """Take note that somebody has looked at a run: it is shown no more."""
        self._decided.extend(run["frames"])
        self.version += 1

    def fields(self) -> list[dict[str, Any]]:
        """Return what a page shows of them, the clearest first."""
        return [
            {
                "frame": frame,
                "frames": len(run["frames"]),
                "label": run["label"],
                "looks_like": run["looks_like"],
            }
            for frame, run in self.shown().items()
        ]


async def arguments(request: Request) -> dict[str, Any]:
    """Read the body of a verb: a JSON object, or nothing.

    Raises:
        HTTPException: It is something else.
    """
    if not (body := await request.body()):
        return {}
    expect_type(request, "application/json")
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


Ask = Callable[[Request, str, dict[str, Any]], Awaitable[Response]]
"""Asks the session for a verb, and returns its answer."""


@final
class Trays:
    """The routes of both trays and their pictures.

    Args:
        album: Pictures of what was learned, and the review tray.
        mislabelled: Runs whose label may be wrong.
        ask: Asks the session.
    """

    def __init__(self, album: Album, mislabelled: Mislabelled, ask: Ask) -> None:
        self._album, self._mislabelled, self._ask = album, mislabelled, ask
        self._deciding: set[int] = set()  # frames that the session is learning

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/api/v1/thumbnails/{frame}.jpg", self._thumbnail),
            Route("/api/v1/review/{frame}.png", self._doubt),
            Route("/api/v1/review", self._review, methods=["POST"]),
            Route("/api/v1/mislabelled", self._relabel, methods=["POST"]),
        ]

    async def _thumbnail(self, request: Request) -> Response:
        picture = self._album.thumbnails.get(frame_number(request))
        if picture is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, "there is no such thumbnail, or no more")
        return Response(picture, media_type="image/jpeg")

    async def _doubt(self, request: Request) -> Response:
        doubt = self._album.review.get(frame_number(request))
        if doubt is None:
            raise _not_in_the_tray()
        return Response(doubt.picture, media_type="image/png")

    async def _review(self, request: Request) -> Response:
        """Label a frame of the review tray, or drop it: `{"frame": 7, "label": "mug"}`, or null."""
        frame, label = await _decision(request)
        doubt = self._album.review.get(frame)
        if doubt is None or frame in self._deciding:
            raise _not_in_the_tray()
        if label is None:
            self._album.review.drop(frame)
            return answer({"said": f"frame {frame} is dropped"})
        picture = base64.b64encode(doubt.picture).decode()
        self._deciding.add(frame)
        try:
            done = await self._ask(request, "label_picture", {"label": label, "picture": picture})
            if done.status_code == HTTPStatus.OK:
                self._album.review.drop(frame)
        finally:
            self._deciding.discard(frame)
        return done

    async def _relabel(self, request: Request) -> Response:
        """Decide a run of frames by the one that is shown: its label, another one, or null.

        Its own label keeps it, another one relabels it, and null forgets it.
        """
        frame, label = await _decision(request)
        run = self._mislabelled.shown().get(frame)
        if run is None:
            raise _not_in_the_tray()
        if label == run["label"]:
            self._mislabelled.decide(run)
            return answer({"said": f"{label} is right"})
        frames = {"frames": run["frames"]}
        if label is None:
            done = await self._ask(request, "forget", frames)
        else:
            done = await self._ask(request, "relabel", {"label": label} | frames)
        if done.status_code == HTTPStatus.OK:
            self._mislabelled.decide(run)
        return done


async def _decision(request: Request) -> tuple[int, str | None]:
    match await arguments(request):
        case {"frame": int(frame), "label": str() | None as label, **rest} if not rest:
            return frame, label
    raise HTTPException(
        HTTPStatus.BAD_REQUEST, 'expected {"frame": 7, "label": "mug"}, or null to drop'
    )


def _not_in_the_tray() -> HTTPException:
    return HTTPException(HTTPStatus.NOT_FOUND, "there is no such frame in the tray")
