"""A stand-in of Frigate's API: pictures of events, sub labels, and the login of port 8971."""

import asyncio
import threading
from contextlib import contextmanager
from functools import partial

import uvicorn
from mosquitto import wait_for
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

USER, PASSWORD = "ann", "s3cret/of frigate"
ESCAPED = PASSWORD.replace("/", "%2F").replace(" ", "%20")

until = partial(wait_for, timeout_s=60)  # on a busy machine


def event(kind="new", *, id="1607123955.475377-mxklsc", picture_s=1607123965.97, **after):
    """A message of `frigate/events`, as Frigate's documentation shows it."""
    thing = {
        "id": id,
        "camera": "front_door",
        "frame_time": 1607123961.837752,
        "snapshot": {
            "frame_time": picture_s,
            "box": [415, 489, 528, 700],
            "area": 12728,
            "region": [260, 446, 660, 846],
            "score": 0.77546,
            "attributes": [],
        },
        "label": "person",
        "sub_label": None,
        "top_score": 0.958984375,
        "false_positive": False,
        "start_time": 1607123955.475377,
        "end_time": 1607123999.0 if kind == "end" else None,
        "score": 0.7890625,
        "box": [424, 500, 536, 712],
        "area": 23744,
        "ratio": 2.113207,
        "region": [264, 450, 667, 853],
        "current_zones": ["driveway"],
        "entered_zones": ["yard", "driveway"],
        "thumbnail": None,
        "has_snapshot": True,
        "has_clip": False,
        "active": True,
        "stationary": False,
        "motionless_count": 0,
        "position_changes": 2,
        "attributes": {},
        "current_attributes": [],
    }
    return {"type": kind, "before": thing, "after": thing | after}


class Frigate:
    """What it answers, and what it was asked.

    Attributes:
        pictures: JPEG of each event; any other has none.
        delay_s: Before a picture.
        login: Whether it asks for one, as port 8971 does.
        role: Of the user.
        asked: Ids of events, in the order in which their pictures were asked for.
        sub_labels: What was posted: id and body.
        logins: How often somebody has tried to log in.
        forbidden: How often the role was not enough.
    """

    def __init__(self):
        self.pictures, self.delay_s, self.login, self.role = {}, 0.0, False, "admin"
        self.asked, self.sub_labels, self.logins, self.tokens = [], [], 0, set()
        self.forbidden = 0
        self.app = Starlette(
            routes=[
                Route("/api/version", self._version),
                Route("/api/login", self._login, methods=["POST"]),
                Route("/api/events/{id}/snapshot.jpg", self._picture),
                Route("/api/events/{id}/sub_label", self._sub_label, methods=["POST"]),
            ]
        )

    def _refused(self, request, *, admin=False):
        if not self.login:
            return None
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token not in self.tokens:
            return Response("", 401, {"location": "/login"})
        if admin and self.role != "admin":
            self.forbidden += 1
            what = f"Role {self.role} not authorized. Required: admin"
            return JSONResponse({"detail": what}, 403)
        return None

    async def _version(self, request):
        return self._refused(request) or Response("0.16.2-4d58206", media_type="text/plain")

    async def _login(self, request):
        self.logins += 1
        if await request.json() != {"user": USER, "password": PASSWORD}:
            return JSONResponse({"message": "Login failed"}, 401)
        token = f"jwt.{self.logins}"
        self.tokens.add(token)
        cookie = f"frigate_token={token}; HttpOnly; Path=/; SameSite=lax"
        return Response("", 200, {"set-cookie": cookie})

    async def _picture(self, request):
        if refused := self._refused(request):
            return refused
        id = request.path_params["id"]
        assert request.query_params["crop"] == "1"
        self.asked.append(id)
        await asyncio.sleep(self.delay_s)
        if id not in self.pictures:
            return JSONResponse({"success": False, "message": "Snapshot not available"}, 404)
        return Response(self.pictures[id], media_type="image/jpeg")

    async def _sub_label(self, request):
        if refused := self._refused(request, admin=True):
            return refused
        body = await request.json()
        score = body.get("subLabelScore")
        assert 0 < len(body["subLabel"]) <= 100
        assert score is None or 0 < score <= 1
        self.sub_labels.append((request.path_params["id"], body))
        return JSONResponse({"success": True, "message": "sub label set"})


@contextmanager
def serving(frigate, port, **tls):
    """Serve it on a port of this machine."""
    config = uvicorn.Config(frigate.app, port=port, log_level="critical", lifespan="off", **tls)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started)
        yield
    finally:
        server.should_exit = server.force_exit = True
        thread.join()
