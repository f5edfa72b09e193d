"""What `run --http` and the page say of themselves: `/prediction`, `/healthz` and `/metrics`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http import HTTPStatus

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.metrics import disable_created_metrics
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cfl_edge.loop.glance import BURST_S
from cfl_edge.serve.status import Seen, Status
from cfl_edge.text import visible
from cfl_edge.web.app import answer

CONTENT_TYPE = (
    "text/plain; version=0.0.4; charset=utf-8"  # the text format that every reader supports
)
# Seconds of a prediction: from a small network on a PC to a large one on a Pi Zero.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
NONE = ""  # Prometheus takes an empty label for an absent one: none of the classes


class Metrics:
    """Counts what the service does; the loop writes, other threads read.

    Args:
        status: Holds the newest frame.
        command_failures: Returns how often the command of `--on-change` failed.

    Example:
        >>> import numpy as np
        >>> from cfl_edge.frame.step import Step
        >>> from cfl_edge.frame.prediction import Prediction
        >>> from cfl_edge.frame.frame import Frame
        >>> frame = Frame(np.zeros((2, 3, 3), np.uint8), timestamp_s=0.0, index=0)
        >>> said = Prediction("mug", 0.9, None, np.ones(1, np.float32))
        >>> metrics = Metrics(Status())
        >>> metrics.add(Seen(Step(frame, said), ["mug"]))
        >>> print([line for line in metrics.text().decode().splitlines() if "mug" in line])
        ['cfl_edge_predictions_total{label="mug"} 1.0']
    """

    def __init__(self, status: Status, command_failures: Callable[[], int] = lambda: 0) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = registry = CollectorRegistry()
        self._frames = Counter("cfl_edge_frames", "Frames predicted.", registry=registry)
        self._predictions = Counter(
            "cfl_edge_predictions", "Frames predicted as a class.", ["label"], registry=registry
        )
        self._seconds = Histogram(
            "cfl_edge_prediction_seconds",
            "Time of a prediction, preprocessing included.",
            buckets=BUCKETS,
            registry=registry,
        )
        registry.register(_Standing(status, command_failures))
        self._known: tuple[str, ...] = ()

    def add(self, seen: Seen) -> None:
        """Count a frame."""
        self._frames.inc()
        self._seconds.observe(seen.step.predict_s)
        if self._known != tuple(seen.classes):
            self._set_classes(tuple(seen.classes))
        label = seen.step.prediction.label
        self._predictions.labels(NONE if label is None else visible(label)).inc()

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format, UTF-8."""
        return generate_latest(self._registry)

    def _set_classes(self, classes: tuple[str, ...]) -> None:
        for name in set(map(visible, self._known)) - set(map(visible, classes)):
            self._predictions.remove(name)
        for name in classes:  # from the start, at 0: a rate needs a first value
            self._predictions.labels(visible(name))
        self._known = classes


class _Standing(Collector):
    """Values that are counted elsewhere, collected on request."""

    def __init__(self, status: Status, command_failures: Callable[[], int]) -> None:
        self._status, self._command_failures = status, command_failures

    def collect(self) -> Iterator[Metric]:
        seen, age_s = self._status.get()
        told = seen.fields() if seen else {}
        yield GaugeMetricFamily(
            "cfl_edge_last_frame_age_seconds",
            "Since the last frame; before the first, since the start.",
            age_s,
        )
        yield GaugeMetricFamily(
            "cfl_edge_model_classes", "Classes of the model.", len(told.get("classes", ()))
        )
        for name, text, value in (
            ("frames_dropped", "Frames that the stream dropped.", told.get("dropped", 0)),
            ("frames_damaged", "Frames that arrived damaged.", told.get("damaged", 0)),
            (
                "model_swaps",
                "Model updates that went into service.",
                told.get("model_swaps", 0),
            ),
            (
                "model_failures",
                "Model updates that could not be used.",
                told.get("model_failures", 0),
            ),
            ("command_failures", "Failures of --on-change.", self._command_failures()),
        ):
            yield CounterMetricFamily(f"cfl_edge_{name}", text, value)


def look_route(burst: Callable[[], None]) -> Route:
    """Return the route `POST /look`: every frame is looked at for some seconds.

    Args:
        burst: Begins that, in any thread.
    """

    async def look(request: Request) -> Response:
        burst()
        return answer({"said": f"every frame is looked at for {BURST_S:g} s", "seconds": BURST_S})

    return Route("/look", look, methods=["POST"])


def status_routes(status: Status, metrics: Metrics) -> list[Route]:
    """Return the routes that say what a service sees, and how it is.

    Args:
        status: The newest frame.
        metrics: For `/metrics`.
    """

    async def prediction(request: Request) -> Response:
        newest = status.prediction()
        if newest is None:
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, "no frame has come yet")
        return answer(newest)

    async def healthz(request: Request) -> Response:
        ill = status.ill()
        code = HTTPStatus.OK if ill is None else HTTPStatus.SERVICE_UNAVAILABLE
        return answer({"healthy": ill is None, "reason": ill}, code)

    async def figures(request: Request) -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    return [
        Route("/prediction", prediction),
        Route("/healthz", healthz),
        Route("/metrics", figures),
    ]
