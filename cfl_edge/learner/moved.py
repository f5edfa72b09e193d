"""Another part of the frame for a model that has learned: what stays, and what is to be done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cfl_edge.frame.region import View
from cfl_edge.learner.classes import notice_stale_export
from cfl_edge.learner.journal_stored import saved_journal
from cfl_edge.learner.saved_checks import check_saved
from cfl_edge.model.changing import OpenModel
from cfl_edge.model.last_stream import FRAME_PX
from cfl_edge.notices import Notice, counted, log_notice


@dataclass(frozen=True)
class Moved:
    """A view, and the one before it.

    Args:
        folder: Of the model.
        before: What it looked at.
        after: What it looks at from now on.
        frames: Learned frames that taught it the view before.
        frame_px: Width and height of the frames that it learned from last, where they are known.
    """

    folder: Path
    before: View
    after: View
    frames: int
    frame_px: tuple[int, int] | None = None

    def __str__(self) -> str:
        """Return what this does to what was learned, in a sentence."""
        what = f"{self.folder} looks at {self.after.describe()}"
        if self.before == self.after:
            return what
        if not self.frames:
            return f"{what} from now on"
        learned = counted(self.frames, "learned frame")
        return (
            f"{what} from now on: what {learned} of {self.before.describe()} taught stays; show "
            "every class again, until it is recognised"
        )


def move(
    model: OpenModel, fit: str | None, region: str | None, *, on_notice: Notice = log_notice
) -> Moved:
    """Let a model look at another part of the frame, and save; undo still reaches behind it.

    Args:
        model: The model.
        fit: See `View.parse`; None leaves it as it is.
        region: The same.
        on_notice: Told of exported files that look at what the model looked at before.

    Raises:
        UsageError: It is no view.
        ModelError: There is no model, another process is at work on it, or it cannot be written.
    """
    with model.changing() as saved:
        check_saved(saved)
        network = saved.manifest["network"]
        before = View.parse(network["fit"], network["region"])
        after = View.parse(fit or network["fit"], region or network["region"])
        counters = saved.manifest["counters"]
        frames, (width, height) = counters["frames_learned"], counters.get(FRAME_PX) or (0, 0)
        if after != before:
            network["fit"], network["region"] = after.texts()
            journal = saved_journal(saved)
            model.write(saved, keep={base.checkpoint for base in journal.bases} if journal else ())
    frame_px = (width, height) if width else None
    moved = Moved(model.store.folder, before, after, frames, frame_px)
    if after != before:
        notice_stale_export(moved.folder, "the region of before", on_notice)
    return moved
