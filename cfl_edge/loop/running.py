"""A session that learns, as the verbs see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cfl_edge.loop.metrics import status_bytes
from cfl_edge.notices import counted

if TYPE_CHECKING:
    from cfl_edge.core.features import Encoded
    from cfl_edge.learner.learner import Learner
    from cfl_edge.loop.board_health import BoardHealth
    from cfl_edge.loop.checkpoints import Checkpoints
    from cfl_edge.loop.glance import Glance
    from cfl_edge.loop.publish import Publisher
    from cfl_edge.loop.session import Session
    from cfl_edge.loop.teaching import Teaching


@dataclass(frozen=True)
class Running:
    """What a session that learns consists of.

    Args:
        learner: What learns.
        teaching: Which frame is learned, and as what.
        checkpoints: Saves it.
        session: Counts the frames.
        publisher: Of `--publish`; None without.
        newest: Returns the newest frame that the model looked at; None before the first.
        board: Says how hot it is; None does not ask.
        glance: Says which frames the model looks at; None for all.
        memory_mib: Of `--memory-mib`; None without a limit.
    """

    learner: Learner
    teaching: Teaching
    checkpoints: Checkpoints
    session: Session
    publisher: Publisher | None = None
    newest: Callable[[], Encoded | None] = lambda: None
    board: BoardHealth | None = None
    glance: Glance | None = None
    memory_mib: float | None = None

    def status(self) -> dict[str, Any]:
        """Return how it stands, JSON values; `said` is a sentence for people."""
        learner, teaching, session = self.learner, self.teaching, self.session
        taught, counts = teaching.taught, learner.samples()
        accuracy, over_time = taught.accuracy(), taught.accuracy_over_time()
        classes = [
            {
                "name": name,
                "samples": samples,
                "recent_accuracy": accuracy.get(name),
                "accuracy_over_time": over_time.get(name, []),
            }
            for name, samples in counts.items()
        ]
        label, paused = teaching.hold.current(), teaching.hold.paused
        zones = () if self.board is None else self.board.read().zones
        learned = sum(counts.values())
        said = f"{counted(len(classes), 'class', 'classes')}, {counted(learned, 'frame')} learned"
        return {
            "said": said + ("; paused" if paused else f"; label {label}" if label else ""),
            "classes": classes,
            "advice": taught.advice(counts),
            "verdict": taught.verdict(counts),
            "label": label,
            "paused": paused,
            "frames": session.frames,
            "seen": session.seen,
            "learned": learned,
            "dropped": session.dropped,
            "damaged": session.damaged,
            "fps": session.recent_fps(),
            "temperature_c": zones[0].temperature_c if zones else None,
            "publishes": self.publisher is not None,
            "steps": learner.algorithm.steps,
            "unsaved_s": self.checkpoints.unsaved_s,
            "memory_mib": status_bytes("VmRSS") / 2**20,
        }
