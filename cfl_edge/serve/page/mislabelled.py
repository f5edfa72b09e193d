"""Runs of learned frames that may have a wrong label, until somebody decides."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, final

from cfl_edge.serve.page.thumbnails import Thumbnails

EVERY_S = 10.0  # between two searches, while somebody watches and nobody teaches
SHOWN = 12  # at a time, the clearest
REMEMBERED = 10_000  # frames whose label somebody has looked at


@final
class Mislabelled:
    """What the verb `suspects` found, without what was decided; used by the server alone.

    Args:
        thumbnails: A run without a picture cannot be judged, and is left out.

    Attributes:
        version: Counts the decisions.
    """

    def __init__(self, thumbnails: Thumbnails) -> None:
        self._thumbnails = thumbnails
        self._decided: deque[int] = deque(maxlen=REMEMBERED)
        self.version = 0

    def shown(self, suspects: Sequence[Mapping[str, Any]]) -> dict[int, Mapping[str, Any]]:
        """Return the runs to decide, each by the frame whose picture shows it.

        Args:
            suspects: As `Teaching.suspects` has them.
        """
        decided, runs = set(self._decided), dict[int, Mapping[str, Any]]()
        for run in suspects:
            pictured = [frame for frame in run["frames"] if self._thumbnails.get(frame)]
            if pictured and decided.isdisjoint(run["frames"]) and len(runs) < SHOWN:
                runs[pictured[len(pictured) // 2]] = run
        return runs

    def decide(self, run: Mapping[str, Any]) -> None:
        """Take note that somebody has looked at a run: it is shown no more."""
        self._decided.extend(run["frames"])
        self.version += 1

    def fields(self, suspects: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return what a page shows of them, the clearest first.

        Args:
            suspects: As `Teaching.suspects` has them.
        """
        return [
            {
                "frame": frame,
                "frames": len(run["frames"]),
                "label": run["label"],
                "looks_like": run["looks_like"],
            }
            for frame, run in self.shown(suspects).items()
        ]
