"""The options of `cfl-edge bench page`, and what is measured by them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from cfl_edge.config.settings import Option, Settings
from cfl_edge.lab.bench.options import numbers

CAMERA_HZ = 15.0
FULL_HZ = 60.0  # more than is learned on a small board: the learner never waits for a frame
MOST_VIEWERS = 32  # as many as the page serves
SLOW_BYTES_PER_S = 20_000  # a phone at the edge of a Wi-Fi


@dataclass(frozen=True, slots=True)
class Audience:
    """Who watches.

    Args:
        rate_hz: Of the camera.
        viewers: How many.
        bytes_per_s: What each of them reads; None for no limit.
    """

    rate_hz: float
    viewers: int
    bytes_per_s: int | None = None

    def text(self) -> str:
        """Describe it on one line.

        Example:
            >>> Audience(15.0, 1).text(), Audience(60.0, 10, 20_000).text()
            ('1 viewer, 15 frames/s', '10 viewers at 20 kB/s, 60 frames/s')
        """
        slow = "" if self.bytes_per_s is None else f" at {self.bytes_per_s // 1000} kB/s"
        plural = "" if self.viewers == 1 else "s"
        return f"{self.viewers} viewer{plural}{slow}, {self.rate_hz:g} frames/s"


class PageSettings(Settings):
    """Every option of `cfl-edge bench page`."""

    viewers: Annotated[
        str,
        Option(f"How many watch at a time, 1 to {MOST_VIEWERS}; several: 1,10.", metavar="N"),
    ] = "1,10"
    slow_viewers: Annotated[
        int,
        Field(ge=0, le=MOST_VIEWERS),
        Option(f"How many read {SLOW_BYTES_PER_S // 1000} kB/s each, beside a busy learner."),
    ] = 10
    seconds: Annotated[
        float, Field(ge=1, le=600), Option("Length of each measurement.", metavar="S")
    ] = 20.0
    repeats: Annotated[int, Field(ge=1, le=100), Option("Times to measure each case.")] = 3

    def plan(self) -> list[list[Audience]]:
        """Return the cases, those of one server together: they are measured in turn.

        Raises:
            UsageError: `viewers` is no list of numbers in their range.

        Example:
            >>> [[case.viewers for case in cases] for cases in PageSettings().plan()]
            [[0, 1, 10], [0, 10]]
        """
        counts = numbers("--viewers", self.viewers, 10, MOST_VIEWERS)
        plan = [[Audience(CAMERA_HZ, count) for count in (0, *counts)]]
        if self.slow_viewers:
            slow = Audience(FULL_HZ, self.slow_viewers, SLOW_BYTES_PER_S)
            plan.append([Audience(FULL_HZ, 0), slow])
        return plan
