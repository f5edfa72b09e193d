"""A page that watches a session over its WebSocket."""

import json

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect


def open_live(session, headers=None):
    return connect(
        f"ws://127.0.0.1:{session.port}/api/v1/live",
        additional_headers=headers or {},
        open_timeout=10,
        close_timeout=1,
    )


def receive_to_the_end(viewer):
    """Read until the server closes; return its code and reason."""
    try:
        while True:
            viewer.recv(timeout=30)
    except ConnectionClosed as error:
        return error.rcvd and (error.rcvd.code, error.rcvd.reason)


class Viewer:
    """A page: takes messages and pictures, and acknowledges them."""

    def __init__(self, session):
        self.session, self.pictures, self.status = session, [], {}

    def __enter__(self):
        self.socket = open_live(self.session).__enter__()
        return self

    def __exit__(self, *_):
        self.socket.__exit__(None, None, None)

    def say(self, **message):
        self.socket.send(json.dumps(message))

    def take(self, *, acknowledge=True):
        message = json.loads(self.socket.recv(timeout=20))
        self.status = message.get("status", self.status)
        if message.get("picture"):
            self.pictures.append(self.socket.recv(timeout=20))
        if acknowledge:
            self.say(ack=message["number"])
        return message
