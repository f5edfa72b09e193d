"""Go back to before the frames that a model learned last: what `undo` and `classes split` share.

An older checkpoint learns again the frames between it and the cut, from the journal. The journal
has them in 8 bits per value, so the result differs by this rounding from a model that never saw the
last frames; counts are exact.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cfl_edge.config.models import ReachSettings
from cfl_edge.errors import DataError, quoted
from cfl_edge.model.changing import OpenModel
from cfl_edge.model.class_table import arrange
from cfl_edge.model.store import Saved, Store
from cfl_edge.notices import Notice, counted, tell_loading

if TYPE_CHECKING:
    import torch

    from cfl_edge.learner.journal import Entry, Journal
    from cfl_edge.learner.learner import Learner

TOGETHER = 32  # frames in closed form: one by one takes three times as long


@dataclass(frozen=True)
class Rewound:
    """A model as it was before its last frames.

    Args:
        learner: Before the frames, not recalibrated.
        journal: Still with the frames.
        cut: Frames learned before them.
        names: What the journal's class indices mean: the classes before the frames, then those
            that only the frames know.
    """

    learner: Learner
    journal: Journal
    cut: int
    names: list[str]

    def described(self, store: Store, order: Sequence[str]) -> tuple[Saved, set[int]]:
        """Describe the learner with its journal, its classes in the order that they had before.

        Frames that are learned again may bring the classes in another order, and keys, cards of
        the page and the ONNX files number them.

        Args:
            store: Of the model folder.
            order: Of the classes before.

        Returns:
            See `cfl_edge.learner.journalled.with_journal`.
        """
        from cfl_edge.learner.journal_stored import put_journal
        from cfl_edge.learner.journalled import with_journal

        learner, journal = self.learner, self.journal
        learner.journal = journal
        saved, keep = with_journal(store, learner)
        arrange(saved, order)
        journal.renumber([saved.manifest["classes"].index(name) for name in learner.classes])
        put_journal(saved, journal)
        return saved, keep

    @property
    def count(self) -> int:
        """How many frames lie behind the cut."""
        return self.journal.end - self.cut

    def frames(self) -> list[Entry]:
        """Return the frames behind the cut, the oldest first."""
        return list(self.journal.entries(self.cut, self.journal.end))


def rewind(
    model: OpenModel,
    saved: Saved,
    asked: ReachSettings,
    *,
    command: str | None,
    on_notice: Notice,
) -> Rewound:
    """Bring a model back to before the frames that it learned last; nothing is saved.

    Args:
        model: The model; nobody else changes it meanwhile.
        saved: Its newest state.
        asked: How far back, and on which device.
        command: To be given with another number of frames, for the error; None for a program's.
        on_notice: Called with what the user should know.

    Raises:
        DataError: There is nothing to undo, or the journal does not reach back that far; the text
            says how far it does.
    """
    tell_loading(model.store.folder, on_notice)
    from cfl_edge.core.device import choose_device
    from cfl_edge.learner.journal_stored import saved_journal
    from cfl_edge.learner.learner import Learner
    from cfl_edge.learner.saved import OWN_COUNTERS, config_of

    store, config = model.store, config_of(saved)
    journal = saved_journal(saved, config.journal_mib)
    if journal is None or journal.end == journal.start:
        raise _nothing(store, saved, config.journal_mib)
    journal.keep_bases(store.numbers())
    quiet_s, names = model.quiet_s(), saved.manifest["classes"]
    count = _count(journal, asked, quiet_s, on_notice)
    if not count:
        age = "of an earlier session" if math.isinf(quiet_s) else f"{quiet_s:.1f} s old"
        raise DataError(
            f"{store.folder} learned nothing in the last {asked.seconds:g} s: its last frame is "
            f"{age}",
            hint=f"{command} --hold" if command else "the last frames by their numbers",
        )
    cut = journal.end - count
    newest = max((base.frames for base in journal.bases if base.frames <= cut), default=cut + 1)
    parts = {"device": choose_device(asked.device), "config": config, **model.parts}
    recalled = model.recall(newest, cut)
    if recalled is None:
        learner = _base(store, saved, journal, cut, parts)
    else:
        learner = Learner.from_saved(recalled, **parts)
    if learner is None:
        seconds = asked.seconds
        reach = f"{seconds:g} seconds" if seconds is not None else counted(count, "frame")
        raise _too_far(store, journal, reach, command)
    if not journal.fits(learner.blank_entry()):
        raise DataError(
            f"{store.folder}: nothing can be undone, what its journal has of the last frames is "
            "not what its backbone returns",
            hint=_listed(store),
        )
    counted_now = saved.manifest["counters"].items()
    learner.counters = {name: value for name, value in counted_now if name not in OWN_COUNTERS}
    if again := cut - learner.frames_learned:
        on_notice(f"relearning {counted(again, 'earlier frame')}")
    between = journal.entries(learner.frames_learned, cut)
    learn_again(learner, [(names[entry.label], entry) for entry in between], model)
    # A class that was added by hand came earlier here than among the frames.
    ordered = [*learner.classes, *(name for name in names if name not in learner.classes)]
    journal.renumber([ordered.index(name) for name in names])
    return Rewound(learner, journal, cut, ordered)


def _count(journal: Journal, asked: ReachSettings, quiet_s: float, on_notice: Notice) -> int:
    """Return how many frames are asked for; say where the start of the session ended the count.

    Seconds are those of the clock, up to now; of sessions that have ended, up to their last frame.
    """
    if asked.hold:
        return max(1, journal.frames_of_hold())
    if asked.seconds is None:
        return asked.frames or 0
    is_earlier = asked.across_sessions and math.isinf(quiet_s)  # the time between does not count
    seconds = asked.seconds - (0.0 if is_earlier else quiet_s)
    everything = journal.frames_within(seconds, across_sessions=True)
    if asked.across_sessions:
        return everything
    count = journal.frames_within(seconds)
    if count < everything:
        on_notice(
            f"stopping where the last session began, {counted(count, 'frame')} back; "
            "--across-sessions goes on into earlier ones"
        )
    return count


def _base(
    store: Store, saved: Saved, journal: Journal, cut: int, parts: Mapping[str, Any]
) -> Learner | None:
    """Return the newest state from before the cut; None if there is none.

    It follows the changes of classes since. States that turn out to be gone or damaged are struck
    out of the journal's bases.
    """
    from cfl_edge.learner.learner import Learner
    from cfl_edge.learner.saved import to_saved, weights_of
    from cfl_edge.learner.saved_checks import check_saved

    for base in sorted(journal.bases, key=lambda base: base.frames, reverse=True):
        if base.frames > cut:
            continue
        changes = [change for number, change in journal.changes if base.checkpoint <= number]
        if base.checkpoint:
            older = store.load_older(base.checkpoint)
        else:
            older = to_saved(Learner(weights=weights_of(saved), **parts))
        if older is not None and older.manifest["counters"]["frames_learned"] == base.frames:
            check_saved(older)
            for change in changes:
                change.follow(older)
            return Learner.from_saved(older, **parts)
        journal.bases.remove(base)
    return None


def _nothing(store: Store, saved: Saved, journal_mib: float) -> DataError:
    """Say why the journal has no frame: nothing was learned, or something ended what it had."""
    hint, counters = _listed(store), saved.manifest["counters"]
    if not journal_mib:
        reason = "it is learned with --journal-mib 0, which keeps no journal"
        hint = "learn with --journal-mib 8: what it learns from then on can be undone"
    elif counters.get("merged_boards"):
        reason = "it was merged from those of several boards, and learned nothing since"
        hint = (
            f"cfl-edge fleet status {quoted(store.folder)} shows its boards; subtract takes one out"
        )
    elif not counters["frames_learned"]:
        reason = "it has learned no frame"
    else:
        reason = (
            "its journal is empty: removing a class ends it, so does learning with --journal-mib "
            "0, and a new Learner of a Python program keeps none; nothing was learned since"
        )
    return DataError(f"{store.folder}: nothing can be undone, {reason}", hint=hint)


def _listed(store: Store) -> str:
    return f"cfl-edge classes list {quoted(store.folder)} shows what it has learned"


def _too_far(store: Store, journal: Journal, asked: str, command: str | None) -> DataError:
    """Say how much can be undone, and how."""
    reach = journal.reach()
    if not reach:
        return DataError(
            f"{store.folder}: {asked} cannot be undone, and nothing else either: no checkpoint "
            "from before the last frames is left",
            hint=_listed(store),
        )
    return DataError(
        f"{store.folder}: {asked} cannot be undone, the journal reaches back "
        f"{counted(reach, 'frame')}{of_seconds(journal.seconds_of(reach))}",
        hint=f"{command} --frames {reach}" if command else f"the last {counted(reach, 'frame')}",
    )


def of_seconds(seconds: float) -> str:
    """Return how long frames were learned, to be put after their number.

    Nothing below a second: files are learned as fast as the board can.

    Example:
        >>> of_seconds(7.6), of_seconds(0.4)
        (', 8 s', '')
    """
    return f", {seconds:.0f} s" if seconds >= 1 else ""


def learn_again(learner: Learner, frames: Sequence[tuple[str, Entry]], model: OpenModel) -> None:
    """Let a learner learn frames of a journal.

    Args:
        learner: Its journal and its images stay as they are.
        frames: Class name and frame.
        model: Its `again_s` ends the gradient steps; `alive` is called meanwhile: there may be a
            thousand frames.
    """
    import torch

    from cfl_edge.learner.journal_entries import from_entries

    px, end_s = learner.image_px, time.monotonic() + (model.again_s or 0)
    examples, done = list(learner.examples.values()), 0
    while done < len(frames):
        late = model.again_s is not None and time.monotonic() > end_s
        some = frames[done : done + (TOGETHER if late else 1)]
        blank = torch.zeros(len(some), px, px, 3, dtype=torch.uint8, device=learner.device)
        read = from_entries([entry.arrays for _, entry in some], learner.device)
        encoded = learner.encode_backbone(blank, *read)
        learner.learn(encoded, [name for name, _ in some], budget_s=-1.0 if late else None)
        done += len(some)
        if model.alive is not None:
            model.alive()
    learner.examples.clear()
    for example in examples:
        learner.examples.add(*example)


def keep_examples(learner: Learner, images: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Give a learner the images that exports are checked on.

    Args:
        learner: Gets those of classes that it knows; noise, if it would have none at all.
        images: Class name and image, uint8 (H, W, 3).
    """
    import torch

    for name, image in images:
        if name in learner.classes:
            number = learner.classes.index(name)
            learner.examples.add(image, number)
    if learner.classes and not learner.examples:  # noise shows a difference as well
        shape = (learner.image_px, learner.image_px, 3)
        noise = np.random.default_rng(learner.config.seed).integers(0, 256, shape, np.uint8)
        learner.examples.add(torch.from_numpy(noise), 0)


def saved_examples(saved: Saved) -> list[tuple[str, torch.Tensor]]:
    """Return class name and image of each that a saved model keeps for exports."""
    import torch

    state, names = saved.tensors["state"], saved.manifest["classes"]
    targets = state["examples.labels"].tolist()
    images = [torch.from_numpy(state["examples.images"][i]) for i in range(len(targets))]
    return [(names[target], image) for target, image in zip(targets, images, strict=True)]
