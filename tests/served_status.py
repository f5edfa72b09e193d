"""What `run --http` serves, of frames that a test makes up, and a client that asks for it."""

import http.client
import re

from steps import changed

from cfl_edge.serve.http_status import status_routes
from cfl_edge.serve.status import Seen
from cfl_edge.web.options import HttpOptions
from cfl_edge.web.server import WebServer


def serve(status, metrics, host="127.0.0.1", port=0, token=None, on_notice=print, more=()):
    routes = [*status_routes(status, metrics), *more]
    return WebServer(HttpOptions(host, port, token), routes, f"--http {host}:{port}", on_notice)


def port(server):
    return int(re.search(r":(\d+)/", server.url)[1])


def ask(server, path, method="GET", headers=None, body=None):
    host = re.search(r"//(127[\d.]+):", server.url) or ["", "127.0.0.1"]
    connection = http.client.HTTPConnection(host[1], port(server), timeout=10)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        connection.close()


def see(status, metrics, label="mug", frame=7, classes=("mug", "pen"), seconds=0.0, **more):
    values = {"prediction": label, "score": 0.93217, "frame": frame, "predict_s": seconds}
    seen = Seen(changed(dropped=5, damaged=4, **values), classes, **more)
    status.put(seen)
    metrics.add(seen)
